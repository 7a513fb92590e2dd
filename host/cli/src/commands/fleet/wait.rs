//! Waiting until hosts say what became of a set.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;
use sentinel_server::api::{FleetHostBody, FleetStatusBody};
use tokio::time::{Instant, sleep_until};

use super::hosts::{Answer, Outcome, outcome};
use crate::failure::Failure;
use crate::output::{Printer, clean};

/// How often the server is asked.
const LOOK: Duration = Duration::from_millis(500);
/// Of a host that runs a set, its trial over.
const PROVEN: (Answer, bool) = (Answer::Applied, false);

/// How far a decision is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// Every host that it concerns runs it, or refused it.
    Applied,
    /// And its trial is over: a minute in which a slot that fails takes it back.
    Proven,
}

impl Until {
    /// How long is waited where nothing is said.
    pub(super) const fn timeout(self) -> Duration {
        match self {
            Self::Applied => Duration::from_secs(30),
            Self::Proven => Duration::from_secs(120),
        }
    }

    fn waits_for(self, one: &Outcome) -> bool {
        one.answer == Answer::Waiting || (self == Self::Proven && one.trial)
    }
}

/// What the hosts that a set concerns say of it, as soon as none is waited for any more, else
/// when the time is over. Tells each as it comes.
///
/// # Errors
/// A server that does not answer any more.
pub(super) async fn run(
    mut look: impl AsyncFnMut() -> Result<FleetStatusBody, Failure>,
    concerns: impl Fn(&FleetHostBody) -> bool,
    number: u64,
    (until, timeout): (Until, Duration),
    printer: &Printer,
) -> Result<Vec<Outcome>, Failure> {
    let last = Instant::now() + timeout;
    let mut said: BTreeMap<String, Outcome> = BTreeMap::new();
    loop {
        let status = look().await?;
        for host in status.hosts.iter().filter(|host| concerns(host)) {
            hear(host, number, &mut said, printer);
        }
        if said.is_empty() {
            printer.say("it concerns no host that has enrolled; those that come will run it");
            return Ok(Vec::new());
        }
        let next = Instant::now() + LOOK;
        if !said.values().any(|one| until.waits_for(one)) || next > last {
            return Ok(said.into_values().collect());
        }
        sleep_until(next).await;
    }
}

/// Takes what a host says now. A host that runs a set beyond its trial has said its last.
fn hear(
    host: &FleetHostBody,
    number: u64,
    said: &mut BTreeMap<String, Outcome>,
    printer: &Printer,
) {
    let name = format!("{}/{}", host.role, host.host);
    let new = outcome(host, number);
    let known = said.get(&name).map(|one| (one.answer, one.trial));
    if known.is_some_and(|known| known == (new.answer, new.trial) || known == PROVEN) {
        return;
    }
    let tried = known.is_some_and(|(_, trial)| trial);
    let shown = clean(&host.host);
    let why = new.why.as_deref().map(clean).unwrap_or_default();
    match new.answer {
        Answer::Applied if tried => {
            printer.say(&format!("{shown} keeps set {number}: its trial is over"));
            if !new.unproven.is_empty() {
                let slots = clean(&new.unproven.join(", "));
                printer.warn(&format!(
                    "{shown}: no call has succeeded yet of {slots}: that it works is not shown"
                ));
            }
        }
        Answer::Applied => printer.say(&format!("{shown} runs set {number}")),
        Answer::Refused if tried => printer.warn(&format!("{shown} took set {number} back: {why}")),
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
    use crate::commands::fleet::hosts::concerns;
    use sentinel_trust::Kind;
    use sentinel_trust::fleet::DesiredSet;

    fn printer() -> Printer {
        Printer::new(&Global {
            json: true,
            server: None,
            tls: Default::default(),
            log: None,
            color: Color::Never,
        })
    }

    fn next() -> DesiredSet {
        let web: Selector = "role=web".parse().unwrap();
        let one = wish("new", "acme/new", "1.0.0", Kind::Collector);
        DesiredSet { number: 8, ..install(&set(), Some(&web), one, false).unwrap() }
    }

    /// Runs against what the server says at each look; the last is said from then on.
    async fn heard(
        looks: Vec<Vec<FleetHostBody>>,
        until: Until,
        seconds: u64,
    ) -> Vec<(String, Answer, bool)> {
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
        let concerned = |host: &FleetHostBody| concerns(&set(), &next(), host);
        let wait = (until, Duration::from_secs(seconds));
        let found = run(look, concerned, 8, wait, &printer()).await.unwrap();
        found.into_iter().map(|one| (one.host, one.answer, one.trial)).collect()
    }

    fn said(name: &str, answer: Answer) -> (String, Answer, bool) {
        (name.to_owned(), answer, false)
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
        let found = heard(looks, Until::Applied, 30).await;
        assert_eq!(found, [said("a", Answer::Applied), said("b", Answer::Refused)]);
        assert_eq!(began.elapsed(), 2 * LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_says_nothing_is_waited_for_until_the_time_is_over() {
        let began = Instant::now();
        let found = heard(vec![vec![web("a", 7, None)]], Until::Applied, 5).await;
        assert_eq!(found, [said("a", Answer::Waiting)]);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_are_away_or_not_concerned_are_not_waited_for() {
        let began = Instant::now();
        let mut away = web("a", 7, None);
        away.state = "silent".to_owned();
        let found = heard(vec![vec![away]], Until::Applied, 5).await;
        assert_eq!(found, [said("a", Answer::Absent)]);
        let db = host("db", "agent", "role=db");
        assert_eq!(heard(vec![vec![db]], Until::Applied, 5).await, []);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_is_waited_for_where_that_is_asked_for_and_may_end_otherwise() {
        let tried = || FleetHostBody { trial: true, ..web("a", 8, None) };
        let on_trial = ("a".to_owned(), Answer::Applied, true);
        for (then, until, expected, looks) in [
            (web("a", 8, None), Until::Applied, on_trial.clone(), 0),
            (web("a", 8, None), Until::Proven, said("a", Answer::Applied), 2),
            (web("a", 7, Some(8)), Until::Proven, said("a", Answer::Refused), 2),
            (tried(), Until::Proven, on_trial, 240),
        ] {
            let began = Instant::now();
            let all = vec![vec![tried()], vec![tried()], vec![then]];
            assert_eq!(heard(all, until, 120).await, [expected]);
            assert_eq!(began.elapsed(), looks * LOOK);
        }
    }
}
