//! A transform through WASM, against the same logic in native Rust.
//!
//! A batch of 2,000 rows with 5 labels; the edit drops the rows of three prefixes, renames a
//! label, adds one, and scales some values with a new name.

use crate::COMPILE_CHILD;
use crate::built::Built;
use crate::row::{Better, Row};
use anyhow::Result;
use prometheus::Registry;
use sentinel_model::batch::{Batch, BatchBuilder};
use sentinel_model::columns::{Columns, Kind};
use sentinel_model::ids::SlotName;
use sentinel_runtime::{CompilerCommand, Runtime, RuntimeOptions, Services, Slot, SlotSpec};
use serde_json::{Value, json};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const ROWS: usize = 2000;
const ROUNDS: usize = 40;
const DROPPED: [&str; 3] = ["go_", "promhttp_", "process_"];

fn input() -> Batch {
    let mut builder = BatchBuilder::new();
    let names: Vec<String> = (0..40)
        .map(|i| match i % 10 {
            0 => format!("go_metric_{i}"),
            1 => format!("process_metric_{i}"),
            2 | 3 => format!("node_size_{i}_bytes"),
            _ => format!("node_metric_{i}"),
        })
        .collect();
    let hosts: Vec<String> = (0..50).map(|i| format!("host-{i}.example.com:9100")).collect();
    let devices: Vec<String> = (0..20).map(|i| format!("device{i}")).collect();
    for row in 0..ROWS {
        let labels = [
            ("instance", hosts[row % 50].as_str()),
            ("job", "node"),
            ("device", devices[row % 20].as_str()),
            ("mode", ["user", "system", "idle"][row % 3]),
            ("zone", ["a", "b"][row % 2]),
        ];
        builder.push(&names[row % 40], labels, Kind::Gauge, row as f64 * 1.5, 1_700_000_000_000);
    }
    builder.build().expect("a batch")
}

/// A row as a program without columns has it.
#[derive(Clone)]
struct TypedRow {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

fn typed(batch: &Batch) -> Vec<TypedRow> {
    let text = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
    batch
        .rows()
        .map(|r| TypedRow {
            name: r.name().to_owned(),
            labels: r.labels().map(text).collect(),
            value: r.value(),
        })
        .collect()
}

fn edit_rows(rows: Vec<TypedRow>) -> Vec<TypedRow> {
    let mut out = Vec::with_capacity(rows.len());
    for mut row in rows {
        if DROPPED.iter().any(|prefix| row.name.starts_with(prefix)) {
            continue;
        }
        for label in &mut row.labels {
            if label.0 == "instance" {
                "host".clone_into(&mut label.0);
            }
        }
        row.labels.push(("env".to_owned(), "prod".to_owned()));
        if let Some(stem) = row.name.strip_suffix("_bytes") {
            row.name = format!("{stem}_mebibytes");
            row.value /= 1_048_576.0;
        }
        out.push(row);
    }
    out
}

/// What becomes of a name.
#[derive(Clone, Copy)]
enum Fate {
    Unknown,
    Drop,
    Keep,
    Scale(u32),
}

fn edit_columns(batch: &Batch) -> Columns {
    let mut out = Columns {
        symbols: batch.symbols.clone(),
        symbol_ends: batch.symbol_ends.clone(),
        name: Vec::with_capacity(batch.len()),
        label_offsets: Vec::with_capacity(batch.len() + 1),
        labels: Vec::with_capacity(batch.labels.len() + 2 * batch.len()),
        kind: Vec::with_capacity(batch.len()),
        value: Vec::with_capacity(batch.len()),
        time: Vec::with_capacity(batch.len()),
    };
    let intern = |out: &mut Columns, text: &str| {
        out.symbols.push_str(text);
        out.symbol_ends.push(out.symbols.len() as u32);
        out.symbol_ends.len() as u32 - 1
    };
    let (host, env, prod) =
        (intern(&mut out, "host"), intern(&mut out, "env"), intern(&mut out, "prod"));
    let instance = (0..batch.symbol_ends.len() as u32).find(|s| batch.symbol(*s) == "instance");
    let mut fates = vec![Fate::Unknown; batch.symbol_ends.len()];
    out.label_offsets.push(0);
    for row in 0..batch.len() {
        let name = batch.name[row];
        if let Fate::Unknown = fates[name as usize] {
            let text = batch.symbol(name);
            fates[name as usize] = if DROPPED.iter().any(|p| text.starts_with(p)) {
                Fate::Drop
            } else if let Some(stem) = text.strip_suffix("_bytes") {
                Fate::Scale(intern(&mut out, &format!("{stem}_mebibytes")))
            } else {
                Fate::Keep
            };
        }
        let (name, value) = match fates[name as usize] {
            Fate::Drop | Fate::Unknown => continue,
            Fate::Keep => (name, batch.value[row]),
            Fate::Scale(to) => (to, batch.value[row] / 1_048_576.0),
        };
        out.name.push(name);
        out.value.push(value);
        out.kind.push(batch.kind[row]);
        out.time.push(batch.time[row]);
        for pair in batch.label_symbols(row).chunks_exact(2) {
            out.labels.push(if Some(pair[0]) == instance { host } else { pair[0] });
            out.labels.push(pair[1]);
        }
        out.labels.extend([env, prod]);
        out.label_offsets.push(out.labels.len() as u32);
    }
    out
}

/// The same edit as rules of `sentinel/rows`.
fn rules() -> Value {
    json!({ "rules": [
        { "drop": { "select": { "name": "go_*" } } },
        { "drop": { "select": { "name": "promhttp_*" } } },
        { "drop": { "select": { "name": "process_*" } } },
        { "rename_label": { "from": "instance", "to": "host" } },
        { "set_label": { "label": "env", "value": "prod" } },
        { "scale": { "select": { "name": "*_bytes" }, "factor": 1.0 / 1_048_576.0 } },
        { "rename": { "pattern": "(.*)_bytes", "to": "${1}_mebibytes" } },
    ] })
}

/// The best time of a row in nanoseconds, over rounds that take turns with the others.
struct Best(f64);

impl Best {
    fn take(&mut self, start: Instant) {
        self.0 = self.0.min(start.elapsed().as_nanos() as f64 / ROWS as f64);
    }
}

async fn slot(
    runtime: &Arc<Runtime>,
    plugins: &Built,
    name: &str,
    plugin: &str,
    config: Value,
) -> Result<Slot> {
    let spec = SlotSpec {
        name: SlotName::new(name)?,
        component: plugins.plugin(plugin)?,
        config,
        grants: Default::default(),
    };
    Ok(Slot::start(runtime, spec, Services::none()).await?)
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let compiler = CompilerCommand::this_program([COMPILE_CHILD])?;
    let runtime = Runtime::start(RuntimeOptions::new(dir.path(), compiler, Registry::new()))?;
    let plugins = Built::open()?;
    let rules = slot(&runtime, &plugins, "rows", "sentinel/rows", rules()).await?;
    let view =
        slot(&runtime, &plugins, "view", "sentinel/pass", json!({ "edit": "rows_memo" })).await?;
    let columns =
        slot(&runtime, &plugins, "columns", "sentinel/pass", json!({ "edit": "columns" })).await?;
    let boundary = slot(&runtime, &plugins, "boundary", "sentinel/pass", json!({})).await?;
    let batch = Arc::new(input());
    let rows = typed(&batch);
    let expected = edit_rows(rows.clone()).len();
    for slot in [&rules, &view, &columns] {
        anyhow::ensure!(
            slot.reshape(Arc::clone(&batch)).await?.len() == expected,
            "the edits differ"
        );
    }
    let [
        mut typed_best,
        mut native,
        mut checked,
        mut by_rules,
        mut by_view,
        mut by_columns,
        mut unedited,
    ] = std::array::from_fn(|_| Best(f64::MAX));
    for _ in 0..ROUNDS {
        let copy = rows.clone();
        let start = Instant::now();
        black_box(edit_rows(copy));
        typed_best.take(start);
        let start = Instant::now();
        black_box(edit_columns(black_box(&batch)));
        native.take(start);
        let start = Instant::now();
        black_box(Batch::new(edit_columns(black_box(&batch)))?);
        checked.take(start);
        for (slot, best) in [
            (&rules, &mut by_rules),
            (&view, &mut by_view),
            (&columns, &mut by_columns),
            (&boundary, &mut unedited),
        ] {
            let start = Instant::now();
            black_box(slot.reshape(Arc::clone(&batch)).await?);
            best.take(start);
        }
    }
    let detail = json!({
        "ns_a_row": {
            "native typed rows": typed_best.0, "native columns": native.0,
            "native columns, result checked": checked.0, "sentinel/rows, 7 rules": by_rules.0,
            "row view": by_view.0, "columns": by_columns.0,
            "nothing edited: call, boundary, check": unedited.0,
        },
        "columns_in_wasm_vs_native_columns": { "value": by_columns.0 / native.0, "limit": 4 },
        "row_view_vs_native_columns_checked": by_view.0 / checked.0,
        "row_view_vs_native_rows": by_view.0 / typed_best.0,
    });
    Ok(vec![
        Row::new(
            "transform-vs-native-rows",
            by_rules.0 / typed_best.0,
            (Better::Lower, 1.0),
            "×",
            detail.clone(),
        ),
        Row::new(
            "transform-vs-native-columns",
            by_view.0 / native.0,
            (Better::Lower, 10.0),
            "×",
            detail,
        ),
    ])
}
