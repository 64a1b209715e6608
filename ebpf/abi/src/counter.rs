//! Packet counters of the programs.

use bytemuck::{Pod, Zeroable};

/// What happened to a packet, counted per interface and CPU in `TOTALS`. Append only.
///
/// Each packet that a program looks at is counted under exactly one of its outcomes, so the
/// outcomes of one program on one interface add up to the packets it saw. [`Counter::SourceNew`],
/// [`Counter::SourceEvicted`], the same of destinations, [`Counter::TcMarkedBytes`] and
/// [`Counter::TcDnsLost`] are notes beside an outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Counter {
    /// XDP: passed, nothing to object.
    XdpPass = 0,
    /// XDP: the kill switch is off, or the settings are missing: passed unseen.
    XdpInert = 1,
    /// XDP: no IPv4 or IPv6 behind the link header (ARP, LLDP, …): passed.
    XdpNotIp = 2,
    /// XDP: shorter than its headers say: passed.
    XdpTruncated = 3,
    /// XDP: headers contradict themselves: passed.
    XdpMalformed = 4,
    /// XDP: an address is listed exactly: dropped.
    XdpDropHost = 5,
    /// XDP: an address lies in a listed prefix: dropped.
    XdpDropPrefix = 6,
    /// XDP: the source is over its packet rate: dropped.
    XdpDropSourceRate = 7,
    /// XDP: the source is over its rate of TCP SYN packets: dropped.
    XdpDropSynRate = 8,
    /// XDP: listed, but the allowlist lifts it: passed.
    XdpAllowed = 9,
    /// A source got a fresh, full bucket in a free way.
    SourceNew = 10,
    /// A source got a fresh, full bucket and another source lost its own.
    SourceEvicted = 11,
    /// TC: no flow key (fragment, not TCP or UDP, truncated): untouched.
    TcNoFlow = 12,
    /// TC: no decision, or one that is void: untouched.
    TcUnknown = 13,
    /// TC: to be inspected: untouched.
    TcInspect = 14,
    /// TC: trusted: marked.
    TcTrusted = 15,
    /// TC: blocked: dropped.
    TcDropBlocked = 16,
    /// TC: a bare SYN of a trusted flow, which may be another connection: untouched.
    TcNewSyn = 17,
    /// TC: the kill switch is off: untouched.
    TcInert = 18,
    /// TC egress: looked at and left alone.
    TcOutPass = 19,
    /// TC egress: blocked: dropped.
    TcOutDropBlocked = 20,
    /// TC egress: the kill switch is off.
    TcOutInert = 21,
    /// XDP: an address lies in the bulk lists: dropped.
    XdpDropListed = 22,
    /// XDP: the source is in a range that is never routed: dropped.
    XdpDropBogon = 23,
    /// XDP: the source is private and came from the provider: dropped.
    XdpDropPrivate = 24,
    /// XDP: the source is an address of this router, or source and destination are the same: dropped.
    XdpDropMartian = 25,
    /// XDP: TCP flags that no stack sends: dropped.
    XdpDropTcpFlags = 26,
    /// XDP: the source is over its rate of ICMP packets: dropped.
    XdpDropIcmpRate = 27,
    /// XDP: the destination gets more answers of a well-known UDP amplifier than it may: dropped.
    XdpDropAmplification = 28,
    /// XDP: the destination is over its packet rate: dropped.
    XdpDropDestinationRate = 29,
    /// XDP: the destination is over its rate of TCP SYN packets from sources that never completed a handshake: dropped.
    XdpDropDestinationSyn = 30,
    /// XDP: the source opens connections faster than it may: dropped.
    XdpDropConnectionRate = 31,
    /// A destination got a fresh, full bucket in a free way.
    DestinationNew = 32,
    /// A destination got a fresh, full bucket and another one lost its own.
    DestinationEvicted = 33,
    /// TC: over the rate of its flow or profile: dropped.
    TcDropLimited = 34,
    /// TC: held to a rate and within it: untouched.
    TcLimited = 35,
    /// TC egress: the DSCP of its profile was written.
    TcOutDscp = 36,
    /// XDP: a TCP SYN of a stranger to a destination under attack, over the rate for that: dropped.
    XdpDropAttackedSyn = 37,
    /// XDP: a TCP SYN of a stranger to a service of this router under attack: answered with a cookie.
    XdpSynAnswered = 38,
    /// TC: to be inspected while the agent's heart does not beat: marked, so that it goes past the queue.
    TcUnattended = 39,
    /// A DNS message found no room on its way to the agent.
    TcDnsLost = 40,
    /// Bytes, from the IP header on, of packets that got the mark of trusted ones; a merged packet counts as it is.
    TcMarkedBytes = 41,
}

impl Counter {
    /// Places in a [`Tally`], a power of two: a mask bounds an index.
    pub const PLACES: usize = 64;

    /// Every counter, in the order of the numbers.
    #[rustfmt::skip]
    pub const ALL: [Self; 42] = [
        Self::XdpPass, Self::XdpInert, Self::XdpNotIp, Self::XdpTruncated, Self::XdpMalformed,
        Self::XdpDropHost, Self::XdpDropPrefix, Self::XdpDropSourceRate, Self::XdpDropSynRate,
        Self::XdpAllowed, Self::SourceNew, Self::SourceEvicted, Self::TcNoFlow, Self::TcUnknown,
        Self::TcInspect, Self::TcTrusted, Self::TcDropBlocked, Self::TcNewSyn,
        Self::TcInert, Self::TcOutPass, Self::TcOutDropBlocked, Self::TcOutInert,
        Self::XdpDropListed, Self::XdpDropBogon, Self::XdpDropPrivate, Self::XdpDropMartian, Self::XdpDropTcpFlags, Self::XdpDropIcmpRate, Self::XdpDropAmplification, Self::XdpDropDestinationRate, Self::XdpDropDestinationSyn, Self::XdpDropConnectionRate, Self::DestinationNew, Self::DestinationEvicted, Self::TcDropLimited, Self::TcLimited, Self::TcOutDscp, Self::XdpDropAttackedSyn, Self::XdpSynAnswered, Self::TcUnattended, Self::TcDnsLost, Self::TcMarkedBytes,
    ];

    /// Whether packets are counted; else it is bytes.
    #[must_use]
    pub const fn is_of_packets(self) -> bool {
        !matches!(self, Self::TcMarkedBytes)
    }

    /// The word used in status and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XdpPass => "xdp_pass",
            Self::XdpInert => "xdp_inert",
            Self::XdpNotIp => "xdp_not_ip",
            Self::XdpTruncated => "xdp_truncated",
            Self::XdpMalformed => "xdp_malformed",
            Self::XdpDropHost => "xdp_drop_host",
            Self::XdpDropPrefix => "xdp_drop_prefix",
            Self::XdpDropSourceRate => "xdp_drop_source_rate",
            Self::XdpDropSynRate => "xdp_drop_syn_rate",
            Self::XdpAllowed => "xdp_allowed",
            Self::SourceNew => "source_new",
            Self::SourceEvicted => "source_evicted",
            Self::TcNoFlow => "tc_no_flow",
            Self::TcUnknown => "tc_unknown",
            Self::TcInspect => "tc_inspect",
            Self::TcTrusted => "tc_trusted",
            Self::TcDropBlocked => "tc_drop_blocked",
            Self::TcNewSyn => "tc_new_syn",
            Self::TcInert => "tc_inert",
            Self::TcOutPass => "tc_out_pass",
            Self::TcOutDropBlocked => "tc_out_drop_blocked",
            Self::TcOutInert => "tc_out_inert",
            Self::XdpDropListed => "xdp_drop_listed",
            Self::XdpDropBogon => "xdp_drop_bogon",
            Self::XdpDropPrivate => "xdp_drop_private",
            Self::XdpDropMartian => "xdp_drop_martian",
            Self::XdpDropTcpFlags => "xdp_drop_tcp_flags",
            Self::XdpDropIcmpRate => "xdp_drop_icmp_rate",
            Self::XdpDropAmplification => "xdp_drop_amplification",
            Self::XdpDropDestinationRate => "xdp_drop_destination_rate",
            Self::XdpDropDestinationSyn => "xdp_drop_destination_syn",
            Self::XdpDropConnectionRate => "xdp_drop_connection_rate",
            Self::DestinationNew => "destination_new",
            Self::DestinationEvicted => "destination_evicted",
            Self::TcDropLimited => "tc_drop_limited",
            Self::TcLimited => "tc_limited",
            Self::TcOutDscp => "tc_out_dscp",
            Self::XdpDropAttackedSyn => "xdp_drop_attacked_syn",
            Self::XdpSynAnswered => "xdp_syn_answered",
            Self::TcUnattended => "tc_unattended",
            Self::TcDnsLost => "tc_dns_lost",
            Self::TcMarkedBytes => "tc_marked_bytes",
        }
    }

    /// Whether packets counted here were dropped.
    #[must_use]
    pub const fn is_drop(self) -> bool {
        matches!(
            self,
            Self::XdpDropHost
                | Self::XdpDropPrefix
                | Self::XdpDropSourceRate
                | Self::XdpDropSynRate
                | Self::TcDropBlocked
                | Self::TcOutDropBlocked
                | Self::XdpDropListed
                | Self::XdpDropBogon
                | Self::XdpDropPrivate
                | Self::XdpDropMartian
                | Self::XdpDropTcpFlags
                | Self::XdpDropIcmpRate
                | Self::XdpDropAmplification
                | Self::XdpDropDestinationRate
                | Self::XdpDropDestinationSyn
                | Self::XdpDropConnectionRate
                | Self::TcDropLimited
                | Self::XdpDropAttackedSyn
        )
    }
}

const _: () = assert!(Counter::ALL.len() <= Counter::PLACES);

/// What was counted on one interface, in the order of [`Counter::ALL`]; an entry of `TOTALS`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Tally(pub [u64; Counter::PLACES]);
abi_type!(Tally, size = 512, align = 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_keep_their_numbers() {
        for (number, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, number, "{}", counter.name());
            assert_eq!(counter.is_drop(), counter.name().contains("drop"));
        }
    }
}
