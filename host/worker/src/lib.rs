//! Composition root: consume, transform, commit, evaluate, notify.
