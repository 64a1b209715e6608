//! The text of the rules that send packets to the queues and turn verdicts into connection marks.
//! Pure: `apply` brings the text into the kernel.
//!
//! One chain in the forward hook. *Inspect* drops what is blocked, lets pass what is decided, and
//! queues the rest. A packet that comes back from its queue with a mark meets the chain once more
//! (`NF_REPEAT`) and goes to *answered*, which gives the mark to its connection: a chain behind the
//! queue would cost every packet. Only the claimed bits of a mark are touched, which is why each
//! value is written as a constant under the mask.

mod dns;
mod ignored;
mod iptables;
mod nft;
mod share;

pub(super) use self::iptables::{JUMP as IPTABLES_JUMP, TABLE as IPTABLES_TABLE, removal};
pub use self::nft::Replace;
pub(super) use self::share::GREEDY;

use std::ops::RangeInclusive;

use self::dns::Dns;
pub use self::dns::{ANSWER, QUESTION};
use self::ignored::Ignored;
use self::share::Share;
use crate::config::{Ignore, Mac, MarkMask};

/// The nftables table that belongs to Sluice.
pub const TABLE: &str = "sluice";

/// Longest name of an interface (`IFNAMSIZ` less the zero byte).
const DEVICE_LEN_MAX: usize = 15;

/// What the rules count.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Counted {
    /// Sent to a queue; without a listener and with an open policy they pass.
    Queued,
    /// Let pass: the packet or its connection is marked trusted.
    PassedTrusted,
    /// Let pass: the connection is marked undecided.
    PassedUndecided,
    /// Dropped: the connection is marked blocked.
    DroppedBlocked,
    /// Dropped: the packet's own verdict was blocked.
    DroppedVerdict,
    /// Let pass uninspected: the agent's heart did not beat.
    Unattended,
    /// Let pass: the configuration says that it is never inspected.
    Ignored,
    /// Let pass uninspected: the device sent more than its share to the queue.
    OverShare,
    /// Dropped: the device sent more than its share to the queue, and policy is closed.
    DroppedShare,
}

impl Counted {
    /// Every counter.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::PassedTrusted,
        Self::PassedUndecided,
        Self::DroppedBlocked,
        Self::DroppedVerdict,
        Self::Unattended,
        Self::Ignored,
        Self::OverShare,
        Self::DroppedShare,
    ];

    /// The word used in the rules, status and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::PassedTrusted => "passed_trusted",
            Self::PassedUndecided => "passed_undecided",
            Self::DroppedBlocked => "dropped_blocked",
            Self::DroppedVerdict => "dropped_verdict",
            Self::Unattended => "unattended",
            Self::Ignored => "ignored",
            Self::OverShare => "over_share",
            Self::DroppedShare => "dropped_share",
        }
    }

    /// The counter with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|counted| counted.name() == name)
    }
}

/// What the rules should do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ruleset {
    devices: Vec<Box<str>>,
    marks: MarkMask,
    first: u16,
    last: u16,
    policy_open: bool,
    frees_others: bool,
    /// Devices whose packets are dropped when nobody listens, where others pass.
    closed: Vec<Box<str>>,
    ignored: Ignored,
    share: Option<Share>,
    dns: Option<Dns>,
}

impl Ruleset {
    /// Rules for packets that go from one of `devices` to another, sent to `queue_count` queues
    /// from `queue_first` on; without devices there is nothing to apply. With an open policy packets
    /// pass when nobody listens to a queue, with a closed one they are dropped.
    pub fn new<D: Into<Box<str>>>(
        devices: impl IntoIterator<Item = D>,
        marks: MarkMask,
        queue_first: u16,
        queue_count: u16,
        policy_open: bool,
    ) -> Result<Self, RulesError> {
        let mut devices: Vec<Box<str>> = devices.into_iter().map(Into::into).collect();
        devices.sort_unstable();
        devices.dedup();
        if let Some(bad) = devices.iter().find(|device| !is_device(device)) {
            return Err(RulesError::Device(bad.clone()));
        }
        let last = queue_count.checked_sub(1).and_then(|more| queue_first.checked_add(more));
        let Some(last) = last else {
            return Err(RulesError::Queues { first: queue_first, count: queue_count });
        };
        Ok(Self {
            devices,
            marks,
            first: queue_first,
            last,
            policy_open,
            frees_others: false,
            closed: Vec::new(),
            ignored: Ignored::default(),
            share: None,
            dns: None,
        })
    }

    /// With a closed policy for what comes from or goes to some of the devices: it has queues of its
    /// own, as many as the others have and behind theirs. Where all or none are closed, there is one
    /// policy and one kind of queue.
    pub fn closing(mut self, closed: impl Fn(&str) -> bool) -> Result<Self, RulesError> {
        let (closed, open): (Vec<_>, Vec<_>) =
            self.devices.iter().cloned().partition(|device| closed(device));
        self.policy_open = !open.is_empty();
        if !closed.is_empty() && !open.is_empty() {
            let count = self.last - self.first + 1;
            if self.last.checked_add(count).is_none() {
                let count = count.saturating_mul(2);
                return Err(RulesError::Queues { first: self.first, count });
            }
            self.closed = closed;
        }
        Ok(self)
    }

    /// Whether what comes from or goes to `device` is dropped while nobody inspects.
    #[must_use]
    pub fn closes(&self, device: &str) -> bool {
        let closed = if self.closed.is_empty() { &self.devices } else { &self.closed };
        let is_there = closed.iter().any(|closed| **closed == *device);
        is_there && (!self.policy_open || !self.closed.is_empty())
    }

    /// Without inspection of some connections.
    #[must_use]
    pub fn ignoring<'a>(mut self, ignores: impl IntoIterator<Item = &'a Ignore>) -> Self {
        self.ignored = Ignored::new(ignores);
        self
    }

    /// With a share of the queue for each device behind those that are of the LAN, in packets a
    /// second; 0 is no limit. Only with nft: what else writes rules knows no hardware addresses.
    #[must_use]
    pub fn sharing(mut self, is_lan: impl Fn(&str) -> bool, rate: u32) -> Self {
        let lan: Vec<_> = self.devices.iter().filter(|device| is_lan(device)).cloned().collect();
        self.share = (rate != 0 && !lan.is_empty()).then_some(Share { lan, rate });
        self
    }

    /// Packets a second that each device of the LAN may send to the queue, if there is a limit.
    #[must_use]
    pub fn share(&self) -> Option<u32> {
        self.share.as_ref().map(|share| share.rate)
    }

    /// With a copy of each DNS question that comes in by one of these devices, and of each answer that
    /// leaves by one, for who listens to log group `group`. Only with nft.
    pub fn copying_dns<D: Into<Box<str>>>(
        mut self,
        lan: impl IntoIterator<Item = D>,
        group: u16,
    ) -> Result<Self, RulesError> {
        let lan: Vec<Box<str>> = lan.into_iter().map(Into::into).collect();
        if let Some(bad) = lan.iter().find(|device| !is_device(device)) {
            return Err(RulesError::Device(bad.clone()));
        }
        self.dns = (!lan.is_empty()).then_some(Dns { lan, group });
        Ok(self)
    }

    /// The group of [`Ruleset::copying_dns`].
    #[must_use]
    pub fn dns_group(&self) -> Option<u16> {
        self.dns.as_ref().map(|dns| dns.group)
    }

    /// The same rules for a kernel that cannot log to a group.
    #[must_use]
    pub fn without_dns(&self) -> Self {
        Self { dns: None, ..self.clone() }
    }

    /// Whether nothing of this device is inspected.
    #[must_use]
    pub fn ignores(&self, device: Mac) -> bool {
        self.ignored.has(device)
    }

    /// Whether packets pass uninspected somewhere.
    #[must_use]
    pub const fn policy_open(&self) -> bool {
        self.policy_open
    }

    /// Every queue.
    #[must_use]
    pub fn queues(&self) -> RangeInclusive<u16> {
        self.first..=self.closed_queues().map_or(self.last, |closed| *closed.end())
    }

    /// Queues of packets for which another policy holds than for most.
    #[must_use]
    pub fn closed_queues(&self) -> Option<RangeInclusive<u16>> {
        let count = self.last - self.first + 1;
        let first = self.last.checked_add(1).filter(|_| !self.closed.is_empty())?;
        Some(first..=self.last.saturating_add(count))
    }

    /// Whether connections that are not inspected, because they use another device, are marked
    /// trusted, so that the firewall offloads them while its rule waits for that mark. Only with
    /// nft: what else writes rules has no such rule.
    #[must_use]
    pub const fn freeing_others(mut self, yes: bool) -> Self {
        self.frees_others = yes;
        self
    }

    /// Whether packets are inspected anywhere. Where they are not, the rules must not be applied.
    #[must_use]
    pub const fn inspects(&self) -> bool {
        !self.devices.is_empty()
    }

    /// Whether the queues are for the same: inspection or none, and one policy or two.
    #[must_use]
    pub fn has_queues_of(&self, other: &Self) -> bool {
        (self.inspects(), self.closed_queues()) == (other.inspects(), other.closed_queues())
    }

    /// The devices between which packets are inspected.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().map(|device| &**device)
    }

    /// The marks that the rules use.
    #[must_use]
    pub const fn marks(&self) -> MarkMask {
        self.marks
    }
}

/// Whether the name can stand in both languages and means one interface: no quotes, no blanks, and
/// neither of the two wildcards.
pub(super) fn is_device(name: &str) -> bool {
    (1..=DEVICE_LEN_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte))
        && !name.starts_with('-')
}

/// Why there can be no such rules.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RulesError {
    /// A name that cannot stand in a rule.
    #[error("interface name `{0}` cannot stand in a firewall rule")]
    Device(Box<str>),
    /// Queue numbers are 16 bits.
    #[error("{count} queues from number {first} on: numbers end at 65535 and one is needed")]
    Queues {
        /// First number.
        first: u16,
        /// How many.
        count: u16,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn sample(queue_count: u16, policy_open: bool) -> Ruleset {
        let marks = MarkMask::try_from(0x0700_0000).unwrap();
        Ruleset::new(["wan", "br-lan"], marks, 5, queue_count, policy_open).unwrap()
    }

    #[test]
    fn names_that_could_say_more_than_a_name_are_refused() {
        let marks = MarkMask::try_from(7).unwrap();
        for name in
            ["", "lan*", "lan+", "a b", "a\"b", "a\nb", "-i", "a;b", "0123456789abcdef", "ä"]
        {
            let refused = Ruleset::new([name], marks, 0, 1, true).unwrap_err();
            assert_eq!(refused, RulesError::Device(name.into()));
        }
        for name in ["eth0", "br-lan", "eth0.2", "pppoe-wan", "lan1@eth0", "wlan0_1"] {
            assert!(Ruleset::new([name], marks, 0, 1, true).is_ok(), "{name}");
        }
    }

    #[test]
    fn queue_numbers_end_where_the_kernel_ends_them() {
        let marks = MarkMask::try_from(7).unwrap();
        assert!(Ruleset::new(["a"], marks, 65535, 1, true).is_ok());
        for (first, count) in [(0, 0), (65535, 2), (1, 65535), (2, 65535)] {
            let refused = Ruleset::new(["a"], marks, first, count, true);
            let ok = count != 0 && u32::from(first) + u32::from(count) <= 65536;
            assert_eq!(refused.is_ok(), ok, "{first} {count}");
        }
    }

    #[test]
    fn no_drop_stands_in_a_rule_with_a_limit_and_nothing_depends_on_a_quota() {
        for text in [
            sample(4, true).nft(Replace::Flush),
            sample(1, false).nft(Replace::Delete),
            sample(4, true).iptables(false),
        ] {
            let drops: Vec<_> =
                text.lines().filter(|line| line.to_lowercase().contains("drop")).collect();
            assert!(drops.len() >= 2, "blocked marks and blocked verdicts are dropped: {text}");
            for line in text.lines() {
                for word in ["limit", "quota", "hashlimit", "log"] {
                    assert!(!line.to_lowercase().contains(word), "{line}");
                }
            }
        }
    }

    #[test]
    fn a_closed_policy_has_no_bypass_anywhere() {
        for (open, text) in [true, false].into_iter().flat_map(|open| {
            let rules = sample(2, open);
            [(open, rules.nft(Replace::Flush)), (open, rules.iptables(false))]
        }) {
            let queues = text
                .lines()
                .filter(|line| line.contains("queue num") || line.contains("-j NFQUEUE"));
            let bypass: Vec<_> = queues.map(|line| line.contains("bypass")).collect();
            assert!(bypass.len() >= 2);
            assert!(bypass.iter().all(|&bypass| bypass == open), "{text}");
        }
    }
}
