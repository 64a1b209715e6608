//! Openings that are no ClientHello: requests of plain HTTP, lines that ask for TLS, other protocols.

use super::*;
use crate::inspect::http2::tests::opening;

fn plain() -> Talk {
    let mut talk = Talk::new(Limits::default());
    talk.server.set_port(80);
    talk.open();
    talk
}

fn get(host: &str) -> Vec<u8> {
    format!("GET /a?b HTTP/1.1\r\nHost: {host}\r\nUser-Agent: x\x1b/1\r\n\r\n")
        .replace('\x1b', "\"")
        .into()
}

fn spoken(step: &Step) -> Option<(&'static str, &'static str)> {
    match step.outcome {
        Outcome::Decided(decision) => {
            decision.protocol.map(|(protocol, sure)| (protocol.name(), sure.name()))
        }
        _ => None,
    }
}

#[test]
fn a_request_names_its_flow_as_a_hello_does() {
    for (host, verdict, reason, rule) in [
        ("Example.com:8080", Verdict::Trusted, Reason::RequestClean, None),
        ("x.ADS.test", Verdict::Blocked, Reason::DomainRule, Some(10)),
        ("good.ads.test.", Verdict::Trusted, Reason::DomainAllowed, Some(11)),
        ("192.0.2.1", Verdict::Trusted, Reason::RequestClean, None),
        ("", Verdict::Trusted, Reason::RequestClean, None),
    ] {
        let mut talk = plain();
        let step = talk.client(PSH_ACK, &get(host));
        let Outcome::Decided(decision) = step.outcome else { panic!("{step:?}") };
        assert_eq!(
            (decision.verdict, decision.reason, decision.rule),
            (verdict, reason, rule),
            "{host}"
        );
        assert_eq!(spoken(&step), Some(("http", "certain")));
        let Some(News::Request(request)) = step.news else { panic!() };
        assert_eq!((&*request.method, &*request.target, request.minor), ("GET", "/a?b", 1));
        assert_eq!(request.user_agent.as_deref(), Some("x\\\"/1"), "escaped");
        let expected = host.split(':').next().unwrap().trim_end_matches('.').to_lowercase();
        assert_eq!(request.host.as_deref().unwrap_or_default(), expected);
        assert_eq!(request.key.destination(request.direction).1, 80);
        assert_eq!((talk.engine.stats().requests, talk.engine.stats().hellos), (1, 0));
        assert_eq!(talk.engine.flows(), 0, "a decided flow is forgotten");
    }
}

/// R39: HTTP/2 without TLS is named by its first request, however its bytes arrive.
#[test]
fn a_request_of_http2_names_its_flow_as_one_of_http1_does() {
    for (host, verdict, reason_of, rule) in [
        ("Example.com:8080", Verdict::Trusted, Reason::RequestClean, None),
        ("x.ADS.test", Verdict::Blocked, Reason::DomainRule, Some(10)),
        ("192.0.2.1", Verdict::Trusted, Reason::RequestClean, None),
    ] {
        let mut talk = plain();
        let step = talk.client(PSH_ACK, &opening(host));
        let Outcome::Decided(decision) = step.outcome else { panic!("{step:?}") };
        assert_eq!(
            (decision.verdict, decision.reason, decision.rule),
            (verdict, reason_of, rule),
            "{host}"
        );
        assert_eq!(spoken(&step), Some(("http2", "certain")));
        let Some(News::Request(request)) = step.news else { panic!() };
        assert_eq!((&*request.method, &*request.target, request.major), ("GET", "/a?b", 2));
        assert_eq!(request.user_agent.as_deref(), Some("curl/8"));
    }
    let bytes = opening("ads.test");
    for at in 1..bytes.len() {
        for is_swapped in [false, true] {
            let mut talk = plain();
            let parts = [(0, &bytes[..at]), (at, &bytes[at..])];
            let [first, last] = if is_swapped { [parts[1], parts[0]] } else { parts };
            let step = talk.client_at(first.0, PSH_ACK, first.1);
            assert_eq!(step.outcome, Outcome::Inspect, "{at} {is_swapped}");
            let step = talk.client_at(last.0, PSH_ACK, last.1);
            assert_eq!(reason(&step), Some(Reason::DomainRule), "{at} {is_swapped}");
        }
    }
    // What cannot be told is never trusted.
    let mut talk = plain();
    let step = talk.client(PSH_ACK, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x01\0\0\0\0\x01");
    assert_eq!(cause(&step), Some("malformed_http2"));
    let Outcome::Undecided(cause_of) = step.outcome else { panic!() };
    assert_eq!(cause_of.detail(), Some("frame"));
}

#[test]
fn a_request_that_is_split_anywhere_in_any_order_is_the_same() {
    let bytes = get("ads.test");
    for at in 1..bytes.len() {
        for is_swapped in [false, true] {
            let mut talk = plain();
            let (first, second) = bytes.split_at(at);
            let (early, late) =
                if is_swapped { ((at, second), (0, first)) } else { ((0, first), (at, second)) };
            let step = talk.client_at(early.0, PSH_ACK, early.1);
            assert_eq!(step.outcome, Outcome::Inspect, "{at} {is_swapped}");
            let step = talk.client_at(late.0, PSH_ACK, late.1);
            assert_eq!(reason(&step), Some(Reason::DomainRule), "{at} {is_swapped}");
        }
    }
}

#[test]
fn a_request_that_cannot_be_told_is_never_trusted() {
    let mut talk = plain();
    let twice = b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: ads.test\r\n\r\n";
    let step = talk.client(PSH_ACK, twice);
    assert_eq!(cause(&step), Some("malformed_http"));
    let Outcome::Undecided(cause_of) = step.outcome else { panic!() };
    assert_eq!(cause_of.detail(), Some("two_hosts"));

    // Two copies of a byte, of which the server may take either.
    let mut talk = plain();
    let _ = talk.client_at(9, PSH_ACK, b"TTP/1.1\r\nHost: a.test\r\n\r\n");
    let _ = talk.client_at(9, PSH_ACK, b"TTP/1.1\r\nHost: b.test\r\n\r\n");
    let step = talk.client_at(0, PSH_ACK, b"GET /a/ H");
    assert_eq!(cause(&step), Some("conflict"), "{step:?}");

    // A request that never ends.
    let mut talk = plain();
    let _ = talk.client(PSH_ACK, b"GET / HTTP/1.1\r\nHost: ads.test\r\n");
    let last =
        (0..200).map(|_| talk.client(PSH_ACK, b"X: y\r\n")).find(|s| s.outcome != Outcome::Inspect);
    assert_eq!(last.as_ref().and_then(cause), None, "bytes that come are news");
    talk.now_ms += 20_000;
    let step = talk.client(PSH_ACK, b"X: y\r\n");
    assert_eq!(cause(&step), Some("timeout"));
}

#[test]
fn tls_that_begins_behind_a_line_is_found() {
    for (port, greeting, lines) in [
        (25, "220 mail.test ESMTP\r\n", ["EHLO laptop\r\n", "STARTTLS\r\n"]),
        (143, "* OK ready\r\n", ["a1 CAPABILITY\r\n", "a2 STARTTLS\r\n"]),
        (110, "+OK ready\r\n", ["CAPA\r\n", "STLS\r\n"]),
        (21, "220 FTP\r\n", ["FEAT\r\n", "AUTH TLS\r\n"]),
    ] {
        for (name, expected) in [("ads.test", Reason::DomainRule), ("b.test", Reason::HelloClean)] {
            let mut talk = Talk::new(Limits::default());
            talk.server.set_port(port);
            talk.open();
            let _ = talk.server(PSH_ACK, greeting.as_bytes());
            for line in lines {
                assert_eq!(talk.client(PSH_ACK, line.as_bytes()).outcome, Outcome::Inspect);
                assert_eq!(talk.server(PSH_ACK, b"250 fine\r\n").outcome, Outcome::Inspect);
            }
            let hello = Recipe::named(name).wire();
            let (first, second) = hello.split_at(30);
            assert_eq!(talk.client(PSH_ACK, first).outcome, Outcome::Inspect, "{port}");
            let step = talk.client(PSH_ACK, second);
            assert_eq!(reason(&step), Some(expected), "{port} {name}");
            assert_eq!(spoken(&step), Some(("tls", "certain")));
            assert_eq!(step.hello().unwrap().sni.as_deref(), Some(name));
        }
    }
}

#[test]
fn lines_that_go_on_without_tls_are_a_mail_to_the_end_of_the_window() {
    let mut talk = Talk::new(Limits::default());
    talk.server.set_port(2525);
    talk.open();
    let _ = talk.server(PSH_ACK, b"220 mail.test ESMTP\r\n");
    let steps: Vec<Step> = (0..12).map(|_| talk.client(PSH_ACK, b"EHLO laptop\r\n")).collect();
    let last = steps.iter().find(|step| step.outcome != Outcome::Inspect).unwrap();
    assert_eq!(reason(last), Some(Reason::WindowEnd));
    assert_eq!(spoken(last), Some(("smtp", "certain")));
}

#[test]
fn other_protocols_are_named_at_the_end_of_their_window() {
    let mut talk = opened();
    let _ = talk.server(PSH_ACK, b"SSH-2.0-dropbear\r\n");
    let steps: Vec<Step> = (0..12).map(|_| talk.client(PSH_ACK, &[0; 40])).collect();
    let last = steps.iter().find(|step| step.outcome != Outcome::Inspect).unwrap();
    assert_eq!((reason(last), spoken(last)), (Some(Reason::WindowEnd), Some(("ssh", "certain"))));

    let mut talk = Talk::new(Limits::default());
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[9; 12]].concat();
    let packet = udp(talk.client, talk.server, &binding);
    let steps: Vec<Step> = (0..12).map(|_| talk.give(&packet)).collect();
    let last = steps.iter().find(|step| step.outcome != Outcome::Inspect).unwrap();
    assert_eq!((reason(last), spoken(last)), (Some(Reason::WindowEnd), Some(("stun", "certain"))));
}
