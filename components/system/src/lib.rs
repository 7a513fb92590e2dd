//! The first-party plugin sentinel/system.
