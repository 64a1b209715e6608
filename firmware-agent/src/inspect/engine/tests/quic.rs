//! Flows of QUIC.

use super::*;
use crate::inspect::quic::tests::{Sender, crypto, sample_v1};
use crate::inspect::quic::{DATAGRAM_MIN, Version};
use crate::inspect::tls::HELLO_MAX;

const ID: &[u8] = b"client's choice";

fn sender() -> Sender {
    Sender::new(Version::V1, ID)
}

fn message(name: &str) -> Vec<u8> {
    Recipe::named(name).versions(&[0x0304]).message()
}

impl Talk {
    fn sends(&mut self, payload: &[u8]) -> Step {
        self.give(&udp(self.client, self.server, payload))
    }

    fn answers(&mut self, payload: &[u8]) -> Step {
        self.give(&udp(self.server, self.client, payload))
    }
}

fn fresh() -> Talk {
    Talk::new(Limits::default())
}

/// A packet of the server with a long header that names `version`.
fn from_server(first: u8, version: u32, source: &[u8]) -> Vec<u8> {
    [&[first][..], &version.to_be_bytes(), &[0, source.len() as u8], source, &[7; 30]].concat()
}

#[test]
fn rules_about_names_decide_flows_of_quic() {
    #[rustfmt::skip]
    let cases = [
        ("www.Ads.test",  Verdict::Blocked, Reason::DomainRule,    Some(10)),
        ("good.ads.test", Verdict::Trusted, Reason::DomainAllowed, Some(11)),
        ("www.good.test", Verdict::Trusted, Reason::HelloClean,    None),
    ];
    for (name, verdict, reason, rule) in cases {
        for version in [Version::V1, Version::V2] {
            let mut talk = fresh();
            let datagram = Sender::new(version, ID).datagram(&crypto(0, &message(name)));
            let step = talk.sends(&datagram);
            let Outcome::Decided(decision) = step.outcome else { panic!("{step:?}") };
            assert_eq!((decision.verdict, decision.reason, decision.rule), (verdict, reason, rule));
            assert_eq!(Some(decision.original), step.flow.map(|(_, direction)| direction));
            let hello = step.hello().unwrap();
            assert_eq!(hello.sni.as_deref(), Some(&*name.to_lowercase()));
            assert!(hello.ja4.as_str().starts_with("q13d"), "{}", hello.ja4);
            let connection = hello.quic.unwrap();
            assert_eq!((connection.version, connection.destination_id.as_bytes()), (version, ID));
            assert_eq!(talk.engine.stats().quic_hellos, 1);
            assert_eq!((talk.engine.kept, talk.engine.flows()), (0, 0));
            assert!(talk.sends(&datagram).is_repeated);
        }
    }
}

#[test]
fn an_unfinished_hello_of_quic_extends_the_window() {
    let hello = Recipe::named("ads.test").padded(HELLO_MAX).message();
    let flight = sender().flight(&hello);
    assert!(flight.len() > usize::from(Limits::default().window_packets));
    let mut talk = fresh();
    let (last, others) = flight.split_last().unwrap();
    for datagram in others {
        assert_eq!(talk.sends(datagram).outcome, Outcome::Inspect);
        // What the server says meanwhile takes nothing of it, and nothing is kept of that.
        let kept = talk.engine.kept;
        assert_eq!(talk.answers(&from_server(0xc0, 1, b"server")).outcome, Outcome::Inspect);
        assert_eq!(talk.engine.kept, kept);
    }
    assert_eq!(reason(&talk.sends(last)), Some(Reason::DomainRule));

    // Its bytes are limited, and so are the packets that bring none.
    let mut talk = Talk::new(Limits { window_bytes: 4000, ..Limits::default() });
    let steps: Vec<_> = flight.iter().map(|datagram| talk.sends(datagram)).collect();
    let end = steps.iter().position(|step| cause(step) == Some("window_mid_hello"));
    assert_eq!(end, Some(3));
    let mut talk = fresh();
    let count = (0..200).position(|_| cause(&talk.sends(&flight[0])) == Some("window_mid_hello"));
    assert_eq!(count, Some(9 + 64));
}

#[test]
fn what_cannot_be_read_is_never_trusted() {
    let mut unknown = sample_v1();
    unknown[1..5].copy_from_slice(b"Q046");
    let mut garbage = sample_v1();
    garbage[600] ^= 1;
    let short = sender().packet(&crypto(0, &message("ads.test")));
    assert!(short.len() < DATAGRAM_MIN);
    let empty = sender().datagram(&[1]);
    #[rustfmt::skip]
    let cases = [
        (unknown, "quic_version"), (garbage, "quic_unreadable"), (short, "quic_unreadable"), (empty, "window_mid_hello"),
    ];
    for (datagram, expected) in cases {
        let mut talk = fresh();
        assert_eq!(talk.sends(&datagram).outcome, Outcome::Inspect);
        // Harmless packets afterwards do not help.
        for _ in 0..8 {
            assert_eq!(talk.sends(b"\x40 short header").outcome, Outcome::Inspect);
        }
        assert_eq!(cause(&talk.sends(b"\x40 short header")), Some(expected));
        assert_eq!(cause(&talk.answers(&[0x40; 40])), Some(expected));
        assert_eq!(talk.engine.stats().trusted, 0);
    }
    // What is authentic and wrong, at once.
    let cases = [
        (sender().datagram(&[0x1e]), ("malformed_quic", Some("frame"))),
        (sender().datagram(&crypto(0, &[9; 9])), ("malformed_quic", Some("not_client_hello"))),
        (sender().datagram(&crypto(0, &[1, 0, 0, 0])), ("malformed_tls", Some("overrun"))),
    ];
    for (datagram, expected) in cases {
        let step = fresh().sends(&datagram);
        let Outcome::Undecided(undecided) = step.outcome else { panic!("{step:?}") };
        assert_eq!((undecided.name(), undecided.detail()), expected);
    }
}

#[test]
fn flows_that_only_resemble_quic_keep_their_window() {
    let rtp = [&[0x80, 0, 0, 0, 1][..], &[5; 155]].concat();
    let mut of_another_port = sample_v1();
    of_another_port[1..5].copy_from_slice(b"Q046");
    for (payload, port) in
        [(rtp, 443), (of_another_port, 5004), (b"\x40 short header".to_vec(), 443)]
    {
        let mut talk = fresh();
        talk.server.set_port(port);
        let last = (0..10).map(|_| talk.sends(&payload)).last().unwrap();
        assert_eq!(reason(&last), Some(Reason::WindowEnd), "{payload:02x?}");
        assert_eq!(talk.engine.kept, 0);
    }
}

#[test]
fn a_server_may_ask_the_client_to_begin_again() {
    let hello = message("ads.test");
    let half = |sender: &mut Sender, is_first: bool| {
        let (first, second) = hello.split_at(30);
        sender.datagram(&if is_first { crypto(0, first) } else { crypto(30, second) })
    };
    let mut again = Sender { token: vec![1; 40], ..Sender::new(Version::V1, b"retry id") };
    let mut talk = fresh();
    let _ = talk.sends(&half(&mut sender(), true));
    let _ = talk.answers(&from_server(0xf0, 1, b"retry id"));
    assert_eq!(talk.sends(&half(&mut again, true)).outcome, Outcome::Inspect);
    let step = talk.sends(&half(&mut again, false));
    assert_eq!(reason(&step), Some(Reason::DomainRule));
    assert!(step.hello().unwrap().quic.unwrap().is_retried);

    let mut talk = fresh();
    let mut unknown = half(&mut sender(), true);
    unknown[1..5].copy_from_slice(&[0x1a; 4]);
    assert_eq!(talk.sends(&unknown).outcome, Outcome::Inspect);
    assert_eq!(talk.answers(&from_server(0x80, 0, b"")).outcome, Outcome::Inspect);
    let step = talk.sends(&sender().datagram(&crypto(0, &hello)));
    assert_eq!(reason(&step), Some(Reason::DomainRule));
}

#[test]
fn a_hello_begun_twice_is_undecided_unless_blocked() {
    for (name, decided, undecided) in
        [("www.good.test", None, Some("conflict")), ("ads.test", Some(Reason::DomainRule), None)]
    {
        let mut talk = fresh();
        let begun = crypto(0, &message("other.test")[..40]);
        assert_eq!(talk.sends(&sender().datagram(&begun)).outcome, Outcome::Inspect);
        let mut other = Sender::new(Version::V1, b"another connection");
        let step = talk.sends(&other.datagram(&crypto(0, &message(name))));
        assert_eq!((reason(&step), cause(&step)), (decided, undecided));
    }
}

#[test]
fn a_cut_copy_of_an_initial_packet_is_undecided() {
    let mut talk = fresh();
    let packet = udp(talk.client, talk.server, &sample_v1());
    let step = talk.engine.packet(2000, &packet[..300], packet.len());
    assert_eq!(cause(&step), Some("truncated_copy"));
}

#[test]
fn a_hello_of_quic_that_takes_too_long_is_undecided() {
    let hello = message("ads.test");
    let mut sender = sender();
    let mut talk = fresh();
    let _ = talk.sends(&sender.datagram(&crypto(0, &hello[..30])));
    talk.now_ms += 20_000;
    assert_eq!(cause(&talk.sends(&sender.datagram(&[1]))), Some("timeout"));
}

#[test]
fn the_client_is_who_sends_what_can_be_read() {
    // Its server was seen first, with a packet whose keys come from an id that was not seen.
    let mut talk = fresh();
    let mut server = Sender { keys_from: b"not seen".to_vec(), ..Sender::new(Version::V1, b"") };
    assert_eq!(talk.answers(&server.datagram(&[1])).outcome, Outcome::Inspect);
    let step = talk.sends(&sender().datagram(&crypto(0, &message("ads.test"))));
    assert_eq!(reason(&step), Some(Reason::DomainRule));
    assert_eq!(step.original, step.flow.map(|(_, direction)| direction));
}

/// R32, R36: what unfinished clients keep counts for the memory of the engine.
#[test]
fn many_unfinished_flows_of_quic_stay_within_their_memory() {
    let limits = Limits { flows_max: 1024, bytes_max: 1 << 20, ..Limits::default() };
    let mut engine = Engine::new(limits, Policy::default(), [3, 4]);
    let hello = Recipe::named("flood.test").padded(3000).message();
    let datagram = sender().datagram(&crypto(1500, &hello[1500..2600]));
    let server: SocketAddr = "198.51.100.1:443".parse().unwrap();
    let mut packet = udp("10.0.0.0:1024".parse().unwrap(), server, &datagram);
    let mut most = 0;
    for n in 0..2000_u32 {
        packet[12..16].copy_from_slice(&(0x0a00_0000 + n).to_be_bytes());
        let step = engine.packet(u64::from(n), &packet, packet.len());
        assert_eq!(step.outcome, Outcome::Inspect);
        most = most.max(engine.memory());
    }
    let kept: usize = engine.flows.values().map(Flow::memory).sum();
    assert_eq!(engine.kept, kept, "the account is right");
    assert!(most <= limits.bytes_max && most > limits.bytes_max / 2, "{most} bytes");
    let evicted = engine.stats().undecided[Cause::Memory.index()];
    assert_eq!(evicted + engine.flows() as u64, 2000, "each is counted");
}
