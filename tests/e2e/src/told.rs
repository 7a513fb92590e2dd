//! What receivers were told, against what happened: every transition of an alert that somebody
//! is to be told of, with the one notification that tells it.

use crate::receiver::Received;
use crate::sentinel::Up;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The most transitions and notifications that the API lists.
const LISTED: usize = 10_000;
/// How long the last of them may take.
const SOON: Duration = Duration::from_secs(90);

/// One thing to be told: an alert's fingerprint, `firing` or `resolved`, and when, unix
/// milliseconds.
pub type News = (String, String, i64);

/// The news in an alert history: what began to fire, and what fired and is over.
///
/// # Errors
/// Where it is no history, or may be cut at `limit`.
pub fn news_of_history(history: &Value, limit: usize) -> Result<BTreeSet<News>> {
    let transitions = history["transitions"].as_array().context("transitions")?;
    ensure!(transitions.len() < limit, "{limit} transitions: the history may be cut");
    let mut news = BTreeSet::new();
    for transition in transitions {
        let text = |key: &str| transition[key].as_str().unwrap_or_default().to_owned();
        let (from, to) = (text("from"), text("to"));
        if to == "firing" || (from == "firing" && to == "resolved") {
            let at = transition["at"].as_i64().context("at")?;
            ensure!(news.insert((text("fingerprint"), to, at)), "twice in history: {transition}");
        }
    }
    Ok(news)
}

/// What happened to alerts, once no rule is in force any more and everything is told.
///
/// # Errors
/// Where something is not told in time, or was given up.
pub async fn conclusion(up: &Up<'_>) -> Result<BTreeSet<News>> {
    up.until("no alert is active", "/v1/alerts", SOON, |alerts| {
        let alerts = alerts["alerts"].as_array()?;
        alerts.iter().all(|alert| alert["state"] == "resolved").then_some(())
    })
    .await?;
    let path = format!("/v1/notifications?limit={LISTED}");
    let told = up
        .until("everything is told", &path, SOON, |answer| {
            let all = answer["notifications"].as_array()?;
            let open = |one: &&Value| !matches!(one["state"].as_str(), Some("delivered" | "dead"));
            all.iter().find(open).is_none().then(|| all.clone())
        })
        .await?;
    ensure!(told.len() < LISTED, "{LISTED} notifications: the list may be cut");
    for one in &told {
        ensure!(one["state"] == "delivered", "{one}");
    }
    let history = up.get(&format!("/v1/alerts/history?limit={LISTED}")).await?;
    news_of_history(&history, LISTED)
}

/// Holds what a receiver got against what happened: all of it told, under one id each, taken, and
/// nothing besides.
///
/// # Errors
/// The first promise that is broken.
pub fn judge(news: &BTreeSet<News>, requests: &[Received]) -> Result<Told> {
    let told = Told::read(requests)?;
    let heard: BTreeSet<News> = told.by_news.keys().cloned().collect();
    let untold: Vec<_> = news.difference(&heard).collect();
    ensure!(untold.is_empty(), "{} never told: {untold:?}", untold.len());
    let invented: Vec<_> = heard.difference(news).collect();
    ensure!(invented.is_empty(), "told and not in the history: {invented:?}");
    for (news, id) in &told.by_news {
        ensure!(told.taken.contains(id), "{news:?} was sent as {id} and never taken");
    }
    Ok(told)
}

/// What was told, by notification.
#[derive(Debug, Default)]
pub struct Told {
    /// Which notification tells which news.
    pub by_news: BTreeMap<News, String>,
    /// Which of them were taken: answered with 200.
    pub taken: BTreeSet<String>,
    /// How many requests told again what had been sent before.
    pub repeats: usize,
}

impl Told {
    /// Reads requests in the order in which they came, holding each to the promises: signed,
    /// the same id with the same body, a possible repeat said to be one, each piece of news
    /// under one id, and an alert's news in the order in which it happened.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn read(requests: &[Received]) -> Result<Self> {
        let mut told = Self::default();
        let mut bodies: BTreeMap<&str, Value> = BTreeMap::new();
        let mut may_have_arrived = BTreeSet::new();
        let mut latest: BTreeMap<String, i64> = BTreeMap::new();
        for request in requests {
            let id = request.id.as_str();
            ensure!(request.signed, "not signed: {request:?}");
            ensure!(request.body["data"]["id"] == id, "another id in the body: {request:?}");
            if may_have_arrived.contains(id) {
                let said = &request.body["data"]["may_be_repeat"];
                ensure!(*said == true, "{id} came before and does not say so: {request:?}");
            }
            let body = lasting(&request.body);
            match bodies.get(id) {
                Some(first) => {
                    ensure!(*first == body, "{id} came with two bodies:\n{first}\n{body}");
                    told.repeats += 1;
                }
                None => {
                    for news in news_of(&request.body)? {
                        let before = latest.insert(news.0.clone(), news.2);
                        ensure!(before <= Some(news.2), "{news:?} came after that of {before:?}");
                        if let Some(other) = told.by_news.insert(news.clone(), id.to_owned()) {
                            bail!("{news:?} was told as {other} and as {id}");
                        }
                    }
                    bodies.insert(id, body);
                }
            }
            if request.answered == 200 {
                told.taken.insert(id.to_owned());
            }
            // A refusal is known to be one: what follows it is no repeat.
            if request.answered < 300 {
                may_have_arrived.insert(id);
            }
        }
        Ok(told)
    }
}

/// A body without what may be another at each attempt.
fn lasting(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(data) = body["data"].as_object_mut() {
        data.remove("may_be_repeat");
        // The address of a server that took any free port.
        data.remove("link");
    }
    body
}

fn news_of(body: &Value) -> Result<Vec<News>> {
    let alerts = body["data"]["alerts"].as_array().context("no alerts in a webhook")?;
    ensure!(body["data"]["truncated_alerts"] == 0, "cut short: {body}");
    let news = |alert: &Value| -> Result<News> {
        let status = alert["status"].as_str().context("status")?;
        let time = if status == "firing" { &alert["starts_at"] } else { &alert["ends_at"] };
        let time: jiff::Timestamp = time.as_str().context("a time")?.parse()?;
        let fingerprint = alert["fingerprint"].as_str().context("fingerprint")?;
        Ok((fingerprint.to_owned(), status.to_owned(), time.as_millisecond()))
    };
    alerts.iter().map(news).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn alert(fingerprint: &str, status: &str, second: u32) -> Value {
        let at = format!("2026-11-21T00:00:{second:02}Z");
        let ends = if status == "firing" { Value::Null } else { json!(at) };
        json!({"fingerprint": fingerprint, "status": status, "starts_at": at, "ends_at": ends})
    }

    fn request(id: &str, answered: u16, repeat: bool, alerts: &[Value]) -> Received {
        let data = json!({
            "id": id, "may_be_repeat": repeat, "link": repeat, "truncated_alerts": 0,
            "alerts": alerts,
        });
        Received {
            id: id.to_owned(),
            timestamp: "1".to_owned(),
            signed: true,
            body: json!({"data": data}),
            answered,
        }
    }

    #[test]
    fn repeats_are_counted_and_each_piece_of_news_has_its_notification() {
        let (fires, ends) = (alert("a", "firing", 1), alert("a", "resolved", 2));
        let told = Told::read(&[
            request("1", 503, false, std::slice::from_ref(&fires)),
            request("1", 0, false, std::slice::from_ref(&fires)),
            request("1", 200, true, &[fires]),
            request("2", 503, false, &[ends]),
        ])
        .unwrap();
        assert_eq!((told.repeats, told.by_news.len()), (2, 2));
        assert_eq!(told.taken, BTreeSet::from(["1".to_owned()]));
    }

    #[test]
    fn every_broken_promise_is_found() {
        let (fires, ends) = (alert("a", "firing", 1), alert("a", "resolved", 2));
        let fires = std::slice::from_ref(&fires);
        let unsigned = Received { signed: false, ..request("1", 200, false, fires) };
        let twice = [request("1", 200, false, fires), request("2", 200, false, fires)];
        let silent = [request("1", 0, false, fires), request("1", 200, false, fires)];
        let changed =
            [request("1", 503, false, fires), request("1", 200, false, &[alert("a", "firing", 3)])];
        let backwards = [request("2", 200, false, &[ends]), request("1", 200, false, fires)];
        for (requests, complaint) in [
            (&[unsigned][..], "not signed"),
            (&twice, "was told as 1 and as 2"),
            (&silent, "does not say so"),
            (&changed, "two bodies"),
            (&backwards, "came after"),
        ] {
            let said = Told::read(requests).unwrap_err().to_string();
            assert!(said.contains(complaint), "{complaint}: {said}");
        }
    }

    #[test]
    fn what_was_not_told_not_taken_or_never_happened_is_found() {
        let fires = [alert("a", "firing", 1)];
        let fires = &fires[..];
        let news = news_of(&request("1", 200, false, fires).body).unwrap();
        let news = BTreeSet::from_iter(news);
        assert!(judge(&news, &[request("1", 200, false, fires)]).is_ok());
        for (news, requests, complaint) in [
            (news.clone(), vec![], "never told"),
            (BTreeSet::new(), vec![request("1", 200, false, fires)], "not in the history"),
            (news, vec![request("1", 503, false, fires)], "never taken"),
        ] {
            let said = judge(&news, &requests).unwrap_err().to_string();
            assert!(said.contains(complaint), "{complaint}: {said}");
        }
    }

    #[test]
    fn only_firing_and_the_end_of_firing_are_news() {
        let of = |from: Value, to: &str, at: i64| json!({"fingerprint": "a", "from": from, "to": to, "at": at});
        let history = json!({"transitions": [
            of(Value::Null, "pending", 1), of(json!("pending"), "firing", 2),
            of(json!("firing"), "resolved", 3), of(json!("pending"), "resolved", 4),
        ]});
        let news = news_of_history(&history, 5).unwrap();
        let expected = [("a".to_owned(), "firing".to_owned(), 2)];
        let expected = BTreeSet::from_iter(expected.into_iter().chain([(
            "a".to_owned(),
            "resolved".to_owned(),
            3,
        )]));
        assert_eq!(news, expected);
        assert!(news_of_history(&history, 4).is_err(), "it may be cut");
    }
}
