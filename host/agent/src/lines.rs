//! The last lines that the process logged, for whoever asks: kept in memory, within bounds.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// The most lines, and the most bytes of them, that are kept; the oldest go.
pub const MAX_LINES: usize = 1000;
const MAX_BYTES: usize = 256 << 10;
/// A longer line is cut.
const MAX_LINE: usize = 8 << 10;

/// The last lines. Clones share them.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

struct Shared {
    kept: Mutex<Kept>,
    /// How many lines there ever were.
    count: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<Arc<str>>,
    bytes: usize,
    count: u64,
}

impl Default for Lines {
    fn default() -> Self {
        Self(Arc::new(Shared { kept: Mutex::default(), count: watch::Sender::new(0) }))
    }
}

impl Lines {
    /// Adds a line, without its end.
    pub fn push(&self, line: &str) {
        let mut end = line.len().min(MAX_LINE);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let mut kept = self.0.kept.lock();
        kept.lines.push_back(line[..end].into());
        kept.bytes += end;
        kept.count += 1;
        while kept.lines.len() > MAX_LINES || kept.bytes > MAX_BYTES {
            kept.bytes -= kept.lines.pop_front().map_or(0, |line| line.len());
        }
        let count = kept.count;
        drop(kept);
        self.0.count.send_replace(count);
    }

    /// The last lines, at most so many, and where the next one will be.
    #[must_use]
    pub fn last(&self, most: usize) -> (Vec<Arc<str>>, u64) {
        let kept = self.0.kept.lock();
        let skipped = kept.lines.len().saturating_sub(most);
        (kept.lines.iter().skip(skipped).cloned().collect(), kept.count)
    }

    /// Lines from a place on that are still kept, at least one, and where the next one will be. Waits
    /// for one.
    pub async fn next(&self, from: u64) -> (Vec<Arc<str>>, u64) {
        let mut count = self.0.count.subscribe();
        // Its sender lives as long as this.
        let _ = count.wait_for(|count| *count > from).await;
        let kept = self.0.kept.lock();
        let new = usize::try_from(kept.count.saturating_sub(from)).unwrap_or(usize::MAX);
        let skipped = kept.lines.len().saturating_sub(new);
        (kept.lines.iter().skip(skipped).cloned().collect(), kept.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Arc<str>]) -> Vec<&str> {
        lines.iter().map(|line| &**line).collect()
    }

    #[tokio::test]
    async fn the_last_lines_are_kept_and_those_that_come_are_followed() {
        let lines = Lines::default();
        for n in 0..5 {
            lines.push(&n.to_string());
        }
        let (last, next) = lines.last(2);
        assert_eq!((texts(&last), next), (vec!["3", "4"], 5));
        let follower = lines.clone();
        let following = tokio::spawn(async move { follower.next(next).await });
        lines.push("5");
        let (new, next) = following.await.unwrap();
        assert_eq!((texts(&new), next), (vec!["5"], 6));
        assert_eq!(texts(&lines.next(4).await.0), ["4", "5"]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let lines = Lines::default();
        for _ in 0..3 * MAX_LINES {
            lines.push("x");
        }
        assert_eq!(lines.last(usize::MAX).0.len(), MAX_LINES);
        let long = "é".repeat(MAX_LINE);
        for _ in 0..100 {
            lines.push(&long);
        }
        let (kept, _) = lines.last(usize::MAX);
        assert!(kept.iter().all(|line| line.len() <= MAX_LINE));
        assert!(kept.iter().map(|line| line.len()).sum::<usize>() <= MAX_BYTES);
    }
}
