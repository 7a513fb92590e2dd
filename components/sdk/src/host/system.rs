//! Readings of the machine. Capability `system`.

use super::host_call;
#[cfg(target_arch = "wasm32")]
use crate::bindings::host::sentinel::plugin::system as import;

pub use crate::bindings::host::sentinel::plugin::system::{
    CpuTime, DiskIo, Filesystem, Machine, MemoryUsage, Network, ProcessCounts, SystemError,
    Temperature,
};

macro_rules! readings {
    ($($(#[$doc:meta])* $name:ident: $value:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// [`SystemError::Unsupported`] where the platform has none, [`SystemError::Failed`]
        /// with the system's own words otherwise.
        pub fn $name() -> Result<$value, SystemError> {
            host_call!(
                import::$name(),
                crate::testing::with_host(|host| host.system.$name.clone())
            )
        }
    )*};
}

readings! {
    /// Seconds that each core has spent in each mode since boot.
    cpu_times: Vec<CpuTime>;
    /// Memory and swap in bytes.
    memory: MemoryUsage;
    /// Mounted file systems with storage behind them.
    filesystems: Vec<Filesystem>;
    /// I/O of whole disks and partitions since boot.
    disks: Vec<DiskIo>;
    /// Traffic of network interfaces since boot.
    networks: Vec<Network>;
    /// Load averages over 1, 5 and 15 minutes.
    load_average: (f64, f64, f64);
    /// Processes by state.
    processes: ProcessCounts;
    /// Seconds since boot.
    uptime: f64;
    /// Temperature sensors; empty where there are none.
    temperatures: Vec<Temperature>;
    /// What the machine is.
    identity: Machine;
}

/// The words of a reading that failed, for a log message.
pub fn describe_error(error: &SystemError) -> String {
    match error {
        SystemError::Unsupported => "this platform has no such reading".to_owned(),
        SystemError::Failed(why) => why.clone(),
    }
}
