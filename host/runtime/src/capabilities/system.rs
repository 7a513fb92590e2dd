//! Readings of the machine.
//!
//! File systems, temperatures and the machine's identity come from sysinfo on every platform.
//! On Linux the rest comes straight from `/proc`, a file or two a reading and nothing more: it
//! has what sysinfo lacks (times by mode, request counts, drops, process states), and this
//! runs in every agent every few seconds. Elsewhere memory, networks, load and uptime come from
//! sysinfo, and what only `/proc` has is [`SystemError::Unsupported`].
//!
//! Readings block, for microseconds as a rule and for tens of them for `processes`, which
//! reads a file for each process. A mount that does not answer makes `filesystems` hang:
//! call it on a blocking thread under a timeout. While one call hangs, later ones fail at once
//! instead of piling up behind it, and other readings go on.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(target_os = "linux", test))]
mod mounts;
#[cfg(any(target_os = "linux", test))]
mod parse;

use parking_lot::Mutex;
use std::sync::OnceLock;

#[cfg(not(target_os = "linux"))]
use elsewhere as source;
#[cfg(target_os = "linux")]
use linux as source;

/// Time that one core has spent, in seconds since boot, by mode.
#[derive(Debug, Clone, PartialEq)]
pub struct CpuTime {
    /// Core number from 0.
    pub cpu: u32,
    /// Mode and seconds: `user` (which includes guests), `nice`, `system`, `idle`, `iowait`,
    /// `irq`, `softirq`, `steal`.
    pub modes: Vec<(&'static str, f64)>,
}

/// Memory and swap, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// All of it.
    pub total: u64,
    /// In no use at all.
    pub free: u64,
    /// What a program could get without swapping.
    pub available: u64,
    /// `total` less `available`.
    pub used: u64,
    /// Page cache and reclaimable kernel memory.
    pub cached: Option<u64>,
    /// Buffers of block devices.
    pub buffers: Option<u64>,
    /// All swap.
    pub swap_total: u64,
    /// Swap in no use.
    pub swap_free: u64,
}

/// One mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// What is mounted.
    pub device: String,
    /// Where.
    pub mount_point: String,
    /// Its type (`ext4`).
    pub fs_type: String,
    /// Size.
    pub total_bytes: u64,
    /// Free for programs without privileges.
    pub available_bytes: u64,
    /// Whether the file system itself takes no writes; not whether this process may write to it.
    pub read_only: bool,
}

/// I/O of one block device since boot.
#[derive(Debug, Clone, PartialEq)]
pub struct DiskIo {
    /// Name of the disk or the partition.
    pub device: String,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads that were completed.
    pub reads: Option<u64>,
    /// Writes that were completed.
    pub writes: Option<u64>,
    /// Seconds in which at least one request was in flight.
    pub io_time: Option<f64>,
}

/// Traffic of one network interface since boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Name of the interface.
    pub device: String,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub transmitted_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets sent.
    pub transmitted_packets: u64,
    /// Errors in receiving.
    pub receive_errors: u64,
    /// Errors in sending.
    pub transmit_errors: u64,
    /// Packets received and dropped.
    pub receive_drops: Option<u64>,
    /// Packets dropped instead of sent.
    pub transmit_drops: Option<u64>,
}

/// Processes by state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessCounts {
    /// `running`, `sleeping` (idle kernel threads too), `blocked`, `stopped`, `zombie` and
    /// `other`, each once, and how many.
    pub by_state: Vec<(&'static str, u32)>,
    /// Processes started since boot.
    pub created: Option<u64>,
    /// Threads of all processes.
    pub threads: Option<u64>,
}

/// One temperature sensor, in degrees Celsius.
#[derive(Debug, Clone, PartialEq)]
pub struct Temperature {
    /// Which.
    pub sensor: String,
    /// What it says.
    pub celsius: f64,
    /// From where on it is critical.
    pub critical: Option<f64>,
}

/// What the machine is; empty where the platform does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Host name.
    pub hostname: String,
    /// Name of the distribution or the operating system.
    pub os: String,
    /// Its version.
    pub os_version: String,
    /// Version of the kernel.
    pub kernel: String,
    /// Processor architecture.
    pub arch: String,
}

/// Why there is no reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SystemError {
    /// The platform has none.
    #[error("this platform has no such reading")]
    Unsupported,
    /// The system refused or failed.
    #[error("{0}")]
    Failed(String),
}

impl From<sysinfo::Error> for SystemError {
    fn from(error: sysinfo::Error) -> Self {
        match error {
            sysinfo::Error::Unsupported => Self::Unsupported,
            other => Self::Failed(other.to_string()),
        }
    }
}

/// The machine's readings; one for a process, shared by all slots.
#[derive(Default)]
pub struct SystemGate {
    source: Mutex<source::Source>,
    /// Held while mounts are asked, which may take for ever.
    mounts: Mutex<()>,
    components: Mutex<Option<sysinfo::Components>>,
    identity: OnceLock<Machine>,
}

impl SystemGate {
    /// Makes it; nothing is read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Per-core times. Linux only.
    ///
    /// # Errors
    /// [`SystemError`], as for every reading.
    pub fn cpu_times(&self) -> Result<Vec<CpuTime>, SystemError> {
        self.source.lock().cpu_times()
    }

    /// Memory and swap.
    ///
    /// # Errors
    /// [`SystemError`].
    pub fn memory(&self) -> Result<MemoryUsage, SystemError> {
        self.source.lock().memory()
    }

    /// Mounted file systems with storage behind them: not `tmpfs`, not network mounts, nor a folder
    /// that is mounted over itself. May hang with a mount.
    ///
    /// # Errors
    /// [`SystemError`]; failed while an earlier call still hangs.
    pub fn filesystems(&self) -> Result<Vec<Filesystem>, SystemError> {
        let Some(_asking) = self.mounts.try_lock() else {
            return Err(SystemError::Failed(
                "an earlier reading of file systems has not come back; a mount may hang".into(),
            ));
        };
        // Made anew each time: a kept list does not notice that a mount became read-only.
        let kind = sysinfo::DiskRefreshKind::nothing().with_storage();
        let disks = sysinfo::Disks::new_with_refreshed_list_specifics(kind)?;
        let mounts = source::mounts();
        let mut found: Vec<Filesystem> = Vec::new();
        for disk in disks.iter().filter(|disk| disk.total_space() > 0) {
            let mount_point = disk.mount_point().to_string_lossy().into_owned();
            let mount = mounts.iter().rfind(|mount| mount.point == mount_point);
            if mount.is_some_and(|mount| mounts.iter().any(|other| mount.is_shown_by(other))) {
                continue;
            }
            // Of several mounts on one point the last one is what programs see.
            found.retain(|earlier| earlier.mount_point != mount_point);
            found.push(Filesystem {
                device: disk.name().to_string_lossy().into_owned(),
                mount_point,
                fs_type: disk.file_system().to_string_lossy().into_owned(),
                total_bytes: disk.total_space(),
                available_bytes: disk.available_space(),
                read_only: mount.map_or_else(|| disk.is_read_only(), |mount| mount.read_only),
            });
        }
        Ok(found)
    }

    /// Whole disks and partitions; RAM disks and loop devices only if they were used. Linux
    /// only.
    ///
    /// # Errors
    /// [`SystemError`].
    pub fn disks(&self) -> Result<Vec<DiskIo>, SystemError> {
        self.source.lock().disks()
    }

    /// Network interfaces.
    ///
    /// # Errors
    /// [`SystemError`].
    pub fn networks(&self) -> Result<Vec<Network>, SystemError> {
        self.source.lock().networks()
    }

    /// Load averages over 1, 5 and 15 minutes.
    ///
    /// # Errors
    /// [`SystemError`].
    pub fn load_average(&self) -> Result<(f64, f64, f64), SystemError> {
        self.source.lock().load_average()
    }

    /// Process counts. Linux only.
    ///
    /// # Errors
    /// [`SystemError`].
    pub fn processes(&self) -> Result<ProcessCounts, SystemError> {
        self.source.lock().processes()
    }

    /// Seconds since boot.
    ///
    /// # Errors
    /// [`SystemError`].
    pub fn uptime(&self) -> Result<f64, SystemError> {
        self.source.lock().uptime()
    }

    /// Temperatures, each sensor's name once; empty where there are no sensors.
    ///
    /// # Errors
    /// [`SystemError`].
    pub fn temperatures(&self) -> Result<Vec<Temperature>, SystemError> {
        let mut kept = self.components.lock();
        let components = match &mut *kept {
            Some(components) => {
                components.refresh(true);
                components
            }
            none => none.insert(sysinfo::Components::new_with_refreshed_list()?),
        };
        let mut found: Vec<Temperature> = Vec::new();
        for component in components.iter() {
            let celsius = component.temperature().filter(|celsius| celsius.is_finite());
            let Some(celsius) = celsius else { continue };
            let mut sensor = component.label().to_owned();
            if found.iter().any(|other| other.sensor == sensor) {
                sensor = format!("{sensor} ({})", component.id().unwrap_or("another"));
            }
            if !found.iter().any(|other| other.sensor == sensor) {
                let critical = component.critical().filter(|celsius| celsius.is_finite());
                found.push(Temperature {
                    sensor,
                    celsius: f64::from(celsius),
                    critical: critical.map(f64::from),
                });
            }
        }
        Ok(found)
    }

    /// What the machine is. All but the host name is read once.
    ///
    /// # Errors
    /// [`SystemError`].
    pub fn identity(&self) -> Result<Machine, SystemError> {
        use sysinfo::System;
        let fixed = self.identity.get_or_init(|| Machine {
            hostname: String::new(),
            os: System::name().unwrap_or_default(),
            os_version: System::os_version().unwrap_or_default(),
            kernel: System::kernel_version().unwrap_or_default(),
            arch: System::cpu_arch(),
        });
        Ok(Machine { hostname: System::host_name()?, ..fixed.clone() })
    }
}

impl std::fmt::Debug for SystemGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemGate").finish_non_exhaustive()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
