//! What works, on which rung of its ladder, and why not better.

use super::observing::uncounted;
use super::running::State;
use crate::cli::chain;
use crate::control::report::{Feature, State as Health};
use crate::dataplane::{Dataplane, FeatureState, Hook, State as HookState};
use crate::kernel::{Need, Report, Support};
use crate::netfilter::{apply, shield};

impl State {
    /// The features of this agent.
    pub(super) fn features(&self) -> Vec<Feature> {
        let mut features: Vec<Feature> = match (&self.dataplane, &self.no_dataplane) {
            (Some(dataplane), _) => {
                let lacks_clsact =
                    matches!(Report::of_this_kernel().support(Need::Clsact), Support::No(_));
                let features = dataplane.features().into_iter();
                features.map(|one| feature(one, lacks_clsact)).collect()
            }
            (None, reason) => vec![Feature {
                name: "programs".to_owned(),
                state: Health::Failed,
                rung: "none".to_owned(),
                reasons: reason.iter().cloned().collect(),
            }],
        };
        self.set_features(&mut features);
        if !self.plan.enabled {
            for feature in features.iter_mut().filter(|feature| feature.state != Health::Failed) {
                feature.state = Health::Off;
                feature.reasons.push("option enabled is 0: everything passes".to_owned());
            }
        }
        if let Some(dataplane) = &self.dataplane
            && !dataplane.notes().is_empty()
        {
            features.push(Feature {
                name: "maps".to_owned(),
                state: Health::Degraded,
                rung: "smaller than planned".to_owned(),
                reasons: dataplane.notes().to_vec(),
            });
        }
        features.extend(self.dataplane.iter().flat_map(spreading));
        features.extend(self.strangers.features(&self.plan));
        let (state, rung) = match &self.backend {
            _ if !self.plan.enabled || !self.plan.ruleset.inspects() => (Health::Off, "none"),
            None => (Health::Failed, "none"),
            Some(backend) if self.inspection_notes.is_empty() => {
                (Health::Active, backend.kind().name())
            }
            Some(backend) => (Health::Degraded, backend.kind().name()),
        };
        let nowhere = (!self.plan.ruleset.inspects())
            .then(|| "option inspect is 0 on every interface".to_owned());
        features.push(Feature {
            name: "inspection".to_owned(),
            state,
            rung: rung.to_owned(),
            reasons: nowhere
                .into_iter()
                .chain(self.inspection_notes.iter().cloned())
                .chain(uncounted(&self.plan, self.backend.is_some()))
                .chain(self.unshared())
                .collect(),
        });
        features.push(self.offload_feature());
        features.push(self.names_feature());
        features.push(self.devices_feature());
        features.push(self.bus_feature());
        features.extend(self.hook_feature());
        features.extend(self.scrape_feature());
        features
    }

    /// Why no device has a share of the queue, where that is wanted.
    fn unshared(&self) -> Option<String> {
        self.plan.ruleset.share()?;
        let kind = self.backend.as_ref()?.kind();
        (kind == apply::Kind::Iptables)
            .then(|| format!("option queue_share has no effect with {}", kind.name()))
    }
}

/// The probes of this kernel as features.
pub(super) fn probes(report: &Report) -> Vec<Feature> {
    let mut features = vec![Feature {
        name: format!("Linux {}", report.kernel),
        state: if report.obstacle().is_some() { Health::Failed } else { Health::Active },
        rung: "kernel".to_owned(),
        reasons: report.obstacle().into_iter().collect(),
    }];
    features.extend(report.items.iter().map(|item| {
        let mut reasons: Vec<String> = item.note.iter().cloned().collect();
        if !item.support.is_yes() {
            reasons.insert(0, item.support.reason().to_owned());
            reasons.extend(item.enabled_by.map(|what| format!("enabled by: {what}")));
        }
        Feature {
            name: item.need.name().to_owned(),
            state: match (&item.support, item.need.is_required()) {
                (Support::Yes, _) => Health::Active,
                (_, true) => Health::Failed,
                (_, false) => Health::Degraded,
            },
            rung: match &item.support {
                Support::Yes => "works",
                Support::No(_) => "missing",
                Support::Unknown(_) => "unknown",
            }
            .to_owned(),
            reasons,
        }
    }));
    features.push(rules());
    features.push(sets());
    features
}

/// How rules would reach this kernel, found out with tables that are gone again at once.
fn rules() -> Feature {
    let (state, rung, reasons) = match apply::choose(apply::Wish::Auto) {
        Ok((backend, reasons)) if reasons.is_empty() => {
            (Health::Active, backend.kind().name(), reasons)
        }
        Ok((backend, reasons)) => (Health::Degraded, backend.kind().name(), reasons),
        Err(error) => (Health::Failed, "none", vec![chain(&error)]),
    };
    Feature { name: "rules".to_owned(), state, rung: rung.to_owned(), reasons }
}

/// Whether sets of nftables could drop what lists block, where no program can.
fn sets() -> Feature {
    let (state, rung, reasons) = match shield::probe() {
        Ok(()) => (Health::Active, "works", Vec::new()),
        Err(error) => (Health::Degraded, "missing", vec![chain(&error)]),
    };
    Feature { name: "nft_sets".to_owned(), state, rung: rung.to_owned(), reasons }
}

fn feature(feature: FeatureState, lacks_clsact: bool) -> Feature {
    let hook = match feature.hook {
        Hook::Xdp => "shield",
        Hook::Tc => "fast path",
    };
    // The last rung of its ladder, where the kernel lacks it.
    let is_without = feature.reasons.iter().any(|reason| reason.starts_with("clsact: "));
    let enabled_by =
        (is_without && lacks_clsact).then(|| format!("enabled by: {}", Need::Clsact.enabled_by()));
    Feature {
        name: format!("{hook} {}", feature.interface),
        state: match feature.state {
            HookState::Active => Health::Active,
            HookState::Degraded => Health::Degraded,
            HookState::Failed => Health::Failed,
            HookState::Off => Health::Off,
        },
        rung: feature.rung.to_owned(),
        reasons: feature
            .card
            .map(|card| format!("hardware: {card}"))
            .into_iter()
            .chain(feature.reasons)
            .chain(enabled_by)
            .collect(),
    }
}

/// Where packets are shared out to processors, as far as that is wanted.
fn spreading(dataplane: &Dataplane) -> impl Iterator<Item = Feature> {
    dataplane.spreading().iter().map(|spreading| Feature {
        name: format!("spread {}", spreading.interface),
        state: if spreading.is_everywhere() { Health::Active } else { Health::Degraded },
        rung: match spreading.cpus {
            0 => "none".to_owned(),
            cpus => format!("{cpus} processors"),
        },
        reasons: spreading.reasons.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R118: where clsact is the reason, what would bring it is named in `status` too.
    #[test]
    fn a_missing_classifier_has_its_modules_named() {
        let failed = |reason: &str| FeatureState {
            hook: Hook::Tc,
            interface: "wan".to_owned(),
            device: "eth0".to_owned(),
            state: HookState::Failed,
            rung: "queue_only",
            reasons: vec!["tcx: before 6.6".to_owned(), reason.to_owned()],
            verified: false,
            card: None,
        };
        let reasons = |reason, lacks_clsact| feature(failed(reason), lacks_clsact).reasons;
        let all = reasons("clsact: add qdisc: not found", true);
        assert_eq!(all.len(), 3);
        assert!(all[2].contains("kmod-sched-core and kmod-sched-bpf"), "{all:?}");
        assert_eq!(reasons("clsact: add qdisc: busy", false).len(), 2);
        assert_eq!(reasons("device eth0 is not there", true).len(), 2);
    }
}
