//! Grants as they are written on the command line, and what of a plugin's requests they cover.
//!
//! | text | what it grants |
//! |---|---|
//! | `system`, `series` | that capability |
//! | `http=ORIGIN,…,METHOD,…` | requests to these origins; GET and HEAD unless methods are named |
//! | `secret=NAME,ORIGIN,header:NAME` or `…,url` | that the host fills in a secret there |
//! | `files=GLOB` | reading these files |
//! | `mac=KEY,…` | signing with these keys |
//! | `kv`, `kv=64KiB` | state: as much as is asked for, or so much |
//! | `{…}`, `@FILE` | as under `grants` of a configuration file; the only way to write `mail` |
//!
//! Several options add up. Pure, but for the file, which its reader gives.

use std::collections::BTreeSet;

use sentinel_model::document::Document;
use sentinel_trust::repository::CapabilityLine;
use sentinel_trust::{
    Asked, Capability, FilesGrant, Grants, HttpGrant, HttpMethod, KvGrant, MacGrant, Origin,
    Requests, SecretGrant, SecretPlace,
};

/// What is written, before it is known what the plugin asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Named {
    grants: Grants,
    /// As much state as is asked for.
    kv_as_asked: bool,
    /// Everything that is asked for and needs no choice.
    all: bool,
}

impl Named {
    /// Reads what was written. `file` gives a file's text by its path.
    ///
    /// # Errors
    /// What cannot be read, with how to write it.
    pub(crate) fn read(
        texts: &[String],
        all: bool,
        file: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Self, String> {
        let mut named = Self { all, ..Self::default() };
        for text in texts {
            named.add(text, &file).map_err(|why| format!("--grant {text}: {why}"))?;
        }
        let problems = named.grants.problems();
        if problems.is_empty() {
            return Ok(named);
        }
        Err(format!("--grant: {}", problems.join("\n  ")))
    }

    /// Whether nothing was named.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same; where nothing was named, all that needs no choice.
    pub(crate) fn or_all(&self) -> Self {
        Self { all: self.all || self.is_empty(), ..self.clone() }
    }

    /// What is granted to a plugin that asks for `requests`, beside what it was granted before.
    pub(crate) fn grants(&self, requests: &Requests, before: &Grants) -> Grants {
        let mut grants = before.clone();
        merge(&mut grants, self.grants.clone());
        if self.kv_as_asked {
            kv_as_asked(requests, &mut grants);
        }
        if self.all {
            without_choice(requests, &mut grants);
        }
        grants
    }

    /// What of the things that are asked for was not named, whatever was granted before.
    pub(crate) fn unnamed<'a>(&self, asked: &'a [CapabilityLine]) -> Vec<&'a CapabilityLine> {
        let named = |line: &&CapabilityLine| match line.capability {
            Capability::System => self.all || self.grants.system,
            Capability::Series => self.all || self.grants.series,
            Capability::Http => self.all || self.grants.http.is_some(),
            Capability::Mail => self.grants.mail.is_some(),
            Capability::Files => self.all || self.grants.files.is_some(),
            Capability::Mac => self.grants.mac.is_some(),
            Capability::Kv => self.all || self.kv_as_asked || self.grants.kv.is_some(),
        };
        asked.iter().filter(|line| !named(line)).collect()
    }

    fn add(
        &mut self,
        text: &str,
        file: impl Fn(&str) -> Result<String, String>,
    ) -> Result<(), String> {
        if let Some(path) = text.strip_prefix('@') {
            return self.add_document(path, &file(path)?);
        }
        if text.starts_with('{') {
            return self.add_document("--grant", text);
        }
        let (what, rest) = text.split_once('=').map_or((text, None), |(a, b)| (a, Some(b)));
        match (what, rest) {
            ("system", None) => self.grants.system = true,
            ("series", None) => self.grants.series = true,
            ("kv", None) => self.kv_as_asked = true,
            ("kv", Some(rest)) => {
                let kv = KvGrant { max_bytes: bytes(rest)? };
                merge(&mut self.grants, Grants { kv: Some(kv), ..Grants::default() });
            }
            ("http", Some(rest)) => {
                let http = Some(http(rest)?);
                merge(&mut self.grants, Grants { http, ..Grants::default() });
            }
            ("secret", Some(rest)) => {
                let secret = secret(rest)?;
                let http = self.grants.http.as_mut().filter(|http| http.origins.contains(&secret.origin));
                let http = http.ok_or_else(|| {
                    format!("requests to {} are not granted: write --grant http={0} before it", secret.origin)
                })?;
                http.secrets.push(secret);
            }
            ("files", Some(rest)) => {
                let path = rest.parse().map_err(|error| format!("{error}"))?;
                let files = Some(FilesGrant::reading([path]));
                merge(&mut self.grants, Grants { files, ..Grants::default() });
            }
            ("mac", Some(rest)) => {
                let keys = rest.split(',').map(str::to_owned).collect();
                let mac = Some(MacGrant { keys });
                merge(&mut self.grants, Grants { mac, ..Grants::default() });
            }
            _ => return Err(
                "write system, series, http=https://a.example:443,POST, secret=NAME,ORIGIN,header:NAME, \
                 files=/var/log/nginx/*.log, mac=KEY, kv=64KiB, {JSON} or @FILE"
                    .to_owned(),
            ),
        }
        Ok(())
    }

    fn add_document(&mut self, name: &str, text: &str) -> Result<(), String> {
        let document = Document::parse(name, text).map_err(|error| error.to_string())?;
        let grants: Grants = document.read().map_err(|error| error.to_string())?;
        merge(&mut self.grants, grants);
        Ok(())
    }
}

/// Adds what `more` allows to what is allowed already.
fn merge(grants: &mut Grants, more: Grants) {
    // The names of the fields, so that one that is added is not forgotten here.
    let Grants { system, http, mail, files, mac, kv, series, limits } = more;
    grants.system |= system;
    grants.series |= series;
    match (&mut grants.http, http) {
        (Some(http), Some(more)) => {
            http.origins.extend(more.origins);
            http.methods.extend(more.methods);
            http.response_bytes = http.response_bytes.max(more.response_bytes);
            http.timeout_ms = http.timeout_ms.max(more.timeout_ms);
            for secret in more.secrets {
                if !http.secrets.contains(&secret) {
                    http.secrets.push(secret);
                }
            }
        }
        (http, more) => *http = more.or_else(|| http.take()),
    }
    grants.mail = mail.or_else(|| grants.mail.take());
    match (&mut grants.files, files) {
        (Some(files), Some(more)) => {
            for path in more.paths {
                if !files.paths.contains(&path) {
                    files.paths.push(path);
                }
            }
            files.read_bytes = files.read_bytes.max(more.read_bytes);
            files.call_bytes = files.call_bytes.max(more.call_bytes);
        }
        (files, more) => *files = more.or_else(|| files.take()),
    }
    match (&mut grants.mac, mac) {
        (Some(mac), Some(more)) => mac.keys.extend(more.keys),
        (mac, more) => *mac = more.or_else(|| mac.take()),
    }
    grants.kv = kv.or_else(|| grants.kv.take());
    let own = &mut grants.limits;
    own.memory_bytes = limits.memory_bytes.or(own.memory_bytes);
    own.call_ms = limits.call_ms.or(own.call_ms);
    own.returned_bytes = limits.returned_bytes.or(own.returned_bytes);
}

/// Everything that is asked for and needs no choice of the operator: which of the origins below
/// a pattern, which relay, which files and which keys nobody else can say.
fn without_choice(requests: &Requests, grants: &mut Grants) {
    let Requests { system, http, mail: _, files, mac: _, kv: _, series } = requests;
    let mut more = Grants { system: *system, series: *series, ..Grants::default() };
    if let Some(request) = http {
        let origins: BTreeSet<Origin> = match &request.origins {
            Asked::FromConfig => BTreeSet::new(),
            Asked::Listed(patterns) => {
                patterns.iter().filter_map(sentinel_trust::OriginPattern::exact).collect()
            }
        };
        if !origins.is_empty() || grants.http.is_some() {
            let methods = request.methods.clone();
            more.http = Some(HttpGrant { methods, ..HttpGrant::reading(origins) });
        }
    }
    if let Some(request) = files
        && let Asked::Listed(paths) = &request.paths
        && !paths.is_empty()
    {
        more.files = Some(FilesGrant::reading(paths.iter().cloned()));
    }
    merge(grants, more);
    kv_as_asked(requests, grants);
}

fn kv_as_asked(requests: &Requests, grants: &mut Grants) {
    if let Some(kv) = &requests.kv {
        let granted = grants.kv.as_ref().map_or(0, |kv| kv.max_bytes);
        grants.kv = Some(KvGrant { max_bytes: kv.max_bytes.max(granted) });
    }
}

/// Origins and methods, in any order: methods are words in capital letters.
fn http(text: &str) -> Result<HttpGrant, String> {
    let (mut origins, mut methods) = (BTreeSet::new(), BTreeSet::new());
    for part in text.split(',') {
        match method(part) {
            Some(method) => {
                methods.insert(method);
            }
            None => {
                origins.insert(part.parse::<Origin>().map_err(|error| error.to_string())?);
            }
        }
    }
    if origins.is_empty() {
        return Err("no origin is named: write http=https://a.example:443,POST".to_owned());
    }
    let mut grant = HttpGrant::reading(origins);
    if !methods.is_empty() {
        grant.methods = methods;
    }
    Ok(grant)
}

fn method(text: &str) -> Option<HttpMethod> {
    use HttpMethod::{Delete, Get, Head, Patch, Post, Put};
    [Get, Head, Post, Put, Patch, Delete].into_iter().find(|method| method.as_str() == text)
}

fn secret(text: &str) -> Result<SecretGrant, String> {
    let usage = || {
        "write secret=NAME,https://a.example:443,header:authorization, or url or json:MEMBER in place of the header".to_owned()
    };
    let [name, origin, place] = text.split(',').collect::<Vec<_>>()[..] else {
        return Err(usage());
    };
    let place = match (place, place.strip_prefix("header:")) {
        ("url", _) => SecretPlace::Url,
        (_, Some(header)) => SecretPlace::Header(header.to_owned()),
        (place, None) if place.starts_with("json:") => {
            SecretPlace::Json(place["json:".len()..].to_owned())
        }
        _ => return Err(usage()),
    };
    let origin = origin.parse().map_err(|error: sentinel_trust::OriginError| error.to_string())?;
    Ok(SecretGrant { name: name.to_owned(), origin, place })
}

/// A number of bytes: `65536`, `64KiB`, `1MiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20)];
    let found = units.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    let (digits, size) = found.unwrap_or((text, 1_u64));
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(size))
        .ok_or_else(|| format!("{text:?} is no number of bytes: write 65536, 64KiB or 1MiB"))
}

#[cfg(test)]
mod tests;
