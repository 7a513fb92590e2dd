//! Rules tried out in virtual time, on the code that runs in production: the signed evaluator in
//! its runtime, the windows, the life of alerts and the routing of a worker, and the signed
//! notifiers, whose requests are answered here, so that nothing leaves the machine.
//!
//! ```text
//! test file ── synthetic series ──┐
//! server ───── stored series ─────┤── Play: windows → evaluator (wasm) → Alerts (a worker's own)
//!                                 │        → routes, groups → notifier (wasm) → what it sends
//!                                 └── Record: transitions, who was told what, states at times
//! ```
//!
//! [`Rig`] holds what is dear to make: plugins that are loaded, conditions that were checked. A
//! [`Play`] is one run over it. [`run_file`] is a file of tests; a replay feeds a [`Play`] slice by
//! slice.
//!
//! Invariants: time is what a play says it is; nothing is sent; knows no language of conditions;
//! the same input gives the same record on every machine.

mod file;
mod folder;
mod judge;
mod notation;
mod payload;
mod play;
mod replay;
mod rig;
mod rules;
mod run;
mod world;

pub use file::{TestFile, schema};
pub use folder::{FolderError, SignedFolder};
pub use notation::{MAX_VALUES, NotationError, values};
pub use payload::Sent;
pub use play::{Act, Attempted, Play, Record, Scene, Told, Trigger};
pub use replay::{
    FLAP_MS, History, HistoryError, Look, Outcome, Replay, ReplayError, look, outcomes,
};
pub use rig::{Rig, RigError, Verdict};
pub use rules::{Checked, check_files};
pub use run::{CaseReport, FileReport, run_file};
pub use world::{Asked, Stream};
