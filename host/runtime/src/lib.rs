//! The only crate that knows wasmtime: engine, compile, slots, limits, capabilities, swap.
