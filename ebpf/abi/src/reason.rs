//! Why packets are dropped, in one list for every place that drops.

use crate::counter::Counter;

/// Where a packet is dropped.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// The shield; where the fast path does its work, that is [`Place::Tc`].
    Xdp,
    /// The fast path.
    Tc,
    /// The rules.
    Netfilter,
    /// Inspection.
    Engine,
    /// Sets of nftables, where no program can do the shield's work.
    Nft,
}

impl Place {
    /// The word used in status, `why` and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
            Self::Netfilter => "netfilter",
            Self::Engine => "engine",
            Self::Nft => "nft",
        }
    }
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])+ $variant:ident = $number:literal, $name:literal, $place:ident $(, $counter:ident)?;)*) => {
        /// Why a packet was dropped. Append only: names and numbers are in metrics and events.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])+ $variant = $number,)*
        }

        impl DropReason {
            /// Every reason, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word used in status, `why` and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Where it happens.
            #[must_use]
            pub const fn place(self) -> Place {
                match self {
                    $(Self::$variant => Place::$place,)*
                }
            }

            /// The counter of the programs that counts such packets; rules and inspection count
            /// their own.
            #[must_use]
            pub const fn counter(self) -> Option<Counter> {
                match self {
                    $($(Self::$variant => Some(Counter::$counter),)?)*
                    _ => None,
                }
            }
        }
    };
}

drop_reasons! {
    /// An address is blocked exactly, by hand or automatically.
    Address = 1, "address", Xdp, XdpDropHost;
    /// A prefix is blocked, by hand or automatically.
    Prefix = 2, "prefix", Xdp, XdpDropPrefix;
    /// A list of the configuration or a feed names the address.
    Listed = 3, "listed", Xdp, XdpDropListed;
    /// The source is over its packet rate.
    SourceRate = 4, "source_rate", Xdp, XdpDropSourceRate;
    /// The source is over its rate of TCP SYN packets.
    SynRate = 5, "syn_rate", Xdp, XdpDropSynRate;
    /// The source is in a range that is never routed.
    Bogon = 6, "bogon", Xdp, XdpDropBogon;
    /// A private source on a WAN interface.
    Private = 7, "private", Xdp, XdpDropPrivate;
    /// An address of this router as the source, or one address as both ends.
    Martian = 8, "martian", Xdp, XdpDropMartian;
    /// TCP flags that no stack sends.
    TcpFlags = 9, "tcp_flags", Xdp, XdpDropTcpFlags;
    /// The source is over its rate of ICMP packets.
    IcmpRate = 10, "icmp_rate", Xdp, XdpDropIcmpRate;
    /// Answers of UDP amplifiers beyond what the destination may get.
    Amplification = 11, "amplification", Xdp, XdpDropAmplification;
    /// The destination is over its packet rate.
    DestinationRate = 12, "destination_rate", Xdp, XdpDropDestinationRate;
    /// The destination is over its rate of TCP SYN packets of unknown sources.
    DestinationSyn = 13, "destination_syn", Xdp, XdpDropDestinationSyn;
    /// The source opens connections faster than it may.
    ConnectionRate = 14, "connection_rate", Xdp, XdpDropConnectionRate;
    /// A blocked flow, on its way in.
    FlowBlocked = 15, "flow_blocked", Tc, TcDropBlocked;
    /// A blocked flow, on its way out.
    FlowBlockedOut = 16, "flow_blocked_out", Tc, TcOutDropBlocked;
    /// A flow over its rate.
    FlowLimited = 17, "flow_limited", Tc, TcDropLimited;
    /// The connection's mark says blocked.
    ConnectionBlocked = 18, "connection_blocked", Netfilter;
    /// The packet's own verdict says blocked.
    VerdictBlocked = 19, "verdict_blocked", Netfilter;
    /// The flow cannot be decided, and `on_error` is drop.
    Undecided = 20, "undecided", Engine;
    /// The queue was full, and `policy` is closed.
    QueueFull = 21, "queue_full", Netfilter;
    /// The destination is under attack and over the rate that strangers have then.
    AttackedSyn = 22, "attacked_syn", Xdp, XdpDropAttackedSyn;
    /// The device sent more than its share to the queue, and `policy` is closed.
    QueueShare = 23, "queue_share", Netfilter;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_keep_their_numbers_and_every_drop_of_the_programs_has_one() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index + 1, "{}", reason.name());
        }
        for counter in Counter::ALL {
            let reasons =
                DropReason::ALL.iter().filter(|reason| reason.counter() == Some(counter)).count();
            assert_eq!(reasons, usize::from(counter.is_drop()), "{}", counter.name());
        }
    }
}
