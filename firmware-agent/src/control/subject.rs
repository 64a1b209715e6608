//! What somebody asks `why` about.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::config::Mac;

/// Something that lists, rules and decided flows may know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// An address.
    Address(IpAddr),
    /// A device of the household.
    Device(Mac),
    /// A flow, by the ends of either direction: `A:P > B:P`, as `sluice flows` prints it, with or without
    /// the protocol before it.
    Flow(SocketAddr, SocketAddr),
    /// A domain, in lower case and without a final dot.
    Domain(String),
}

impl FromStr for Subject {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        if let Ok(mac) = text.parse() {
            return Ok(Self::Device(mac));
        }
        if text.contains(char::is_whitespace) || text.contains('>') {
            return flow(text).ok_or(
                "is no flow: it takes two ends, such as 192.0.2.1:40000 > 198.51.100.7:443",
            );
        }
        if text.is_empty() {
            return Err("is empty");
        }
        Ok(Self::Domain(text.trim_end_matches('.').to_ascii_lowercase()))
    }
}

fn flow(text: &str) -> Option<Subject> {
    let ends = text.strip_prefix("tcp ").or_else(|| text.strip_prefix("udp ")).unwrap_or(text);
    let (from, to) = ends.split_once('>').or_else(|| ends.trim().split_once(' '))?;
    let end = |text: &str| -> Option<SocketAddr> {
        let end: SocketAddr = text.trim().trim_end_matches('-').trim_end().parse().ok()?;
        Some(SocketAddr::new(end.ip().to_canonical(), end.port()))
    };
    Some(Subject::Flow(end(from)?, end(to)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_what_it_looks_like() {
        let read = |text: &str| text.parse::<Subject>();
        let address = |text: &str| Ok(Subject::Address(text.parse().unwrap()));
        assert_eq!(read(" 192.0.2.1 "), address("192.0.2.1"));
        assert_eq!(read("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_eq!(read("2001:db8::1"), address("2001:db8::1"));
        assert_eq!(read("02:00:00:00:00:0A"), Ok(Subject::Device(Mac([2, 0, 0, 0, 0, 10]))));
        for (text, name) in
            [("Ads.Example.com.", "ads.example.com"), ("1.2.3", "1.2.3"), ("x:1", "x:1")]
        {
            assert_eq!(read(text), Ok(Subject::Domain(name.to_owned())));
        }
        let flow =
            |from: &str, to: &str| Ok(Subject::Flow(from.parse().unwrap(), to.parse().unwrap()));
        for text in [
            "192.0.2.1:4 > 198.51.100.7:443",
            "tcp 192.0.2.1:4 > 198.51.100.7:443",
            "192.0.2.1:4 -> 198.51.100.7:443",
            "192.0.2.1:4>198.51.100.7:443",
            "udp 192.0.2.1:4 198.51.100.7:443",
            "[::ffff:192.0.2.1]:4 > 198.51.100.7:443",
        ] {
            assert_eq!(read(text), flow("192.0.2.1:4", "198.51.100.7:443"), "{text}");
        }
        assert_eq!(
            read("[2001:db8::1]:4 > [2001:db8::2]:5"),
            flow("[2001:db8::1]:4", "[2001:db8::2]:5")
        );
        for text in ["", "  "] {
            assert_eq!(read(text), Err("is empty"));
        }
        for text in [
            "a b",
            "192.0.2.1:4 >",
            "> 192.0.2.1:4",
            "192.0.2.1:4 > 192.0.2.1:99999",
            "192.0.2.1 > 192.0.2.2",
            "tcp 192.0.2.1:4",
        ] {
            assert!(read(text).unwrap_err().starts_with("is no flow"), "{text}");
        }
    }
}
