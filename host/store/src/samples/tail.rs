//! The tail: what is committed and not packed yet, decoded in memory.
//!
//! Batches stand as they came, grouped by the [`Shape`] they share, so that taking one in
//! costs a copy of its values, and a question finds the position of a series once a group.
//! Beyond a bound the columns of the oldest batches are dropped; they are read again from
//! the database where a question touches them.
//!
//! Agents that have a series in common form one *unit*: units are packed as a whole and in
//! order of commits, so that a sample in the tail is always newer than one in a chunk.

mod order;

use hashbrown::HashMap;
use sentinel_model::ids::AgentId;
use std::sync::{Arc, OnceLock};

/// The series of a batch's rows, in order.
pub(crate) struct Shape {
    pub(crate) ids: Box<[u32]>,
    /// The ids as a stored batch has them.
    pub(crate) encoded: Vec<u8>,
    /// Its row, where an engine keeps shapes as rows.
    pub(crate) row: OnceLock<i64>,
    sorted: OnceLock<Box<[(u32, u32)]>>,
    min: u32,
    max: u32,
}

impl Shape {
    pub(crate) fn new(ids: Vec<u32>) -> Arc<Self> {
        let encoded = crate::format::batch::encode_ids(&ids);
        let (min, max) = ids.iter().fold((u32::MAX, 0), |(a, b), &i| (a.min(i), b.max(i)));
        let (row, sorted) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { ids: ids.into(), encoded, row, sorted, min, max })
    }

    /// Series and row, in order of series, then of rows.
    pub(crate) fn sorted(&self) -> &[(u32, u32)] {
        self.sorted.get_or_init(|| {
            let mut all: Vec<_> = (0u32..).zip(&self.ids[..]).map(|(row, &id)| (id, row)).collect();
            all.sort_unstable();
            all.into()
        })
    }
}

/// The times of a batch's rows.
pub(crate) enum Times {
    /// All rows have the same.
    One(i64),
    /// One a row.
    Many(Box<[i64]>),
}

impl Times {
    pub(crate) fn new(times: &[i64]) -> Self {
        match times {
            [first, rest @ ..] if rest.iter().all(|t| t == first) => Self::One(*first),
            _ => Self::Many(times.into()),
        }
    }

    pub(crate) fn at(&self, row: usize) -> i64 {
        match self {
            Self::One(time) => *time,
            Self::Many(times) => times[row],
        }
    }

    /// First and last.
    pub(crate) fn span(&self) -> (i64, i64) {
        match self {
            Self::One(time) => (*time, *time),
            Self::Many(times) => {
                times.iter().fold((i64::MAX, i64::MIN), |(a, b), &t| (a.min(t), b.max(t)))
            }
        }
    }
}

/// A batch's columns without its series.
pub(crate) struct Decoded {
    pub(crate) times: Times,
    pub(crate) values: Box<[f64]>,
}

/// One batch of the tail.
#[derive(Clone)]
pub(crate) struct Entry {
    /// Its row in `batches`; grows in order of commits.
    pub(crate) id: i64,
    pub(crate) stream: i64,
    pub(crate) committed_at: i64,
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) shape: Arc<Shape>,
    /// None where it was dropped for the bound.
    pub(crate) data: Option<Arc<Decoded>>,
}

impl Entry {
    pub(crate) fn new(
        id: i64,
        stream: i64,
        committed_at: i64,
        shape: Arc<Shape>,
        data: Decoded,
    ) -> Self {
        let (first, last) = data.times.span();
        Self { id, stream, committed_at, first, last, shape, data: Some(Arc::new(data)) }
    }

    fn rows(&self) -> usize {
        self.shape.ids.len()
    }
}

struct Group {
    shape: Arc<Shape>,
    /// In order of ids.
    entries: Vec<Entry>,
}

#[derive(Default)]
struct AgentTail {
    groups: Vec<Group>,
    /// Of its batches up to this one some are, or were, packed.
    packed: i64,
}

/// A sample on its way out: time, order of commits, value.
pub(crate) type Ranked = (i64, u64, f64);

/// Orders samples of one time: the one committed last has the highest. Rows of a batch are
/// fewer than 2^14.
pub(crate) fn rank(batch: i64, row: usize) -> u64 {
    (batch as u64) << 14 | row as u64
}

/// The agents that are packed together.
pub(crate) struct Unit(Vec<u32>);

/// All of it.
pub(crate) struct Tail {
    numbers: HashMap<AgentId, u32>,
    agents: Vec<AgentTail>,
    /// By agent: the unit it is in, named by one of its agents; followed until it is its own.
    units: Vec<u32>,
    /// By series: the agent (plus one) that sent it first.
    owners: Vec<u32>,
    samples: usize,
    decoded: usize,
    bound: usize,
}

impl Tail {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            numbers: HashMap::new(),
            agents: Vec::new(),
            units: Vec::new(),
            owners: Vec::new(),
            samples: 0,
            decoded: 0,
            bound,
        }
    }

    /// Samples not packed yet.
    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    fn number(&mut self, agent: &AgentId) -> u32 {
        if let Some(&number) = self.numbers.get(agent) {
            return number;
        }
        let number = self.agents.len() as u32;
        self.agents.push(AgentTail::default());
        self.units.push(number);
        self.numbers.insert(agent.clone(), number);
        number
    }

    /// Takes in a committed batch.
    pub(crate) fn push(&mut self, agent: &AgentId, entry: Entry) {
        let number = self.number(agent);
        self.insert(number, entry);
        if self.decoded > self.bound {
            self.evict();
        }
    }

    fn insert(&mut self, number: u32, mut entry: Entry) {
        self.samples += entry.rows();
        self.decoded += if entry.data.is_some() { entry.rows() } else { 0 };
        let groups = &mut self.agents[number as usize].groups;
        let same =
            |g: &&mut Group| Arc::ptr_eq(&g.shape, &entry.shape) || g.shape.ids == entry.shape.ids;
        if let Some(group) = groups.iter_mut().rev().find(same) {
            entry.shape = Arc::clone(&group.shape);
            let at = group.entries.partition_point(|e| e.id < entry.id);
            group.entries.insert(at, entry);
            return;
        }
        let shape = Arc::clone(&entry.shape);
        self.own(number, &shape);
        self.agents[number as usize].groups.push(Group { shape, entries: vec![entry] });
    }

    fn own(&mut self, number: u32, shape: &Shape) {
        if self.owners.len() <= shape.max as usize {
            self.owners.resize(shape.max as usize + 1, 0);
        }
        for &id in &shape.ids {
            let owner = std::mem::replace(&mut self.owners[id as usize], number + 1);
            if owner != 0 && owner != number + 1 {
                let (a, b) = (self.unit(owner - 1), self.unit(number));
                self.units[a as usize] = b;
            }
        }
    }

    fn unit(&self, mut number: u32) -> u32 {
        while self.units[number as usize] != number {
            number = self.units[number as usize];
        }
        number
    }

    /// Drops columns of the oldest batches until a tenth of the bound is free.
    fn evict(&mut self) {
        let mut entries: Vec<&mut Entry> = self
            .agents
            .iter_mut()
            .flat_map(|a| &mut a.groups)
            .flat_map(|g| &mut g.entries)
            .filter(|e| e.data.is_some())
            .collect();
        entries.sort_unstable_by_key(|e| e.id);
        for entry in entries {
            if self.decoded <= self.bound - self.bound / 10 {
                break;
            }
            self.decoded -= entry.rows();
            entry.data = None;
        }
    }

    /// The samples of series (ascending, each once) in `start < time <= end`, as they come,
    /// and the batches whose columns have to be read from the database first.
    pub(crate) fn collect(
        &self,
        series: &[u32],
        start: i64,
        end: i64,
    ) -> (Vec<Vec<Ranked>>, Vec<Entry>) {
        let mut out = vec![Vec::new(); series.len()];
        let mut absent = Vec::new();
        for group in self.agents.iter().flat_map(|a| &a.groups) {
            let places = places(&group.shape, series);
            if places.is_empty() {
                continue;
            }
            for entry in group.entries.iter().filter(|e| e.last > start && e.first <= end) {
                match &entry.data {
                    Some(data) => take(entry.id, data, &places, start, end, &mut out),
                    None => absent.push(entry.clone()),
                }
            }
        }
        (out, absent)
    }

    /// Takes out of `series` (ascending) those that have a sample here.
    pub(crate) fn take_present(&self, series: &mut Vec<u32>) {
        let mut present = vec![false; series.len()];
        for group in self.agents.iter().flat_map(|a| &a.groups) {
            places(&group.shape, series).iter().for_each(|place| present[place.0] = true);
        }
        let mut present = present.iter();
        series.retain(|_| present.next() == Some(&false));
    }

    /// Whether a batch of a stream is here.
    pub(crate) fn has_stream(&self, stream: i64) -> bool {
        let groups = self.agents.iter().flat_map(|a| &a.groups);
        groups.flat_map(|g| &g.entries).any(|entry| entry.stream == stream)
    }

    /// Units that have a batch which was committed before `cutoff`.
    pub(crate) fn due(&self, cutoff: i64) -> Vec<Unit> {
        let mut units: HashMap<u32, (bool, Vec<u32>)> = HashMap::new();
        for (number, agent) in (0u32..).zip(&self.agents) {
            let mut entries = agent.groups.iter().flat_map(|g| &g.entries);
            let due = entries.any(|e| e.committed_at < cutoff);
            let unit = units.entry(self.unit(number)).or_default();
            unit.0 |= due;
            unit.1.push(number);
        }
        let mut due: Vec<Vec<u32>> = units.into_values().filter(|u| u.0).map(|u| u.1).collect();
        due.sort_unstable();
        due.into_iter().map(Unit).collect()
    }

    /// Batches of a unit, in order of commits.
    pub(crate) fn batches(&self, unit: &Unit) -> Vec<Entry> {
        let agents = unit.0.iter().map(|&n| &self.agents[n as usize]);
        let groups = agents.flat_map(|a| &a.groups);
        let mut entries: Vec<Entry> = groups.flat_map(|g| &g.entries).cloned().collect();
        entries.sort_unstable_by_key(|e| e.id);
        entries
    }

    /// Takes out batches that are packed, and puts in what is left of those packed in part.
    pub(crate) fn replace(&mut self, unit: &Unit, gone: &[i64], rest: Vec<Entry>) {
        let (mut samples, mut decoded) = (0, 0);
        let mut home: HashMap<i64, u32> = HashMap::new();
        for &number in &unit.0 {
            let groups = &mut self.agents[number as usize].groups;
            for group in groups.iter_mut() {
                group.entries.retain(|entry| {
                    let is_gone = gone.binary_search(&entry.id).is_ok();
                    if is_gone {
                        samples += entry.rows();
                        decoded += if entry.data.is_some() { entry.rows() } else { 0 };
                        home.insert(entry.id, number);
                    }
                    !is_gone
                });
            }
            groups.retain(|g| !g.entries.is_empty());
        }
        for (&id, &number) in &home {
            self.agents[number as usize].break_at(id);
        }
        self.samples -= samples;
        self.decoded -= decoded;
        for entry in rest {
            if let Some(&number) = home.get(&entry.id) {
                self.insert(number, entry);
            }
        }
    }
}

/// Where series stand in a shape: index into `series`, row.
pub(crate) fn places(shape: &Shape, series: &[u32]) -> Vec<(usize, u32)> {
    let from = series.partition_point(|&id| id < shape.min);
    let to = series.partition_point(|&id| id <= shape.max);
    let mut out = Vec::new();
    let sorted = if from < to { shape.sorted() } else { &[] };
    for (i, &id) in series.iter().enumerate().take(to).skip(from) {
        let at = sorted.partition_point(|p| p.0 < id);
        out.extend(sorted[at..].iter().take_while(|p| p.0 == id).map(|p| (i, p.1)));
    }
    out
}

/// Takes the samples at places out of one batch.
pub(crate) fn take(
    batch: i64,
    data: &Decoded,
    places: &[(usize, u32)],
    start: i64,
    end: i64,
    out: &mut [Vec<Ranked>],
) {
    for &(i, row) in places {
        let time = data.times.at(row as usize);
        if time > start && time <= end {
            let row = row as usize;
            out[i].push((time, rank(batch, row), data.values[row]));
        }
    }
}

/// Sorts samples by time and keeps the one committed last of each time.
pub(crate) fn settle(samples: &mut Vec<Ranked>) {
    let settled = samples.windows(2).all(|w| w[0].0 < w[1].0);
    if settled {
        return;
    }
    samples.sort_unstable_by_key(|s| (s.0, s.1));
    // `dedup_by` removes its first argument, the later one, so the order is turned around.
    samples.reverse();
    samples.dedup_by_key(|s| s.0);
    samples.reverse();
}
