mod answers;
mod openings;
mod requests;
mod rules;
mod watch;

use std::net::{IpAddr, SocketAddr};

use sluice_abi::verdict::{Reason, Verdict};
use sluice_datapath::parse::ACK;

use super::*;
use crate::config::RuleAction;
use crate::inspect::domain_set::Room;
use crate::inspect::domain_set::tests::build;
use crate::inspect::http2;
use crate::inspect::protocol::{Confidence, Protocol};
use crate::inspect::tls::tests::Recipe;
use crate::policy::of_domains;

const PSH_ACK: u8 = 0x18;
const SYN_ACK: u8 = SYN | ACK;
/// The offset of the byte before the next one.
const BEFORE: usize = u32::MAX as usize;

/// A packet from its IP header on, with lengths filled in and checksums left out.
fn ip(from: SocketAddr, to: SocketAddr, proto: u8, l4: &[u8]) -> Vec<u8> {
    let mut packet = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, proto, 0, 0];
            header[2..4].copy_from_slice(&(20 + l4.len() as u16).to_be_bytes());
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, proto, 64];
            header[4..6].copy_from_slice(&(l4.len() as u16).to_be_bytes());
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        _ => panic!("one family"),
    };
    packet.extend(l4);
    packet
}

fn tcp(from: SocketAddr, to: SocketAddr, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut l4 = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    l4.extend(seq.to_be_bytes());
    l4.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    l4.extend(payload);
    ip(from, to, TCP, &l4)
}

fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut l4 = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    l4.extend((8 + payload.len() as u16).to_be_bytes());
    l4.extend([0, 0]);
    l4.extend(payload);
    ip(from, to, 17, &l4)
}

/// A connection and the engine that sees it.
struct Talk {
    engine: Engine,
    client: SocketAddr,
    server: SocketAddr,
    client_seq: u32,
    server_seq: u32,
    now_ms: u64,
}

impl Talk {
    fn new(limits: Limits) -> Self {
        let rules = [
            ("ads.test", RuleAction::Block),
            ("good.ads.test", RuleAction::Allow),
            ("bank.test", RuleAction::Allow),
        ];
        let rules = rules.into_iter().zip(10..).map(|((d, a), n)| (d.to_owned(), a, n));
        Self {
            engine: Engine::new(limits, of_domains(rules), [1, 2]),
            client: "192.0.2.9:40000".parse().unwrap(),
            server: "198.51.100.1:443".parse().unwrap(),
            client_seq: u32::MAX - 20,
            server_seq: 77,
            now_ms: 1000,
        }
    }

    fn give(&mut self, packet: &[u8]) -> Step {
        self.now_ms += 1;
        self.engine.packet(self.now_ms, packet, packet.len())
    }

    /// Sends a segment at an offset from where the client is.
    fn client_at(&mut self, offset: usize, flags: u8, payload: &[u8]) -> Step {
        let seq = self.client_seq.wrapping_add(offset as u32);
        self.give(&tcp(self.client, self.server, seq, flags, payload))
    }

    fn client(&mut self, flags: u8, payload: &[u8]) -> Step {
        let step = self.client_at(0, flags, payload);
        let taken = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.client_seq = self.client_seq.wrapping_add(taken);
        step
    }

    fn server(&mut self, flags: u8, payload: &[u8]) -> Step {
        let step = self.give(&tcp(self.server, self.client, self.server_seq, flags, payload));
        let taken = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.server_seq = self.server_seq.wrapping_add(taken);
        step
    }

    fn open(&mut self) {
        for step in [self.client(SYN, &[]), self.server(SYN_ACK, &[]), self.client(ACK, &[])] {
            assert_eq!(step.outcome, Outcome::Inspect);
        }
    }
}

fn opened() -> Talk {
    let mut talk = Talk::new(Limits::default());
    talk.open();
    talk
}

/// R175: what was let through before there was a decision, from the IP header on.
#[test]
fn what_was_inspected_is_counted_by_direction_when_it_ends() {
    let mut talk = opened();
    assert_eq!(talk.server(ACK, &[7; 100]).inspected, [[0; 2]; 2]);
    let mut step = talk.client(ACK, &[8; 50]);
    while step.outcome == Outcome::Inspect {
        assert_eq!(step.inspected, [[0; 2]; 2]);
        step = talk.client(ACK, &[8; 50]);
    }
    let (_, direction) = step.flow.unwrap();
    let (own, back) = (direction as usize, direction.reversed() as usize);
    // SYN and ACK, then what carried something; SYN-ACK and one segment.
    let [packets, bytes] = step.inspected[own];
    assert!(packets > 2 && bytes == 40 * packets + 50 * (packets - 2), "{:?}", step.inspected);
    assert_eq!(step.inspected[back], [2, 180]);
    let again = talk.client(ACK, &[8; 50]);
    assert!(again.is_repeated && again.inspected == [[0; 2]; 2], "{again:?}");
}

/// Names and the numbers of their lists.
fn listing(names: &[(&str, u32)]) -> DomainSet {
    let lists = 1 + names.iter().map(|(_, list)| *list).max().unwrap_or_default();
    let room = Room::new(names.len() as u32, lists, 0, 1 << 20).unwrap();
    build(names, room)
}

fn reason(step: &Step) -> Option<Reason> {
    match step.outcome {
        Outcome::Decided(decision) => Some(decision.reason),
        _ => None,
    }
}

fn cause(step: &Step) -> Option<&'static str> {
    match step.outcome {
        Outcome::Undecided(cause) => Some(cause.name()),
        _ => None,
    }
}

#[test]
fn a_hello_decides_by_its_name() {
    #[rustfmt::skip]
    let cases = [
        ("www.example.com",  Verdict::Trusted, Reason::HelloClean,    None),
        ("WWW.ADS.test",     Verdict::Blocked, Reason::DomainRule,    Some(10)),
        ("ads.test.",        Verdict::Blocked, Reason::DomainRule,    Some(10)),
        ("x.good.ads.test",  Verdict::Trusted, Reason::DomainAllowed, Some(11)),
        ("notads.test",      Verdict::Trusted, Reason::HelloClean,    None),
        ("bank.test",        Verdict::Trusted, Reason::DomainAllowed, Some(12)),
    ];
    for (name, verdict, reason, rule) in cases {
        let mut talk = opened();
        let step = talk.client(PSH_ACK, &Recipe::named(name).alpn(&[b"h2", b"\x1b\""]).wire());
        let (key, direction) = step.flow.unwrap();
        let protocol = Some((Protocol::Tls, Confidence::Certain));
        let (original, list) = (direction, None);
        let Outcome::Decided(found) = step.outcome else { panic!("{name}: {step:?}") };
        let (entry, observed) = (found.entry, None);
        assert_eq!(entry.is_some(), rule.is_some());
        let expected = Decision {
            verdict,
            reason,
            rule,
            original,
            packets: 4,
            list,
            protocol,
            entry,
            observed,
            watched: None,
        };
        assert_eq!(step.outcome, Outcome::Decided(expected), "{name}");
        let hello = step.hello().unwrap();
        assert_eq!(hello.sni.as_deref(), Some(&*name.to_lowercase().replace("test.", "test")));
        assert_eq!((hello.key, hello.direction), (key, direction));
        assert_eq!(hello.source(), (talk.client.ip(), 40000));
        assert_eq!(hello.destination(), (talk.server.ip(), 443));
        assert_eq!(hello.alpn, ["h2".into(), "\\x1b\\\"".into()]);
        assert_eq!(talk.engine.flows(), 0, "a decided flow is forgotten");
        let stats = talk.engine.stats();
        assert_eq!((stats.hellos, stats.flows, stats.trusted + stats.blocked), (1, 1, 1));
    }
}

/// R72: what no rule covers is looked up in the domain lists; a rule lifts them.
#[test]
fn a_domain_list_blocks_what_no_rule_covers() {
    let names = [("trackers.test", 1), ("ads.test", 0), ("good.ads.test", 0), ("bank.test", 0)];
    let mut talk = Talk::new(Limits::default());
    talk.engine.set_lists(listing(&names));
    #[rustfmt::skip]
    let cases = [
        ("x.TRACKERS.test",  Verdict::Blocked, Reason::DomainList,    (None, Some(1))),
        ("nottrackers.test", Verdict::Trusted, Reason::HelloClean,    (None, None)),
        ("x.good.ads.test",  Verdict::Trusted, Reason::DomainAllowed, (Some(11), None)),
        ("ads.test",         Verdict::Blocked, Reason::DomainRule,    (Some(10), None)),
        ("bank.test",        Verdict::Trusted, Reason::DomainAllowed, (Some(12), None)),
    ];
    for (port, (name, verdict, reason, by)) in (50_000..).zip(cases) {
        talk.client.set_port(port);
        talk.open();
        let step = talk.client(PSH_ACK, &Recipe::named(name).wire());
        let Outcome::Decided(decision) = step.outcome else { panic!("{step:?}") };
        assert_eq!((decision.verdict, decision.reason), (verdict, reason), "{name}");
        assert_eq!((decision.rule, decision.list), by, "{name}");
    }
}

/// R173: a list that observes lets a flow pass and is told with the decision, where no rule decides.
#[test]
fn a_domain_list_that_observes_is_told_and_decides_nothing() {
    let names = [("trackers.test", 0), ("bank.test", 0)];
    let mut talk = Talk::new(Limits::default());
    talk.engine.set_lists(listing(&names).observing_from(0));
    let cases = [
        ("x.trackers.test", Reason::HelloClean, Some(0)),
        ("nottrackers.test", Reason::HelloClean, None),
        ("bank.test", Reason::DomainAllowed, None),
    ];
    for (port, (name, reason, watched)) in (50_000..).zip(cases) {
        talk.client.set_port(port);
        talk.open();
        let step = talk.client(PSH_ACK, &Recipe::named(name).wire());
        let Outcome::Decided(decision) = step.outcome else { panic!("{step:?}") };
        assert_eq!((decision.verdict, decision.reason), (Verdict::Trusted, reason), "{name}");
        assert_eq!((decision.list, decision.watched), (None, watched), "{name}");
    }
}

#[test]
fn a_hello_without_a_name_is_clean_and_one_with_a_bad_name_undecided() {
    let mut talk = opened();
    let step = talk.client(PSH_ACK, &Recipe::default().wire());
    assert_eq!(reason(&step), Some(Reason::HelloClean));
    assert_eq!(step.hello().unwrap().sni, None);

    let mut talk = opened();
    let step = talk.client(PSH_ACK, &Recipe::named("ads.test\x1b[2J").wire());
    assert_eq!(cause(&step), Some("malformed_name"));
    let hello = step.hello().unwrap();
    assert!(hello.sni.is_none() && hello.is_sni_malformed);
    assert!(!format!("{hello:?}").contains("ads.test"), "the raw bytes are kept from readers");
}

#[test]
fn a_hello_is_read_however_it_is_cut() {
    for records in [1 << 14, 50] {
        let wire = Recipe::named("cut.ads.test").padded(300).records(records);
        for first in 1..wire.len() {
            for is_swapped in [false, true] {
                let mut talk = opened();
                let (a, b) = wire.split_at(first);
                let (start, rest) = ((0, a), (first, b));
                let [one, two] = if is_swapped { [rest, start] } else { [start, rest] };
                let step = talk.client_at(one.0, PSH_ACK, one.1);
                assert_eq!(step.outcome, Outcome::Inspect, "{first} {is_swapped}");
                let step = talk.client_at(two.0, PSH_ACK, two.1);
                assert_eq!(reason(&step), Some(Reason::DomainRule), "{first} {is_swapped}");
                assert_eq!(step.hello().unwrap().sni.as_deref(), Some("cut.ads.test"));
                assert_eq!(talk.engine.kept, 0);
            }
        }
    }
}

#[test]
fn a_hello_is_read_from_three_segments_in_every_order() {
    let wire = Recipe::named("cut.ads.test").padded(900).wire();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for (a, b) in [(1, 2), (5, 9), (3, 700), (400, 800), (400, 905)] {
            let parts = [0..a, a..b, b..wire.len()];
            let mut talk = opened();
            let mut last = None;
            for index in order {
                let part = parts[index].clone();
                last = Some(talk.client_at(part.start, PSH_ACK, &wire[part]));
            }
            assert_eq!(reason(&last.unwrap()), Some(Reason::DomainRule), "{order:?} {a} {b}");
        }
    }
}

#[test]
fn an_unfinished_hello_extends_the_window() {
    for (size, piece) in [(4096, 200), (16 << 10, 1200), (16 << 10, 100), (600, 1)] {
        let mut talk = opened();
        let wire = Recipe::named("big.ads.test").padded(size).wire();
        let mut pieces = wire.chunks(piece).peekable();
        while let Some(piece) = pieces.next() {
            let step = talk.client(PSH_ACK, piece);
            if pieces.peek().is_some() {
                assert_eq!(step.outcome, Outcome::Inspect);
                assert_eq!(talk.server(ACK, &[]).outcome, Outcome::Inspect);
            } else {
                assert_eq!(reason(&step), Some(Reason::DomainRule));
            }
        }
    }
}

#[test]
fn data_in_the_syn_is_the_start_of_the_stream() {
    let mut talk = Talk::new(Limits::default());
    let wire = Recipe::named("ads.test").wire();
    assert_eq!(talk.client(SYN, &wire[..100 - 60]).outcome, Outcome::Inspect);
    assert_eq!(talk.server(SYN_ACK, &[]).outcome, Outcome::Inspect);
    assert_eq!(reason(&talk.client(PSH_ACK, &wire[40..])), Some(Reason::DomainRule));
}

#[test]
fn a_window_without_tls_is_trusted_with_its_last_packet() {
    let mut talk = opened();
    for n in 1..=10 {
        let step = talk.client(PSH_ACK, b"hello / HTTP/1.1\r\n");
        if n < 10 {
            assert_eq!(step.outcome, Outcome::Inspect, "packet {n}");
        } else {
            assert_eq!(reason(&step), Some(Reason::WindowEnd));
            let Outcome::Decided(decision) = step.outcome else { panic!() };
            assert_eq!((decision.packets, decision.verdict), (13, Verdict::Trusted));
        }
    }
    assert_eq!((talk.engine.stats().window_end, talk.engine.stats().trusted), (1, 1));
}

#[test]
fn a_server_that_speaks_first_and_alone_ends_the_window_too() {
    let mut talk = opened();
    for n in 1..=10 {
        let step = talk.server(PSH_ACK, b"220 welcome\r\n");
        let is_last = n == 10;
        assert_eq!(reason(&step), is_last.then_some(Reason::WindowEnd), "packet {n}");
        if !is_last {
            assert_eq!(talk.client(ACK, &[]).outcome, Outcome::Inspect);
        }
    }
}

#[test]
fn directions_are_counted_apart_and_bytes_end_a_window() {
    let mut talk = opened();
    for _ in 0..9 {
        assert_eq!(talk.client(PSH_ACK, b"a").outcome, Outcome::Inspect);
        assert_eq!(talk.server(PSH_ACK, b"b").outcome, Outcome::Inspect);
    }
    assert_eq!(reason(&talk.server(PSH_ACK, b"c")), Some(Reason::WindowEnd));

    let mut talk = opened();
    assert_eq!(talk.client(PSH_ACK, &[0; 10_000]).outcome, Outcome::Inspect);
    assert_eq!(reason(&talk.client(PSH_ACK, &[0; 10_000])), Some(Reason::WindowEnd));
}

#[test]
fn a_client_cannot_use_up_the_window_before_its_hello() {
    let mut talk = opened();
    for _ in 0..50 {
        // Acknowledgements, and keep-alives with a byte from before the stream.
        assert_eq!(talk.client(ACK, &[]).outcome, Outcome::Inspect);
        assert_eq!(talk.client_at(BEFORE, ACK, b"x").outcome, Outcome::Inspect);
    }
    let wire = Recipe::named("ads.test").wire();
    assert_eq!(reason(&talk.client(PSH_ACK, &wire)), Some(Reason::DomainRule));
}

#[test]
fn a_window_that_ends_inside_a_hello_is_undecided() {
    // Nothing new comes, only repetitions and acknowledgements.
    let wire = Recipe::named("ads.test").wire();
    for head in [1, 3, 40] {
        let mut talk = opened();
        let mut last = talk.client(PSH_ACK, &wire[..head]);
        for _ in 0..200 {
            assert_ne!(reason(&last), Some(Reason::WindowEnd));
            if cause(&last).is_some() {
                break;
            }
            last = talk.server(PSH_ACK, b"x");
        }
        assert_eq!(cause(&last), Some("window_mid_hello"), "{head} bytes");
        // Nor does the rest bring trust.
        assert_eq!(cause(&talk.client(PSH_ACK, &wire[head..])), Some("window_mid_hello"));
        let undecided = talk.engine.stats().undecided;
        assert_eq!(undecided.iter().sum::<u64>(), 1);
        assert_eq!(undecided[Cause::WindowMidHello.index()], 1);
    }
}

#[test]
fn a_hello_that_does_not_fit_the_byte_cap_is_undecided() {
    let limits = Limits { window_bytes: 2048, ..Limits::default() };
    let mut talk = Talk::new(limits);
    talk.open();
    let wire = Recipe::named("ads.test").padded(4096).wire();
    let causes: Vec<_> =
        wire.chunks(500).filter_map(|part| cause(&talk.client(PSH_ACK, part))).collect();
    assert_eq!(causes.first(), Some(&"window_mid_hello"));
    assert_eq!(talk.engine.kept, 0);
}

#[test]
fn a_gap_before_the_first_byte_is_never_trusted() {
    // The first segment is held back until the window would have ended.
    let wire = Recipe::named("ads.test").padded(1500).wire();
    let mut talk = opened();
    for n in 1..=12 {
        let start = n * 100;
        let step = talk.client_at(start, PSH_ACK, &wire[start..start + 100]);
        assert_eq!(step.outcome, Outcome::Inspect, "piece {n}");
    }
    assert_eq!(talk.client_at(1300, PSH_ACK, &wire[1300..]).outcome, Outcome::Inspect);
    assert_eq!(reason(&talk.client_at(0, PSH_ACK, &wire[..100])), Some(Reason::DomainRule));
}

#[test]
fn malformed_tls_is_undecided() {
    for (wire, detail) in [
        (vec![22, 3, 1, 0, 0], "empty_record"),
        (vec![22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff], "handshake_too_long"),
        (vec![22, 3, 1, 0, 5, 1, 0, 0, 1, 3], "overrun"),
    ] {
        let mut talk = opened();
        let step = talk.client(PSH_ACK, &wire);
        let Outcome::Undecided(undecided) = step.outcome else { panic!("{step:?}") };
        assert_eq!((undecided.name(), undecided.detail()), ("malformed_tls", Some(detail)));
        assert!(!step.is_repeated && step.news.is_none());
        // The answer stays.
        let step = talk.client(PSH_ACK, b"anything");
        assert_eq!((step.outcome, step.is_repeated), (Outcome::Undecided(undecided), true));
        assert_eq!(talk.engine.stats().undecided[0], 1);
    }
}

#[test]
fn bytes_that_came_twice_and_differ_are_undecided_unless_blocked() {
    #[rustfmt::skip]
    let cases = [
        ("www.good.test", None,                     Some("conflict")),
        ("www.ads.test",  Some(Reason::DomainRule), None),
    ];
    for (name, decided, undecided) in cases {
        let wire = Recipe::named(name).padded(400).wire();
        let mut talk = opened();
        let _ = talk.client_at(0, PSH_ACK, &wire[..300]);
        let mut other = wire[200..300].to_vec();
        other[50] ^= 1;
        assert_eq!(talk.client_at(200, PSH_ACK, &other).outcome, Outcome::Inspect);
        let step = talk.client_at(300, PSH_ACK, &wire[300..]);
        assert_eq!((reason(&step), cause(&step)), (decided, undecided), "{name}");
        assert_eq!(step.hello().unwrap().sni.as_deref(), Some(name), "the first copy");
    }
    // Also where what it comes to is no ClientHello.
    let mut talk = opened();
    let _ = talk.client_at(1, PSH_ACK, b"\x03\x01");
    let _ = talk.client_at(1, PSH_ACK, b"ET");
    assert_eq!(cause(&talk.client_at(0, PSH_ACK, b"G")), Some("conflict"));
}

#[test]
fn a_cut_copy_is_undecided_where_the_bytes_were_needed() {
    let wire = Recipe::named("ads.test").padded(1000).wire();
    let mut talk = opened();
    let packet = tcp(talk.client, talk.server, talk.client_seq, PSH_ACK, &wire);
    let step = talk.engine.packet(2000, &packet[..500], packet.len());
    assert_eq!(cause(&step), Some("truncated_copy"));
    assert_eq!(talk.engine.stats().truncated, 1);

    // What was cut off was not needed: the hello is whole, or there is none.
    let mut talk = opened();
    let long = [&wire[..], &[0; 1000]].concat();
    let packet = tcp(talk.client, talk.server, talk.client_seq, PSH_ACK, &long);
    let step = talk.engine.packet(2000, &packet[..1500], packet.len());
    assert_eq!(reason(&step), Some(Reason::DomainRule));
    let mut talk = opened();
    let packet = tcp(talk.client, talk.server, talk.client_seq, PSH_ACK, &[b'x'; 1000]);
    let step = talk.engine.packet(2000, &packet[..80], packet.len());
    assert_eq!(step.outcome, Outcome::Inspect);
    assert_eq!(talk.engine.stats().truncated, 1);
}

#[test]
fn padding_of_the_link_is_not_payload() {
    let mut talk = opened();
    let wire = Recipe::named("ads.test").wire();
    for (offset, part) in [(0, &wire[..2]), (2, &wire[2..])] {
        let seq = talk.client_seq.wrapping_add(offset);
        let mut packet = tcp(talk.client, talk.server, seq, PSH_ACK, part);
        packet.extend([0; 4]);
        let step = talk.give(&packet);
        assert_eq!(reason(&step).is_some(), offset == 2, "{step:?}");
    }
}

#[test]
fn an_end_before_a_decision_trusts_nothing() {
    let wire = Recipe::named("ads.test").wire();
    for flag in [FIN | ACK, RST] {
        let mut talk = opened();
        let _ = talk.client(PSH_ACK, &wire[..30]);
        assert_eq!(talk.client_at(0, flag, &[]).outcome, Outcome::Inspect);
        assert_eq!((talk.engine.flows(), talk.engine.kept), (0, 0), "the state is dropped");
        assert_eq!(talk.engine.stats().closed, 1);
        // The end was forged and the connection goes on: no trust by looking harmless.
        let steps: Vec<_> = (0..12).map(|_| talk.client(PSH_ACK, &wire[30..40])).collect();
        assert!(steps[..10].iter().all(|step| step.outcome == Outcome::Inspect));
        assert!(steps[10..].iter().all(|step| cause(step) == Some("after_close")));
        assert_eq!((steps[10].is_repeated, steps[11].is_repeated), (false, true));
    }
}

#[test]
fn a_short_exchange_closes_without_a_verdict() {
    let mut talk = opened();
    assert_eq!(talk.client(PSH_ACK, b"GET /").outcome, Outcome::Inspect);
    assert_eq!(talk.server(PSH_ACK, b"200").outcome, Outcome::Inspect);
    for step in [
        talk.server(FIN | ACK, &[]),
        talk.client(ACK, &[]),
        talk.client(FIN | ACK, &[]),
        talk.server(ACK, &[]),
    ] {
        assert_eq!(step.outcome, Outcome::Inspect);
    }
    let stats = talk.engine.stats();
    assert_eq!((stats.flows, stats.closed, stats.trusted, stats.blocked), (1, 1, 0, 0));
    assert_eq!(stats.undecided, [0; Cause::COUNT]);
}

#[test]
fn a_reset_before_any_payload_does_not_hide_the_hello() {
    let mut talk = opened();
    assert_eq!(talk.client_at(9999, RST, &[]).outcome, Outcome::Inspect);
    let wire = Recipe::named("ads.test").wire();
    assert_eq!(reason(&talk.client(PSH_ACK, &wire)), Some(Reason::DomainRule));
}

#[test]
fn queued_packets_of_a_decided_flow_get_the_same_decision() {
    let mut talk = opened();
    let first = talk.client(PSH_ACK, &Recipe::named("ads.test").wire());
    assert!(!first.is_repeated);
    for n in 0..30 {
        talk.now_ms += 1000;
        let step = if n % 2 == 0 { talk.client(PSH_ACK, b"x") } else { talk.server(ACK, b"y") };
        assert_eq!(step.outcome, first.outcome);
        assert!(step.is_repeated && step.news.is_none());
    }
    assert_eq!((talk.engine.stats().blocked, talk.engine.stats().repeated), (1, 30));
}

#[test]
fn trust_is_remembered_for_a_short_time_only() {
    let mut talk = opened();
    let first = talk.client(PSH_ACK, &Recipe::named("www.test").wire());
    talk.now_ms += 9_000;
    assert_eq!(talk.client(PSH_ACK, b"x").outcome, first.outcome);
    talk.now_ms += 2_000;
    assert_eq!(talk.client(PSH_ACK, b"x").outcome, Outcome::Inspect, "inspected anew");
}

#[test]
fn a_new_connection_of_the_same_ports_is_inspected_again() {
    let mut talk = opened();
    let step = talk.client(PSH_ACK, &Recipe::named("ads.test").wire());
    assert_eq!(reason(&step), Some(Reason::DomainRule));
    talk.client_seq = 5_000_000;
    talk.open();
    let step = talk.client(PSH_ACK, &Recipe::named("www.test").wire());
    assert_eq!(reason(&step), Some(Reason::HelloClean));

    // Also when the first was not decided; its bytes are not mixed with the new ones.
    talk.client_seq = 9_000_000;
    talk.open();
    let _ = talk.client(PSH_ACK, &[22, 3, 1]);
    talk.client_seq = 1_000_000;
    assert_eq!(talk.client(SYN, &[]).outcome, Outcome::Inspect);
    assert_eq!(talk.engine.stats().reopened, 1);
    let step = talk.client(PSH_ACK, &Recipe::named("ads.test").wire());
    assert_eq!(reason(&step), Some(Reason::DomainRule));

    // A repeated SYN changes nothing.
    talk.client_seq = 2_000_000;
    talk.open();
    let wire = Recipe::named("ads.test").wire();
    let _ = talk.client(PSH_ACK, &wire[..20]);
    assert_eq!(talk.client_at(BEFORE - 20, SYN, &[]).outcome, Outcome::Inspect);
    assert_eq!(reason(&talk.client(PSH_ACK, &wire[20..])), Some(Reason::DomainRule));
}

#[test]
fn a_flow_seen_from_its_middle_is_inspected_too() {
    let wire = Recipe::named("ads.test").padded(300).wire();
    let mut talk = Talk::new(Limits::default());
    assert_eq!(reason(&talk.client(PSH_ACK, &wire)), Some(Reason::DomainRule));

    // The later half came first, and looked like nothing.
    let mut talk = Talk::new(Limits::default());
    assert_eq!(talk.client_at(150, PSH_ACK, &wire[150..]).outcome, Outcome::Inspect);
    let step = talk.client_at(0, PSH_ACK, &wire[..150]);
    assert_eq!(reason(&step), Some(Reason::DomainRule));

    let mut talk = Talk::new(Limits::default());
    let last = (0..10).map(|_| talk.client(PSH_ACK, b"midstream")).last().unwrap();
    assert_eq!(reason(&last), Some(Reason::WindowEnd));
    assert_eq!(talk.engine.kept, 0);
}

#[test]
fn the_original_direction_is_that_of_the_syn() {
    let wire = Recipe::named("www.test").wire();
    let original = |step: &Step| match step.outcome {
        Outcome::Decided(decision) => decision.original,
        _ => panic!("{step:?}"),
    };
    // The answer to a SYN came first.
    let mut talk = Talk::new(Limits::default());
    let answer = talk.server(SYN_ACK, &[]);
    let last = (0..10).map(|_| talk.server(PSH_ACK, b"x")).last().unwrap();
    assert_eq!(original(&last), answer.flow.unwrap().1.reversed());
    // Who opened the connection is not who speaks TLS first (active FTP).
    let mut talk = opened();
    let step = talk.server(PSH_ACK, &wire);
    let (_, direction) = step.flow.unwrap();
    assert_eq!(original(&step), direction.reversed());
    assert_eq!(step.hello().unwrap().direction, direction);
    // Without a SYN it is the client of the hello.
    let mut talk = Talk::new(Limits::default());
    let _ = talk.server(PSH_ACK, b"x");
    let step = talk.client(PSH_ACK, &wire);
    assert_eq!(original(&step), step.flow.unwrap().1);
}

#[test]
fn both_families_and_both_orders_of_the_key() {
    for (client, server) in [
        ("192.0.2.9:40000", "198.51.100.1:443"),
        ("198.51.100.1:40000", "192.0.2.9:443"),
        ("[2001:db8::9]:40000", "[2001:db8::1]:443"),
    ] {
        let mut talk = Talk::new(Limits::default());
        (talk.client, talk.server) = (client.parse().unwrap(), server.parse().unwrap());
        talk.open();
        let step = talk.client(PSH_ACK, &Recipe::named("ads.test").wire());
        assert_eq!(reason(&step), Some(Reason::DomainRule), "{client}");
        assert_eq!(step.hello().unwrap().source().0, talk.client.ip());
    }
}

#[test]
fn udp_has_a_window_and_nothing_else() {
    let mut talk = Talk::new(Limits::default());
    let packet = udp(talk.client, talk.server, &Recipe::named("ads.test").wire());
    let answer = udp(talk.server, talk.client, b"");
    for n in 1..=9 {
        assert_eq!(talk.give(&packet).outcome, Outcome::Inspect, "packet {n}");
        assert_eq!(talk.give(&answer).outcome, Outcome::Inspect, "answer {n}");
    }
    let step = talk.give(&packet);
    assert_eq!(reason(&step), Some(Reason::WindowEnd));
    assert_eq!(talk.give(&answer).outcome, step.outcome);
}

#[test]
fn what_has_no_ports_is_no_flow_and_what_contradicts_itself_is_ignored() {
    let mut talk = Talk::new(Limits::default());
    let mut fragment = udp(talk.client, talk.server, b"x");
    fragment[6] = 0x20;
    let icmp = ip(talk.client, talk.server, 1, &[8, 0, 0, 0]);
    for packet in [&fragment[..], &icmp, &[], &[0x45], &[0; 40], &[0xff; 60]] {
        let step = talk.give(packet);
        assert_eq!((step.outcome, step.flow), (Outcome::NotAFlow, None));
    }
    assert_eq!(talk.engine.stats().not_a_flow, 6);
    let mut short_header = tcp(talk.client, talk.server, 0, PSH_ACK, b"payload");
    short_header[32] = 0x40;
    let mut long_header = tcp(talk.client, talk.server, 0, PSH_ACK, b"");
    long_header[32] = 0xf0;
    for packet in [short_header, long_header] {
        assert_eq!(talk.give(&packet).outcome, Outcome::Inspect);
    }
    assert_eq!((talk.engine.stats().malformed, talk.engine.flows()), (2, 0));
}

#[test]
fn a_merged_packet_without_a_length_is_read_to_its_end() {
    let mut talk = opened();
    let wire = Recipe::named("ads.test").padded(9000).wire();
    let mut packet = tcp(talk.client, talk.server, talk.client_seq, PSH_ACK, &wire);
    packet[2..4].copy_from_slice(&[0, 0]);
    assert_eq!(reason(&talk.give(&packet)), Some(Reason::DomainRule));
}

#[test]
fn a_hello_that_takes_too_long_is_undecided_and_silence_forgets() {
    let wire = Recipe::named("ads.test").wire();
    let mut talk = opened();
    let _ = talk.client(PSH_ACK, &wire[..20]);
    talk.now_ms += 20_000;
    assert_eq!(cause(&talk.client(PSH_ACK, &wire[20..30])), Some("timeout"));

    let mut talk = opened();
    let _ = talk.client(PSH_ACK, &wire[..20]);
    talk.engine.expire(talk.now_ms + 59_000);
    assert_eq!(talk.engine.flows(), 1);
    talk.engine.expire(talk.now_ms + 61_000);
    assert_eq!((talk.engine.flows(), talk.engine.kept), (0, 0));
    assert_eq!(cause(&talk.client(PSH_ACK, &wire[20..])), Some("timeout"));

    // A connection that was opened in advance, and used much later.
    let mut talk = opened();
    talk.engine.expire(talk.now_ms + 100_000);
    assert_eq!((talk.engine.flows(), talk.engine.stats().expired), (0, 1));
    assert_eq!(reason(&talk.client(PSH_ACK, &wire)), Some(Reason::DomainRule));
}

#[test]
fn an_unfinished_hello_that_had_to_make_place_stays_undecided() {
    let limits = Limits { flows_max: 64, ..Limits::default() };
    let wire = Recipe::named("ads.test").wire();
    let mut talk = Talk::new(limits);
    talk.open();
    let _ = talk.client(PSH_ACK, &wire[..20]);
    for port in 1..=64 {
        let other = SocketAddr::new(talk.client.ip(), port);
        let step = talk.give(&tcp(other, talk.server, 0, SYN, &[]));
        assert_eq!(step.outcome, Outcome::Inspect);
    }
    assert_eq!(talk.engine.flows(), 64);
    assert_eq!(talk.engine.stats().undecided[Cause::Memory.index()], 1);
    assert_eq!(cause(&talk.client(PSH_ACK, &wire[20..])), Some("memory"));
}

/// R19: a device that opens flows by the thousand costs another one none of its hellos.
#[test]
fn a_device_that_opens_flows_by_the_thousand_crowds_out_its_own() {
    let limits = Limits { flows_max: 64, ..Limits::default() };
    let wire = Recipe::named("ads.test").wire();
    let mut talk = Talk::new(limits);
    talk.open();
    let _ = talk.client(PSH_ACK, &wire[..20]);
    for port in 1..=10_000 {
        let flooder = SocketAddr::new([192, 0, 2, 200].into(), port);
        let _ = talk.give(&tcp(flooder, talk.server, 0, SYN, &[]));
    }
    assert_eq!(talk.engine.flows(), 64);
    assert_eq!(talk.engine.stats().undecided[Cause::Memory.index()], 10_001 - 64);
    assert_eq!(reason(&talk.client(PSH_ACK, &wire[20..])), Some(Reason::DomainRule));
}

/// R32: a million flows, each left in the middle of a ClientHello, in the memory of some.
#[test]
fn a_million_flows_stay_within_their_memory() {
    let limits = Limits { flows_max: 4096, bytes_max: 2 << 20, ..Limits::default() };
    let mut engine = Engine::new(limits, Policy::default(), [3, 4]);
    assert!(engine.memory_max() <= limits.bytes_max, "{}", engine.memory_max());
    let server: SocketAddr = "198.51.100.1:443".parse().unwrap();
    let wire = Recipe::named("flood.test").padded(1000).wire();
    let mut most = 0;
    let mut packet = tcp("10.0.0.0:1024".parse().unwrap(), server, 7, PSH_ACK, &wire[..900]);
    for n in 0..1_000_000_u32 {
        packet[12..16].copy_from_slice(&(0x0a00_0000 + n).to_be_bytes());
        let step = engine.packet(u64::from(n / 1000), &packet, packet.len());
        assert_eq!(step.outcome, Outcome::Inspect);
        most = most.max(engine.memory());
        if n % 100_000 == 0 {
            let kept: usize = engine.flows.values().map(Flow::memory).sum();
            assert_eq!(engine.kept, kept, "the account is right");
        }
    }
    assert!(most <= limits.bytes_max, "{most} bytes");
    assert!(most > limits.bytes_max / 2, "the memory that was given is used: {most} bytes");
    assert!(engine.flows() <= 4096 && engine.flows() > 1000, "{}", engine.flows());
    let stats = engine.stats();
    let evicted = stats.undecided[Cause::Memory.index()];
    assert_eq!(evicted + engine.flows() as u64, 1_000_000, "each is counted");
    assert_eq!(stats.trusted, 0);
}

/// Where answers of servers are not read, nothing is kept for them, and the flows get that memory.
#[test]
fn answers_that_are_not_read_take_no_memory() {
    let limits = Limits { bytes_max: 2 << 20, ..Limits::default() };
    let engine =
        |reads_answers| Engine::new(Limits { reads_answers, ..limits }, Policy::default(), [1, 2]);
    let (live, replay) = (engine(false), engine(true));
    assert_eq!(live.answers.max(), 1);
    assert!(live.flows.max() > replay.flows.max());
    assert!(live.memory_max() <= limits.bytes_max && replay.memory_max() <= limits.bytes_max);
}

#[test]
fn every_counter_has_a_name_of_its_own() {
    let stats = Stats::default();
    let mut names: Vec<_> = stats.rows().into_iter().map(|(name, _)| name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert_eq!(Cause::Timeout.name(), "timeout");
    assert_eq!(Cause::MalformedHttp2(http2::Malformed::Host).index(), Cause::COUNT - 1);
}

#[cfg(feature = "quic")]
mod quic;
