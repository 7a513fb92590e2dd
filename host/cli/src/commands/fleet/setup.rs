//! How a plugin is set up in a slot, as options say it.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use sentinel_model::document::{Document, MAX_DOCUMENT};
use sentinel_model::duration::Millis;
use sentinel_trust::fleet::{Collect, NotifyOnUnknown};
use sentinel_trust::{Kind, Manifest};
use serde_json::{Map, Value};

use super::grant::Named;
use crate::failure::Failure;
use crate::files;

/// Most bytes of a file of grants.
const MAX_GRANT_BYTES: usize = 64 << 10;

/// What every slot may be given.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// The plugin's configuration, YAML or JSON; - reads standard input
    #[arg(long, value_name = "FILE|-")]
    config: Option<PathBuf>,
    /// One value of the configuration: `port=8080`, `tls.verify=false`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What it may do: system, series, http=https://a.example:443,POST, secret=NAME,ORIGIN,header:NAME,
    /// files=/var/log/nginx/*.log, mac=KEY, kv=64KiB, {JSON} or @FILE
    #[arg(long, value_name = "GRANT")]
    grant: Vec<String>,
    /// Grant everything that it asks for, where there is nothing to choose
    #[arg(long)]
    grant_all: bool,
    #[arg(skip)]
    input: OnceCell<String>,
}

/// What collectors and notifiers may be given besides.
#[derive(Debug, Args)]
pub(crate) struct Running {
    /// Of a collector: the time between two calls
    #[arg(long, value_name = "DURATION")]
    interval: Option<Millis>,
    /// Of a collector: a label for each of its samples
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Of a notifier: what is done where nobody knows whether a notification arrived
    #[arg(long, value_enum)]
    on_unknown: Option<OnUnknown>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnUnknown {
    /// Send it again under the same id.
    Retry,
    /// Put it to the dead letters.
    Hold,
}

impl Setup {
    /// What is granted, as far as it was named.
    ///
    /// # Errors
    /// A grant that cannot be read.
    pub(super) fn named(&self) -> Result<Named, Failure> {
        let file = |path: &str| {
            files::read_text(Path::new(path), MAX_GRANT_BYTES).map_err(|failure| failure.message)
        };
        Named::read(&self.grant, self.grant_all, file).map_err(Failure::new)
    }

    /// The configuration, which fits the plugin's schema. `before` is what it is without these
    /// options.
    ///
    /// # Errors
    /// Every value that does not fit, with its line.
    pub(super) fn config(&self, before: &Value, manifest: &Manifest) -> Result<Value, Failure> {
        let document = self.document(before)?;
        if !document.value().is_object() {
            return Err(Failure::new("the configuration is not an object: write `key: value`"));
        }
        let schema = Value::Object(manifest.config_schema.clone());
        document.validate(&schema).map_err(|problems| {
            Failure::new(format!(
                "the configuration does not fit {}:\n{problems}",
                manifest.release()
            ))
            .hint("give another with --config FILE, or single values with --set KEY=VALUE")
        })?;
        Ok(document.value().clone())
    }

    fn document(&self, before: &Value) -> Result<Document, Failure> {
        let read = match &self.config {
            Some(path) => {
                let name = if path == Path::new("-") {
                    "standard input".into()
                } else {
                    path.display().to_string()
                };
                Some(Document::parse(&name, &self.text(path)?)?)
            }
            None => None,
        };
        if let Some(read) = &read
            && self.set.is_empty()
        {
            return Ok(read.clone());
        }
        let mut value = read.map_or_else(|| before.clone(), |read| read.value().clone());
        for one in &self.set {
            set(&mut value, one)?;
        }
        Ok(Document::parse("configuration", &serde_json::to_string_pretty(&value)?)?)
    }

    /// A file's text; what stands in standard input is read once.
    fn text(&self, path: &Path) -> Result<String, Failure> {
        if path != Path::new("-") {
            return files::read_text(path, MAX_DOCUMENT);
        }
        if let Some(text) = self.input.get() {
            return Ok(text.clone());
        }
        let mut text = String::new();
        std::io::stdin().lock().take(MAX_DOCUMENT as u64 + 1).read_to_string(&mut text)?;
        Ok(self.input.get_or_init(|| text).clone())
    }
}

impl Running {
    /// How a collector is called and what its samples bear; of another kind nothing may be said.
    ///
    /// # Errors
    /// Options that mean nothing for the kind, labels that are none.
    pub(super) fn collect(&self, kind: Kind) -> Result<Option<Collect>, Failure> {
        let mut labels = BTreeMap::new();
        for text in &self.label {
            let (key, value) = pair("--label", text)?;
            if labels.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(Failure::new(format!("--label {key} is there twice")));
            }
        }
        let collect = Collect { interval_ms: self.interval.map(|interval| interval.0), labels };
        if collect == Collect::default() {
            return Ok(None);
        }
        if kind != Kind::Collector {
            return Err(Failure::new(format!(
                "--interval and --label are for collectors, and this plugin is a {kind}"
            )));
        }
        Ok(Some(collect))
    }

    /// What a notifier does where nobody knows.
    ///
    /// # Errors
    /// A plugin of another kind.
    pub(super) fn on_unknown(&self, kind: Kind) -> Result<Option<NotifyOnUnknown>, Failure> {
        if self.on_unknown.is_some() && kind != Kind::Notifier {
            return Err(Failure::new(format!(
                "--on-unknown is for notifiers, and this plugin is a {kind}"
            )));
        }
        Ok(self.on_unknown.map(|one| match one {
            OnUnknown::Retry => NotifyOnUnknown::Retry,
            OnUnknown::Hold => NotifyOnUnknown::Hold,
        }))
    }
}

fn pair<'a>(option: &str, text: &'a str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| Failure::new(format!("{option} {text}: write KEY=VALUE")))
}

/// Puts a value where its dotted key says. What is no JSON is a text.
fn set(config: &mut Value, text: &str) -> Result<(), Failure> {
    let (key, value) = pair("--set", text)?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    let mut at = config;
    for part in key.split('.') {
        if part.is_empty() {
            return Err(Failure::new(format!("--set {text}: a part of the key is empty")));
        }
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(object) = at else {
            return Err(Failure::new(format!(
                "--set {text}: what stands before {part:?} is not an object; give it with --config"
            )));
        };
        at = object.entry(part).or_insert(Value::Null);
    }
    *at = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest() -> Manifest {
        serde_json::from_value(json!({
            "format": 1, "name": "acme/toy", "version": "1.0.0", "kind": "collector",
            "contract": "0.1.0", "description": "A toy.", "license": "MIT",
            "config_schema": {
                "type": "object", "required": ["url"], "additionalProperties": false,
                "properties": {
                    "url": {"type": "string"}, "port": {"type": "integer"},
                    "tls": {"type": "object", "properties": {"verify": {"type": "boolean"}}},
                },
            },
        }))
        .unwrap()
    }

    fn setup(set: &[&str], config: Option<&Path>) -> Setup {
        Setup {
            config: config.map(Path::to_owned),
            set: set.iter().map(|&text| text.to_owned()).collect(),
            grant: Vec::new(),
            grant_all: false,
            input: OnceCell::new(),
        }
    }

    #[test]
    fn single_values_are_put_where_their_keys_say() {
        for (before, texts, after) in [
            (json!({"url": "a"}), &[][..], Ok(json!({"url": "a"}))),
            (json!({}), &["url=a"], Ok(json!({"url": "a"}))),
            (json!({"url": "a"}), &["url=b=c", "port=80"], Ok(json!({"url": "b=c", "port": 80}))),
            (
                json!({"url": "a"}),
                &["tls.verify=false"],
                Ok(json!({"url": "a", "tls": {"verify": false}})),
            ),
            (json!({"url": "a"}), &["url.x=1"], Err("what stands before \"x\" is not an object")),
            (json!({"url": "a"}), &["url"], Err("--set url: write KEY=VALUE")),
            (json!({"url": "a"}), &["tls..x=1"], Err("a part of the key is empty")),
            (json!({"url": "a"}), &["port=high"], Err("/port")),
            (json!({"url": "a"}), &["prot=1"], Err("prot")),
            (json!({}), &["port=1"], Err("url")),
        ] {
            let found = setup(texts, None).config(&before, &manifest());
            match (found, after) {
                (Ok(found), Ok(after)) => assert_eq!(found, after),
                (Err(failure), Err(why)) => {
                    assert!(failure.message.contains(why), "{texts:?}: {failure:?}");
                }
                (found, _) => panic!("{texts:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_file_with_problems_has_them_all_told_with_their_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.yaml");
        std::fs::write(&file, "port: high\nurl: 1\n").unwrap();
        let failure = setup(&[], Some(&file)).config(&json!({}), &manifest()).unwrap_err();
        let told = failure.message.replace(&*dir.path().to_string_lossy(), "~");
        insta::assert_snapshot!(told);
        // Values on the command line are put over the file's.
        let mended = setup(&["url=a", "port=1"], Some(&file)).config(&json!({}), &manifest());
        assert_eq!(mended.unwrap(), json!({"url": "a", "port": 1}));
        std::fs::write(&file, "[1]").unwrap();
        let failure = setup(&[], Some(&file)).config(&json!({}), &manifest()).unwrap_err();
        assert!(failure.message.contains("not an object"), "{failure:?}");
    }

    #[test]
    fn what_is_for_one_kind_is_refused_for_the_others() {
        let labels = |label: &[&str]| label.iter().map(|&text| text.to_owned()).collect();
        let running = |interval, label: &[&str], on_unknown| Running {
            interval,
            label: labels(label),
            on_unknown,
        };
        let plain = running(None, &[], None);
        let fast = running(Some(Millis(1000)), &["a=b"], None);
        let holding = running(None, &[], Some(OnUnknown::Hold));
        for kind in Kind::ALL {
            assert_eq!(plain.collect(kind).unwrap(), None);
            assert_eq!(plain.on_unknown(kind).unwrap(), None);
            assert_eq!(fast.collect(kind).is_ok(), kind == Kind::Collector, "{kind}");
            assert_eq!(holding.on_unknown(kind).is_ok(), kind == Kind::Notifier, "{kind}");
        }
        for label in [&["a"][..], &["=b"], &["a=b", "a=c"]] {
            assert!(running(None, label, None).collect(Kind::Collector).is_err(), "{label:?}");
        }
    }
}
