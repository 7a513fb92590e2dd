//! A batch as it crosses the boundary: lowered from the host's own columns without copying
//! them first, lifted into columns that the model then checks.

use sentinel_model::batch::Batch;
use sentinel_model::columns::Columns;
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::bindings::sentinel::plugin::types::Failure;

/// Columns that are borrowed from the host.
#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct Lent<'a> {
    symbols: &'a str,
    #[component(name = "symbol-ends")]
    symbol_ends: &'a [u32],
    name: &'a [u32],
    #[component(name = "label-offsets")]
    label_offsets: &'a [u32],
    labels: &'a [u32],
    kind: &'a [u8],
    value: &'a [f64],
    time: &'a [i64],
}

impl<'a> From<&'a Batch> for Lent<'a> {
    fn from(batch: &'a Batch) -> Self {
        Self {
            symbols: &batch.symbols,
            symbol_ends: &batch.symbol_ends,
            name: &batch.name,
            label_offsets: &batch.label_offsets,
            labels: &batch.labels,
            kind: &batch.kind,
            value: &batch.value,
            time: &batch.time,
        }
    }
}

/// Columns that a guest returned, unchecked.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Returned {
    symbols: String,
    #[component(name = "symbol-ends")]
    symbol_ends: Vec<u32>,
    name: Vec<u32>,
    #[component(name = "label-offsets")]
    label_offsets: Vec<u32>,
    labels: Vec<u32>,
    kind: Vec<u8>,
    value: Vec<f64>,
    time: Vec<i64>,
}

impl From<Returned> for Columns {
    fn from(returned: Returned) -> Self {
        Self {
            symbols: returned.symbols,
            symbol_ends: returned.symbol_ends,
            name: returned.name,
            label_offsets: returned.label_offsets,
            labels: returned.labels,
            kind: returned.kind,
            value: returned.value,
            time: returned.time,
        }
    }
}

/// One part of a collection.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Part {
    pub(crate) batch: Returned,
    pub(crate) more: bool,
}

/// Parameters of `collect`.
pub(crate) type CollectParams = ();
/// The result of `collect`.
pub(crate) type CollectResult = (Result<Part, Failure>,);
/// Parameters of `reshape`.
pub(crate) type ReshapeParams<'a> = (Lent<'a>,);
/// The result of `reshape`.
pub(crate) type ReshapeResult = (Result<Returned, Failure>,);
