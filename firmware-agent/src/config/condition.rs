//! What a rule can ask of a flow, as values with one way of writing each.
//!
//! The words are those of options and of the text of a rule. None holds a blank or a comma.

use std::fmt;
use std::str::FromStr;

use super::net::Net;
use crate::text::write_hex;

/// Ports of the service, with the transport if that matters: `443`, `6881-6889`, `udp/53`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ports {
    /// Number of the transport; 0 is TCP and UDP.
    pub transport: u8,
    /// The first port.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

/// Transports by their words.
const TRANSPORTS: [(&str, u8); 2] = [("tcp", 6), ("udp", 17)];

impl Ports {
    /// Whether a port of this transport is among them.
    #[must_use]
    pub const fn contain(&self, transport: u8, port: u16) -> bool {
        (self.transport == 0 || self.transport == transport)
            && self.first <= port
            && port <= self.last
    }
}

impl FromStr for Ports {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "is not a port or a range of ports, such as 443, 6881-6889 or udp/53";
        let (transport, ports) = match text.split_once('/') {
            Some((word, ports)) => {
                let known = TRANSPORTS.iter().find(|(name, _)| *name == word);
                (known.map(|(_, number)| *number).ok_or(WRONG)?, ports)
            }
            None => (0, text),
        };
        let port = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if is_number { text.parse::<u16>().ok() } else { None }
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { transport, first, last }),
            _ => Err(WRONG),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((word, _)) = TRANSPORTS.iter().find(|(_, number)| *number == self.transport) {
            write!(f, "{word}/")?;
        }
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// A hardware address.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "is not a hardware address, such as 02:00:5e:10:00:01";
        let mut mac = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(WRONG)?;
            // `from_str_radix` takes a sign.
            let is_hex = part.bytes().all(|b| b.is_ascii_hexdigit());
            let read = if is_hex { u8::from_str_radix(part, 16).ok() } else { None };
            *byte = read.ok_or(WRONG)?;
        }
        if parts.next().is_none() { Ok(Self(mac)) } else { Err(WRONG) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0, ":")
    }
}

/// What tells a device of the household from others.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Device {
    /// Its hardware address.
    Mac(Mac),
    /// Its address, or a prefix of several.
    Net(Net),
}

impl FromStr for Device {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(mac) = text.parse() {
            return Ok(Self::Mac(mac));
        }
        let net = text.parse().ok();
        net.map(Self::Net).ok_or("is not a hardware address, an IP address or a prefix")
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Net(net) => net.fmt(f),
        }
    }
}

/// What tells one side of a TLS connection from others.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Fingerprint {
    /// JA3 of a ClientHello, an MD5.
    Ja3([u8; 16]),
    /// JA4 of a ClientHello, 36 characters.
    Ja4([u8; 36]),
    /// JA3S of a ServerHello, an MD5.
    Ja3s([u8; 16]),
    /// SHA-1 of a server's certificate.
    Certificate([u8; 20]),
}

impl Fingerprint {
    /// Reads a JA3.
    pub fn ja3(text: &str) -> Result<Self, &'static str> {
        hash(text).map(Self::Ja3).ok_or("is not a JA3: it has 32 hexadecimal digits")
    }

    /// Reads a JA3S.
    pub fn ja3s(text: &str) -> Result<Self, &'static str> {
        hash(text).map(Self::Ja3s).ok_or("is not a JA3S: it has 32 hexadecimal digits")
    }

    /// Reads the SHA-1 of a certificate.
    pub fn certificate(text: &str) -> Result<Self, &'static str> {
        hash(text)
            .map(Self::Certificate)
            .ok_or("is not the SHA-1 of a certificate: it has 40 hexadecimal digits")
    }

    /// Whether it is a server's.
    #[must_use]
    pub const fn is_of_server(&self) -> bool {
        matches!(self, Self::Ja3s(_) | Self::Certificate(_))
    }

    /// Reads a JA4.
    pub fn ja4(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "is not a JA4, such as t13d1516h2_8daaf6152771_e5627efa2ab1";
        let bytes: [u8; 36] = text.as_bytes().try_into().ok().ok_or(WRONG)?;
        let fits = bytes.iter().enumerate().all(|(place, byte)| match place {
            10 | 23 => *byte == b'_',
            0..10 => byte.is_ascii_alphanumeric(),
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
        });
        if fits { Ok(Self::Ja4(bytes)) } else { Err(WRONG) }
    }
}

/// Exactly as many bytes in hexadecimal digits.
fn hash<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // `from_str_radix` takes a sign.
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ja3(bytes) | Self::Ja3s(bytes) => write_hex(f, bytes, ""),
            Self::Certificate(bytes) => write_hex(f, bytes, ""),
            Self::Ja4(bytes) => f.write_str(str::from_utf8(bytes).unwrap_or_default()),
        }
    }
}

/// An instant in universal time: `2026-11-21T20:00:00Z`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Moment(
    /// Seconds since 1970.
    pub i64,
);

/// Days from 1970-01-01 to a date of the Gregorian calendar.
#[must_use]
pub const fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // The year begins in March, so that the day that comes and goes is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a count of days since 1970-01-01.
#[must_use]
pub const fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "is not a time such as 2026-11-21T20:00:00Z";
        let form: Vec<u8> =
            text.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b }).collect();
        if form != b"0000-00-00T00:00:00Z" {
            return Err(WRONG);
        }
        let number = |from: usize, to: usize| {
            text.get(from..to).and_then(|digits| digits.parse::<i64>().ok()).ok_or(WRONG)
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let days = days_of(year, month, day);
        let is_date = (1..=12).contains(&month) && date_of(days) == (year, month, day);
        if !is_date || hour > 23 || minute > 59 || second > 59 {
            return Err(WRONG);
        }
        Ok(Self(days * 86_400 + hour * 3600 + minute * 60 + second))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.0.div_euclid(86_400));
        let second = self.0.rem_euclid(86_400);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stays<T: FromStr + fmt::Display>(text: &str) -> bool {
        text.parse::<T>().is_ok_and(|value| value.to_string() == text)
    }

    #[test]
    fn ports_are_one_or_a_range_of_either_transport() {
        for text in ["0", "443", "6881-6889", "udp/53", "tcp/1-65535"] {
            assert!(stays::<Ports>(text), "{text}");
        }
        for text in ["", "65536", "2-1", "+1", "1-", "-1", "sctp/1", "udp/", "1 ", "1-2-3", "/1"] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
        let ports: Ports = "udp/50-60".parse().unwrap();
        assert!(ports.contain(17, 50) && ports.contain(17, 60));
        assert!(!ports.contain(17, 49) && !ports.contain(17, 61) && !ports.contain(6, 55));
        assert!("7".parse::<Ports>().unwrap().contain(6, 7));
    }

    #[test]
    fn a_device_is_known_by_hardware_address_address_or_prefix() {
        for text in ["02:00:5e:10:00:01", "192.0.2.7", "2001:db8::/64"] {
            assert!(stays::<Device>(text), "{text}");
        }
        assert_eq!("02-00-5E-10-00-01".parse(), "02:00:5e:10:00:01".parse::<Mac>());
        for text in
            ["", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "+2:00:5e:10:00:01", "2:0:5:1:0:1"]
        {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
        assert!("laptop".parse::<Device>().is_err());
    }

    #[test]
    fn fingerprints_have_their_form() {
        let ja3 = "e7d705a3286e19ea42f587b344ee6865";
        assert_eq!(Fingerprint::ja3(ja3).unwrap().to_string(), ja3);
        assert_eq!(Fingerprint::ja3(&ja3.to_uppercase()), Fingerprint::ja3(ja3));
        assert!(Fingerprint::ja3(&ja3[1..]).is_err() && Fingerprint::ja3(&"g".repeat(32)).is_err());
        let ja4 = "t13d1516h2_8daaf6152771_e5627efa2ab1";
        assert_eq!(Fingerprint::ja4(ja4).unwrap().to_string(), ja4);
        for wrong in [&ja4[1..], ja3, "t13d1516h2-8daaf6152771_e5627efa2ab1"] {
            assert!(Fingerprint::ja4(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_servers_are_known_by_has_its_form() {
        let (md5, sha1) =
            ("ec74a5c51106f0419184d0dd08fb05bc", "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(Fingerprint::ja3s(md5).unwrap().to_string(), md5);
        assert_eq!(Fingerprint::certificate(&sha1.to_uppercase()).unwrap().to_string(), sha1);
        assert!(Fingerprint::ja3s(sha1).is_err() && Fingerprint::certificate(md5).is_err());
        assert!(Fingerprint::certificate(&format!("+{}", &sha1[1..])).is_err());
        assert_ne!(Fingerprint::ja3s(md5), Fingerprint::ja3(md5), "one side is not the other");
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696),
            ("2026-11-21T20:00:00Z", 1_795_291_200),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(text.parse(), Ok(Moment(seconds)), "{text}");
            assert_eq!(Moment(seconds).to_string(), text);
        }
        for text in [
            "2026-11-21T20:00:00",
            "2026-02-29T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-13-10T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01 10:00:00Z",
            "+026-01-01T10:00:00Z",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
        for days in (-800_000..800_000).step_by(37) {
            let (year, month, day) = date_of(days);
            assert_eq!(days_of(year, month, day), days);
        }
    }
}
