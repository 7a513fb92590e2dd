//! Making and checking the stream by hand.

use super::stream::{Mark, differences, stream_name, updated, wanted};
use super::{JetStreamBus, JetStreamOptions, failed, whole};
use crate::{BusError, Incarnation};

/// A stream as [`set_up`] found and left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReport {
    /// Its name at NATS.
    pub stream: String,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its partitions.
    pub partitions: u16,
    /// Messages that wait in it.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was, or with `check` is, not as the options say: one line for each.
    pub differences: Vec<String>,
    /// Why the number of partitions is not that of the options, if it is not.
    pub partitions_differ: Option<String>,
}

/// Makes the stream where it is missing, and gives it the bounds, the replicas and the duplicates window of the options.
/// With `check` nothing of a stream that there is is changed.
///
/// # Errors
/// As [`JetStreamBus::connect`]; [`BusError::Failed`] where NATS does not take the change.
pub async fn set_up(options: JetStreamOptions, check: bool) -> Result<StreamReport, BusError> {
    let bus = JetStreamBus::connect(options).await?;
    let shared = &bus.shared;
    let options = &shared.options.stream;
    let found = shared.stream("look at the stream").await?;
    let info = found.ok_or_else(|| failed("look at the stream", "it is gone again"))?;
    let mark = shared.keeper.life().mark;
    let target = wanted(options, Mark::fresh(options));
    let differences = differences(&info.config, &target);
    if !differences.is_empty() && !check {
        let changed = shared.context.update_stream(updated(&info.config, &target)).await;
        changed.map_err(|error| failed("change the stream", whole(&error)))?;
    }
    let partitions_differ = (mark.partitions != options.partitions).then(|| {
        format!(
            "the stream has {} partitions instead of {}, which are fixed when it is made; delete it to change them: agents send again what is not stored",
            mark.partitions, options.partitions
        )
    });
    Ok(StreamReport {
        stream: stream_name(options),
        incarnation: mark.incarnation,
        partitions: mark.partitions,
        messages: info.state.messages,
        bytes: info.state.bytes,
        differences,
        partitions_differ,
    })
}
