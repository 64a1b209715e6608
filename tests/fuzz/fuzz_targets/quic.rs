//! Datagrams of a client, as they are and sealed as an attacker would: the bytes kept are the first
//! copies, as a model of single bytes has them, and memory stays bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::inspect::quic::{Answer, Client, Limits, Version, looks_like, seal};
use sluice::inspect::tls;

const LIMITS: Limits = Limits { bytes: 4096, pieces: 8 };
const ID: &[u8] = b"12345678";

/// What an answer comes to.
#[derive(Debug, PartialEq)]
enum Plain {
    More,
    Hello(usize),
    Malformed,
    Pieces,
    Cut,
}

fn plain(answer: &Answer<'_>) -> Plain {
    match answer {
        Answer::Nothing | Answer::News => Plain::More,
        Answer::Hello(hello, _) => Plain::Hello(hello.len),
        Answer::Malformed(_) | Answer::MalformedTls(_) => Plain::Malformed,
        Answer::Pieces => Plain::Pieces,
        Answer::Cut => Plain::Cut,
    }
}

fn check(client: &Client) {
    // The stream once, its growth by doubling, and each piece.
    assert!(client.memory() <= 4 * LIMITS.bytes as usize + 4096, "{}", client.memory());
    assert!(client.len() <= LIMITS.bytes as usize);
}

/// A protected Initial packet with `frames`, filled up to a whole datagram.
fn sealed(version: Version, number: u64, frames: &[u8]) -> Option<Vec<u8>> {
    let mut frames = frames.to_vec();
    frames.resize(frames.len().max(1160), 0);
    let kind = if version == Version::V1 { 0 } else { 0x10 };
    let mut header = vec![0xc3 | kind];
    header.extend(version.to_wire().to_be_bytes());
    header.push(ID.len() as u8);
    header.extend(ID);
    header.extend([0, 0]);
    header.extend((0x8000_0000 | (frames.len() as u32 + 20)).to_be_bytes());
    header.extend((number as u32).to_be_bytes());
    seal(version, ID, &header, number, &frames)
}

/// As they are.
fn raw(bytes: &[u8], room: &mut [u8]) {
    let mut client = Client::default();
    for (n, datagram) in bytes.split(|byte| *byte == 0xa5).enumerate() {
        let _ = looks_like(datagram, datagram.len().max(1200), 443);
        client.server_datagram(datagram);
        let _ = plain(&client.datagram(datagram, datagram.len().max(1200 * (n & 1)), room, LIMITS));
        check(&client);
    }
}

/// Any bytes as the frames of packets that are authentic.
fn frames(bytes: &[u8], room: &mut [u8]) {
    let mut client = Client::default();
    for (n, part) in bytes.chunks(400).enumerate() {
        let version = if n % 3 == 2 { Version::V2 } else { Version::V1 };
        let Some(datagram) = sealed(version, n as u64, part) else { return };
        assert_ne!(plain(&client.datagram(&datagram, datagram.len(), room, LIMITS)), Plain::Cut);
        check(&client);
    }
}

/// CRYPTO frames at chosen places of a stream, against a model.
fn stream(bytes: &[u8], room: &mut [u8]) {
    let mut client = Client::default();
    let mut model: Vec<Option<u8>> = vec![None; LIMITS.bytes as usize];
    let mut rest = bytes;
    let mut number = 0;
    let mut payload = Vec::new();
    // Two bytes say where and one how long; the highest bit of the place ends a datagram.
    while let Some((&[high, low, len], tail)) = rest.split_first_chunk() {
        let at = usize::from(u16::from_be_bytes([high & 0x7f, low])) % 4200;
        let (data, tail) = tail.split_at(tail.len().min(usize::from(len)));
        rest = tail;
        payload.extend([6, 0x40 | (at >> 8) as u8, at as u8, 0x40, data.len() as u8]);
        payload.extend(data);
        for (place, byte) in model.iter_mut().skip(at).zip(data) {
            place.get_or_insert(*byte);
        }
        if high & 0x80 == 0 && payload.len() < 1000 {
            continue;
        }
        let Some(datagram) = sealed(Version::V1, number, &payload) else { return };
        number += 1;
        payload.clear();
        let found = plain(&client.datagram(&datagram, datagram.len(), room, LIMITS));
        if found == Plain::Pieces {
            return;
        }
        let head: Vec<u8> = model.iter().map_while(|byte| *byte).collect();
        let expected = match tls::message(&head) {
            tls::Answer::NeedMore => Plain::More,
            tls::Answer::Hello(hello) => Plain::Hello(hello.len),
            tls::Answer::NotTls | tls::Answer::Malformed(_) => Plain::Malformed,
        };
        assert_eq!(found, expected);
        check(&client);
        if found != Plain::More {
            return;
        }
        assert_eq!(client.len(), head.len());
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, bytes)) = data.split_first() else { return };
    let mut room = [0; 4096];
    match mode % 3 {
        0 => raw(bytes, &mut room),
        1 => frames(bytes, &mut room),
        _ => stream(bytes, &mut room),
    }
});
