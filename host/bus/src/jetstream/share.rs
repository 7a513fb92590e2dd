//! Which partitions one of several workers reads.
//!
//! Each subscription is a member, a [hold](super::hold) of a name of its own, and has a hold on every partition that it
//! reads. It has a fair share of them: the members in the order of their names have as many each, and the first ones
//! of them one more where that does not come out even.
//!
//! | it has | then |
//! |---|---|
//! | fewer than its share | it takes partitions that nobody has |
//! | more | it gives back the last: asks for no more of it, forgets what it has not handed out, waits for the answers to what it has, and releases it |
//! | lost a hold | it stops reading that partition; what it handed out is answered as ever |
//!
//! Whoever has a partition next begins with what was handed out there and not answered, so the order of (agent, epoch)
//! holds. It is not more than that: two may read a partition for a moment where NATS forgot who has it, and
//! then the ledger of the database counts each record once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

use super::hold::Hold;
use super::keeper::Life;
use super::puller::Puller;
use super::subscription::Inbox;
use super::{ANSWER, Shared};
use crate::{BusError, Incarnation};

/// How often a subscription that has its share looks who else is there.
const LOOK: Duration = Duration::from_secs(1);
/// How often one that has not, or gives something back.
const LOOK_SOON: Duration = Duration::from_millis(100);
/// Before the names of members.
const MEMBER: &str = "member-";
/// Before the numbers of partitions.
const PARTITION: &str = "partition-";

/// How many of so many partitions one of the members reads.
fn fair_share(members: &BTreeSet<&str>, me: &str, partitions: u16) -> usize {
    let (partitions, count) = (usize::from(partitions), members.len().max(1));
    let place = members.iter().take_while(|member| **member < me).count();
    partitions / count + usize::from(place < partitions % count)
}

/// A partition that this subscription has.
struct Part {
    hold: Hold,
    pulling: AbortHandle,
    /// Until it is given back.
    is_read: bool,
}

/// The partitions of one subscription.
pub(super) struct Share {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    /// Held while a message is delivered alone.
    alone: Arc<tokio::sync::Mutex<()>>,
    name: String,
    member: Option<Hold>,
    parts: BTreeMap<u16, Part>,
    pullers: JoinSet<()>,
    trouble: bool,
}

impl Share {
    pub(super) fn new(shared: Arc<Shared>, inbox: Arc<Inbox>) -> Share {
        Share {
            shared,
            inbox,
            alone: Arc::default(),
            name: format!("{MEMBER}{}", Incarnation::random()),
            member: None,
            parts: BTreeMap::new(),
            pullers: JoinSet::new(),
            trouble: false,
        }
    }

    /// Reads every partition that it has anew: the life is another.
    pub(super) async fn begin(&mut self, life: Life) {
        self.pullers.shutdown().await;
        self.parts.retain(|partition, _| *partition < life.mark.partitions);
        let read = self.parts.iter().filter(|(_, part)| part.is_read);
        for partition in read.map(|(partition, _)| *partition).collect::<Vec<_>>() {
            let pulling = self.pull(life, partition);
            self.parts.entry(partition).and_modify(|part| part.pulling = pulling);
        }
    }

    /// Nothing is read: there is no life.
    pub(super) async fn pause(&mut self) {
        self.pullers.shutdown().await;
    }

    /// Takes and gives back until it is dropped.
    pub(super) async fn keep(&mut self, life: Life) {
        loop {
            let wait = match self.look(life).await {
                Ok(is_settled) => {
                    self.trouble = false;
                    if is_settled { LOOK } else { LOOK_SOON }
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.trouble, true) {
                        tracing::warn!(%error, "NATS does not say who reads which partitions; asked until it does");
                    }
                    LOOK
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One look; whether there is nothing to be done soon.
    async fn look(&mut self, life: Life) -> Result<bool, BusError> {
        self.forget_lost();
        if self.member.as_ref().is_none_or(Hold::is_lost) {
            self.member = None;
            self.member = self.shared.take(&self.name).await?;
        }
        let taken = self.shared.taken().await?;
        let members = taken.iter().map(String::as_str).filter(|name| name.starts_with(MEMBER));
        let members: BTreeSet<&str> = members.chain([self.name.as_str()]).collect();
        let fair = fair_share(&members, &self.name, life.mark.partitions);
        self.give_back(fair).await;
        self.take_more(life, fair, &taken).await?;
        let has = self.parts.values().filter(|part| part.is_read).count();
        Ok(has == fair && self.parts.len() == has)
    }

    fn forget_lost(&mut self) {
        self.parts.retain(|partition, part| {
            let is_lost = part.hold.is_lost();
            if is_lost {
                tracing::warn!(partition, "another worker may read this partition by now");
                part.pulling.abort();
                self.inbox.forget_waiting(*partition);
            }
            !is_lost
        });
    }

    /// Stops to read what is above the share, and releases what nothing is being done with any more.
    async fn give_back(&mut self, fair: usize) {
        let mut has = self.parts.values().filter(|part| part.is_read).count();
        for (partition, part) in self.parts.iter_mut().rev() {
            if has > fair && part.is_read {
                tracing::info!(partition, "gives a partition to another worker");
                part.pulling.abort();
                part.is_read = false;
                has -= 1;
            }
        }
        let mut done = Vec::new();
        for (partition, part) in self.parts.iter().filter(|(_, part)| !part.is_read) {
            // One that is at work at this moment may still enter what it has.
            let has_ended = part.pulling.is_finished();
            self.inbox.forget_waiting(*partition);
            if has_ended && !self.inbox.has_any(*partition) {
                done.push(*partition);
            }
        }
        if !done.is_empty() {
            // What was answered is to be known to NATS before somebody else asks.
            let _ = tokio::time::timeout(ANSWER, self.shared.client.flush()).await;
            self.parts.retain(|partition, _| !done.contains(partition));
        }
    }

    async fn take_more(
        &mut self,
        life: Life,
        fair: usize,
        taken: &BTreeSet<String>,
    ) -> Result<(), BusError> {
        let mut has = self.parts.values().filter(|part| part.is_read).count();
        for partition in 0..life.mark.partitions {
            if has >= fair {
                return Ok(());
            }
            let name = format!("{PARTITION}{partition}");
            if self.parts.contains_key(&partition) || taken.contains(&name) {
                continue;
            }
            if let Some(hold) = self.shared.take(&name).await? {
                tracing::info!(partition, "reads a partition");
                let pulling = self.pull(life, partition);
                self.parts.insert(partition, Part { hold, pulling, is_read: true });
                has += 1;
            }
        }
        Ok(())
    }

    fn pull(&mut self, life: Life, partition: u16) -> AbortHandle {
        // Those that were aborted.
        while self.pullers.try_join_next().is_some() {}
        let (shared, inbox) = (Arc::clone(&self.shared), Arc::clone(&self.inbox));
        let alone = Arc::clone(&self.alone);
        self.pullers.spawn(Puller { shared, inbox, alone, life, partition }.run())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_make_up_the_whole_however_many_share() {
        for partitions in [1, 2, 3, 16, 256] {
            for count in 1..20 {
                let names: Vec<String> = (0..count).map(|n| format!("{MEMBER}{n:02}")).collect();
                let members: BTreeSet<&str> = names.iter().map(String::as_str).collect();
                let share = |me: &String| fair_share(&members, me, partitions);
                let shares: Vec<usize> = names.iter().map(share).collect();
                assert_eq!(shares.iter().sum::<usize>(), usize::from(partitions));
                assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
            }
        }
    }
}
