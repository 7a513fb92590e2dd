//! Texts of `/proc`: pure functions that no text makes panic.

use super::{CpuTime, DiskIo, MemoryUsage, Network};

/// Bytes of a sector in `/proc/diskstats`, whatever the device's own are.
const SECTOR_BYTES: u64 = 512;
/// Columns of `/proc/stat` in their order.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
/// Most characters of a line in a message.
const SHOWN: usize = 80;

/// A text that does not read as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub(super) struct Malformed {
    expected: &'static str,
    found: String,
}

fn malformed(expected: &'static str, found: &str) -> Malformed {
    Malformed { expected, found: found.chars().take(SHOWN).collect() }
}

/// Per-core times, from `/proc/stat` in clock ticks.
pub(super) fn cpu_times(text: &str, ticks: u64) -> Result<Vec<CpuTime>, Malformed> {
    let expected = "cpuN and times in ticks";
    let mut cores = Vec::new();
    for line in text.lines().take_while(|line| line.starts_with("cpu")) {
        let mut fields = line["cpu".len()..].split(' ');
        let number = fields.next().unwrap_or("");
        if number.is_empty() {
            continue; // the sum over all
        }
        let cpu = number.parse().map_err(|_| malformed(expected, line))?;
        let mut modes = Vec::with_capacity(MODES.len());
        for (mode, field) in MODES.into_iter().zip(fields) {
            let value: u64 = field.parse().map_err(|_| malformed(expected, line))?;
            modes.push((mode, value as f64 / ticks.max(1) as f64));
        }
        cores.push(CpuTime { cpu, modes });
    }
    if cores.is_empty() { Err(malformed(expected, text)) } else { Ok(cores) }
}

/// Processes started since boot, from `/proc/stat`.
pub(super) fn created(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("processes "))?.trim().parse().ok()
}

/// `/proc/meminfo`.
pub(super) fn memory(text: &str) -> Result<MemoryUsage, Malformed> {
    let mut usage = MemoryUsage::default();
    let (mut total, mut available) = (None, None);
    let (mut page_cache, mut reclaimable) = (None, None);
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let kib = rest.trim().trim_end_matches("kB").trim_end();
        let Ok(kib) = kib.parse::<u64>() else { continue };
        let bytes = kib.saturating_mul(1024);
        match name {
            "MemTotal" => total = Some(bytes),
            "MemFree" => usage.free = bytes,
            "MemAvailable" => available = Some(bytes),
            "Buffers" => usage.buffers = Some(bytes),
            "Cached" => page_cache = Some(bytes),
            "SReclaimable" => reclaimable = Some(bytes),
            "SwapTotal" => usage.swap_total = bytes,
            "SwapFree" => usage.swap_free = bytes,
            _ => {}
        }
    }
    usage.total = total.ok_or_else(|| malformed("a line `MemTotal: N kB`", text))?;
    usage.cached = page_cache.map(|cache| cache.saturating_add(reclaimable.unwrap_or(0)));
    // Kernels before 3.14 do not say what is available; free(1) made it up like this.
    usage.available = available.unwrap_or_else(|| {
        let cache = usage.cached.unwrap_or(0).saturating_add(usage.buffers.unwrap_or(0));
        usage.free.saturating_add(cache).min(usage.total)
    });
    usage.used = usage.total.saturating_sub(usage.available);
    Ok(usage)
}

/// `/proc/diskstats`.
pub(super) fn disks(text: &str) -> Result<Vec<DiskIo>, Malformed> {
    let expected = "major, minor, name and at least 11 counters";
    let mut disks = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let device = fields.next().ok_or_else(|| malformed(expected, line))?;
        let mut counters = [0u64; 11];
        for counter in &mut counters {
            let field = fields.next().and_then(|field| field.parse().ok());
            *counter = field.ok_or_else(|| malformed(expected, line))?;
        }
        let [reads, _, sectors_read, _, writes, _, sectors_written, _, _, busy_ms, _] = counters;
        let virtual_disk = ["ram", "loop", "zram", "fd", "sr"]
            .iter()
            .filter_map(|kind| device.strip_prefix(kind))
            .any(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
        if virtual_disk && reads == 0 && writes == 0 {
            continue;
        }
        disks.push(DiskIo {
            device: device.to_owned(),
            read_bytes: sectors_read.saturating_mul(SECTOR_BYTES),
            written_bytes: sectors_written.saturating_mul(SECTOR_BYTES),
            reads: Some(reads),
            writes: Some(writes),
            io_time: Some(busy_ms as f64 / 1e3),
        });
    }
    Ok(disks)
}

/// `/proc/net/dev`.
pub(super) fn networks(text: &str) -> Result<Vec<Network>, Malformed> {
    let expected = "an interface, a colon and 16 counters";
    let mut networks = Vec::new();
    for line in text.lines().skip(2) {
        let (device, rest) = line.rsplit_once(':').ok_or_else(|| malformed(expected, line))?;
        let mut fields = rest.split_ascii_whitespace();
        let mut counters = [0u64; 16];
        for counter in &mut counters {
            let field = fields.next().and_then(|field| field.parse().ok());
            *counter = field.ok_or_else(|| malformed(expected, line))?;
        }
        networks.push(Network {
            device: device.trim().to_owned(),
            received_bytes: counters[0],
            received_packets: counters[1],
            receive_errors: counters[2],
            receive_drops: Some(counters[3]),
            transmitted_bytes: counters[8],
            transmitted_packets: counters[9],
            transmit_errors: counters[10],
            transmit_drops: Some(counters[11]),
        });
    }
    Ok(networks)
}

fn seconds(field: Option<&str>) -> Option<f64> {
    field?.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)
}

/// `/proc/loadavg`.
pub(super) fn load_average(text: &str) -> Result<(f64, f64, f64), Malformed> {
    let mut fields = text.split_ascii_whitespace();
    let mut next = || seconds(fields.next());
    match (next(), next(), next()) {
        (Some(one), Some(five), Some(fifteen)) => Ok((one, five, fifteen)),
        _ => Err(malformed("three load averages", text)),
    }
}

/// `/proc/uptime`.
pub(super) fn uptime(text: &str) -> Result<f64, Malformed> {
    seconds(text.split_ascii_whitespace().next()).ok_or_else(|| malformed("seconds", text))
}

/// What is counted of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessStat {
    /// The kernel's letter for its state.
    pub(super) state: u8,
    pub(super) threads: u64,
}

/// `/proc/PID/stat`. The name in parentheses may hold anything, parentheses and line breaks
/// too; nothing after it does.
pub(super) fn process(text: &[u8]) -> Option<ProcessStat> {
    let name_end = text.iter().rposition(|b| *b == b')')?;
    let mut fields = text[name_end + 1..].split(|b| *b == b' ').filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    // Field 20, counted from 1; the state was field 3.
    let threads = std::str::from_utf8(fields.nth(16)?).ok()?.parse().ok()?;
    Some(ProcessStat { state, threads })
}

/// How many processes are in each state.
#[derive(Debug, Default)]
pub(super) struct States([u32; 6]);

const STATES: [&str; 6] = ["running", "sleeping", "blocked", "stopped", "zombie", "other"];

impl States {
    pub(super) fn count(&mut self, state: u8) {
        let at = match state {
            b'R' => 0,
            b'S' | b'I' => 1,
            b'D' => 2,
            b'T' | b't' => 3,
            b'Z' => 4,
            _ => 5,
        };
        self.0[at] += 1;
    }

    pub(super) fn by_name(&self) -> Vec<(&'static str, u32)> {
        STATES.into_iter().zip(self.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "cpu  326861 0 100 2000 30 0 40 5 0 0\n\
        cpu0 100 200 300 400 500 600 700 800 900 1000\ncpu12 1 2 3 4 5\n\
        intr 1 2\nctxt 5\nbtime 1\nprocesses 4711\nprocs_running 2\n";
    const MEMINFO: &str = "MemTotal:       16384 kB\nMemFree:         4096 kB\n\
        MemAvailable:    8192 kB\nBuffers:          100 kB\nCached:          2000 kB\n\
        SwapCached:         0 kB\nSwapTotal:       1024 kB\nSwapFree:        1000 kB\n\
        SReclaimable:      24 kB\nHugePages_Total:       0\n";
    const DISKSTATS: &str = "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n   \
        7       1 loop1 9 0 72 0 0 0 0 0 0 8 8 0 0 0 0 0 0\n 254       0 vda 1000 5 8000 70 2000 6 \
        16000 80 0 1500 150 0 0 0 0 1 2\n 259       1 nvme0n1p1 1 0 8 0 0 0 0 0 0 1 1\n";
    const NET_DEV: &str = "Inter-|   Receive                                                |  Transmit\n face \
        |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo: 100 10 0 0 0 0 0 0 100 10 0 0 0 0 0 0\n  eth0:12345 67 1 2 3 4 5 6 54321 76 7 8 9 10 11 12\neth0:1: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";

    #[test]
    fn core_times_read_by_mode_in_seconds() {
        let cores = cpu_times(STAT, 100).unwrap();
        assert_eq!(cores.iter().map(|core| core.cpu).collect::<Vec<_>>(), [0, 12]);
        let modes: Vec<_> =
            MODES.into_iter().zip([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).collect();
        assert_eq!(cores[0].modes, modes);
        assert_eq!(cores[1].modes.len(), 5);
        assert_eq!(created(STAT), Some(4711));
        assert_eq!(created("btime 1\n"), None);
    }

    #[test]
    fn memory_reads_in_bytes_and_used_is_what_is_not_available() {
        let kib = |n: u64| n * 1024;
        let expected = MemoryUsage {
            total: kib(16384),
            free: kib(4096),
            available: kib(8192),
            used: kib(8192),
            cached: Some(kib(2024)),
            buffers: Some(kib(100)),
            swap_total: kib(1024),
            swap_free: kib(1000),
        };
        assert_eq!(memory(MEMINFO), Ok(expected));
        let old = MEMINFO.replace("MemAvailable", "Mem");
        assert_eq!(memory(&old).unwrap().available, kib(4096 + 2024 + 100));
    }

    #[test]
    fn disks_read_and_unused_virtual_ones_are_left_out() {
        let disks = disks(DISKSTATS).unwrap();
        let names: Vec<_> = disks.iter().map(|disk| disk.device.as_str()).collect();
        assert_eq!(names, ["loop1", "vda", "nvme0n1p1"]);
        let vda = DiskIo {
            device: "vda".into(),
            read_bytes: 8000 * 512,
            written_bytes: 16000 * 512,
            reads: Some(1000),
            writes: Some(2000),
            io_time: Some(1.5),
        };
        assert_eq!(disks[1], vda);
    }

    #[test]
    fn networks_read_with_their_drops() {
        let networks = networks(NET_DEV).unwrap();
        let eth0 = Network {
            device: "eth0".into(),
            received_bytes: 12345,
            received_packets: 67,
            receive_errors: 1,
            receive_drops: Some(2),
            transmitted_bytes: 54321,
            transmitted_packets: 76,
            transmit_errors: 7,
            transmit_drops: Some(8),
        };
        assert_eq!(networks[1], eth0);
        assert_eq!(networks[2].device, "eth0:1");
        assert_eq!(networks.len(), 3);
    }

    #[test]
    fn load_and_uptime_read() {
        assert_eq!(load_average("0.50 1.25 2.00 3/345 6789\n"), Ok((0.5, 1.25, 2.0)));
        assert_eq!(uptime("1234.56 99.1\n"), Ok(1234.56));
    }

    #[test]
    fn a_process_may_have_any_name() {
        let tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 7 18 19";
        for name in ["cat", "a) R (b", "a\nb", ") Z 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 99", ""] {
            let text = format!("42 ({name}){tail}");
            let expected = ProcessStat { state: b'S', threads: 7 };
            assert_eq!(process(text.as_bytes()), Some(expected), "{name:?}");
        }
    }

    #[test]
    fn every_state_of_a_process_is_counted_once() {
        let mut states = States::default();
        b"RSDTtZIXKW?".iter().for_each(|state| states.count(*state));
        let expected = [
            ("running", 1),
            ("sleeping", 2),
            ("blocked", 1),
            ("stopped", 2),
            ("zombie", 1),
            ("other", 4),
        ];
        assert_eq!(states.by_name(), expected);
    }

    #[test]
    fn texts_that_are_cut_short_are_refused_with_what_was_found() {
        assert!(cpu_times("", 100).is_err());
        assert!(cpu_times("cpu0 1 x 3\n", 100).is_err());
        assert!(memory("MemFree: 1 kB\n").is_err());
        assert!(disks("8 0 sda 1 2 3\n").is_err());
        assert!(networks("a\nb\neth0 1 2\n").is_err());
        assert!(load_average("1 2").is_err());
        assert!(uptime("nan").is_err());
        let said = uptime("soon").unwrap_err().to_string();
        assert_eq!(said, "expected seconds, found \"soon\"");
    }

    proptest! {
        #[test]
        fn no_text_panics_a_parser(
            noise in "[ -~\\n]{0,40}",
            at in 0usize..700,
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            for text in [STAT, MEMINFO, DISKSTATS, NET_DEV, ""] {
                let (head, tail) = text.split_at(at.min(text.len()));
                let text = format!("{head}{noise}{tail}");
                let _ = cpu_times(&text, 0);
                let _ = created(&text);
                let _ = memory(&text);
                let _ = disks(&text);
                let _ = networks(&text);
                let _ = load_average(&text);
                let _ = uptime(&text);
                let _ = process(text.as_bytes());
            }
            let _ = process(&bytes);
        }
    }
}
