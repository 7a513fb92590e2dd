//! One pass of row rules over one batch.
//!
//! What a rule does with a row depends on its name first, and a batch has few names. So the
//! rules are resolved once for each name into a program: the name's outline, which is remembered
//! from batch to batch, with its texts as symbols of this one. A row runs its name's program; a rename goes on with the new name's
//! program from the next rule. Conditions and rewrites of label values are remembered by symbol.

use std::collections::HashMap;

use sentinel_sdk::rows::{Memo, Row, Symbol};
use sentinel_sdk::{MAX_SYMBOL_BYTES, is_metric_name};

use crate::outline::{Does, Outlines};
use crate::plan::{Action, Place, Relabelling, RowRule};

/// One thing to do with a row of a name.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The rule it comes from.
    rule: u32,
    /// Whether the rule has conditions on labels.
    guarded: bool,
    act: Act,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Drop,
    /// Drops the row if the conditions do not hold.
    DropUnless,
    Rename(Symbol),
    Relabel,
    SetLabel(Symbol, Symbol),
    DropLabel(Symbol),
    RenameLabel(Symbol, Symbol),
    Scale(f64, f64),
}

/// What is known of a batch so far.
#[derive(Debug)]
pub(crate) struct Pass<'p> {
    rules: &'p [RowRule],
    outlines: &'p mut Outlines,
    programs: Vec<Vec<Step>>,
    /// The program of a name from the first rule on.
    first: Memo<u32>,
    /// Programs of names from later rules on.
    later: HashMap<(Symbol, u32), u32>,
    /// For each rule, for each of its conditions, whether a value fulfils it.
    holds: Vec<Vec<Memo<bool>>>,
    /// For each rule that relabels by one label: what the value becomes.
    rewritten: Vec<Memo<Rewritten>>,
    /// For those that relabel by more.
    rewritten_many: HashMap<(u32, Vec<Symbol>), Rewritten>,
}

/// What becomes of a relabelled text.
#[derive(Clone, Copy, Debug)]
enum Rewritten {
    /// The pattern does not match.
    Not,
    /// It matches, and the result is empty.
    Empty,
    To(Symbol),
}

impl<'p> Pass<'p> {
    pub(crate) fn new(rules: &'p [RowRule], outlines: &'p mut Outlines) -> Self {
        Self {
            rules,
            outlines,
            programs: Vec::new(),
            first: Memo::new(),
            later: HashMap::new(),
            holds: rules.iter().map(|rule| vec![Memo::new(); rule.select.labels.len()]).collect(),
            rewritten: vec![Memo::new(); rules.len()],
            rewritten_many: HashMap::new(),
        }
    }

    /// Applies all rules to a row.
    #[inline]
    pub(crate) fn run(&mut self, row: &mut Row<'_>) {
        let name = row.name_symbol();
        let mut program = match self.first.known(name) {
            Some(program) => program,
            None => {
                let program = self.resolve(row, name, 0);
                self.first.set(name, program);
                program
            }
        };
        let mut at = 0;
        while let Some(step) = self.programs[program as usize].get(at).copied() {
            at += 1;
            if step.guarded && !self.labels_hold(row, step.rule) {
                if matches!(step.act, Act::DropUnless) {
                    row.drop();
                    return;
                }
                continue;
            }
            match step.act {
                Act::Drop => {
                    row.drop();
                    return;
                }
                Act::DropUnless => {}
                Act::Rename(to) => {
                    row.rename(to);
                    program = self.program(row, to, step.rule + 1);
                    at = 0;
                }
                Act::Relabel => {
                    if let Some(name) = self.relabel(row, step.rule) {
                        row.rename(name);
                        program = self.program(row, name, step.rule + 1);
                        at = 0;
                    }
                }
                Act::SetLabel(key, value) => row.set_label(key, value),
                Act::DropLabel(key) => row.drop_label(key),
                Act::RenameLabel(from, to) => row.rename_label(from, to),
                Act::Scale(factor, offset) => row.set_value(row.value() * factor + offset),
            }
        }
    }

    fn program(&mut self, row: &mut Row<'_>, name: Symbol, from: u32) -> u32 {
        if let Some(program) = self.later.get(&(name, from)) {
            return *program;
        }
        let program = self.resolve(row, name, from);
        self.later.insert((name, from), program);
        program
    }

    /// Writes the program of a name from a rule on: the name's outline with texts as symbols.
    #[cold]
    fn resolve(&mut self, row: &mut Row<'_>, name: Symbol, from: u32) -> u32 {
        let outline = self.outlines.of(self.rules, row.text(name), from);
        let steps = outline
            .iter()
            .map(|line| {
                let act = match &line.does {
                    Does::Drop => Act::Drop,
                    Does::DropUnless => Act::DropUnless,
                    Does::Rename(to) => Act::Rename(row.intern(to)),
                    Does::Action => match &self.rules[line.rule as usize].action {
                        Action::SetLabel { key, value } => {
                            Act::SetLabel(row.intern(key), row.intern(value))
                        }
                        Action::DropLabel { key } => Act::DropLabel(row.intern(key)),
                        Action::RenameLabel { from, to } => {
                            Act::RenameLabel(row.intern(from), row.intern(to))
                        }
                        Action::Scale { factor, offset } => Act::Scale(*factor, *offset),
                        Action::Relabel(_) => Act::Relabel,
                        Action::Drop | Action::Keep | Action::Rename(_) => {
                            unreachable!("an outline says itself what these do with a name")
                        }
                    },
                };
                Step { rule: line.rule, guarded: line.guarded, act }
            })
            .collect();
        self.programs.push(steps);
        self.programs.len() as u32 - 1
    }

    fn labels_hold(&mut self, row: &mut Row<'_>, rule: u32) -> bool {
        let conditions = &self.rules[rule as usize].select.labels;
        let known = &mut self.holds[rule as usize];
        conditions.iter().zip(known).all(|(condition, known)| {
            match row.label_symbol(&condition.key) {
                Some(value) => known.get(value, || condition.holds(row.text(value))),
                None => condition.holds(""),
            }
        })
    }

    /// Sets the target of a relabelling. Returns the new name where the name is the target.
    fn relabel(&mut self, row: &mut Row<'_>, rule: u32) -> Option<Symbol> {
        let Action::Relabel(relabelling) = &self.rules[rule as usize].action else {
            unreachable!("the step was made of a relabelling");
        };
        let rewritten = match relabelling.sources.as_slice() {
            [source] => {
                let symbol = value_of(row, source);
                match self.rewritten[rule as usize].known(symbol) {
                    Some(known) => known,
                    None => {
                        let made = rewrite(row, relabelling, &[symbol]);
                        self.rewritten[rule as usize].set(symbol, made);
                        made
                    }
                }
            }
            sources => {
                let symbols: Vec<_> = sources.iter().map(|source| value_of(row, source)).collect();
                let key = (rule, symbols);
                match self.rewritten_many.get(&key) {
                    Some(known) => *known,
                    None => {
                        let made = rewrite(row, relabelling, &key.1);
                        self.rewritten_many.insert(key, made);
                        made
                    }
                }
            }
        };
        match (&relabelling.target, rewritten) {
            (_, Rewritten::Not) | (Place::Name, Rewritten::Empty) => None,
            (Place::Label(key), Rewritten::Empty) => {
                row.drop_label(key);
                None
            }
            (Place::Label(key), Rewritten::To(value)) => {
                row.set_label(key, value);
                None
            }
            (Place::Name, Rewritten::To(name)) => (name != row.name_symbol()).then_some(name),
        }
    }
}

fn value_of(row: &mut Row<'_>, place: &Place) -> Symbol {
    match place {
        Place::Name => row.name_symbol(),
        Place::Label(key) => row.label_symbol(key).unwrap_or_else(|| row.intern("")),
    }
}

/// Applies the expression. A result that the target cannot take counts as no match.
#[cold]
fn rewrite(row: &mut Row<'_>, relabelling: &Relabelling, values: &[Symbol]) -> Rewritten {
    let texts: Vec<&str> = values.iter().map(|value| row.text(*value)).collect();
    let Some(made) = relabelling.rewrite.apply(&texts.join(&relabelling.separator)) else {
        return Rewritten::Not;
    };
    if made.is_empty() {
        return Rewritten::Empty;
    }
    if relabelling.target == Place::Name && !is_metric_name(&made) {
        return Rewritten::Not;
    }
    let end = made.floor_char_boundary(MAX_SYMBOL_BYTES);
    Rewritten::To(row.intern(&made[..end]))
}
