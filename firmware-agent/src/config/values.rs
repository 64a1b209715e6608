//! Values of a rule's options, as they are read.

use std::path::PathBuf;

use super::condition::{Device, Fingerprint, Moment, Ports};
use super::country::code;
use super::domain::plain;
use super::reader::FromUci;
use super::rule::PROTOCOLS;
use super::schema::Kind;

/// A domain name in the form in which names are compared.
pub(super) struct Domain(pub(super) String);

impl FromUci for Domain {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        domain(text).map(Self).map_err(str::to_owned)
    }
}

/// The name in lower case, without a final dot.
pub(crate) fn domain(text: &str) -> Result<String, &'static str> {
    plain(text).map(str::to_ascii_lowercase)
}

/// The name of a section.
pub(super) struct Name(pub(super) String);

impl FromUci for Name {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        if is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("is not the {kind}: it has letters, digits and _"))
        }
    }
}

/// Whether a section can have this name.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !text.is_empty() && text.bytes().all(fits)
}

/// The code of a country.
pub(super) struct Country(pub(super) String);

impl FromUci for Country {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        code(text).map(Self).map_err(str::to_owned)
    }
}

/// A JA3.
pub(super) struct Ja3(pub(super) Fingerprint);

impl FromUci for Ja3 {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        Fingerprint::ja3(text).map(Self).map_err(str::to_owned)
    }
}

/// A JA4.
pub(super) struct Ja4(pub(super) Fingerprint);

impl FromUci for Ja4 {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        Fingerprint::ja4(text).map(Self).map_err(str::to_owned)
    }
}

/// A JA3S.
pub(super) struct Ja3s(pub(super) Fingerprint);

impl FromUci for Ja3s {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        Fingerprint::ja3s(text).map(Self).map_err(str::to_owned)
    }
}

/// The SHA-1 of a certificate.
pub(super) struct Certificate(pub(super) Fingerprint);

impl FromUci for Certificate {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        Fingerprint::certificate(text).map(Self).map_err(str::to_owned)
    }
}

/// The name of a protocol.
pub(super) struct Protocol(pub(super) String);

impl FromUci for Protocol {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        let is_known = PROTOCOLS.contains(&text);
        is_known.then(|| Self(text.to_owned())).ok_or_else(|| format!("is not one of {kind}"))
    }
}

/// A file that the text of a rule can name.
pub(super) struct File(pub(super) PathBuf);

impl FromUci for File {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        if text.contains([',', ' ', '\t', '\n']) {
            return Err("has a blank or a comma".to_owned());
        }
        PathBuf::from_uci(text, kind).map(Self)
    }
}

/// Implements [`FromUci`] by [`FromStr`](std::str::FromStr).
macro_rules! from_str {
    ($($ty:ty),+) => {
        $(impl FromUci for $ty {
            fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
                text.parse().map_err(|why: &str| why.to_owned())
            }
        })+
    };
}
from_str!(Ports, Device, Moment, super::schedule::Slot);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_compared_in_lower_case_without_the_final_dot() {
        for (text, name) in [
            ("example.com", "example.com"),
            ("Ads.Example.COM.", "ads.example.com"),
            ("_dns.resolver.arpa", "_dns.resolver.arpa"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("zip", "zip"),
            ("1.2.3.4.example", "1.2.3.4.example"),
        ] {
            assert_eq!(domain(text).as_deref(), Ok(name));
        }
        assert!(domain(&format!("{}.example", "a".repeat(63))).is_ok());
    }

    #[test]
    fn what_is_no_domain_is_refused_with_a_hint() {
        for (text, hint) in [
            ("bücher.example", "xn--"),
            ("*.example.com", "sub-domains are included"),
            (".example.com", "sub-domains are included"),
            ("https://example.com", "without scheme"),
            ("example.com:443", "without scheme"),
            ("192.0.2.1", "blocklist"),
            ("2001:db8::1", "without scheme"),
            ("", "1 to 253"),
            (".", "1 to 253"),
            ("a..b", "between dots"),
            ("example.com..", "between dots"),
            ("-a.example", "between dots"),
            ("a-.example", "between dots"),
            ("a b.example", "between dots"),
            ("a\u{1b}.example", "between dots"),
        ] {
            let reason = domain(text).unwrap_err();
            assert!(reason.contains(hint), "{text}: {reason}");
        }
        assert!(domain(&format!("{}.example", "a".repeat(64))).is_err());
        assert!(domain(&["a"; 128].join(".")).is_err());
    }
}
