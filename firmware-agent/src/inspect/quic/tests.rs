//! Also the maker of packets that tests of other modules use.

use super::client::{Answer, Client, Limits};
use super::*;

/// A packet written as hexadecimal digits in lines.
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

const LIMITS: Limits = Limits { bytes: 16 * 1024 + 4, pieces: 32 };

fn show(answer: &Answer<'_>) -> String {
    match answer {
        Answer::Nothing => "nothing".into(),
        Answer::News => "news".into(),
        Answer::Cut => "cut".into(),
        Answer::Pieces => "pieces".into(),
        Answer::Malformed(cause) => cause.name().into(),
        Answer::MalformedTls(cause) => format!("tls: {}", cause.name()),
        Answer::Hello(hello, connection) => {
            let name = match hello.sni {
                crate::inspect::tls::Sni::Name(name) => name.to_string(),
                crate::inspect::tls::Sni::Absent => "-".into(),
                crate::inspect::tls::Sni::Malformed => "!".into(),
            };
            format!("{} {name}", connection.version.name())
        }
    }
}

#[test]
fn the_samples_of_the_standards_are_read() {
    for (sample, expected) in [(sample_v1(), "v1 example.com"), (sample_v2(), "v2 example.com")] {
        let mut client = Client::default();
        let mut room = vec![0; 16 * 1024];
        let answer = client.datagram(&sample, sample.len(), &mut room, LIMITS);
        assert_eq!(show(&answer), expected);
    }
}
