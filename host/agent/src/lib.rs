//! Composition root: slots, composer, log, exporter.
