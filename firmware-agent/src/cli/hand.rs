//! Commands by which somebody decides.

use super::Command;
use crate::control::Request;
use crate::control::hand::{About, Hold};
use crate::text;

/// What is decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    Allow,
    Deny,
    Pause,
    Resume,
    Limit,
    Rename,
    Block,
    Unblock,
    Forget,
}

/// Options of these commands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Options {
    pub(super) device: Option<String>,
    pub(super) seconds: Option<u32>,
    pub(super) force: bool,
}

const VERBS: [(&str, Verb); 9] = [
    ("allow", Verb::Allow),
    ("deny", Verb::Deny),
    ("pause", Verb::Pause),
    ("resume", Verb::Resume),
    ("limit", Verb::Limit),
    ("rename", Verb::Rename),
    ("block", Verb::Block),
    ("unblock", Verb::Unblock),
    ("forget", Verb::Forget),
];

pub(super) const HELP: [(&str, &str); 9] = [
    (
        "allow",
        "usage: sluice [--socket PATH] [--json] allow DOMAIN|ADDRESS|PREFIX [--device DEVICE] [--for TIME]\n\nWrites a rule, or an allowlist where a blocklist has the address, into the configuration and puts it into force. Needs root.\n",
    ),
    (
        "deny",
        "usage: sluice [--socket PATH] [--json] deny DOMAIN|ADDRESS|PREFIX [--device DEVICE] [--for TIME]\n\nWrites a rule that blocks it into the configuration and puts it into force. Needs root.\n",
    ),
    (
        "pause",
        "usage: sluice [--socket PATH] [--json] pause DEVICE [--for TIME]\n\nBlocks everything of a device, also what is going on, until its time is over or resume. Needs root.\n",
    ),
    (
        "resume",
        "usage: sluice [--socket PATH] [--json] resume DEVICE\n\nEnds a pause. Needs root.\n",
    ),
    (
        "limit",
        "usage: sluice [--socket PATH] [--json] limit DEVICE KBIT [--for TIME]\n\nHolds each direction of each connection of a device to a rate in kbit/s; 0 takes that back. Needs root.\n",
    ),
    (
        "rename",
        "usage: sluice [--socket PATH] [--json] rename DEVICE NAME\n\nCalls a device something; an empty name takes that back. Needs root.\n",
    ),
    (
        "block",
        "usage: sluice [--socket PATH] [--json] block ADDRESS|PREFIX [--for TIME]\n\nDrops packets from and to it at once. Without --for it is written into the configuration. Needs root.\n",
    ),
    (
        "unblock",
        "usage: sluice [--socket PATH] [--json] unblock ADDRESS|PREFIX\n\nLifts a block that was made by hand or automatically. Needs root.\n",
    ),
    (
        "forget",
        "usage: sluice [--socket PATH] [--json] forget SECTION\n\nTakes a section out of the configuration that was made by hand; its name begins with by_hand. Needs root.\n",
    ),
];

impl Verb {
    pub(super) fn of(name: &str) -> Option<Self> {
        VERBS.iter().find(|(known, _)| *known == name).map(|(_, verb)| *verb)
    }

    pub(super) const fn operands(self) -> &'static [&'static str] {
        match self {
            Self::Allow | Self::Deny => &["the domain or address"],
            Self::Pause | Self::Resume => &["the device"],
            Self::Limit => &["the device", "the rate"],
            Self::Rename => &["the device", "the name"],
            Self::Block | Self::Unblock => &["the address"],
            Self::Forget => &["the section"],
        }
    }

    pub(super) fn request(
        self,
        operands: Vec<String>,
        Options { device, seconds, .. }: Options,
    ) -> Result<Request, String> {
        let mut operands = operands.into_iter();
        let operand = operands.next().unwrap_or_default();
        let second = operands.next().unwrap_or_default();
        let about = |subject| About { subject, device, seconds };
        Ok(match self {
            Self::Allow => Request::Allow(about(operand)),
            Self::Deny => Request::Deny(about(operand)),
            Self::Pause => Request::Pause(Hold { device: operand, kbit: None, seconds }),
            Self::Resume => Request::Resume { device: operand },
            Self::Limit => {
                let kbit = second.parse().map_err(|_no_number| {
                    format!("limit: `{}` is no rate: kbit/s, a number", text::plain(&second))
                })?;
                Request::Limit(Hold { device: operand, kbit: Some(kbit), seconds })
            }
            Self::Rename => Request::Rename { device: operand, name: second },
            Self::Block => Request::Block { subject: operand, seconds },
            Self::Unblock => Request::Unblock { subject: operand },
            Self::Forget => Request::Forget { section: operand },
        })
    }

    /// What the agent answered, for people.
    pub(super) fn show(self, answer: &serde_json::Value) -> String {
        let of = |name: &str| text::plain(answer[name].as_str().unwrap_or_default()).into_owned();
        match self {
            Self::Allow | Self::Deny | Self::Pause => {
                format!("section {} is written and in force\n", of("section"))
            }
            // A rate of 0 and an empty name take something back.
            Self::Limit | Self::Rename => format!("section {} is changed\n", of("section")),
            Self::Resume | Self::Forget => format!("section {} is taken away\n", of("section")),
            Self::Block => format!("{} is blocked\n", of("entry")),
            Self::Unblock => format!("{} is not blocked any more\n", of("entry")),
        }
    }
}

impl Options {
    /// Whether the command has a use for what is given.
    pub(super) const fn is_for(&self, command: &Command) -> bool {
        let (has_device, has_end) = match command {
            Command::Hand(Verb::Allow | Verb::Deny, _) => (true, true),
            Command::Hand(Verb::Pause | Verb::Limit | Verb::Block, _) => (false, true),
            _ => (false, false),
        };
        let has_force = matches!(command, Command::Switch { on: false, .. });
        (has_device || self.device.is_none())
            && (has_end || self.seconds.is_none())
            && (has_force || !self.force)
    }
}

/// Reads a length of time: a number and its unit.
pub(super) fn seconds(text: &str) -> Result<u32, lexopt::Error> {
    let found = text::seconds(text).and_then(|seconds| u32::try_from(seconds).ok());
    found.filter(|seconds| *seconds != 0).ok_or_else(|| {
        format!("`{}` is not a time such as 90s, 15m, 2h or 1d", text::plain(text)).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, expected) in [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400)] {
            assert_eq!(seconds(text).unwrap(), expected);
        }
        for text in ["", "s", "90", "0h", "-1s", "+1s", "1w", "1 h", "99999d", "1.5h"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_is_a_number() {
        let request = |kbit: &str| {
            let operands = vec!["192.0.2.1".to_owned(), kbit.to_owned()];
            Verb::Limit.request(operands, Options::default())
        };
        let expected = Hold { device: "192.0.2.1".to_owned(), kbit: Some(2000), seconds: None };
        assert!(matches!(request("2000"), Ok(Request::Limit(hold)) if hold == expected));
        for wrong in ["", "-1", "2mbit", "99999999999"] {
            assert!(request(wrong).is_err_and(|why| why.contains("is no rate")), "{wrong}");
        }
    }

    #[test]
    fn options_are_for_commands_that_use_them() {
        let both = Options { device: Some("x".to_owned()), seconds: Some(1), ..Options::default() };
        let timed = Options { device: None, ..both.clone() };
        let forced = Options { force: true, ..Options::default() };
        let switch = |on| Command::Switch { on, name: String::new() };
        assert!(forced.is_for(&switch(false)) && !forced.is_for(&switch(true)));
        let of = |verb| Command::Hand(verb, Vec::new());
        assert!(both.is_for(&of(Verb::Allow)) && !both.is_for(&of(Verb::Pause)));
        assert!(timed.is_for(&of(Verb::Pause)) && !timed.is_for(&of(Verb::Resume)));
        assert!(!timed.is_for(&Command::Reload) && Options::default().is_for(&Command::Reload));
    }
}
