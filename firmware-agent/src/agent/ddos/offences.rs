//! Who is over a rate, from one look at the programs' notes to the next. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sluice_abi::limits::Offender;
use sluice_abi::reason::DropReason;

/// Most that are remembered.
const MAX: usize = 256;
/// Seconds without a drop after which an offence is over.
const QUIET_S: u32 = 30;
/// Looks with drops that make a repetition, and the time within which they count.
const REPEATED: u32 = 3;
const WITHIN_S: u32 = 10;
/// What a moment ago is.
const MOMENT_S: u32 = 2;
/// Seconds between two messages about one offence.
const MESSAGE_S: u32 = 60;

/// Somebody's packets over one rate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Offence {
    /// Packets dropped, as far as notes reach: they have room for few.
    pub(super) packets: u64,
    /// Second of the first drop.
    pub(super) since_s: u32,
    /// Second of the last drop.
    pub(super) last_s: u32,
    /// Packets in the notes at the last look.
    noted: u32,
    /// Looks with drops, not further apart than [`WITHIN_S`].
    looks: u32,
    /// Second of the last message; 0 is never.
    told_s: u32,
}

impl Offence {
    /// Whether it has happened again and again, until a moment ago.
    pub(super) const fn goes_on(&self, now_s: u32) -> bool {
        self.looks >= REPEATED && now_s.saturating_sub(self.last_s) <= MOMENT_S
    }
}

/// All of them, by address and reason.
#[derive(Debug, Default)]
pub(super) struct Offences {
    entries: BTreeMap<(IpAddr, DropReason), Offence>,
}

/// Whether an offender's address is a destination.
pub(super) const fn is_of_destination(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::DestinationRate
            | DropReason::DestinationSyn
            | DropReason::Amplification
            | DropReason::AttackedSyn
    )
}

impl Offences {
    /// Compares with what was noted before, and returns whom to tell about: each once a minute.
    pub(super) fn look(&mut self, notes: &[Offender], now_s: u32) -> Vec<(IpAddr, DropReason)> {
        let mut sums: BTreeMap<(IpAddr, DropReason), u32> = BTreeMap::new();
        for note in notes {
            let reason = DropReason::ALL.iter().find(|reason| **reason as u32 == note.reason);
            if let Some(reason) = reason {
                let sum = sums.entry((IpAddr::from(note.addr), *reason)).or_default();
                *sum = sum.wrapping_add(note.packets);
            }
        }
        let mut tell = Vec::new();
        for (who, noted) in sums {
            let is_full = self.entries.len() >= MAX;
            let known = self.entries.contains_key(&who);
            if is_full && !known {
                continue;
            }
            let offence = self.entries.entry(who).or_default();
            // Another address had its place meanwhile, and the count began anew.
            let more = if noted >= offence.noted { noted - offence.noted } else { noted };
            offence.noted = noted;
            if more == 0 {
                continue;
            }
            if !known {
                offence.since_s = now_s;
            }
            offence.looks = if now_s.saturating_sub(offence.last_s) <= WITHIN_S {
                offence.looks + 1
            } else {
                1
            };
            offence.packets += u64::from(more);
            offence.last_s = now_s;
            if offence.told_s == 0 || now_s.saturating_sub(offence.told_s) >= MESSAGE_S {
                offence.told_s = now_s;
                tell.push(who);
            }
        }
        tell
    }

    /// Forgets what is over. Notes of it may still be there: they are remembered until they are gone.
    pub(super) fn forget(&mut self, notes: &[Offender], now_s: u32) {
        self.entries.retain(|(addr, reason), offence| {
            let is_its =
                |note: &Offender| note.reason == *reason as u32 && IpAddr::from(note.addr) == *addr;
            now_s.saturating_sub(offence.last_s) < QUIET_S || notes.iter().any(is_its)
        });
    }

    /// Those that are not over, most packets first.
    pub(super) fn current(&self, now_s: u32) -> Vec<(IpAddr, DropReason, &Offence)> {
        let mut current: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, offence)| now_s.saturating_sub(offence.last_s) < QUIET_S)
            .map(|((addr, reason), offence)| (*addr, *reason, offence))
            .collect();
        current.sort_by_key(|(addr, reason, offence)| {
            (std::cmp::Reverse(offence.packets), *addr, *reason)
        });
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([198, 51, 100, last])
    }

    fn note(last: u8, reason: DropReason, packets: u32) -> Offender {
        Offender { addr: ip(last).into(), reason: reason as u32, packets, ..Offender::default() }
    }

    fn packets(offences: &Offences, now_s: u32) -> Vec<(IpAddr, u64)> {
        offences.current(now_s).iter().map(|(addr, _, offence)| (*addr, offence.packets)).collect()
    }

    #[test]
    fn notes_of_all_cpus_are_added_and_only_what_is_new_counts() {
        let mut offences = Offences::default();
        let syn = DropReason::SynRate;
        offences.look(&[note(1, syn, 10), note(1, syn, 5), note(2, syn, 1)], 100);
        assert_eq!(packets(&offences, 100), [(ip(1), 15), (ip(2), 1)]);
        offences.look(&[note(1, syn, 10), note(1, syn, 7), note(2, syn, 1)], 101);
        assert_eq!(packets(&offences, 101), [(ip(1), 17), (ip(2), 1)]);
        // Its place was taken and it got it back.
        offences.look(&[note(1, syn, 4)], 102);
        assert_eq!(packets(&offences, 102), [(ip(1), 21), (ip(2), 1)]);
        // One address can offend twice.
        offences.look(&[note(1, DropReason::IcmpRate, 3)], 103);
        assert_eq!(offences.current(103).len(), 3);
    }

    #[test]
    fn it_takes_drops_at_three_looks_within_ten_seconds_each_to_be_a_repetition() {
        let syn = DropReason::SynRate;
        let repeated = |times: &[u32]| {
            let mut offences = Offences::default();
            for (packets, now_s) in (1..).zip(times) {
                offences.look(&[note(1, syn, packets)], *now_s);
            }
            offences.current(*times.last().unwrap())[0].2.goes_on(*times.last().unwrap())
        };
        assert!(!repeated(&[100, 101]));
        assert!(repeated(&[100, 101, 102]) && repeated(&[100, 110, 120]));
        assert!(!repeated(&[100, 111, 122]));
        // Looks without a drop do not count.
        let mut offences = Offences::default();
        for now_s in 100..120 {
            offences.look(&[note(1, syn, 9)], now_s);
        }
        assert!(!offences.current(119)[0].2.goes_on(119));
        // Nor does what has ended.
        let mut offences = Offences::default();
        for (packets, now_s) in (1..).zip(100..110) {
            offences.look(&[note(1, syn, packets)], now_s);
        }
        let goes_on = |now_s| offences.current(now_s)[0].2.goes_on(now_s);
        assert!(goes_on(109 + MOMENT_S) && !goes_on(110 + MOMENT_S));
    }

    #[test]
    fn an_offence_is_told_once_a_minute_and_over_when_it_is_quiet() {
        let mut offences = Offences::default();
        let syn = DropReason::SynRate;
        let mut told = Vec::new();
        for (packets, now_s) in (1..).zip(100..230) {
            if !offences.look(&[note(1, syn, packets)], now_s).is_empty() {
                told.push(now_s);
            }
        }
        assert_eq!(told, [100, 160, 220]);
        assert_eq!(offences.current(229 + QUIET_S - 1).len(), 1);
        assert!(offences.current(229 + QUIET_S).is_empty());
        // The note is still there: it is no new offence.
        let stays = [note(1, syn, 130)];
        offences.forget(&stays, 400);
        assert_eq!(offences.look(&stays, 401), []);
        assert!(offences.current(401).is_empty());
        offences.forget(&[], 402);
        assert!(offences.entries.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_what_is_nobodys_reason_is_left_out() {
        let mut offences = Offences::default();
        let notes: Vec<_> = (0..1000_u32)
            .map(|n| Offender {
                addr: IpAddr::from(n.to_be_bytes()).into(),
                reason: DropReason::SynRate as u32,
                packets: 1,
                ..Offender::default()
            })
            .collect();
        offences.look(&notes, 100);
        assert_eq!(offences.entries.len(), MAX);
        let mut other = Offences::default();
        other.look(&[Offender { reason: 99, packets: 1, ..Offender::default() }], 100);
        assert!(other.entries.is_empty());
    }
}
