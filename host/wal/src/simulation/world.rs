//! The simulated disk itself: what is there, what of it is durable, and what a fault leaves of it.

use std::collections::BTreeMap;
use std::io;

/// What survives of an unsynced write is decided sector by sector.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) files: BTreeMap<u64, Contents>,
    pub(super) names: BTreeMap<String, u64>,
    pub(super) durable_names: BTreeMap<String, u64>,
    pub(super) unsynced_names: Vec<NameChange>,
    pub(super) next_file: u64,
    pub(super) operations: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) failing_syncs: u64,
    pub(super) failing_writes: u64,
    pub(super) capacity: Option<u64>,
    pub(super) crashed: bool,
    pub(super) locked: bool,
}

#[derive(Clone, Default)]
pub(super) struct Contents {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) unsynced: Vec<Change>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Size(usize),
}

#[derive(Clone)]
pub(super) enum NameChange {
    Link { name: String, file: u64, unlink: Option<String> },
    Unlink(String),
}

/// A small generator (SplitMix64): equal seeds, equal faults.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

impl Change {
    pub(super) fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => put(contents, *offset, bytes),
            Change::Size(size) => contents.resize(*size, 0),
        }
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Link { name, file, unlink } => {
                if let Some(old) = unlink {
                    names.remove(old);
                }
                names.insert(name.clone(), *file);
            }
            NameChange::Unlink(name) => {
                names.remove(name);
            }
        }
    }
}

fn put(contents: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[offset..end].copy_from_slice(bytes);
}

fn crash_error() -> io::Error {
    io::Error::other("simulated crash")
}

pub(super) fn full_error() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl World {
    /// Counts an operation that changes something; `Err` once the simulated machine is down.
    pub(super) fn operate(&mut self) -> io::Result<()> {
        self.alive()?;
        self.operations += 1;
        if self.crash_at.is_some_and(|at| self.operations >= at) {
            self.crashed = true;
            return Err(crash_error());
        }
        Ok(())
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(crash_error()) } else { Ok(()) }
    }

    pub(super) fn file(&mut self, file: u64) -> &mut Contents {
        self.files.entry(file).or_default()
    }

    pub(super) fn room(&self) -> u64 {
        let used: usize =
            self.names.values().filter_map(|f| self.files.get(f)).map(|c| c.live.len()).sum();
        self.capacity.map_or(u64::MAX, |c| c.saturating_sub(used as u64))
    }

    pub(super) fn change(&mut self, file: u64, change: Change) {
        let contents = self.file(file);
        change.apply(&mut contents.live);
        contents.unsynced.push(change);
    }

    pub(super) fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    pub(super) fn lookup(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn write(&mut self, file: u64, bytes: &[u8], offset: usize) -> io::Result<()> {
        let part = Change::Write { offset, bytes: bytes[..bytes.len() / 2].to_vec() };
        if let Err(crash) = self.operate() {
            if self.crash_at == Some(self.operations) {
                self.crash_at = None;
                self.change(file, part);
            }
            return Err(crash);
        }
        if self.failing_writes > 0 {
            self.failing_writes -= 1;
            self.change(file, part);
            return Err(io::Error::other("simulated write error"));
        }
        let len = self.file(file).live.len();
        let growth = (offset + bytes.len()).saturating_sub(len) as u64;
        let room = self.room();
        if growth > room {
            let fits = bytes.len() - (growth - room) as usize;
            self.change(file, Change::Write { offset, bytes: bytes[..fits].to_vec() });
            return Err(full_error());
        }
        self.change(file, Change::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    pub(super) fn sync(&mut self, file: u64) -> io::Result<()> {
        self.operate()?;
        let failing = self.failing_syncs > 0;
        self.failing_syncs = self.failing_syncs.saturating_sub(1);
        let contents = self.file(file);
        let changes = std::mem::take(&mut contents.unsynced);
        if failing {
            return Err(io::Error::other("simulated sync error"));
        }
        for change in changes {
            change.apply(&mut contents.durable);
        }
        Ok(())
    }

    pub(super) fn lose_power(&mut self, dice: &mut Dice) {
        for contents in self.files.values_mut() {
            for change in std::mem::take(&mut contents.unsynced) {
                match change {
                    Change::Write { offset, bytes } => {
                        let mut at = offset;
                        while at < offset + bytes.len() {
                            let sector_end =
                                ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(offset + bytes.len());
                            if dice.coin() {
                                put(
                                    &mut contents.durable,
                                    at,
                                    &bytes[at - offset..sector_end - offset],
                                );
                            }
                            at = sector_end;
                        }
                    }
                    size @ Change::Size(_) => {
                        if dice.coin() {
                            size.apply(&mut contents.durable);
                        }
                    }
                }
            }
            contents.live.clone_from(&contents.durable);
        }
        for change in std::mem::take(&mut self.unsynced_names) {
            if dice.coin() {
                change.apply(&mut self.durable_names);
            }
        }
        self.names.clone_from(&self.durable_names);
        let linked: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| linked.contains(file));
    }
}
