//! Time on the processor.

use anyhow::{Context, Result};
use std::fs;

/// Seconds that a process's living threads ran, to the nanosecond.
pub(crate) fn scheduled(pid: u32) -> Result<f64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        total += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(total as f64 * 1e-9)
}

/// The fields of `/proc/PID/stat` after the name; what is no number is 0.
pub(crate) fn stat(pid: u32) -> Result<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("a name in brackets")?;
    Ok(fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

/// Seconds that a process ran, threads that have ended included, to a hundredth.
pub(crate) fn process(pid: u32) -> Result<f64> {
    let ticks: u64 = stat(pid)?[11..13].iter().sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Processes that a process has started and that run.
pub(crate) fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        // One that has ended meanwhile is none.
        if stat(pid).is_ok_and(|fields| fields[1] == u64::from(parent)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The same of a process and of all that it has started.
pub(crate) fn family(parent: u32) -> Result<f64> {
    // A child that has ended counts in its parent.
    let mut ticks: u64 = stat(parent)?[11..15].iter().sum();
    for child in children(parent)? {
        ticks += stat(child).map_or(0, |fields| fields[11..13].iter().sum());
    }
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Seconds that this process ran, to the microsecond.
pub(crate) fn own() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Resident memory of a process, in MiB.
pub(crate) fn resident_mib(pid: u32) -> Result<f64> {
    memory(pid, "VmRSS:")
}

/// What is resident of a process and shared with no file and no other process, in MiB.
pub(crate) fn own_mib(pid: u32) -> Result<f64> {
    memory(pid, "RssAnon:")
}

/// The most that was ever resident of a process, in MiB.
pub(crate) fn peak_mib(pid: u32) -> Result<f64> {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, field: &'static str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(field)).context(field)?;
    let kib: f64 = line.split_whitespace().nth(1).context(field)?.parse()?;
    Ok(kib / 1024.0)
}
