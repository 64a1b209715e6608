//! Who has completed a handshake, as conntrack saw it. Pure.
//!
//! A source address alone proves nothing: anybody can write any. What proves it is a TCP connection
//! that conntrack calls assured, because both directions were seen and the numbers that only the
//! other end knows were right. UDP proves an end only when it answered a question of ours.

use std::collections::HashMap;
use std::net::IpAddr;

use sluice_abi::flow::Addr;
use sluice_abi::limits::{KNOWN_SETS, KNOWN_WAYS, KnownSet};
use sluice_datapath::parse::TCP;
use sluice_datapath::sources::{Class, place};

use crate::netfilter::conntrack::Connection;
use crate::netfilter::conntrack::status::ASSURED;

/// Seconds for which a connection is evidence after it was last seen.
pub(super) const FRESH_S: u32 = 300;
/// Most ends that are remembered.
const ENDS_MAX: usize = (KNOWN_SETS as usize) * KNOWN_WAYS;

/// The second when an end was last seen, by what it did; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    /// Took part in a connection.
    known: u32,
    /// Opened one to us.
    opened: u32,
    /// Answered one of ours.
    answered: u32,
}

/// The ends of connections.
#[derive(Debug)]
pub(super) struct Evidence {
    /// By what names a source.
    ends: HashMap<Addr, End>,
    mask_v6: [u32; 4],
    key: u32,
}

impl Evidence {
    pub(super) fn new(mask_v6: [u32; 4], key: u32) -> Self {
        Self { ends: HashMap::new(), mask_v6, key }
    }

    /// Whether this was made for such sources.
    pub(super) fn is_for(&self, mask_v6: [u32; 4], key: u32) -> bool {
        (self.mask_v6, self.key) == (mask_v6, key)
    }

    /// Takes a connection into account. `is_inside` are the ends that need no evidence.
    pub(super) fn look(
        &mut self,
        connection: &Connection,
        now_s: u32,
        is_inside: impl Fn(IpAddr) -> bool,
    ) {
        if connection.status & ASSURED == 0 {
            return;
        }
        let (opener, answerer) = (connection.original.src, connection.reply.src);
        if connection.original.proto == TCP && !is_inside(opener) {
            self.end(opener, now_s, |end| end.opened = now_s);
        }
        if !is_inside(answerer) {
            self.end(answerer, now_s, |end| end.answered = now_s);
        }
    }

    fn end(&mut self, addr: IpAddr, now_s: u32, note: impl FnOnce(&mut End)) {
        let name = self.name(addr);
        if self.ends.len() >= ENDS_MAX && !self.ends.contains_key(&name) {
            return;
        }
        let end = self.ends.entry(name).or_default();
        end.known = now_s;
        note(end);
    }

    /// Forgets what is too old.
    pub(super) fn forget(&mut self, now_s: u32) {
        self.ends.retain(|_, end| now_s.saturating_sub(end.known) < FRESH_S);
    }

    /// Whether `addr` proved to be where it says, and is not somebody whom we talk to on our own
    /// account: it opened a TCP connection lately, and answered none of ours.
    pub(super) fn is_proven(&self, addr: IpAddr, now_s: u32) -> bool {
        let fresh = |seen_s: u32| seen_s != 0 && now_s.saturating_sub(seen_s) < FRESH_S;
        let end = self.ends.get(&self.name(addr));
        end.is_some_and(|end| fresh(end.opened) && !fresh(end.answered))
    }

    /// Ends that are known.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// What the programs are told. Of too many in one set those that were seen last are kept.
    pub(super) fn sets(&self) -> Vec<KnownSet> {
        let mut sets = vec![KnownSet::default(); KNOWN_SETS as usize];
        let mut ends: Vec<_> = self.ends.iter().collect();
        ends.sort_unstable_by_key(|(addr, end)| (std::cmp::Reverse(end.known), addr.words()));
        for (addr, _) in ends {
            let place = place(addr, Class::Known.number(), &self.mask_v6, self.key);
            let set = sets.get_mut((place.set & (KNOWN_SETS - 1)) as usize);
            if let Some(free) = set.and_then(|set| set.tags.iter_mut().find(|tag| **tag == 0)) {
                *free = place.tag;
            }
        }
        sets
    }

    /// The bits that name a source.
    pub(super) fn name(&self, addr: IpAddr) -> Addr {
        let addr = Addr::from(addr);
        if addr.is_v4() {
            return addr;
        }
        let mut words = addr.words();
        words.iter_mut().zip(self.mask_v6).for_each(|(word, mask)| *word &= mask);
        Addr::v6(words)
    }
}

#[cfg(test)]
mod tests {
    use sluice_abi::limits::prefix_mask;
    use sluice_datapath::parse::UDP;

    use super::*;
    use crate::netfilter::conntrack::Tuple;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn connection(src: &str, dst: &str, proto: u8, status: u32) -> Connection {
        let original = Tuple { src: ip(src), dst: ip(dst), sport: 1, dport: 2, proto };
        let reply = original.reversed();
        Connection { original, reply, mark: 0, id: 1, status, timeout_s: 9, tcp_state: 0 }
    }

    fn evidence() -> Evidence {
        Evidence::new(prefix_mask(64), 7)
    }

    fn inside(addr: IpAddr) -> bool {
        addr == ip("192.168.1.2") || addr == ip("203.0.113.1")
    }

    #[test]
    fn only_who_opened_an_assured_tcp_connection_and_answered_none_is_proven() {
        let mut evidence = evidence();
        for connection in [
            connection("198.51.100.1", "203.0.113.1", TCP, ASSURED),
            connection("198.51.100.2", "203.0.113.1", TCP, 0),
            connection("198.51.100.3", "203.0.113.1", UDP, ASSURED),
            connection("192.168.1.2", "198.51.100.4", TCP, ASSURED),
            connection("198.51.100.4", "203.0.113.1", TCP, ASSURED),
            connection("192.168.1.2", "198.51.100.5", UDP, ASSURED),
        ] {
            evidence.look(&connection, 100, inside);
        }
        let proven =
            |last: u8, now_s| evidence.is_proven(IpAddr::from([198, 51, 100, last]), now_s);
        assert!(proven(1, 100) && proven(1, 100 + FRESH_S - 1));
        assert!(!proven(1, 100 + FRESH_S), "too long ago");
        assert!(!proven(2, 100), "no answer was seen");
        assert!(!proven(3, 100), "UDP to us can be made up");
        assert!(!proven(4, 100), "we talk to it ourselves");
        assert!(!proven(5, 100));
        assert!(!evidence.is_proven(ip("192.168.1.2"), 100), "inside");
        assert_eq!(evidence.len(), 3, "1, 4 and 5");
    }

    #[test]
    fn known_ends_are_where_the_programs_look_and_go_when_they_are_old() {
        let mut evidence = evidence();
        evidence.look(&connection("2001:db8:1::1", "203.0.113.1", TCP, ASSURED), 100, inside);
        let there = |evidence: &Evidence, addr: &str| {
            let place = place(&ip(addr).into(), Class::Known.number(), &prefix_mask(64), 7);
            evidence.sets()[(place.set & (KNOWN_SETS - 1)) as usize].tags.contains(&place.tag)
        };
        assert!(there(&evidence, "2001:db8:1::1") && there(&evidence, "2001:db8:1::ffff"));
        assert!(!there(&evidence, "2001:db8:2::1"));
        assert!(evidence.is_proven(ip("2001:db8:1::99"), 100), "its prefix is the source");
        evidence.forget(100 + FRESH_S - 1);
        assert_eq!(evidence.len(), 1);
        evidence.forget(100 + FRESH_S);
        assert_eq!(evidence.len(), 0);
    }

    #[test]
    fn memory_is_bounded_and_a_full_set_keeps_the_latest() {
        let mut evidence = evidence();
        // By set, the latest last.
        let mut by_set = vec![Vec::new(); KNOWN_SETS as usize];
        for n in 0..ENDS_MAX as u32 + 100 {
            let src = IpAddr::from(std::net::Ipv4Addr::from_bits(0x0b00_0000 + n));
            let seen = connection(&src.to_string(), "203.0.113.1", TCP, ASSURED);
            evidence.look(&seen, 1 + n, inside);
            if n < ENDS_MAX as u32 {
                let place = place(&src.into(), Class::Known.number(), &prefix_mask(64), 7);
                by_set[(place.set & (KNOWN_SETS - 1)) as usize].push(place.tag);
            }
        }
        assert_eq!(evidence.len(), ENDS_MAX);
        assert!(by_set.iter().any(|tags| tags.len() > KNOWN_WAYS));
        for (tags, set) in by_set.iter().zip(evidence.sets()) {
            let latest = tags.iter().rev().take(KNOWN_WAYS);
            assert!(latest.into_iter().all(|tag| set.tags.contains(tag)));
        }
        let tags = evidence.sets().iter().flat_map(|set| set.tags).filter(|tag| *tag != 0).count();
        assert!(tags > ENDS_MAX / 2, "{tags}");
    }
}
