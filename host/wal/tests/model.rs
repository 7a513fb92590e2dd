//! Random use of the log against an obvious reference: lists in memory.

mod harness;

use std::collections::BTreeMap;

use harness::{open_with, options, payload, tag_of};
use proptest::prelude::*;
use sentinel_wal::simulation::Simulation;
use sentinel_wal::{AtCap, Epoch, Error, GapReason, Item, Log, Options};

#[derive(Debug, Clone)]
enum Step {
    Append { len: usize },
    AppendSynced { len: usize },
    Sync,
    Read { count: usize },
    Commit { share: u8 },
    Accept { share: u8 },
    Tag(u8),
    Close,
    Kill,
    PowerLoss { seed: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![4 => 8usize..700, 1 => 1000usize..9000];
    let step = prop_oneof![
        12 => len.clone().prop_map(|len| Step::Append { len }),
        4 => len.prop_map(|len| Step::AppendSynced { len }),
        4 => Just(Step::Sync),
        4 => (1usize..20).prop_map(|count| Step::Read { count }),
        3 => any::<u8>().prop_map(|share| Step::Commit { share }),
        1 => any::<u8>().prop_map(|share| Step::Accept { share }),
        1 => any::<u8>().prop_map(Step::Tag),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(|seed| Step::PowerLoss { seed }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// One epoch of the reference: everything ever appended, and how far it got.
#[derive(Debug)]
struct EpochModel {
    epoch: Epoch,
    tags: Vec<u64>,
    synced: u64,
    committed: u64,
    /// Not every record after `synced` must be there: the power failed.
    torn: bool,
}

struct Model {
    disk: Simulation,
    options: Options,
    log: Option<Log>,
    epochs: Vec<EpochModel>,
    tag: Vec<u8>,
    next: u64,
}

impl Model {
    fn new(options: Options) -> Model {
        let mut model = Model {
            disk: Simulation::new(),
            options,
            log: None,
            epochs: Vec::new(),
            tag: Vec::new(),
            next: 0,
        };
        model.open();
        model
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("open")
    }

    fn open(&mut self) {
        let (log, _) = open_with(&self.disk, self.options.clone());
        assert_eq!(log.tag(), self.tag);
        for e in log.offsets() {
            let Some(model) = self.epochs.iter_mut().find(|m| m.epoch == e.epoch) else { continue };
            assert!(e.synced >= model.synced, "{e:?} {model:?}");
            assert!(e.committed <= model.committed, "{e:?} {model:?}");
            assert!(
                model.torn || e.synced as usize == model.tags.len(),
                "a kill loses nothing: {e:?} {model:?}"
            );
            model.tags.truncate(e.synced as usize);
            model.synced = e.synced;
            model.committed = e.committed;
        }
        self.epochs.push(EpochModel {
            epoch: log.epoch(),
            tags: Vec::new(),
            synced: 0,
            committed: 0,
            torn: false,
        });
        self.log = Some(log);
    }

    fn append(&mut self, len: usize, synced: bool) {
        let payload = payload(self.next, len);
        let result =
            if synced { self.log().append_blocking(&payload) } else { self.log().append(&payload) };
        match result {
            Ok(position) => {
                let tag = self.next;
                let model = self.epochs.last_mut().expect("current");
                model.tags.push(tag);
                assert_eq!((position.epoch, position.seq), (model.epoch, model.tags.len() as u64));
                if synced {
                    model.synced = position.seq;
                }
            }
            Err(Error::Full { .. }) => {}
            Err(other) => panic!("{other}"),
        }
        self.next += 1;
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Append { len } => self.append(*len, false),
            Step::AppendSynced { len } => self.append(*len, true),
            Step::Sync => {
                self.log().sync().expect("sync");
                let model = self.epochs.last_mut().expect("current");
                model.synced = model.tags.len() as u64;
            }
            Step::Read { count } => self.read(Some(*count)),
            Step::Commit { share } | Step::Accept { share } => {
                let offsets = self.log().offsets();
                let at = offsets[*share as usize % offsets.len()];
                let seq = at.synced * u64::from(*share) / 255;
                if matches!(step, Step::Accept { .. }) {
                    self.log().accept(at.epoch, seq).expect("accept");
                    return;
                }
                self.log().commit(at.epoch, seq).expect("commit");
                let model = self.epochs.iter_mut().find(|m| m.epoch == at.epoch).expect("known");
                model.committed = model.committed.max(seq);
            }
            Step::Tag(tag) => {
                self.log().set_tag(&[*tag]).expect("tag");
                self.tag = vec![*tag];
            }
            Step::Close => {
                self.log().close().expect("close");
                let model = self.epochs.last_mut().expect("current");
                model.synced = model.tags.len() as u64;
                self.log = None;
                self.open();
            }
            Step::Kill | Step::PowerLoss { .. } => {
                self.log = None;
                self.disk = match step {
                    Step::PowerLoss { seed } => self.disk.after_power_loss(*seed),
                    _ => self.disk.after_kill(),
                };
                self.epochs.last_mut().expect("current").torn |=
                    matches!(step, Step::PowerLoss { .. });
                self.open();
            }
        }
    }

    /// Reads from the committed offset: each record in its place, each gap with a reason that holds.
    fn read(&self, count: Option<usize>) {
        let mut reader = self.log().reader();
        let mut expected: BTreeMap<Epoch, u64> =
            self.epochs.iter().map(|m| (m.epoch, m.committed + 1)).collect();
        let (mut dropped, mut order) = (0, 0);
        let mut read = 0;
        while count.is_none_or(|c| read < c) {
            let Some(item) = reader.try_next().expect("readable") else { break };
            read += 1;
            let (epoch, from, to) = match &item {
                Item::Record { position, .. } => (position.epoch, position.seq, position.seq),
                Item::Gap { epoch, from, to, .. } => (*epoch, *from, *to),
            };
            let index = self.epochs.iter().position(|m| m.epoch == epoch).expect("known epoch");
            assert!(index >= order, "epochs come in order");
            order = index;
            let model = &self.epochs[index];
            let next = expected.get_mut(&epoch).expect("known epoch");
            assert_eq!(from, *next, "no hole is left unsaid");
            *next = to + 1;
            match item {
                Item::Record { payload, .. } => {
                    assert_eq!(tag_of(&payload), model.tags[from as usize - 1])
                }
                Item::Gap { reason: GapReason::DroppedAtCap, .. } => {
                    assert_eq!(self.options.at_cap, AtCap::DropOldest);
                    dropped += to - from + 1;
                }
                Item::Gap { reason: GapReason::Corrupt, .. } => {
                    assert!(model.torn, "{model:?} lost {from}-{to}")
                }
            }
        }
        assert!(dropped <= self.log().stats().dropped_records);
        if count.is_none() {
            let offsets = self.log().offsets();
            for at in offsets.iter().filter(|o| o.committed < o.synced) {
                assert_eq!(expected[&at.epoch], at.synced + 1, "all is read");
            }
        }
    }
}

fn run(steps: &[Step], options: Options) {
    let mut model = Model::new(options);
    for step in steps {
        model.apply(step);
        let used = model.log().stats().disk_bytes;
        assert!(used <= model.options.max_bytes, "{used} {:?}", model.log().offsets());
    }
    model.read(None);
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: (harness::seeds(4) * 16) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn without_a_cap_in_reach_nothing_is_missing(steps in steps()) {
        run(&steps, Options { max_bytes: 64 << 20, ..options() });
    }

    #[test]
    fn at_a_cap_that_drops_every_missing_record_is_told(steps in steps()) {
        run(&steps, Options { max_bytes: 48 << 10, ..options() });
    }

    #[test]
    fn at_a_cap_that_refuses_nothing_is_missing(steps in steps()) {
        run(&steps, Options { max_bytes: 48 << 10, at_cap: AtCap::Refuse, ..options() });
    }
}
