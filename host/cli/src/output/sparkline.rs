//! A series as one line of blocks.

/// Eight heights; a bucket without a sample is a space.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws points (time, value, in order of time) between two times in `width` columns: the mean
/// of each column, between the least and the greatest of them. Columns that lie between two
/// samples of a series' usual pace repeat the one before; longer gaps stay empty.
pub(crate) fn draw(points: &[(i64, f64)], (start, end): (i64, i64), width: usize) -> String {
    if width == 0 || end <= start {
        return String::new();
    }
    let span = i128::from(end) - i128::from(start);
    let inside = |&&(time, value): &&(i64, f64)| value.is_finite() && (start..=end).contains(&time);
    let points: Vec<(i64, f64)> = points.iter().filter(inside).copied().collect();
    let mut columns = vec![(0.0, 0_u32); width];
    for &(time, value) in &points {
        let at = (i128::from(time) - i128::from(start)) * width as i128 / span;
        let column = &mut columns[usize::try_from(at).unwrap_or(0).min(width - 1)];
        column.0 += value;
        column.1 += 1;
    }
    let means = columns.iter().map(|(sum, count)| (*count > 0).then(|| sum / f64::from(*count)));
    let mut means: Vec<Option<f64>> = means.collect();
    // One and a half paces, so that jitter tears no hole.
    let reach = i128::from(pace(&points)) * 3 * width as i128 / (2 * span) + 1;
    bridge(&mut means, usize::try_from(reach).unwrap_or(0));
    let least = means.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let most = means.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let drawn = means.iter().map(|mean| match mean {
        None => ' ',
        Some(mean) => {
            let share = if most > least { (mean - least) / (most - least) } else { 0.0 };
            BLOCKS[((share * 7.0).round() as usize).min(7)]
        }
    });
    drawn.collect()
}

/// The median time between two samples.
fn pace(points: &[(i64, f64)]) -> i64 {
    let mut steps: Vec<i64> = points.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    steps.sort_unstable();
    steps.get(steps.len() / 2).copied().unwrap_or(0)
}

/// Fills the columns between two that are at most `reach` apart.
fn bridge(means: &mut [Option<f64>], reach: usize) {
    let mut last: Option<usize> = None;
    for at in 0..means.len() {
        if means[at].is_none() {
            continue;
        }
        if let Some(last) = last.filter(|last| at - last <= reach) {
            let held = means[last];
            means[last + 1..at].fill(held);
        }
        last = Some(at);
    }
}

/// What a counter grew by in a second between each two samples; after a reset it grew from 0.
pub(crate) fn rates(points: &[(i64, f64)]) -> Vec<(i64, f64)> {
    let pairs = points.windows(2).filter(|pair| pair[1].0 > pair[0].0);
    let rates = pairs.map(|pair| {
        let ((before, old), (time, new)) = (pair[0], pair[1]);
        let growth = if new < old { new } else { new - old };
        (time, growth * 1000.0 / (time - before) as f64)
    });
    rates.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_heights_and_gaps_stay_empty() {
        let ramp: Vec<_> = (0..8).map(|i| (i * 10, i as f64)).collect();
        let lone = [(0, 3.0), (5, 5.0), (70, f64::NAN)];
        for (points, width, line) in [
            (&ramp[..], 8, "▁▂▃▄▅▆▇█"),
            (&ramp[..], 4, "▁▃▆█"),
            (&lone[..], 4, "▁   "),
            (&[(0, 1.0), (79, 2.0)][..], 3, "▁▁█"),
            (&ramp[..], 12, "▁▂▂▃▄▄▅▆▆▇█ "),
            (&[(0, 1.0), (10, 1.0), (20, 1.0), (70, 2.0)][..], 8, "▁▁▁    █"),
            (&[(0, f64::MAX), (79, f64::MIN)][..], 2, "▁▁"),
            (&[(-1, 1.0), (81, 1.0)][..], 2, "  "),
            (&[][..], 3, "   "),
            (&ramp[..], 0, ""),
        ] {
            assert_eq!(draw(points, (0, 80), width), line);
        }
        assert_eq!(draw(&ramp, (5, 5), 3), "");
    }

    #[test]
    fn a_counter_grows_from_nothing_after_a_reset() {
        let points = [(0, 10.0), (1000, 30.0), (3000, 5.0), (3000, 6.0)];
        assert_eq!(rates(&points), [(1000, 20.0), (3000, 2.5)]);
    }
}
