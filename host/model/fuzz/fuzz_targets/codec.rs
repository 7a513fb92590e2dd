//! The decoder of batches: bounded, and never a panic, whatever comes from the network. What it
//! takes is a batch, so it must encode and come back as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sentinel_model::codec::{decode, encode, rows};

/// With a right frame and checksum around a body, so that what comes after them is reached.
fn sealed(rows: u32, symbols: u32, body: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(body, 1).expect("zstd compresses into memory");
    let mut out = b"SNB1".to_vec();
    for number in [rows, symbols, body.len() as u32, crc32c::crc32c(&packed)] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&packed);
    out
}

fuzz_target!(|input: (u16, u16, &[u8])| {
    let (count, symbols, body) = input;
    for bytes in [body.to_vec(), sealed(count.into(), symbols.into(), body)] {
        let Ok(batch) = decode(&bytes) else { continue };
        assert_eq!(rows(&bytes), Ok(batch.len()));
        for row in batch.rows() {
            let _ = (row.name(), row.labels().count(), row.kind(), row.time());
        }
        let again = decode(&encode(&batch)).expect("a batch that was taken is taken again");
        let bits = |batch: &sentinel_model::batch::Batch| -> Vec<u64> {
            batch.value.iter().map(|v| v.to_bits()).collect()
        };
        assert_eq!(bits(&again), bits(&batch));
        let (mut again, mut batch) = (again.into_columns(), batch.into_columns());
        // Compared by their bits: NaN is not itself.
        again.value.clear();
        batch.value.clear();
        assert_eq!(again, batch);
    }
});
