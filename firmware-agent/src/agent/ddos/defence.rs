//! What is done for destinations under attack by SYN packets.

use std::net::IpAddr;

use sluice_abi::limits::COOKIE_PORTS;

use super::{MESSAGES, Strangers};
use crate::control::ddos as shown;
use crate::control::report::{Feature, State as Health};
use crate::dataplane::Dataplane;
use crate::netfilter::synproxy::Service;
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
            self.tell_attacks(dataplane, plan);
        }
        self.cookies.check(plan, now_s);
    }

    /// Forgets all attacks.
    pub(in crate::agent) fn end_attacks(&mut self, dataplane: &mut Dataplane, plan: &Plan) {
        let was_attacked = !self.validation.attacks().is_empty();
        self.validation.clear();
        if was_attacked {
            self.tell_attacks(dataplane, plan);
        }
    }

    /// Rules first, so that whoever answers a cookie finds them, and away last.
    fn tell_attacks(&mut self, dataplane: &mut Dataplane, plan: &Plan) {
        let attacks = self.validation.attacks();
        let is_own = |addr: &IpAddr| self.own.contains(addr) && self.cookies.are_possible();
        let services: Vec<Service> = attacks
            .iter()
            .filter(|(addr, _)| is_own(addr))
            .flat_map(|(addr, attack)| {
                let ports = attack.ports.iter().take(COOKIE_PORTS);
                ports.map(|(port, by)| Service { addr: *addr, port: *port, by: *by })
            })
            .collect();
        let is_over = services.is_empty();
        if !is_over && let Err(reason) = self.cookies.set(plan, services) {
            log::error!("no SYN cookies, strangers are limited: {reason}");
        }
        let answered = if is_over { &[] } else { self.cookies.services() };
        let attacked: Vec<(IpAddr, [u16; COOKIE_PORTS])> = attacks
            .keys()
            .map(|addr| {
                let mut ports = [0; COOKIE_PORTS];
                let of = answered.iter().filter(|service| service.addr == *addr);
                for (to, service) in ports.iter_mut().zip(of) {
                    *to = service.port.to_be();
                }
                (*addr, ports)
            })
            .collect();
        let offer = self.cookies.offer();
        if let Err(error) = dataplane.set_attacked(&attacked, (offer.mss, offer.scale)) {
            log::error!("{}", error.chain());
        }
        if is_over {
            self.cookies.end();
        }
    }

    /// The ladder.
    pub(super) fn validation_feature(&self, plan: &Plan) -> Option<Feature> {
        if plan.answer.syn.is_none() || !self.cookies.are_looked_at() {
            return None;
        }
        let (state, rung, reasons) = match self.cookies.missing() {
            Some(missing) => (Health::Degraded, "limit", missing.to_vec()),
            None => (Health::Active, "cookies", Vec::new()),
        };
        let mut reasons = reasons;
        if !self.cookies.services().is_empty() {
            reasons.push(
                "nf_conntrack_tcp_loose is 0 while services are answered for with cookies"
                    .to_owned(),
            );
        }
        Some(Feature { name: "syn validation".to_owned(), state, rung: rung.to_owned(), reasons })
    }

    /// Destinations under attack, and the handshakes that wait there.
    pub(in crate::agent) fn half_open(&self) -> impl Iterator<Item = (IpAddr, u32)> {
        self.validation.attacks().iter().map(|(addr, attack)| (*addr, attack.half_open))
    }

    /// What `status` shows.
    pub(super) fn attacked(&self, now_s: u32) -> Vec<shown::Attacked> {
        let attacks = self.validation.attacks().iter();
        attacks
            .map(|(addr, attack)| shown::Attacked {
                address: *addr,
                cookie_ports: {
                    let services = self.cookies.services().iter();
                    services.filter(|of| of.addr == *addr).map(|of| of.port).collect()
                },
                half_open: attack.half_open,
                syns: attack.syns,
                since_s_ago: u64::from(now_s.saturating_sub(attack.since_s)),
            })
            .collect()
    }
}
