//! Rulesets and the packets of flows under inspection.

use std::fmt::Write as _;

use super::*;
use crate::signature::Ruleset;

const REQUEST: &[u8] =
    b"GET /evil?\xff\"x HTTP/1.1\r\nHost: WWW.Shop.test:80\r\nUser-Agent: bad\xfe/1\r\n\r\n";

/// A talk that is compared with `rules`, each behind its action and protocol.
fn watched(enforces: bool, rules: &[&str]) -> Talk {
    let mut text = String::new();
    for (sid, rule) in (1..).zip(rules) {
        let (head, options) = rule.split_once(' ').unwrap();
        let head = head.replace('/', " ");
        let _ = writeln!(text, "{head} any any -> any any (msg:\"m{sid}\"; {options} sid:{sid};)");
    }
    let ruleset = Ruleset::of_text("feed", enforces, &text).unwrap();
    assert_eq!(ruleset.report().rules as usize, rules.len(), "{:?}", ruleset.report());
    let mut talk = Talk::new(Limits::default());
    talk.engine.set_watch(Watch::new(vec![ruleset]));
    talk
}

fn sids(step: &Step) -> Vec<u32> {
    step.alerts.iter().filter(|alert| alert.is_told).map(|alert| alert.sid).collect()
}

/// R44: a message that comes in two segments is given when it is whole, unescaped, and once.
#[test]
fn each_part_of_a_request_is_given_with_the_packet_that_completes_it() {
    let rules = [
        "alert/http http.uri; content:\"/evil?|ff 22|\"; startswith;",
        "alert/http http.host; content:\"www.shop.test\"; bsize:13;",
        "alert/http http.method; content:\"GET\";",
        "alert/http http.user_agent; content:\"bad|fe|\";",
        "alert/tcp content:\"/evil?\"; content:\"Shop\"; distance:1; flow:established,to_server;",
        "alert/tls http.uri; content:\"/evil\";",
        "alert/http tls.sni; content:\"shop\";",
    ];
    for whole in [true, false] {
        let mut talk = watched(false, &rules);
        talk.open();
        let step = if whole {
            talk.client(PSH_ACK, REQUEST)
        } else {
            assert_eq!(sids(&talk.client(PSH_ACK, &REQUEST[..20])), [0; 0]);
            talk.client(PSH_ACK, &REQUEST[20..])
        };
        assert_eq!(sids(&step), [1, 2, 3, 4, 5], "whole: {whole}");
        assert_eq!(reason(&step), Some(Reason::RequestClean));
        assert_eq!(step.alerts[0].title(), "feed:1 m1");
    }
}

#[test]
fn a_hello_is_given_by_name_and_fingerprints() {
    let wire = Recipe::named("Ads.Example").wire();
    let hello = opened().client(PSH_ACK, &wire).hello().unwrap().clone();
    let (ja3, ja4) = (format!("{}", hello.ja3), hello.ja4.as_str().to_owned());
    let rules = [
        "alert/tls tls.sni; content:\"ads.example\"; bsize:11;",
        &format!("alert/tls ja3.hash; content:\"{ja3}\";"),
        &format!("alert/tls ja4.hash; content:\"{ja4}\";"),
        "alert/tls tls.sni; content:\"ads.examplf\";",
    ];
    for cut in [wire.len(), 40] {
        let mut talk = watched(false, &rules);
        talk.open();
        let mut step = talk.client(PSH_ACK, &wire[..cut]);
        if cut < wire.len() {
            assert_eq!(sids(&step), [0; 0]);
            step = talk.client(PSH_ACK, &wire[cut..]);
        }
        assert_eq!(sids(&step), [1, 2, 3], "cut at {cut}");
    }
}

/// What no message is looked for in is put in order all the same.
#[test]
fn contents_are_found_across_segments_of_any_protocol_and_out_of_order() {
    let rules = ["alert/tcp content:\"EVILWORD\";", "alert/tcp-pkt content:\"EVILWORD\";"];
    let mut talk = watched(false, &rules);
    talk.open();
    assert_eq!(sids(&talk.client(PSH_ACK, b"\x00\x01\x02\x03 EV")), [0; 0]);
    assert_eq!(sids(&talk.client_at(2, PSH_ACK, b"WORD")), [0; 0], "a gap before it");
    assert_eq!(sids(&talk.client(PSH_ACK, b"IL")), [1]);
    // Without rulesets nothing is kept.
    let mut talk = opened();
    let _ = talk.client(PSH_ACK, b"\x00\x01\x02\x03 EV");
    assert_eq!(talk.engine.kept, 0);
}

/// The name that is asked for, in a datagram and in a stream that comes in two segments.
#[test]
fn a_question_of_dns_is_given_by_its_name() {
    let rules = [
        "alert/dns dns.query; content:\"www.Evil.test\"; bsize:13;",
        "alert/dns dns.query; content:\"evil\";",
    ];
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(b"\x03www\x04Evil\x04test\0\0\x01\0\x01");
    for is_tcp in [false, true] {
        let mut talk = watched(false, &rules);
        talk.server.set_port(53);
        if is_tcp {
            talk.open();
            let framed = [&[0, message.len() as u8], &message[..]].concat();
            assert_eq!(sids(&talk.client(PSH_ACK, &framed[..20])), [0; 0]);
            assert_eq!(sids(&talk.client(PSH_ACK, &framed[20..])), [1]);
        } else {
            let packet = udp(talk.client, talk.server, &message);
            assert_eq!(sids(&talk.give(&packet)), [1]);
            // An answer repeats the question and asks nothing.
            message[2] |= 0x80;
            talk.client.set_port(40001);
            let packet = udp(talk.client, talk.server, &message);
            assert_eq!(sids(&talk.give(&packet)), [0; 0]);
            message[2] &= 0x7f;
        }
    }
}

#[test]
fn a_number_alerts_once_for_a_flow() {
    let mut talk = watched(false, &["alert/tcp content:\"ping\";", "alert/tcp content:\"pong\";"]);
    talk.open();
    let told: Vec<_> = (0..4).map(|_| sids(&talk.client(PSH_ACK, b"\x00ping"))).collect();
    assert_eq!(told, [vec![1], vec![], vec![], vec![]]);
    assert_eq!(sids(&talk.server(PSH_ACK, b"\x00ping pong")), [2]);
    talk.client.set_port(40001);
    talk.open();
    assert_eq!(sids(&talk.client(PSH_ACK, b"\x00ping")), [1], "another flow");
    assert_eq!(talk.engine.watch().unwrap().iter().next().unwrap().counts(), (3, 0));
}

/// A drop blocks under `enforce` only, and never what a rule of the configuration decided.
#[test]
fn a_drop_blocks_when_it_is_enforced_and_no_rule_says_otherwise() {
    use Reason::{DomainAllowed, DomainRule, HelloClean, Signature};
    let drop = "drop/tls tls.sni; content:\"test\";";
    let pass = "pass/tls tls.sni; content:\"shop.test\";";
    for (enforces, rules, name, expected, told) in [
        (false, &[drop][..], "www.test", HelloClean, &[1][..]),
        (true, &[drop], "www.test", Signature, &[1]),
        (true, &[drop], "www.other", HelloClean, &[]),
        (true, &[drop], "bank.test", DomainAllowed, &[1]),
        (true, &[drop], "ads.test", DomainRule, &[1]),
        (true, &[drop, pass], "shop.test", HelloClean, &[]),
        (true, &["alert/tls tls.sni; content:\"test\";"], "www.test", HelloClean, &[1]),
        (true, &["reject/tls tls.sni; content:\"test\";"], "www.test", Signature, &[1]),
    ] {
        let mut talk = watched(enforces, rules);
        talk.open();
        let step = talk.client(PSH_ACK, &Recipe::named(name).wire());
        assert_eq!((reason(&step), &*sids(&step)), (Some(expected), told), "{name} {rules:?}");
        assert_eq!(step.alerts.iter().any(|alert| alert.blocks), expected == Signature);
        assert_eq!(step.outcome.is_blocked(), matches!(expected, Signature | DomainRule));
        // What was decided stays for packets that were queued before.
        let step = talk.client(PSH_ACK, b"more");
        assert!(step.is_repeated && sids(&step).is_empty());
        assert_eq!(reason(&step), Some(expected));
    }
}

#[test]
fn flags_sizes_ways_and_states_are_those_of_the_flow() {
    let rules = [
        "alert/tcp flags:S; threshold:type both, track by_src, count 3, seconds 60;",
        "alert/tcp flow:established,to_client; dsize:3;",
        "alert/tcp flow:not_established; dsize:>0;",
        "alert/udp dsize:5; flow:not_established;",
        "alert/udp dsize:6; flow:established;",
    ];
    let mut talk = watched(false, &rules);
    let mut told = Vec::new();
    for port in 1..5 {
        talk.client.set_port(port);
        told.extend(sids(&talk.client(SYN, &[])));
    }
    assert_eq!(told, [1], "with the third, once a minute");
    let _ = talk.server(SYN_ACK, &[]);
    assert_eq!(sids(&talk.client(ACK, b"\x00ab")), [0; 0], "not to the client");
    assert_eq!(sids(&talk.server(PSH_ACK, b"\x00ab")), [2]);
    let packet = udp(talk.client, talk.server, b"12345");
    assert_eq!(sids(&talk.give(&packet)), [4]);
    let packet = udp(talk.server, talk.client, b"123456");
    assert_eq!(sids(&talk.give(&packet)), [5]);
}

/// R32 with rulesets: streams that are put in order for them are in the account.
#[test]
fn streams_kept_for_rulesets_stay_within_their_memory() {
    let limits = Limits { flows_max: 4096, bytes_max: 1 << 20, ..Limits::default() };
    let mut talk = watched(false, &["alert/tcp content:\"|00|\";"]);
    let watch = talk.engine.watch.take();
    talk.engine = Engine::new(limits, Policy::default(), [1, 2]);
    talk.engine.set_watch(watch);
    let mut most = 0;
    for n in 0..20_000_u32 {
        talk.client = SocketAddr::new(IpAddr::V4((0x0a00_0000 + n).into()), 1024);
        let _ = talk.client_at(0, SYN, b"");
        let _ = talk.client_at(1, PSH_ACK, &[0; 1000]);
        most = most.max(talk.engine.memory());
    }
    let kept: usize = talk.engine.flows.values().map(Flow::memory).sum();
    assert_eq!(talk.engine.kept, kept, "the account is right");
    assert!(most <= limits.bytes_max && most > limits.bytes_max / 2, "{most}");
}
