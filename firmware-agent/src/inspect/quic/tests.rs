//! Also the maker of packets that tests of other modules use.

mod connection;
mod wire;

use super::client::{Answer, Client, Limits};
use super::*;
use crate::inspect::tls::{self, tests::Recipe};

/// Bytes written as hexadecimal digits in lines.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// RFC 9001, appendix A.2.
pub(crate) fn sample_v1() -> Vec<u8> {
    hex(include_str!("../../../../tests/data/quic/rfc9001-a2.hex"))
}

/// RFC 9369, appendix A.2.
pub(crate) fn sample_v2() -> Vec<u8> {
    hex(include_str!("../../../../tests/data/quic/rfc9369-a2.hex"))
}

/// An integer in its form of `len` bytes.
fn varint(value: u64, len: usize) -> Vec<u8> {
    let mut bytes = value.to_be_bytes()[8 - len..].to_vec();
    bytes[0] |= (len.trailing_zeros() as u8) << 6;
    bytes
}

/// A CRYPTO frame.
pub(crate) fn crypto(offset: usize, data: &[u8]) -> Vec<u8> {
    [&[6][..], &varint(offset as u64, 4), &varint(data.len() as u64, 2), data].concat()
}

/// Makes the packets of a client.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) version: Version,
    /// Where the packets go.
    pub(crate) destination: Vec<u8>,
    /// Where the keys come from.
    pub(crate) keys_from: Vec<u8>,
    pub(crate) token: Vec<u8>,
    pub(crate) number: u64,
    pub(crate) number_len: usize,
}

impl Sender {
    pub(crate) fn new(version: Version, id: &[u8]) -> Self {
        let (destination, keys_from) = (id.to_vec(), id.to_vec());
        Self { version, destination, keys_from, token: vec![], number: 0, number_len: 1 }
    }

    /// The long header of a packet of `kind` up to its source connection id.
    fn header(&self, kind: u8) -> Vec<u8> {
        let kind = match self.version {
            Version::V1 => kind,
            Version::V2 => (kind + 1) & 3,
        };
        let mut header = vec![0xc0 | kind << 4 | (self.number_len - 1) as u8];
        header.extend(self.version.to_wire().to_be_bytes());
        header.push(self.destination.len() as u8);
        header.extend(&self.destination);
        header.extend([5, 1, 2, 3, 4, 5]);
        header
    }

    /// A packet whose content is no sealed one: Initial (0), 0-RTT (1) or Handshake (2).
    pub(crate) fn other(&self, kind: u8, len: usize) -> Vec<u8> {
        let token_len = if kind == 0 { vec![0] } else { vec![] };
        [self.header(kind), token_len, varint(len as u64, 2), vec![0x77; len]].concat()
    }

    /// An Initial packet with these frames.
    pub(crate) fn packet(&mut self, frames: &[u8]) -> Vec<u8> {
        let mut header = self.header(0);
        header.extend(varint(self.token.len() as u64, 2));
        header.extend(&self.token);
        header.extend(varint((self.number_len + frames.len() + 16) as u64, 2));
        header.extend(&self.number.to_be_bytes()[8 - self.number_len..]);
        let sealed = seal(self.version, &self.keys_from, &header, self.number, frames).unwrap();
        self.number += 1;
        sealed
    }

    /// An Initial packet filled with padding to the least length of a datagram.
    pub(crate) fn datagram(&mut self, frames: &[u8]) -> Vec<u8> {
        let overhead = self.clone().packet(&[0; 20]).len() - 20;
        let len = frames.len().max(DATAGRAM_MIN - overhead);
        let mut frames = frames.to_vec();
        frames.resize(len, 0);
        self.packet(&frames)
    }

    /// `message` in as many datagrams as it takes.
    pub(crate) fn flight(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        let parts = message.chunks(1100).enumerate();
        parts.map(|(n, part)| self.datagram(&crypto(n * 1100, part))).collect()
    }
}

const LIMITS: Limits = Limits { bytes: 16 * 1024 + 4, pieces: 32 };
const ID: &[u8] = b"\x83\x94\xc8\xf0\x3e\x51\x57\x08";

fn sender() -> Sender {
    Sender::new(Version::V1, ID)
}

fn show(answer: &Answer<'_>) -> String {
    match answer {
        Answer::Nothing => "nothing".into(),
        Answer::News => "news".into(),
        Answer::Cut => "cut".into(),
        Answer::Pieces => "pieces".into(),
        Answer::Malformed(cause) => cause.name().into(),
        Answer::MalformedTls(cause) => format!("tls: {}", cause.name()),
        Answer::Hello(hello, connection) => match hello.sni {
            tls::Sni::Name(name) => format!("{} {name}", connection.version.name()),
            tls::Sni::Absent | tls::Sni::Malformed => "hello".into(),
        },
    }
}

/// What a client is told about one datagram.
fn give(client: &mut Client, datagram: &[u8]) -> String {
    let mut room = vec![0; 16 * 1024];
    show(&client.datagram(datagram, datagram.len(), &mut room, LIMITS))
}

/// What a new client is told about each of these datagrams.
fn ask<D: AsRef<[u8]>>(datagrams: impl IntoIterator<Item = D>) -> Vec<String> {
    let mut client = Client::default();
    datagrams.into_iter().map(|datagram| give(&mut client, datagram.as_ref())).collect()
}

fn message(name: &str) -> Vec<u8> {
    Recipe::named(name).alpn(&[b"h3"]).versions(&[0x0304]).message()
}
