//! What each device of the household carried: the part of it that no record of a flow has, and how much
//! all of it was when somebody last asked.
//!
//! Pure. A flow that goes on is counted where its record is; what it carried comes here when that ends, and
//! what was let through before there was a record when inspection ends. Rates need two readings: those
//! are taken when somebody asks, so nothing is read while nobody does.

use sluice_abi::flow::{Direction, FlowCount, FlowKey};
use sluice_abi::verdict::Verdict;

use crate::config::Mac;
use crate::dataplane::table::Record;
use crate::names::Client;
use crate::policy::Ends;

/// Devices that are counted.
pub(super) const DEVICES_MAX: usize = 1024;
/// Least milliseconds between two readings: a shorter time would show single packets.
const READ_MS: u64 = 1000;
/// Most milliseconds between two readings that tell a rate: over a longer time it says nothing of now.
const FRESH_MS: u64 = 60_000;

/// Packets and bytes, counted from the IP header on: that a device sent, and that it received.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Carried {
    pub(super) packets: [u64; 2],
    pub(super) bytes: [u64; 2],
}

/// A part of what a device carried, and when it was last known to be there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Part {
    /// `None` where nothing was let through.
    pub(super) carried: Option<Carried>,
    /// By the clock of the counters; 0 where nobody knows.
    pub(super) last_ns: u64,
}

impl Part {
    /// The part that a flow has, when its slot shows `count`.
    pub(super) fn of_record(record: &Record, ends: &Ends, count: &FlowCount) -> Self {
        let sent = record.sent(count);
        let (key, original) = record.decision.key;
        let sides =
            [[sent.original_packets, sent.original_bytes], [sent.reply_packets, sent.reply_bytes]];
        let is_its = key.source(original).0 == ends.device;
        let is_let_through = record.decision.verdict != Verdict::Blocked;
        Self {
            carried: is_let_through.then(|| Carried::new(sides, is_its)),
            last_ns: sent.last_seen_ns,
        }
    }

    /// The part that was let through while a flow was inspected, by direction of its key.
    pub(super) fn of_inspection(
        key: &FlowKey,
        ends: &Ends,
        inspected: [[u32; 2]; 2],
        now_ns: u64,
    ) -> Self {
        let is_its = key.source(Direction::Up).0 == ends.device;
        let carried = Carried::new(inspected.map(|side| side.map(u64::from)), is_its);
        Self { carried: Some(carried), last_ns: now_ns }
    }

    /// Adds what another one has.
    pub(super) fn add(&mut self, other: &Self) {
        if let Some(more) = other.carried {
            let sum = self.carried.get_or_insert_default();
            for way in 0..2 {
                sum.packets[way] += more.packets[way];
                sum.bytes[way] += more.bytes[way];
            }
        }
        self.last_ns = self.last_ns.max(other.last_ns);
    }

    /// Bytes up and down.
    pub(super) fn bytes(&self) -> [u64; 2] {
        self.carried.unwrap_or_default().bytes
    }
}

impl Carried {
    /// Packets and bytes of two sides, the first of which is the device's or not.
    const fn new([first, second]: [[u64; 2]; 2], is_its: bool) -> Self {
        let (up, down) = if is_its { (first, second) } else { (second, first) };
        Self { packets: [up[0], down[0]], bytes: [up[1], down[1]] }
    }
}

/// Whose flow it is.
pub(super) fn owner(ends: &Ends) -> Client {
    ends.mac.map_or(Client::Addr(ends.device), Client::Mac)
}

/// Bytes up and down of devices, in the order of their hardware addresses.
type Bytes = Vec<(Mac, [u64; 2])>;

fn find(bytes: &Bytes, mac: Mac) -> Option<[u64; 2]> {
    let at = bytes.binary_search_by_key(&mac, |(mac, _)| *mac).ok()?;
    bytes.get(at).map(|(_, bytes)| *bytes)
}

/// What no record of a flow has, and the last readings.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// In the order of [`place`].
    parts: Vec<(Client, Part)>,
    /// When it was read last, and what it was.
    last: Option<(u64, Bytes)>,
    /// Milliseconds between the last two readings, and bytes that each device had more.
    more: Option<(u64, Bytes)>,
}

/// A hardware address or an address as what is compared.
const fn place(client: &Client) -> (Mac, [u32; 4]) {
    match client {
        Client::Mac(mac) => (*mac, [0; 4]),
        Client::Addr(addr) => (Mac([0; 6]), addr.words()),
    }
}

impl Tally {
    /// Adds a part. Of more devices than fit, the one that was silent longest is forgotten.
    pub(super) fn add(&mut self, device: Client, part: &Part) {
        let find = |parts: &[(Client, Part)]| {
            parts.binary_search_by_key(&place(&device), |(device, _)| place(device))
        };
        match find(&self.parts) {
            Ok(at) => self.parts[at].1.add(part),
            Err(mut at) => {
                if self.parts.len() >= DEVICES_MAX {
                    let parts = self.parts.iter().zip(0..);
                    let silent = parts.min_by_key(|((_, part), _)| part.last_ns);
                    if let Some((_, silent)) = silent {
                        self.parts.remove(silent);
                        at -= usize::from(silent < at);
                    }
                }
                self.parts.insert(at, (device, *part));
            }
        }
    }

    /// What no record of a flow has.
    pub(super) fn parts(&self) -> &[(Client, Part)] {
        &self.parts
    }

    /// Takes a reading of what every device carried by now, unless the last one is too young; `new` is in
    /// the order of hardware addresses.
    pub(super) fn read(&mut self, now_ms: u64, new: Bytes) {
        let last = self.last.take().filter(|(then_ms, _)| now_ms - then_ms <= FRESH_MS);
        if let Some((then_ms, _)) = last.as_ref()
            && now_ms - then_ms < READ_MS
        {
            self.last = last;
            return;
        }
        self.more = last.map(|(then_ms, old)| {
            let more = new.iter().filter_map(|(mac, [up, down])| {
                let [old_up, old_down] = find(&old, *mac)?;
                // Of a device that was forgotten meanwhile nothing can be said.
                Some((*mac, [up.checked_sub(old_up)?, down.checked_sub(old_down)?]))
            });
            (now_ms - then_ms, more.collect())
        });
        self.last = Some((now_ms, new));
    }

    /// Milliseconds between the last two readings.
    pub(super) fn interval_ms(&self) -> Option<u64> {
        self.more.as_ref().map(|(ms, _)| *ms)
    }

    /// Bits a second up and down of a device between the last two readings.
    pub(super) fn rates(&self, mac: Mac) -> Option<[u64; 2]> {
        let (ms, more) = self.more.as_ref()?;
        // 2^64 of these are some petabytes in a minute.
        find(more, mac).map(|bytes| bytes.map(|bytes| bytes.saturating_mul(8000) / ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(up: u64, down: u64, last_ns: u64) -> Part {
        let carried = Some(Carried { packets: [1, 2], bytes: [up, down] });
        Part { carried, last_ns }
    }

    const fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    /// R175: rates are of the interval that was measured; without one, or for who was not there at its
    /// begin, there is none.
    #[test]
    fn rates_are_between_two_readings() {
        let mut tally = Tally::default();
        tally.read(1000, vec![(mac(1), [1000, 0])]);
        assert_eq!((tally.interval_ms(), tally.rates(mac(1))), (None, None));
        tally.read(3000, vec![(mac(1), [1500, 2000]), (mac(2), [7, 7])]);
        assert_eq!(tally.interval_ms(), Some(2000));
        assert_eq!(tally.rates(mac(1)), Some([2000, 8000]));
        assert_eq!(tally.rates(mac(2)), None, "it was not there before");
        // Who asks at once gets the same, and does not spoil the next reading.
        tally.read(3500, vec![(mac(1), [9999, 9999])]);
        assert_eq!(tally.rates(mac(1)), Some([2000, 8000]));
        tally.read(4000, vec![(mac(1), [1501, 2000]), (mac(2), [6, 7])]);
        assert_eq!((tally.interval_ms(), tally.rates(mac(1))), (Some(1000), Some([8, 0])));
        assert_eq!(tally.rates(mac(2)), None, "it has less than before");
        // Nobody asked for long.
        tally.read(4001 + FRESH_MS, vec![(mac(1), [1501, 2000])]);
        assert_eq!((tally.interval_ms(), tally.rates(mac(1))), (None, None));
    }

    #[test]
    fn the_device_that_was_silent_longest_makes_room() {
        let mut tally = Tally::default();
        let device = |at: u16| {
            let [high, low] = at.to_be_bytes();
            Client::Mac(Mac([2, 0, 0, 0, high, low]))
        };
        for at in (0..DEVICES_MAX as u16).rev() {
            tally.add(device(at), &part(1, 1, 1000 + u64::from(at)));
        }
        tally.add(device(0), &part(2, 2, 5000));
        tally.add(device(9999), &part(3, 3, 6000));
        let bytes = |device: Client| {
            let found = tally.parts().iter().find(|(known, _)| *known == device);
            found.map(|(_, part)| part.bytes())
        };
        assert_eq!(tally.parts().len(), DEVICES_MAX);
        assert_eq!(bytes(device(0)), Some([3, 3]));
        assert_eq!((bytes(device(1)), bytes(device(9999))), (None, Some([3, 3])));
        assert!(tally.parts().is_sorted_by_key(|(device, _)| place(device)));
    }
}
