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

const VERBS: [(&str, Verb); 7] = [
    ("allow", Verb::Allow),
    ("deny", Verb::Deny),
    ("pause", Verb::Pause),
    ("resume", Verb::Resume),
    ("block", Verb::Block),
    ("unblock", Verb::Unblock),
    ("forget", Verb::Forget),
];

pub(super) const HELP: [(&str, &str); 7] = [
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

    pub(super) const fn operand(self) -> &'static str {
        match self {
            Self::Allow | Self::Deny => "the domain or address",
            Self::Pause | Self::Resume => "the device",
            Self::Block | Self::Unblock => "the address",
            Self::Forget => "the section",
        }
    }

    pub(super) fn request(
        self,
        operand: String,
        Options { device, seconds, .. }: Options,
    ) -> Request {
        let about = |subject| About { subject, device, seconds };
        match self {
            Self::Allow => Request::Allow(about(operand)),
            Self::Deny => Request::Deny(about(operand)),
            Self::Pause => Request::Pause(Hold { device: operand, kbit: None, seconds }),
            Self::Resume => Request::Resume { device: operand },
            Self::Block => Request::Block { subject: operand, seconds },
            Self::Unblock => Request::Unblock { subject: operand },
            Self::Forget => Request::Forget { section: operand },
        }
    }

    /// What the agent answered, for people.
    pub(super) fn show(self, answer: &serde_json::Value) -> String {
        let of = |name: &str| text::plain(answer[name].as_str().unwrap_or_default()).into_owned();
        match self {
            Self::Allow | Self::Deny | Self::Pause => {
                format!("section {} is written and in force\n", of("section"))
            }
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
            Command::Hand(Verb::Pause | Verb::Block, _) => (false, true),
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
    fn options_are_for_commands_that_use_them() {
        let both = Options { device: Some("x".to_owned()), seconds: Some(1), ..Options::default() };
        let timed = Options { device: None, ..both.clone() };
        let forced = Options { force: true, ..Options::default() };
        let switch = |on| Command::Switch { on, name: String::new() };
        assert!(forced.is_for(&switch(false)) && !forced.is_for(&switch(true)));
        let of = |verb| Command::Hand(verb, String::new());
        assert!(both.is_for(&of(Verb::Allow)) && !both.is_for(&of(Verb::Pause)));
        assert!(timed.is_for(&of(Verb::Pause)) && !timed.is_for(&of(Verb::Resume)));
        assert!(!timed.is_for(&Command::Reload) && Options::default().is_for(&Command::Reload));
    }
}
