//! Random conditions of sentinel/alert-dsl, each kind that it has.

use crate::random::Random;
use serde_json::{Value, json};

const COMBINE: [&str; 5] = ["sum", "avg", "min", "max", "count"];
const COMPARISONS: [&str; 6] = ["above", "at_least", "below", "at_most", "equals", "not_equals"];
const WINDOWS: [&str; 6] = ["5s", "20s", "1m", "100s", "2m", "5m"];

/// The condition of a rule.
pub(crate) fn condition(random: &mut Random) -> Value {
    node(random, 3)
}

fn node(random: &mut Random, depth: u32) -> Value {
    if depth == 0 {
        return threshold(random);
    }
    match random.below(12) {
        0 | 1 => json!({ "all": [node(random, depth - 1), node(random, depth - 1)] }),
        2 => json!({ "any": [node(random, depth - 1), node(random, depth - 1)] }),
        3 => json!({ "not": threshold(random) }),
        4 => absent(random),
        5 | 6 => json!({ "holds": compared(random, 2) }),
        7 => json!({ "holds": rows(random, 2) }),
        8 => compared(random, 2),
        _ => threshold(random),
    }
}

fn threshold(random: &mut Random) -> Value {
    let mut whole = measure(random);
    if random.one_in(2) {
        whole["by"] = keys(random);
        whole["combine"] = json!(random.of(&COMBINE));
        if random.one_in(3) {
            let mut divisor = measure(random);
            divisor["combine"] = json!(random.of(&COMBINE));
            whole["divided_by"] = divisor;
        }
    }
    let limit = random.of(&[0.0, 1.0, 2.5, 4.0, -1.0, 1e6]);
    whole[random.of(&COMPARISONS)] = json!(limit);
    whole
}

fn absent(random: &mut Random) -> Value {
    let metric = random.of(&["m", "n", "c_total", "nothing"]);
    let mut missed = json!({ "metric": metric, "window": random.of(&["5s", "20s", "1m"]) });
    if random.one_in(2) {
        missed["by"] = keys(random);
        missed["seen_within"] = json!(random.of(&["2m", "5m"]));
    } else {
        missed["match"] = json!({ "agent": random.of(&["a", "b", "c"]) });
    }
    json!({ "absent": missed })
}

/// Rows of one side that hold against the other.
fn compared(random: &mut Random, depth: u32) -> Value {
    let word = random.of(&COMPARISONS);
    let mut whole = json!({ "value": rows(random, depth) });
    whole[word] = match random.below(3) {
        0 => rows(random, depth - 1),
        1 => json!("now"),
        _ => json!(random.of(&[0.0, 0.5, 3.0, 1e3])),
    };
    if random.one_in(5) {
        whole["bool"] = json!(true);
    }
    whole
}

fn rows(random: &mut Random, depth: u32) -> Value {
    if depth == 0 {
        return leaf(random);
    }
    match random.below(9) {
        0 | 1 => {
            let word = random.of(&["add", "sub", "mul", "div", "mod", "pow"]);
            json!({ word: [rows(random, depth - 1), rows(random, depth - 1)] })
        }
        2 => {
            let word = random.of(&["add", "div"]);
            let one = json!({ "of": leaf(random), "by": ["agent"], "combine": "max" });
            json!({ word: [leaf(random), one], "on": ["agent"], "many": "left" })
        }
        3 => {
            let word = random.of(&["and", "or", "unless"]);
            let mut whole = json!({ word: [rows(random, depth - 1), rows(random, depth - 1)] });
            if random.one_in(2) {
                whole["on"] = json!(["agent"]);
            }
            whole
        }
        4 => {
            let labels = random.of(&["by", "without"]);
            let of = rows(random, depth - 1);
            json!({ "of": of, labels: keys(random), "combine": random.of(&COMBINE) })
        }
        5 => {
            let apply = random.of(&["abs", "ceil", "round", "sqrt", "ln", "sign", "negate"]);
            json!({ "of": rows(random, depth - 1), "apply": apply })
        }
        6 => json!({
            "of": { "metric": "h_bucket", "fn": "increase", "window": random.of(&WINDOWS),
                "by": ["agent", "le"], "combine": "sum" },
            "histogram_quantile": random.of(&[0.5, 0.9, 1.0]),
        }),
        _ => leaf(random),
    }
}

fn leaf(random: &mut Random) -> Value {
    match random.below(10) {
        0 => json!({ "vector": random.of(&[1.0, 3.0]) }),
        1 => json!({ "vector": "now" }),
        _ => {
            let mut measured = measure(random);
            if random.one_in(8) {
                measured["closed"] = json!(true);
            }
            if random.one_in(3) {
                measured["by"] = keys(random);
                measured["combine"] = json!(random.of(&COMBINE));
            }
            measured
        }
    }
}

fn measure(random: &mut Random) -> Value {
    let metric = random.of(&["m", "m", "n", "c_total", "h_bucket"]);
    let mut measured = json!({ "metric": metric });
    if random.one_in(3) {
        let value = match random.below(4) {
            0 => json!({ "regex": "a|c" }),
            1 => json!({ "not": "a" }),
            2 => json!({ "not_regex": "b.*" }),
            _ => json!(random.of(&["a", "b"])),
        };
        measured["match"] = json!({ "agent": value });
    }
    if !random.one_in(4) {
        measured["fn"] = function(random);
        measured["window"] = json!(random.of(&WINDOWS));
    }
    if random.one_in(4) {
        measured["offset"] = json!(random.of(&["3s", "30s", "1m"]));
    }
    measured
}

fn function(random: &mut Random) -> Value {
    match random.below(20) {
        0 => json!({ "quantile": random.of(&[0.0, 0.3, 0.5, 0.9, 1.0]) }),
        1 => json!({ "predict": random.of(&["0s", "5m"]) }),
        at => {
            let words = [
                "last",
                "avg",
                "min",
                "max",
                "sum",
                "count",
                "increase",
                "rate",
                "extrapolated_increase",
                "extrapolated_rate",
                "delta",
                "instant_rate",
                "instant_delta",
                "slope",
                "changes",
                "resets",
                "stddev",
                "stdvar",
            ];
            json!(words[at as usize - 2])
        }
    }
}

fn keys(random: &mut Random) -> Value {
    match random.below(4) {
        0 => json!([]),
        1 => json!(["agent", "disk"]),
        2 => json!(["none"]),
        _ => json!(["agent"]),
    }
}
