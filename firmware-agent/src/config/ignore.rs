//! Section `ignore`: what is never inspected.

use super::condition::{Mac, Ports};
use super::net::Net;
use super::reader::{FromUci, Reader};
use super::schema::{Fallback, Kind, OptionSpec, SectionSpec};

/// Connections that never go to the queue. Lists, rates and blocks concern them all the same.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ignore {
    /// Whether it counts.
    pub enabled: bool,
    /// Either end lies in one of these.
    pub nets: Vec<Net>,
    /// A device of the household with one of these hardware addresses began it.
    pub devices: Vec<Mac>,
    /// It goes to one of these ports.
    pub ports: Vec<Ports>,
}

pub(super) const SPEC: SectionSpec = SectionSpec {
    kind: "ignore",
    example: "backup",
    about: "Connections that are never inspected: those that any of its lists names. Blocklists, rates and blocked flows concern them as before.",
    #[rustfmt::skip]
    options: &[
        OptionSpec::new("enabled", Kind::Flag, "1",
            "Whether the section counts."),
        OptionSpec::list("net", Kind::Net, Fallback::Empty,
            "Addresses and prefixes: connections from or to them."),
        OptionSpec::list("device", Kind::Hardware, Fallback::Empty,
            "Hardware addresses: connections that such a device opens."),
        OptionSpec::list("port", Kind::Ports, Fallback::Empty,
            "Ports of the side that is connected to."),
    ],
};

impl FromUci for Mac {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        text.parse().map_err(str::to_owned)
    }
}

impl Ignore {
    pub(super) fn read(mut uci: Reader<'_>) -> Self {
        let ignore = Self {
            enabled: uci.get("enabled"),
            nets: uci.values("net"),
            devices: uci.values("device"),
            ports: uci.values("port"),
        };
        if ignore.nets.is_empty() && ignore.devices.is_empty() && ignore.ports.is_empty() {
            uci.warn(uci.line(), "net", "the section names nothing and does nothing".to_owned());
        }
        ignore
    }
}
