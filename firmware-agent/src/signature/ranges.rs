//! Sets of addresses or ports, as intervals.

use std::net::IpAddr;

/// What intervals are made of.
pub trait Point: Copy + Ord {
    /// The least value.
    const MIN: Self;
    /// The greatest.
    const MAX: Self;
    /// The value behind this one, if there is one.
    fn after(self) -> Option<Self>;
    /// The value before this one, if there is one.
    fn before(self) -> Option<Self>;
}

macro_rules! point {
    ($type:ty) => {
        impl Point for $type {
            const MIN: Self = Self::MIN;
            const MAX: Self = Self::MAX;

            fn after(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn before(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    };
}

point!(u16);
point!(u128);

/// An address as a number. IPv4 lies behind `::ffff:0:0/96`.
#[must_use]
pub const fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// A set: sorted intervals, both ends included, that neither overlap nor touch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ranges<T>(Box<[(T, T)]>);

impl<T: Point> Ranges<T> {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self(Box::new([(T::MIN, T::MAX)]))
    }

    /// The union of intervals in any order. An interval whose ends are swapped is empty.
    #[must_use]
    pub fn new(mut intervals: Vec<(T, T)>) -> Self {
        intervals.retain(|(low, high)| low <= high);
        intervals.sort_unstable();
        let mut joined: Vec<(T, T)> = Vec::new();
        for (low, high) in intervals {
            match joined.last_mut() {
                Some(last) if last.1.after().is_none_or(|next| low <= next) => {
                    last.1 = last.1.max(high);
                }
                _ => joined.push((low, high)),
            }
        }
        Self(joined.into_boxed_slice())
    }

    /// What is not in the set.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut holes = Vec::with_capacity(self.0.len() + 1);
        let mut start = Some(T::MIN);
        for &(low, high) in &self.0 {
            if let (Some(from), Some(to)) = (start, low.before()) {
                holes.push((from, to));
            }
            start = high.after();
        }
        if let Some(from) = start {
            holes.push((from, T::MAX));
        }
        Self::new(holes)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let keep = other.complement();
        let mut left = Vec::new();
        let mut rest = &keep.0[..];
        for &(low, high) in &self.0 {
            while let Some((&(_, end), tail)) = rest.split_first()
                && end < low
            {
                rest = tail;
            }
            let reached = rest.iter().take_while(|(start, _)| *start <= high);
            left.extend(reached.map(|&(start, end)| (start.max(low), end.min(high))));
        }
        Self::new(left)
    }

    /// Whether a value is in the set.
    #[must_use]
    pub fn contains(&self, value: T) -> bool {
        let behind = self.0.partition_point(|(low, _)| *low <= value);
        behind.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, high)| value <= *high)
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether everything is in the set.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(&self.0[..], [(low, high)] if *low == T::MIN && *high == T::MAX)
    }

    /// The intervals.
    #[must_use]
    pub fn intervals(&self) -> &[(T, T)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_what_it_is_for_every_port() {
        // A few hundred sets from a counter that is scattered over the ports.
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 20) as u16
        };
        for _ in 0..200 {
            let mut some = || {
                let intervals = (0..next() % 6).map(|_| {
                    let low = next();
                    (low, low.saturating_add(next() % 900))
                });
                Ranges::new(intervals.collect())
            };
            let (left, right) = (some(), some());
            let difference = left.without(&right);
            for port in (0..=6000).chain([u16::MAX]) {
                let expected = left.contains(port) && !right.contains(port);
                assert_eq!(difference.contains(port), expected, "{port} {left:?} {right:?}");
                assert_eq!(left.complement().contains(port), !left.contains(port));
            }
        }
    }

    #[test]
    fn neighbours_join_and_the_ends_are_no_exception() {
        assert_eq!(Ranges::new(vec![(5, 9), (1, 4), (20, 10)]).intervals(), [(1_u16, 9)]);
        assert!(Ranges::new(vec![(0_u16, 9), (10, u16::MAX)]).is_all());
        assert!(Ranges::<u16>::all().complement().is_empty());
        assert!(Ranges::<u16>::new(vec![]).complement().is_all());
        assert_eq!(Ranges::new(vec![(0_u16, 0)]).complement().intervals(), [(1, u16::MAX)]);
    }
}
