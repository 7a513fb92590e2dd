//! Names that were meant by others.

/// The most letters in which a name differs from the one that was meant.
const MAX_SLIPS: usize = 6;
/// A name is taken for another where at least so many letters come to one slip.
const LETTERS_A_SLIP: usize = 3;
/// The most names that are listed.
const MAX_LISTED: usize = 6;

/// The name that was meant by one that is not known; where several are as near, the first.
pub(super) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let length = name.chars().count();
    let most = (length / LETTERS_A_SLIP).clamp(1, MAX_SLIPS);
    let near = known.into_iter().filter(|other| {
        // Names are untrusted and may be many: those too far apart are not compared.
        *other != name && other.chars().count().abs_diff(length) <= most
    });
    let slips = near.map(|other| (strsim::osa_distance(name, other), other));
    slips.filter(|(slips, _)| *slips <= most).min().map(|(_, other)| other)
}

/// What to say after a name that is not known: the one that was meant, else what there is.
pub(super) fn hint<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    if let Some(meant) = nearest(name, known.iter().copied()) {
        return format!("; did you mean {meant:?}?");
    }
    if known.is_empty() {
        return String::new();
    }
    let more = match known.len().saturating_sub(MAX_LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    known.truncate(MAX_LISTED);
    let listed: Vec<String> = known.iter().map(|one| format!("{one:?}")).collect();
    format!("; there is {}{more}", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_or_a_lost_ending_means_the_name_that_there_is_and_others_do_not() {
        let known = ["system_cpu_time_seconds_total", "system_memory_usage_bytes", "up", "ab"];
        for (name, meant) in [
            ("system_cpu_time_second_total", Some(known[0])),
            ("system_cpu_time_seconds", Some(known[0])),
            ("sytsem_memory_usage_bytes", Some(known[1])),
            ("pu", Some("up")),
            ("nginx_requests_total", None),
            ("up", None),
            ("", None),
        ] {
            let others = known.iter().copied().filter(|one| *one != name);
            assert_eq!(nearest(name, others), meant, "{name}");
        }
    }

    #[test]
    fn what_there_is_is_listed_where_nothing_is_near() {
        assert_eq!(hint("agnet", ["device", "agent"]), "; did you mean \"agent\"?");
        assert_eq!(hint("zone", ["device", "agent", "device"]), "; there is \"agent\", \"device\"");
        let many: Vec<String> = (0..9).map(|i| format!("disk-number-{i}")).collect();
        let said = hint("zone", many.iter().map(String::as_str));
        assert!(said.ends_with("\"disk-number-5\" and 3 more"), "{said}");
        assert_eq!(hint("zone", []), "");
    }
}
