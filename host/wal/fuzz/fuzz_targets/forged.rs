//! Segments, a meta file and the marker with right checksums and any contents, as no log would write them: opening, reading,
//! committing and appending neither panic nor overflow, and records come in ascending order. Where the numbers in each
//! segment ascend, as those of any log do, what was read is read again by the next opening.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use sentinel_wal::format::{RecordHeader, SegmentHeader, segment_name};
use sentinel_wal::simulation::Simulation;
use sentinel_wal::{Epoch, GapReason, Item, Log, MIN_SEGMENT_BYTES, Options};

/// Most items a run reads.
const MAX_ITEMS: usize = 2_000;

fuzz_target!(|data: &[u8]| {
    let disk = Simulation::new();
    let mut input = Unstructured::new(data);
    // An input that ends early leaves fewer files.
    let ascending = input.arbitrary().unwrap_or(true);
    let _ = forge(&disk, &mut input, ascending);
    let Some(first) = read(&disk, None) else { return };
    let committed = input.arbitrary().unwrap_or(0);
    let second = read(&disk, Some(committed));
    let (first, second) = (joined(first), second.map(joined));
    assert!(!ascending || Some(&first) == second.as_ref(), "{first:?}, then {second:?}");
    read(&disk, None);
});

/// Records, and which numbers are missing: not in how many pieces, nor why. Files that contradict each other on that are
/// gone at the next opening.
fn joined(items: Vec<Item>) -> Vec<Item> {
    let mut out: Vec<Item> = Vec::new();
    for mut item in items {
        if let Item::Gap { epoch: next_epoch, from, to: next_to, reason } = &mut item {
            *reason = GapReason::Corrupt;
            if let Some(Item::Gap { epoch, to, .. }) = out.last_mut()
                && (*epoch, *to + 1) == (*next_epoch, *from)
            {
                *to = *next_to;
                continue;
            }
        }
        out.push(item);
    }
    out
}

/// Opens, reads, appends one record and closes. What was read, without that of earlier rounds' own records.
fn read(disk: &Simulation, commit: Option<u8>) -> Option<Vec<Item>> {
    let options = Options {
        segment_bytes: MIN_SEGMENT_BYTES,
        max_bytes: 1 << 20,
        background: false,
        ..Options::default()
    };
    let (log, _) = Log::open_on(Arc::new(disk.clone()), options).ok()?;
    let mut reader = log.reader();
    let items: Vec<Item> =
        std::iter::from_fn(|| reader.try_next().ok().flatten()).take(MAX_ITEMS).collect();
    let mut last: BTreeMap<Epoch, u64> = BTreeMap::new();
    for item in &items {
        let (epoch, from, to) = match item {
            Item::Record { position, .. } => (position.epoch, position.seq, position.seq),
            Item::Gap { epoch, from, to, .. } => (*epoch, *from, *to),
        };
        let last = last.entry(epoch).or_default();
        assert!(from > *last && to >= from, "{item:?} after {last}");
        *last = to;
    }
    if let Some(share) = commit {
        for at in log.offsets() {
            let seq = (u128::from(at.synced) * u128::from(share) / 255) as u64;
            log.commit(at.epoch, seq).expect("an offset that the log itself gave");
        }
    }
    log.append_blocking(b"appended").ok()?;
    log.commit(log.epoch(), 1).expect("the record just synced");
    log.close().ok()?;
    Some(items)
}

fn forge(disk: &Simulation, input: &mut Unstructured<'_>, ascending: bool) -> Result<()> {
    if input.arbitrary()? {
        disk.set_contents("meta", meta(input)?);
    }
    if input.arbitrary()? {
        disk.set_contents("clean", marker(input)?);
    }
    for _ in 0..input.int_in_range(0..=4)? {
        let name = segment_name(number(input)?);
        disk.set_contents(&name, segment(input, ascending)?);
    }
    Ok(())
}

/// Small, near the end, or any.
fn number(input: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match input.int_in_range(0..=3)? {
        0 | 1 => u64::from(input.arbitrary::<u8>()? % 16),
        2 => u64::MAX - u64::from(input.arbitrary::<u8>()? % 4),
        _ => input.arbitrary()?,
    })
}

fn epoch(input: &mut Unstructured<'_>) -> Result<Epoch> {
    Ok(Epoch([input.arbitrary::<u8>()? % 3; 16]))
}

fn segment(input: &mut Unstructured<'_>, ascending: bool) -> Result<Vec<u8>> {
    let header = SegmentHeader {
        epoch: epoch(input)?,
        number: number(input)?,
        first: number(input)?,
        reused: input.arbitrary()?,
    };
    let mut bytes = header.encode().to_vec();
    let mut last = 0;
    for _ in 0..input.int_in_range(0..=6)? {
        if input.ratio(1, 4)? {
            let junk = input.arbitrary::<u8>()?;
            bytes.resize(bytes.len() + usize::from(junk) * 8, junk);
            continue;
        }
        let payload = vec![input.arbitrary::<u8>()?; usize::from(input.arbitrary::<u8>()?).max(1)];
        let number = number(input)?;
        let seq = if ascending { number.max(last + 1) } else { number };
        last = seq.min(u64::MAX - 1);
        let record = RecordHeader {
            epoch: epoch(input)?,
            seq,
            length: if input.ratio(1, 8)? { input.arbitrary()? } else { payload.len() as u32 },
            payload_crc: crc32c::crc32c(&payload),
        };
        bytes.extend_from_slice(&record.encode());
        bytes.extend_from_slice(&payload);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    Ok(bytes)
}

fn meta(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let tag: Vec<u8> = vec![7; usize::from(input.arbitrary::<u8>()?)];
    let count = input.int_in_range(0..=4u32)?;
    let mut body = number(input)?.to_le_bytes().to_vec();
    body.extend_from_slice(&(tag.len() as u32).to_le_bytes());
    body.extend_from_slice(&count.to_le_bytes());
    body.extend_from_slice(&tag);
    for _ in 0..count {
        body.extend_from_slice(&epoch(input)?.0);
        for _ in 0..6 {
            body.extend_from_slice(&number(input)?.to_le_bytes());
        }
    }
    let mut bytes = b"SNTLMETA\x01\0\0\0".to_vec();
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(checked(bytes))
}

fn marker(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = b"SNTLCLN\n\x01\0\0\0".to_vec();
    bytes.extend_from_slice(&epoch(input)?.0);
    bytes.extend_from_slice(&number(input)?.to_le_bytes());
    Ok(checked(bytes))
}

fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}
