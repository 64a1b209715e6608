//! What runs beside the packets: rules, interfaces and lists are looked after.

use super::around::Around;
use super::running::State;
use crate::cli::chain;
use crate::config::Backend as Wanted;
use crate::dataplane::verify::{Seen, Verified, verify};
use crate::dataplane::{Hook, State as HookState};
use crate::netfilter::apply::{self, Kind, Wish as BackendWish};

impl State {
    /// Brings the rules into the kernel by what it takes; notes why not, or why not better.
    pub(super) fn apply_rules(&mut self) {
        let wish = match self.plan.backend {
            Wanted::Auto => BackendWish::Auto,
            Wanted::Nft => BackendWish::Only(Kind::Nft),
            Wanted::Iptables => BackendWish::Only(Kind::Iptables),
        };
        let (mut backend, reasons) = match apply::choose(wish) {
            Ok(chosen) => chosen,
            Err(error) => {
                self.inspection_notes.push(chain(&error));
                return;
            }
        };
        self.inspection_notes.extend(reasons);
        self.look_back(&mut *backend);
        match backend.apply(&self.plan.ruleset) {
            Ok(()) => {
                self.backend = Some(backend);
                self.note_rules_applied();
                self.look_at_resolutions();
            }
            Err(error) => {
                self.inspection_notes.push(chain(&error));
                if let Err(error) = backend.remove() {
                    log::warn!("{}", chain(&error));
                }
            }
        }
    }

    /// Puts the rules back when somebody took them away.
    pub(super) fn restore_rules(&mut self) {
        // The rules that the watchdog changed have counters, which end when they are put back.
        self.notice_silence();
        let Some(backend) = &mut self.backend else { return };
        match backend.is_applied() {
            Ok(true) => {}
            Ok(false) => match backend.apply(&self.plan.ruleset) {
                Ok(()) => {
                    self.reapplied += 1;
                    self.note_rules_applied();
                    log::warn!("somebody changed our rules: put back");
                    self.look_at_resolutions();
                }
                Err(error) => log::error!("{}", chain(&error)),
            },
            Err(error) => log::error!("{}", chain(&error)),
        }
    }

    /// Attaches to interfaces that have appeared, and checks that native programs really run.
    pub(super) fn look_after_interfaces(&mut self) {
        let Some(dataplane) = &mut self.dataplane else { return };
        if let Err(error) = dataplane.reattach() {
            log::warn!("{}", error.chain());
        }
        for feature in dataplane.features() {
            let is_native = feature.hook == Hook::Xdp && feature.state == HookState::Active;
            if !is_native
                || feature.verified
                || feature.rung != crate::kernel::choose::XdpRung::Native.name()
            {
                self.unverified.remove(&feature.interface);
                continue;
            }
            let plans = &self.plan.dataplane.interfaces;
            let Some(slot) =
                plans.iter().find(|plan| plan.name == feature.interface).map(|plan| plan.slot)
            else {
                continue;
            };
            let received = dataplane.received(&feature.interface);
            let counts = dataplane.totals.of(slot).unwrap_or_default();
            let now = (received, Seen::new(|counter| counts.count(counter)));
            let before = *self.unverified.entry(feature.interface.clone()).or_insert(now);
            match verify((before.0, now.0), (before.1, now.1)) {
                Verified::NoTraffic => {}
                Verified::Verified => dataplane.set_verified(&feature.interface),
                Verified::StepDown(reason) => {
                    log::warn!("shield on {}: {reason}", feature.interface);
                    if let Err(error) = dataplane.step_down(&feature.interface, &reason) {
                        log::warn!("{}", error.chain());
                    }
                }
            }
        }
    }

    /// Looks at the router's addresses again: the shield is told what they mean for strangers, and
    /// lists do without others when they have changed.
    pub(super) fn look_around(&mut self) {
        // Those of before are a better guess than none.
        let around = Around::look();
        if let Some(around) = &around {
            self.look_at_zones(&around.devices);
        }
        let Self { lists, sets, inspector, dataplane, plan, .. } = self;
        if let Some(around) = &around
            && lists.spare(around.own(&plan.management))
            && !plan.lists.is_empty()
            && let Err(error) = lists.set(dataplane.as_mut(), sets, &mut inspector.observing, plan)
        {
            lists.refuse(&error);
        }
        if let Some(dataplane) = dataplane {
            self.strangers.look_around(around.as_ref(), dataplane, plan);
        }
    }
}
