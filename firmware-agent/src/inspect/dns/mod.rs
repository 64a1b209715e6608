//! DNS messages (RFC 1035): questions, and the answers that lead to addresses and names.
//!
//! Owns reading messages and finding them in packets. Nothing is allocated to read a message, and
//! its work is bounded: a name has 255 bytes and 16 pointers at most, each strictly backwards, and
//! only the first 64 answers are read. What follows the answers, EDNS among it, is not looked at.
//! Does not own what an answer means for flows.

mod name;
mod record;
mod tap;

pub use self::name::{HOPS_MAX, LABEL_MAX, Labels, NAME_MAX, Name};
pub use self::record::{Data, Hints, Protocols, Record, Service};
pub use self::tap::{Found, PORT, Tap};

use self::record::u16_at;

/// Answers that are read at most.
pub const ANSWERS_MAX: u16 = 64;
/// Addresses of one message that count at most.
pub const ADDRESSES_MAX: usize = 16;
/// Length of a header (RFC 1035, section 4.1.1).
const HEADER: usize = 12;
/// The class of the internet (RFC 1035, section 3.2.4).
pub const CLASS_IN: u16 = 1;

/// Record types (RFC 1035, section 3.2.2, and those after it).
pub mod kind {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// Another name for the same.
    pub const CNAME: u16 = 5;
    /// The name behind an address.
    pub const PTR: u16 = 12;
    /// An IPv6 address (RFC 3596).
    pub const AAAA: u16 = 28;
    /// How to reach a service (RFC 9460).
    pub const SVCB: u16 = 64;
    /// The same for HTTPS.
    pub const HTTPS: u16 = 65;

    /// The word for a type, as zone files have it.
    #[must_use]
    pub const fn name(kind: u16) -> Option<&'static str> {
        Some(match kind {
            A => "A",
            2 => "NS",
            CNAME => "CNAME",
            6 => "SOA",
            PTR => "PTR",
            15 => "MX",
            16 => "TXT",
            AAAA => "AAAA",
            33 => "SRV",
            35 => "NAPTR",
            39 => "DNAME",
            41 => "OPT",
            43 => "DS",
            46 => "RRSIG",
            47 => "NSEC",
            48 => "DNSKEY",
            50 => "NSEC3",
            52 => "TLSA",
            SVCB => "SVCB",
            HTTPS => "HTTPS",
            255 => "ANY",
            257 => "CAA",
            _ => return None,
        })
    }
}

/// The word for a code of an answer (RFC 6895, section 2.3).
#[must_use]
pub const fn rcode_name(rcode: u8) -> Option<&'static str> {
    Some(match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        _ => return None,
    })
}

/// How bytes contradict the format. Append only: names are in statistics and events.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// Shorter than a header.
    Header,
    /// More than one question (RFC 9619).
    Questions,
    /// The message ends inside something.
    Truncated,
    /// A label of a reserved kind (RFC 1035, section 4.1.4; RFC 6891, section 5).
    Label,
    /// A name of more than 255 bytes.
    NameTooLong,
    /// A pointer that does not lead strictly backwards, one pointer too many, or one where none may
    /// be.
    Pointer,
    /// Data that do not fit their type.
    Data,
    /// Parameters of a service out of order, or not of their form (RFC 9460, section 2.2).
    Parameters,
    /// A message of DNS over TCP that is shorter than a header.
    Frame,
}

impl Malformed {
    /// The word used in status, logs and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Questions => "questions",
            Self::Truncated => "truncated",
            Self::Label => "label",
            Self::NameTooLong => "name_too_long",
            Self::Pointer => "pointer",
            Self::Data => "data",
            Self::Parameters => "parameters",
            Self::Frame => "frame",
        }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// About whom.
    pub name: Name<'a>,
    /// Type of the records that are wanted.
    pub kind: u16,
    /// Their class.
    pub class: u16,
}

/// A message whose question and first [`ANSWERS_MAX`] answers are well-formed.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    flags: u16,
    question: Option<Question<'a>>,
    /// Where the answers start, and how many can be read.
    answers: (usize, u16),
}

impl<'a> Message<'a> {
    /// Reads the message at the start of `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() < HEADER {
            return Err(Malformed::Header);
        }
        let word = |at| u16_at(bytes, at).ok_or(Malformed::Header);
        let (flags, questions, answers) = (word(2)?, word(4)?, word(6)?);
        let mut message = Self { bytes, flags, question: None, answers: (HEADER, 0) };
        if message.opcode() != 0 {
            // Sections of other operations mean other things.
            return Ok(message);
        }
        let mut at = HEADER;
        match questions {
            0 => {}
            1 => {
                let (name, end) = Name::read(bytes, at, true)?;
                let kind = u16_at(bytes, end).ok_or(Malformed::Truncated)?;
                let class = u16_at(bytes, end + 2).ok_or(Malformed::Truncated)?;
                message.question = Some(Question { name, kind, class });
                at = end + 4;
            }
            _ => return Err(Malformed::Questions),
        }
        message.answers.0 = at;
        for _ in 0..answers.min(ANSWERS_MAX) {
            match Record::read(bytes, at) {
                Ok((_, end)) => at = end,
                // What was cut to fit says so.
                Err(Malformed::Truncated) if message.is_truncated() => break,
                Err(malformed) => return Err(malformed),
            }
            message.answers.1 += 1;
        }
        Ok(message)
    }

    /// The number by which an answer finds its question.
    #[must_use]
    pub fn id(&self) -> u16 {
        u16_at(self.bytes, 0).unwrap_or_default()
    }

    /// Whether it is an answer.
    #[must_use]
    pub const fn is_response(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// The operation; 0 is a query.
    #[must_use]
    pub const fn opcode(&self) -> u8 {
        (self.flags >> 11 & 15) as u8
    }

    /// Whether it was cut to fit its transport.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// How the answer came out; see [`rcode_name`]. The upper bits that EDNS adds are not looked at.
    #[must_use]
    pub const fn rcode(&self) -> u8 {
        (self.flags & 15) as u8
    }

    /// What is asked.
    #[must_use]
    pub const fn question(&self) -> Option<Question<'a>> {
        self.question
    }

    /// The first answers, [`ANSWERS_MAX`] at most.
    pub fn answers(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let (bytes, (mut at, count)) = (self.bytes, self.answers);
        (0..count).map_while(move |_| {
            let (record, end) = Record::read(bytes, at).ok()?;
            at = end;
            Some(record)
        })
    }

    /// Calls `each` with the addresses that the answers give to the name that was asked about,
    /// directly or by way of other names of it; [`ADDRESSES_MAX`] at most.
    pub fn addresses(&self, mut each: impl FnMut(core::net::IpAddr)) {
        let Some(question) = self.question.filter(|question| question.class == CLASS_IN) else {
            return;
        };
        let mut chain = [question.name; HOPS_MAX + 1];
        let mut known = 1;
        let mut name = question.name;
        for slot in chain.iter_mut().skip(1) {
            let next = self.answers().find_map(|record| match record.data {
                Data::Cname(target) if record.name == name => Some(target),
                _ => None,
            });
            let Some(target) = next else { break };
            (name, *slot) = (target, target);
            known += 1;
        }
        let chain = chain.get(..known).unwrap_or_default();
        let mut left = ADDRESSES_MAX;
        let mut give = |address| {
            if left > 0 {
                left -= 1;
                each(address);
            }
        };
        for record in self.answers().filter(|record| chain.contains(&record.name)) {
            match record.data {
                Data::A(address) => give(address.into()),
                Data::Aaaa(address) => give(address.into()),
                Data::Service(service) => service.hints().for_each(&mut give),
                Data::Cname(_) | Data::Ptr(_) | Data::Other => {}
            }
        }
    }

    /// Calls `each` with the names that the answers give to the address that was asked about.
    pub fn reverse(&self, mut each: impl FnMut(core::net::IpAddr, Name<'a>)) {
        let Some(question) = self.question.filter(|question| question.kind == kind::PTR) else {
            return;
        };
        let Some(address) = question.name.reverse_address() else { return };
        for record in self.answers().filter(|record| record.name == question.name) {
            if let Data::Ptr(name) = record.data {
                each(address, name);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
