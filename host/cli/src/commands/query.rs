//! `sentinel query` and `sentinel metrics`: stored series.

use std::collections::BTreeMap;

use clap::Args;
use sentinel_model::duration::Millis;
use sentinel_model::series::Labels;
use sentinel_server::api::{QueryBody, SeriesBody};

use super::now;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::sparkline;
use crate::output::table::Table;
use crate::output::{Look, Printer, clean, human};

/// The widest sparkline.
const MOST_COLUMNS: usize = 60;
/// The narrowest.
const LEAST_COLUMNS: usize = 8;

/// Options of `sentinel query`.
#[derive(Debug, Args)]
pub(crate) struct Query {
    /// Which series: `name`, or `name{label="value", other=~"regex"}`.
    selector: String,
    /// How far back.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    last: Millis,
    /// At most one value in each step of this length.
    #[arg(long, value_name = "DURATION")]
    step: Option<Millis>,
    /// The most series to show.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

pub(super) async fn run(command: Query, client: &Client, printer: &Printer) -> Result<(), Failure> {
    if command.last == Millis(0) {
        return Err(Failure::new("--last 0s leaves no time to ask about").hint("try --last 5m"));
    }
    let end = now();
    let start = end - i64::try_from(command.last.0)?;
    let mut query = vec![
        ("selector", command.selector.clone()),
        ("start", start.to_string()),
        ("end", end.to_string()),
        ("limit", command.limit.to_string()),
    ];
    query.extend(command.step.map(|step| ("step", step.to_string())));
    let found: QueryBody = client.get("/v1/query", &query).await?;
    printer.data(&found, |look| text(&found, (start, end), look))?;
    if found.series.is_empty() {
        printer.say(&format!("no series of {} in the last {}", command.selector, command.last));
        printer.hint("`sentinel metrics` lists the names there are");
    }
    if found.truncated {
        printer.warn(&format!("there are more than {} series; see --limit", command.limit));
    }
    Ok(())
}

fn text(found: &QueryBody, range: (i64, i64), look: Look) -> String {
    if found.series.is_empty() {
        return String::new();
    }
    let shared = shared_labels(&found.series);
    let shared_name = found.series.iter().all(|one| one.name == found.series[0].name);
    let names: Vec<String> =
        found.series.iter().map(|one| row_name(one, &shared, shared_name)).collect();
    let mut head = String::new();
    if found.series.len() > 1 && (shared_name || !shared.is_empty()) {
        let name = if shared_name { found.series[0].name.as_str() } else { "" };
        head = format!("{}\n\n", clean(&format!("{name}{}", labels(&shared))));
    }
    let rows: Vec<[String; 4]> =
        found.series.iter().zip(&names).map(|(one, name)| figures(one, name)).collect();
    let taken: usize = (0..4)
        .map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0).max(6) + 2)
        .sum();
    let width = look.width.saturating_sub(taken).clamp(LEAST_COLUMNS, MOST_COLUMNS);
    let mut table = Table::new(look, &["series", ">last", ">min", ">max", "over time"]);
    for (one, row) in found.series.iter().zip(rows) {
        table.row(row.into_iter().chain([line(one, range, width)]));
    }
    head + &table.text()
}

/// Labels that all series have alike, where there are several.
fn shared_labels(series: &[SeriesBody]) -> BTreeMap<String, String> {
    let Some((first, rest)) = series.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return BTreeMap::new();
    };
    let mut shared = first.labels.clone();
    shared.retain(|key, value| rest.iter().all(|one| one.labels.get(key) == Some(value)));
    shared
}

fn row_name(one: &SeriesBody, shared: &BTreeMap<String, String>, shared_name: bool) -> String {
    let mut own = one.labels.clone();
    own.retain(|key, _| !shared.contains_key(key));
    let own = labels(&own);
    // A lone series is shown whole, and so is one that has nothing of its own.
    if shared_name && !own.is_empty() && !shared.is_empty() {
        own
    } else {
        format!("{}{own}", one.name)
    }
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    Labels::from(labels.clone()).to_string()
}

fn points(one: &SeriesBody) -> Vec<(i64, f64)> {
    let pairs = one.times.iter().zip(&one.values);
    pairs.map(|(time, value)| (*time, value.0)).collect()
}

fn figures(one: &SeriesBody, name: &str) -> [String; 4] {
    let values: Vec<f64> = points(one).into_iter().map(|(_, value)| value).collect();
    let shown = |value: Option<f64>| {
        value.map_or_else(|| "-".to_owned(), |value| human::measured(&one.name, value))
    };
    [
        name.to_owned(),
        shown(values.last().copied()),
        shown(values.iter().copied().reduce(f64::min)),
        shown(values.iter().copied().reduce(f64::max)),
    ]
}

/// A gauge as it was; a counter as it grew.
fn line(one: &SeriesBody, range: (i64, i64), width: usize) -> String {
    let mut points = points(one);
    points.retain(|(_, value)| value.is_finite());
    let points = if one.kind == 0 { points } else { sparkline::rates(&points) };
    sparkline::draw(&points, range, width)
}

/// Options of `sentinel metrics`.
#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// What their names start with.
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
}

pub(super) async fn metrics(
    command: Metrics,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let names: Vec<String> =
        client.get("/v1/metrics", &[("prefix", command.prefix.clone())]).await?;
    printer.data(&names, |_| names.iter().map(|name| clean(name) + "\n").collect())?;
    if names.is_empty() {
        printer.say(&format!("no metric's name starts with {:?}", command.prefix));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_model::number::Number;

    const LOOK: Look = Look { color: false, width: 80 };

    fn series(name: &str, labels: &[(&str, &str)], kind: u8, values: &[f64]) -> SeriesBody {
        SeriesBody {
            name: name.into(),
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            kind,
            times: (0..values.len() as i64).map(|at| at * 10_000).collect(),
            values: values.iter().copied().map(Number).collect(),
        }
    }

    fn shown(series: Vec<SeriesBody>) -> String {
        text(&QueryBody { series, truncated: false }, (0, 60_000), LOOK)
    }

    #[test]
    fn what_all_series_share_is_said_once() {
        let cpu = |core, mode, values: &[f64]| {
            series(
                "system_cpu_time_seconds_total",
                &[("agent", "web-1"), ("cpu", core), ("mode", mode)],
                1,
                values,
            )
        };
        insta::assert_snapshot!(shown(vec![
            cpu("0", "idle", &[100.0, 109.0, 118.0, 127.0, 128.0, 130.0]),
            cpu("0", "user", &[10.0, 11.0, 12.0, 13.0, 22.0, 30.5]),
            cpu("1", "idle", &[0.25, f64::NAN, f64::NAN, 0.5]),
        ]));
    }

    #[test]
    fn a_lone_series_is_shown_whole() {
        insta::assert_snapshot!(shown(vec![series(
            "system_memory_usage_bytes",
            &[("agent", "web-1"), ("state", "used")],
            0,
            &[4e9, 4.1e9, 4.2e9, 4.1e9, 5e9, 4e9],
        )]));
    }

    #[test]
    fn series_of_several_names_keep_them() {
        insta::assert_snapshot!(shown(vec![
            series("a", &[("agent", "x")], 0, &[1.0]),
            series("b", &[("agent", "x"), ("l", "\u{1b}[2J")], 0, &[]),
        ]));
    }
}
