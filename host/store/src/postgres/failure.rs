//! What went wrong inside, and whether doing it again may help.

use crate::StoreError;
use sqlx::postgres::PgDatabaseError;
use std::future::Future;
use std::time::Duration;

/// How often something is tried before the caller is told.
const ATTEMPTS: u32 = 5;
/// The pause before the second attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Why a step was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// PostgreSQL, or the way to it.
    Sql(sqlx::Error),
    /// What is remembered is not what is stored any more: another process was there.
    Moved,
    /// Anything that stays as it is.
    Store(StoreError),
}

pub(super) type Did<T> = Result<T, Failure>;

impl<E: Into<StoreError> + NotSql> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// Errors that are no answers of PostgreSQL.
pub(super) trait NotSql {}
impl NotSql for StoreError {}
impl NotSql for serde_json::Error {}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sql(error) => error.into(),
            Failure::Moved => Self::Unavailable(
                "other processes change the same records all the time; it is tried again".into(),
            ),
            Failure::Store(error) => error,
        }
    }
}

/// The SQLSTATE of an answer.
pub(super) fn sqlstate(error: &sqlx::Error) -> Option<&str> {
    let sqlx::Error::Database(error) = error else { return None };
    Some(error.try_downcast_ref::<PgDatabaseError>()?.code())
}

/// A serialisation failure, or a deadlock.
fn is_taken_back(state: &str) -> bool {
    matches!(state, "40001" | "40P01")
}

/// No connection, one on which PostgreSQL waited too long in a transaction, or a server that ends or
/// begins.
fn is_gone(state: &str) -> bool {
    state.starts_with("08") || matches!(state, "25P03" | "57P01" | "57P02" | "57P03")
}

impl Failure {
    fn state(&self) -> &str {
        match self {
            Self::Sql(error) => sqlstate(error).unwrap_or_default(),
            Self::Moved | Self::Store(_) => "",
        }
    }

    /// PostgreSQL took everything back, and asks for it again.
    fn is_undone(&self) -> bool {
        matches!(self, Self::Moved) || is_taken_back(self.state())
    }

    /// The connection is gone, or never was: whether what was asked is done is not known.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) => true,
            Self::Sql(_) => is_gone(self.state()),
            Self::Moved | Self::Store(_) => false,
        }
    }

    /// A row that another one names is gone, or the other way round.
    pub(super) fn is_stale_reference(&self) -> bool {
        self.state() == "23503"
    }

    /// There is no partition for a row.
    pub(super) fn is_without_partition(&self) -> bool {
        self.state() == "23514"
    }

    /// Somebody else wrote the same row first.
    pub(super) fn is_taken(&self) -> bool {
        self.state() == "23505"
    }

    /// Locks were not to be had within the bound.
    pub(super) fn is_locked_out(&self) -> bool {
        self.state() == "55P03"
    }

    pub(super) fn may_pass(&self, again: Again) -> bool {
        self.is_undone() || (again == Again::Whenever && self.is_lost())
    }
}

/// When something may be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Twice is as good as once.
    Whenever,
    /// Only where it is certain that nothing was done.
    Undone,
}

/// The pauses between attempts.
pub(super) fn pauses() -> impl Iterator<Item = Duration> {
    (0..ATTEMPTS - 1).map(|n| FIRST_PAUSE * 2u32.pow(n))
}

/// Runs something, again after failures that pass.
pub(super) async fn retried<T, F>(
    again: Again,
    mut run: impl FnMut() -> F + Send,
) -> Result<T, StoreError>
where
    F: Future<Output = Did<T>> + Send,
{
    for pause in pauses() {
        match run().await {
            Err(failure) if failure.may_pass(again) => {
                tracing::debug!(?failure, "tried again");
                tokio::time::sleep(pause).await;
            }
            done => return done.map_err(StoreError::from),
        }
    }
    run().await.map_err(StoreError::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        for (state, undone, gone) in [
            ("40001", true, false),
            ("40P01", true, false),
            ("08006", false, true),
            ("25P03", false, true),
            ("57P01", false, true),
            ("57P03", false, true),
            // A timeout, a full disk, no lock, no right, a broken rule, a mistake of ours.
            ("57014", false, false),
            ("53100", false, false),
            ("55P03", false, false),
            ("28P01", false, false),
            ("23505", false, false),
            ("42601", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_taken_back(state), is_gone(state)), (undone, gone), "{state}");
        }
    }

    fn lost() -> Failure {
        Failure::Sql(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()))
    }

    /// How often something is run that fails so.
    async fn runs(again: Again, fails: fn() -> Failure) -> u32 {
        let count = AtomicU32::new(0);
        let done: Result<(), _> = retried(again, || async {
            count.fetch_add(1, Ordering::Relaxed);
            Err(fails())
        })
        .await;
        done.unwrap_err();
        count.into_inner()
    }

    #[tokio::test]
    async fn attempts_are_bounded_and_what_may_have_been_done_is_not_done_again() {
        assert_eq!(runs(Again::Whenever, lost).await, ATTEMPTS);
        assert_eq!(runs(Again::Undone, lost).await, 1);
        assert_eq!(runs(Again::Undone, || Failure::Moved).await, ATTEMPTS);
        let stays = || Failure::Store(StoreError::Conflict("taken".into()));
        assert_eq!(runs(Again::Whenever, stays).await, 1);
        let pauses: Vec<u128> = pauses().map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160]);
    }
}
