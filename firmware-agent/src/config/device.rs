//! Section `device`: what somebody calls a device of the household.

use super::condition::Mac;
use super::reader::{FromUci, Reader};
use super::schema::{Kind, OptionSpec, SectionSpec};

/// Most characters of a name.
const NAME_MAX: usize = 63;

/// A device with a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedDevice {
    /// Its hardware address.
    pub mac: Mac,
    /// What it is called, if anything.
    pub name: Option<String>,
}

pub(super) const SPEC: SectionSpec = SectionSpec {
    kind: "device",
    example: "tablet",
    about: "A device of the household.",
    #[rustfmt::skip]
    options: &[
        OptionSpec::required("mac", Kind::Hardware,
            "Its hardware address."),
        OptionSpec::optional("name", Kind::Text,
            "What it is called wherever it is shown, whatever it calls itself."),
    ],
};

/// Text that stays on a line.
struct Text(String);

impl FromUci for Text {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        let fits = !text.is_empty()
            && text.chars().nth(NAME_MAX).is_none()
            && !text.chars().any(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(format!("has not {kind}")) }
    }
}

impl NamedDevice {
    /// `None` without a hardware address, which is a mistake.
    pub(super) fn read(mut uci: Reader<'_>) -> Option<Self> {
        let name = uci.find("name").map(|Text(name)| name);
        Some(Self { mac: uci.find("mac")?, name })
    }
}
