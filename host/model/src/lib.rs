//! Ids, series, the columnar batch and its encoding, rules, alerts. No I/O, no async.
