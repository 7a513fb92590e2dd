//! One partition: NATS is asked for messages as long as there is room for them.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::pull::{BatchConfig, Config};
use async_nats::jetstream::consumer::{Consumer, Info};
use async_nats::jetstream::message::Message as Delivered;
use async_nats::jetstream::stream::{
    ConsumerError, ConsumerErrorKind, LastRawMessageErrorKind, Stream,
};
use async_nats::{Message as Raw, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::keeper::Life;
use super::stream::{Mark, consumer, consumer_name, is_of_another_life, stream_name, subject};
use super::subscription::{Inbox, Place};
use super::{PULL_BYTES, PULL_MESSAGES, Shared, failed, message, whole};
use crate::BusError;

/// How long a request for messages waits at NATS. One that got lost is made again that much later.
const PULL_EXPIRES: Duration = Duration::from_secs(5);
/// How much later than that NATS may say that it is over.
const PULL_SLACK: Duration = Duration::from_secs(2);
/// The wait before a partition that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Stretches of the stream in which what was handed out is looked for at once.
const STRETCHES: u64 = 32;
/// A message that was handed out as often before is delivered alone.
const SUSPECT: u32 = 2;
/// What NATS is told of a message that is to come again.
const NAK: &[u8] = b"-NAK";

/// Pulls one partition in one life of the stream.
pub(super) struct Puller {
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Arc<Inbox>,
    /// Held while a message is delivered alone.
    pub(super) alone: Arc<tokio::sync::Mutex<()>>,
    pub(super) life: Life,
    pub(super) partition: u16,
}

/// Where messages come to, and what NATS says of each request for them.
struct Requests {
    inbox: Subscriber,
    prefix: String,
    made: u64,
}

/// How a request for messages ended.
struct Pulled {
    /// The last message that came, and how often it was handed out before.
    last: Option<(Place, u32)>,
}

/// What NATS says instead of a message.
enum Said {
    /// The request is over.
    End,
    /// Nothing of interest.
    Nothing,
}

impl Puller {
    /// Until it is aborted: when the life ends or the subscription is dropped.
    pub(super) async fn run(self) {
        let mut failed_before = false;
        loop {
            let Err(error) = self.pull().await;
            let partition = self.partition;
            if std::mem::replace(&mut failed_before, true) {
                tracing::debug!(partition, %error, "the bus does not deliver");
            } else {
                tracing::warn!(partition, %error, "the bus does not deliver; tried again until it does");
            }
            self.shared.keeper.look_now();
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Pulls until something goes wrong.
    async fn pull(&self) -> Result<std::convert::Infallible, BusError> {
        let consumer = self.consumer().await?;
        let mut requests = self.requests().await?;
        let mut again = self.take_over(&consumer).await?;
        loop {
            self.inbox.room().await;
            if again == 0 {
                self.request(&consumer, &mut requests, PULL_MESSAGES).await?;
                continue;
            }
            let _alone = self.alone.lock().await;
            let pulled = self.request(&consumer, &mut requests, 1).await?;
            again = match pulled.last {
                // It did not come once only: none behind it is handed out before it is answered.
                Some((place, before)) if before >= SUSPECT => {
                    self.inbox.answered(place).await;
                    again - 1
                }
                _ => 0,
            };
        }
    }

    /// The partition's consumer, made where it is missing.
    async fn consumer(&self) -> Result<Consumer<Config>, BusError> {
        let options = &self.shared.options.stream;
        let make = || {
            self.shared.context.create_consumer_on_stream(
                consumer(options, &self.life.mark, self.partition),
                stream_name(options),
            )
        };
        let made = match make().await {
            Err(error) if is_not_unique(&error) => {
                self.remove_earlier().await?;
                make().await
            }
            made => made,
        };
        made.map_err(|error| failed("make its consumer", whole(&error)))
    }

    /// Removes what stands in the place of the consumer: one of an earlier life. A worker that had not heard of the new
    /// stream asked for it, and NATS lets a subject of a work queue have one consumer only.
    async fn remove_earlier(&self) -> Result<(), BusError> {
        let (options, mark) = (&self.shared.options.stream, &self.life.mark);
        let failed = |cause: String| failed("remove a consumer of an earlier life", cause);
        let info = self.shared.stream("remove a consumer of an earlier life").await?;
        if info.and_then(|info| Mark::read(&info.config.metadata)) != Some(*mark) {
            // This one is of the earlier life.
            return Err(failed("the stream is another by now".to_owned()));
        }
        let stream = self.shared.context.get_stream_no_info(stream_name(options)).await;
        let stream = stream.map_err(|error| failed(whole(&error)))?;
        let mut names = stream.consumer_names();
        while let Some(name) = names.next().await {
            let name = name.map_err(|error| failed(whole(&error)))?;
            if is_of_another_life(&name, mark, self.partition) {
                tracing::warn!(
                    partition = self.partition,
                    consumer = name,
                    "removes a consumer of an earlier stream"
                );
                stream.delete_consumer(&name).await.map_err(|error| failed(whole(&error)))?;
            }
        }
        Ok(())
    }

    /// Refuses, in the name of whoever is gone, what it was given and did not answer, so that it comes again now and first.
    /// Returns how many messages that are.
    async fn take_over(&self, consumer: &Consumer<Config>) -> Result<usize, BusError> {
        let info = consumer.cached_info();
        if info.num_ack_pending == 0 {
            return Ok(0);
        }
        let mut outstanding = self.outstanding(info).await?;
        outstanding
            .retain(|&sequence| !self.inbox.has(Place { partition: self.partition, sequence }));
        let refused = outstanding.len();
        let mut answers = outstanding.iter().map(|sequence| self.answer_to(info, *sequence));
        let last = answers.next_back();
        for answer in answers {
            let nak = self.shared.client.publish(answer, NAK.into()).await;
            nak.map_err(|error| failed("take over", whole(&error)))?;
        }
        if let Some(last) = last {
            // NATS has answers and requests for messages in two queues: a request that did not wait for the answers to be
            // looked at could be served first. It says so of the last one, and so of all before it.
            let looked_at = self.shared.client.request(last, NAK.into()).await;
            looked_at.map_err(|error| failed("take over", whole(&error)))?;
        }
        if refused > 0 {
            tracing::info!(
                partition = self.partition,
                messages = refused,
                "takes over what was handed out and not answered"
            );
        }
        Ok(refused)
    }

    /// Numbers of the messages that were handed out and are still in the stream. An acknowledged message leaves it.
    async fn outstanding(&self, info: &Info) -> Result<Vec<u64>, BusError> {
        let options = &self.shared.options.stream;
        let stream: Stream<()> = self
            .shared
            .context
            .get_stream_no_info(stream_name(options))
            .await
            .map_err(|error| failed("take over", whole(&error)))?;
        let subject = subject(options, self.partition);
        let from = info.ack_floor.stream_sequence + 1;
        // A message is found from the one before it, a question each: many stretches at once, so that a NATS or a machine
        // that takes its time for each answer is not waited for once a message.
        let looking = stretches(from, info.delivered.stream_sequence)
            .into_iter()
            .map(|stretch| lying_in(&stream, &subject, stretch));
        let mut found = futures::future::try_join_all(looking).await?.concat();
        found.truncate(info.num_ack_pending);
        Ok(found)
    }

    /// Where NATS takes the answer to a message: the subject that a delivery carries as its reply. Of its numbers, NATS looks
    /// at the message's, and whether the delivery's can be.
    fn answer_to(&self, info: &Info, sequence: u64) -> String {
        format!(
            "$JS.ACK.{}.{}.1.{sequence}.{}.0.0",
            stream_name(&self.shared.options.stream),
            consumer_name(&self.life.mark, self.partition),
            info.delivered.consumer_sequence,
        )
    }

    async fn requests(&self) -> Result<Requests, BusError> {
        let prefix = self.shared.client.new_inbox();
        let subscribed = self.shared.client.subscribe(format!("{prefix}.*")).await;
        let inbox = subscribed.map_err(|error| failed("listen", whole(&error)))?;
        Ok(Requests { inbox, prefix, made: 0 })
    }

    /// Asks for up to `count` messages and enters what comes, until as many came or the request is over.
    async fn request(
        &self,
        consumer: &Consumer<Config>,
        requests: &mut Requests,
        count: usize,
    ) -> Result<Pulled, BusError> {
        requests.made += 1;
        let reply: Subject = format!("{}.{}", requests.prefix, requests.made).into();
        let request = BatchConfig {
            batch: count,
            expires: Some(PULL_EXPIRES),
            max_bytes: PULL_BYTES,
            ..BatchConfig::default()
        };
        let until = Instant::now() + PULL_EXPIRES + PULL_SLACK;
        let asked = consumer.request_batch(request, reply.clone()).await;
        asked.map_err(|error| failed("ask for messages", whole(&error)))?;
        let mut pulled = Pulled { last: None };
        let mut came = 0;
        while came < count {
            let Ok(next) = timeout_at(until, requests.inbox.next()).await else { break };
            let raw = next.ok_or_else(|| failed("listen", "the connection is closed"))?;
            match raw.status {
                None | Some(StatusCode::OK) => {
                    came += 1;
                    pulled.last = self.enter(raw).await?.or(pulled.last);
                }
                // Of a request before this one.
                Some(_) if raw.subject != reply => {}
                Some(status) => match said(status, raw.description.as_deref())? {
                    Said::End => break,
                    Said::Nothing => {}
                },
            }
        }
        Ok(pulled)
    }

    /// Enters a message; one that is none of ours is done with.
    async fn enter(&self, raw: Raw) -> Result<Option<(Place, u32)>, BusError> {
        let Some(reply) = raw.reply.clone() else { return Ok(None) };
        let delivered = Delivered { message: raw, context: self.shared.context.clone() };
        let (sequence, before) = match delivered.info() {
            Ok(info) => {
                let before = u32::try_from(info.delivered.saturating_sub(1)).unwrap_or(u32::MAX);
                (info.stream_sequence, before)
            }
            Err(error) => return Err(failed("read what NATS says of a message", error)),
        };
        let place = Place { partition: self.partition, sequence };
        let Raw { headers, payload, .. } = delivered.message;
        if let Some(message) = message::read(headers.as_ref(), payload) {
            self.inbox.enter(place, reply, message, before);
            return Ok(Some((place, before)));
        }
        tracing::error!(
            sequence,
            partition = self.partition,
            "a message of the bus is none of Sentinel's; skipped"
        );
        let told = self.shared.client.publish(reply, Bytes::new()).await;
        told.map_err(|error| failed("acknowledge", whole(&error)))?;
        Ok(None)
    }
}

/// Whether a subject has another consumer already.
fn is_not_unique(error: &ConsumerError) -> bool {
    matches!(error.kind(), ConsumerErrorKind::JetStream(e)
        if e.error_code() == ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE)
}

/// Numbers in a few stretches, in their order.
fn stretches(from: u64, to: u64) -> Vec<RangeInclusive<u64>> {
    let length = (to + 1).saturating_sub(from).div_ceil(STRETCHES).max(1);
    let begins = (from..=to).step_by(usize::try_from(length).unwrap_or(usize::MAX));
    begins.map(|begin| begin..=to.min(begin + (length - 1))).collect()
}

/// Numbers of the messages of a subject that lie in a stretch.
async fn lying_in(
    stream: &Stream<()>,
    subject: &str,
    stretch: RangeInclusive<u64>,
) -> Result<Vec<u64>, BusError> {
    let (mut found, mut next) = (Vec::new(), *stretch.start());
    while next <= *stretch.end() {
        match stream.raw_message_builder().sequence(next).next_by_subject(subject).send().await {
            Ok(message) if stretch.contains(&message.sequence) => {
                found.push(message.sequence);
                next = message.sequence + 1;
            }
            Ok(_) => break,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => break,
            Err(error) => return Err(failed("take over", whole(&error))),
        }
    }
    Ok(found)
}

fn said(status: StatusCode, description: Option<&str>) -> Result<Said, BusError> {
    let description = description.unwrap_or_default();
    match status {
        StatusCode::IDLE_HEARTBEAT => Ok(Said::Nothing),
        StatusCode::NOT_FOUND | StatusCode::TIMEOUT => Ok(Said::End),
        // The next message has no room in what is left of the request, or nothing is left of it.
        StatusCode::REQUEST_TERMINATED
            if ["MaxBytes", "Batch Completed"].iter().any(|end| description.contains(end)) =>
        {
            Ok(Said::End)
        }
        StatusCode::NO_RESPONDERS => Err(failed("ask for messages", "its consumer is gone")),
        other => Err(failed("ask for messages", format!("{other} {description}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_have_every_number_once_and_in_order() {
        for (from, to) in
            [(1, 0), (5, 5), (1, 31), (1, 32), (1, 33), (7, 1_000), (8, u64::from(u32::MAX))]
        {
            let all = stretches(from, to);
            assert!(all.len() as u64 <= STRETCHES, "{from}..={to}: {all:?}");
            let mut next = from;
            for stretch in &all {
                assert_eq!(*stretch.start(), next, "{from}..={to}");
                next = stretch.end() + 1;
            }
            assert_eq!(next, (to + 1).max(from), "{from}..={to}: {all:?}");
        }
    }

    #[test]
    fn what_nats_says_instead_of_a_message_ends_a_request_or_is_a_failure() {
        for (status, description, end) in [
            (StatusCode::TIMEOUT, "Request Timeout", Some(true)),
            (StatusCode::NOT_FOUND, "No Messages", Some(true)),
            (StatusCode::REQUEST_TERMINATED, "Message Size Exceeds MaxBytes", Some(true)),
            (StatusCode::REQUEST_TERMINATED, "Batch Completed", Some(true)),
            (StatusCode::IDLE_HEARTBEAT, "Idle Heartbeat", Some(false)),
            (StatusCode::REQUEST_TERMINATED, "Consumer Deleted", None),
            (StatusCode::REQUEST_TERMINATED, "Leadership Change", None),
            (StatusCode::NO_RESPONDERS, "", None),
        ] {
            let said = said(status, Some(description));
            let ended = said.ok().map(|said| matches!(said, Said::End));
            assert_eq!(ended, end, "{status} {description}");
        }
    }
}
