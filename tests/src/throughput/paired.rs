//! What pairs of measurements say: each value is compared with the one of its own round. Pure.

/// The value in the middle.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Ratios of rounds, and how sure their median is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// The ratio in the middle.
    pub median: f64,
    /// The median of many more rounds is above this with 97.5 % confidence; the smallest ratio where
    /// there are too few rounds for that.
    pub low: f64,
    /// The same from above.
    pub high: f64,
    /// How many rounds.
    pub rounds: usize,
}

impl Share {
    /// Each value as a share of the reference of its round. Rounds whose reference is nothing are
    /// left out.
    #[must_use]
    pub fn of(values: &[f64], references: &[f64]) -> Self {
        let pairs = values.iter().zip(references).filter(|(_, reference)| **reference > 0.0);
        let ratios = sorted(&pairs.map(|(value, reference)| value / reference).collect::<Vec<_>>());
        let rounds = ratios.len();
        let outside = outside(rounds);
        let at = |index: usize| ratios.get(index).copied().unwrap_or(0.0);
        Self {
            median: median(&ratios),
            low: at(outside),
            high: at(rounds.saturating_sub(outside + 1)),
            rounds,
        }
    }
}

/// How many of the smallest, and of the largest, of so many values may be cut off so that what is left
/// holds the median with 95 % confidence, whatever the values are distributed like: each lies above it
/// like a coin that falls on heads.
fn outside(rounds: usize) -> usize {
    // Probability of exactly `index` heads, and of at most so many.
    let mut exactly = 0.5_f64.powi(i32::try_from(rounds).unwrap_or(i32::MAX));
    let mut at_most = exactly;
    let mut index = 0;
    while at_most <= 0.025 && index < rounds {
        exactly *= (rounds - index) as f64 / (index + 1) as f64;
        at_most += exactly;
        index += 1;
    }
    index.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the values are copied, not computed")]
    fn the_median_is_a_measured_value() {
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[2.0]), 2.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_busy_moment_that_hits_both_of_a_pair_changes_no_share() {
        let quiet = Share::of(&[90.0; 5], &[100.0; 5]);
        let busy = Share::of(&[90.0, 9.0, 90.0, 45.0, 90.0], &[100.0, 10.0, 100.0, 50.0, 100.0]);
        assert_eq!(quiet, busy);
        assert!((quiet.median - 0.9).abs() < 1e-9, "{quiet:?}");
    }

    /// The ranks that tables of the sign test have.
    #[test]
    fn the_interval_cuts_off_what_a_table_of_the_sign_test_says() {
        for (rounds, cut) in
            [(0, 0), (1, 0), (5, 0), (6, 0), (9, 1), (10, 1), (20, 5), (25, 7), (40, 13)]
        {
            assert_eq!(outside(rounds), cut, "{rounds}");
        }
        let ratios: Vec<f64> = (1..=20).map(f64::from).collect();
        let share = Share::of(&ratios, &[1.0; 20]);
        assert_eq!([share.low, share.high].map(|ratio| ratio as i32), [6, 15]);
        assert_eq!(share.rounds, 20);
    }

    #[test]
    fn a_round_without_a_reference_is_none() {
        let share = Share::of(&[1.0, 5.0], &[2.0, 0.0]);
        assert_eq!(share.rounds, 1);
        assert_eq!(Share::of(&[], &[]), Share::default());
    }
}
