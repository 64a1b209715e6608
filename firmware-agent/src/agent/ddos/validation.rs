//! Which destinations are under attack by connections that nobody means to finish. Pure.
//!
//! Sources of such SYN packets can be made up, so nothing is concluded about them: what counts is how
//! many handshakes to a destination are waiting, and how few were completed lately.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use sluice_abi::limits::ATTACKED_MAX;
use sluice_datapath::parse::TCP;

use crate::netfilter::conntrack::status::ASSURED;
use crate::netfilter::conntrack::{Connection, tcp_state};
use crate::plan::SynValidation;

/// Seconds for which a completed handshake counts.
const LATELY_S: u32 = 30;
/// Seconds without a sign of the attack after which it is over.
const CALM_S: u32 = 30;
/// Part of the backlog that strangers send between two looks while an attack goes on.
const GOES_ON: u32 = 8;
/// Connections whose age is remembered, and destinations that are counted in one look.
const CONNECTIONS_MAX: usize = 32_768;
const DESTINATIONS_MAX: usize = 1024;

/// Handshakes to one destination in one look.
#[derive(Debug, Default)]
struct Tally {
    /// Those that wait.
    half_open: u32,
    /// Those that were completed lately, and since the last look.
    lately: u32,
    fresh: u32,
    /// Handshakes that wait for the last word of the other end, by port.
    answered: BTreeMap<u16, Answered>,
}

/// What answers at a port.
#[derive(Debug)]
struct Answered {
    /// Handshakes.
    count: u32,
    /// Where the answers come from: the port itself, or where it is translated to.
    by: (IpAddr, u16),
    /// Whether all come from there.
    is_one: bool,
}

/// A destination under attack.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Attack {
    /// Second of the first and of the last sign.
    pub(super) since_s: u32,
    last_s: u32,
    /// Handshakes that waited at the last look.
    pub(super) half_open: u32,
    /// SYN packets of strangers since it began.
    pub(super) syns: u64,
    /// What the shield had counted at the last look.
    noted: u32,
    /// Ports where something answers, and from where.
    pub(super) ports: BTreeMap<u16, (IpAddr, u16)>,
}

/// What one look changed.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Changes {
    pub(super) begun: Vec<IpAddr>,
    pub(super) ended: BTreeMap<IpAddr, Attack>,
    /// Whether ports came to an attack that goes on.
    pub(super) ports: bool,
}

/// All attacks.
#[derive(Debug, Default)]
pub(super) struct Validation {
    tallies: HashMap<IpAddr, Tally>,
    /// Completed connections by number: the seconds when they were seen first and last.
    completed: HashMap<u32, (u32, u32)>,
    attacks: BTreeMap<IpAddr, Attack>,
}

impl Validation {
    /// Takes a connection into account that was opened from outside to an address inside.
    pub(super) fn look(&mut self, connection: &Connection, now_s: u32) {
        let Connection { original, reply, .. } = connection;
        if original.proto != TCP {
            return;
        }
        let is_full = self.tallies.len() >= DESTINATIONS_MAX;
        if is_full && !self.tallies.contains_key(&original.dst) {
            return;
        }
        let tally = self.tallies.entry(original.dst).or_default();
        if connection.status & ASSURED != 0 {
            let has_room = self.completed.len() < CONNECTIONS_MAX;
            let (first_s, last_s) = match self.completed.get_mut(&connection.id) {
                Some((first_s, last_s)) => {
                    *last_s = now_s;
                    (*first_s, now_s)
                }
                // Of what cannot be remembered the friendlier half is assumed.
                None if !has_room => (now_s, now_s),
                None => *self.completed.entry(connection.id).or_insert((now_s, now_s)),
            };
            tally.lately += u32::from(last_s.saturating_sub(first_s) < LATELY_S);
            tally.fresh += u32::from(first_s == now_s);
        } else if tcp_state::HALF_OPEN.contains(&connection.tcp_state) {
            tally.half_open += 1;
            // Where the other end is translated, too, it is not it that the answer goes to.
            if connection.tcp_state == tcp_state::SYN_RECV
                && (reply.dst, reply.dport) == (original.src, original.sport)
            {
                let by = (reply.src, reply.sport);
                let answered = tally.answered.entry(original.dport);
                let answered = answered.or_insert(Answered { count: 0, by, is_one: true });
                answered.count += 1;
                answered.is_one &= answered.by == by;
            }
        }
    }

    /// Ends a look. `syns` are SYN packets of strangers to each destination under attack, modulo
    /// 2³², since its entry was written.
    pub(super) fn judge(
        &mut self,
        wanted: SynValidation,
        syns: &[(IpAddr, u32)],
        now_s: u32,
    ) -> Changes {
        let tallies = std::mem::take(&mut self.tallies);
        self.completed.retain(|_, (first_s, last_s)| {
            *last_s == now_s || now_s.saturating_sub(*first_s) < LATELY_S
        });
        let mut changes = Changes::default();
        for (addr, attack) in &mut self.attacks {
            let noted = syns.iter().find(|(of, _)| of == addr).map_or(0, |(_, syns)| *syns);
            // The entry was written anew, and the count began again.
            let more = if noted >= attack.noted { noted - attack.noted } else { noted };
            (attack.noted, attack.syns) = (noted, attack.syns + u64::from(more));
            let fresh = tallies.get(addr).map_or(0, |tally| tally.fresh);
            attack.half_open = tallies.get(addr).map_or(0, |tally| tally.half_open);
            let goes_on = more > wanted.backlog / GOES_ON && more > fresh * wanted.ratio;
            if goes_on || tallies.get(addr).is_some_and(|tally| tally.is_attack(wanted)) {
                attack.last_s = now_s;
            }
        }
        let mut suspects: Vec<_> =
            tallies.iter().filter(|(_, tally)| tally.is_attack(wanted)).collect();
        suspects.sort_by_key(|(addr, tally)| (Reverse(tally.half_open), **addr));
        for (addr, tally) in suspects {
            let is_full = self.attacks.len() >= ATTACKED_MAX as usize;
            let is_known = self.attacks.contains_key(addr);
            if is_full && !is_known {
                continue;
            }
            let attack = self.attacks.entry(*addr).or_insert_with(|| {
                changes.begun.push(*addr);
                Attack { since_s: now_s, last_s: now_s, ..Attack::default() }
            });
            attack.half_open = tally.half_open;
            for (port, answered) in &tally.answered {
                if answered.is_one && answered.count > wanted.backlog / GOES_ON {
                    let before = attack.ports.insert(*port, answered.by);
                    changes.ports |= is_known && before != Some(answered.by);
                }
            }
        }
        let (over, attacks) = std::mem::take(&mut self.attacks)
            .into_iter()
            .partition(|(_, attack)| now_s.saturating_sub(attack.last_s) >= CALM_S);
        (changes.ended, self.attacks) = (over, attacks);
        changes
    }

    /// Nothing is under attack any more, because nobody wants to know.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Destinations under attack.
    pub(super) const fn attacks(&self) -> &BTreeMap<IpAddr, Attack> {
        &self.attacks
    }
}

impl Tally {
    const fn is_attack(&self, wanted: SynValidation) -> bool {
        self.half_open >= wanted.backlog
            && self.half_open > self.lately.saturating_mul(wanted.ratio)
    }
}

#[cfg(test)]
mod tests {
    use sluice_datapath::parse::UDP;

    use super::*;
    use crate::netfilter::conntrack::Tuple;

    const WANTED: SynValidation = SynValidation { backlog: 64, ratio: 3 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn victim() -> IpAddr {
        ip("203.0.113.1")
    }

    fn connection(id: u32, port: u16, state: u8) -> Connection {
        let src = IpAddr::from(id.to_be_bytes());
        let original = Tuple { src, dst: victim(), sport: 9, dport: port, proto: TCP };
        let status = if state > tcp_state::SYN_RECV { ASSURED } else { 0 };
        let reply = original.reversed();
        Connection { original, reply, mark: 0, id, status, timeout_s: 9, tcp_state: state }
    }

    /// Looks at so many waiting handshakes and completed ones; numbers of the latter from `from` on.
    fn look(
        validation: &mut Validation,
        waiting: u32,
        completed: std::ops::Range<u32>,
        now_s: u32,
    ) {
        for id in 0..waiting {
            validation.look(&connection(1_000_000 + id, 80, tcp_state::SYN_RECV), now_s);
        }
        for id in completed {
            validation.look(&connection(id, 80, 3), now_s);
        }
    }

    #[test]
    fn many_waiting_handshakes_and_few_completed_ones_are_an_attack() {
        for (waiting, completed, expected) in
            [(63, 0, false), (64, 0, true), (64, 21, true), (66, 22, false), (67, 22, true)]
        {
            let mut validation = Validation::default();
            look(&mut validation, waiting, 0..completed, 100);
            let begun = validation.judge(WANTED, &[], 100).begun;
            assert_eq!(begun == [victim()], expected, "{waiting} and {completed}");
        }
    }

    #[test]
    fn old_connections_do_not_hide_an_attack_and_new_ones_count_for_half_a_minute() {
        let mut validation = Validation::default();
        for now_s in (100..130).step_by(2) {
            look(&mut validation, 70, 0..100, now_s);
            assert_eq!(validation.judge(WANTED, &[], now_s), Changes::default(), "{now_s}");
        }
        look(&mut validation, 70, 0..100, 130);
        assert_eq!(validation.judge(WANTED, &[], 130).begun, [victim()]);
        let mut other = Validation::default();
        look(&mut other, 0, 0..100, 100);
        other.judge(WANTED, &[], 100);
        look(&mut other, 70, 0..124, 200);
        assert_eq!(other.judge(WANTED, &[], 200), Changes::default(), "24 are new");
        assert_eq!(other.completed.len(), 124);
        other.judge(WANTED, &[], 240);
        assert_eq!(other.completed.len(), 0, "gone and old");
    }

    #[test]
    fn what_is_no_handshake_does_not_count() {
        let mut validation = Validation::default();
        for id in 0..1000 {
            let mut other = connection(id, 80, tcp_state::SYN_RECV);
            other.original.proto = UDP;
            validation.look(&other, 100);
            // Refused, and so not waiting.
            let mut refused = connection(id, 80, 8);
            refused.status = 0;
            validation.look(&refused, 100);
        }
        assert_eq!(validation.judge(WANTED, &[], 100), Changes::default());
    }

    #[test]
    fn an_attack_lasts_until_half_a_minute_without_a_sign_of_it() {
        let mut validation = Validation::default();
        look(&mut validation, 100, 0..0, 100);
        validation.judge(WANTED, &[], 100);
        // Nothing waits any more, because SYN packets are held back or answered: they are a sign.
        let mut syns = 0;
        for now_s in (102..200).step_by(2) {
            syns += WANTED.backlog / GOES_ON + 1;
            let changes = validation.judge(WANTED, &[(victim(), syns)], now_s);
            assert_eq!(changes, Changes::default(), "{now_s}");
        }
        // As many as complete their handshakes are none.
        for now_s in (200..228).step_by(2) {
            syns += 30;
            look(&mut validation, 0, now_s * 100..now_s * 100 + 10, now_s);
            let changes = validation.judge(WANTED, &[(victim(), syns)], now_s);
            assert_eq!(changes, Changes::default(), "{now_s}");
        }
        let ended = validation.judge(WANTED, &[(victim(), syns)], 228).ended;
        assert_eq!(ended.len(), 1);
        let attack = &ended[&victim()];
        assert_eq!((attack.since_s, attack.last_s), (100, 198));
        assert_eq!(attack.syns, u64::from(syns));
        assert!(validation.attacks().is_empty());
    }

    #[test]
    fn a_count_that_begins_again_is_added() {
        let mut validation = Validation::default();
        look(&mut validation, 100, 0..0, 100);
        validation.judge(WANTED, &[], 100);
        for (now_s, syns) in [(102, 50), (104, 10), (106, 11)] {
            validation.judge(WANTED, &[(victim(), syns)], now_s);
        }
        assert_eq!(validation.attacks()[&victim()].syns, 61);
    }

    #[test]
    fn ports_are_those_where_one_thing_answers_and_from_where() {
        let mut validation = Validation::default();
        for id in 0..100 {
            validation.look(&connection(id, 80, tcp_state::SYN_RECV), 100);
            validation.look(&connection(id, 81, tcp_state::SYN_SENT), 100);
            let mut translated = connection(id, 82, tcp_state::SYN_RECV);
            translated.reply.src = ip("192.168.1.2");
            translated.reply.sport = 8080;
            validation.look(&translated, 100);
            let mut shared = connection(id, 84, tcp_state::SYN_RECV);
            shared.reply.src = IpAddr::from([192, 168, 1, (id % 2) as u8]);
            validation.look(&shared, 100);
            let mut hidden = connection(id, 85, tcp_state::SYN_RECV);
            hidden.reply.dst = ip("192.168.1.1");
            validation.look(&hidden, 100);
        }
        validation.look(&connection(1, 83, tcp_state::SYN_RECV), 100);
        assert!(!validation.judge(WANTED, &[], 100).ports, "news of an attack that is new");
        let ports = |validation: &Validation| validation.attacks()[&victim()].ports.clone();
        let itself = |port| (port, (victim(), port));
        let translated = (82, (ip("192.168.1.2"), 8080));
        assert_eq!(ports(&validation), BTreeMap::from([itself(80), translated]));
        for id in 0..100 {
            validation.look(&connection(id, 443, tcp_state::SYN_RECV), 102);
        }
        assert!(validation.judge(WANTED, &[], 102).ports);
        let three = BTreeMap::from([itself(80), translated, itself(443)]);
        assert_eq!(ports(&validation), three);
        look(&mut validation, 100, 0..0, 104);
        assert!(!validation.judge(WANTED, &[], 104).ports, "nothing new");
    }

    #[test]
    fn memory_is_bounded() {
        let mut validation = Validation::default();
        for id in 0..CONNECTIONS_MAX as u32 + 10 {
            validation.look(&connection(id, 80, 3), 100);
        }
        assert_eq!(validation.completed.len(), CONNECTIONS_MAX);
        for addr in 0..DESTINATIONS_MAX as u32 + 10 {
            for id in 0..70 {
                let mut waiting = connection(id, 80, tcp_state::SYN_RECV);
                waiting.original.dst = IpAddr::from((0x0a00_0000 + addr).to_be_bytes());
                validation.look(&waiting, 100);
            }
        }
        assert_eq!(validation.tallies.len(), DESTINATIONS_MAX);
        validation.judge(WANTED, &[], 100);
        assert_eq!(validation.attacks().len(), ATTACKED_MAX as usize);
    }
}
