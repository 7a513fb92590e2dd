//! Versions 1 and 2 of the bytes on disk. These bytes are kept for ever: a change of the layout is a new version beside them.

use sentinel_wal::Epoch;
use sentinel_wal::format::{
    BadHeader, MAX_NUMBER, RecordHeader, SegmentHeader, frame_bytes, push_record, segment_name,
    segment_number,
};

const EPOCH: Epoch = Epoch([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

#[test]
fn golden_bytes_of_a_segment_header() {
    let header = SegmentHeader { epoch: EPOCH, number: 0x0102, first: 0x0304, reused: false };
    let bytes = header.encode();
    assert_eq!(
        hex::encode(bytes),
        "534e544c5345470a0100000040000000000102030405060708090a0b0c0d0e0f\
         0201000000000000040300000000000000000000000000000000000054b0d3fd"
    );
    assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
    let reused = SegmentHeader { reused: true, ..header };
    let bytes = reused.encode();
    assert_eq!(
        hex::encode(bytes),
        "534e544c5345470a0200000040000000000102030405060708090a0b0c0d0e0f\
         020100000000000004030000000000000000000000000000000000005bdb8c14"
    );
    assert_eq!(SegmentHeader::decode(&bytes), Ok(reused));
}

#[test]
fn golden_bytes_of_a_record() {
    let mut bytes = Vec::new();
    push_record(&mut bytes, EPOCH, 7, b"hello", crc32c::crc32c(b"hello"));
    assert_eq!(
        hex::encode(&bytes),
        "a5524543050000000700000000000000000102030405060708090a0b0c0d0e0f\
         4cbb719ababab4cb68656c6c6f000000"
    );
    let header = RecordHeader::decode(&bytes).unwrap();
    assert_eq!((header.seq, header.length, header.epoch), (7, 5, EPOCH));
    assert_eq!(bytes.len() as u64, frame_bytes(5));
}

#[test]
fn a_header_with_any_bit_flipped_is_refused() {
    let segment = SegmentHeader { epoch: EPOCH, number: 1, first: 1, reused: false }.encode();
    let record = RecordHeader { epoch: EPOCH, seq: 1, length: 9, payload_crc: 3 }.encode();
    for bit in 0..segment.len() * 8 {
        let mut bytes = segment;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Damaged), "bit {bit}");
    }
    for bit in 0..record.len() * 8 {
        let mut bytes = record;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(RecordHeader::decode(&bytes), None, "bit {bit}");
    }
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let mut bytes = SegmentHeader { epoch: EPOCH, number: 1, first: 1, reused: true }.encode();
    bytes[8] = 3;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Version(3)));
}

#[test]
fn numbers_that_no_log_reaches_are_damage() {
    for (seq, sound) in [(0, false), (1, true), (MAX_NUMBER, true), (MAX_NUMBER + 1, false)] {
        let segment = SegmentHeader { epoch: EPOCH, number: 1, first: seq, reused: false };
        let record = RecordHeader { epoch: EPOCH, seq, length: 9, payload_crc: 3 };
        assert_eq!(SegmentHeader::decode(&segment.encode()).is_ok(), sound, "{seq}");
        assert_eq!(RecordHeader::decode(&record.encode()).is_some(), sound, "{seq}");
        assert_eq!(segment_number(&segment_name(seq)).is_some(), sound || seq == 0, "{seq}");
    }
}

#[test]
fn segment_names_sort_like_their_numbers() {
    assert_eq!(segment_name(42), "00000000000000000042.seg");
    assert_eq!(segment_number("00000000000000000042.seg"), Some(42));
    for other in [
        "42.seg",
        "00000000000000000042.seg.aside",
        "meta",
        "0000000000000000004x.seg",
        "99999999999999999999.seg",
    ] {
        assert_eq!(segment_number(other), None, "{other}");
    }
}
