//! The open deliveries of one notifier, in the order in which they may be sent.
//!
//! A delivery waits until every earlier one that tells of one of its alerts is done: otherwise
//! "resolved" could arrive while "firing" waits for its second attempt, and would be followed
//! by it. Deliveries that share no alert pass each other.

use sentinel_alerting::delivery;
use sentinel_model::alert::{Delivery, Fingerprint};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// The most deliveries that one queue holds, as a rule; those beyond stay in the journal.
pub const MAX_QUEUED: usize = 10_000;

/// Which delivery: in order of decisions.
pub(super) type Ticket = u64;

pub(super) struct Queue {
    /// The most that are here.
    bound: usize,
    waiting: BTreeMap<Ticket, Delivery>,
    /// Deliveries that nothing earlier holds up, by the time of their next attempt.
    ready: BTreeSet<(i64, Ticket)>,
    /// For each alert the deliveries that tell of it, earliest first.
    lines: HashMap<Fingerprint, VecDeque<Ticket>>,
    ids: HashSet<String>,
    next: Ticket,
    taken: usize,
}

fn alerts(delivery: &Delivery) -> BTreeSet<Fingerprint> {
    delivery.notification.alerts.iter().map(|alert| alert.fingerprint).collect()
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            waiting: BTreeMap::new(),
            ready: BTreeSet::new(),
            lines: HashMap::new(),
            ids: HashSet::new(),
            next: 0,
            taken: 0,
        }
    }

    /// Those that wait and those that are being sent.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// When the oldest that waits was decided.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.waiting.values().map(|delivery| delivery.notification.time).min()
    }

    /// Adds a delivery behind all others; one that is here already changes nothing. Whether
    /// there was room.
    pub(super) fn push(&mut self, delivery: Delivery) -> bool {
        if self.ids.contains(&delivery.notification.id) {
            return true;
        }
        if self.len() >= self.bound {
            return false;
        }
        let ticket = self.next;
        self.next += 1;
        self.ids.insert(delivery.notification.id.clone());
        for alert in alerts(&delivery) {
            self.lines.entry(alert).or_default().push_back(ticket);
        }
        self.wait(ticket, delivery);
        true
    }

    fn wait(&mut self, ticket: Ticket, delivery: Delivery) {
        if self.is_first(ticket, &delivery) {
            self.ready.insert((delivery.next_attempt, ticket));
        }
        self.waiting.insert(ticket, delivery);
    }

    fn is_first(&self, ticket: Ticket, delivery: &Delivery) -> bool {
        let first = |alert: &Fingerprint| self.lines.get(alert).and_then(VecDeque::front);
        alerts(delivery).iter().all(|alert| first(alert) == Some(&ticket))
    }

    /// The next delivery that is due. It is the caller's until it is put back or done.
    pub(super) fn take(&mut self, now: i64) -> Option<(Ticket, Delivery)> {
        // The last is due where a clock that was wrong put it far off.
        let ends = [self.ready.first(), self.ready.last()];
        let due = |entry: &&(i64, Ticket)| delivery::is_due(&self.waiting[&entry.1], now);
        let entry = *ends.into_iter().flatten().find(due)?;
        self.ready.remove(&entry);
        self.taken += 1;
        self.waiting.remove(&entry.1).map(|delivery| (entry.1, delivery))
    }

    /// How long until one is due, in milliseconds; `None` where none waits for time alone.
    pub(super) fn next_due(&self, now: i64) -> Option<i64> {
        let ends = [self.ready.first(), self.ready.last()];
        ends.into_iter().flatten().map(|(_, t)| delivery::wait(&self.waiting[t], now)).min()
    }

    /// Puts a delivery back to be tried again.
    pub(super) fn put_back(&mut self, ticket: Ticket, delivery: Delivery) {
        self.taken -= 1;
        self.wait(ticket, delivery);
    }

    /// Removes a delivery that is delivered or dead, and lets those behind it go.
    pub(super) fn done(&mut self, ticket: Ticket, delivery: &Delivery) {
        self.taken -= 1;
        self.ids.remove(&delivery.notification.id);
        let mut freed = BTreeSet::new();
        for alert in alerts(delivery) {
            let Some(line) = self.lines.get_mut(&alert) else { continue };
            line.retain(|other| *other != ticket);
            match line.front() {
                Some(first) => drop(freed.insert(*first)),
                None => drop(self.lines.remove(&alert)),
            }
        }
        for ticket in freed {
            if let Some(delivery) = self.waiting.get(&ticket)
                && self.is_first(ticket, delivery)
            {
                self.ready.insert((delivery.next_attempt, ticket));
            }
        }
    }

    /// Whether one is being sent.
    pub(super) fn is_sending(&self) -> bool {
        self.taken > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_model::alert::{Alert, AlertState, Notification, NotificationStatus};
    use sentinel_model::ids::SlotName;
    use sentinel_model::series::Labels;

    fn delivery(id: &str, time: i64, alerts: &[u64]) -> Delivery {
        let alert = |n: &u64| Alert {
            fingerprint: Fingerprint(*n),
            rule: "r".into(),
            state: AlertState::Firing,
            labels: Labels::default(),
            annotations: Labels::default(),
            summary: String::new(),
            value: 1.0,
            active_since: 0,
            fired_at: Some(0),
            last_active: 0,
            resolved_at: None,
            incident: 1,
        };
        delivery::open(Notification {
            id: id.into(),
            notifier: SlotName::new("pager").unwrap(),
            time,
            status: NotificationStatus::Firing,
            group: Labels::default(),
            alerts: alerts.iter().map(alert).collect(),
        })
    }

    fn take(queue: &mut Queue, now: i64) -> Option<(Ticket, Delivery)> {
        queue.take(now)
    }

    fn id(taken: &Option<(Ticket, Delivery)>) -> Option<&str> {
        taken.as_ref().map(|(_, d)| d.notification.id.as_str())
    }

    #[test]
    fn what_tells_of_the_same_alert_keeps_its_order_and_the_rest_passes() {
        let mut queue = Queue::new(MAX_QUEUED);
        for (name, time, alerts) in
            [("a", 1, &[1, 2][..]), ("b", 2, &[2, 3]), ("c", 3, &[4]), ("d", 4, &[3])]
        {
            assert!(queue.push(delivery(name, time, alerts)));
        }
        let a = take(&mut queue, 9);
        let c = take(&mut queue, 9);
        assert_eq!((id(&a), id(&c), id(&take(&mut queue, 9))), (Some("a"), Some("c"), None));
        let (ticket, mut a) = a.unwrap();
        a.next_attempt = 100;
        queue.put_back(ticket, a);
        assert_eq!((queue.next_due(40), id(&take(&mut queue, 99))), (Some(60), None));
        let (ticket, a) = take(&mut queue, 100).unwrap();
        queue.done(ticket, &a);
        let b = take(&mut queue, 100);
        assert_eq!((id(&b), id(&take(&mut queue, 100))), (Some("b"), None));
        let (ticket, b) = b.unwrap();
        queue.done(ticket, &b);
        assert_eq!(id(&take(&mut queue, 100)), Some("d"));
        assert!(queue.is_sending());
    }

    #[test]
    fn a_delivery_is_queued_once_and_no_more_than_fit() {
        let mut queue = Queue::new(MAX_QUEUED);
        for n in 0..MAX_QUEUED as u64 {
            assert!(queue.push(delivery(&n.to_string(), 1, &[n])));
        }
        assert!(queue.push(delivery("7", 1, &[7])), "it is here already");
        assert!(!queue.push(delivery("new", 1, &[0])));
        let (ticket, first) = take(&mut queue, 1).unwrap();
        assert!(!queue.push(delivery("new", 1, &[0])), "one that is being sent takes its place");
        queue.done(ticket, &first);
        assert!(queue.push(delivery("new", 1, &[0])));
        assert_eq!((queue.len(), queue.oldest()), (MAX_QUEUED, Some(1)));
    }
}
