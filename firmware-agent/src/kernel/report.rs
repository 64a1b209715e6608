//! What the kernel can do, why not, and what would enable it.

use std::sync::OnceLock;

use super::{Support, probe};

/// Something that a feature of Sluice needs from the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Capabilities of the agent.
    Privileges,
    /// Programs of type XDP.
    ProgramXdp,
    /// Programs of type `SCHED_CLS`.
    ProgramTc,
    /// Hash maps.
    MapHash,
    /// LRU hash maps.
    MapLruHash,
    /// Per-CPU arrays.
    MapPerCpuArray,
    /// Longest-prefix tries.
    MapLpmTrie,
    /// A file system for pins.
    Bpffs,
    /// The just-in-time compiler.
    Jit,
    /// Type information of the kernel.
    Btf,
    /// XDP in the network stack.
    XdpGeneric,
    /// tcx links.
    Tcx,
    /// The clsact qdisc with `cls_bpf`.
    Clsact,
    /// The unified control group tree.
    Cgroup2,
    /// Packet queues to user space.
    Nfqueue,
    /// Connection tracking over netlink.
    ConntrackNetlink,
    /// SYN cookies made for programs.
    SynCookies,
}

impl Need {
    /// Every need, in the order of the report.
    pub const ALL: [Self; 17] = [
        Self::Privileges,
        Self::ProgramXdp,
        Self::ProgramTc,
        Self::MapHash,
        Self::MapLruHash,
        Self::MapPerCpuArray,
        Self::MapLpmTrie,
        Self::Bpffs,
        Self::Jit,
        Self::Btf,
        Self::XdpGeneric,
        Self::Tcx,
        Self::Clsact,
        Self::Cgroup2,
        Self::Nfqueue,
        Self::ConntrackNetlink,
        Self::SynCookies,
    ];

    /// The word used in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Privileges => "privileges",
            Self::ProgramXdp => "program_xdp",
            Self::ProgramTc => "program_tc",
            Self::MapHash => "map_hash",
            Self::MapLruHash => "map_lru_hash",
            Self::MapPerCpuArray => "map_per_cpu_array",
            Self::MapLpmTrie => "map_lpm_trie",
            Self::Bpffs => "bpffs",
            Self::Jit => "jit",
            Self::Btf => "btf",
            Self::XdpGeneric => "xdp_generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::Cgroup2 => "cgroup2",
            Self::Nfqueue => "nfqueue",
            Self::ConntrackNetlink => "conntrack_netlink",
            Self::SynCookies => "syn_cookies",
        }
    }

    /// What to install or switch on when it is missing.
    #[must_use]
    pub const fn enabled_by(self) -> &'static str {
        match self {
            Self::Privileges => {
                "run as root, or with the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN"
            }
            Self::ProgramXdp
            | Self::ProgramTc
            | Self::MapHash
            | Self::MapLruHash
            | Self::MapPerCpuArray
            | Self::MapLpmTrie => "a kernel with CONFIG_BPF_SYSCALL and CONFIG_NET",
            Self::Bpffs => "mount -t bpf bpf /sys/fs/bpf",
            Self::Jit => "sysctl net.core.bpf_jit_enable=1 (CONFIG_BPF_JIT)",
            Self::Btf => "CONFIG_DEBUG_INFO_BTF; nothing of this release needs it",
            Self::XdpGeneric => "a kernel of 5.9 or later (XDP links)",
            Self::Tcx => "a kernel of 6.6 or later; clsact does the same",
            Self::Clsact => "the packages kmod-sched-core and kmod-sched-bpf",
            Self::Cgroup2 => {
                "CONFIG_CGROUPS and a mounted cgroup2; nothing of this release needs it"
            }
            Self::Nfqueue => "the package kmod-nft-queue (or kmod-nfnetlink-queue)",
            Self::ConntrackNetlink => "the package kmod-nf-conntrack-netlink",
            Self::SynCookies => {
                "a kernel of 6.0 or later with CONFIG_SYN_COOKIES; without, strangers are limited"
            }
        }
    }

    /// Whether the report should alarm when it is missing; without the others something better or
    /// something later is missing.
    #[must_use]
    pub const fn is_required(self) -> bool {
        !matches!(
            self,
            Self::Btf
                | Self::Cgroup2
                | Self::Tcx
                | Self::Jit
                | Self::ConntrackNetlink
                | Self::SynCookies
        )
    }
}

/// One line of the report.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Item {
    /// What was tried.
    pub need: Need,
    /// What the kernel answered.
    #[serde(flatten)]
    pub support: Support,
    /// A remark that is worth showing though it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What would enable it, when it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled_by: Option<&'static str>,
}

/// Everything that was asked of the kernel.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Report {
    /// Release of the running kernel.
    pub kernel: String,
    /// One item for each [`Need`].
    pub items: Vec<Item>,
}

impl Report {
    /// The report about the running kernel; probed once, then kept.
    pub fn of_this_kernel() -> &'static Self {
        static REPORT: OnceLock<Report> = OnceLock::new();
        REPORT.get_or_init(|| Self::new(probe::release(), probe::probe))
    }

    /// A report from the answers of `probe`.
    pub fn new(kernel: String, mut probe: impl FnMut(Need) -> (Support, Option<String>)) -> Self {
        let items = Need::ALL.into_iter().map(|need| {
            let (support, note) = probe(need);
            let enabled_by = (!support.is_yes()).then_some(need.enabled_by());
            Item { need, support, note, enabled_by }
        });
        Self { kernel, items: items.collect() }
    }

    /// What is known about `need`.
    #[must_use]
    pub fn support(&self, need: Need) -> &Support {
        // `new` makes an item for every need, in their order.
        &self.items[need as usize].support
    }

    /// The first thing without which no program can run, with its reason and the next step.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let needs = [
            Need::Privileges,
            Need::ProgramXdp,
            Need::ProgramTc,
            Need::MapHash,
            Need::MapLruHash,
            Need::MapPerCpuArray,
            Need::MapLpmTrie,
        ];
        needs.into_iter().find_map(|need| match self.support(need) {
            Support::No(reason) => {
                Some(format!("{}: {reason}; needs {}", need.name(), need.enabled_by()))
            }
            Support::Yes | Support::Unknown(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_listed_in_the_order_of_their_numbers() {
        for (number, need) in Need::ALL.into_iter().enumerate() {
            assert_eq!(need as usize, number, "{}", need.name());
        }
    }

    #[test]
    fn what_is_missing_comes_with_its_reason_and_what_enables_it() {
        let report = Report::new("5.15.0".to_owned(), |need| match need {
            Need::Tcx => (Support::No("Invalid argument".to_owned()), None),
            Need::Jit => (Support::Yes, Some("switched on".to_owned())),
            _ => (Support::Yes, None),
        });
        assert_eq!(report.support(Need::Tcx).reason(), "Invalid argument");
        assert_eq!(report.obstacle(), None);
        let json = serde_json::to_value(&report).unwrap();
        let item = |need: Need| json["items"][need as usize].clone();
        assert_eq!(item(Need::Tcx)["need"], "tcx");
        assert_eq!(item(Need::Tcx)["support"], "no");
        assert_eq!(item(Need::Tcx)["reason"], "Invalid argument");
        assert!(item(Need::Tcx)["enabled_by"].as_str().unwrap().contains("6.6"));
        assert_eq!(item(Need::Jit)["note"], "switched on");
        assert_eq!(item(Need::Jit).get("enabled_by"), None);
    }

    #[test]
    fn a_refusal_that_stops_everything_is_the_obstacle_and_ignorance_is_not() {
        let report = |support: Support| {
            Report::new(String::new(), move |need| match need {
                Need::MapLpmTrie => (support.clone(), None),
                _ => (Support::Yes, None),
            })
        };
        let obstacle = report(Support::No("Function not implemented".to_owned())).obstacle();
        assert!(obstacle.unwrap().starts_with("map_lpm_trie: Function not implemented; needs"));
        assert_eq!(report(Support::Unknown("later".to_owned())).obstacle(), None);
    }
}
