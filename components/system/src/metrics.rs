//! The metrics: OpenTelemetry semantic conventions in their Prometheus translation.

use sentinel_sdk::{Kind, Metric};

pub(crate) const GROUP_UP: &str = "sentinel_collector_group_up";
pub(crate) const CPU_TIME: &str = "system_cpu_time_seconds_total";
pub(crate) const CPU_COUNT: &str = "system_cpu_logical_count";
pub(crate) const MEMORY_USAGE: &str = "system_memory_usage_bytes";
pub(crate) const MEMORY_LIMIT: &str = "system_memory_limit_bytes";
pub(crate) const MEMORY_AVAILABLE: &str = "system_memory_available_bytes";
pub(crate) const PAGING_USAGE: &str = "system_paging_usage_bytes";
pub(crate) const FILESYSTEM_USAGE: &str = "system_filesystem_usage_bytes";
pub(crate) const FILESYSTEM_LIMIT: &str = "system_filesystem_limit_bytes";
pub(crate) const FILESYSTEM_READ_ONLY: &str = "system_filesystem_read_only";
pub(crate) const DISK_IO: &str = "system_disk_io_bytes_total";
pub(crate) const DISK_OPERATIONS: &str = "system_disk_operations_total";
pub(crate) const DISK_IO_TIME: &str = "system_disk_io_time_seconds_total";
pub(crate) const NETWORK_IO: &str = "system_network_io_bytes_total";
pub(crate) const NETWORK_PACKETS: &str = "system_network_packet_count_total";
pub(crate) const NETWORK_ERRORS: &str = "system_network_errors_total";
pub(crate) const NETWORK_DROPPED: &str = "system_network_packet_dropped_total";
pub(crate) const LOAD: [&str; 3] =
    ["system_cpu_load_average_1m", "system_cpu_load_average_5m", "system_cpu_load_average_15m"];
pub(crate) const PROCESSES: &str = "system_processes_count";
pub(crate) const PROCESSES_CREATED: &str = "system_processes_created_total";
pub(crate) const THREADS: &str = "system_processes_threads";
pub(crate) const UPTIME: &str = "system_uptime_seconds";
pub(crate) const TEMPERATURE: &str = "hw_temperature_celsius";
pub(crate) const TEMPERATURE_LIMIT: &str = "hw_temperature_limit_celsius";

/// Everything that the plugin may emit.
pub(crate) fn all() -> Vec<Metric> {
    use Kind::{Counter, Gauge};
    [
        (GROUP_UP, Gauge, "1", "Whether a group of readings succeeded (1) or failed (0)."),
        (CPU_TIME, Counter, "s", "Seconds that a core has spent in a mode since boot."),
        (CPU_COUNT, Gauge, "{cpu}", "Logical cores."),
        (MEMORY_USAGE, Gauge, "By", "Memory by state; the states add up to the limit."),
        (MEMORY_LIMIT, Gauge, "By", "Memory of the machine."),
        (MEMORY_AVAILABLE, Gauge, "By", "Memory that programs can get without swapping."),
        (PAGING_USAGE, Gauge, "By", "Swap by state."),
        (FILESYSTEM_USAGE, Gauge, "By", "Space of a file system by state."),
        (FILESYSTEM_LIMIT, Gauge, "By", "Size of a file system."),
        (FILESYSTEM_READ_ONLY, Gauge, "1", "Whether a file system is mounted read-only."),
        (DISK_IO, Counter, "By", "Bytes moved by a block device since boot."),
        (DISK_OPERATIONS, Counter, "{operation}", "Requests done by a block device since boot."),
        (DISK_IO_TIME, Counter, "s", "Seconds in which a block device had a request in flight."),
        (NETWORK_IO, Counter, "By", "Bytes through a network interface since boot."),
        (NETWORK_PACKETS, Counter, "{packet}", "Packets through a network interface since boot."),
        (NETWORK_ERRORS, Counter, "{error}", "Errors of a network interface since boot."),
        (NETWORK_DROPPED, Counter, "{packet}", "Packets dropped by a network interface."),
        (LOAD[0], Gauge, "{thread}", "Load average over 1 minute."),
        (LOAD[1], Gauge, "{thread}", "Load average over 5 minutes."),
        (LOAD[2], Gauge, "{thread}", "Load average over 15 minutes."),
        (PROCESSES, Gauge, "{process}", "Processes by state."),
        (PROCESSES_CREATED, Counter, "{process}", "Processes started since boot."),
        (THREADS, Gauge, "{thread}", "Threads of all processes."),
        (UPTIME, Gauge, "s", "Seconds since boot."),
        (TEMPERATURE, Gauge, "Cel", "Temperature of a sensor."),
        (TEMPERATURE_LIMIT, Gauge, "Cel", "Temperature at which a sensor calls it critical."),
    ]
    .into_iter()
    .map(|(name, kind, unit, help)| Metric::new(name, kind, unit, help))
    .collect()
}
