//! Decoders of stored bytes: bounded, and never a panic, whatever they are given.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sentinel_store::format::{Codec, batch, chunk, window};

/// With a right checksum, so that what comes after it is reached.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let Some((&head, rest)) = bytes.split_first() else { return Vec::new() };
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&[head]), rest);
    [&[head], &checksum.to_le_bytes()[..], rest].concat()
}

fn sealed_batch(bytes: &[u8]) -> Vec<u8> {
    let Some((head, rest)) = bytes.split_at_checked(8) else { return Vec::new() };
    let head = [b"SSB1", head].concat();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&head), rest);
    [&head[..], &checksum.to_le_bytes()[..], rest].concat()
}

fn sealed_windows(bytes: &[u8]) -> Vec<u8> {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(b"SWP1"), bytes);
    [b"SWP1", &checksum.to_le_bytes()[..], bytes].concat()
}

fuzz_target!(|input: (u16, &[u8])| {
    let (count, bytes) = input;
    let codec = &mut Codec::new();
    let _ = batch::decode(codec, bytes);
    let _ = batch::decode(codec, &sealed_batch(bytes));
    let _ = window::decode(codec, bytes);
    if let Ok(columns) = window::decode(codec, &sealed_windows(bytes)) {
        let encoded = window::encode(codec, &columns).expect("what was decoded is sound");
        assert_eq!(window::decode(codec, &encoded).map(|again| again.series.len()), Ok(columns.series.len()));
    }
    for bytes in [bytes.to_vec(), sealed(bytes)] {
        let _ = chunk::decode_times(&bytes);
        if let Ok(values) = chunk::decode_values(codec, &bytes, count.into()) {
            assert_eq!(values.len(), usize::from(count));
        }
    }
});
