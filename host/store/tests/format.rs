//! The stored formats: golden bytes, round trips, and decoders that take anything.

use proptest::prelude::*;
use sentinel_store::format::batch::{self, StoredBatch};
use sentinel_store::format::window::{self, WindowColumns, WindowSeries};
use sentinel_store::format::{Codec, FormatError, chunk};

fn encode_batch(batch: &StoredBatch) -> Vec<u8> {
    let ids = batch::encode_ids(&batch.ids);
    batch::encode(&mut Codec::new(), &ids, &batch.times, &batch.values)
}

fn encode_values(values: &[f64]) -> Vec<u8> {
    chunk::encode_values(&mut Codec::new(), &mut Vec::new(), values)
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Compares with the file kept since the version was made; `SENTINEL_GOLDEN=write` makes it.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = format!("{}/tests/golden/{name}.bin", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SENTINEL_GOLDEN").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    std::fs::read(&path).unwrap()
}

fn sample_batch() -> StoredBatch {
    StoredBatch {
        ids: vec![1, 2, 7, 3],
        times: vec![1_735_689_600_000, 1_735_689_600_000, 1_735_689_600_001, 0],
        values: vec![1.0, 0.1, -2.5e10, f64::INFINITY],
    }
}

#[test]
fn the_bytes_of_a_batch_never_change_their_meaning() {
    // What zstd makes of a body may change with its version, so only decoding is compared.
    let bytes = golden("batch-v1", &encode_batch(&sample_batch()));
    assert_eq!(batch::decode(&mut Codec::new(), &bytes).unwrap(), sample_batch());
}

#[test]
fn the_bytes_of_chunks_never_change_their_meaning() {
    let long: Vec<f64> = (0..360).map(|i| f64::from(i * 7 % 50) / 10.0).collect();
    let columns: [(&str, Vec<f64>); 6] = [
        ("values-same-v1", vec![f64::NAN; 5]),
        ("values-integers-v1", vec![5.0, 3.0, 9.0]),
        ("values-counter-v1", vec![8192.0, 8192.0, 16384.0, 40960.0]),
        ("values-thousandths-v1", vec![0.125, 0.5, 1.001]),
        ("values-xor-v1", vec![0.1 + 0.2, -0.0, 1e300]),
        ("values-compressed-v1", long),
    ];
    for (name, values) in columns {
        let bytes = golden(name, &encode_values(&values));
        let found = chunk::decode_values(&mut Codec::new(), &bytes, values.len()).unwrap();
        assert_eq!(bits(&found), bits(&values), "{name}");
    }
    for (name, times) in
        [("times-regular-v1", vec![10, 20, 30]), ("times-irregular-v1", vec![-5, 0, 1, 10_000])]
    {
        let bytes = golden(name, &chunk::encode_times(&times));
        assert_eq!(bytes, chunk::encode_times(&times), "{name}");
        assert_eq!(chunk::decode_times(&bytes).unwrap(), times, "{name}");
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    type Decodes = fn(&[u8]) -> bool;
    let blobs: [(Vec<u8>, Decodes); 3] = [
        (encode_batch(&sample_batch()), |b| batch::decode(&mut Codec::new(), b).is_ok()),
        (encode_values(&[0.1, 0.25, 7.0]), |b| {
            chunk::decode_values(&mut Codec::new(), b, 3).is_ok()
        }),
        (chunk::encode_times(&[1, 5, 6]), |b| chunk::decode_times(b).is_ok()),
    ];
    for (bytes, decodes) in blobs {
        assert!(decodes(&bytes));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!decodes(&damaged), "bit {bit}");
        }
        assert!((0..bytes.len()).all(|length| !decodes(&bytes[..length])));
    }
}

#[test]
fn announced_sizes_are_bounded_before_anything_is_allocated() {
    let mut huge = b"SSB1".to_vec();
    huge.extend_from_slice(&u32::MAX.to_le_bytes());
    huge.extend_from_slice(&[0; 20]);
    let error = batch::decode(&mut Codec::new(), &huge).unwrap_err();
    assert!(matches!(error, FormatError::TooLarge { .. }), "{error}");
    let error = chunk::decode_values(&mut Codec::new(), &[0; 9], usize::MAX).unwrap_err();
    assert!(matches!(error, FormatError::TooLarge { .. }), "{error}");
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        (-1_000_000i64..1_000_000).prop_map(|i| i as f64),
        (-1_000_000i64..1_000_000).prop_map(|i| i as f64 / 100.0),
        (0i64..4).prop_map(|i| i as f64 * 4096.0),
        any::<u64>().prop_map(f64::from_bits),
    ]
}

/// With a right checksum, so that what comes after it is reached.
fn sealed(head: u8, rest: &[u8]) -> Vec<u8> {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&[head]), rest);
    [&[head], &checksum.to_le_bytes()[..], rest].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn batches_come_back(
        rows in proptest::collection::vec((any::<u32>(), any::<i64>(), value()), 0..200)
    ) {
        let batch = StoredBatch {
            ids: rows.iter().map(|r| r.0).collect(),
            times: rows.iter().map(|r| r.1).collect(),
            values: rows.iter().map(|r| r.2).collect(),
        };
        let found = batch::decode(&mut Codec::new(), &encode_batch(&batch)).unwrap();
        prop_assert_eq!(&found.ids, &batch.ids);
        prop_assert_eq!(&found.times, &batch.times);
        prop_assert_eq!(bits(&found.values), bits(&batch.values));
    }

    #[test]
    fn columns_come_back(
        values in proptest::collection::vec(value(), 1..400),
        times in proptest::collection::btree_set(any::<i64>(), 1..400),
    ) {
        let found = chunk::decode_values(&mut Codec::new(), &encode_values(&values), values.len());
        prop_assert_eq!(bits(&found.unwrap()), bits(&values));
        let times: Vec<i64> = times.into_iter().collect();
        prop_assert_eq!(chunk::decode_times(&chunk::encode_times(&times)).unwrap(), times);
    }

    #[test]
    fn windows_with_other_bytes_under_a_right_checksum_are_refused_or_sound(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in 0usize..40,
    ) {
        let codec = &mut Codec::new();
        let mut encoded = window::encode(codec, &sample_windows()).unwrap();
        encoded.truncate(encoded.len() - cut);
        for (at, byte) in changes {
            let at = 8 + at.index(encoded.len() - 8);
            encoded[at] = byte;
        }
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&encoded[..4]), &encoded[8..]);
        encoded[4..8].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(columns) = window::decode(codec, &encoded) {
            let again = window::encode(codec, &columns).unwrap();
            prop_assert_eq!(window::decode(codec, &again).unwrap().series.len(), columns.series.len());
        }
    }

    #[test]
    fn decoders_take_anything(
        head in any::<u8>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        count in 0usize..2_000,
    ) {
        let codec = &mut Codec::new();
        for bytes in [bytes.clone(), sealed(head, &bytes)] {
            let _ = batch::decode(codec, &bytes);
            let _ = window::decode(codec, &bytes);
            let _ = chunk::decode_times(&bytes);
            if let Ok(values) = chunk::decode_values(codec, &bytes, count) {
                prop_assert_eq!(values.len(), count);
            }
        }
    }
}

fn sample_windows() -> WindowColumns {
    let times: std::sync::Arc<[i64]> = [1_735_689_600_000, 1_735_689_610_000].into();
    let series = |id, times: &std::sync::Arc<[i64]>, values: &[f64]| WindowSeries {
        id,
        key: u64::from(id) << 40,
        times: times.clone(),
        values: values.to_vec(),
    };
    let other = [-5_i64, 7, 900].into();
    WindowColumns {
        needs: [9; 16],
        position: "5:9:5,7".to_owned(),
        series: vec![
            series(7, &times, &[1.0, 0.5]),
            series(8, &other, &[0.1 + 0.2, -0.0, 1e300]),
            series(1_023, &times, &[2.0, 2.0]),
        ],
    }
}

#[test]
fn the_bytes_of_windows_never_change_their_meaning() {
    let encoded = window::encode(&mut Codec::new(), &sample_windows()).unwrap();
    let bytes = golden("windows-v1", &encoded);
    assert_eq!(window::decode(&mut Codec::new(), &bytes).unwrap(), sample_windows());
    assert_eq!(window::decode(&mut Codec::new(), &encoded).unwrap(), sample_windows());
}

#[test]
fn windows_that_are_not_sound_are_neither_written_nor_read() {
    let codec = &mut Codec::new();
    let sound = window::encode(codec, &sample_windows()).unwrap();
    for length in 0..sound.len() {
        assert!(window::decode(codec, &sound[..length]).is_err(), "{length} bytes of it");
        let mut other = sound.clone();
        other[length] ^= 0x10;
        assert!(window::decode(codec, &other).is_err(), "byte {length} is another");
    }
    let mut twice = sample_windows();
    twice.series[1].id = 7;
    let mut short = sample_windows();
    short.series[0].values.pop();
    let mut many = sample_windows();
    many.series = (0..=window::MAX_SERIES as u32)
        .map(|id| WindowSeries { id, ..sample_windows().series[0].clone() })
        .collect();
    for columns in [twice, short, many] {
        assert!(window::encode(codec, &columns).is_err());
    }
    // Few bytes that announce more samples than a part may have.
    let times: std::sync::Arc<[i64]> = (0..100_000).collect();
    let same = |id| WindowSeries { id, key: 0, times: times.clone(), values: vec![1.0; 100_000] };
    let bomb = WindowColumns { series: (0..84).map(same).collect(), ..sample_windows() };
    assert!(matches!(window::encode(codec, &bomb), Err(FormatError::TooLarge { .. })));
}
