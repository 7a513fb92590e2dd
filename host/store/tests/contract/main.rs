//! What every engine must do, written against the trait alone. An engine takes part by a
//! function and a line below; each test gets an empty store of its own. TimescaleDB's
//! Community edition is an engine of soak's: no registry of packages has it.

mod access;
mod agents;
mod alerting;
mod attention;
mod evaluations;
mod fleet;
mod ingest;
mod late;
mod lease;
mod query;
mod records;
#[path = "../server/mod.rs"]
mod server;
#[path = "../server/timescale.rs"]
mod timescale;
mod upkeep;

use sentinel_model::batch::{Batch, BatchBuilder};
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::Store;
use sentinel_store::ingest::{Commit, Content};
use sentinel_store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_test_services::Postgres;
use std::sync::Arc;
use timescale::Edition;

/// 2025-01-01 00:00 UTC, the start of an hour.
pub(crate) const T0: i64 = 1_735_689_600_000;
pub(crate) const HOUR: i64 = 3_600_000;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

pub(crate) const EPOCH: Epoch = Epoch([7; 16]);

/// A batch of gauges: label `i`, value, time.
pub(crate) fn gauges(rows: &[(u32, f64, i64)]) -> Arc<Batch> {
    let mut builder = BatchBuilder::new();
    for (i, value, time) in rows {
        let i = i.to_string();
        builder.push("g", [("i", i.as_str()), ("agent", "a")], Kind::Gauge, *value, *time);
    }
    Arc::new(builder.build().unwrap())
}

pub(crate) fn record(name: &str, seq: u64, content: Content) -> Commit {
    Commit { agent: agent(name), epoch: EPOCH, seq, hash: [seq as u8; 32], content }
}

pub(crate) fn samples(name: &str, seq: u64, rows: &[(u32, f64, i64)]) -> Commit {
    record(name, seq, Content::Samples(gauges(rows)))
}

pub(crate) async fn one(
    store: &dyn Store,
    commit: Commit,
    now: i64,
) -> sentinel_store::ingest::CommitOutcome {
    store.commit(vec![commit], now).await.unwrap().remove(0)
}

async fn sqlite() -> (tempfile::TempDir, SqliteStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("s.db"), StoreOptions::default()).await.unwrap();
    (dir, store)
}

async fn postgres() -> (Arc<Postgres>, PostgresStore) {
    let server = server::shared();
    let url = PostgresUrl::new(&server.database().unwrap()).unwrap();
    let store = PostgresStore::open(url, PostgresOptions::default()).await.unwrap();
    (server, store)
}

async fn timescale_of(edition: Edition) -> (Arc<Postgres>, PostgresStore) {
    let server = timescale::shared(edition);
    let url = PostgresUrl::new(&timescale::database(&server)).unwrap();
    let store = PostgresStore::open(url, PostgresOptions::default()).await.unwrap();
    let said = store.describe();
    assert!(said.contains(&format!("{edition:?}: hypertables")), "{said}");
    (server, store)
}

async fn apache() -> (Arc<Postgres>, PostgresStore) {
    timescale_of(Edition::Apache).await
}

async fn community() -> (Arc<Postgres>, PostgresStore) {
    timescale_of(Edition::Community).await
}

macro_rules! contract {
    ($($module:ident :: $test:ident),* $(,)?) => {
        contract!(on_sqlite, sqlite, $($module::$test),*);
        contract!(on_postgres, postgres, $($module::$test),*);
        contract!(on_timescale_apache, apache, $($module::$test),*);
        contract!(soak_on_timescale_community, community, $($module::$test),*);
    };
    ($engine:ident, $open:ident, $($module:ident :: $test:ident),*) => {
        mod $engine {
            $(
                #[tokio::test]
                async fn $test() {
                    let (_kept, store) = super::$open().await;
                    super::$module::$test(&store).await;
                    sentinel_store::Store::close(&store).await.unwrap();
                }
            )*
        }
    };
}

contract![
    ingest::records_are_committed_once_and_in_order,
    ingest::where_several_streams_stand_is_told_in_the_order_of_the_question,
    ingest::the_same_number_with_another_hash_is_refused_and_harms_no_other,
    ingest::skipped_ranges_commit_what_was_not_committed,
    ingest::dead_records_advance_the_stream,
    ingest::committed_records_are_found_by_their_numbers,
    ingest::epochs_and_agents_are_apart,
    ingest::a_rewind_is_kept_and_only_grows,
    ingest::a_series_keeps_its_id_whatever_the_order_of_labels,
    ingest::the_kind_of_a_series_is_the_last_one_sent,
    ingest::a_series_that_is_new_has_the_last_kind_of_its_first_commit,
    ingest::agents_that_begin_together_are_kept_apart,
    records::what_a_record_brought_is_told_by_its_number,
    records::what_is_packed_is_told_no_more_and_nothing_else_in_its_place,
    query::selectors_find_series,
    query::names_are_found_by_prefix,
    query::of_samples_at_one_time_the_last_committed_counts,
    query::ranges_exclude_their_start_and_include_their_end,
    query::a_step_keeps_the_last_sample_in_it,
    query::odd_values_and_times_come_back_bit_by_bit,
    upkeep::packing_changes_no_answer,
    upkeep::late_samples_join_the_packed_hour,
    upkeep::an_hour_is_packed_once_it_is_over,
    upkeep::old_samples_live_on_as_rollups_and_then_go,
    upkeep::odd_values_live_on_in_rollups_bit_by_bit,
    agents::a_new_machine_is_approved_and_a_known_one_waits,
    agents::a_further_key_is_made_once_and_those_before_it_end_when_it_is_said,
    agents::a_known_id_keeps_its_key_until_the_new_one_is_approved,
    agents::an_enrolment_that_is_asked_for_again_gives_the_key_it_gave,
    agents::a_blocked_agent_has_no_key_and_stays_blocked,
    agents::heartbeats_are_kept,
    agents::agents_come_in_pages_by_id,
    alerting::rules_follow_each_other,
    alerting::the_last_hundred_versions_of_the_rules_are_kept,
    alerting::alerts_and_history_come_back_bit_by_bit,
    alerting::a_notification_is_decided_once,
    alerting::each_notifier_s_open_notifications_are_read_by_themselves,
    alerting::groups_are_replaced_and_closed,
    alerting::slots_keep_their_state,
    alerting::statuses_are_replaced,
    attention::silences_are_made_once_and_ended_once,
    attention::an_alert_has_one_owner_at_a_time,
    attention::attempts_are_kept_in_their_order,
    attention::only_a_dead_letter_is_taken_up_again,
    attention::a_notification_that_no_rule_decided_is_told_once,
    attention::what_is_over_ages_out_and_what_is_open_stays,
    fleet::desired_sets_are_numbered_without_a_gap,
    lease::a_lease_has_one_holder_until_its_time_is_over_or_it_is_released,
    lease::who_lost_the_lease_writes_nothing_of_alerts,
    lease::a_lease_whose_time_is_over_is_kept_where_nobody_took_it,
    lease::the_tail_has_what_was_committed_since_once_and_in_order,
    lease::what_was_committed_a_moment_ago_is_not_packed_away_from_the_tail,
    lease::of_what_is_packed_in_part_the_tail_has_the_rest,
    evaluations::what_was_evaluated_is_written_once_with_what_it_decided_and_kept_for_two_hours,
    evaluations::parts_of_windows_are_written_under_the_lease_and_read_in_order,
    evaluations::a_position_is_good_until_something_behind_it_is_packed,
    access::an_api_token_is_found_by_its_hash_until_it_is_revoked,
    access::an_enrolment_token_serves_as_often_and_as_long_as_it_says,
    access::a_token_that_an_agent_asked_for_serves_once_it_is_approved,
    access::a_change_is_written_down_before_it_is_made,
];
