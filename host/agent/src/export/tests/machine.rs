//! The state machine alone.

use crate::export::sending::{
    Answer, Effect, LogView, MAX_RECORDS, STALLED, Sending, behind_accepted,
};
use crate::record::{LogRecord, Part};
use bytes::Bytes;
use sentinel_model::ids::{AgentId, Epoch, SlotName};
use sentinel_wal::{EpochOffsets, GapReason, Item, Position};
use sentinel_wire::envelope::Content;
use sentinel_wire::v1::EpochState;

const OLD: Epoch = Epoch([1; 16]);
const NOW: Epoch = Epoch([2; 16]);
const BUS: &[u8] = &[7; 16];

fn item(epoch: Epoch, seq: u64) -> Item {
    let record = LogRecord {
        slot: SlotName::new("s").unwrap(),
        part: Part::WHOLE,
        writes: Vec::new(),
        batch: Bytes::from_static(b"b"),
    };
    let position = Position { epoch: sentinel_wal::Epoch(epoch.0), seq };
    Item::Record { position, payload: record.encode() }
}

fn offsets(epoch: Epoch, synced: u64, accepted: u64, committed: u64) -> EpochOffsets {
    let epoch = sentinel_wal::Epoch(epoch.0);
    let first = committed + 1;
    EpochOffsets { epoch, first, written: synced, synced, accepted, committed, bytes: 0 }
}

fn state(epoch: Epoch, accepted: u64, committed: u64, rewind_attempt: u32) -> EpochState {
    EpochState { epoch: epoch.0.to_vec(), accepted, committed, rewind_attempt }
}

/// The machine, a log of one epoch that it looks at, and what it says.
struct Case {
    sending: Sending,
    log: Vec<EpochOffsets>,
    now: i64,
}

impl Case {
    /// With records `from..=synced` queued, on a bus that is known already.
    fn new(from: u64, synced: u64, accepted: u64, committed: u64) -> Self {
        let log = vec![offsets(NOW, synced, accepted, committed)];
        let mut case = Self { sending: Sending::new(BUS.to_vec(), 0), log, now: 0 };
        assert_eq!(case.answered(&[], BUS), [Effect::GoOn]);
        for seq in from..=synced {
            case.sending.take(item(NOW, seq));
        }
        case
    }

    fn answered(&mut self, epochs: &[EpochState], incarnation: &[u8]) -> Vec<Effect> {
        let log = LogView { offsets: &self.log, current: NOW };
        self.sending.answered(Answer { epochs, incarnation }, log, self.now).unwrap()
    }

    /// `seq@attempt` of batches, `from-to@attempt` of skips.
    fn queued(&self) -> String {
        let agent = AgentId::new("a").unwrap();
        let said = self.sending.records(&agent).map(|r| match r.content {
            Content::Batch(_) => format!("{}@{}", r.position.seq, r.attempt),
            Content::SkippedTo(to) => format!("{}-{to}@{}", r.position.seq, r.attempt),
        });
        said.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn what_is_accepted_leaves_the_queue_and_what_is_committed_is_told_once() {
    let mut case = Case::new(1, 4, 0, 0);
    assert_eq!(case.queued(), "1@1 2@1 3@1 4@1");
    assert_eq!(case.answered(&[state(NOW, 2, 1, 0)], BUS), [Effect::Accept(NOW, 2)]);
    assert_eq!(case.queued(), "3@1 4@1");
    assert_eq!(case.sending.commits().into_iter().collect::<Vec<_>>(), [(NOW, 1)]);
    assert!(case.sending.commits().is_empty());
}

#[test]
fn a_server_that_speaks_of_records_never_sent_changes_nothing() {
    let mut case = Case::new(1, 2, 0, 0);
    assert_eq!(case.answered(&[state(NOW, 9, 9, 0)], BUS), []);
    assert_eq!(case.queued(), "1@1 2@1");
    assert!(case.sending.commits().is_empty());
    let unknown = Epoch([9; 16]);
    assert_eq!(case.answered(&[state(unknown, 9, 9, 9)], BUS), []);
    let log = LogView { offsets: &case.log, current: NOW };
    let short = EpochState { epoch: vec![1; 3], ..EpochState::default() };
    let answer = Answer { epochs: &[short], incarnation: BUS };
    assert!(case.sending.answered(answer, log, 0).is_err());
    assert_eq!(case.queued(), "1@1 2@1");
}

#[test]
fn an_older_epoch_of_which_the_server_has_more_was_set_back_and_is_committed_as_far_as_it_goes() {
    let mut case = Case::new(1, 1, 0, 0);
    case.log.insert(0, offsets(OLD, 3, 0, 0));
    assert_eq!(case.answered(&[state(OLD, 0, 8, 0)], BUS), [Effect::Accept(OLD, 3)]);
    assert_eq!(case.sending.commits().get(&OLD), Some(&3));
}

#[test]
fn a_rewind_is_done_once_for_each_attempt_asked_for() {
    let mut case = Case::new(1, 3, 0, 0);
    let answer = [state(NOW, 0, 1, 2)];
    assert_eq!(case.answered(&answer, BUS), [Effect::Accept(NOW, 1), Effect::GoBack]);
    for seq in 2..=3 {
        case.sending.take(item(NOW, seq));
    }
    assert_eq!(case.queued(), "2@2 3@2");
    assert_eq!(case.answered(&answer, BUS), [Effect::Accept(NOW, 1)], "the same again");
    assert_eq!(case.queued(), "2@2 3@2");
}

#[test]
fn another_bus_is_remembered_and_gets_all_that_is_under_way_again() {
    let mut case = Case::new(3, 3, 2, 1);
    let other = [8; 16];
    let effects = case.answered(&[], &other);
    assert_eq!(effects, [Effect::Remember(other.to_vec()), Effect::GoBack]);
    case.sending.take(item(NOW, 2));
    assert_eq!(case.queued(), "2@2");
    assert_eq!(case.answered(&[], &other), []);
}

#[test]
fn the_first_answer_of_the_bus_of_the_last_run_goes_on_where_that_run_was() {
    let log = [offsets(OLD, 5, 5, 3), offsets(NOW, 2, 1, 0)];
    let mut sending = Sending::new(BUS.to_vec(), 0);
    sending.take(item(OLD, 4));
    let view = LogView { offsets: &log, current: NOW };
    let answer = Answer { epochs: &[], incarnation: BUS };
    assert_eq!(sending.answered(answer, view, 0), Ok(vec![Effect::GoOn]));
    assert!(sending.is_idle(), "what was read too early comes again");
    let at = behind_accepted(&log).unwrap();
    assert_eq!((at.epoch.0, at.seq), (NOW.0, 2));
    assert_eq!(behind_accepted(&[offsets(OLD, 5, 5, 5)]).unwrap().seq, 6);
    assert!(behind_accepted(&[]).is_none());
}

#[test]
fn a_first_answer_that_asks_for_a_rewind_does_not_go_on_behind_what_is_asked_for() {
    let log = [offsets(NOW, 5, 5, 0)];
    let mut sending = Sending::new(BUS.to_vec(), 0);
    let view = LogView { offsets: &log, current: NOW };
    let answer = Answer { epochs: &[state(NOW, 5, 2, 3)], incarnation: BUS };
    let effects = sending.answered(answer, view, 0).unwrap();
    assert_eq!(effects, [Effect::Accept(NOW, 5), Effect::GoBack]);
}

#[test]
fn committed_records_that_a_restored_database_lost_are_said_to_be_skipped() {
    // (asked to send from, the log's first, what is sent)
    let cases = [(3, 3, "3@2 4@2"), (3, 5, "3-4@2 5@2 6@2"), (1, 9, "1-8@2 9@2 10@2")];
    for (due, first, expected) in cases {
        let mut case = Case::new(first, first - 1, first - 1, first - 1);
        case.log = vec![offsets(NOW, first + 1, first - 1, first - 1)];
        let effects = case.answered(&[state(NOW, 0, due - 1, 2)], BUS);
        assert_eq!(effects.last(), Some(&Effect::GoBack));
        let skipped: u64 = (first..=first + 1).map(|seq| case.sending.take(item(NOW, seq))).sum();
        assert_eq!((case.queued().as_str(), skipped), (expected, first - due), "from {due}");
        // Once read, it is not said again.
        case.sending.take(item(NOW, first + 2));
        assert!(case.queued().ends_with(&format!(" {}@2", first + 2)));
    }
}

#[test]
fn what_was_lost_is_joined_to_a_gap_of_the_log() {
    let mut case = Case::new(5, 4, 4, 4);
    case.answered(&[state(NOW, 0, 2, 2)], BUS);
    let epoch = sentinel_wal::Epoch(NOW.0);
    let gap = Item::Gap { epoch, from: 5, to: 7, reason: GapReason::DroppedAtCap };
    assert_eq!(case.sending.take(gap), 5);
    case.sending.take(item(NOW, 8));
    assert_eq!(case.queued(), "3-4@2 5-7@2 8@2");
}

#[test]
fn what_is_accepted_and_not_committed_for_five_minutes_is_sent_again() {
    // A commit long ago is no sign of life: what was committed then is told again in each answer.
    for committed in [0, 1] {
        let mut case = Case::new(3, 2, 2, committed);
        for step in 1..5 {
            case.now = step * STALLED / 5;
            case.answered(&[state(NOW, 2, committed, 0)], BUS);
            assert_eq!(case.sending.stir(&case.log, case.now), None, "after {} ms", case.now);
        }
        case.now = STALLED;
        assert_eq!(case.sending.stir(&case.log, case.now), Some(Effect::GoBack));
        case.sending.take(item(NOW, 2));
        assert_eq!(case.queued(), "2@2");
        assert_eq!(case.sending.stir(&case.log, case.now + 1), None, "and then in five minutes");
    }
}

#[test]
fn a_commit_or_nothing_to_commit_keeps_it_from_being_sent_again() {
    let mut case = Case::new(3, 2, 2, 0);
    case.now = STALLED - 1;
    case.answered(&[state(NOW, 2, 1, 0)], BUS);
    assert_eq!(case.sending.stir(&case.log, STALLED), None, "one was committed");
    let mut case = Case::new(3, 2, 2, 2);
    assert_eq!(case.sending.stir(&case.log, 10 * STALLED), None, "all is committed");
    case.log = vec![offsets(NOW, 3, 3, 2)];
    assert_eq!(case.sending.stir(&case.log, 11 * STALLED - 1), None, "one more, just now");
    assert_eq!(case.sending.stir(&case.log, 11 * STALLED), Some(Effect::GoBack));
}

#[test]
fn a_refused_record_becomes_a_skip_and_its_bytes_are_handed_out_once() {
    let mut case = Case::new(1, 2, 0, 0);
    let dead = case.sending.bury().unwrap();
    assert_eq!((dead.seq, dead.bytes.as_ref()), (1, b"b".as_slice()));
    assert_eq!(case.queued(), "1-1@1 2@1");
    assert!(case.sending.bury().is_none());
}

#[test]
fn a_push_has_a_bound_whatever_is_queued() {
    let mut case = Case::new(1, 0, 0, 0);
    while case.sending.has_room() {
        let seq = case.queued().split(' ').filter(|s| !s.is_empty()).count() as u64 + 1;
        case.sending.take(item(NOW, seq));
    }
    case.sending.take(item(NOW, 1000));
    assert_eq!(case.sending.records(&AgentId::new("a").unwrap()).count(), MAX_RECORDS);
}
