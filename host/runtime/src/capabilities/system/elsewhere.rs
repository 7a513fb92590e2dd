//! What sysinfo knows where there is no `/proc`.

use super::{CpuTime, DiskIo, MemoryUsage, Network, ProcessCounts, SystemError};
use sysinfo::{Networks, System};

#[derive(Default)]
pub(super) struct Source {
    system: Option<System>,
}

impl Source {
    pub(super) fn cpu_times(&mut self) -> Result<Vec<CpuTime>, SystemError> {
        Err(SystemError::Unsupported)
    }

    pub(super) fn memory(&mut self) -> Result<MemoryUsage, SystemError> {
        let system = match &mut self.system {
            Some(system) => system,
            none => none.insert(System::new()?),
        };
        system.refresh_memory();
        Ok(MemoryUsage {
            total: system.total_memory(),
            free: system.free_memory(),
            available: system.available_memory(),
            used: system.used_memory(),
            cached: None,
            buffers: None,
            swap_total: system.total_swap(),
            swap_free: system.free_swap(),
        })
    }

    pub(super) fn disks(&mut self) -> Result<Vec<DiskIo>, SystemError> {
        Err(SystemError::Unsupported)
    }

    pub(super) fn networks(&mut self) -> Result<Vec<Network>, SystemError> {
        let networks = Networks::new_with_refreshed_list()?;
        let one = |(device, data): (&String, &sysinfo::NetworkData)| Network {
            device: device.clone(),
            received_bytes: data.total_received(),
            transmitted_bytes: data.total_transmitted(),
            received_packets: data.total_packets_received(),
            transmitted_packets: data.total_packets_transmitted(),
            receive_errors: data.total_errors_on_received(),
            transmit_errors: data.total_errors_on_transmitted(),
            receive_drops: None,
            transmit_drops: None,
        };
        Ok(networks.iter().map(one).collect())
    }

    pub(super) fn load_average(&mut self) -> Result<(f64, f64, f64), SystemError> {
        let load = System::load_average()?;
        Ok((load.one, load.five, load.fifteen))
    }

    pub(super) fn processes(&mut self) -> Result<ProcessCounts, SystemError> {
        Err(SystemError::Unsupported)
    }

    pub(super) fn uptime(&mut self) -> Result<f64, SystemError> {
        Ok(System::uptime()? as f64)
    }
}

/// A mount, of which nothing is known here.
pub(super) struct Mount {
    pub(super) point: String,
    pub(super) read_only: bool,
}

impl Mount {
    pub(super) fn is_shown_by(&self, _: &Self) -> bool {
        false
    }
}

pub(super) fn mounts() -> Vec<Mount> {
    Vec::new()
}
