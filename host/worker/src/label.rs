//! The label that says whose samples they are, put on a whole batch at once.

use sentinel_model::batch::Batch;
use sentinel_model::columns::{BatchError, Columns};
use sentinel_model::ids::AgentId;

/// The label's key.
pub const AGENT_LABEL: &str = "agent";

/// Sets the label on every row, whatever the agent wrote there: nobody speaks for another.
///
/// # Errors
/// Where a row has no room for one more label.
pub fn set_agent(batch: Batch, agent: &AgentId) -> Result<Batch, BatchError> {
    let mut columns = batch.into_columns();
    let given = symbols_of(&columns, AGENT_LABEL);
    let key = given.first().copied().unwrap_or_else(|| intern(&mut columns, AGENT_LABEL));
    let value = intern(&mut columns, agent.as_str());
    let rows = columns.name.len();
    let mut labels = Vec::with_capacity(columns.labels.len() + 2 * rows);
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0);
    for pair in columns.label_offsets.windows(2) {
        let own = &columns.labels[pair[0] as usize..pair[1] as usize];
        if given.is_empty() {
            labels.extend_from_slice(own);
        } else {
            let others = own.chunks_exact(2).filter(|label| !given.contains(&label[0]));
            others.for_each(|label| labels.extend_from_slice(label));
        }
        labels.extend([key, value]);
        offsets.push(labels.len() as u32);
    }
    (columns.labels, columns.label_offsets) = (labels, offsets);
    Batch::new(columns)
}

/// All symbols with a text: an agent may have written it more than once.
fn symbols_of(columns: &Columns, text: &str) -> Vec<u32> {
    let mut start = 0;
    let mut found = Vec::new();
    for (index, &end) in columns.symbol_ends.iter().enumerate() {
        if &columns.symbols.as_bytes()[start as usize..end as usize] == text.as_bytes() {
            found.push(index as u32);
        }
        start = end;
    }
    found
}

fn intern(columns: &mut Columns, text: &str) -> u32 {
    columns.symbols.push_str(text);
    columns.symbol_ends.push(columns.symbols.len() as u32);
    columns.symbol_ends.len() as u32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_model::batch::BatchBuilder;
    use sentinel_model::columns::{Kind, MAX_LABELS};

    fn agent() -> AgentId {
        AgentId::new("web-1").unwrap()
    }

    fn labels(batch: &Batch) -> Vec<Vec<(&str, &str)>> {
        batch.rows().map(|row| row.labels().collect()).collect()
    }

    #[test]
    fn every_row_gets_the_label_whatever_the_agent_wrote() {
        let mut builder = BatchBuilder::new();
        builder
            .push("up", [("job", "a")], Kind::Gauge, 1.0, 1)
            .push("up", [("agent", "db-9"), ("job", "b")], Kind::Gauge, 1.0, 1)
            .push("up", [], Kind::Gauge, 1.0, 1);
        let mut columns = builder.build().unwrap().into_columns();
        // The key a second time, under another index.
        let again = intern(&mut columns, "agent");
        let value = columns.labels[1];
        columns.labels.extend([again, value]);
        *columns.label_offsets.last_mut().unwrap() += 2;
        let batch = set_agent(Batch::new(columns).unwrap(), &agent()).unwrap();
        let own = ("agent", "web-1");
        assert_eq!(labels(&batch), [vec![("job", "a"), own], vec![("job", "b"), own], vec![own]]);
    }

    #[test]
    fn a_batch_without_rows_stays_without() {
        assert!(set_agent(Batch::empty(), &agent()).unwrap().is_empty());
    }

    #[test]
    fn a_row_without_room_is_refused_unless_it_has_the_label() {
        let names: Vec<String> = (1..MAX_LABELS).map(|i| format!("k{i}")).collect();
        let full = |last| {
            let labels = names.iter().map(String::as_str).chain([last]).map(|k| (k, "v"));
            let mut builder = BatchBuilder::new();
            builder.push("up", labels, Kind::Gauge, 1.0, 1);
            set_agent(builder.build().unwrap(), &agent())
        };
        assert!(full("agent").is_ok());
        assert!(matches!(full("other"), Err(BatchError::TooLarge { .. })));
    }
}
