//! Random expressions that Prometheus and the language both have.

use crate::random::Random;

/// The expression of an alert.
pub(crate) fn alert(random: &mut Random) -> String {
    match random.below(10) {
        0 => format!(
            "{} {} {}",
            compared(random, 2),
            random.of(&["and", "unless", "or"]),
            compared(random, 2)
        ),
        1 => {
            let op = random.of(&["and", "unless"]);
            let on = random.of(&["on (job)", "ignoring (instance)", "on ()"]);
            format!("{} {op} {on} {}", compared(random, 1), compared(random, 1))
        }
        2 => format!("absent({}) == 1", selector(random)),
        3 => format!("absent_over_time({}[{}])", selector(random), range(random)),
        4 => rows(random, 3),
        _ => compared(random, 3),
    }
}

fn compared(random: &mut Random, depth: u32) -> String {
    let op = random.of(&[">", ">=", "<", "<=", "==", "!="]);
    if random.one_in(4) {
        return format!("{} {op} {}", rows(random, depth), rows(random, depth));
    }
    let limit = random.of(&["0.5", "3", "-2.5", "1e3", "7", "2 * 2.5"]);
    match random.one_in(5) {
        true => format!("{limit} {op} {}", rows(random, depth)),
        false => format!("{} {op} {limit}", rows(random, depth)),
    }
}

fn rows(random: &mut Random, depth: u32) -> String {
    if depth == 0 {
        return leaf(random);
    }
    match random.below(11) {
        0 | 1 => {
            let op = random.of(&["+", "-", "*", "/", "%"]);
            format!("({} {op} {})", rows(random, depth - 1), rows(random, depth - 1))
        }
        2 => {
            let op = random.of(&["+", "-", "*", "/"]);
            let on = random.of(&[
                "on (job) group_left ()",
                "on (job)",
                "ignoring (instance) group_left",
            ]);
            format!(
                "({} {op} {on} {})",
                rows(random, depth - 1),
                summed(random, depth - 1, "by (job)")
            )
        }
        3 | 4 => {
            let keys = random.of(&[
                "by (job)",
                "by (instance)",
                "without (instance)",
                "without (job)",
                "",
            ]);
            summed(random, depth - 1, keys)
        }
        5 => format!(
            "{}({})",
            random.of(&["abs", "ceil", "floor", "round", "sgn", "-"]),
            rows(random, depth - 1)
        ),
        6 => format!(
            "({} {} bool {})",
            rows(random, depth - 1),
            random.of(&[">", "<=", "!="]),
            random.below(5)
        ),
        7 => format!("({})", compared(random, depth - 1)),
        8 => {
            let rate = format!("rate(h_bucket[{}])", range(random));
            let of = random.of(&["sum by (job, le)", "sum by (le)"]);
            format!("histogram_quantile({}, {of} ({rate}))", random.of(&["0.5", "0.9", "0.99"]))
        }
        _ => leaf(random),
    }
}

fn summed(random: &mut Random, depth: u32, keys: &str) -> String {
    let combine = random.of(&["sum", "avg", "min", "max", "count", "group"]);
    format!("{combine} {keys} ({})", rows(random, depth))
}

fn leaf(random: &mut Random) -> String {
    match random.below(8) {
        0 | 1 => selector(random),
        2 => {
            let of = random.of(&["rate", "increase", "irate", "resets"]);
            let counter = random.of(&["c_total", "d_total", "c_total{job=\"a\"}"]);
            format!("{of}({counter}[{}]{})", range(random), offset(random))
        }
        3 | 4 => {
            let of = random.of(&[
                "min_over_time",
                "max_over_time",
                "count_over_time",
                "last_over_time",
                "sum_over_time",
                "avg_over_time",
                "stddev_over_time",
                "present_over_time",
            ]);
            format!("{of}({}[{}]{})", selector(random), range(random), offset(random))
        }
        5 => {
            let of = random.of(&["delta", "idelta", "changes", "deriv"]);
            format!("{of}({}[{}])", selector(random), range(random))
        }
        6 => format!(
            "predict_linear({}[{}], {})",
            selector(random),
            range(random),
            random.of(&["60", "5 * 60"])
        ),
        _ => random
            .of(&["vector(time() / 60)", "vector(4)", "c_total - c_total offset 1m"])
            .to_owned(),
    }
}

fn selector(random: &mut Random) -> String {
    let name = random.of(&["m", "n", "c_total", "absent_metric"]);
    let matchers = random.of(&[
        "",
        "",
        "{job=\"a\"}",
        "{job!=\"a\"}",
        "{instance=~\"1|2\"}",
        "{instance!~\"[12]\", job=\"b\"}",
        "{none=\"\"}",
    ]);
    format!("{name}{matchers}")
}

fn range(random: &mut Random) -> &'static str {
    random.of(&["20s", "1m", "100s", "2m", "5m"])
}

fn offset(random: &mut Random) -> &'static str {
    random.of(&["", "", "", " offset 1m", " offset 90s"])
}
