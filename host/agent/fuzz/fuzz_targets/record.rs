//! Any bytes as a record of the agent's log: decoding neither panics nor takes more memory than
//! there are bytes for, and what decodes is what its own encoding says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sentinel_agent::record::LogRecord;

fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = LogRecord::decode(bytes) else { return };
    assert_eq!(record.encode(), bytes, "bytes mean one thing, and a thing has one form");
    let last = record.part.of;
    assert!((1..=last).contains(&record.part.number));
    let kept: usize = record.writes.iter().map(|w| w.key.len() + w.value.as_ref().map_or(0, Vec::len)).sum();
    assert!(kept + record.batch.len() <= bytes.len());
});
