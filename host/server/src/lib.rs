//! Composition root: gRPC ingest, REST, health.
