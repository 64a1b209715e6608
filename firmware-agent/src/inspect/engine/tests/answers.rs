//! Rules about what servers answer: which flows wait for it, and what it decides.

use sha1::{Digest as _, Sha1};

use super::rules::{decided, ruled};
use super::*;
use crate::inspect::tls::CertificateHash;
use crate::inspect::tls::server::tests::{flight, hello_body, message, records};

/// A certificate and the hash of it.
const DER: [u8; 900] = [0x30; 900];

fn certificate(der: &[u8]) -> String {
    CertificateHash(Sha1::digest(der).into()).to_string()
}

/// What a server of TLS 1.2 sends, and one of TLS 1.3.
fn flight_12() -> Vec<u8> {
    records(&flight(&DER), 1 << 14)
}

fn flight_13() -> Vec<u8> {
    records(&message(2, &hello_body(32, &[(43, &[3, 4])])), 1 << 14)
}

/// The JA3S of a flight, by the engine that only tells.
fn ja3s(flight: &[u8]) -> String {
    let mut talk = Talk::new(Limits { reads_answers: true, ..Limits::default() });
    talk.open();
    assert!(decided(&talk.client(PSH_ACK, &Recipe::named("any.test").wire())).is_some());
    match talk.server(PSH_ACK, flight).news {
        Some(News::Answer(answer)) => answer.ja3s.to_string(),
        other => panic!("{other:?}"),
    }
}

/// A talk under rules whose ClientHello is out.
fn asked(rules: &[&str], name: &str) -> (Talk, Step) {
    let mut talk = ruled(rules);
    talk.open();
    let step = talk.client(PSH_ACK, &Recipe::named(name).wire());
    (talk, step)
}

#[test]
fn the_answer_of_a_server_decides_where_a_rule_waits_for_it() {
    use Verdict::{Blocked, Limited, Trusted};
    let of_12 = format!("ja3s {}", ja3s(&flight_12()));
    let of_13 = format!("ja3s {}", ja3s(&flight_13()));
    let sha1 = format!("certificate {}", certificate(&DER));
    #[rustfmt::skip]
    let cases = [
        (format!("block {sha1}"),      flight_12(), Blocked, Some(0)),
        (format!("limit {sha1} at 9"), flight_12(), Limited, Some(0)),
        (format!("allow {sha1}"),      flight_12(), Trusted, Some(0)),
        (format!("observe {sha1}"),    flight_12(), Trusted, None),
        (format!("block {of_12}"),     flight_12(), Blocked, Some(0)),
        (format!("block {of_13}"),     flight_12(), Trusted, None),
        (format!("block {of_13}"),     flight_13(), Blocked, Some(0)),
        // TLS 1.3 hides its certificate.
        (format!("block {sha1}"),      flight_13(), Trusted, None),
        ("block certificate 0000000000000000000000000000000000000000".to_owned(),
                                       flight_12(), Trusted, None),
    ];
    for (rule, flight, verdict, by) in cases {
        for size in [usize::MAX, 500] {
            let (mut talk, step) = asked(&[&rule], "any.test");
            assert_eq!(step.outcome, Outcome::Inspect, "{rule}");
            assert!(step.hello().is_some(), "it is told at once");
            let mut last = talk.server(ACK, b"");
            for part in flight.chunks(size) {
                assert_eq!(last.outcome, Outcome::Inspect, "{rule}");
                last = talk.server(PSH_ACK, part);
                if last.outcome != Outcome::Inspect {
                    break;
                }
            }
            let Outcome::Decided(decision) = last.outcome else { panic!("{rule}: {last:?}") };
            assert_eq!((decision.verdict, decision.rule), (verdict, by), "{rule}");
            assert_eq!(decision.original, last.flow.unwrap().1.reversed(), "the client opened it");
            assert_eq!(decision.observed.is_some(), rule.starts_with("observe"));
            if let Some(entry) = decision.entry {
                let text = talk.engine.rules().text(entry);
                assert!(rule.contains(&text), "{rule}: {text}");
            }
            assert!(matches!(last.news, Some(News::Answer(_))));
            assert_eq!(last.earlier.unwrap().sni.as_deref(), Some("any.test"));
            assert_eq!((talk.engine.flows(), talk.engine.kept), (0, 0));
            assert!(talk.client(PSH_ACK, b"more").is_repeated);
        }
    }
}

#[test]
fn nothing_waits_where_the_answer_could_not_count() {
    let sha1 = format!("certificate {}", certificate(&DER));
    for (rules, name) in [
        (vec![], "any.test".to_owned()),
        (vec![format!("block {sha1}"), "allow domain any.test".to_owned()], "any.test".to_owned()),
        (vec![format!("block {sha1}"), "block domain any.test".to_owned()], "any.test".to_owned()),
        (vec![format!("block {sha1} for device 192.0.2.77")], "any.test".to_owned()),
        (vec![format!("block {sha1} port 8443")], "any.test".to_owned()),
    ] {
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let (talk, step) = asked(&rules, &name);
        assert!(decided(&step).is_some(), "{rules:?}");
        assert_eq!((talk.engine.flows(), step.earlier.is_none()), (0, true));
    }
    // What a list blocks is blocked at once, unless a rule could allow it.
    let listed = |rule: &str| {
        let mut talk = ruled(&[rule]);
        talk.engine.set_lists(listing(&[("ads.test", 0)]));
        talk.open();
        decided(&talk.client(PSH_ACK, &Recipe::named("ads.test").wire()))
    };
    let blocked = listed(&format!("block {sha1}")).map(|(verdict, reason, _)| (verdict, reason));
    assert_eq!(blocked, Some((Verdict::Blocked, Reason::DomainList)));
    assert_eq!(listed(&format!("allow {sha1}")), None);
}

#[test]
fn a_server_that_does_not_answer_leaves_what_the_hello_led_to() {
    let rule = format!("block certificate {}", certificate(&DER));
    let clean = Some((Verdict::Trusted, Reason::HelloClean, None));
    // Something else than TLS, however long it goes on.
    let (mut talk, _) = asked(&[&rule], "any.test");
    let step = talk.server(PSH_ACK, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(decided(&step), clean);
    assert_eq!(step.earlier.unwrap().sni.as_deref(), Some("any.test"), "the name is not lost");
    // Its packets: sixteen with payload, and no more.
    let (mut talk, _) = asked(&[&rule], "any.test");
    let flight = flight_12();
    for part in flight.chunks(1).take(15) {
        assert_eq!(talk.server(ACK, b"").outcome, Outcome::Inspect);
        assert_eq!(talk.server(PSH_ACK, part).outcome, Outcome::Inspect);
        assert_eq!(talk.client(ACK, b"").outcome, Outcome::Inspect);
    }
    assert_eq!(decided(&talk.server(PSH_ACK, &flight[15..16])), clean);
    // Its time, with the next packet and with silence.
    let (mut talk, _) = asked(&[&rule], "any.test");
    talk.now_ms += 15_000 - 2;
    assert_eq!(talk.client(ACK, b"").outcome, Outcome::Inspect);
    talk.now_ms += 2;
    assert_eq!(decided(&talk.client(ACK, b"")), clean);
    let (mut talk, _) = asked(&[&rule], "any.test");
    talk.now_ms += 61_000;
    talk.engine.expire(talk.now_ms);
    assert_eq!((talk.engine.flows(), talk.engine.kept), (0, 0));
    assert_eq!(decided(&talk.server(PSH_ACK, &flight)), clean);
}

#[test]
fn an_answer_that_is_uncertain_or_was_given_up_is_not_trusted() {
    let rule = format!("block certificate {}", certificate(&DER));
    // Two copies of a byte, of which the client may take either.
    let other = "block certificate 0000000000000000000000000000000000000000";
    let (mut talk, _) = asked(&[other], "any.test");
    let mut flight = flight_12();
    assert_eq!(talk.server(PSH_ACK, &flight[..700]).outcome, Outcome::Inspect);
    flight[699] ^= 1;
    talk.server_seq -= 100;
    assert_eq!(cause(&talk.server(PSH_ACK, &flight[600..])), Some("conflict"));
    // Its state made place for others.
    let (mut talk, _) = asked(&[&rule], "any.test");
    while talk.engine.flows() > 0 {
        talk.engine.crowd_out(talk.now_ms);
    }
    assert_eq!(talk.engine.kept, 0, "the account is right");
    assert_eq!(cause(&talk.server(PSH_ACK, &flight_12())), Some("memory"));
    // An end that anybody can forge, in the midst of it.
    let (mut talk, _) = asked(&[&rule], "any.test");
    let _ = talk.server(FIN | ACK, b"");
    let last = (0..12).map(|_| talk.server(PSH_ACK, b"more")).last().unwrap();
    assert_eq!(cause(&last), Some("after_close"));
}

/// The account of memory, with hellos that are as long as they may be.
#[test]
fn flows_that_wait_are_in_the_account_of_memory() {
    let rule = format!("block certificate {}", certificate(&DER));
    let (mut talk, _) = asked(&[&rule], "a-name-that-takes-some-room.any.test");
    let kept = |talk: &Talk| talk.engine.flows.values().map(Flow::memory).sum::<usize>();
    assert!(talk.engine.kept > size_of::<Hello>());
    assert_eq!(talk.engine.kept, kept(&talk));
    let _ = talk.server(PSH_ACK, &flight_12()[..500]);
    assert_eq!(talk.engine.kept, kept(&talk));
    let _ = talk.server(PSH_ACK, &flight_12()[500..]);
    assert_eq!(talk.engine.kept, 0);
}
