//! Rules whose alerts fire and are over again and again while everything else happens. The waves
//! of the counter (`tests/fixtures/plugins/counter`) are high and low by turns; all rules have the
//! few shapes that the oracle reads.

/// What is asked of the counter besides, in its configuration.
pub const WAVES: &str = "waves: 12";

/// The evaluator, in the part `worker` of a configuration.
pub const EVALUATORS: &str =
    "evaluators: [{slot: alert-dsl, plugin: sentinel/alert-dsl, grants: {series: true}}]";

/// A rule for each way in which alerts come to fire: at once, after a while, by a sum over the
/// series of an agent and over agents, and by a counter that stays above a number. Short windows
/// are empty while nobody commits. Nobody is told: it is what is decided that is judged.
pub const RULES: &str = "version: 1
rules:
  - name: at-once
    interval: 1s
    notify: [nobody]
    condition: {metric: sentinel_test_wave, match: {wave: \"5\"}, window: 1m, above: 0.5}
  - name: held
    interval: 1s
    for: 1s
    notify: [nobody]
    condition: {metric: sentinel_test_wave, match: {wave: \"11\"}, window: 1m, below: 0.5}
  - name: waves-of-an-agent
    interval: 1s
    notify: [nobody]
    condition: {metric: sentinel_test_wave, window: 5s, by: [agent], combine: sum, at_least: 6}
  - name: agents-of-a-wave
    interval: 1s
    notify: [nobody]
    condition: {metric: sentinel_test_wave, window: 3s, by: [wave], combine: sum, at_least: 2}
  - name: counted
    interval: 1s
    for: 2s
    notify: [nobody]
    condition: {metric: sentinel_test_counter, match: {series: \"0\"}, window: 5s, above: 500}
";
