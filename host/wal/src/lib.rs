//! Append-only segmented log over opaque bytes. Knows nothing of metrics.
