//! Tables without lines. Cells are made safe for a terminal here, once for all commands.

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Row};

use super::{Look, clean};

/// How a cell is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Quiet,
}

/// A table that grows by rows.
pub(crate) struct Table {
    inner: comfy_table::Table,
    look: Look,
}

impl Table {
    /// A table with a header; a column whose name starts with `>` is aligned right.
    pub(crate) fn new(look: Look, header: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(NOTHING).force_no_tty();
        inner.set_content_arrangement(ContentArrangement::Disabled);
        if look.color {
            inner.enforce_styling();
        }
        let cell = |name: &&str| {
            Cell::new(name.trim_start_matches('>').to_uppercase()).add_attribute(Attribute::Dim)
        };
        if !header.is_empty() {
            inner.set_header(header.iter().map(cell).collect::<Vec<_>>());
        }
        inner.discover_columns();
        for (at, name) in header.iter().enumerate() {
            if name.starts_with('>')
                && let Some(column) = inner.column_mut(at)
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { inner, look }
    }

    /// Properties of a thing, one a line: their names stand left.
    pub(crate) fn properties(look: Look) -> Self {
        Self::new(look, &[])
    }

    /// Adds a row of plain cells.
    pub(crate) fn row<C: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let cells = cells.into_iter().map(|text| Cell::new(clean(text.as_ref())));
        self.inner.add_row(Row::from(cells.collect::<Vec<_>>()));
    }

    /// Adds a row of cells with a tone each.
    pub(crate) fn toned<C: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = (C, Tone)>) {
        let cells = cells.into_iter().map(|(text, tone)| {
            let cell = Cell::new(clean(text.as_ref()));
            match tone {
                Tone::Plain => cell,
                Tone::Good => cell.fg(Color::Green),
                Tone::Warning => cell.fg(Color::Yellow),
                Tone::Bad => cell.fg(Color::Red),
                Tone::Quiet => cell.add_attribute(Attribute::Dim),
            }
        });
        self.inner.add_row(Row::from(cells.collect::<Vec<_>>()));
    }

    /// Adds a property, unless its value is empty.
    pub(crate) fn property(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.toned([(name, Tone::Quiet), (value, Tone::Plain)]);
        }
    }

    /// The table as lines, none of which ends in a space.
    pub(crate) fn text(mut self) -> String {
        let last = self.inner.column_count().saturating_sub(1);
        for at in 0..=last {
            if let Some(column) = self.inner.column_mut(at) {
                column.set_padding((0, if at == last { 0 } else { 2 }));
            }
        }
        let mut text = String::new();
        for line in self.inner.lines() {
            text.push_str(if self.look.color { &line } else { line.trim_end() });
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { color: false, width: 80 };

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them_and_numbers_stand_right() {
        let mut table = Table::new(PLAIN, &["name", ">calls", "cause"]);
        table.row(["cpu", "12", "-"]);
        table.toned([("longer-name", Tone::Good), ("3", Tone::Plain), ("a\u{1b}b", Tone::Bad)]);
        insta::assert_snapshot!(table.text(), @r"
        NAME         CALLS  CAUSE
        cpu             12  -
        longer-name      3  a\u{1b}b
        ");
    }

    #[test]
    fn colours_are_used_where_they_are_allowed() {
        let mut table = Table::new(Look { color: true, width: 80 }, &["state"]);
        table.toned([("failed", Tone::Bad)]);
        assert!(table.text().contains("\u{1b}["));
    }
}
