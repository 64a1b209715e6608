//! One round of attaching: each interface gets the best rung that works, and keeps what works already.

use sluice_abi::attach::{Attachment, Role};
use sluice_abi::settings::Settings;

use super::attach::{self, TcPrograms};
use super::error::Error;
use super::feature::{FeatureState, Held, Hook, State};
use super::hardware::{self, Hardware};
use super::pins::Mark;
use super::plan::{InterfacePlan, TcWish, XdpWish};
use super::programs::Programs;
use super::topology::{Facts, Place, Places, Target, places};
use super::{Dataplane, device};
use crate::kernel::choose::{TcRung, XdpRung};

use std::os::fd::AsFd as _;

/// The attachments of the fast path to ingress and egress, by rung.
const TCX: [Mark; 2] = [Mark::TcxIn, Mark::TcxOut];
const FILTERS: [Mark; 2] = [Mark::FilterIn, Mark::FilterOut];

impl Dataplane {
    /// Attaches to interfaces that have appeared, renews what has been taken away, and removes what
    /// is on devices that no interface names any more. Whatever works already is left alone.
    pub fn reattach(&mut self) -> Result<Vec<FeatureState>, Error> {
        let facts = device::facts()?;
        let mut programs = std::mem::take(&mut self.programs);
        let mut held = Vec::new();
        let interfaces = self.plan.interfaces.clone();
        let places = places(&interfaces, &facts);
        for (interface, places) in interfaces.iter().zip(&places) {
            held.extend(self.hold(interface, places, &facts, &mut programs));
        }
        let keeps = |mark| held.iter().any(|held| held.marks.contains(&mark));
        attach::detach_others(&mut self.links, &facts, |mark, ifindex| keeps((mark, ifindex)))?;
        self.hardware.retain(|ifindex, _| keeps((Mark::Device, *ifindex)));
        self.held = held;
        if let Err(error) = self.fill_hardware() {
            log::warn!("{}", error.chain());
        }
        if let Err(error) = self.spread_out(&places) {
            log::warn!("{}", error.chain());
        }
        Ok(self.features())
    }

    /// Shield and fast path of an interface, as they are where they work already.
    fn hold(
        &mut self,
        interface: &InterfacePlan,
        places: &Places,
        facts: &Facts,
        programs: &mut Programs,
    ) -> [Held; 2] {
        let can_be_in_tc = interface.tc != TcWish::Off
            && self.no_fast_path.is_none()
            && matches!(&places.tc, Place::At(targets) if !targets.is_empty());
        let mut shield = match self.still_held(interface, Hook::Xdp, &places.xdp, facts) {
            Some(before) => before,
            None => self.attach_shield(interface, &places.xdp, programs, can_be_in_tc),
        };
        let is_in_tc = shield.state.rung == XdpRung::Tc.name();
        let mut fast_path = match self.still_held(interface, Hook::Tc, &places.tc, facts) {
            Some(before) if before.shields == is_in_tc => before,
            _ => self.attach_fast_path(interface, &places.tc, programs, is_in_tc),
        };
        if is_in_tc && !fast_path.shields {
            let reasons = fast_path.state.reasons.iter().map(|reason| format!("tc: {reason}"));
            let reasons: Vec<_> = shield.state.reasons.into_iter().chain(reasons).collect();
            shield = self.attach_shield(interface, &places.xdp, programs, false);
            shield.state.reasons = reasons;
            if fast_path.marks.is_empty() {
                fast_path = self.attach_fast_path(interface, &places.tc, programs, false);
            }
        }
        [shield, fast_path]
    }

    /// The feature as it was, when it works and is where it should be.
    fn still_held(
        &self,
        interface: &InterfacePlan,
        hook: Hook,
        place: &Place,
        facts: &Facts,
    ) -> Option<Held> {
        let is_it =
            |held: &&Held| held.state.interface == interface.name && held.state.hook == hook;
        let held = self.held.iter().find(is_it)?;
        if hook == Hook::Xdp && held.state.rung == XdpRung::Tc.name() {
            let is_right = interface.xdp == XdpWish::Tc
                || matches!(place, Place::At(targets) if held.mtus == Some(mtus_of(targets)));
            let is_there = |(mark, ifindex): &(Mark, u32)| {
                attach::is_attached(&self.links, facts, *mark, *ifindex)
            };
            return (is_right && held.marks.iter().all(is_there)).then(|| held.clone());
        }
        let Place::At(targets) = place else { return None };
        let places: Vec<u32> = targets.iter().map(|target| target.device.ifindex).collect();
        let held_there = |ifindex: &u32| held.marks.iter().any(|(_, at)| at == ifindex);
        let is_right = places.iter().all(held_there)
            && held.marks.iter().all(|(_, ifindex)| places.contains(ifindex))
            && (hook == Hook::Xdp || held.has_egress() == self.is_egress_needed(interface))
            && !held.is_stale
            && held.mtus.as_ref().is_none_or(|mtus| *mtus == mtus_of(targets))
            && held
                .marks
                .iter()
                .all(|(mark, ifindex)| attach::is_attached(&self.links, facts, *mark, *ifindex));
        is_right.then(|| held.clone())
    }

    fn attach_shield(
        &mut self,
        interface: &InterfacePlan,
        place: &Place,
        programs: &mut Programs,
        can_be_in_tc: bool,
    ) -> Held {
        let mut state = FeatureState::new(interface, Hook::Xdp, XdpRung::None.name());
        if interface.xdp == XdpWish::Off {
            return state.without_marks();
        }
        if let Some(reason) = &self.no_shield {
            return state.failed(reason.clone());
        }
        if interface.xdp == XdpWish::Nft {
            // Who asks the sets is not known here.
            state.state = State::Failed;
            return state.without_marks();
        }
        let may_be_in_tc = can_be_in_tc && interface.xdp.may_be_in_tc();
        let targets = match place {
            Place::Within(reason) => return state.within(reason.clone()),
            _ if may_be_in_tc && interface.xdp == XdpWish::Tc => return state.in_tc(None),
            Place::At(targets) => targets,
            Place::Nowhere(reason) => return state.failed(reason.clone()),
        };
        if interface.xdp == XdpWish::Tc {
            let reason = self.no_fast_path.clone();
            return state.failed(reason.unwrap_or_else(|| "tc: not wanted".to_owned()));
        }
        let mut worst = XdpRung::Native;
        for target in targets {
            let attached = self.attach_shield_to(interface, target, programs, may_be_in_tc);
            let (rung, mut reasons) = match attached {
                Ok(done) => done,
                Err(error) => return self.as_before(state, &[Mark::Xdp], targets, &error),
            };
            if targets.len() > 1 {
                for reason in &mut reasons {
                    *reason = format!("{}: {reason}", target.device.name);
                }
            }
            state.reasons.extend(reasons);
            match rung {
                // All entrances or none, as below.
                XdpRung::None | XdpRung::Tc if may_be_in_tc => {
                    // Where another program is, its going away is no change of an MTU.
                    let is_free = targets.iter().all(|target| {
                        target.device.xdp.native == 0 && target.device.xdp.generic == 0
                    });
                    let mut held = state.in_tc(is_free.then(|| mtus_of(targets)));
                    held.marks = self.attach_cards(interface, targets, &mut held.state);
                    return held;
                }
                XdpRung::None | XdpRung::Tc => {
                    // All entrances or none: an interface that is half protected looks protected.
                    // What is not held is taken away at the end of the round.
                    state.state = State::Failed;
                    return state.without_marks();
                }
                XdpRung::Generic => worst = XdpRung::Generic,
                XdpRung::Native => {}
            }
        }
        let mut marks: Vec<_> =
            targets.iter().map(|target| (Mark::Xdp, target.device.ifindex)).collect();
        state.rung = worst.name();
        let wanted = worst == XdpRung::Native || interface.xdp == XdpWish::Generic;
        state.state = if wanted { State::Active } else { State::Degraded };
        if let Some(first) = targets.first() {
            state.reasons.extend(programs.interpreted(attachment(interface, first), true));
        }
        marks.extend(self.attach_cards(interface, targets, &mut state));
        let was_refused = worst != XdpRung::Native && interface.xdp != XdpWish::Generic;
        let mtus = was_refused.then(|| mtus_of(targets));
        Held { state, marks, is_stale: false, mtus, shields: false }
    }

    /// Whether packets that leave by the interface are looked at: for their profile, or on a LAN for
    /// names that nobody else hears. What is blocked was dropped on its way in; a second hook would cost every packet.
    const fn is_egress_needed(&self, interface: &InterfacePlan) -> bool {
        let flags = self.settings.current().flags;
        flags & Settings::PROFILES != 0
            || matches!(interface.role, Role::Lan) && flags & Settings::COPY_DNS != 0
    }

    /// Of the attachments of ingress and egress those that are needed.
    const fn sides<'a>(&self, interface: &InterfacePlan, both: &'a [Mark; 2]) -> &'a [Mark] {
        if self.is_egress_needed(interface) { both } else { both.split_at(1).0 }
    }

    /// A program that cannot be loaded now is no reason to take the one away that works.
    fn as_before(
        &self,
        mut state: FeatureState,
        kinds: &[Mark],
        targets: &[Target],
        error: &Error,
    ) -> Held {
        let places = targets.iter().map(|target| target.device.ifindex);
        let marks: Vec<_> =
            places.flat_map(|ifindex| kinds.iter().map(move |mark| (*mark, ifindex))).collect();
        let is_there = |(mark, ifindex): &(Mark, u32)| {
            attach::is_attached(&self.links, &Facts::default(), *mark, *ifindex)
        };
        if marks.is_empty() || !marks.iter().all(is_there) {
            return state.failed(error.chain());
        }
        state.state = State::Degraded;
        state.rung = "earlier program";
        state.reasons.push(format!("the program of before goes on: {}", error.chain()));
        // Looked at again in the next round.
        Held { state, marks, is_stale: true, mtus: None, shields: false }
    }

    fn attach_shield_to(
        &mut self,
        interface: &InterfacePlan,
        target: &Target,
        programs: &mut Programs,
        may_be_in_tc: bool,
    ) -> Result<(XdpRung, Vec<String>), Error> {
        let ifindex = target.device.ifindex;
        let stepped_down = self.stepped_down.get(&ifindex);
        let wish = match (stepped_down, interface.xdp) {
            (Some(reason), _) if may_be_in_tc => {
                return Ok((XdpRung::Tc, vec![format!("native: {reason}")]));
            }
            (None, _) if may_be_in_tc => XdpWish::Native,
            (Some(_), XdpWish::Auto | XdpWish::Hardware) => XdpWish::Generic,
            (Some(_), XdpWish::Native) => XdpWish::Off,
            (None, XdpWish::Hardware) => XdpWish::Auto,
            (_, wish) => wish,
        };
        let attachment = attachment(interface, target);
        let prog =
            programs.shield(&mut self.loader, self.links.pins(), self.objects, attachment)?;
        let (rung, mut reasons) =
            attach::attach_xdp(prog.as_fd(), &target.device, &mut self.links, wish)?;
        reasons.extend(stepped_down.map(|reason| format!("native: {reason}")));
        Ok((rung, reasons))
    }

    /// Puts the reduced shield into the cards that take it.
    fn attach_cards(
        &mut self,
        interface: &InterfacePlan,
        targets: &[Target],
        state: &mut FeatureState,
    ) -> Vec<(Mark, u32)> {
        let mut marks = Vec::new();
        for target in targets {
            match self.attach_hardware(interface, target) {
                Ok(mark) => marks.push(mark),
                Err(reason) if interface.xdp == XdpWish::Hardware => {
                    state.state = State::Degraded;
                    state.reasons.insert(0, format!("hardware: {}: {reason}", target.device.name));
                }
                Err(reason) => state.card = Some(format!("{}: {reason}", target.device.name)),
            }
        }
        marks
    }

    /// Puts the reduced shield into the card behind a device, above the whole one in the kernel.
    fn attach_hardware(
        &mut self,
        interface: &InterfacePlan,
        target: &Target,
    ) -> Result<(Mark, u32), String> {
        let ifindex = target.device.ifindex;
        if !matches!(interface.xdp, XdpWish::Auto | XdpWish::Hardware) {
            return Err("not wanted".to_owned());
        }
        if target.link != sluice_abi::attach::Link::Ethernet {
            return Err("its frames do not start as a card sees them".to_owned());
        }
        let works = hardware::is_attached(&target.device)
            && self.hardware.get(&ifindex).is_some_and(|card| card.role() == interface.role);
        if !works {
            let card = Hardware::attach(self.objects.xdp_device, interface.role, &target.device)?;
            self.hardware.insert(ifindex, card);
        }
        self.links.pins().remind(Mark::Device, ifindex).map_err(|error| error.chain())?;
        Ok((Mark::Device, ifindex))
    }

    /// Gives each card the listed addresses that are worth their place there; none while the kill
    /// switch is off.
    pub(super) fn fill_hardware(&mut self) -> Result<(), Error> {
        let is_on = self.settings.current().is_enabled();
        for card in self.hardware.values_mut() {
            let listed = match (is_on, &self.blocklist) {
                (true, Some(_)) => hardware::listed(self.links.pins(), card.role())?,
                _ => Vec::new(),
            };
            card.set(&listed)?;
        }
        Ok(())
    }

    /// Packets and bytes that the cards behind an interface dropped, and how many addresses they
    /// hold; `None` when there are no such cards.
    #[must_use]
    pub fn in_hardware(&self, interface: &str) -> Option<(u64, u64, usize)> {
        let held = self
            .held
            .iter()
            .find(|held| held.state.interface == interface && held.state.hook == Hook::Xdp)?;
        let cards = held.marks.iter().filter(|(mark, _)| *mark == Mark::Device);
        cards.filter_map(|(_, ifindex)| self.hardware.get(ifindex)).fold(None, |sum, card| {
            let (packets, bytes, held) = sum.unwrap_or_default();
            let (more, long) = card.dropped().unwrap_or_default();
            Some((packets + more, bytes + long, held + card.held()))
        })
    }

    fn attach_fast_path(
        &mut self,
        interface: &InterfacePlan,
        place: &Place,
        programs: &mut Programs,
        shields: bool,
    ) -> Held {
        let mut state = FeatureState::new(interface, Hook::Tc, TcRung::QueueOnly.name());
        if interface.tc == TcWish::Off {
            return state.without_marks();
        }
        let targets = match place {
            Place::At(targets) => targets,
            Place::Within(reason) => return state.within(reason.clone()),
            Place::Nowhere(reason) => return state.failed(reason.clone()),
        };
        if let Some(reason) = &self.no_fast_path {
            return state.failed(reason.clone());
        }
        // Classifiers stand on the device itself.
        let Some(target) = targets.first() else { return state.without_marks() };
        let attachment = attachment(interface, target);
        let attachment = if shields { attachment.shielding() } else { attachment };
        let is_egress_needed = self.is_egress_needed(interface);
        let attached = programs
            .fast_path(&mut self.loader, self.links.pins(), self.objects, attachment)
            .map(|(ingress, egress)| {
                let (ingress, egress) = (ingress.as_fd(), egress.as_fd());
                let programs = TcPrograms { ingress, egress, is_egress_needed };
                attach::attach_tc(programs, &target.device, &mut self.links, interface.tc)
            });
        let (rung, reasons) = match attached {
            Ok(done) => done,
            Err(error) => {
                let filter = self.links.pins().link(Mark::FilterIn, target.device.ifindex);
                let both = if filter.exists() { &FILTERS } else { &TCX };
                return self.as_before(state, self.sides(interface, both), targets, &error);
            }
        };
        let ifindex = target.device.ifindex;
        let mut marks: Vec<_> = match rung {
            TcRung::Tcx => self.sides(interface, &TCX).to_vec(),
            TcRung::Clsact => self.sides(interface, &FILTERS).to_vec(),
            TcRung::QueueOnly => Vec::new(),
        };
        if rung == TcRung::Clsact && self.links.pins().link(Mark::Qdisc, ifindex).exists() {
            marks.push(Mark::Qdisc);
        }
        let marks = marks.into_iter().map(|mark| (mark, ifindex)).collect();
        state.rung = rung.name();
        state.state = match (rung, interface.tc) {
            (TcRung::Tcx, _) | (TcRung::Clsact, TcWish::Clsact) => State::Active,
            (TcRung::Clsact, _) => State::Degraded,
            (TcRung::QueueOnly, _) => State::Failed,
        };
        state.reasons = reasons;
        state.reasons.extend(programs.interpreted(attachment, false));
        let shields = shields && rung != TcRung::QueueOnly;
        Held { state, marks, is_stale: false, mtus: None, shields }
    }
}

fn mtus_of(targets: &[Target]) -> Vec<u32> {
    targets.iter().map(|target| target.device.mtu).collect()
}

pub(super) const fn attachment(interface: &InterfacePlan, target: &Target) -> Attachment {
    Attachment::new(interface.slot, interface.role, target.link)
}
