//! Arbitrary text as an expression of Prometheus, and as words with `{{ ... }}`: never a panic;
//! what has no counterpart is refused at a place with a reason. What is translated the evaluator
//! takes, but for what is no expression of Prometheus either, and it is never too large for it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugin_alert_dsl::{AlertDsl, Config};
use sentinel_promql::{Obstacle, condition, template};
use sentinel_sdk::Evaluator;

fn told(text: &str, obstacles: &[Obstacle]) {
    assert!(!obstacles.is_empty(), "refused without a reason");
    for one in obstacles {
        assert!(text.is_char_boundary(one.at) && !one.message.is_empty(), "{one:?}");
    }
}

fuzz_target!(|text: &str| {
    if let Err(obstacles) = template(text) {
        told(text, &obstacles);
    }
    match condition(text) {
        Err(obstacles) => told(text, &obstacles),
        Ok(condition) => {
            let mut dsl = AlertDsl::configure(Config { max_instances: 100 }).expect("in bounds");
            let condition = condition.to_string();
            let Err(said) = dsl.check(&condition) else { return };
            assert!(!said.is_empty() && said.iter().all(|one| !one.message.is_empty()));
            let sized = |message: &str| {
                ["nested deeper", "at most 100"].iter().any(|w| message.contains(w))
            };
            assert!(!said.iter().any(|one| sized(&one.message)), "{condition}\n{said:?}");
        }
    }
});
