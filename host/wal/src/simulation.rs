//! Storage in memory that injects faults, for tests of the log and of what is built on it: the same log code runs over it.
//!
//! It is harsher than real disks: of what was not synced when the power goes, any subset of 512-byte sectors survives, and
//! any subset of creations, renames and removals; a failed sync loses its data while reads go on showing it; a write that
//! meets a full disk or the crash leaves a part of itself. Everything random comes from a seed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{LockFailure, Storage, StorageFile, StorageLock};

/// What survives of an unsynced write is decided sector by sector.
const SECTOR_BYTES: usize = 512;

/// A simulated disk with one folder. Clones share it.
#[derive(Clone)]
pub struct Simulation {
    world: Arc<Mutex<World>>,
}

#[derive(Clone, Default)]
struct World {
    files: BTreeMap<u64, Contents>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    next_file: u64,
    operations: u64,
    crash_at: Option<u64>,
    failing_syncs: u64,
    failing_writes: u64,
    capacity: Option<u64>,
    crashed: bool,
    locked: bool,
}

#[derive(Clone, Default)]
struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Size(usize),
}

#[derive(Clone)]
enum NameChange {
    Link { name: String, file: u64, unlink: Option<String> },
    Unlink(String),
}

/// A small generator (SplitMix64): equal seeds, equal faults.
struct Dice(u64);

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
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => put(contents, *offset, bytes),
            Change::Size(size) => contents.resize(*size, 0),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
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

fn full_error() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl World {
    /// Counts an operation that changes something; `Err` once the simulated machine is down.
    fn operate(&mut self) -> io::Result<()> {
        self.alive()?;
        self.operations += 1;
        if self.crash_at.is_some_and(|at| self.operations >= at) {
            self.crashed = true;
            return Err(crash_error());
        }
        Ok(())
    }

    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(crash_error()) } else { Ok(()) }
    }

    fn file(&mut self, file: u64) -> &mut Contents {
        self.files.entry(file).or_default()
    }

    fn room(&self) -> u64 {
        let used: usize =
            self.names.values().filter_map(|f| self.files.get(f)).map(|c| c.live.len()).sum();
        self.capacity.map_or(u64::MAX, |c| c.saturating_sub(used as u64))
    }

    fn change(&mut self, file: u64, change: Change) {
        let contents = self.file(file);
        change.apply(&mut contents.live);
        contents.unsynced.push(change);
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn lookup(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, file: u64, bytes: &[u8], offset: usize) -> io::Result<()> {
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

    fn sync(&mut self, file: u64) -> io::Result<()> {
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

    fn lose_power(&mut self, dice: &mut Dice) {
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

impl Default for Simulation {
    fn default() -> Simulation {
        Simulation::new()
    }
}

impl Simulation {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Simulation {
        Simulation { world: Arc::new(Mutex::new(World::default())) }
    }

    /// Operations so far that changed something (create, write, sync, reserve, truncate, rename, remove, sync of the folder).
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.world.lock().operations
    }

    /// The machine goes down at this operation, counted from the beginning; a write is then half done. Every later operation fails.
    pub fn crash_at(&self, operation: u64) {
        self.world.lock().crash_at = Some(operation);
    }

    /// The next `count` syncs of files fail, and lose what they should have synced.
    pub fn fail_syncs(&self, count: u64) {
        self.world.lock().failing_syncs = count;
    }

    /// The next `count` writes fail half way.
    pub fn fail_writes(&self, count: u64) {
        self.world.lock().failing_writes = count;
    }

    /// Bytes that all files together may take; `None`: no end.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world.lock().capacity = bytes;
    }

    /// Whether the machine went down.
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.world.lock().crashed
    }

    /// The disk after the process died (or the crash): what was written is there, synced or not. The old one fails from now on.
    #[must_use]
    pub fn after_kill(&self) -> Simulation {
        let mut old = self.world.lock();
        old.crashed = true;
        let mut world = old.clone();
        (world.crashed, world.locked, world.crash_at, world.operations) = (false, false, None, 0);
        Simulation { world: Arc::new(Mutex::new(world)) }
    }

    /// The disk after a power failure: of what was not synced, a random part is there. The old one fails from now on.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> Simulation {
        let after = self.after_kill();
        after.world.lock().lose_power(&mut Dice(seed));
        after
    }

    /// The names of all files, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.world.lock().names.keys().cloned().collect()
    }

    /// The bytes of a file; empty when there is none.
    #[must_use]
    pub fn contents(&self, name: &str) -> Vec<u8> {
        let world = self.world.lock();
        let contents = world.names.get(name).and_then(|f| world.files.get(f));
        contents.map(|c| c.live.clone()).unwrap_or_default()
    }

    /// Puts other bytes in a file's place, durably, creating it where it is missing: damage, or a copy.
    pub fn set_contents(&self, name: &str, bytes: Vec<u8>) {
        let mut world = self.world.lock();
        let file = world.names.get(name).copied().unwrap_or_else(|| {
            world.next_file += 1;
            world.next_file
        });
        world.names.insert(name.to_owned(), file);
        world.durable_names.insert(name.to_owned(), file);
        world
            .files
            .insert(file, Contents { live: bytes.clone(), durable: bytes, unsynced: Vec::new() });
    }

    /// Flips one bit of a file, durably.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let mut bytes = self.contents(name);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        self.set_contents(name, bytes);
    }

    /// Removes a file behind the log's back, durably.
    pub fn lose_file(&self, name: &str) {
        let mut world = self.world.lock();
        world.names.remove(name);
        world.durable_names.remove(name);
    }
}

struct SimulatedFile {
    world: Arc<Mutex<World>>,
    file: u64,
}

impl StorageFile for SimulatedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world.lock();
        world.alive()?;
        let live = &world.file(self.file).live;
        let from = (offset as usize).min(live.len());
        let len = buf.len().min(live.len() - from);
        buf[..len].copy_from_slice(&live[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.world.lock().write(self.file, bytes, offset as usize)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.world.lock().sync(self.file)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        world.operate()?;
        let now = world.file(self.file).live.len() as u64;
        if len.saturating_sub(now) > world.room() {
            return Err(full_error());
        }
        if len > now {
            world.change(self.file, Change::Size(len as usize));
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        world.operate()?;
        world.change(self.file, Change::Size(len as usize));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut world = self.world.lock();
        world.alive()?;
        Ok(world.file(self.file).live.len() as u64)
    }
}

struct SimulatedLock(Arc<Mutex<World>>);

impl StorageLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.0.lock().locked = false;
    }
}

impl Storage for Simulation {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let world = self.world.lock();
        world.alive()?;
        let file = world.lookup(name)?;
        Ok(Arc::new(SimulatedFile { world: self.world.clone(), file }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut world = self.world.lock();
        world.operate()?;
        if world.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.next_file += 1;
        let file = world.next_file;
        world.files.insert(file, Contents::default());
        world.rename(NameChange::Link { name: name.to_owned(), file, unlink: None });
        Ok(Arc::new(SimulatedFile { world: self.world.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        world.operate()?;
        let file = world.lookup(from)?;
        world.rename(NameChange::Link { name: to.to_owned(), file, unlink: Some(from.to_owned()) });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        world.operate()?;
        world.lookup(name)?;
        world.rename(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let world = self.world.lock();
        world.alive()?;
        Ok(world.names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut world = self.world.lock();
        world.operate()?;
        for change in std::mem::take(&mut world.unsynced_names) {
            change.apply(&mut world.durable_names);
        }
        Ok(())
    }

    fn lock(&self) -> Result<Box<dyn StorageLock>, LockFailure> {
        let mut world = self.world.lock();
        world.alive().map_err(LockFailure::Io)?;
        if std::mem::replace(&mut world.locked, true) {
            return Err(LockFailure::Held(None));
        }
        Ok(Box::new(SimulatedLock(self.world.clone())))
    }

    fn describe(&self) -> String {
        "a simulated folder".to_owned()
    }
}
