//! The head of an HTTP/1 request (RFC 9112): method, target, host, user agent.
//!
//! Owns finding the request at the start of a byte stream and reading what names its server. Nothing
//! is copied. What a proxy and a server may read differently is malformed here, never guessed: two
//! hosts, a folded line, a space before a colon.

use core::net::IpAddr;
use core::str::from_utf8;

use super::tls::HostName;

/// Longest head that is read. Servers refuse longer ones (nginx and Apache have 8 KiB a line).
pub const HEAD_MAX: usize = 16 * 1024;
/// Longest method: the longest registered one has 17 letters.
const METHOD_MAX: usize = 24;
/// Empty lines before a request that servers overlook (RFC 9112, section 2.2).
const BLANK_MAX: usize = 4;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer<'a> {
    /// They may become a request.
    NeedMore,
    /// They are none.
    NotHttp,
    /// They started as one and went wrong.
    Malformed(Malformed),
    /// A whole head.
    Request(Request<'a>),
}

/// How bytes that started as a request contradict the protocol. Append only: names are in
/// statistics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// Longer than [`HEAD_MAX`].
    HeadTooLong,
    /// A line that is no field: no colon, no name, or a space before the colon.
    Field,
    /// A line that continues the one before it.
    Folded,
    /// A control character, also a carriage return that ends no line.
    Control,
    /// Two `Host` fields.
    TwoHosts,
    /// A host that is neither a name nor an address.
    Host,
    /// A target of no known form.
    Target,
}

impl Malformed {
    /// The word used in status, logs and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HeadTooLong => "head_too_long",
            Self::Field => "field",
            Self::Folded => "folded",
            Self::Control => "control",
            Self::TwoHosts => "two_hosts",
            Self::Host => "host",
            Self::Target => "target",
        }
    }
}

/// A request's head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request<'a> {
    /// Method, in upper case.
    pub method: &'a str,
    /// Target as it was sent; no spaces, no control characters.
    pub target: &'a [u8],
    /// Minor version.
    pub minor: u8,
    /// Whom it is for.
    pub host: Host<'a>,
    /// `User-Agent`, without spaces around it; no control characters but tabs.
    pub user_agent: Option<&'a [u8]>,
    /// Bytes of the head, with the empty line behind it.
    pub len: usize,
}

/// The server that a request names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Host<'a> {
    /// It names none: HTTP/1.0, or an empty field.
    Absent,
    /// A name.
    Name(HostName<'a>),
    /// An address.
    Address(IpAddr),
}

/// Reads the request at the start of `bytes`: all that the client has sent so far.
#[must_use]
pub fn request(bytes: &[u8]) -> Answer<'_> {
    let (head, is_cut) =
        if bytes.len() > HEAD_MAX { (&bytes[..HEAD_MAX], true) } else { (bytes, false) };
    match read(head) {
        Ok(Answer::NeedMore) if is_cut => Answer::Malformed(Malformed::HeadTooLong),
        Ok(answer) => answer,
        Err(malformed) => Answer::Malformed(malformed),
    }
}

fn read(head: &[u8]) -> Result<Answer<'_>, Malformed> {
    let mut lines = Lines { rest: head };
    let mut blank = 0;
    let line = loop {
        match lines.next() {
            Some([]) if blank < BLANK_MAX => blank += 1,
            Some(line) => break line,
            None if may_become_request(lines.rest) => return Ok(Answer::NeedMore),
            None => return Ok(Answer::NotHttp),
        }
    };
    let Some((method, target, minor)) = request_line(line) else { return Ok(Answer::NotHttp) };
    if line.iter().any(u8::is_ascii_control) {
        return Err(Malformed::Control);
    }
    let (mut field_host, mut user_agent) = (None, None);
    loop {
        let Some(line) = lines.next() else { return Ok(Answer::NeedMore) };
        if line.is_empty() {
            break;
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"host") {
            if field_host.replace(host(value)?).is_some() {
                return Err(Malformed::TwoHosts);
            }
        } else if name.eq_ignore_ascii_case(b"user-agent") {
            user_agent.get_or_insert(value);
        }
    }
    // A target with a host stands above the field (RFC 9112, section 3.2.2).
    let host = match host_of_target(method, target)? {
        Some(host) => host,
        None => field_host.unwrap_or(Host::Absent),
    };
    let len = head.len() - lines.rest.len();
    Ok(Answer::Request(Request { method, target, minor, host, user_agent, len }))
}

/// Lines that end with a line feed, a carriage return before it or not (RFC 9112, section 2.2).
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The next whole line. What is not whole yet stays.
    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = (&self.rest[..end], &self.rest[end + 1..]);
        self.rest = rest;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

const fn is_method(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'-' || byte == b'_'
}

/// Whether a line that is not whole may become the first line of a request.
fn may_become_request(start: &[u8]) -> bool {
    let method = start.iter().take_while(|byte| is_method(**byte)).count();
    let (method, rest) = start.split_at(method);
    if method.first().is_some_and(|byte| !byte.is_ascii_uppercase()) || method.len() > METHOD_MAX {
        return false;
    }
    match rest {
        [] => true,
        [b'\r'] => method.is_empty(),
        // A control character in the target makes the whole line malformed, not another protocol.
        [b' ', ..] => !method.is_empty(),
        _ => false,
    }
}

/// Method, target and minor version of a request's first line.
fn request_line(line: &[u8]) -> Option<(&str, &[u8], u8)> {
    let end = line.iter().position(|byte| !is_method(*byte))?;
    let (method, rest) = line.split_at(end);
    if !(1..=METHOD_MAX).contains(&end) || !method[0].is_ascii_uppercase() {
        return None;
    }
    let rest = rest.strip_prefix(b" ")?;
    let end = rest.iter().rposition(|byte| *byte == b' ')?;
    let (target, version) = (&rest[..end], &rest[end + 1..]);
    let [digit @ b'0'..=b'9'] = version.strip_prefix(b"HTTP/1.")? else { return None };
    let is_whole = !target.is_empty() && !target.contains(&b' ');
    is_whole.then_some((from_utf8(method).ok()?, target, digit - b'0'))
}

/// Name and value of a field.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Malformed::Folded);
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed::Field)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    // Token characters (RFC 9110, section 5.6.2): a space before the colon is none of them.
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if name.is_empty() || !name.iter().all(is_token) {
        return Err(Malformed::Field);
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Malformed::Control);
    }
    Ok((name, value.trim_ascii()))
}

/// The host that a target itself names: of the absolute form, and of `CONNECT`.
fn host_of_target<'a>(method: &str, target: &'a [u8]) -> Result<Option<Host<'a>>, Malformed> {
    if method == "CONNECT" {
        return host(target).map(Some);
    }
    if target.starts_with(b"/") || target == b"*" {
        return Ok(None);
    }
    let colon = target.iter().position(|byte| *byte == b':').ok_or(Malformed::Target)?;
    let scheme_fits = target[..colon].first().is_some_and(u8::is_ascii_alphabetic)
        && target[..colon].iter().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b));
    let authority = target[colon + 1..].strip_prefix(b"//").filter(|_| scheme_fits);
    let authority = authority.ok_or(Malformed::Target)?;
    let end = authority.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(authority.len());
    let authority = &authority[..end];
    // A user before the host is not sent by clients (RFC 9110, section 4.2.4), but servers take it.
    let start = authority.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
    host(&authority[start..]).map(Some)
}

/// The host of `host[:port]`.
pub(super) fn host(text: &[u8]) -> Result<Host<'_>, Malformed> {
    if text.is_empty() {
        return Ok(Host::Absent);
    }
    let (host, port) = if text.first() == Some(&b'[') {
        let end = text.iter().position(|byte| *byte == b']').ok_or(Malformed::Host)?;
        (&text[1..end], &text[end + 1..])
    } else {
        let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
        text.split_at(end)
    };
    let port_fits = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !port_fits {
        return Err(Malformed::Host);
    }
    let is_bracketed = text.first() == Some(&b'[');
    let address = from_utf8(host).ok().and_then(|host| host.parse::<IpAddr>().ok());
    match (address, is_bracketed) {
        (Some(address @ IpAddr::V6(_)), true) | (Some(address @ IpAddr::V4(_)), false) => {
            Ok(Host::Address(address))
        }
        (None, false) => HostName::new(host).map(Host::Name).ok_or(Malformed::Host),
        _ => Err(Malformed::Host),
    }
}

#[cfg(test)]
mod tests;
