//! What is done for destinations under attack by SYN packets.

use std::net::IpAddr;

use sluice_abi::limits::COOKIE_PORTS;

use super::{MESSAGES, Strangers};
use crate::control::ddos as shown;
use crate::dataplane::Dataplane;
use crate::plan::Plan;

impl Strangers {
    /// Ends a look at connections: who is under attack now, and who not any more.
    pub(super) fn judge_attacks(&mut self, dataplane: &mut Dataplane, plan: &Plan, now_s: u32) {
        let Some(wanted) = plan.answer.syn else { return };
        let Some(map) = &dataplane.strangers else { return };
        let syns = match map.syns() {
            Ok(syns) => syns,
            Err(error) => return log::error!("{}", error.chain()),
        };
        let changes = self.validation.judge(wanted, &syns, now_s);
        for addr in changes.begun.iter().take(MESSAGES) {
            let waiting = self.validation.attacks().get(addr).map_or(0, |attack| attack.half_open);
            log::warn!("{addr} is under attack: {waiting} handshakes wait, few are completed");
        }
        for (addr, attack) in changes.ended.iter().take(MESSAGES) {
            let seconds = now_s.saturating_sub(attack.since_s);
            log::warn!(
                "{addr} is not under attack any more, after {seconds} s and {} SYN packets of strangers",
                attack.syns
            );
        }
        let more = changes.begun.len().max(changes.ended.len()).saturating_sub(MESSAGES);
        if more > 0 {
            log::warn!("{more} more are, or were, under attack");
        }
        if changes.ports || !changes.begun.is_empty() || !changes.ended.is_empty() {
            self.tell_attacks(dataplane);
        }
    }

    /// Forgets all attacks.
    pub(super) fn end_attacks(&mut self, dataplane: &mut Dataplane) {
        let was_attacked = !self.validation.attacks().is_empty();
        self.validation.clear();
        if was_attacked {
            self.tell_attacks(dataplane);
        }
    }

    fn tell_attacks(&self, dataplane: &mut Dataplane) {
        let attacked: Vec<(IpAddr, [u16; COOKIE_PORTS])> =
            self.validation.attacks().keys().map(|addr| (*addr, [0; COOKIE_PORTS])).collect();
        if let Err(error) = dataplane.set_attacked(&attacked) {
            log::error!("{}", error.chain());
        }
    }

    /// What `status` shows.
    pub(super) fn attacked(&self, now_s: u32) -> Vec<shown::Attacked> {
        let attacks = self.validation.attacks().iter();
        attacks
            .map(|(addr, attack)| shown::Attacked {
                address: *addr,
                cookie_ports: Vec::new(),
                half_open: attack.half_open,
                syns: attack.syns,
                since_s_ago: u64::from(now_s.saturating_sub(attack.since_s)),
            })
            .collect()
    }
}
