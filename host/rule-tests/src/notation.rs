//! Values of a series as people write them, in the notation of promtool.
//!
//! | written | means |
//! |---|---|
//! | `1 2.5 -3` | these values, a step apart |
//! | `_`, `_x3` | no sample; three of them |
//! | `5x3` | 5 and then 5 three times more |
//! | `0+10x3` | `0 10 20 30` |
//! | `9-3x2` | `9 6 3` |
//! | `NaN`, `Inf`, `-Inf` | the numbers that have no digits |
//!
//! A counter that is reset is written by beginning anew: `0+10x5 0+10x5`.

/// The most values of one series.
pub const MAX_VALUES: usize = 86_400;

/// Why a text is no list of values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotationError {
    /// A word is none of the notation.
    #[error(
        "{0:?} is no value: write numbers, `_` for a gap, `5x3` to repeat, `0+10x3` to count up; a series that ends is written with `_`"
    )]
    Word(String),
    /// The series is too long.
    #[error("more than {MAX_VALUES} values: make the step longer, or begin the test later")]
    TooLong,
}

/// The values, a step apart; `None` is a gap.
///
/// # Errors
/// A word that is none of the notation, or too many values.
pub fn values(text: &str) -> Result<Vec<Option<f64>>, NotationError> {
    let mut out = Vec::new();
    for word in text.split_ascii_whitespace() {
        let wrong = || NotationError::Word(word.chars().take(80).collect());
        let (what, times) = match word.rsplit_once('x') {
            Some((what, times)) => (what, Some(times.parse::<usize>().map_err(|_| wrong())?)),
            None => (word, None),
        };
        if times.is_some_and(|times| times >= MAX_VALUES) {
            return Err(NotationError::TooLong);
        }
        if what == "_" {
            out.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
        } else if let Some(one) = number(what) {
            out.extend(std::iter::repeat_n(Some(one), times.unwrap_or(0) + 1));
        } else {
            let (start, by) = slope(what).ok_or_else(wrong)?;
            let times = times.ok_or_else(wrong)?;
            out.extend((0..=times).map(|at| Some(start + by * at as f64)));
        }
        if out.len() > MAX_VALUES {
            return Err(NotationError::TooLong);
        }
    }
    Ok(out)
}

fn number(text: &str) -> Option<f64> {
    // What else the parser of numbers takes for a number (`infinity`) is none of the notation.
    match text {
        "NaN" => Some(f64::NAN),
        "Inf" | "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        digits if digits.contains(|c: char| c.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    }
}

/// `start+by` or `start-by`; the sign of an exponent divides nothing.
fn slope(text: &str) -> Option<(f64, f64)> {
    let divides = |(at, c): &(usize, char)| {
        matches!(c, '+' | '-') && *at > 0 && !text[..*at].ends_with(['e', 'E'])
    };
    let (at, _) = text.char_indices().find(divides)?;
    Some((number(&text[..at])?, number(&text[at..])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_notation_is_that_of_the_table() {
        let n = Some;
        let cases: &[(&str, &[Option<f64>])] = &[
            ("", &[]),
            ("1 2.5 -3", &[n(1.0), n(2.5), n(-3.0)]),
            ("_ _x2 1", &[None, None, None, n(1.0)]),
            ("5x2", &[n(5.0), n(5.0), n(5.0)]),
            ("0+10x3", &[n(0.0), n(10.0), n(20.0), n(30.0)]),
            ("9-3x2", &[n(9.0), n(6.0), n(3.0)]),
            ("-2+1x2", &[n(-2.0), n(-1.0), n(0.0)]),
            ("1e3-1e2x1", &[n(1000.0), n(900.0)]),
            ("1e-1+1x1", &[n(0.1), n(1.1)]),
            ("0+10x1 0+10x1", &[n(0.0), n(10.0), n(0.0), n(10.0)]),
            ("Inf -Inf", &[n(f64::INFINITY), n(f64::NEG_INFINITY)]),
            ("1x0 0+5x0", &[n(1.0), n(0.0)]),
        ];
        for (text, expected) in cases {
            assert_eq!(&values(text).unwrap(), expected, "{text}");
        }
        assert!(values("NaN").unwrap()[0].unwrap().is_nan());
    }

    #[test]
    fn what_is_none_is_refused_and_nothing_grows_without_bound() {
        for text in ["a", "1+", "+1x", "1+2", "x3", "1x-1", "_x", "stale", "infinity", "1+ax3"] {
            assert!(matches!(values(text), Err(NotationError::Word(_))), "{text}");
        }
        for text in ["1x99999999999", "1x86400", "_x86399 1x86399"] {
            assert_eq!(values(text), Err(NotationError::TooLong), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = values(&text);
        }

        #[test]
        fn a_slope_is_what_it_says(start in -1e6f64..1e6, by in 0.0f64..1e6, times in 0usize..50) {
            let found = values(&format!("{start}+{by}x{times} {start}-{by}x{times}")).unwrap();
            prop_assert_eq!(found.len(), 2 * (times + 1));
            for at in 0..=times {
                prop_assert_eq!(found[at], Some(start + by * at as f64));
                prop_assert_eq!(found[times + 1 + at], Some(start + -by * at as f64));
            }
        }
    }
}
