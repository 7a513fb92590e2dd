//! Whole-system tests: real processes, real services.
