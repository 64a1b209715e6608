//! Devices that sent more to the queue than their share. Pure.

use super::changes::uninspected;
use crate::config::Mac;
use crate::control::events::Event;

/// What was known at the last look.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Packets that the kernel had queued, modulo 2³².
    queued: u32,
    /// Packets that the rules had turned away.
    turned_away: u64,
    /// Devices that sent more.
    greedy: Vec<Mac>,
}

impl Shares {
    /// Whether a device can have sent more than `share` packets a second since the last look: what is
    /// within its share was queued. To be asked once a look, since asking the rules is dear.
    pub(super) const fn may_be_used_up(&mut self, queued: u32, share: u32) -> bool {
        queued.wrapping_sub(std::mem::replace(&mut self.queued, queued)) >= share
    }

    /// What is to be told of the packets that the rules turned away so far. Only where there are more,
    /// `greedy` says who they were from: that is another question to the rules.
    pub(super) fn look(
        &mut self,
        turned_away: u64,
        is_open: bool,
        greedy: impl FnOnce() -> Vec<Mac>,
    ) -> Option<Event> {
        let before = std::mem::replace(&mut self.turned_away, turned_away);
        // The counters begin anew when the rules are put back.
        let packets = turned_away.checked_sub(before).unwrap_or(turned_away);
        if packets == 0 {
            return None;
        }
        let known = std::mem::replace(&mut self.greedy, greedy());
        let new: Vec<_> = self.greedy.iter().filter(|mac| !known.contains(mac)).collect();
        let devices: Vec<_> = if new.is_empty() { self.greedy.iter().collect() } else { new };
        let devices: Vec<_> = devices.into_iter().map(Mac::to_string).collect();
        let who = if devices.is_empty() { "a device".to_owned() } else { devices.join(", ") };
        let end = if is_open { "passed uninspected" } else { "were dropped" };
        let what = format!("{who} sent more than its share to the queue: {packets} packets {end}");
        Some(uninspected("queue_share", what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_asked_when_a_share_was_queued() {
        let mut shares = Shares::default();
        assert!(shares.may_be_used_up(100, 100));
        assert!(!shares.may_be_used_up(199, 100));
        assert!(shares.may_be_used_up(299, 100));
        shares.queued = u32::MAX;
        assert!(!shares.may_be_used_up(98, 100), "the counter of the kernel has 32 bits");
        assert!(shares.may_be_used_up(198, 100));
    }

    /// R19: what passed uninspected raises an alert, which names who is new among those that sent it.
    #[test]
    fn a_device_that_sends_more_is_told() {
        let mac = |last| Mac([2, 0, 0, 0, 0, last]);
        let mut shares = Shares::default();
        let mut told = |turned_away, is_open, greedy: &[Mac]| {
            let event = shares.look(turned_away, is_open, || greedy.to_vec());
            event.map(|event| event.what).unwrap_or_default()
        };
        let more = "sent more than its share to the queue:";
        assert_eq!(told(0, true, &[]), "");
        assert_eq!(
            told(7, true, &[mac(1)]),
            format!("02:00:00:00:00:01 {more} 7 packets passed uninspected")
        );
        assert_eq!(told(7, true, &[mac(1)]), "");
        assert_eq!(
            told(9, false, &[mac(1), mac(2)]),
            format!("02:00:00:00:00:02 {more} 2 packets were dropped")
        );
        assert_eq!(
            told(10, true, &[mac(1), mac(2)]),
            format!("02:00:00:00:00:01, 02:00:00:00:00:02 {more} 1 packets passed uninspected")
        );
        assert_eq!(
            told(3, true, &[]),
            format!("a device {more} 3 packets passed uninspected"),
            "anew"
        );
    }
}
