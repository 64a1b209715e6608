//! DNS messages: any bytes are a message or malformed, what follows a message changes nothing, bounds
//! hold, and a stream of TCP gives the same messages however its bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::inspect::dns::{
    ADDRESSES_MAX, ANSWERS_MAX, Data, LABEL_MAX, Malformed, Message, NAME_MAX, Name, Tap,
};

fn check(name: &Name<'_>) -> String {
    let len: usize = name.labels().map(|label| label.len() + 1).sum();
    assert!(len <= NAME_MAX + 1);
    assert!(name.labels().all(|label| (1..=LABEL_MAX).contains(&label.len())));
    let text = name.to_string();
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
    if name.is_host() {
        assert_eq!(text.len() + 1, len);
    }
    let _ = name.reverse_address();
    assert!(name == name);
    text
}

/// Everything that is read of a message.
fn told(message: &Message<'_>) -> String {
    let mut told = format!(
        "{} {} {} {} {}",
        message.id(),
        message.is_response(),
        message.opcode(),
        message.is_truncated(),
        message.rcode()
    );
    if let Some(question) = message.question() {
        told += &format!(" {} {} {}", check(&question.name), question.kind, question.class);
    }
    for record in message.answers() {
        told += &format!(" {} {:?}", check(&record.name), record.data);
        match record.data {
            Data::Cname(name) | Data::Ptr(name) => drop(check(&name)),
            Data::Service(service) => {
                check(&service.target);
                let hints = service.hints().count();
                told += &format!(" {:?} {hints}", service.alpn().collect::<Vec<_>>());
            }
            _ => {}
        }
    }
    assert!(message.answers().count() <= usize::from(ANSWERS_MAX));
    let mut addresses = 0;
    message.addresses(|address| {
        addresses += 1;
        told += &format!(" {address}");
    });
    assert!(addresses <= ADDRESSES_MAX);
    message.reverse(|address, name| told += &format!(" {address} {name}"));
    told
}

fn tcp(seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    packet.extend([0x9c, 0x40, 0, 53]);
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(payload);
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet
}

/// What a tap finds in packets.
fn found(packets: &[Vec<u8>]) -> Vec<Result<String, Malformed>> {
    let mut tap = Tap::new([1, 2]);
    let mut all = Vec::new();
    for packet in packets {
        tap.packet(packet, packet.len(), |found| {
            assert!(found.query().is_none_or(|message| !message.is_response()));
            assert!(found.response().is_none(), "it goes to port 53");
            all.push(found.message.map(|message| told(&message)));
        });
    }
    assert!(tap.streams() <= 1);
    all
}

fuzz_target!(|data: &[u8]| {
    let Some((&[cut, more], bytes)) = data.split_first_chunk() else { return };
    let shorter = &bytes[..bytes.len() * usize::from(cut) / 256];
    if let (Ok(message), Ok(longer)) = (Message::parse(shorter), Message::parse(bytes)) {
        // Unless it says itself that it was cut.
        if !message.is_truncated() {
            assert_eq!(told(&message), told(&longer));
        }
    } else if let Ok(message) = Message::parse(shorter) {
        assert!(message.is_truncated(), "what follows makes it malformed");
    }
    if let Ok(message) = Message::parse(bytes) {
        told(&message);
    }
    if bytes.len() > 4096 {
        return;
    }
    let syn = tcp(99, 2, &[]);
    let whole = found(&[syn.clone(), tcp(100, 0x18, bytes)]);
    let step = usize::from(more) + 1;
    let mut pieces: Vec<Vec<u8>> = (0..)
        .step_by(step)
        .zip(bytes.chunks(step))
        .map(|(at, piece)| tcp(100 + at, 0x18, piece))
        .collect();
    if pieces.len() > 1 && pieces.len() < 8 && cut & 1 == 1 {
        pieces.reverse();
    }
    pieces.insert(0, syn);
    assert_eq!(found(&pieces), whole);
});
