//! A host's own ceiling above whatever a desired set grants.

use std::collections::BTreeSet;

use crate::grants::{FilesGrant, Grants, HttpGrant};
use crate::mail::{MailGrant, MailPattern};
use crate::paths::PathGlob;

/// What of `grants` counts under a `ceiling`: all of them, where they stay below it. Limits
/// that they leave to the plugin are then those of the ceiling, so that leaving one out is no
/// way past it.
///
/// # Errors
/// Everything that they allow beyond it, each in words. What cannot be decided counts as
/// beyond: of files, a granted glob is within the ceiling where the ceiling has the same glob,
/// or covers it as a literal path.
pub fn within_ceiling(grants: &Grants, ceiling: &Grants) -> Result<Grants, Vec<String>> {
    let mut beyond = Vec::new();
    if grants.system && !ceiling.system {
        beyond.push("system: readings of the machine".to_owned());
    }
    if grants.series && !ceiling.series {
        beyond.push("series: asking for stored series".to_owned());
    }
    if let Some(http) = &grants.http {
        http_beyond(http, ceiling.http.as_ref(), &mut beyond);
    }
    if let Some(mail) = &grants.mail {
        mail_beyond(mail, ceiling.mail.as_ref(), &mut beyond);
    }
    if let Some(files) = &grants.files {
        files_beyond(files, ceiling.files.as_ref(), &mut beyond);
    }
    if let Some(mac) = &grants.mac {
        let allowed = ceiling.mac.as_ref().map(|mac| &mac.keys);
        let none = BTreeSet::new();
        for key in mac.keys.difference(allowed.unwrap_or(&none)) {
            beyond.push(format!("mac: the key {key}"));
        }
    }
    if let Some(kv) = &grants.kv {
        more(
            "kv.max_bytes",
            kv.max_bytes,
            ceiling.kv.as_ref().map_or(0, |kv| kv.max_bytes),
            &mut beyond,
        );
    }
    for (name, wanted, most) in [
        ("limits.memory_bytes", grants.limits.memory_bytes, ceiling.limits.memory_bytes),
        ("limits.call_ms", grants.limits.call_ms, ceiling.limits.call_ms),
        ("limits.returned_bytes", grants.limits.returned_bytes, ceiling.limits.returned_bytes),
    ] {
        if let (Some(wanted), Some(most)) = (wanted, most) {
            more(name, wanted, most, &mut beyond);
        }
    }
    if !beyond.is_empty() {
        return Err(beyond);
    }
    let mut within = grants.clone();
    let (limits, most) = (&mut within.limits, &ceiling.limits);
    limits.memory_bytes = limits.memory_bytes.or(most.memory_bytes);
    limits.call_ms = limits.call_ms.or(most.call_ms);
    limits.returned_bytes = limits.returned_bytes.or(most.returned_bytes);
    Ok(within)
}

fn http_beyond(http: &HttpGrant, ceiling: Option<&HttpGrant>, beyond: &mut Vec<String>) {
    let Some(ceiling) = ceiling else {
        beyond.push("http: requests at all".to_owned());
        return;
    };
    for origin in http.origins.difference(&ceiling.origins) {
        beyond.push(format!("http: requests to {origin}"));
    }
    for method in http.methods.difference(&ceiling.methods) {
        beyond.push(format!("http: the method {method}"));
    }
    for secret in &http.secrets {
        if !ceiling.secrets.contains(secret) {
            beyond.push(format!("http: the secret {} to {}", secret.name, secret.origin));
        }
    }
    more("http.response_bytes", http.response_bytes, ceiling.response_bytes, beyond);
    more("http.timeout_ms", http.timeout_ms, ceiling.timeout_ms, beyond);
}

fn mail_beyond(mail: &MailGrant, ceiling: Option<&MailGrant>, beyond: &mut Vec<String>) {
    let Some(ceiling) = ceiling else {
        beyond.push("mail: messages at all".to_owned());
        return;
    };
    if mail.relay != ceiling.relay {
        beyond.push(format!("mail: the relay {}", mail.relay));
    }
    if mail.protection() < ceiling.protection() || mail.ca_file != ceiling.ca_file {
        beyond.push("mail: a relay that is trusted otherwise (tls, ca_file)".to_owned());
    }
    if (&mail.user, &mail.password) != (&ceiling.user, &ceiling.password) && mail.user.is_some() {
        beyond.push("mail: another user or password".to_owned());
    }
    for sender in mail.senders.difference(&ceiling.senders) {
        beyond.push(format!("mail: messages from {sender}"));
    }
    let within = |wanted: &MailPattern| ceiling.recipients.iter().any(|most| most.covers(wanted));
    for recipient in mail.recipients.iter().filter(|wanted| !within(wanted)) {
        beyond.push(format!("mail: messages to {recipient}"));
    }
    for (name, wanted, most) in [
        ("message_recipients", mail.message_recipients, ceiling.message_recipients),
        ("message_bytes", mail.message_bytes, ceiling.message_bytes),
        ("per_minute", mail.per_minute, ceiling.per_minute),
        ("step_ms", mail.step_ms, ceiling.step_ms),
        ("timeout_ms", mail.timeout_ms, ceiling.timeout_ms),
    ] {
        more(&format!("mail.{name}"), wanted, most, beyond);
    }
}

fn files_beyond(files: &FilesGrant, ceiling: Option<&FilesGrant>, beyond: &mut Vec<String>) {
    let Some(ceiling) = ceiling else {
        beyond.push("files: reading files at all".to_owned());
        return;
    };
    let within = |wanted: &PathGlob| {
        ceiling
            .paths
            .iter()
            .any(|most| most == wanted || (wanted.is_literal() && most.matches(wanted.as_str())))
    };
    for path in files.paths.iter().filter(|path| !within(path)) {
        beyond.push(format!("files: {path}"));
    }
    more("files.read_bytes", files.read_bytes, ceiling.read_bytes, beyond);
    more("files.call_bytes", files.call_bytes, ceiling.call_bytes, beyond);
}

fn more(what: &str, wanted: u64, most: u64, beyond: &mut Vec<String>) {
    if wanted > most {
        beyond.push(format!("{what}: {wanted} where at most {most} are allowed"));
    }
}
