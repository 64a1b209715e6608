//! The names that devices were told for addresses.

use sluice_abi::flow::Addr;

use super::shares::Shares;
use super::{Client, Source};
use crate::config::Mac;

/// How long the name that was told first counts before others of the same address.
pub const FRESH_MS: u64 = 10_000;
/// How long a name is kept.
pub const KEEP_MS: u64 = 600_000;
/// Names of one address, for one device.
pub const NAMES_MAX: usize = 4;

/// Names by device and address.
#[derive(Debug)]
pub struct Names {
    max: usize,
    told: Shares<Client, Addr, Vec<Told>>,
    /// Counts what was told: times are too coarse to say what came first.
    count: u64,
}

/// A name.
#[derive(Debug)]
struct Told {
    name: Box<str>,
    source: Source,
    /// Which it was when it was told the first time without a pause in which it was not fresh.
    first: u64,
    /// Which it was when it was told the last time.
    last: u64,
    /// When that was.
    last_ms: u64,
}

impl Told {
    const fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.last_ms) <= FRESH_MS
    }

    const fn is_kept(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.last_ms) <= KEEP_MS
    }

    /// Names with a higher one are shown first. Of fresh ones that counts which was told first, of
    /// others that which was told last.
    const fn order(&self, now_ms: u64) -> (u8, bool, u64) {
        let is_fresh = self.is_fresh(now_ms);
        let place = if is_fresh { u64::MAX - self.first } else { self.last };
        (self.source.rank(), is_fresh, place)
    }
}

impl Names {
    /// For at most `max` pairs of a device and an address, a quarter of them for one device; 0 keeps
    /// none.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, told: Shares::new(max), count: 0 }
    }

    /// Pairs of a device and an address that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.told.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many pairs fit.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }

    /// Learns that the device with `asker` and `mac` was told that `address` is `name`.
    ///
    /// Of [`NAMES_MAX`] names one makes place that counts less than the new one, or that counts the
    /// same and is not fresh; where there is none, the new one is not taken.
    pub fn learn(
        &mut self,
        now_ms: u64,
        (asker, mac): (Addr, Option<Mac>),
        address: Addr,
        name: &str,
        source: Source,
    ) {
        let client = Client::new(asker, mac, address);
        let Some(told) = self.told.touch(client, address, Vec::new) else { return };
        told.retain(|one| one.is_kept(now_ms));
        let this = self.count;
        self.count += 1;
        let same = told.iter_mut().find(|one| one.source == source && *one.name == *name);
        if let Some(one) = same {
            if !one.is_fresh(now_ms) {
                one.first = this;
            }
            (one.last, one.last_ms) = (this, now_ms);
            return;
        }
        if told.len() >= NAMES_MAX {
            let gives_way = |one: &&Told| {
                let (theirs, ours) = (one.source.rank(), source.rank());
                theirs < ours || (theirs == ours && !one.is_fresh(now_ms))
            };
            let least =
                told.iter().filter(gives_way).map(|one| (one.source.rank(), one.last)).min();
            let place = least.and_then(|least| {
                told.iter().position(|one| (one.source.rank(), one.last) == least)
            });
            let Some(place) = place else { return };
            told.remove(place);
        }
        told.push(Told { name: name.into(), source, first: this, last: this, last_ms: now_ms });
    }

    /// The name that the device with `addr` and `mac` was told for `address`, and what said it.
    #[must_use]
    pub fn find(
        &self,
        now_ms: u64,
        (addr, mac): (Addr, Option<Mac>),
        address: Addr,
    ) -> Option<(&str, Source)> {
        let told = self.told.get(Client::new(addr, mac, address), address)?;
        let kept = told.iter().filter(|one| one.is_kept(now_ms));
        let first = kept.max_by_key(|one| one.order(now_ms))?;
        Some((&first.name, first.source))
    }

    /// Forgets what was not told for [`KEEP_MS`].
    pub fn expire(&mut self, now_ms: u64) {
        while self.told.pop_oldest(|told| !told.iter().any(|one| one.is_kept(now_ms))) {}
    }
}
