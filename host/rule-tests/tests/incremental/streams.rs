//! Random series as they come in: with gaps, resets, NaN, infinities, huge and tiny values, late,
//! twice, too early; they begin late, are silent for a while, and end.

use crate::random::Random;
use sentinel_model::series::SeriesKey;

/// How long they last, in milliseconds.
pub(crate) const LASTS_MS: i64 = 700_000;

/// A sample, and when it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) comes: i64,
    pub(crate) series: usize,
    pub(crate) time: i64,
    pub(crate) value: f64,
}

/// The series, and their samples in the order in which they come.
pub(crate) struct Streams {
    pub(crate) keys: Vec<SeriesKey>,
    pub(crate) arrivals: Vec<Arrival>,
}

/// A few series with many samples, or many with few.
pub(crate) fn streams(random: &mut Random, is_dense: bool) -> Streams {
    let (mut keys, mut arrivals) = (Vec::new(), Vec::new());
    let apart = if is_dense { 150 } else { 10_000 };
    for name in ["m", "n", "c_total", "h_bucket"] {
        for (agent, disk) in [("a", ""), ("a", "x"), ("b", "x"), ("b", "y"), ("c", "")] {
            if random.one_in(if is_dense { 2 } else { 5 }) || is_dense && keys.len() >= 6 {
                continue;
            }
            let bounds: &[&str] = if name == "h_bucket" { &["0.1", "1", "+Inf"] } else { &[""] };
            for le in bounds {
                let labels = [("agent", agent), ("disk", disk), ("le", le)];
                let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
                let series = keys.len();
                keys.push(SeriesKey { name: name.to_owned(), labels: labels.collect() });
                let is_counter = name != "m" && name != "n";
                samples(random, series, is_counter, apart, &mut arrivals);
            }
        }
    }
    arrivals.sort_by_key(|one| one.comes);
    Streams { keys, arrivals }
}

fn samples(
    random: &mut Random,
    series: usize,
    is_counter: bool,
    apart: i64,
    into: &mut Vec<Arrival>,
) {
    let begins = random.of(&[0, 0, 90_000, 400_000]);
    let ends = random.of(&[LASTS_MS, LASTS_MS, LASTS_MS, 300_000]);
    let silent = random.of(&[LASTS_MS, 250_000, 450_000]);
    let silence = random.of(&[15_000, 90_000, 330_000]);
    let gaps = random.of(&[0, 4, 20]);
    let mut last = random.below(10) as f64;
    let mut time = begins + random.below(apart as u64) as i64;
    while time < ends {
        last = match is_counter {
            true if random.one_in(15) => random.below(3) as f64,
            true => last + random.below(5) as f64,
            false => random.below(10) as f64 - 3.0,
        };
        let value = match random.below(90) {
            0 => f64::NAN,
            1 if !is_counter => f64::INFINITY,
            2 if !is_counter => f64::NEG_INFINITY,
            3 => 1e300,
            4 => 1e-300,
            _ => last,
        };
        let is_silent = (silent..silent + silence).contains(&time);
        if !is_silent && (gaps == 0 || !random.one_in(gaps)) {
            let late = match random.below(12) {
                0 => random.below(40_000) as i64,
                1 => -(random.below(3_000) as i64),
                _ => random.below(300) as i64,
            };
            into.push(Arrival { comes: time + late, series, time, value });
            if random.one_in(40) {
                into.push(Arrival { comes: time + late + 5_000, series, time, value: value + 1.0 });
            }
        }
        time += apart;
    }
}
