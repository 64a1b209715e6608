//! What a stream may open with, but for ClientHellos: any bytes give an answer, the answer about a
//! whole message does not depend on what follows, and names are host names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::inspect::http::{Answer, HEAD_MAX, Host, request};
use sluice::inspect::http2;
use sluice::inspect::protocol::{of_datagram, of_stream};
use sluice::inspect::tls::{Certificate, ServerAnswer, server_hello};
use sluice::inspect::upgrade::{Upgrade, look};

fuzz_target!(|data: &[u8]| {
    let Some((&[high, low, cut], bytes)) = data.split_first_chunk() else { return };
    let ports = [u16::from_be_bytes([high, low]), 40_000];
    let _ = (of_stream(bytes, ports), of_datagram(bytes, ports));
    let shorter = &bytes[..bytes.len() * usize::from(cut) / 256];

    if let Answer::Request(whole) = request(bytes) {
        assert!(whole.len <= bytes.len().min(HEAD_MAX));
        assert_eq!(request(&bytes[..whole.len]), Answer::Request(whole));
        if let Host::Name(name) = whole.host {
            assert!(name.as_written().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        }
    }
    // What has been said about fewer bytes holds for more.
    match request(shorter) {
        Answer::NeedMore => {}
        answer @ (Answer::NotHttp | Answer::Malformed(_) | Answer::Request(_)) => {
            assert_eq!(request(bytes), answer);
        }
    }
    if let http2::Answer::Request(whole) = http2::request(bytes) {
        assert!(whole.len <= bytes.len().min(HEAD_MAX));
        assert_eq!(http2::request(&bytes[..whole.len]), http2::Answer::Request(whole));
    }
    match http2::request(shorter) {
        http2::Answer::NeedMore => {}
        answer => assert_eq!(http2::request(bytes), answer),
    }
    // Random bytes have no preface.
    let begun = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], bytes].concat();
    if let http2::Answer::Request(whole) = http2::request(&begun) {
        assert_eq!(http2::request(&begun[..whole.len]), http2::Answer::Request(whole));
    }
    match look(shorter) {
        Upgrade::Lines => {}
        answer => assert_eq!(look(bytes), answer),
    }
    match server_hello(shorter) {
        ServerAnswer::NeedMore => {}
        ServerAnswer::Hello(hello, Certificate::NeedMore) => match server_hello(bytes) {
            ServerAnswer::Hello(same, _) => assert_eq!(same, hello),
            ServerAnswer::Malformed(_) => {}
            other => panic!("{other:?}"),
        },
        answer => assert_eq!(server_hello(bytes), answer),
    }
});
