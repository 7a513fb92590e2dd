//! Series as `promtool` writes them.

use std::collections::BTreeMap;

use crate::random::Random;

/// Distance of samples, in milliseconds.
const APART_MS: i64 = 20_000;
/// Samples of each series.
const COUNT: usize = 40;

pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) labels: BTreeMap<&'static str, String>,
    values: Vec<Option<f64>>,
}

impl Series {
    pub(crate) fn samples(&self) -> Vec<(i64, f64)> {
        let values = self.values.iter().enumerate();
        values.filter_map(|(at, value)| Some((at as i64 * APART_MS, (*value)?))).collect()
    }

    pub(crate) fn selector(&self) -> String {
        let labels: Vec<_> =
            self.labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        format!("{}{{{}}}", self.name, labels.join(","))
    }

    pub(crate) fn values(&self) -> String {
        let text = |value: &Option<f64>| match value {
            None => "_".to_owned(),
            Some(value) if value.is_infinite() && *value > 0.0 => "Inf".to_owned(),
            Some(value) => value.to_string(),
        };
        self.values.iter().map(text).collect::<Vec<_>>().join(" ")
    }
}

/// Gauges `m` and `n`, counters `c_total` and `d_total`, histograms `h_bucket`, of a few jobs and
/// instances; with gaps, resets, NaN and infinities, and series that begin late or end early.
pub(crate) fn world(random: &mut Random) -> Vec<Series> {
    let mut world = Vec::new();
    for name in ["m", "n", "c_total", "d_total"] {
        for (job, instance) in [("a", "1"), ("a", "2"), ("b", "1"), ("b", "3")] {
            if random.one_in(6) {
                continue;
            }
            let labels =
                BTreeMap::from([("job", job.to_owned()), ("instance", instance.to_owned())]);
            let values = values(random, name.ends_with("_total"));
            world.push(Series { name, labels, values });
        }
    }
    for job in ["a", "b"] {
        let observed: Vec<[f64; 3]> = (0..COUNT)
            .scan([0.0; 3], |total, _| {
                for count in total.iter_mut() {
                    *count += random.below(4) as f64;
                }
                Some(*total)
            })
            .collect();
        for (at, le) in ["0.1", "1", "+Inf"].into_iter().enumerate() {
            let labels = BTreeMap::from([("job", job.to_owned()), ("le", le.to_owned())]);
            let values = observed.iter().map(|t| Some(t[..=at].iter().sum())).collect();
            world.push(Series { name: "h_bucket", labels, values });
        }
    }
    world
}

fn values(random: &mut Random, is_counter: bool) -> Vec<Option<f64>> {
    let (start, end) = (random.below(6) as usize, COUNT - random.below(25) as usize);
    let gaps = random.of(&[0, 3, 10]);
    let mut last = random.below(20) as f64;
    let mut value = |random: &mut Random| {
        last = match is_counter {
            true if random.one_in(12) => random.below(3) as f64,
            true => last + random.below(7) as f64,
            false if random.one_in(60) => random.of(&[f64::NAN, f64::INFINITY, 1e300, 1e-300]),
            false => random.below(21) as f64 - 5.0,
        };
        last
    };
    let there = |at: usize| (start..end).contains(&at);
    (0..COUNT)
        .map(|at| {
            let value = value(random);
            (there(at) && (gaps == 0 || !random.one_in(gaps))).then_some(value)
        })
        .collect()
}
