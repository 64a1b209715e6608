//! What rules decide, and when.

use super::*;
use crate::config::Mac;
use crate::policy::grammar::parse;
use crate::policy::{Surroundings, TimeZone, Zone};

/// A talk under rules as text, whose client is behind interface 1.
pub(super) fn ruled(rules: &[&str]) -> Talk {
    let mut talk = Talk::new(Limits::default());
    talk.engine.set_rules(compiled(rules));
    talk
}

fn compiled(rules: &[&str]) -> Policy {
    let rules: Vec<_> = rules.iter().map(|text| parse("r", text).unwrap()).collect();
    let around = Surroundings {
        zones: vec!["wan", "lan"],
        groups: &[],
        schedules: &[],
        apps: &crate::config::Apps::default(),
        countries: &Arc::default(),
        time_zone: TimeZone::UTC,
    };
    Policy::new(&rules, &around)
}

pub(super) fn decided(step: &Step) -> Option<(Verdict, Reason, Option<u32>)> {
    match step.outcome {
        Outcome::Decided(decision) => Some((decision.verdict, decision.reason, decision.rule)),
        _ => None,
    }
}

/// R171: a pause is not only for what is decided and for what is new, and leaves nothing behind.
#[test]
fn a_pause_takes_flows_under_inspection_and_lets_them_go() {
    let paused = Some((Verdict::Blocked, Reason::Paused, Some(0)));
    let mut talk = ruled(&[]);
    talk.open();
    assert_eq!(decided(&talk.client(PSH_ACK, b"x")), None);
    talk.engine.set_rules(compiled(&["pause any for device 192.0.2.9"]));
    talk.engine.look_for_pauses();
    assert_eq!(decided(&talk.client(PSH_ACK, b"x")), paused);
    let again = talk.client(PSH_ACK, b"x");
    assert!(again.is_repeated && decided(&again) == paused);
    talk.engine.set_rules(compiled(&[]));
    talk.engine.look_for_pauses();
    assert_eq!(decided(&talk.client(PSH_ACK, b"x")), None);
    assert_eq!(talk.engine.flows(), 1);
}

/// A rule that needs no payload decides with the SYN, unless another one above it waits.
#[test]
fn a_rule_about_ends_decides_with_the_first_packet() {
    use Verdict::{Blocked, Trusted};
    #[rustfmt::skip]
    let cases = [
        (&["block port 443"][..],                          Some((Blocked, Reason::Rule, Some(0)))),
        (&["allow ip 198.51.100.0/24"],                    Some((Trusted, Reason::RuleAllowed, Some(0)))),
        (&["block any for device 192.0.2.9"],              Some((Blocked, Reason::Rule, Some(0)))),
        (&["block any for device 192.0.2.8"],              None),
        (&["block port 40000"],                            None),
        (&["block port 443", "allow domain bank.test"],    None),
    ];
    for (rules, expected) in cases {
        let mut talk = ruled(rules);
        let step = talk.client_at(0, SYN, b"");
        assert_eq!(decided(&step), expected, "{rules:?}");
        assert_eq!(step.ends.unwrap().port, 443);
    }
    // What waited is decided by the hello, or by the end of the window.
    let rules = ["block port 443", "allow domain bank.test"];
    for (name, verdict, rule) in [("bank.test", Trusted, 1), ("other.test", Blocked, 0)] {
        let mut talk = ruled(&rules);
        talk.open();
        let step = talk.client(PSH_ACK, &Recipe::named(name).wire());
        let (found, _, by) = decided(&step).unwrap();
        assert_eq!((found, by), (verdict, Some(rule)), "{name}");
    }
    let mut talk = ruled(&rules);
    talk.open();
    let last = (0..10).map(|_| talk.client(PSH_ACK, b"no hello")).last().unwrap();
    assert_eq!(decided(&last), Some((Blocked, Reason::Rule, Some(0))));
}

/// Fingerprints and protocol of a hello are conditions like its name; R172: the entry is named.
#[test]
fn a_hello_is_judged_by_its_fingerprints_and_its_protocol() {
    let wire = Recipe::named("any.test").wire();
    let hello = |talk: &mut Talk| {
        talk.open();
        talk.client(PSH_ACK, &wire)
    };
    let seen = hello(&mut ruled(&[])).hello().unwrap().clone();
    for (rule, entry) in [
        (format!("block ja3 {}", seen.ja3), seen.ja3.to_string()),
        (format!("block ja4 {}", seen.ja4), seen.ja4.to_string()),
        ("block protocol tls".to_owned(), "protocol tls".to_owned()),
        ("block domain test".to_owned(), "test".to_owned()),
    ] {
        let mut talk = ruled(&[&rule]);
        let Outcome::Decided(decision) = hello(&mut talk).outcome else { panic!("{rule}") };
        assert_eq!((decision.verdict, decision.rule), (Verdict::Blocked, Some(0)), "{rule}");
        assert_eq!(talk.engine.rules().text(decision.entry.unwrap()), entry);
    }
    for rule in ["block protocol quic", "block ja3 00000000000000000000000000000000"] {
        let step = hello(&mut ruled(&[rule]));
        assert_eq!(decided(&step), Some((Verdict::Trusted, Reason::HelloClean, None)), "{rule}");
    }
}

/// R173: what a rule that observes would have blocked is trusted, and told.
#[test]
fn a_rule_that_observes_is_told_with_the_decision() {
    let mut talk = ruled(&["observe domain ads.test"]);
    talk.open();
    let step = talk.client(PSH_ACK, &Recipe::named("x.ads.test").wire());
    let Outcome::Decided(decision) = step.outcome else { panic!("{step:?}") };
    assert_eq!((decision.verdict, decision.reason), (Verdict::Trusted, Reason::HelloClean));
    assert_eq!((decision.rule, decision.observed.map(|found| found.rule)), (None, Some(0)));
}

/// The hardware address of a device counts whoever opened the connection, once the device speaks.
#[test]
fn a_device_is_known_by_what_it_sends() {
    let rule = "block any for device 02:00:5e:10:00:01";
    let (lan, wan) = (Zone { number: 1, is_lan: true }, Zone { number: 0, is_lan: false });
    let mac = |last| Some(Mac([2, 0, 0x5e, 0x10, 0, last]));
    let out = Path { mac: mac(1), from: Some(lan), to: Some(wan) };
    let back = Path { mac: mac(9), from: Some(wan), to: Some(lan) };
    let give = |talk: &mut Talk, packet: &[u8], path: &Path| {
        let step = talk.engine.packet_on(talk.now_ms, packet, packet.len(), path);
        decided(&step).map(|(verdict, ..)| verdict)
    };
    let ends = |talk: &Talk| (talk.client, talk.server);
    let mut talk = ruled(&[rule]);
    let (inside, outside) = ends(&talk);
    let syn = tcp(inside, outside, 1, SYN, b"");
    assert_eq!(give(&mut talk, &syn, &Path { mac: mac(2), ..out }), None);
    assert_eq!(give(&mut ruled(&[rule]), &syn, &out), Some(Verdict::Blocked));
    // Opened from outside: the gateway's address is nobody's, the answer tells the device.
    let mut talk = ruled(&[rule]);
    assert_eq!(give(&mut talk, &tcp(outside, inside, 1, SYN, b""), &back), None);
    let answer = tcp(inside, outside, 1, SYN | ACK, b"");
    assert_eq!(give(&mut talk, &answer, &out), Some(Verdict::Blocked));
}

/// What is spoken is a condition of rules by the words of the parser, and a guess is none.
#[test]
fn a_protocol_is_known_to_rules_by_its_word() {
    use Protocol::*;
    let all = [
        Tls, Quic, Http, Http2, Ssh, Dns, Mdns, Dhcp, Dtls, Stun, BitTorrent, WireGuard, OpenVpn,
        Rtp, Ntp, Smtp, Imap, Pop3, Ftp, Sip, Rtsp, Ssdp, Mqtt, Smb, Rdp, Vnc,
    ];
    assert_eq!(all.map(Protocol::name), crate::config::PROTOCOLS);
    let mut talk = ruled(&["block protocol ssh", "limit domain web.test protocol http at 9"]);
    talk.open();
    let steps: Vec<_> =
        (0..10).map(|_| decided(&talk.client(PSH_ACK, b"SSH-2.0-client\r\n"))).collect();
    assert_eq!(steps[9], Some((Verdict::Blocked, Reason::Rule, Some(0))));
    talk.client.set_port(40_001);
    talk.open();
    let step = talk.client(PSH_ACK, b"GET / HTTP/1.1\r\nHost: x.web.test\r\n\r\n");
    assert_eq!(decided(&step), Some((Verdict::Limited, Reason::DomainRule, Some(1))));
    let judge = |confidence| {
        let judge = Judge {
            rules: talk.engine.rules(),
            lists: talk.engine.lists(),
            ends: step.ends.unwrap(),
        };
        judge.end(Some((Ssh, confidence))).verdict
    };
    assert_eq!(judge(Confidence::Likely), Verdict::Blocked);
    assert_eq!(judge(Confidence::Guess), Verdict::Trusted);
}
