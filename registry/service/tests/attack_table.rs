//! The table of attacks in the registry's README names a test for each, and each is there.

use std::path::Path;

/// The attacks that the table has at the least.
const ATTACKS: usize = 30;

#[test]
fn every_attack_in_the_table_has_the_test_that_it_names() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| attack |")).skip(2);
    let mut attacks = 0;
    for row in rows.take_while(|line| line.starts_with('|')) {
        let tests = row.trim_matches(['|', ' ']).rsplit_once(" | ").unwrap().1;
        for test in tests.split("; ") {
            let (file, name) = test.split_once(" `").unwrap();
            let name = name.strip_suffix('`').unwrap();
            let source = std::fs::read_to_string(folder.join(file));
            let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
            let (before, _) = source
                .split_once(&format!("fn {name}("))
                .unwrap_or_else(|| panic!("{file} has no test {name}"));
            let attribute = before.lines().rev().find(|line| line.contains("#["));
            let attribute = attribute.unwrap_or_default();
            assert!(attribute.contains("test"), "{file}: {name} is no test");
        }
        attacks += 1;
    }
    assert!(attacks >= ATTACKS, "the table has {attacks} attacks");
}
