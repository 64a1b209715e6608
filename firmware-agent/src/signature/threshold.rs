//! Counts of matches: by rule and address, in bounded memory.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use super::condition::{Threshold, ThresholdKind, Track};
use super::ranges::number;

/// Counts that a hash chooses from.
const WAYS: usize = 8;

/// What a match comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// The rule acts and tells.
    Yes,
    /// The rule acts and does not tell: it has told often enough.
    Silent,
    /// The rule does nothing.
    No,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Hash of rule and addresses.
    key: u64,
    /// When the time is over.
    end_ms: u64,
    /// Matches in it; a count of none is free.
    matches: u32,
}

/// The counts.
#[derive(Debug)]
pub(super) struct Counts {
    seed: u64,
    /// Sets of [`WAYS`].
    sets: Box<[[Count; WAYS]]>,
    evicted: u32,
}

impl Counts {
    /// Room for `max` counts, rounded up. `seed` must be random and secret.
    pub(super) fn new(max: u32, seed: u64) -> Self {
        let sets = (max as usize).div_ceil(WAYS).next_power_of_two();
        Self { seed, sets: vec![[Count::default(); WAYS]; sets].into_boxed_slice(), evicted: 0 }
    }

    /// Bytes in use.
    pub(super) const fn memory(&self) -> usize {
        self.sets.len() * size_of::<[Count; WAYS]>()
    }

    /// Counts that had to go before their time was over.
    pub(super) const fn evicted(&self) -> u32 {
        self.evicted
    }

    /// Counts a match of a rule, and says what becomes of it.
    pub(super) fn count(
        &mut self,
        rule: u32,
        asked: Threshold,
        [source, destination]: [IpAddr; 2],
        now_ms: u64,
    ) -> Told {
        let (source, destination) = (number(source), number(destination));
        let tracked = match asked.track {
            Track::Source => [source, 0],
            Track::Destination => [destination, 0],
            Track::Both => [source.min(destination), source.max(destination)],
            Track::Rule => [0, 0],
        };
        let mut hasher = DefaultHasher::new();
        (self.seed, rule, tracked).hash(&mut hasher);
        let key = hasher.finish();
        let at = key as usize & (self.sets.len() - 1);
        let Some(set) = self.sets.get_mut(at) else { return Told::No };
        let is_live = |count: &Count| count.matches > 0 && count.end_ms > now_ms;
        let known = set.iter().position(|count| is_live(count) && count.key == key);
        // Else one that is over, or the one that is over next.
        let age = |count: &Count| if is_live(count) { count.end_ms } else { 0 };
        let oldest = || (0..WAYS).min_by_key(|way| set.get(*way).map_or(0, age));
        let Some(count) = known.or_else(oldest).and_then(|way| set.get_mut(way)) else {
            return Told::No;
        };
        let fresh = Count { key, end_ms: now_ms + u64::from(asked.seconds) * 1000, matches: 0 };
        if known.is_none() {
            self.evicted = self.evicted.saturating_add(u32::from(is_live(count)));
            *count = fresh;
        }
        count.matches = count.matches.saturating_add(1);
        let (matches, limit) = (count.matches, asked.count);
        match asked.kind {
            ThresholdKind::Limit if matches <= limit => Told::Yes,
            ThresholdKind::Limit => Told::Silent,
            ThresholdKind::Threshold if matches >= limit => {
                *count = fresh;
                Told::Yes
            }
            ThresholdKind::Both if matches == limit => Told::Yes,
            ThresholdKind::Both if matches > limit => Told::Silent,
            ThresholdKind::Filter if matches > limit => Told::Yes,
            ThresholdKind::Threshold | ThresholdKind::Both | ThresholdKind::Filter => Told::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: [IpAddr; 2] = [address(1), address(2)];

    const fn address(last: u8) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, last))
    }

    const fn asked(kind: ThresholdKind, track: Track) -> Threshold {
        Threshold { kind, track, count: 3, seconds: 10 }
    }

    fn told(kind: ThresholdKind, times: &[u64]) -> String {
        let mut counts = Counts::new(64, 1);
        let letter = |told| match told {
            Told::Yes => 'Y',
            Told::Silent => 's',
            Told::No => '-',
        };
        let asked = asked(kind, Track::Source);
        times.iter().map(|now_ms| letter(counts.count(1, asked, ME, *now_ms))).collect()
    }

    #[test]
    fn each_kind_counts_in_its_way() {
        let times: Vec<u64> = (0..8).chain([10_000, 10_001, 10_002, 10_003]).collect();
        assert_eq!(told(ThresholdKind::Limit, &times), "YYYsssssYYYs");
        assert_eq!(told(ThresholdKind::Threshold, &times), "--Y--Y--Y--Y");
        assert_eq!(told(ThresholdKind::Both, &times), "--Ysssss--Ys");
        assert_eq!(told(ThresholdKind::Filter, &times), "---YYYYY---Y");
    }

    #[test]
    fn the_time_of_a_threshold_starts_again_when_it_is_reached() {
        // The time that starts at 0 s would be over at 10 s.
        let times = [0, 1, 2, 9_000, 9_500, 11_000];
        assert_eq!(told(ThresholdKind::Threshold, &times), "--Y--Y");
        assert_eq!(told(ThresholdKind::Threshold, &[0, 1, 10_000, 10_001, 10_002]), "----Y");
    }

    #[test]
    fn what_is_tracked_is_counted_together_and_nothing_else() {
        let limit = Threshold { count: 1, ..asked(ThresholdKind::Limit, Track::Rule) };
        let second = |track, first: [u8; 2], then: [u8; 2], rule| {
            let mut counts = Counts::new(64, 7);
            let limit = Threshold { track, ..limit };
            assert_eq!(counts.count(1, limit, first.map(address), 0), Told::Yes);
            counts.count(rule, limit, then.map(address), 0)
        };
        for (track, same, other) in [
            (Track::Source, [1, 9], [9, 2]),
            (Track::Destination, [9, 2], [1, 9]),
            (Track::Both, [2, 1], [1, 9]),
        ] {
            assert_eq!(second(track, [1, 2], same, 1), Told::Silent, "{track:?}");
            assert_eq!(second(track, [1, 2], other, 1), Told::Yes, "{track:?}");
            assert_eq!(second(track, [1, 2], [1, 2], 2), Told::Yes, "{track:?}");
        }
        assert_eq!(second(Track::Rule, [1, 2], [8, 9], 1), Told::Silent);
    }

    #[test]
    fn a_full_table_forgets_what_ends_first_and_says_so() {
        let mut counts = Counts::new(64, 3);
        let memory = counts.memory();
        let limit =
            Threshold { count: 1, seconds: 60, ..asked(ThresholdKind::Limit, Track::Source) };
        for n in 0..10_000_u32 {
            let source = IpAddr::V4(n.into());
            assert_eq!(counts.count(1, limit, [source, ME[1]], u64::from(n)), Told::Yes);
            assert_eq!(counts.count(1, limit, [source, ME[1]], u64::from(n)), Told::Silent);
        }
        assert_eq!(counts.memory(), memory);
        assert_eq!(counts.evicted(), 10_000 - 64);
        // What is over makes place without being missed.
        counts.count(1, limit, ME, 1_000_000);
        assert_eq!(counts.evicted(), 10_000 - 64);
    }
}
