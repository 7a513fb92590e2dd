//! A file of tests, run.

use crate::file::{ActCase, MAX_SPAN_MS, MAX_TESTS, TestCase, TestFile};
use crate::judge::{Stage, judge};
use crate::notation;
use crate::play::{Act, Play, Scene, Trigger};
use crate::rig::{Rig, RigError};
use crate::rules::{Checked, check_files};
use crate::world::Stream;
use sentinel_alerting::matching::Matchers;
use sentinel_alerting::routing::Routing;
use sentinel_model::alert::Fingerprint;
use sentinel_model::attention::Silence;
use sentinel_model::document::{Document, MAX_DOCUMENT, Problem, Problems};
use sentinel_model::ids::SlotName;
use sentinel_model::series::{Labels, MatchOp, Selector, SeriesKey};
use sentinel_runtime::evaluator::Plan;
use sentinel_store::query::Points;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// When a test begins that does not say.
const START: &str = "2026-01-01T00:00:00Z";
/// From one value to the next where nothing is said, in milliseconds.
const STEP_MS: i64 = 60_000;
/// Who is told where the file has no notifier.
const EVERYBODY: &str = "everybody";

/// What came of a file.
#[derive(Debug, Serialize)]
pub struct FileReport {
    /// The file, as it was named.
    pub file: String,
    /// Its tests, in order.
    pub tests: Vec<CaseReport>,
}

/// What came of a test.
#[derive(Debug, Serialize)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// The line on which it stands.
    pub line: usize,
    /// In what it differs from what was expected, each as `file:line:column: …`; empty where
    /// it passed.
    pub problems: Vec<String>,
    /// Evaluations of rules that it took.
    pub evaluations: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// Runs the tests of a file; rule files are looked for beside it.
///
/// # Errors
/// Everything that is wrong with the file itself, or with the rules that it names: nothing was
/// run.
pub async fn run_file(rig: &mut Rig, path: &Path) -> Result<FileReport, Problems> {
    let name = path.display().to_string();
    let document = Document::parse(&name, &read(path, &name)?)?;
    let file: TestFile = document.read()?;
    if file.tests.len() > MAX_TESTS {
        let said =
            format!("{} tests, at most {MAX_TESTS}: make it several files", file.tests.len());
        return Err(Problems(vec![document.problem("/tests", said)]));
    }
    let problems = file.worker.problems().into_iter();
    let problems = problems.map(|(at, said)| document.problem(&format!("/worker{at}"), said));
    Problems(problems.collect()).into_result()?;
    let broken = |error: RigError| {
        let path = if file.worker == Default::default() { "" } else { "/worker" };
        Problems(vec![document.problem(path, error.to_string())])
    };
    rig.set_up(&file.worker).await.map_err(broken)?;
    let checked = rules(rig, &document, &file, path).await?;
    let mut cases = Vec::with_capacity(file.tests.len());
    let mut problems = Vec::new();
    let routing = Arc::new(file.worker.routing().unwrap_or_default());
    for (at, case) in file.tests.iter().enumerate() {
        let mut setting =
            Setting { document: &document, path: format!("/tests/{at}"), problems: Vec::new() };
        let made = setting.stage(case, &checked, &file, &routing);
        problems.extend(setting.problems);
        cases.extend(made);
    }
    Problems(problems).into_result()?;
    let mut tests = Vec::with_capacity(cases.len());
    for (at, (case, made)) in file.tests.iter().zip(cases).enumerate() {
        let began = Instant::now();
        let Made { scene, plans, streams, until, stage } = made;
        rig.world.reply(file.answers.clone());
        let mut play = Play::begin(rig, scene, plans).await.map_err(broken)?;
        play.feed(&streams);
        play.advance(until).await;
        let record = play.end();
        let problems = judge(&document, &format!("/tests/{at}"), case, &stage, &record);
        tests.push(CaseReport {
            name: case.name.clone(),
            line: document.problem(&format!("/tests/{at}"), "").line,
            problems: problems.iter().map(ToString::to_string).collect(),
            evaluations: record.evaluations,
            took_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        });
    }
    Ok(FileReport { file: name, tests })
}

fn read(path: &Path, name: &str) -> Result<String, Problems> {
    let unread = |message: String| {
        let (file, path) = (name.to_owned(), String::new());
        Problems(vec![Problem { file, line: 1, column: 1, path, message }])
    };
    let text = std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(MAX_DOCUMENT as u64 + 1).read_to_string(&mut text).map(|_| text)
    });
    text.map_err(|error| unread(format!("it cannot be read: {error}")))
}

/// The rules that a file is about, by name.
async fn rules(
    rig: &mut Rig,
    document: &Document,
    file: &TestFile,
    path: &Path,
) -> Result<BTreeMap<String, Checked>, Problems> {
    let (mut problems, mut files) = (Vec::new(), Vec::new());
    let folder = path.parent().unwrap_or(Path::new(""));
    for (at, named) in file.rules.iter().enumerate() {
        let path = folder.join(named);
        let name = path.display().to_string();
        match read(&path, &name) {
            Ok(text) => files.push((name, text)),
            Err(found) => {
                let said = "a file of rules is not to be had";
                problems.push(document.problem(&format!("/rules/{at}"), said));
                problems.extend(found.0);
            }
        }
    }
    Problems(problems).into_result()?;
    let checked = check_files(rig, &files).await?;
    Ok(checked.into_iter().map(|one| (one.rule.name.clone(), one)).collect())
}

/// A test that can be run.
struct Made {
    scene: Scene,
    plans: Vec<Plan>,
    streams: Vec<Stream>,
    until: i64,
    stage: Stage,
}

/// Reads a test, and keeps everything that is wrong with it.
struct Setting<'d> {
    document: &'d Document,
    path: String,
    problems: Vec<Problem>,
}

impl Setting<'_> {
    fn say(&mut self, at: &str, said: impl Into<String>) {
        self.problems.push(self.document.problem(&format!("{}{at}", self.path), said));
    }

    fn stage(
        &mut self,
        case: &TestCase,
        checked: &BTreeMap<String, Checked>,
        file: &TestFile,
        routing: &Arc<Routing>,
    ) -> Option<Made> {
        let start = case.start.as_deref().unwrap_or(START);
        let Ok(start) = start.parse::<jiff::Timestamp>() else {
            self.say("/start", format!("{start:?} is no time: write 2026-01-01T00:00:00Z"));
            return None;
        };
        let start = start.as_millisecond();
        let mut chosen: Vec<&Checked> = Vec::new();
        for (at, name) in case.only.iter().enumerate() {
            match checked.get(name) {
                Some(one) => chosen.push(one),
                None => self.say(&format!("/only/{at}"), format!("there is no rule {name:?}")),
            }
        }
        if case.only.is_empty() {
            chosen.extend(checked.values());
        }
        let streams = self.streams(case, start);
        let acts = self.acts(&case.acts, start);
        let looks: BTreeSet<i64> = case.expect.iter().map(|look| at(start, look.at.0)).collect();
        let last_told = case.notifications.iter().flatten().map(|told| at(start, told.at.0));
        let samples = streams.iter().filter_map(|one| one.points.times.last().copied());
        let until = match case.until {
            Some(until) => at(start, until.0),
            None => samples.chain(looks.last().copied()).chain(last_told).max().unwrap_or(start),
        };
        if until - start > MAX_SPAN_MS {
            self.say("", "it lasts longer than 35 days: make its steps shorter, or begin later");
        }
        if let Some(late) = case.expect.iter().position(|look| at(start, look.at.0) > until) {
            self.say(&format!("/expect/{late}/at"), "this is after the test's end (`until`)");
        }
        let mut everybody: Vec<SlotName> =
            file.worker.notifiers.iter().map(|one| one.slot.clone()).collect();
        if everybody.is_empty() {
            everybody.push(SlotName::new(EVERYBODY).expect("a valid name"));
        }
        let scene = Scene {
            rules: chosen.iter().map(|one| Arc::clone(&one.rule)).collect(),
            routing: Arc::clone(routing),
            everybody,
            begins: at(start, case.from.0),
            trigger: Trigger::Samples,
            acts,
            looks,
        };
        let plans = chosen.iter().map(|one| one.plan.clone()).collect();
        let with_plugin = file.worker.notifiers.iter().map(|one| one.slot.clone()).collect();
        let stage = Stage { start, with_plugin };
        self.problems.is_empty().then_some(Made { scene, plans, streams, until, stage })
    }

    fn streams(&mut self, case: &TestCase, start: i64) -> Vec<Stream> {
        let mut streams: BTreeMap<SeriesKey, Stream> = BTreeMap::new();
        for (i, one) in case.series.iter().enumerate() {
            let place = format!("/series/{i}");
            let key = match key(&one.series) {
                Ok(key) => key,
                Err(why) => {
                    self.say(&format!("{place}/series"), why);
                    continue;
                }
            };
            let values = match notation::values(&one.values) {
                Ok(values) => values,
                Err(why) => {
                    self.say(&format!("{place}/values"), why.to_string());
                    continue;
                }
            };
            let step = one.step.or(case.step).map_or(STEP_MS, |step| at(0, step.0));
            if step == 0 {
                self.say(&format!("{place}/step"), "a step of 0 has no second value");
                continue;
            }
            let (mut points, first) = (Points::default(), at(start, one.from.0));
            for (n, value) in values.into_iter().enumerate() {
                if let Some(value) = value {
                    points.times.push(first.saturating_add(step.saturating_mul(n as i64)));
                    points.values.push(value);
                }
            }
            let stream = Stream { key: key.clone(), points };
            if streams.insert(key, stream).is_some() {
                self.say(&format!("{place}/series"), "this series is there already");
            }
        }
        streams.into_values().collect()
    }

    fn acts(&mut self, acts: &[ActCase], start: i64) -> Vec<(i64, Act)> {
        let mut out = Vec::new();
        for (i, act) in acts.iter().enumerate() {
            let (now, place) = (at(start, act.at.0), format!("/acts/{i}"));
            let ends = act.lasts.map(|lasts| at(now, lasts.0));
            match (act.silence.is_empty(), &act.acknowledge) {
                (true, Some(alert)) => {
                    let labels = Labels::from(alert.labels.clone());
                    let fingerprint = Fingerprint::of(&alert.rule, &labels);
                    out.push((now, Act::Acknowledge { fingerprint, until: ends }));
                }
                (false, None) => {
                    for (at, why) in Matchers::parse(&act.silence).err().into_iter().flatten() {
                        self.say(&format!("{place}/silence/{at}"), why);
                    }
                    let Some(ends_at) = ends else {
                        self.say(&place, "a silence needs a `for`");
                        continue;
                    };
                    let silence = Silence {
                        id: format!("sil_{i}"),
                        matchers: act.silence.clone(),
                        starts_at: now,
                        ends_at,
                        author: "test".to_owned(),
                        reason: String::new(),
                        created_at: now,
                        ended_by: None,
                    };
                    out.push((now, Act::Silence(silence)));
                }
                _ => self.say(&place, "write either `silence` or `acknowledge`"),
            }
        }
        out
    }
}

/// A time after another, in milliseconds.
fn at(start: i64, after: u64) -> i64 {
    start.saturating_add(i64::try_from(after).unwrap_or(i64::MAX))
}

/// One series, written as a selector of which all matchers say what a label is.
fn key(text: &str) -> Result<SeriesKey, String> {
    let selector: Selector = text.parse().map_err(|error| format!("{error}"))?;
    let mut labels = Labels::default();
    for one in &selector.matchers {
        if one.op != MatchOp::Equal {
            return Err(format!("a series has labels with values: {}=\"…\"", one.label));
        }
        labels.set(&one.label, &one.value);
    }
    Ok(SeriesKey { name: selector.name, labels })
}
