//! `system`: what comes out of `/proc` at once; what may hang, on threads that may block.

use std::sync::Arc;
use std::time::Duration;

use super::small::not_granted;
use crate::bindings::sentinel::plugin::system as contract;
use crate::capabilities::system::{
    CpuTime, DiskIo, Filesystem, Machine, MemoryUsage, Network, ProcessCounts, SystemError,
    SystemGate, Temperature,
};
use crate::host::Host;

/// Longest time of a reading that may hang, as of file systems.
const LIMIT: Duration = Duration::from_secs(3);

type Reading<T> = wasmtime::Result<Result<T, contract::SystemError>>;

impl Host {
    fn system(&self) -> wasmtime::Result<Arc<SystemGate>> {
        Ok(Arc::clone(self.gates.system.as_ref().ok_or_else(|| not_granted("system"))?))
    }

    fn read<T, U>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&SystemGate) -> Result<T, SystemError>,
        convert: impl FnOnce(T) -> U,
    ) -> Reading<U> {
        let gate = self.system()?;
        self.at_once(what, |_| Ok(work(&gate).map(convert).map_err(Into::into)))
    }

    async fn read_that_may_hang<T: Send + 'static>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&SystemGate) -> Result<T, SystemError> + Send + 'static,
    ) -> Reading<T> {
        let gate = self.system()?;
        let answer = self.blocking(what, LIMIT, move || work(&gate)).await?;
        let stuck = || Err(SystemError::Failed("the system does not answer".into()));
        Ok(answer.unwrap_or_else(stuck).map_err(Into::into))
    }
}

fn each<T, U: From<T>>(list: Vec<T>) -> Vec<U> {
    list.into_iter().map(U::from).collect()
}

impl contract::Host for Host {
    async fn cpu_times(&mut self) -> Reading<Vec<contract::CpuTime>> {
        self.read("system.cpu-times", SystemGate::cpu_times, each)
    }

    async fn memory(&mut self) -> Reading<contract::MemoryUsage> {
        self.read("system.memory", SystemGate::memory, Into::into)
    }

    async fn filesystems(&mut self) -> Reading<Vec<contract::Filesystem>> {
        let what = "waiting in system.filesystems";
        Ok(self.read_that_may_hang(what, SystemGate::filesystems).await?.map(each))
    }

    async fn disks(&mut self) -> Reading<Vec<contract::DiskIo>> {
        self.read("system.disks", SystemGate::disks, each)
    }

    async fn networks(&mut self) -> Reading<Vec<contract::Network>> {
        self.read("system.networks", SystemGate::networks, each)
    }

    async fn load_average(&mut self) -> Reading<(f64, f64, f64)> {
        self.read("system.load-average", SystemGate::load_average, |load| load)
    }

    async fn processes(&mut self) -> Reading<contract::ProcessCounts> {
        self.read("system.processes", SystemGate::processes, Into::into)
    }

    async fn uptime(&mut self) -> Reading<f64> {
        self.read("system.uptime", SystemGate::uptime, |seconds| seconds)
    }

    async fn temperatures(&mut self) -> Reading<Vec<contract::Temperature>> {
        let what = "waiting in system.temperatures";
        Ok(self.read_that_may_hang(what, SystemGate::temperatures).await?.map(each))
    }

    async fn identity(&mut self) -> Reading<contract::Machine> {
        let what = "waiting in system.identity";
        Ok(self.read_that_may_hang(what, SystemGate::identity).await?.map(Into::into))
    }
}

fn named<T>(list: Vec<(&'static str, T)>) -> Vec<(String, T)> {
    list.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl From<CpuTime> for contract::CpuTime {
    fn from(CpuTime { cpu, modes }: CpuTime) -> Self {
        Self { cpu, modes: named(modes) }
    }
}

impl From<ProcessCounts> for contract::ProcessCounts {
    fn from(ProcessCounts { by_state, created, threads }: ProcessCounts) -> Self {
        Self { by_state: named(by_state), created, threads }
    }
}

impl From<SystemError> for contract::SystemError {
    fn from(error: SystemError) -> Self {
        match error {
            SystemError::Unsupported => Self::Unsupported,
            SystemError::Failed(why) => Self::Failed(why),
        }
    }
}

/// Records whose fields are the same on both sides.
macro_rules! same_fields {
    ($($name:ident { $($field:ident),* })*) => {
        $(impl From<$name> for contract::$name {
            fn from($name { $($field),* }: $name) -> Self {
                Self { $($field),* }
            }
        })*
    };
}

same_fields! {
    MemoryUsage { total, free, available, used, cached, buffers, swap_total, swap_free }
    Filesystem { device, mount_point, fs_type, total_bytes, available_bytes, read_only }
    DiskIo { device, read_bytes, written_bytes, reads, writes, io_time }
    Network {
        device, received_bytes, transmitted_bytes, received_packets, transmitted_packets,
        receive_errors, transmit_errors, receive_drops, transmit_drops
    }
    Temperature { sensor, celsius, critical }
    Machine { hostname, os, os_version, kernel, arch }
}
