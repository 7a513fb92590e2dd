//! What the machine of a test reads like.

use crate::system::{
    CpuTime, DiskIo, Filesystem, Machine, MemoryUsage, Network, ProcessCounts, SystemError,
    Temperature,
};

/// What each function of [`system`](crate::system) answers; all are unsupported at first.
#[derive(Clone, Debug)]
pub struct System {
    /// Answer of `cpu_times`.
    pub cpu_times: Result<Vec<CpuTime>, SystemError>,
    /// Answer of `memory`.
    pub memory: Result<MemoryUsage, SystemError>,
    /// Answer of `filesystems`.
    pub filesystems: Result<Vec<Filesystem>, SystemError>,
    /// Answer of `disks`.
    pub disks: Result<Vec<DiskIo>, SystemError>,
    /// Answer of `networks`.
    pub networks: Result<Vec<Network>, SystemError>,
    /// Answer of `load_average`.
    pub load_average: Result<(f64, f64, f64), SystemError>,
    /// Answer of `processes`.
    pub processes: Result<ProcessCounts, SystemError>,
    /// Answer of `uptime`.
    pub uptime: Result<f64, SystemError>,
    /// Answer of `temperatures`.
    pub temperatures: Result<Vec<Temperature>, SystemError>,
    /// Answer of `identity`.
    pub identity: Result<Machine, SystemError>,
}

impl Default for System {
    fn default() -> Self {
        Self {
            cpu_times: Err(SystemError::Unsupported),
            memory: Err(SystemError::Unsupported),
            filesystems: Err(SystemError::Unsupported),
            disks: Err(SystemError::Unsupported),
            networks: Err(SystemError::Unsupported),
            load_average: Err(SystemError::Unsupported),
            processes: Err(SystemError::Unsupported),
            uptime: Err(SystemError::Unsupported),
            temperatures: Err(SystemError::Unsupported),
            identity: Err(SystemError::Unsupported),
        }
    }
}
