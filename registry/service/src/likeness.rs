//! Names too like an existing one. Pure.
//!
//! Looked at once, when a name appears for the first time. Within a namespace its owner may
//! choose names as he likes, and another publisher may have a plugin of exactly the same name
//! (`acme/nginx` beside `sentinel/nginx`), since installing names the publisher. What is
//! refused is what a reader or a hurried typist takes for something else: a publisher like an
//! existing one with a plugin of its names, or a plugin almost named like another publisher's.

use sentinel_trust::PluginName;

/// Names shorter than this have no near misses, or `disk` would forbid `risk`.
const SHORT: usize = 5;
/// The same for publishers: only those count that have a plugin of exactly the same name.
const SHORT_PUBLISHER: usize = 4;
/// Names from this length on may be two slips apart and still be taken for each other.
const LONG: usize = 12;

/// The name as it looks: what is easily mistaken is made the same, dashes are left out.
fn skeleton(name: &str) -> String {
    let name = name.replace("rn", "m").replace("vv", "w").replace("cl", "d");
    name.chars()
        .filter(|c| *c != '-')
        .map(|c| match c {
            '0' => 'o',
            '1' | 'i' | 'j' => 'l',
            '2' => 'z',
            '3' => 'e',
            '5' => 's',
            '6' | '9' => 'g',
            '8' => 'b',
            c => c,
        })
        .collect()
}

/// The number of slips between two texts: a letter more, less, other, or two exchanged
/// (optimal string alignment).
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = (0..=a.len())
        .map(|i| {
            (0..=b.len())
                .map(|j| {
                    if i == 0 {
                        j
                    } else if j == 0 {
                        i
                    } else {
                        0
                    }
                })
                .collect()
        })
        .collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let other = usize::from(a[i - 1] != b[j - 1]);
            let mut least =
                (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + other);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

/// Whether two different texts, of at least `short` characters if they are not the same at a
/// glance, are taken for each other.
fn alike(a: &str, b: &str, short: usize) -> bool {
    if a == b {
        return false;
    }
    let (x, y) = (skeleton(a), skeleton(b));
    if x == y {
        return true;
    }
    let shorter = x.chars().count().min(y.chars().count());
    let allowed = if shorter >= LONG { 2 } else { usize::from(shorter >= short) };
    slips(&x, &y) <= allowed
}

/// The existing name that a new one would be taken for.
#[must_use]
pub(crate) fn like<'a>(new: &PluginName, existing: &'a [PluginName]) -> Option<&'a PluginName> {
    if existing.contains(new) {
        return None;
    }
    let publisher = new.publisher();
    existing.iter().find(|old| {
        let other = old.publisher();
        if other == publisher {
            return false;
        }
        let plugins_alike = alike(new.plugin(), old.plugin(), SHORT);
        let same_plugin = new.plugin() == old.plugin();
        plugins_alike || (same_plugin && alike(publisher.as_str(), other.as_str(), SHORT_PUBLISHER))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_would_be_taken_for_another_is_found_and_what_is_plainly_different_is_not() {
        let existing: Vec<PluginName> =
            "sentinel/nginx sentinel/alert-dsl acme/disk acme/mem acme/elasticsearch-cluster"
                .split(' ')
                .map(|name| name.parse().unwrap())
                .collect();
        for (new, found) in [
            ("sentinel/nginx", None),
            ("sentinel/ngnix", None),
            ("sentine1/nginx", Some("sentinel/nginx")),
            ("sentinal/nginx", Some("sentinel/nginx")),
            ("sent-inel/nginx", Some("sentinel/nginx")),
            ("sentinel-io/nginx", None),
            ("sentinal/apache", None),
            ("acme/nginx", None),
            ("acme/ngnix", Some("sentinel/nginx")),
            ("acme/nginxx", Some("sentinel/nginx")),
            ("acme/nginz", Some("sentinel/nginx")),
            ("acme/haproxy", None),
            ("acme/alertdsl", Some("sentinel/alert-dsl")),
            ("acme/a1ert-ds1", Some("sentinel/alert-dsl")),
            ("beta/disk", None),
            ("acne/disk", Some("acme/disk")),
            ("acne/risk", None),
            ("beta/risk", None),
            ("beta/d1sk", Some("acme/disk")),
            ("beta/clisk", Some("acme/disk")),
            ("beta/rnem", Some("acme/mem")),
            ("beta/nem", None),
            ("beta/elasticsaerch-clustr", Some("acme/elasticsearch-cluster")),
            ("beta/elastic-cluster", None),
        ] {
            let new: PluginName = new.parse().unwrap();
            assert_eq!(like(&new, &existing).map(PluginName::as_str), found, "{new}");
        }
    }

    proptest! {
        #[test]
        fn slips_are_a_distance(a in "[a-d]{0,8}", b in "[a-d]{0,8}") {
            prop_assert_eq!(slips(&a, &b), slips(&b, &a));
            prop_assert_eq!(slips(&a, &b) == 0, a == b);
            let (x, y) = (a.len(), b.len());
            prop_assert!(slips(&a, &b) >= x.abs_diff(y) && slips(&a, &b) <= x.max(y));
        }

        #[test]
        fn one_slip_is_one(text in "[a-z]{1,10}", at in 0_usize..10, letter in "[a-z]") {
            let at = at % text.len();
            let mut longer = text.clone();
            longer.insert_str(at, &letter);
            prop_assert_eq!(slips(&text, &longer), 1);
        }
    }
}
