//! What to do with a flow, and why.

/// What to do with the packets of a flow.
///
/// In maps a verdict is a plain `u8`: reading an unknown byte as an enum would be undefined
/// behaviour, so the wire form is converted by [`Verdict::from_wire`], never transmuted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use = "a verdict that nobody returns lets the packet through"]
#[repr(u8)]
pub enum Verdict {
    /// Nothing is known; a flow without an entry.
    #[default]
    Unknown = 0,
    /// Under inspection, or to be inspected again: untouched, so that the queue sees it.
    Inspect = 1,
    /// Vetted: marked for the fast path and not queued again.
    Trusted = 2,
    /// Refused: dropped as early as possible.
    Blocked = 3,
    /// Vetted, but held to a rate.
    Limited = 4,
}

impl Verdict {
    /// Reads the wire form. An unknown value means "inspect": a newer agent wrote it, and the safe
    /// answer to what this program does not understand is to look at the packet.
    #[inline(always)]
    pub const fn from_wire(value: u8) -> Self {
        match value {
            0 => Self::Unknown,
            2 => Self::Trusted,
            3 => Self::Blocked,
            4 => Self::Limited,
            _ => Self::Inspect,
        }
    }

    /// The wire form.
    #[inline(always)]
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        self as u8
    }

    /// The word used in status, logs and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Inspect => "inspect",
            Self::Trusted => "trusted",
            Self::Blocked => "blocked",
            Self::Limited => "limited",
        }
    }
}

/// Why a flow has its verdict. Append only: the number is in maps, pins and events.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Reason {
    /// The window ended and no rule matched.
    WindowEnd = 1,
    /// The ClientHello was read whole and no rule matched its name.
    HelloClean = 2,
    /// A rule names the domain of the ClientHello.
    DomainRule = 3,
    /// A rule allows the domain of the ClientHello.
    DomainAllowed = 4,
    /// A domain list has the domain of the ClientHello.
    DomainList = 5,
    /// A request of plain HTTP was read whole and no rule matched its host.
    RequestClean = 6,
    /// A rule fits what is known of the flow beside a domain.
    Rule = 7,
    /// A rule allows what is known of the flow beside a domain.
    RuleAllowed = 8,
    /// A rule of a ruleset matches a packet.
    Signature = 9,
    /// A rule that pauses holds.
    Paused = 10,
}

impl Reason {
    /// Every reason, in the order of the numbers.
    pub const ALL: [Self; 10] = [
        Self::WindowEnd,
        Self::HelloClean,
        Self::DomainRule,
        Self::DomainAllowed,
        Self::DomainList,
        Self::RequestClean,
        Self::Rule,
        Self::RuleAllowed,
        Self::Signature,
        Self::Paused,
    ];

    /// Reads the wire form.
    #[must_use]
    pub const fn from_wire(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::WindowEnd),
            2 => Some(Self::HelloClean),
            3 => Some(Self::DomainRule),
            4 => Some(Self::DomainAllowed),
            5 => Some(Self::DomainList),
            6 => Some(Self::RequestClean),
            7 => Some(Self::Rule),
            8 => Some(Self::RuleAllowed),
            9 => Some(Self::Signature),
            10 => Some(Self::Paused),
            _ => None,
        }
    }

    /// The wire form.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        self as u8
    }

    /// The word used in status, logs and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WindowEnd => "window_end",
            Self::HelloClean => "hello_clean",
            Self::DomainRule => "domain_rule",
            Self::DomainAllowed => "domain_allowed",
            Self::DomainList => "domain_list",
            Self::RequestClean => "request_clean",
            Self::Rule => "rule",
            Self::RuleAllowed => "rule_allowed",
            Self::Signature => "signature",
            Self::Paused => "paused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_reads_as_a_verdict_and_an_unknown_one_as_inspect() {
        for byte in 0..=u8::MAX {
            let verdict = Verdict::from_wire(byte);
            if byte <= 4 {
                assert_eq!(verdict.to_wire(), byte);
            } else {
                assert_eq!(verdict, Verdict::Inspect);
            }
        }
    }

    #[test]
    fn reasons_keep_their_numbers() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(reason.to_wire()), index + 1);
            assert_eq!(Reason::from_wire(reason.to_wire()), Some(reason));
        }
        assert_eq!(Reason::from_wire(0), None);
        assert_eq!(Reason::from_wire(Reason::ALL.len() as u8 + 1), None);
    }
}
