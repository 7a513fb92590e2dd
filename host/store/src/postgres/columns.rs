//! The columns of a chunk, which SQL can read: numbers as distances from a base in whole steps,
//! as narrow as they fit, where every value is one of those to the last bit; else the values.

use crate::StoreError;
use crate::samples::gather::Encode;

/// What integers are divided by.
const SCALES: [i16; 4] = [1, 10, 100, 1000];
/// Integers up to here are exact in an `f64`, and their differences in an `i64`.
const MAX_INTEGER: f64 = 4.0e15;

/// Values as a chunk has them: `raw`, or (base + step × number) / scale.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) base: i64,
    pub(super) step: i64,
    pub(super) scale: i16,
    pub(super) numbers: Numbers,
}

/// The part of a column that there is one of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Numbers {
    /// All are the base.
    None,
    Small(Vec<i16>),
    Wide(Vec<i32>),
    Raw(Vec<f64>),
}

/// The integer that divided by `scale` is exactly this value.
fn integer(value: f64, scale: f64) -> Option<i64> {
    let scaled = (value * scale).round();
    if scaled.abs() >= MAX_INTEGER || scaled.is_nan() {
        return None;
    }
    let integer = scaled as i64;
    // By way of the integer: -0.0 has none.
    (((integer as f64) / scale).to_bits() == value.to_bits()).then_some(integer)
}

/// The greatest number that divides both.
fn common(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Column {
    pub(super) fn new(values: &[f64], integers: &mut Vec<i64>) -> Self {
        let scale = SCALES.into_iter().find(|&scale| {
            integers.clear();
            let mut all = values.iter().map(|&v| integer(v, f64::from(scale)));
            all.all(|n| n.inspect(|&n| integers.push(n)).is_some())
        });
        let raw = || {
            let numbers = Numbers::Raw(values.to_vec());
            Self { base: 0, step: 1, scale: 1, numbers }
        };
        let Some(scale) = scale else { return raw() };
        let least = integers.iter().copied().min().unwrap_or(0);
        let (mut step, mut most) = (0u64, 0u64);
        for &n in integers.iter() {
            let distance = (n - least) as u64;
            most = most.max(distance);
            if step != 1 {
                step = common(step, distance);
            }
        }
        if step == 0 {
            return Self { base: least, step: 1, scale, numbers: Numbers::None };
        }
        let number = |n: i64| (n - least) / step as i64;
        // The narrow types have a sign: the base lies in the middle of their range.
        let (middle, numbers) = match most / step {
            0..=0xffff => {
                let small = integers.iter().map(|&n| (number(n) - 0x8000) as i16);
                (0x8000, Numbers::Small(small.collect()))
            }
            0x1_0000..=0xffff_ffff => {
                let wide = integers.iter().map(|&n| (number(n) - 0x8000_0000) as i32);
                (0x8000_0000, Numbers::Wide(wide.collect()))
            }
            _ => return raw(),
        };
        match (step as i64).checked_mul(middle).and_then(|m| least.checked_add(m)) {
            Some(base) => Self { base, step: step as i64, scale, numbers },
            None => raw(),
        }
    }

    /// The values again.
    pub(super) fn values(&self, count: usize) -> Result<Vec<f64>, StoreError> {
        let scale = f64::from(self.scale);
        let value = |n: i64| self.base.wrapping_add(self.step.wrapping_mul(n)) as f64 / scale;
        let values: Vec<f64> = match &self.numbers {
            Numbers::None => vec![value(0); count],
            Numbers::Small(numbers) => numbers.iter().map(|&n| value(n.into())).collect(),
            Numbers::Wide(numbers) => numbers.iter().map(|&n| value(n.into())).collect(),
            Numbers::Raw(values) => values.clone(),
        };
        if values.len() != count {
            let what = format!("a chunk has {} values for {count} times", values.len());
            return Err(StoreError::Damaged { what });
        }
        Ok(values)
    }
}

/// Columns as PostgreSQL keeps them.
#[derive(Default)]
pub(super) struct Arrays {
    integers: Vec<i64>,
}

impl Encode for Arrays {
    type Times = Vec<i64>;
    type Values = Column;

    fn times(&mut self, times: &[i64]) -> Vec<i64> {
        times.to_vec()
    }

    fn values(&mut self, values: &[f64]) -> Column {
        Column::new(values, &mut self.integers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_are_as_narrow_as_their_values_allow() {
        let column = |values: &[f64]| Column::new(values, &mut Vec::new());
        for (values, expected) in [
            (vec![2.5, 2.5], "none"),
            (vec![1e12, 1e12 + 4096.0 * 65_535.0], "small"),
            (vec![0.01, 99.99], "small"),
            (vec![0.0, 65_535.0, 1.0], "small"),
            (vec![0.0, 65_536.0, 1.0], "wide"),
            (vec![-4e9, 1.0, 2.0e8], "wide"),
            (vec![-4e9, 1.0, 4.0e9], "raw"),
            (vec![0.1 + 0.2, 1.0], "raw"),
            (vec![-0.0, 1.0], "raw"),
            (vec![f64::NAN, f64::NAN], "raw"),
        ] {
            let found = match column(&values).numbers {
                Numbers::None => "none",
                Numbers::Small(_) => "small",
                Numbers::Wide(_) => "wide",
                Numbers::Raw(_) => "raw",
            };
            assert_eq!(found, expected, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn every_bit_comes_back(values in proptest::collection::vec(prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (-5_000_000_000i64..5_000_000_000, 0usize..4)
                .prop_map(|(n, s)| n as f64 / f64::from(SCALES[s])),
            (any::<i64>(), 0u32..60).prop_map(|(n, s)| (n >> s) as f64),
            (0i64..9).prop_map(|n| n as f64 * 4096.0),
        ], 1..40)) {
            let column = Column::new(&values, &mut Vec::new());
            let found = column.values(values.len()).unwrap();
            let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&found), bits(&values));
            prop_assert!(column.values(values.len() + 1).is_err() == (column.numbers != Numbers::None));
        }
    }
}
