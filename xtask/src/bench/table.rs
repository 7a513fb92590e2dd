//! The table that people read.

use super::{Better, Row};

/// Columns padded to their widest cell, the figures to the right.
pub(super) fn table(rows: &[Row]) -> String {
    let header = ["row", "value", "limit", "unit", "holds"].map(str::to_owned);
    let mut lines = vec![header];
    for row in rows {
        let side = match row.better {
            Better::Higher => "at least",
            Better::Lower => "at most",
        };
        lines.push([
            row.name.clone(),
            number(row.value),
            format!("{side} {}", number(row.limit)),
            row.unit.clone(),
            if row.holds { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    let mut widths = [0; 5];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let [name, value, limit, unit, holds] = widths;
    lines
        .iter()
        .map(|[a, b, c, d, e]| {
            format!("{a:<name$}  {b:>value$}  {c:>limit$}  {d:<unit$}  {e:<holds$}")
                .trim_end()
                .to_owned()
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Three figures that count, thousands apart.
pub(super) fn number(value: f64) -> String {
    if value.abs() >= 1000.0 {
        let digits = format!("{value:.0}");
        let (sign, digits) = match digits.strip_prefix('-') {
            Some(digits) => ("-", digits.to_owned()),
            None => ("", digits),
        };
        let mut spaced = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                spaced.push(' ');
            }
            spaced.push(digit);
        }
        format!("{sign}{spaced}")
    } else if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::row;
    use super::*;

    #[test]
    fn numbers_are_cut_to_what_a_reader_compares() {
        for (value, text) in [
            (0.345_6, "0.35"),
            (15.96, "16.0"),
            (249.6, "250"),
            (1_234_567.8, "1 234 568"),
            (-1_500.0, "-1 500"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_missed_limit_is_marked_in_the_table() {
        let expected = "\
row  value         limit  unit   holds
a     0.50  at most 1.00  ratio  yes
b     2.00  at most 1.00  ratio  NO";
        assert_eq!(table(&[row("a", 0.5), row("b", 2.0)]), expected);
    }
}
