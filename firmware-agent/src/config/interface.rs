//! Section `interface`: a network device and what is attached to it.

use sluice_abi::attach::Role;

use super::cost::Change;
use super::reader::{FromUci, Reader, words};
use super::schema::{Kind, OptionSpec, SectionSpec};

/// How `xdp_shield` should be attached.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum XdpWish {
    /// In the driver, or else in the fast path, or else behind the driver, or else, what lists block, in sets of nftables; and in the card too where it takes it.
    #[default]
    Auto,
    /// The same, and a card that does not take it is a fault.
    Hardware,
    /// In the driver only.
    Native,
    /// In the fast path only.
    Tc,
    /// Behind the driver only.
    Generic,
    /// In sets of nftables.
    Nft,
    /// Not at all.
    Off,
}

impl XdpWish {
    /// Whether the fast path may do the shield's work.
    #[must_use]
    pub const fn may_be_in_tc(self) -> bool {
        matches!(self, Self::Auto | Self::Hardware | Self::Tc)
    }

    /// Whether sets of nftables may drop what lists block, where no program does.
    #[must_use]
    pub const fn may_be_in_nft(self) -> bool {
        matches!(self, Self::Auto | Self::Hardware | Self::Nft)
    }
}

words!(XdpWish,
    "auto" => Self::Auto, "hardware" => Self::Hardware, "native" => Self::Native, "tc" => Self::Tc, "generic" => Self::Generic, "nft" => Self::Nft, "off" => Self::Off,
);

/// What happens to packets from and to an interface that the agent cannot look at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ZonePolicy {
    /// What the section about the agent says.
    #[default]
    Main,
    /// They are forwarded, unless the other interface is closed.
    Open,
    /// They are dropped.
    Closed,
}
words!(ZonePolicy, "main" => Self::Main, "open" => Self::Open, "closed" => Self::Closed);

/// A network device and what is attached to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    /// Name of the section.
    pub name: String,
    /// The device.
    pub device: String,
    /// Which side of the router it is on.
    pub role: Role,
    /// How `xdp_shield` should be attached.
    pub xdp: XdpWish,
    /// Whether the flow programs are attached.
    pub tc: bool,
    /// Whether new flows that it forwards are inspected.
    pub inspect: bool,
    /// What happens to new flows while the agent cannot look at them.
    pub policy: ZonePolicy,
}

pub(super) const SPEC: SectionSpec = SectionSpec {
    kind: "interface",
    example: "wan",
    about: "A network device and what is attached to it. At least one in each role is needed.",
    #[rustfmt::skip]
    options: &[
        OptionSpec::required("device", Kind::Device,
            "The device, as ip link shows it.").costs(Change::Reattach),
        OptionSpec::required("role", Kind::Word(&["lan", "wan"]),
            "Towards the household (lan) or the provider (wan).").costs(Change::Reattach),
        OptionSpec::new("xdp", Kind::Word(&["auto", "hardware", "native", "tc", "generic", "nft", "off"]), "auto",
            "Where blocklists and rates work: in the driver (native), at the entrance of the stack (tc), before that but behind the driver (generic: SYN cookies and option spread need this or native), the best that works in this order (auto), or nowhere (off). With nft, and with auto where no program can, sets of nftables drop what lists block: there are no rates, no checks and no numbers by list then. Cards that run programs hold some listed addresses as well; with hardware, one that does not is reported.").costs(Change::Reattach),
        OptionSpec::new("tc", Kind::Flag, "1",
            "Whether packets of decided flows are marked or dropped here.").costs(Change::Reattach),
        OptionSpec::new("inspect", Kind::Flag, "1",
            "Whether new flows that pass here are inspected.").up_to(Change::Reload),
        OptionSpec::new("policy", Kind::Word(&["main", "open", "closed"]), "main",
            "What happens to new flows from and to this interface while the agent cannot look at them: as option policy of the agent says (main), forwarded (open) or dropped (closed); between two interfaces dropped, if one of them is closed.").costs(Change::Reload),
    ],
};

/// A name that the kernel takes for a network device.
#[derive(Default)]
struct Device(String);

impl FromUci for Device {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        if text.is_empty() || text.len() > 15 {
            return Err("is not 1 to 15 characters long, as names of devices are".to_owned());
        }
        let fits = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'"' | b'\\');
        if matches!(text, "." | "..") || !text.bytes().all(fits) {
            return Err("is not a name that a device can have".to_owned());
        }
        if text == "lo" {
            return Err("is the loopback device, through which nothing is forwarded".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl Interface {
    pub(super) fn read(name: String, mut uci: Reader<'_>) -> Self {
        let Device(device) = uci.get("device");
        let interface = Self {
            name,
            device,
            role: uci.find("role").unwrap_or(Role::Lan),
            xdp: uci.get("xdp"),
            tc: uci.get("tc"),
            inspect: uci.get("inspect"),
            policy: uci.get("policy"),
        };
        if interface.xdp == XdpWish::Off && !interface.tc && !interface.inspect {
            let reason = "xdp, tc and inspect are all off: the section does nothing".to_owned();
            uci.warn(uci.line(), "device", reason);
        }
        interface
    }
}
