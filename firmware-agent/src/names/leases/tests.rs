//! Files as dnsmasq and odhcpd write them, and what becomes of a name when a lease moves.

use std::net::IpAddr;

use super::*;
use crate::config::DhcpServer::{Dnsmasq, Odhcpd};

const NOW: Now = Now { unix_s: Some(1_700_000_000), monotonic_s: 100 };

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

#[expect(clippy::unnecessary_wraps, reason = "as leases have it")]
fn mac(last: u8) -> Option<Mac> {
    Some(Mac([2, 0, 0x5e, 0x10, 0, last]))
}

fn lease(at: &str, last: u8, name: &str) -> Lease {
    Lease { addr: addr(at), mac: mac(last), name: super::name(name), until: Until::Open }
}

/// Leases with one line each: address, hardware address, name, end.
fn shown(leases: &[Lease]) -> Vec<String> {
    let one = |lease: &Lease| {
        let mac = lease.mac.map_or_else(|| "-".to_owned(), |mac| mac.to_string());
        let name = lease.name.as_deref().unwrap_or("(none)");
        format!("{} {mac} {name} {:?}", IpAddr::from(lease.addr), lease.until)
    };
    leases.iter().map(one).collect()
}

/// R133: as dnsmasq 2.90 writes it, for clients of both families, with and without a name.
const DNSMASQ: &str = "\
1700003600 02:00:5e:10:00:01 192.168.1.100 phone 01:02:00:5e:10:00:01
1700003600 02:00:5e:10:00:02 192.168.1.101 * *
0 02:00:5e:10:00:03 192.168.1.102 for-good ff:00:00:00:03:00:01
3600 02:00:5e:10:00:04 192.168.1.103 no-clock *
1700003600 06-02:00:5e:10:00:05 192.168.1.104 odd-link *
duid 00:01:00:01:2d:5b:2a:9f:02:00:5e:10:00:fe
1700003600 17763843 fd00::1f3 phone 00:01:00:01:2d:5b:2a:9f:02:00:5e:10:00:01
1700003600 T17763844 fd00::1f4 tablet 00:03:00:01:02:00:5e:10:00:06
";

#[test]
fn leases_of_dnsmasq_are_read() {
    let read = parse(Dnsmasq, DNSMASQ.as_bytes());
    assert_eq!(
        shown(&read),
        [
            "192.168.1.100 02:00:5e:10:00:01 phone Unix(1700003600)",
            "192.168.1.101 02:00:5e:10:00:02 (none) Unix(1700003600)",
            "192.168.1.102 02:00:5e:10:00:03 for-good Open",
            "192.168.1.103 02:00:5e:10:00:04 no-clock Open",
            "192.168.1.104 - odd-link Unix(1700003600)",
            "fd00::1f3 - phone Unix(1700003600)",
            "fd00::1f4 - tablet Unix(1700003600)",
        ]
    );
}

/// As it was until 2025, with lines for the resolver and digits without colons, and as it is now.
const ODHCPD: &str = "\
# br-lan 02005e100001 ipv4 phone 1700003600 c0a80164 32 192.168.1.100/32
192.168.1.100\tphone.lan\tphone
# br-lan 2:0:5e:10:0:2 ipv4 - -1 c0a80165 32 192.168.1.101/32
# br-lan 02005e100003 ipv4 broken\\x20a!b 1700003600 c0a80166 32 192.168.1.102/32
# br-lan 02005e100004 ipv4 gone 0 c0a80167 32 192.168.1.103/32
# br-lan 000100012d5b2a9f02005e100001 10f0c03 phone 1700003600 1f3 128 fd00::1f3/128 2001:db8::1f3/128
# br-lan 0003000102005e100005 1 router 1700003600 10 60 2001:db8:0:10::/60
";

#[test]
fn leases_of_odhcpd_are_read() {
    let read = parse(Odhcpd, ODHCPD.as_bytes());
    assert_eq!(
        shown(&read),
        [
            "192.168.1.100 02:00:5e:10:00:01 phone Unix(1700003600)",
            "192.168.1.101 02:00:5e:10:00:02 (none) Open",
            "192.168.1.102 02:00:5e:10:00:03 (none) Unix(1700003600)",
            "fd00::1f3 - phone Unix(1700003600)",
            "2001:db8::1f3 - phone Unix(1700003600)",
        ]
    );
}

/// Whatever a file is, reading it does no harm, and a beginning of it says nothing that it does not.
#[test]
fn the_beginning_of_a_file_says_nothing_else() {
    for (server, text) in [(Dnsmasq, DNSMASQ), (Odhcpd, ODHCPD)] {
        let all = parse(server, text.as_bytes());
        for end in 0..text.len() {
            let read = parse(server, &text.as_bytes()[..end]);
            assert!(all.starts_with(&read), "{end}");
        }
        assert_eq!(parse(server, &[0xff; 100]), []);
    }
    let odd = "1700003600 02:00:5e:10:00:01 192.168.1.999 phone *\n\n \n- - - -\n1 2\n# #\n#\n# a b ipv4 d x f g h/32\n";
    assert_eq!((parse(Dnsmasq, odd.as_bytes()), parse(Odhcpd, odd.as_bytes())), (vec![], vec![]));
    let long = format!("0 * 192.0.2.1 {} *\n", "x".repeat(NAME_MAX + 1));
    assert_eq!(parse(Dnsmasq, long.as_bytes())[0].name, None);
    let many: Vec<_> = (0..LEASES_MAX * 2).map(|n| format!("0 * fd00::{n:x} a *\n")).collect();
    let mut leases = Leases::default();
    leases.replace(Dnsmasq, parse(Dnsmasq, many.concat().as_bytes()));
    assert_eq!((leases.len(), leases.left_out()), (LEASES_MAX, 1));
}

#[test]
fn hardware_addresses_are_read_in_every_spelling() {
    let mac = mac(1);
    for text in ["02:00:5e:10:00:01", "2:0:5e:10:0:1", "02005e100001", "02:00:5E:10:00:01"] {
        assert_eq!(hardware(text), mac, "{text}");
    }
    for text in [
        "",
        "*",
        "02:00:5e:10:00",
        "02:00:5e:10:00:01:02",
        "02:00:5e:10:00:+1",
        "::::::",
        "02005e10000g",
        "06-02:00:5e:10:00:01",
        "é2005e10000",
        "002:00:5e:10:00:01",
    ] {
        assert_eq!(hardware(text), None, "{text}");
    }
}

/// A name follows its device when the lease moves, whoever says so.
#[test]
fn a_name_follows_its_device() {
    let name = |leases: &Leases, at: &str, last: u8| {
        leases.name_of(NOW, addr(at), mac(last)).map(str::to_owned)
    };
    let (first, second) = ("192.168.1.100", "192.168.1.101");
    let mut leases = Leases::default();
    leases.replace(Dnsmasq, vec![lease(first, 1, "phone")]);
    assert_eq!(name(&leases, first, 1).as_deref(), Some("phone"));
    assert_eq!(leases.name_of(NOW, addr(first), None), Some("phone"), "where none is seen");
    assert_eq!(name(&leases, first, 2), None, "another device has taken the address");
    // Told: it has another address, and somebody else the one it had.
    leases.tell(Dnsmasq, lease(second, 1, "phone"), NOW);
    assert_eq!((name(&leases, first, 1), leases.len()), (None, 1));
    leases.tell(Dnsmasq, lease(first, 2, "tablet"), NOW);
    assert_eq!(name(&leases, second, 1).as_deref(), Some("phone"));
    assert_eq!(name(&leases, first, 2).as_deref(), Some("tablet"));
    assert_eq!(name(&leases, first, 1), None, "an old flow of the phone");
    // A new name, and none any more.
    leases.tell(Dnsmasq, lease(first, 2, "slate"), NOW);
    assert_eq!(name(&leases, first, 2).as_deref(), Some("slate"));
    leases.tell(Dnsmasq, lease(first, 2, ""), NOW);
    assert_eq!((name(&leases, first, 2), leases.len()), (None, 2));
    // The end of a lease that has moved is not that of the new one.
    leases.end(addr(second), mac(2));
    assert_eq!(name(&leases, second, 1).as_deref(), Some("phone"));
    leases.end(addr(second), mac(1));
    assert_eq!((name(&leases, second, 1), leases.len()), (None, 1));
    // The file says otherwise.
    leases.replace(Dnsmasq, vec![lease(first, 1, "phone"), lease(second, 2, "tablet")]);
    assert_eq!(name(&leases, first, 1).as_deref(), Some("phone"));
    assert_eq!(name(&leases, second, 2).as_deref(), Some("tablet"));
}

/// In IPv6 a device has addresses that no server knows.
#[test]
fn an_address_of_its_own_making_has_the_name_of_its_device() {
    let mut leases = Leases::default();
    leases
        .replace(Dnsmasq, vec![lease("192.168.1.100", 1, "phone"), lease("192.168.1.7", 3, "ap")]);
    let own = addr("2001:db8::1234");
    assert_eq!(leases.name_of(NOW, own, mac(1)), Some("phone"));
    assert_eq!((leases.name_of(NOW, own, mac(2)), leases.name_of(NOW, own, None)), (None, None));
    // Behind a router of its own.
    assert_eq!(leases.name_of(NOW, addr("10.0.0.5"), mac(3)), None);
    // Two names: it is not known which.
    leases.tell(Odhcpd, lease("192.168.2.9", 1, "phone"), NOW);
    assert_eq!(leases.name_of(NOW, own, mac(1)), Some("phone"));
    leases.tell(Odhcpd, lease("192.168.2.9", 1, "other"), NOW);
    assert_eq!(leases.name_of(NOW, own, mac(1)), None);
}

#[test]
fn leases_end() {
    let mut leases = Leases::default();
    let at = addr("192.168.1.100");
    let until = |until| Lease { until, ..lease("192.168.1.100", 1, "phone") };
    leases.replace(Dnsmasq, vec![until(Until::Unix(1_700_000_001))]);
    let later = |unix_s, monotonic_s| Now { unix_s, monotonic_s };
    assert_eq!(leases.name_of(NOW, at, mac(1)), Some("phone"));
    assert_eq!(leases.name_of(later(Some(1_700_000_001), 101), at, mac(1)), None);
    assert_eq!(
        leases.name_of(later(None, 101), at, mac(1)),
        Some("phone"),
        "nobody knows the time"
    );
    assert_eq!(leases.name_of(later(Some(1_700_000_001), 101), addr("fd00::1"), mac(1)), None);
    leases.tell(Dnsmasq, until(Until::Open), NOW);
    assert_eq!(leases.name_of(later(None, 99 + TOLD_S), at, mac(1)), Some("phone"));
    assert_eq!(leases.name_of(later(None, 100 + TOLD_S), at, mac(1)), None);
    // What is over makes room.
    leases.tell(Odhcpd, lease("192.168.1.9", 2, "x"), later(None, 100 + TOLD_S));
    assert_eq!(leases.len(), 1);
    // A server whose files are gone is left with what it told.
    leases.replace(Dnsmasq, vec![until(Until::Open)]);
    leases.without_files(Dnsmasq);
    leases.without_files(Odhcpd);
    assert_eq!(leases.len(), 1);
}
