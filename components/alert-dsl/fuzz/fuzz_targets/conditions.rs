//! Arbitrary text as a condition: never a panic; what is refused is refused with a reason, and
//! what passes the check can be loaded and evaluated.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugin_alert_dsl::{AlertDsl, Config};
use sentinel_sdk::testing::Host;
use sentinel_sdk::{Condition, Evaluator, Severity};

const MINUTE: i64 = 60_000;

fuzz_target!(|text: &str| {
    let mut dsl = AlertDsl::configure(Config { max_instances: 100 }).expect("within its bounds");
    let condition = Condition { rule: "r".to_owned(), text: text.to_owned() };
    match dsl.check(text) {
        Err(problems) => {
            assert!(problems.iter().any(|problem| problem.severity == Severity::Error));
            assert!(problems.iter().all(|problem| !problem.message.is_empty()));
            assert!(dsl.load(vec![condition]).is_err(), "refused, and loaded all the same");
        }
        Ok(plan) => {
            assert!(!plan.needs.is_empty(), "a condition about nothing");
            let labels = [("a", "x"), ("mode", "idle")];
            let samples = [(MINUTE, 1.0), (2 * MINUTE, f64::NAN), (3 * MINUTE, 7.0)];
            let mut host = Host::new().at(4 * MINUTE);
            for need in &plan.needs {
                host = host.series(&need.selector.name, &labels, &samples);
            }
            let _host = host.install();
            assert_eq!(dsl.load(vec![condition]), Ok(()), "passed the check, and not loaded");
            assert_eq!(dsl.evaluate(&[0], 4 * MINUTE).len(), 1);
        }
    }
});
