//! How an alert comes to people, in words.

use sentinel_model::ids::SlotName;
use sentinel_server::api::{Held, Way};

use crate::output::{clean, human};

/// One way, on a line.
pub(super) fn line(way: &Way, now: i64) -> String {
    let mut parts = vec![format!("told to {}", names(&way.notify))];
    match way.route.as_deref().map(|route| route.trim_start_matches('/')) {
        Some("") => parts.push("the first route".to_owned()),
        Some(route) => parts.push(format!("route {}", clean(route))),
        None => {}
    }
    if !way.group.is_empty() {
        parts.push(format!("with {}", clean(&way.group.to_string())));
    }
    let ago = |at: i64| human::ago(now.saturating_sub(at));
    parts.push(match (way.told_at, way.said_at) {
        (Some(first), Some(last)) if first == last => format!("told {}", ago(first)),
        (Some(first), Some(last)) => format!("told {}, last {}", ago(first), ago(last)),
        _ => "not told yet".to_owned(),
    });
    if way.escalated > 0 {
        parts.push(format!("escalated by {}", human::plural(way.escalated as u64, "step")));
    }
    match way.next {
        Some(at) if at <= now => parts.push(format!("is due for {}", names(&way.next_to))),
        Some(at) => {
            parts.push(format!("next in {} to {}", human::span(at - now), names(&way.next_to)));
        }
        None if way.held.is_empty() => parts.push("not told again".to_owned()),
        None => parts.push(format!("held: {}", held(&way.held, now))),
    }
    parts.join("; ")
}

fn names(slots: &[SlotName]) -> String {
    if slots.is_empty() {
        return "nobody".to_owned();
    }
    slots.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn held(all: &[Held], now: i64) -> String {
    let left = |until: i64| human::span(until.saturating_sub(now).max(0));
    let one = |held: &Held| match held {
        Held::NotFiring => "it does not fire".to_owned(),
        Held::Silenced { id, until, author, reason } => {
            let (author, reason) = (clean(author), clean(reason));
            format!("silenced by {} for {} more ({author}: {reason})", clean(id), left(*until))
        }
        Held::Acknowledged { owner, until: Some(until) } => {
            format!("{} has it in hand for {} more", clean(owner), left(*until))
        }
        Held::Acknowledged { owner, until: None } => format!("{} has it in hand", clean(owner)),
        Held::Inhibited { by } => {
            let by: Vec<String> =
                by.iter().map(|(rule, labels)| clean(&format!("{rule}{labels}"))).collect();
            format!("inhibited by {}", by.join(", "))
        }
        Held::MuteTime { names, until } => {
            let until = until.map_or_else(
                || "for more than a week".to_owned(),
                |until| format!("for {} more", left(until)),
            );
            format!("mute time {} {until}", clean(&names.join(", ")))
        }
        Held::Nobody => "nobody is named".to_owned(),
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way() -> Way {
        Way {
            route: Some("//severity=\"page\"".into()),
            group: [("agent", "web-1")].into_iter().collect(),
            notify: vec![SlotName::new("pager").unwrap()],
            told_at: None,
            said_at: None,
            escalated: 0,
            next: Some(30_000),
            next_to: vec![SlotName::new("pager").unwrap()],
            held: Vec::new(),
        }
    }

    #[test]
    fn a_way_says_whom_by_which_route_and_when_next() {
        insta::assert_snapshot!(line(&way(), 10_000), @r#"told to pager; route severity="page"; with {agent="web-1"}; not told yet; next in 20s to pager"#);
        let told = Way {
            told_at: Some(0),
            said_at: Some(60_000),
            escalated: 1,
            next: Some(3_660_000),
            next_to: vec![SlotName::new("boss").unwrap()],
            ..way()
        };
        insta::assert_snapshot!(line(&told, 120_000), @r#"told to pager; route severity="page"; with {agent="web-1"}; told 2m ago, last 1m ago; escalated by 1 step; next in 59m to boss"#);
        let once = Way { route: None, told_at: Some(0), said_at: Some(0), next: None, ..way() };
        insta::assert_snapshot!(line(&once, 60_000), @r#"told to pager; with {agent="web-1"}; told 1m ago; not told again"#);
    }

    #[test]
    fn whatever_holds_an_alert_is_said() {
        let held = vec![
            Held::NotFiring,
            Held::Silenced {
                id: "sil_1".into(),
                until: 70_000,
                author: "ann".into(),
                reason: "disks".into(),
            },
            Held::Acknowledged { owner: "bob".into(), until: None },
            Held::Inhibited { by: vec![("down".into(), way().group)] },
            Held::MuteTime { names: vec!["nights".into()], until: Some(130_000) },
            Held::Nobody,
        ];
        let way = Way { held, next: None, next_to: Vec::new(), notify: Vec::new(), ..way() };
        insta::assert_snapshot!(line(&way, 10_000), @r#"told to nobody; route severity="page"; with {agent="web-1"}; not told yet; held: it does not fire, silenced by sil_1 for 1m more (ann: disks), bob has it in hand, inhibited by down{agent="web-1"}, mute time nights for 2m more, nobody is named"#);
    }
}
