//! DNS messages for tests: a question, and an answer of any size.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::error::{Attempt as _, Result};
use crate::host::Host;
use crate::traffic;

/// Record types.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Text, which can be long.
    Txt,
}

impl Kind {
    const fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
            Self::Txt => 16,
        }
    }
}

/// Payload size announced in a question (RFC 6891); common default of resolvers.
pub const EDNS_SIZE: u16 = 1232;

/// A question with EDNS.
#[must_use]
pub fn question(id: u16, name: &str, kind: Kind) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question, one additional record.
    message.extend_from_slice(&[0x01, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.number().to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    // OPT: root name, type 41, payload size as class.
    message.extend_from_slice(&[0, 0, 41]);
    message.extend_from_slice(&EDNS_SIZE.to_be_bytes());
    message.extend_from_slice(&[0; 6]);
    message
}

/// An answer to `question` of exactly `size` bytes, filled with TXT records.
#[must_use]
pub fn answer(question: &[u8], size: usize) -> Vec<u8> {
    // Without the question's OPT record of eleven bytes.
    let mut message = question[..question.len().saturating_sub(11)].to_vec();
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message[10..12].copy_from_slice(&[0, 0]);
    let mut records = 0_u16;
    // Pointer to the name, TXT, IN, no TTL, length of data.
    while message.len() + 14 <= size {
        let text = (size - message.len() - 13).min(255);
        // What is left for another record is either nothing or enough.
        let left = size - message.len() - 13 - text;
        let text = if (1..14).contains(&left) { text - (14 - left) } else { text };
        message.extend_from_slice(&[0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 0]);
        message.extend_from_slice(&(text as u16 + 1).to_be_bytes());
        message.push(text as u8);
        message.resize(message.len() + text, b'x');
        records += 1;
    }
    message[6..8].copy_from_slice(&records.to_be_bytes());
    message
}

/// Addresses in the answer section of `message`.
#[must_use]
pub fn addresses(message: &[u8]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let Some(count) = message.get(6..8).map(|n| u16::from_be_bytes([n[0], n[1]])) else {
        return found;
    };
    // The question: a name, type and class.
    let Some(end) = message.get(12..).and_then(|m| m.iter().position(|&byte| byte == 0)) else {
        return found;
    };
    let mut at = 12 + end + 5;
    for _ in 0..count {
        // Answers of dnsmasq point to the name of the question.
        let Some(&[_, _, t0, t1, _, _, _, _, _, _, l0, l1]) = message.get(at..at + 12) else {
            break;
        };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let Some(data) = message.get(at + 12..at + 12 + length) else { break };
        match (u16::from_be_bytes([t0, t1]), <[u8; 4]>::try_from(data), <[u8; 16]>::try_from(data))
        {
            (1, Ok(octets), _) => found.push(Ipv4Addr::from(octets).into()),
            (28, _, Ok(octets)) => found.push(Ipv6Addr::from(octets).into()),
            _ => {}
        }
        at += 12 + length;
    }
    found
}

/// Asks `server` from `host` and gives the answer as it came.
pub fn ask(host: &Host, server: IpAddr, name: &str, kind: Kind) -> Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = host.netns.enter(|| UdpSocket::bind(SocketAddr::new(any, 0)))?;
    let what = || format!("ask {server} for {name}");
    let socket = socket.attempt(what)?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).attempt(what)?;
    socket.send_to(&question(0x5155, name, kind), SocketAddr::new(server, 53)).attempt(what)?;
    let mut buffer = vec![0; 4096];
    let length = traffic::receive(&socket, &mut buffer).attempt(what)?;
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_exactly_the_size_asked_for() {
        let question = question(7, "big.test", Kind::Txt);
        for size in [512, 513, 777, 1231, 1232] {
            let answer = answer(&question, size);
            assert_eq!(answer.len(), size);
            assert_eq!(answer[..2], [0, 7]);
        }
    }
}
