//! Any bytes as a segment, a meta file and the marker: opening and reading neither panics nor yields a record that its
//! checksum does not vouch for, and what was read is read again by the next opening.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sentinel_wal::simulation::Simulation;
use sentinel_wal::{Item, Log, Options};

fuzz_target!(|parts: (Vec<u8>, Vec<u8>, Vec<u8>)| {
    let disk = Simulation::new();
    for (name, bytes) in [("00000000000000000001.seg", parts.0), ("meta", parts.1), ("clean", parts.2)] {
        if !bytes.is_empty() {
            disk.set_contents(name, bytes);
        }
    }
    let read = || {
        let options = Options { background: false, ..Options::default() };
        let Ok((log, _)) = Log::open_on(Arc::new(disk.clone()), options) else { return None };
        let mut reader = log.reader();
        let items: Vec<Item> = std::iter::from_fn(|| reader.try_next().ok().flatten()).take(10_000).collect();
        log.close().ok()?;
        Some(items)
    };
    let first = read();
    assert_eq!(first, read());
});
