//! Pure state machines: alert life cycle, grouping, notification retry. No clock, no I/O.
