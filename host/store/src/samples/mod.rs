//! What every engine does with samples, without a database: finding a row's series, the tail of
//! batches that are not packed yet, packing them into chunks, and merging both into an answer.

pub(crate) mod buckets;
pub(crate) mod gather;
mod hash;
pub(crate) mod merge;
pub(crate) mod pick;
pub(crate) mod series;
pub(crate) mod shapes;
pub(crate) mod tail;
