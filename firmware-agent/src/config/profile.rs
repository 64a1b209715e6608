//! Section `profile`: how packets of a flow are treated by those who queue them.

use sluice_abi::flow::FlowLimit;
use sluice_abi::profile;

use super::reader::{Reader, words};
use super::rule::BURST_KIB_MAX;
use super::schema::{Kind, OptionSpec, SectionSpec};

/// The class of traffic that a profile belongs to: the tins of CAKE's diffserv4.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Class {
    /// None in particular: packets keep what they have.
    #[default]
    None,
    /// What can wait.
    Bulk,
    /// Everything else.
    BestEffort,
    /// What has to arrive steadily.
    Video,
    /// What has to arrive at once.
    Voice,
}
words!(Class,
    "none" => Self::None, "bulk" => Self::Bulk, "besteffort" => Self::BestEffort,
    "video" => Self::Video, "voice" => Self::Voice,
);

impl Class {
    /// The code point that puts a packet into this class.
    const fn dscp(self) -> Option<u8> {
        match self {
            Self::None => None,
            Self::Bulk => Some(8),
            Self::BestEffort => Some(0),
            Self::Video => Some(34),
            Self::Voice => Some(46),
        }
    }
}

/// Code points by the names of RFC 2474, 2597, 3246, 5865 and 8622.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Dscp {
    Keep,
    Of(u8),
}

#[rustfmt::skip]
words!(Dscp,
    "none" => Self::Keep,
    "cs0" => Self::Of(0), "le" => Self::Of(1), "cs1" => Self::Of(8), "af11" => Self::Of(10), "af12" => Self::Of(12), "af13" => Self::Of(14),
    "cs2" => Self::Of(16), "af21" => Self::Of(18), "af22" => Self::Of(20), "af23" => Self::Of(22),
    "cs3" => Self::Of(24), "af31" => Self::Of(26), "af32" => Self::Of(28), "af33" => Self::Of(30),
    "cs4" => Self::Of(32), "af41" => Self::Of(34), "af42" => Self::Of(36), "af43" => Self::Of(38),
    "cs5" => Self::Of(40), "va" => Self::Of(44), "ef" => Self::Of(46), "cs6" => Self::Of(48), "cs7" => Self::Of(56),
);

const DSCP_WORDS: &[&str] = &[
    "none", "cs0", "le", "cs1", "af11", "af12", "af13", "cs2", "af21", "af22", "af23", "cs3",
    "af31", "af32", "af33", "cs4", "af41", "af42", "af43", "cs5", "va", "ef", "cs6", "cs7",
];

/// How packets of a flow are treated.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Name of the section.
    pub name: String,
    /// The class.
    pub class: Class,
    /// The code point that packets get; `None` leaves them alone.
    pub dscp: Option<u8>,
    /// The kernel's priority of packets; 0 leaves it alone.
    pub priority: u32,
    /// Rate of each direction of each flow, in kbit/s; 0 for none.
    pub kbit: u32,
    /// Burst of that rate, in KiB; 0 for 300 ms' worth.
    pub burst_kib: u32,
}

pub(super) const SPEC: SectionSpec = SectionSpec {
    kind: "profile",
    example: "games",
    about: "How packets of flows that a rule gives this profile are marked and held to a rate. \
            There are default, bulk, interactive, video, voice and critical; a section of such a \
            name replaces that one, but default, which leaves packets alone.",
    #[rustfmt::skip]
    options: &[
        OptionSpec::new("class", Kind::Word(&["none", "bulk", "besteffort", "video", "voice"]), "none",
            "Class of traffic, by the tins of CAKE with diffserv4."),
        OptionSpec::optional("dscp", Kind::Word(DSCP_WORDS),
            "Code point that packets get when they leave; absent, the one of the class; none leaves it alone."),
        OptionSpec::new("priority", Kind::Number { min: 0, max: 15 }, "0",
            "Priority of packets for queues of the kernel that look at it (TC_PRIO); 0 leaves it alone."),
        OptionSpec::new("kbit", Kind::Number { min: 0, max: FlowLimit::KBIT_MAX }, "0",
            "Rate of each direction of each flow, in kbit/s; 0 is none."),
        OptionSpec::new("burst_kib", Kind::Number { min: 0, max: BURST_KIB_MAX }, "0",
            "What a quiet direction may send at once, in KiB; 0 is as much as in 300 ms, and 64 at least."),
    ],
};

/// The profile that leaves packets alone; its number is 0.
pub(super) const DEFAULT: &str = "default";

impl Profile {
    pub(super) fn read(name: String, mut uci: Reader<'_>) -> Self {
        if name == DEFAULT {
            uci.reject(
                uci.line(),
                "class",
                "belongs to the profile default, which leaves packets alone and cannot be changed"
                    .to_owned(),
            );
        }
        let class: Class = uci.get("class");
        Self {
            name,
            class,
            dscp: match uci.find("dscp") {
                None => class.dscp(),
                Some(Dscp::Keep) => None,
                Some(Dscp::Of(dscp)) => Some(dscp),
            },
            priority: uci.get("priority"),
            kbit: uci.get("kbit"),
            burst_kib: uci.get("burst_kib"),
        }
    }

    /// Whether packets leave with something that they did not come with.
    #[must_use]
    pub const fn marks(&self) -> bool {
        self.dscp.is_some() || self.priority != 0
    }

    /// The profiles that are always there, by number.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let profile = |name: &str, class: Class, dscp: Option<u8>, priority| Self {
            name: name.to_owned(),
            class,
            dscp,
            priority,
            kbit: 0,
            burst_kib: 0,
        };
        vec![
            profile(DEFAULT, Class::None, None, 0),
            profile("bulk", Class::Bulk, Class::Bulk.dscp(), 2),
            profile("interactive", Class::BestEffort, Some(18), 6),
            profile("video", Class::Video, Class::Video.dscp(), 4),
            profile("voice", Class::Voice, Class::Voice.dscp(), 6),
            profile("critical", Class::Voice, Some(40), 7),
        ]
    }

    /// Those with the sections of a file in their places, or behind them; the number of a profile is
    /// its place. `Err` names the first that has no place.
    pub fn numbered(sections: Vec<Self>) -> Result<Vec<Self>, String> {
        let mut all = Self::defaults();
        for section in sections {
            if let Some(known) = all.iter_mut().find(|known| known.name == section.name) {
                *known = section;
            } else if all.len() < profile::Profile::COUNT as usize {
                all.push(section);
            } else {
                return Err(section.name);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader::FromUci as _;

    #[test]
    fn the_words_of_code_points_are_those_that_are_read() {
        let kind = Kind::Word(DSCP_WORDS);
        let mut last = None;
        for word in DSCP_WORDS {
            let dscp = match Dscp::from_uci(word, kind).unwrap() {
                Dscp::Keep => None,
                Dscp::Of(dscp) => Some(dscp),
            };
            let digit = |at: usize| word.as_bytes()[at] - b'0';
            let defined = match (&word[..2], *word) {
                ("cs", _) => Some(8 * digit(2)),
                ("af", _) => Some(8 * digit(2) + 2 * digit(3)),
                (_, "le") => Some(1),
                (_, "va") => Some(44),
                (_, "ef") => Some(46),
                _ => None,
            };
            assert_eq!(dscp, defined, "{word}");
            assert!(dscp >= last, "{word}");
            last = dscp;
        }
        assert!(Dscp::from_uci("46", kind).is_err());
    }

    #[test]
    fn there_are_sixteen_numbers_and_six_of_them_are_taken() {
        let own = |name: String| Profile { name, ..Profile::defaults().remove(1) };
        let many = |count| (0..count).map(|n| own(format!("p{n}"))).collect::<Vec<_>>();
        let names: Vec<_> = Profile::defaults().into_iter().map(|profile| profile.name).collect();
        assert_eq!(names, ["default", "bulk", "interactive", "video", "voice", "critical"]);
        assert_eq!(Profile::numbered(many(10)).unwrap().len(), 16);
        assert_eq!(Profile::numbered(many(11)).unwrap_err(), "p10");
        let replaced = Profile { kbit: 7, ..own("voice".to_owned()) };
        let all = Profile::numbered(vec![replaced.clone()]).unwrap();
        assert_eq!((all.len(), &all[4]), (6, &replaced));
    }
}
