//! Readings out of `/proc`, with buffers that are kept between them.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::mem::MaybeUninit;

use rustix::fs::{Mode, OFlags, RawDir};

use super::mounts::{self, Mount};
use super::parse::{self, Malformed, ProcessStat};
use super::{CpuTime, DiskIo, MemoryUsage, Network, ProcessCounts, SystemError};

/// Most bytes that are read of a file: on the largest machines `/proc/stat` has about 300 KiB,
/// and `/proc/diskstats` with ten thousand volumes 1 MiB.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// The part of `/proc/PID/stat` that is read: all of it, unless a field grows.
const PROCESS_BYTES: usize = 1_024;

/// Files that are read again and again, kept open: reading from the start makes them anew.
#[derive(Default)]
pub(super) struct Source {
    text: Vec<u8>,
    stat: Option<File>,
    meminfo: Option<File>,
    diskstats: Option<File>,
    loadavg: Option<File>,
    uptime: Option<File>,
}

fn failed(path: &str, error: impl std::fmt::Display) -> SystemError {
    SystemError::Failed(format!("{path}: {error}"))
}

/// Reads a file from its start, opening it if need be.
fn fresh<'a>(
    file: &mut Option<File>,
    path: &str,
    text: &'a mut Vec<u8>,
) -> Result<&'a str, SystemError> {
    let mut open = match file.take() {
        Some(mut open) => {
            open.rewind().map_err(|e| failed(path, e))?;
            open
        }
        None => File::open(path).map_err(|e| failed(path, e))?,
    };
    text.clear();
    // A file that failed is not kept: the next reading opens it again.
    (&mut open).take(MAX_FILE_BYTES).read_to_end(text).map_err(|e| failed(path, e))?;
    *file = Some(open);
    std::str::from_utf8(text).map_err(|e| failed(path, e))
}

fn understood<T>(path: &str, parsed: Result<T, Malformed>) -> Result<T, SystemError> {
    parsed.map_err(|malformed| failed(path, malformed))
}

const STAT: &str = "/proc/stat";

impl Source {
    pub(super) fn cpu_times(&mut self) -> Result<Vec<CpuTime>, SystemError> {
        let ticks = rustix::param::clock_ticks_per_second();
        let text = fresh(&mut self.stat, STAT, &mut self.text)?;
        understood(STAT, parse::cpu_times(text, ticks))
    }

    pub(super) fn memory(&mut self) -> Result<MemoryUsage, SystemError> {
        let path = "/proc/meminfo";
        understood(path, parse::memory(fresh(&mut self.meminfo, path, &mut self.text)?))
    }

    pub(super) fn disks(&mut self) -> Result<Vec<DiskIo>, SystemError> {
        let path = "/proc/diskstats";
        understood(path, parse::disks(fresh(&mut self.diskstats, path, &mut self.text)?))
    }

    pub(super) fn networks(&mut self) -> Result<Vec<Network>, SystemError> {
        // Not kept open: it belongs to the network namespace of the thread that opened it.
        let path = "/proc/thread-self/net/dev";
        understood(path, parse::networks(fresh(&mut None, path, &mut self.text)?))
    }

    pub(super) fn load_average(&mut self) -> Result<(f64, f64, f64), SystemError> {
        let path = "/proc/loadavg";
        understood(path, parse::load_average(fresh(&mut self.loadavg, path, &mut self.text)?))
    }

    pub(super) fn uptime(&mut self) -> Result<f64, SystemError> {
        let path = "/proc/uptime";
        understood(path, parse::uptime(fresh(&mut self.uptime, path, &mut self.text)?))
    }

    pub(super) fn processes(&mut self) -> Result<ProcessCounts, SystemError> {
        let created = parse::created(fresh(&mut self.stat, STAT, &mut self.text)?);
        let mut states = parse::States::default();
        let mut threads = 0;
        for_each_process(|stat| {
            states.count(stat.state);
            threads += stat.threads;
        })
        .map_err(|e| failed("/proc", e))?;
        Ok(ProcessCounts { by_state: states.by_name(), created, threads: Some(threads) })
    }
}

/// Every mount that this process sees; none where the system does not say.
pub(super) fn mounts() -> Vec<Mount> {
    let mut bytes = Vec::new();
    let read = File::open("/proc/self/mountinfo")
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => mounts::mounts(&String::from_utf8_lossy(&bytes)),
        Err(_) => Vec::new(),
    }
}

/// Reads the state of every process: one small file each, and nothing else of it. A process
/// that is gone before it is its turn is not counted.
fn for_each_process(mut each: impl FnMut(ProcessStat)) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags | OFlags::DIRECTORY, Mode::empty())?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 << 10];
    let mut directory = RawDir::new(&proc, &mut buffer);
    let mut path = Vec::with_capacity(32);
    let mut text = [0; PROCESS_BYTES];
    while let Some(entry) = directory.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !name.iter().all(u8::is_ascii_digit) {
            continue;
        }
        path.clear();
        path.extend_from_slice(name);
        path.extend_from_slice(b"/stat");
        let Ok(file) = rustix::fs::openat(&proc, path.as_slice(), flags, Mode::empty()) else {
            continue;
        };
        let Ok(length) = rustix::io::read(&file, &mut text) else { continue };
        if let Some(stat) = parse::process(&text[..length]) {
            each(stat);
        }
    }
    Ok(())
}
