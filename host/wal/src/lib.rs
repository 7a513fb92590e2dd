//! Append-only segmented log over opaque bytes. Knows nothing of metrics.
//!
//! A [`Log`] owns a folder. Every opening begins a new [`Epoch`] (random, so that cloned and restored machines never
//! collide) and numbers its records from 1; a [`Position`] is never used twice for different records that anybody was
//! told of. Records of earlier epochs stay readable, in order, before those of the current one, until they are committed.
//!
//! # The promise
//!
//! *Written* is in the file: it survives the death of the process. *Synced* is on the disk (fdatasync): it survives
//! power failure. [`Reader`]s yield synced records only. A record stays until it is [committed](Log::commit), or until
//! a cap that the owner set takes it ([`AtCap::DropOldest`], [`Options::max_age`]); then its number is part of a [`Item::Gap`]. Damage
//! (torn tails, flipped bits, zeroed blocks, missing or copied files) is skipped and reported, as a gap or in [`Recovery`],
//! never a panic and never silent. Losing the newest meta file only makes records be sent again.
//!
//! **A failed fdatasync** is not retried: the kernel may have marked the lost pages clean, and the next one would lie.
//! The records since the last good sync, kept in memory until then, are written under the same numbers into a new segment
//! and synced there; the failed file is never written or synced again. If that fails too, the log takes no more records
//! ([`Error::Suspended`], [`LogState::SyncFailing`]), keeps those it has in memory, and tries again in another segment after
//! 100 ms, 200 ms, ... 10 s; whoever waits for the sync of a record goes on waiting. On opening, records behind the last
//! known sync are written once more before they are synced, for the same reason.
//!
//! **A full disk** fails the append with [`Error::NoSpace`]. Segments are reserved (fallocate) before they are used, so
//! it is found before a byte is written. Numbers go on without a hole when there is room. The next meta file has its room
//! reserved too, so that committed segments can be removed from a full disk.
//!
//! # Files
//!
//! | file | content |
//! |---|---|
//! | `lock` | locked (flock) while a log is open; the opener's pid as text |
//! | `meta` | offsets and tag; replaced by rename; `meta.next` is the room for the next one |
//! | `clean` | there only after a clean shutdown, removed by the next opening |
//! | `00000000000000000001.seg` ... | segments, in the order they were begun |
//! | `*.seg.aside` | segments that recovery could not use: for the operator to look at and remove |
//!
//! # Bytes
//!
//! All numbers are little-endian. A segment is a header and records. The records of a segment are of one epoch, their numbers
//! ascend. Behind the last one are zeros up to the end of the reserved room; or, in a segment of version 2, what is left of
//! the segments that its file held before: records of the same epoch, whole or cut in two, with numbers below its first.
//!
//! | segment header | bytes | |
//! |---|---|---|
//! | 0 | 8 | magic `SNTLSEG\n` |
//! | 8 | 2 | version: 1 of a segment in a new file, 2 in one that held another before; later ones are refused |
//! | 10 | 2 | zero |
//! | 12 | 4 | length of this header, 64 |
//! | 16 | 16 | epoch |
//! | 32 | 8 | number of the segment |
//! | 40 | 8 | sequence number of its first record |
//! | 48 | 12 | zero |
//! | 60 | 4 | CRC32C of bytes 0..60 |
//!
//! | record, at a multiple of 8 | bytes | |
//! |---|---|---|
//! | 0 | 4 | magic `A5 'R' 'E' 'C'` |
//! | 4 | 4 | length of the payload, 1 to 4 MiB |
//! | 8 | 8 | sequence number, from 1 |
//! | 16 | 16 | epoch (again, so that a damaged segment header loses no record) |
//! | 32 | 4 | CRC32C of the payload |
//! | 36 | 4 | CRC32C of bytes 0..36 |
//! | 40 | length | payload |
//! | | 0 to 7 | zeros |
//!
//! | meta | bytes | |
//! |---|---|---|
//! | 0 | 8 | magic `SNTLMETA` |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | zero |
//! | 12 | 4 | length of the body |
//! | 16 | 8 | body: records ever dropped at the cap |
//! | 24 | 4 | length of the tag, at most 1024 |
//! | 28 | 4 | number of epochs, at most 4096 |
//! | 32 | | tag |
//! | | 64 each | epochs, oldest first: epoch 16, synced 8, accepted 8, committed 8, dropped through 8, last segment 8, flags 8 (1: sealed) |
//! | | 4 | CRC32C of all before |
//!
//! | clean | bytes | |
//! |---|---|---|
//! | 0 | 8 | magic `SNTLCLN\n` |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | zero |
//! | 12 | 16 | the epoch that was closed |
//! | 28 | 8 | its last record |
//! | 36 | 4 | CRC32C of bytes 0..36 |
//!
//! # How a record goes
//!
//! Its writer computes the checksum, then adds it to the batch being filled. Whoever has the tail takes the batch and
//! writes it with one write; one thread syncs; meanwhile the next batch fills (two buffers change places). A third party,
//! the housekeeping thread, prepares the next segment, writes the meta file and removes committed segments, so that no writer
//! waits for any of it.
//!
//! The next segment is in the file of a committed one where there is one: it gets a new name, and is written over, so
//! that in a log whose records are committed as it goes a sync has nothing to journal and no byte is written twice. Until
//! it has its new header such a file is what it was: a segment whose records are committed, durably, which an opening
//! removes. No record is ever taken for one of the file's earlier life: each says its epoch and number, and only files of
//! the current epoch are used again, none whose sync failed or that was cut.
//!
//! Otherwise the next segment is in a new file, reserved: a sync of room that was never written has to journal that it is
//! written now, which takes longer than the data. Writing it with zeros ahead of time costs more under load than it saves:
//! every byte goes to the disk twice. Under [`SyncPolicy::Never`] no file is used again.
//!
//! `examples/group_commit.rs`, 64 writers of 4 KiB, two cores and a disk shared with others, medians of three runs between
//! those of the log that filled its segments with zeros: 160,000 records/s in a log in use, 122,000 in one opened anew
//! (110,000 with zeros), where a bare loop of write and fdatasync with the same batches reached 122,000 in a file reserved
//! with fallocate and 163,000 in one written with zeros; the median ratio to the former is 1.5 (0.9 to 1.2 for a log opened
//! anew). Between two syncs lie about 115 us: 30 until the first of the writers that were woken has come back, 70 for
//! writing the batch, which goes on while the rest of it comes in.

mod anew;
mod bell;
mod close;
mod error;
pub mod format;
pub mod inspect;
mod keep;
mod log;
mod meta;
mod options;
mod queue;
mod reader;
mod recovery;
mod report;
mod reuse;
pub mod scan;
pub mod simulation;
mod state;
mod storage;
mod sync;
mod threads;
mod turn;
mod types;
mod writer;

pub use error::{Error, Result};
pub use log::Log;
pub use options::{
    AtCap, DEFAULT_MAX_BYTES, DEFAULT_SEGMENT_BYTES, MAX_EPOCHS, MAX_META_BYTES, MAX_PENDING_BYTES,
    MAX_RECORD_BYTES, MAX_SEGMENT_BYTES, MAX_TAG_BYTES, MAX_UNSYNCED_BYTES, MIN_AGE,
    MIN_SEGMENT_BYTES, MIN_SEGMENTS_IN_CAP, Options, SyncPolicy,
};
pub use reader::Reader;
pub use report::{FoundGap, MetaFile, Recovery};
pub use storage::{Folder, LockFailure, Storage, StorageFile, StorageLock};
pub use types::{Epoch, EpochOffsets, GapReason, Item, LogState, Position, Stats};
