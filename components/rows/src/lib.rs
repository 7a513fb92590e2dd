//! The first-party plugin sentinel/rows.
