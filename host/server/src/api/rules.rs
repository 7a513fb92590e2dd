//! Rules: what is sent to be checked and applied, and what comes of it.

use super::ProblemBody;
use sentinel_model::rule::RuleSet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The rules in force, or those of an earlier version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RulesBody {
    /// They, with their version and when they were applied.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub set: RuleSet,
    /// Who applied them, if the log of changes says it still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_by: Option<String>,
}

/// A version of the rules that is kept.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RuleVersionBody {
    /// Its number, from 1.
    pub version: u64,
    /// Unix milliseconds at which it was applied.
    pub applied_at: i64,
    /// Who applied it, if the log of changes says it still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_by: Option<String>,
    /// How many rules it has.
    pub rules: u64,
}

/// Rule files to apply, as they were read: the server finds every problem and its line.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ApplyBody {
    /// The files; together they become all the rules in force.
    pub files: Vec<FileBody>,
    /// Check and compare only.
    #[serde(default)]
    pub dry_run: bool,
    /// Only while this version is in force; whatever is where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
}

/// One file.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FileBody {
    /// Its name, for messages.
    pub name: String,
    /// YAML or JSON.
    pub text: String,
}

/// What an apply did, or would do.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct AppliedBody {
    /// The version in force afterwards.
    pub version: u64,
    /// Names of new rules.
    pub added: Vec<String>,
    /// Names of rules that differ.
    pub changed: Vec<String>,
    /// What differs in each of them, by field.
    #[serde(default)]
    pub changes: Vec<ChangeBody>,
    /// Names of rules that are gone.
    pub removed: Vec<String>,
    /// How many are as they were.
    pub unchanged: usize,
    /// What a person should look at.
    pub warnings: Vec<ProblemBody>,
}

/// A rule that is otherwise than before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeBody {
    /// Its name.
    pub rule: String,
    /// Where it differs.
    pub fields: Vec<FieldBody>,
    /// How many fields more differ than are said.
    #[serde(default)]
    pub more: usize,
}

/// One field of a rule, or of what is in a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FieldBody {
    /// JSON Pointer into the rule, as it is written in files.
    pub path: String,
    /// What stands there; absent where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub before: Option<Value>,
    /// What will stand there; absent where nothing will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub after: Option<Value>,
}

/// Rule files to look at. Nothing is changed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckBody {
    /// The files, as if they were all the rules.
    pub files: Vec<FileBody>,
}

/// All there is to say of rule files.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CheckedBody {
    /// Why they cannot be applied.
    pub problems: Vec<ProblemBody>,
    /// What a person should look at: metrics and labels that nobody sends, rules that are dear.
    pub warnings: Vec<ProblemBody>,
    /// Whether what the rules read was compared with what is stored.
    pub looked_up: bool,
    /// How many rules there are.
    pub rules: usize,
    /// What each rule costs, in the order of the files; those without a sound condition have none.
    pub costs: Vec<CostBody>,
}

/// What one rule costs, by what was stored lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostBody {
    /// Its name.
    pub rule: String,
    /// The file that it stands in.
    pub file: String,
    /// Where it begins, from 1.
    pub line: usize,
    /// Evaluations a minute: at its interval, and as of what it reads. Without the latter where
    /// that was not looked up.
    pub evaluations: f64,
    /// Series that it reads; absent where that was not looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<u64>,
    /// Samples in its windows; absent where that was not looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// What it reads.
    pub reads: Vec<ReadBody>,
}

/// One selection that a rule reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReadBody {
    /// Which series.
    pub selector: String,
    /// How far back, in milliseconds.
    pub window_ms: u64,
    /// How many series that are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<u64>,
    /// How many samples lie in the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
}
