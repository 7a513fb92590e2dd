//! The first-party plugin sentinel/alert-dsl.
