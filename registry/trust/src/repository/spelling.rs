//! What a misspelt name was meant to be.

use crate::name::PluginName;

/// Most letters that are changed, left out, added or swapped with their neighbour.
const MAX_SLIPS: usize = 2;

/// The name that is called nearly like `name`; the first of those that are equally near.
pub(super) fn nearest<'a>(
    name: &PluginName,
    known: impl IntoIterator<Item = &'a PluginName>,
) -> Option<PluginName> {
    // So few letters fit anything.
    let most = MAX_SLIPS.min(name.plugin().len() / 2);
    let slips = |other: &PluginName| strsim::osa_distance(name.as_str(), other.as_str());
    let near = known.into_iter().map(|other| (slips(other), other));
    let near = near.filter(|(slips, other)| (1..=most).contains(slips) && *other != name);
    near.min().map(|(_, meant)| meant.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_or_two_lead_to_the_name_that_was_meant() {
        let known: Vec<PluginName> =
            ["sentinel/nginx", "sentinel/rows", "sentinel/system", "sentinel/s3", "acme/nginx-2"]
                .map(|name| name.parse().unwrap())
                .into();
        for (name, meant) in [
            ("sentinel/ngnix", Some("sentinel/nginx")),
            ("sentinel/nginz", Some("sentinel/nginx")),
            ("sentinal/nginx", Some("sentinel/nginx")),
            ("sentinel/sytem", Some("sentinel/system")),
            ("acme/nginx2", Some("acme/nginx-2")),
            ("sentinel/s4", Some("sentinel/s3")),
            ("sentinel/q9", None),
            ("sentinel/postgres", None),
            ("acme/rows", None),
            // What is there and may not be had is not misspelt.
            ("sentinel/rows", None),
        ] {
            let found = nearest(&name.parse().unwrap(), &known);
            assert_eq!(found.as_ref().map(PluginName::as_str), meant, "{name}");
        }
    }
}
