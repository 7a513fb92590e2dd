//! Waiting until hosts say what became of a set.

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel_server::api::{FleetHostBody, FleetStatusBody};
use sentinel_trust::fleet::DesiredSet;
use tokio::time::{Instant, sleep_until};

use super::hosts::{Answer, Outcome, concerns, outcome};
use crate::failure::Failure;
use crate::output::{Printer, clean};

/// How often the server is asked.
const LOOK: Duration = Duration::from_millis(500);

/// What the hosts that a set concerns say of it, as soon as none is waited for any more, else
/// when the time is over. Tells each as it comes. An answer that a host gave stays its answer.
///
/// # Errors
/// A server that does not answer any more.
pub(super) async fn run(
    mut look: impl AsyncFnMut() -> Result<FleetStatusBody, Failure>,
    before: &DesiredSet,
    after: &DesiredSet,
    timeout: Duration,
    printer: &Printer,
) -> Result<Vec<Outcome>, Failure> {
    let until = Instant::now() + timeout;
    let mut said: BTreeMap<String, Outcome> = BTreeMap::new();
    loop {
        let status = look().await?;
        for host in status.hosts.iter().filter(|host| concerns(before, after, host)) {
            hear(host, after.number, &mut said, printer);
        }
        if said.is_empty() {
            printer.say("it concerns no host that has enrolled; those that come will run it");
            return Ok(Vec::new());
        }
        let waiting = said.values().any(|one| one.answer == Answer::Waiting);
        let next = Instant::now() + LOOK;
        if !waiting || next > until {
            return Ok(said.into_values().collect());
        }
        sleep_until(next).await;
    }
}

fn hear(
    host: &FleetHostBody,
    number: u64,
    said: &mut BTreeMap<String, Outcome>,
    printer: &Printer,
) {
    let name = format!("{}/{}", host.role, host.host);
    let new = outcome(host, number);
    let known = said.get(&name).map(|one| one.answer);
    if known.is_some_and(|known| known == new.answer || known == Answer::Applied) {
        return;
    }
    let shown = clean(&host.host);
    let why = new.why.as_deref().map(clean).unwrap_or_default();
    match new.answer {
        Answer::Applied => printer.say(&format!("{shown} runs set {number}")),
        Answer::Refused => printer.warn(&format!("{shown} refused set {number}: {why}")),
        Answer::Absent => printer.say(&format!("{shown} is {why} and is not waited for")),
        Answer::Waiting => {}
    }
    said.insert(name, new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Color, Global};
    use crate::commands::fleet::edit::{Selector, install};
    use crate::commands::fleet::example::{host, set, wish};
    use sentinel_trust::Kind;

    fn printer() -> Printer {
        Printer::new(&Global {
            json: true,
            server: None,
            tls: Default::default(),
            color: Color::Never,
        })
    }

    fn next() -> DesiredSet {
        let web: Selector = "role=web".parse().unwrap();
        let one = wish("new", "acme/new", "1.0.0", Kind::Collector);
        DesiredSet { number: 8, ..install(&set(), Some(&web), one, false).unwrap() }
    }

    /// Runs against what the server says at each look; the last is said from then on.
    async fn heard(looks: Vec<Vec<FleetHostBody>>, timeout: Duration) -> Vec<(String, Answer)> {
        let mut looks = looks.into_iter().peekable();
        let mut last = Vec::new();
        let look = async || {
            if let Some(hosts) = looks.next() {
                last = hosts;
            }
            let json = serde_json::to_value(&last).unwrap();
            let hosts = serde_json::from_value(json).unwrap();
            Ok(FleetStatusBody { hosts, ..FleetStatusBody::default() })
        };
        let found = run(look, &set(), &next(), timeout, &printer()).await.unwrap();
        found.into_iter().map(|one| (one.host, one.answer)).collect()
    }

    fn web(name: &str, number: u64, refused: Option<u64>) -> FleetHostBody {
        FleetHostBody { number: Some(number), refused, ..host(name, "agent", "role=web") }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_as_soon_as_every_host_has_said_what_became_of_it() {
        let db = host("db", "agent", "role=db");
        let looks = vec![
            vec![web("a", 7, None), web("b", 7, Some(7))],
            vec![web("a", 8, None), web("b", 7, Some(7)), db],
            vec![web("a", 8, None), web("b", 7, Some(8))],
        ];
        let began = Instant::now();
        let found = heard(looks, Duration::from_secs(30)).await;
        assert_eq!(found, [("a".into(), Answer::Applied), ("b".into(), Answer::Refused)]);
        assert_eq!(began.elapsed(), 2 * LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_says_nothing_is_waited_for_until_the_time_is_over() {
        let began = Instant::now();
        let found = heard(vec![vec![web("a", 7, None)]], Duration::from_secs(5)).await;
        assert_eq!(found, [("a".into(), Answer::Waiting)]);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_are_away_or_not_concerned_are_not_waited_for() {
        let began = Instant::now();
        let mut away = web("a", 7, None);
        away.state = "silent".to_owned();
        let found = heard(vec![vec![away]], Duration::from_secs(5)).await;
        assert_eq!(found, [("a".into(), Answer::Absent)]);
        let db = host("db", "agent", "role=db");
        assert_eq!(heard(vec![vec![db]], Duration::from_secs(5)).await, []);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
