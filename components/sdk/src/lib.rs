//! Write a Sentinel plugin in Rust: traits, macros, row views, test doubles.
