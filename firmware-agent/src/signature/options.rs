//! From the parts of a rule to what it means.

use super::condition::{FlowWants, Sizes, TcpFlags, Threshold};
use super::content::{Content, unquote};
use super::error::{Invalid, Refusal, option};
use super::line::Line;
use super::list::{Known, Variables, decimal};
use super::rule::{Action, Buffer, Header, Protocol, Rule, Transport};

/// Longest message that is kept; the rest is cut off.
pub const MSG_MAX: usize = 200;
/// Contents of one rule at most.
const CONTENTS_MAX: usize = 64;

/// What a rule asks of one buffer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// Which.
    pub buffer: Buffer,
    /// What `bsize` asks for.
    pub size: Option<Sizes>,
    /// What to find, in the order of the rule.
    pub contents: Vec<Content>,
}

/// A rule and its contents.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What it says of the packet.
    pub rule: Rule,
    /// What it says of buffers, each buffer once.
    pub groups: Vec<Group>,
    /// What it is about, for people; at most [`MSG_MAX`] bytes.
    pub msg: String,
}

/// Lists that rules wrote.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) variables: Variables,
    pub(super) addresses: Known<u128>,
    pub(super) ports: Known<u16>,
}

/// Whether a keyword belongs to the subset.
fn is_known(keyword: &str) -> bool {
    const KNOWN: [&str; 26] = [
        "msg",
        "sid",
        "rev",
        "gid",
        "classtype",
        "reference",
        "metadata",
        "priority",
        "target",
        "content",
        "nocase",
        "depth",
        "offset",
        "distance",
        "within",
        "startswith",
        "endswith",
        "fast_pattern",
        "rawbytes",
        "bsize",
        "dsize",
        "flow",
        "flags",
        "threshold",
        "detection_filter",
        "pkt_data",
    ];
    KNOWN.contains(&keyword) || Buffer::from_keyword(keyword).is_some()
}

/// Reads a rule that was taken apart. `file` and `line` are where it is.
pub(super) fn parse(
    line: &Line<'_>,
    lists: &mut Lists,
    file: u16,
    at: u32,
) -> Result<Parsed, Refusal> {
    let [action, protocol, source, source_port, arrow, destination, destination_port] = line.head;
    let mut unsupported: Vec<String> = Vec::new();
    for (keyword, _) in &line.options {
        if !is_known(keyword) && !unsupported.iter().any(|known| known == keyword) {
            unsupported.push((*keyword).to_owned());
        }
    }
    let action = match action {
        "alert" => Action::Alert,
        "pass" => Action::Pass,
        "drop" => Action::Drop,
        "reject" | "rejectsrc" => Action::Reject,
        other => {
            unsupported.push(named("action", other)?);
            Action::Alert
        }
    };
    let protocol = if let Some(protocol) = Protocol::from_keyword(protocol) {
        protocol
    } else {
        unsupported.push(named("protocol", protocol)?);
        Protocol::Any
    };
    let is_both_ways = match arrow {
        "->" => false,
        "<>" => true,
        "=>" => {
            unsupported.push("direction:=>".to_owned());
            false
        }
        _ => {
            return Err(
                Invalid::Shape("between source and destination is neither -> nor <>").into()
            );
        }
    };
    if !unsupported.is_empty() {
        return Err(Refusal::Unsupported(unsupported));
    }
    let variables = &lists.variables;
    let header = Header {
        protocol,
        source: lists.addresses.set(source, variables)?,
        source_port: lists.ports.set(source_port, variables)?,
        destination: lists.addresses.set(destination, variables)?,
        destination_port: lists.ports.set(destination_port, variables)?,
        is_both_ways,
    };
    let mut reader = Reader::default();
    for (keyword, value) in &line.options {
        reader.option(keyword, *value)?;
    }
    reader.finish(file, at, action, header)
}

/// A name for the counts, when the text is one.
fn named(part: &'static str, text: &str) -> Result<String, Invalid> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if (1..=32).contains(&text.len()) && text.bytes().all(is_word) {
        Ok(format!("{part}:{text}"))
    } else {
        Err(Invalid::Header { part, reason: "is no word" })
    }
}

/// What was read so far.
#[derive(Debug, Default)]
struct Reader {
    msg: String,
    sid: Option<u32>,
    gid: Option<u32>,
    rev: Option<u32>,
    flow: Option<FlowWants>,
    flags: Option<TcpFlags>,
    dsize: Option<Sizes>,
    threshold: Option<Threshold>,
    groups: Vec<Group>,
    /// The group that contents go to.
    group: Option<usize>,
    /// Whether modifiers have something to modify.
    has_content: bool,
}

impl Reader {
    fn option(&mut self, keyword: &str, value: Option<&str>) -> Result<(), Refusal> {
        match keyword {
            "msg" => {
                let text = value.and_then(unquote);
                self.msg = message(text.ok_or(option("msg", "no text in quotes"))?);
                Ok(())
            }
            "classtype" | "reference" | "metadata" | "target" => Ok(()),
            "priority" => number("priority", value).map(|_| ()),
            "sid" => once("sid", &mut self.sid, number("sid", value)?),
            "gid" => once("gid", &mut self.gid, number("gid", value)?),
            "rev" => once("rev", &mut self.rev, number("rev", value)?),
            "flow" => once("flow", &mut self.flow, FlowWants::new(value)?),
            "flags" => once("flags", &mut self.flags, TcpFlags::new(value)?),
            "dsize" => once("dsize", &mut self.dsize, Sizes::new("dsize", value)?),
            "threshold" => {
                once("threshold", &mut self.threshold, Threshold::new("threshold", value)?)
            }
            "detection_filter" => {
                let filter = Threshold::new("detection_filter", value)?;
                once("detection_filter", &mut self.threshold, filter)
            }
            "bsize" => self.bsize(value),
            "content" => self.content(value),
            "pkt_data" => self.turn_to(Buffer::Payload),
            other => match (Buffer::from_keyword(other), value) {
                (Some(buffer), None) => self.turn_to(buffer),
                (Some(_), Some(_)) => Err(option("content", "a buffer has a value")),
                (None, _) => self.modifier(other, value),
            },
        }
    }

    fn turn_to(&mut self, buffer: Buffer) -> Result<(), Refusal> {
        self.has_content = false;
        let place = self.groups.iter().position(|group| group.buffer == buffer);
        // Whether this means the same name again or another one differs between versions.
        if place.is_some() && buffer == Buffer::DnsQuery {
            return Err(Refusal::unsupported("dns.query:again"));
        }
        self.group = Some(place.unwrap_or_else(|| {
            self.groups.push(Group { buffer, size: None, contents: Vec::new() });
            self.groups.len() - 1
        }));
        Ok(())
    }

    fn current(&mut self) -> Option<&mut Group> {
        self.groups.get_mut(self.group?)
    }

    fn bsize(&mut self, value: Option<&str>) -> Result<(), Refusal> {
        let sizes = Sizes::new("bsize", value)?;
        match self.current() {
            Some(group) if group.buffer != Buffer::Payload => once("bsize", &mut group.size, sizes),
            _ => Err(option("bsize", "no buffer is named before it")),
        }
    }

    fn content(&mut self, value: Option<&str>) -> Result<(), Refusal> {
        let mut content = Content::new(value)?;
        if self.groups.iter().map(|group| group.contents.len()).sum::<usize>() >= CONTENTS_MAX {
            return Err(option("content", "more than 64 in one rule"));
        }
        if self.group.is_none() {
            self.turn_to(Buffer::Payload)?;
        }
        self.has_content = true;
        let Some(group) = self.current() else { return Ok(()) };
        // A hash is a number: its digits have no case.
        if group.buffer == Buffer::Ja3 {
            content.bytes.make_ascii_lowercase();
            content.is_nocase = true;
        }
        group.contents.push(content);
        Ok(())
    }

    fn modifier(&mut self, keyword: &str, value: Option<&str>) -> Result<(), Refusal> {
        let has_content = self.has_content;
        let content = self.current().and_then(|group| group.contents.last_mut());
        match content.filter(|_| has_content) {
            Some(content) => content
                .modify(keyword, value)
                .unwrap_or(Err(option("content", "an unknown modifier"))),
            None => Err(option("content", "a modifier before any content of its buffer")),
        }
    }

    fn finish(
        self,
        file: u16,
        line: u32,
        action: Action,
        header: Header,
    ) -> Result<Parsed, Refusal> {
        let sid = self.sid.filter(|sid| *sid > 0).ok_or(option("sid", "is missing"))?;
        let mut flow = self.flow.unwrap_or_default();
        let forced = match header.protocol {
            Protocol::Packet => Some(false),
            Protocol::Stream => Some(true),
            _ => None,
        };
        if let Some(forced) = forced
            && flow.in_stream.replace(forced).is_some_and(|said| said != forced)
        {
            return Err(option("flow", "contradicts the protocol"));
        }
        let is_tcp = matches!(
            header.protocol,
            Protocol::Transport(Transport::Tcp) | Protocol::Packet | Protocol::Stream
        );
        if self.flags.is_some() && !is_tcp {
            return Err(option("flags", "the protocol is not tcp"));
        }
        if self.dsize.is_some() {
            if self.groups.iter().any(|group| group.buffer != Buffer::Payload) {
                return Err(option("dsize", "does not go with a buffer"));
            }
            if flow.in_stream == Some(true) {
                return Err(option("dsize", "is of a packet, not of a stream"));
            }
            // The size is that of a packet, so the contents must be in it.
            flow.in_stream = Some(false);
        }
        let mut fast = 0;
        for group in &self.groups {
            if group.contents.is_empty() && group.size.is_none() {
                return Err(option("content", "a buffer is named and nothing asked of it"));
            }
            for content in &group.contents {
                content.check()?;
                fast += u32::from(content.is_fast);
                let has_upper = content.bytes.iter().any(u8::is_ascii_uppercase);
                if group.buffer == Buffer::HttpHost && has_upper && !content.is_negated {
                    return Err(option(
                        "content",
                        "http.host is in lower case, this never matches",
                    ));
                }
                let len = content.bytes.len();
                if !content.is_negated && group.size.is_some_and(|size| !size.reaches(len)) {
                    return Err(option("bsize", "is less than a content has"));
                }
            }
        }
        if fast > 1 {
            return Err(option("fast_pattern", "is given twice"));
        }
        let rule = Rule {
            sid,
            gid: self.gid.unwrap_or(1),
            rev: self.rev.unwrap_or(0),
            file,
            line,
            action,
            header,
            flow,
            flags: self.flags,
            dsize: self.dsize,
            threshold: self.threshold,
        };
        Ok(Parsed { rule, groups: self.groups, msg: self.msg })
    }
}

/// A message without the backslashes that the rule language asks for.
fn message(text: &str) -> String {
    let mut msg = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let letter = if letter == '\\' { letters.next().unwrap_or(letter) } else { letter };
        if msg.len() + letter.len_utf8() > MSG_MAX {
            break;
        }
        msg.push(letter);
    }
    msg
}

fn once<T>(keyword: &'static str, place: &mut Option<T>, value: T) -> Result<(), Refusal> {
    if place.replace(value).is_some() {
        return Err(option(keyword, "is given twice"));
    }
    Ok(())
}

fn number(keyword: &'static str, value: Option<&str>) -> Result<u32, Refusal> {
    value.and_then(decimal).ok_or(option(keyword, "no number"))
}

#[cfg(test)]
mod tests;
