use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::BatchBuilder;

type Written<'t> = (&'t str, &'t [(&'t str, &'t str)], f64);

fn batch(rows: &[Written<'_>]) -> Batch {
    let mut builder = BatchBuilder::at(5);
    for (name, labels, value) in rows {
        builder.gauge(name, labels, *value);
    }
    builder.finish().parts().next().unwrap().clone()
}

fn lines(batch: &Batch) -> Vec<String> {
    batch.samples().map(|sample| sample.to_string()).collect()
}

fn check(rows: &[Written<'_>], each: impl FnMut(&mut Row<'_>), expect: &[&str]) {
    assert_eq!(lines(&edit(batch(rows), each)), expect);
}

#[test]
fn an_edit_that_does_nothing_changes_nothing() {
    let input = batch(&[("a", &[("k", "v")], 1.0), ("b", &[], 2.0)]);
    assert_eq!(edit(input.clone(), |_| {}), input);
    assert_eq!(edit(Batch::empty(), |_| {}), Batch::empty());
}

#[test]
fn dropped_rows_are_gone_and_the_others_keep_their_labels() {
    check(
        &[("a", &[("k", "1")], 1.0), ("b", &[("k", "2")], 2.0), ("c", &[("k", "3")], 3.0)],
        |row| {
            row.set_label("l", "x");
            if row.name() == "b" {
                row.drop();
            }
        },
        &[r#"a{k="1",l="x"} 1"#, r#"c{k="3",l="x"} 3"#],
    );
}

#[test]
fn labels_are_set_replaced_renamed_and_dropped() {
    check(
        &[("a", &[("k", "1"), ("l", "2"), ("m", "3")], 1.0)],
        |row| {
            row.set_label("k", "9");
            row.drop_label("l");
            row.drop_label("absent");
            row.rename_label("m", "n");
            row.rename_label("absent", "k");
        },
        &[r#"a{k="9",n="3"} 1"#],
    );
}

#[test]
fn a_label_renamed_onto_another_takes_its_place() {
    check(
        &[("a", &[("k", "1"), ("l", "2")], 1.0)],
        |row| row.rename_label("k", "l"),
        &[r#"a{l="1"} 1"#],
    );
}

#[test]
fn a_string_of_a_row_may_be_given_back_to_it() {
    check(
        &[("a_ms", &[("k", "1")], 1500.0)],
        |row| {
            row.set_label("was", row.name());
            if let Some(base) = row.name().strip_suffix("_ms") {
                row.rename(&format!("{base}_seconds"));
                row.set_value(row.value() / 1e3);
            }
        },
        &[r#"a_seconds{k="1",was="a_ms"} 1.5"#],
    );
}

#[test]
fn a_text_is_added_once_however_often_it_is_made_anew() {
    let input = batch(&[("a", [].as_slice(), 0.0); 50]);
    let output = edit(input, |row| {
        let made = String::from("made");
        row.set_label("k", &made);
    });
    assert_eq!(output.symbols, "akmade");
}

#[test]
fn another_text_at_the_same_address_is_another_text() {
    let mut buffer = String::from("0000");
    let input = batch(&[("a", &[], 0.0), ("b", &[], 1.0), ("c", &[], 2.0)]);
    let output = edit(input, |row| {
        let text = format!("{:04}", row.value());
        buffer.clear();
        buffer.push_str(&text);
        row.set_label("k", &buffer);
    });
    assert_eq!(lines(&output), [r#"a{k="0000"} 0"#, r#"b{k="0001"} 1"#, r#"c{k="0002"} 2"#]);
}

#[test]
fn a_decision_is_made_once_a_symbol() {
    let mut asked = 0;
    let mut memo = Memo::new();
    let output = edit(batch(&[("a", &[], 0.0), ("b", &[], 0.0), ("a", &[], 0.0)]), |row| {
        let name = row.name();
        let drop = memo.get(row.name_symbol(), || {
            asked += 1;
            name == "a"
        });
        if drop {
            row.drop();
        }
    });
    assert_eq!(lines(&output), ["b 0"]);
    assert_eq!(asked, 2);
}

#[test]
fn thousands_of_new_texts_are_found_again() {
    let rows: Vec<_> = (0..5_000).map(f64::from).collect();
    let mut input = Batch::empty();
    let name = input.add_symbol("a");
    for value in &rows {
        input.name.push(name);
        input.label_offsets.push(0);
        input.kind.push(0);
        input.value.push(*value);
        input.time.push(0);
    }
    let output = edit(input, |row| {
        row.set_label("k", &format!("v{}", row.value()));
        row.set_label("l", &format!("v{}", row.value()));
    });
    assert_eq!(output.symbol_ends.len(), 5_003);
    for (row, value) in rows.iter().enumerate() {
        assert_eq!(output.sample(row).label("l"), Some(format!("v{value}").as_str()));
    }
}

#[test]
fn texts_that_stand_twice_in_a_batch_are_one_symbol() {
    let mut input = batch(&[("a", &[("k", "v")], 1.0), ("a", &[("k", "v")], 2.0)]);
    let [name, key, value] = ["a", "k", "v"].map(|text| input.add_symbol(text));
    input.name[1] = name;
    input.labels[2..].copy_from_slice(&[key, value]);
    let mut asked = 0;
    let mut memo = Memo::new();
    let output = edit(input, |row| {
        memo.get(row.name_symbol(), || asked += 1);
        row.set_label("k", "w");
        row.set_label("l", "v");
    });
    assert_eq!(lines(&output), [r#"a{k="w",l="v"} 1"#, r#"a{k="w",l="v"} 2"#]);
    assert_eq!(asked, 1);
}

#[derive(Clone, Debug)]
enum Step {
    Set(String, String),
    Drop(String),
    Rename(String, String),
    Name(String),
    Out,
}

fn step() -> impl Strategy<Value = Step> {
    let key = "[a-d]";
    prop_oneof![
        (key, "[x-z]{0,2}").prop_map(|(key, value)| Step::Set(key, value)),
        key.prop_map(Step::Drop),
        (key, key).prop_map(|(from, to)| Step::Rename(from, to)),
        "[m-p]".prop_map(Step::Name),
        Just(Step::Out),
    ]
}

proptest! {
    /// Against rows of owned maps.
    #[test]
    fn edits_do_what_they_do_on_maps(
        rows in prop::collection::vec(
            (
                "[m-p]",
                prop::collection::btree_map("[a-d]", "[x-z]{0,2}", 0..4),
                prop::collection::vec(step(), 0..6),
            ),
            0..30,
        )
    ) {
        let mut builder = BatchBuilder::at(0);
        let mut expect = Vec::new();
        for (at, (name, labels, steps)) in rows.iter().enumerate() {
            let pairs: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            builder.gauge(name, &pairs, at as f64);
            let (mut name, mut labels, mut out): (_, BTreeMap<_, _>, _) =
                (name.clone(), labels.clone(), false);
            for step in steps {
                match step.clone() {
                    Step::Set(key, value) => { labels.insert(key, value); }
                    Step::Drop(key) => { labels.remove(&key); }
                    Step::Rename(from, to) => {
                        if let Some(value) = labels.remove(&from) {
                            labels.insert(to, value);
                        }
                    }
                    Step::Name(new) => name = new,
                    Step::Out => out = true,
                }
            }
            if !out {
                expect.push((name, labels, at as f64));
            }
        }
        let input = builder.finish().parts().next().unwrap().clone();
        let output = edit(input, |row| {
            for step in &rows[row.value() as usize].2 {
                match step {
                    Step::Set(key, value) => row.set_label(key, value),
                    Step::Drop(key) => row.drop_label(key),
                    Step::Rename(from, to) => row.rename_label(from, to),
                    Step::Name(name) => row.rename(name),
                    Step::Out => row.drop(),
                }
            }
        });
        let got: Vec<_> = output
            .samples()
            .map(|sample| (
                sample.name.to_owned(),
                sample.labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                sample.value,
            ))
            .collect();
        prop_assert_eq!(got, expect);
    }
}
