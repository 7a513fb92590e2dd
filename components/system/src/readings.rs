//! One function a group: the host's reading in, rows out.

use std::collections::{BTreeMap, BTreeSet};

use sentinel_sdk::{BatchBuilder, system};
use system::SystemError;

use crate::config::{Config, Disks, Group, passes};
use crate::metrics::{
    CPU_COUNT, CPU_TIME, DISK_IO, DISK_IO_TIME, DISK_OPERATIONS, FILESYSTEM_LIMIT,
    FILESYSTEM_READ_ONLY, FILESYSTEM_USAGE, LOAD, MEMORY_AVAILABLE, MEMORY_LIMIT, MEMORY_USAGE,
    NETWORK_DROPPED, NETWORK_ERRORS, NETWORK_IO, NETWORK_PACKETS, PAGING_USAGE, PROCESSES,
    PROCESSES_CREATED, TEMPERATURE, TEMPERATURE_LIMIT, THREADS, UPTIME,
};

/// Reads one group. A group that fails adds no rows.
pub(crate) fn read(
    group: Group,
    config: &Config,
    batch: &mut BatchBuilder,
) -> Result<(), SystemError> {
    match group {
        Group::Cpu => cpu(batch),
        Group::Memory => memory(batch),
        Group::Filesystem => filesystems(config, batch),
        Group::Disk => disks(&config.disks, batch),
        Group::Network => networks(config, batch),
        Group::Load => load(batch),
        Group::Process => processes(batch),
        Group::Uptime => system::uptime().map(|seconds| batch.gauge(UPTIME, &[], seconds)),
        Group::Temperature => temperatures(batch),
    }
}

fn cpu(batch: &mut BatchBuilder) -> Result<(), SystemError> {
    let cores = system::cpu_times()?;
    for core in &cores {
        let number = core.cpu.to_string();
        for (mode, seconds) in &core.modes {
            batch.counter(CPU_TIME, &[("cpu", &number), ("mode", mode)], *seconds);
        }
    }
    batch.gauge(CPU_COUNT, &[], cores.len() as f64);
    Ok(())
}

fn memory(batch: &mut BatchBuilder) -> Result<(), SystemError> {
    let memory = system::memory()?;
    let mut usage = |state: &str, bytes: u64| {
        batch.gauge(MEMORY_USAGE, &[("state", state)], bytes as f64);
    };
    // `used` is what the other states leave of the total, so that they add up.
    let cached = memory.cached.unwrap_or(0);
    let buffers = memory.buffers.unwrap_or(0);
    let others = memory.free.saturating_add(cached).saturating_add(buffers);
    usage("used", memory.total.saturating_sub(others));
    usage("free", memory.free);
    if memory.cached.is_some() {
        usage("cached", cached);
    }
    if memory.buffers.is_some() {
        usage("buffers", buffers);
    }
    batch.gauge(MEMORY_LIMIT, &[], memory.total as f64);
    batch.gauge(MEMORY_AVAILABLE, &[], memory.available as f64);
    let swap_used = memory.swap_total.saturating_sub(memory.swap_free);
    batch.gauge(PAGING_USAGE, &[("state", "used")], swap_used as f64);
    batch.gauge(PAGING_USAGE, &[("state", "free")], memory.swap_free as f64);
    Ok(())
}

fn filesystems(config: &Config, batch: &mut BatchBuilder) -> Result<(), SystemError> {
    let filters = &config.filesystems;
    // Of file systems mounted over one another only the last can be seen.
    let mut seen = BTreeMap::new();
    for mounted in system::filesystems()? {
        if passes(&mounted.mount_point, &filters.include, &filters.exclude)
            && !filters.exclude_types.iter().any(|glob| glob.matches(&mounted.fs_type))
        {
            seen.insert(mounted.mount_point.clone(), mounted);
        }
    }
    for mounted in seen.values() {
        let of = [
            ("device", mounted.device.as_str()),
            ("mountpoint", &mounted.mount_point),
            ("type", &mounted.fs_type),
        ];
        let used = mounted.total_bytes.saturating_sub(mounted.available_bytes);
        for (state, bytes) in [("used", used), ("free", mounted.available_bytes)] {
            let [device, mountpoint, kind] = of;
            let labels = [device, mountpoint, kind, ("state", state)];
            batch.gauge(FILESYSTEM_USAGE, &labels, bytes as f64);
        }
        batch.gauge(FILESYSTEM_LIMIT, &of, mounted.total_bytes as f64);
        batch.gauge(FILESYSTEM_READ_ONLY, &of, f64::from(u8::from(mounted.read_only)));
    }
    Ok(())
}

fn disks(filters: &Disks, batch: &mut BatchBuilder) -> Result<(), SystemError> {
    let disks = system::disks()?;
    let names: BTreeSet<&str> = disks.iter().map(|disk| disk.device.as_str()).collect();
    for disk in &disks {
        let device = disk.device.as_str();
        if !passes(device, &filters.include, &filters.exclude)
            || (!filters.partitions && is_partition(device, &names))
        {
            continue;
        }
        for (direction, bytes, operations) in
            [("read", disk.read_bytes, disk.reads), ("write", disk.written_bytes, disk.writes)]
        {
            let labels = [("device", device), ("direction", direction)];
            batch.counter(DISK_IO, &labels, bytes as f64);
            if let Some(operations) = operations {
                batch.counter(DISK_OPERATIONS, &labels, operations as f64);
            }
        }
        if let Some(seconds) = disk.io_time {
            batch.counter(DISK_IO_TIME, &[("device", device)], seconds);
        }
    }
    Ok(())
}

/// Whether one of `names` is the disk of which `device` is a part: `sda1` of `sda`, `nvme0n1p2`
/// of `nvme0n1`; but `dm-10` is not of `dm-1`.
fn is_partition(device: &str, names: &BTreeSet<&str>) -> bool {
    let disk = device.trim_end_matches(|last: char| last.is_ascii_digit());
    if disk.len() == device.len() {
        return false;
    }
    match disk.strip_suffix('p') {
        Some(numbered) if numbered.ends_with(|last: char| last.is_ascii_digit()) => {
            names.contains(numbered)
        }
        _ => names.contains(disk),
    }
}

fn networks(config: &Config, batch: &mut BatchBuilder) -> Result<(), SystemError> {
    let filters = &config.networks;
    for network in system::networks()? {
        let device = network.device.as_str();
        if !passes(device, &filters.include, &filters.exclude) {
            continue;
        }
        let directions = [
            (
                "receive",
                network.received_bytes,
                network.received_packets,
                network.receive_errors,
                network.receive_drops,
            ),
            (
                "transmit",
                network.transmitted_bytes,
                network.transmitted_packets,
                network.transmit_errors,
                network.transmit_drops,
            ),
        ];
        for (direction, bytes, packets, errors, drops) in directions {
            let labels = [("device", device), ("direction", direction)];
            batch.counter(NETWORK_IO, &labels, bytes as f64);
            batch.counter(NETWORK_PACKETS, &labels, packets as f64);
            batch.counter(NETWORK_ERRORS, &labels, errors as f64);
            if let Some(drops) = drops {
                batch.counter(NETWORK_DROPPED, &labels, drops as f64);
            }
        }
    }
    Ok(())
}

fn load(batch: &mut BatchBuilder) -> Result<(), SystemError> {
    let (one, five, fifteen) = system::load_average()?;
    for (name, load) in LOAD.into_iter().zip([one, five, fifteen]) {
        batch.gauge(name, &[], load);
    }
    Ok(())
}

fn processes(batch: &mut BatchBuilder) -> Result<(), SystemError> {
    let counts = system::processes()?;
    for (state, count) in &counts.by_state {
        batch.gauge(PROCESSES, &[("state", state)], f64::from(*count));
    }
    if let Some(created) = counts.created {
        batch.counter(PROCESSES_CREATED, &[], created as f64);
    }
    if let Some(threads) = counts.threads {
        batch.gauge(THREADS, &[], threads as f64);
    }
    Ok(())
}

fn temperatures(batch: &mut BatchBuilder) -> Result<(), SystemError> {
    // Sensors of one name are told apart by their order.
    let mut seen = BTreeMap::<String, u32>::new();
    for sensor in system::temperatures()? {
        let times = seen.entry(sensor.sensor.clone()).or_default();
        *times += 1;
        let name = match *times {
            1 => sensor.sensor,
            again => format!("{} #{again}", sensor.sensor),
        };
        batch.gauge(TEMPERATURE, &[("sensor", &name)], sensor.celsius);
        if let Some(critical) = sensor.critical {
            let labels = [("sensor", name.as_str()), ("limit_type", "high.critical")];
            batch.gauge(TEMPERATURE_LIMIT, &labels, critical);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_known_by_the_disk_they_are_part_of() {
        let names = BTreeSet::from([
            "sda",
            "sda1",
            "nvme0n1",
            "nvme0n1p1",
            "dm-1",
            "dm-10",
            "md0",
            "md0p1",
            "mmcblk0",
            "mmcblk0p2",
            "vdb1",
            "xvdp",
            "xvdp1",
        ]);
        let partitions: Vec<_> =
            names.iter().copied().filter(|name| is_partition(name, &names)).collect();
        assert_eq!(partitions, ["md0p1", "mmcblk0p2", "nvme0n1p1", "sda1", "xvdp1"]);
    }
}
