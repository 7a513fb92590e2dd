//! The stream as it has to be, and as it is found.
//!
//! It is a work queue: a message leaves with its acknowledgement, so that what the stream holds is what waits, and a bound on
//! it refuses what is new instead of dropping what is old. Its life is marked in its metadata: who makes a stream marks it
//! with a new incarnation, and whoever finds one without a mark takes it for new.

use std::collections::HashMap;

use async_nats::jetstream::consumer::pull::Config as ConsumerConfig;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use sentinel_model::ids::{AgentId, Incarnation};

use super::options::{MAX_PARTITIONS, StreamOptions};
use super::{ACK_WAIT, MAX_WAITING_PULLS};
use crate::{BusError, MAX_UNANSWERED};

/// The keys of the stream's metadata.
const INCARNATION: &str = "sentinel-incarnation";
const PARTITIONS: &str = "sentinel-partitions";

/// What the metadata of a stream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) incarnation: Incarnation,
    pub(super) partitions: u16,
}

impl Mark {
    /// A new life with as many partitions as the options say.
    pub(super) fn fresh(options: &StreamOptions) -> Mark {
        Mark { incarnation: Incarnation::random(), partitions: options.partitions }
    }

    /// `None` where the stream was not made by Sentinel, or its mark is damaged.
    pub(super) fn read(metadata: &HashMap<String, String>) -> Option<Mark> {
        let incarnation = metadata.get(INCARNATION)?.parse().ok()?;
        let partitions = metadata.get(PARTITIONS)?.parse().ok()?;
        (1..=MAX_PARTITIONS).contains(&partitions).then_some(Mark { incarnation, partitions })
    }

    pub(super) fn write(&self, metadata: &mut HashMap<String, String>) {
        metadata.insert(INCARNATION.to_owned(), self.incarnation.to_string());
        metadata.insert(PARTITIONS.to_owned(), self.partitions.to_string());
    }
}

/// The stream's name: the options' with `_` for each dot, which NATS allows in no name.
pub(super) fn stream_name(options: &StreamOptions) -> String {
    options.name.replace('.', "_")
}

/// The stream to be made.
pub(super) fn wanted(options: &StreamOptions, mark: Mark) -> Config {
    let mut metadata = HashMap::new();
    mark.write(&mut metadata);
    Config {
        name: stream_name(options),
        description: Some(
            "Signed records on their way from Sentinel's servers to its workers.".into(),
        ),
        subjects: vec![format!("{}.*", options.name)],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        max_messages: i64::try_from(options.max_messages).unwrap_or(i64::MAX),
        max_bytes: i64::try_from(options.max_bytes).unwrap_or(i64::MAX),
        num_replicas: usize::from(options.replicas),
        duplicate_window: options.duplicate_window,
        metadata,
        ..Config::default()
    }
}

/// What keeps a stream from being used at all: NATS changes none of it in a stream that there is.
///
/// # Errors
/// [`BusError::Failed`] that names it.
pub(super) fn usable(found: &Config, options: &StreamOptions) -> Result<(), BusError> {
    let wanted = wanted(options, Mark::fresh(options));
    let mut wrong = Vec::new();
    if found.retention != wanted.retention {
        wrong.push(format!("its retention is {:?}, not WorkQueue", found.retention));
    }
    if found.subjects != wanted.subjects {
        wrong.push(format!("its subjects are {:?}, not {:?}", found.subjects, wanted.subjects));
    }
    if found.discard != wanted.discard {
        wrong.push("at its bound it drops what is old".to_owned());
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let cause = format!(
        "{}; remove it (agents send again what is not stored), and it is made as it has to be",
        wrong.join(", ")
    );
    Err(BusError::Failed { operation: "use the stream of that name", cause })
}

/// What of a stream is not as the options say, and may be changed: one line for each.
pub(super) fn differences(found: &Config, wanted: &Config) -> Vec<String> {
    let mut said = Vec::new();
    let mut compare = |what: &str, found: &dyn ToString, wanted: &dyn ToString| {
        let (found, wanted) = (found.to_string(), wanted.to_string());
        if found != wanted {
            said.push(format!("{what}: {found} instead of {wanted}"));
        }
    };
    compare("max_messages", &found.max_messages, &wanted.max_messages);
    compare("max_bytes", &found.max_bytes, &wanted.max_bytes);
    compare("replicas", &found.num_replicas, &wanted.num_replicas);
    let seconds = |config: &Config| config.duplicate_window.as_secs();
    compare("duplicate_window in seconds", &seconds(found), &seconds(wanted));
    said
}

/// A stream that was found, with what the options say of it; nothing else of it changes.
pub(super) fn updated(found: &Config, wanted: &Config) -> Config {
    Config {
        max_messages: wanted.max_messages,
        max_bytes: wanted.max_bytes,
        num_replicas: wanted.num_replicas,
        duplicate_window: wanted.duplicate_window,
        ..found.clone()
    }
}

/// The subject of a partition.
pub(super) fn subject(options: &StreamOptions, partition: u16) -> String {
    format!("{}.{partition}", options.name)
}

/// The partition of an agent: FNV-1a (64 bits) of its id, modulo the number of partitions. The same in every process and
/// release, since all of an agent's messages must lie in one.
pub(super) fn partition_of(agent: &AgentId, partitions: u16) -> u16 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    let hash = agent.as_str().as_bytes().iter().fold(OFFSET, step);
    (hash % u64::from(partitions.max(1))) as u16
}

/// The consumer of a partition. Its name says the life of the stream, so that an answer to a message of another life, whose
/// numbers were the same, answers nothing.
pub(super) fn consumer_name(mark: &Mark, partition: u16) -> String {
    format!("{}{}", consumers_of(partition), mark.incarnation)
}

/// Before the life in the names of a partition's consumers.
fn consumers_of(partition: u16) -> String {
    format!("workers-{partition}-")
}

/// Whether a name is that of a partition's consumer in another life of the stream.
pub(super) fn is_of_another_life(name: &str, mark: &Mark, partition: u16) -> bool {
    name.starts_with(&consumers_of(partition)) && name != consumer_name(mark, partition)
}

pub(super) fn consumer(options: &StreamOptions, mark: &Mark, partition: u16) -> ConsumerConfig {
    ConsumerConfig {
        durable_name: Some(consumer_name(mark, partition)),
        description: Some(format!("Sentinel's workers, partition {partition}")),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Workers count: a message that NATS stopped to deliver would wait for ever.
        max_deliver: -1,
        filter_subject: subject(options, partition),
        max_ack_pending: MAX_UNANSWERED as i64,
        max_waiting: MAX_WAITING_PULLS,
        ..ConsumerConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_lies_in_the_same_partition_for_ever() {
        for (agent, of_16, of_7) in [("web-1", 15, 2), ("web-2", 2, 5), ("db", 3, 5)] {
            let agent = AgentId::new(agent).unwrap();
            assert_eq!((partition_of(&agent, 16), partition_of(&agent, 7)), (of_16, of_7));
            assert_eq!(partition_of(&agent, 1), 0);
        }
    }

    #[test]
    fn agents_are_spread_over_all_partitions() {
        let mut agents = [0; 16];
        for n in 0..1600 {
            let agent = AgentId::new(&format!("host-{n}")).unwrap();
            agents[usize::from(partition_of(&agent, 16))] += 1;
        }
        assert!(agents.iter().all(|n| (50..200).contains(n)), "{agents:?}");
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is_one() {
        let mark = Mark { incarnation: Incarnation([7; 16]), partitions: 16 };
        let mut metadata = HashMap::new();
        mark.write(&mut metadata);
        assert_eq!(Mark::read(&metadata), Some(mark));
        for (key, value) in
            [(INCARNATION, "07"), (PARTITIONS, "0"), (PARTITIONS, "257"), (PARTITIONS, "many")]
        {
            let mut metadata = metadata.clone();
            metadata.insert(key.to_owned(), value.to_owned());
            assert_eq!(Mark::read(&metadata), None, "{key}: {value}");
        }
        assert_eq!(Mark::read(&HashMap::new()), None);
    }

    #[test]
    fn a_consumer_of_another_life_is_told_from_those_of_others() {
        let mark = Mark { incarnation: Incarnation([7; 16]), partitions: 16 };
        let before = Mark { incarnation: Incarnation([6; 16]), ..mark };
        for (name, is) in [
            (consumer_name(&mark, 1), false),
            (consumer_name(&before, 1), true),
            (consumer_name(&before, 11), false),
            ("of-an-operator".to_owned(), false),
        ] {
            assert_eq!(is_of_another_life(&name, &mark, 1), is, "{name}");
        }
    }

    #[test]
    fn what_may_change_is_told_and_changed_and_the_rest_is_left() {
        let options = StreamOptions::default();
        let mark = Mark { incarnation: Incarnation([7; 16]), partitions: 4 };
        let found = wanted(&options, mark);
        let more = StreamOptions { max_messages: 5, replicas: 3, partitions: 9, ..options };
        let target = wanted(&more, Mark::fresh(&more));
        assert_eq!(
            differences(&found, &target),
            ["max_messages: 1000000 instead of 5", "replicas: 1 instead of 3"]
        );
        let updated = updated(&found, &target);
        assert_eq!(differences(&updated, &target), Vec::<String>::new());
        assert_eq!(Mark::read(&updated.metadata), Some(mark), "its life goes on");
    }

    #[test]
    fn a_stream_that_would_lose_messages_is_not_used() {
        let options = StreamOptions::default();
        let good = wanted(&options, Mark::fresh(&options));
        usable(&good, &options).unwrap();
        for (bad, said) in [
            (
                Config { retention: RetentionPolicy::Limits, ..good.clone() },
                "its retention is Limits",
            ),
            (Config { subjects: vec!["sentinel.>".into()], ..good.clone() }, "its subjects are"),
            (Config { discard: DiscardPolicy::Old, ..good.clone() }, "drops what is old"),
        ] {
            let error = usable(&bad, &options).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("remove it"), "{error}");
        }
    }
}
