//! An agent is asked to send again.

use super::Shared;
use super::commit::{Writer, remember};
use super::script::{Script, transaction};
use crate::StoreError;
use sentinel_model::ids::{AgentId, Epoch};

impl Writer {
    pub(super) async fn request_rewind(
        &mut self,
        shared: &Shared,
        key: (AgentId, Epoch),
        attempt: u32,
    ) -> Result<(), StoreError> {
        let mut stream = self.load_stream(shared, &key).await?;
        if stream.id != 0 && stream.state.rewind_attempt >= attempt {
            return Ok(());
        }
        let mut script = Script::new();
        if stream.id == 0 {
            stream.id = self.next_stream;
            script
                .sql(
                    "INSERT INTO streams (id, agent, epoch, committed, rewind_attempt, \
                     last_commit) VALUES (?,?,?,0,?,0);",
                )
                .bind(stream.id)
                .bind(key.0.as_str())
                .bind(key.1.0.to_vec())
                .bind(attempt);
        } else {
            script.sql("UPDATE streams SET rewind_attempt = ? WHERE id = ?;");
            script.bind(attempt).bind(stream.id);
        }
        transaction(&mut self.conn, vec![script]).await?;
        self.next_stream = self.next_stream.max(stream.id + 1);
        stream.state.rewind_attempt = attempt;
        remember(shared, key, stream);
        Ok(())
    }
}
