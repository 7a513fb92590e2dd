//! What is being done and for how long, on stderr: a spinner on a terminal, plain lines elsewhere.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use anyhow::Result;
use console::style;
use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal, a long step says how far it is at most this often.
const PLAIN_NOTE_EVERY: Duration = Duration::from_secs(15);

/// A numbered list of steps.
#[derive(Debug)]
pub(crate) struct Steps {
    total: usize,
    begun: Instant,
    at: Cell<usize>,
    terminal: bool,
    times: RefCell<Vec<StepTime>>,
}

/// How one step ended.
#[derive(Debug, Clone)]
pub(crate) struct StepTime {
    /// What it was called.
    pub(crate) title: String,
    /// How long it took.
    pub(crate) took: Duration,
    /// Whether it did what it should.
    pub(crate) ok: bool,
    /// One line about its result.
    pub(crate) detail: String,
}

/// The step that runs now.
#[derive(Debug)]
pub(crate) struct Step {
    prefix: String,
    title: String,
    begun: Instant,
    bar: Option<ProgressBar>,
    noted: Cell<Instant>,
}

impl Steps {
    /// A list that will have `total` steps.
    pub(crate) fn new(total: usize) -> Self {
        Steps {
            total,
            begun: Instant::now(),
            at: Cell::new(0),
            terminal: stderr().is_terminal(),
            times: RefCell::new(Vec::new()),
        }
    }

    /// Runs the next step. Its closure returns a value and one line for the reader.
    pub(crate) fn run<T>(
        &self,
        title: &str,
        work: impl FnOnce(&Step) -> Result<(T, String)>,
    ) -> Result<T> {
        self.at.set(self.at.get() + 1);
        let step = Step::start(
            format!("[{}/{}]", self.at.get(), self.total),
            title.to_owned(),
            self.terminal,
        );
        let outcome = work(&step);
        let took = step.begun.elapsed();
        let detail = match &outcome {
            Ok((_, detail)) => detail.clone(),
            Err(_) => "failed".to_owned(),
        };
        step.end(outcome.is_ok(), &detail, took);
        self.times.borrow_mut().push(StepTime {
            title: title.to_owned(),
            took,
            ok: outcome.is_ok(),
            detail,
        });
        outcome.map(|(value, _)| value)
    }

    /// The steps that have ended, in order.
    pub(crate) fn times(&self) -> Vec<StepTime> {
        self.times.borrow().clone()
    }

    /// Since the list was begun.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Step {
    fn start(prefix: String, title: String, terminal: bool) -> Step {
        let bar = if terminal {
            let bar = ProgressBar::new_spinner();
            if let Ok(shape) =
                ProgressStyle::with_template("{prefix:.dim} {spinner} {msg} {elapsed:.dim}")
            {
                bar.set_style(shape);
            }
            bar.set_prefix(prefix.clone());
            bar.set_message(title.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            Some(bar)
        } else {
            eprintln!("{prefix} {title} ...");
            None
        };
        let now = Instant::now();
        Step { prefix, title, begun: now, bar, noted: Cell::new(now) }
    }

    /// Says how far the step is. Cheap: call it as often as there is news.
    pub(crate) fn note(&self, note: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}: {note}", self.title)),
            None => {
                if self.noted.get().elapsed() >= PLAIN_NOTE_EVERY {
                    self.noted.set(Instant::now());
                    let took = seconds(self.begun.elapsed());
                    eprintln!("{} {}: {note} ({took})", self.prefix, self.title);
                }
            }
        }
    }

    /// Says something that has to stay on the screen.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("      {line}")),
            None => eprintln!("      {line}"),
        }
    }

    /// Leaves the screen to something else that writes on it.
    pub(crate) fn make_room(&self) {
        if let Some(bar) = &self.bar {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }

    fn end(&self, ok: bool, detail: &str, took: Duration) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let mark = if ok { style("done").green() } else { style("FAILED").red() };
        let detail = if ok && !detail.is_empty() { format!(": {detail}") } else { String::new() };
        let took = seconds(took);
        eprintln!("{} {} {mark} in {took}{detail}", self.prefix, self.title);
    }
}

/// A duration for a reader.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole >= 60 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_reads_in_seconds_then_in_minutes() {
        for (millis, text) in [
            (40, "0.0 s"),
            (1_250, "1.2 s"),
            (59_900, "59.9 s"),
            (60_000, "1 min 00 s"),
            (125_000, "2 min 05 s"),
        ] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_failed_step_is_kept_with_its_name_and_the_next_one_still_runs() {
        let steps = Steps::new(2);
        assert!(steps.run("one", |_| -> Result<((), String)> { anyhow::bail!("no") }).is_err());
        assert_eq!(steps.run("two", |_| Ok((7, "seven".to_owned()))).unwrap(), 7);
        let times = steps.times();
        assert_eq!((times[0].title.as_str(), times[0].ok), ("one", false));
        assert_eq!((times[1].detail.as_str(), times[1].ok), ("seven", true));
    }
}
