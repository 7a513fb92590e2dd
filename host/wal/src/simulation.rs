//! Storage in memory that injects faults, for tests of the log and of what is built on it: the same log code runs over it.
//!
//! It is harsher than real disks: of what was not synced when the power goes, any subset of 512-byte sectors survives, and
//! any subset of creations, renames and removals; a failed sync loses its data while reads go on showing it; a write that
//! meets a full disk or the crash leaves a part of itself. Everything random comes from a seed.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use self::world::{Change, Contents, Dice, NameChange, World, full_error};
use crate::{LockFailure, Storage, StorageFile, StorageLock};

mod world;

/// A simulated disk with one folder. Clones share it.
#[derive(Clone)]
pub struct Simulation {
    world: Arc<Mutex<World>>,
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
            .insert(file, Contents { live: bytes.clone(), durable: bytes, ..Contents::default() });
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
