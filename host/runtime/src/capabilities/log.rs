//! Messages from a plugin to the operator, kept from flooding and from forging lines.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

/// Most messages within any [`WINDOW_MS`] of a slot.
pub const MAX_MESSAGES: usize = 100;
/// The time that [`MAX_MESSAGES`] is counted over: a minute, in milliseconds.
pub const WINDOW_MS: i64 = 60_000;
/// Most bytes of a message; what is longer is cut, on a character's border (4 KiB).
pub const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// Weight of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For whoever looks for a fault in the plugin.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
}

/// Where messages go.
pub trait LogSink: Send + Sync {
    /// One message of a slot: one line, without control characters.
    fn message(&self, slot: &str, plugin: &str, level: Level, text: &str);
}

/// Messages go to this process's own log.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingSink;

impl LogSink for TracingSink {
    fn message(&self, slot: &str, plugin: &str, level: Level, text: &str) {
        match level {
            Level::Debug => tracing::debug!(target: "sentinel::plugin", slot, plugin, "{text}"),
            Level::Info => tracing::info!(target: "sentinel::plugin", slot, plugin, "{text}"),
            Level::Warn => tracing::warn!(target: "sentinel::plugin", slot, plugin, "{text}"),
            Level::Error => tracing::error!(target: "sentinel::plugin", slot, plugin, "{text}"),
        }
    }
}

/// A slot's messages: at most [`MAX_MESSAGES`] in any minute, the rest counted.
///
/// It belongs to the slot and outlives a generation, so that a plugin which is restarted in a
/// loop gets no new allowance. Debug messages that the process's log would not show anyway
/// count all the same.
pub struct LogGate {
    slot: String,
    plugin: String,
    sink: Arc<dyn LogSink>,
    /// When each message of the last minute was written; at most [`MAX_MESSAGES`].
    written: VecDeque<i64>,
    /// Suppressed and not said yet.
    untold: u64,
    suppressed: u64,
}

impl LogGate {
    /// A gate for a slot; `plugin` is how messages name the plugin (`sentinel/system 1.0.0`).
    #[must_use]
    pub fn new(slot: &str, plugin: &str, sink: Arc<dyn LogSink>) -> Self {
        Self {
            slot: slot.to_owned(),
            plugin: plugin.to_owned(),
            sink,
            written: VecDeque::new(),
            untold: 0,
            suppressed: 0,
        }
    }

    /// From now on messages name another plugin: the slot has a new generation.
    pub fn name_plugin(&mut self, plugin: &str) {
        plugin.clone_into(&mut self.plugin);
    }

    /// Writes a message at `now` (unix milliseconds), or counts it.
    pub fn write(&mut self, now: i64, level: Level, message: &str) {
        self.forget_before(now);
        if self.written.len() >= MAX_MESSAGES {
            self.untold += 1;
            self.suppressed += 1;
            return;
        }
        self.tell_suppressed();
        self.written.push_back(now);
        let text = one_line(message);
        self.sink.message(&self.slot, &self.plugin, level, &text);
    }

    /// Says how many messages were suppressed, if any were and there is room again. Called
    /// now and then, so that a plugin which fell silent does not hide how many it lost.
    pub fn settle(&mut self, now: i64) {
        self.forget_before(now);
        if self.written.len() < MAX_MESSAGES {
            self.tell_suppressed();
        }
    }

    /// Messages that were suppressed since the gate was made.
    #[must_use]
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }

    fn forget_before(&mut self, now: i64) {
        // A clock that was set back must not silence the slot until it has caught up.
        for at in &mut self.written {
            *at = (*at).min(now);
        }
        while self.written.front().is_some_and(|at| now.saturating_sub(*at) >= WINDOW_MS) {
            self.written.pop_front();
        }
    }

    fn tell_suppressed(&mut self) {
        if self.untold > 0 {
            let text = format!(
                "{} messages of this slot were suppressed: more than {MAX_MESSAGES} in a minute",
                self.untold
            );
            self.untold = 0;
            self.sink.message(&self.slot, &self.plugin, Level::Warn, &text);
        }
    }
}

impl std::fmt::Debug for LogGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogGate")
            .field("slot", &self.slot)
            .field("plugin", &self.plugin)
            .field("suppressed", &self.suppressed)
            .finish_non_exhaustive()
    }
}

/// Cuts a message and escapes what would break a line, move a cursor or turn the direction of
/// writing: what an operator reads is what was written.
#[must_use]
pub fn one_line(message: &str) -> String {
    let cut = message.floor_char_boundary(MAX_MESSAGE_BYTES);
    let mut line = String::with_capacity(cut + 4);
    for c in message[..cut].chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() || turns_writing(c) => {
                let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    if cut < message.len() {
        line.push('…');
    }
    line
}

/// Line and paragraph separators, and marks that change the direction of writing.
const fn turns_writing(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<(Level, String)>>);

    impl LogSink for Kept {
        fn message(&self, slot: &str, plugin: &str, level: Level, text: &str) {
            assert_eq!((slot, plugin), ("web", "sentinel/nginx 1.0.0"));
            self.0.lock().push((level, text.to_owned()));
        }
    }

    fn gate() -> (LogGate, Arc<Kept>) {
        let kept = Arc::new(Kept::default());
        (LogGate::new("web", "sentinel/nginx 1.0.0", Arc::clone(&kept) as Arc<dyn LogSink>), kept)
    }

    #[test]
    fn what_is_beyond_a_hundred_a_minute_is_counted_and_the_count_is_told() {
        let (mut gate, kept) = gate();
        for i in 0..130 {
            gate.write(1_000, Level::Info, &i.to_string());
        }
        assert_eq!(kept.0.lock().len(), MAX_MESSAGES);
        gate.settle(1_000 + WINDOW_MS - 1);
        assert_eq!(kept.0.lock().len(), MAX_MESSAGES);
        gate.write(1_000 + WINDOW_MS, Level::Error, "again");
        gate.settle(1_000 + WINDOW_MS);
        let tail = kept.0.lock()[MAX_MESSAGES..].to_vec();
        let told = "30 messages of this slot were suppressed: more than 100 in a minute";
        assert_eq!(tail, [(Level::Warn, told.to_owned()), (Level::Error, "again".to_owned())]);
        assert_eq!(gate.suppressed(), 30);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_silence_a_slot_for_longer_than_a_minute() {
        let (mut gate, kept) = gate();
        for _ in 0..MAX_MESSAGES {
            gate.write(1_000_000_000, Level::Info, "x");
        }
        gate.write(5_000, Level::Info, "suppressed");
        gate.write(5_000 + WINDOW_MS, Level::Info, "heard");
        assert_eq!(kept.0.lock().last().unwrap().1, "heard");
    }

    #[test]
    fn a_message_cannot_forge_a_line() {
        for (message, line) in [
            ("plain äß 漢", "plain äß 漢"),
            ("a\nb\r\n\tc", "a\\nb\\r\\n\\tc"),
            ("\u{1b}[2J\0\u{7f}\u{85}", "\\u{1b}[2J\\u{0}\\u{7f}\\u{85}"),
            ("\u{202e}evil\u{2028}", "\\u{202e}evil\\u{2028}"),
        ] {
            assert_eq!(one_line(message), line);
        }
    }

    #[test]
    fn a_long_message_is_cut_on_a_characters_border() {
        let message = "€".repeat(2_000);
        let line = one_line(&message);
        assert_eq!(line, format!("{}…", "€".repeat(MAX_MESSAGE_BYTES / 3)));
        assert_eq!(one_line(&"a".repeat(MAX_MESSAGE_BYTES)).len(), MAX_MESSAGE_BYTES);
    }

    proptest! {
        #[test]
        fn no_minute_has_more_than_a_hundred_messages_and_none_is_lost_uncounted(
            steps in proptest::collection::vec(0i64..2_000, 0..600),
        ) {
            let (mut gate, kept) = gate();
            let mut now = 0;
            let mut heard = Vec::new();
            for step in &steps {
                now += step;
                let before = gate.suppressed();
                gate.write(now, Level::Debug, "x");
                if gate.suppressed() == before {
                    heard.push(now);
                }
            }
            for window in heard.windows(MAX_MESSAGES + 1) {
                prop_assert!(window[MAX_MESSAGES] - window[0] >= WINDOW_MS);
            }
            prop_assert_eq!(heard.len() as u64 + gate.suppressed(), steps.len() as u64);
            prop_assert!(kept.0.lock().len() >= heard.len());
        }

        #[test]
        fn no_message_makes_a_second_line(message in any::<String>()) {
            prop_assert!(!one_line(&message).chars().any(char::is_control));
        }
    }
}
