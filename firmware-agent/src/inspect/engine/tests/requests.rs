//! Requests behind the first on a connection of plain HTTP.

use super::*;

fn get(host: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into()
}

/// A connection on which a harmless host was asked for.
fn asked() -> Talk {
    let mut talk = Talk::new(Limits::default());
    talk.server.set_port(80);
    talk.open();
    let step = talk.client(PSH_ACK, &get("fine.test"));
    assert_eq!(reason(&step), Some(Reason::RequestClean));
    talk
}

/// R24: a later request is judged as the first was, whatever was answered and however late it comes.
#[test]
fn a_later_request_is_judged_like_the_first() {
    let mut talk = asked();
    for pause_ms in [1, 20_000] {
        assert!(talk.server(PSH_ACK, b"HTTP/1.1 200 OK\r\n\r\n").is_repeated || pause_ms > 1);
        talk.now_ms += pause_ms;
        let step = talk.client(PSH_ACK, &get("other.test"));
        assert_eq!(reason(&step), Some(Reason::RequestClean));
        let Some(News::Request(request)) = &step.news else { panic!("{step:?}") };
        assert_eq!(request.host.as_deref(), Some("other.test"));
    }
    let step = talk.client(PSH_ACK, &get("x.ads.test"));
    assert_eq!(reason(&step), Some(Reason::DomainRule));
    assert!(talk.client(PSH_ACK, &get("fine.test")).is_repeated, "blocked is blocked");
}

#[test]
fn a_later_request_may_come_in_parts_and_behind_a_body() {
    let request = get("x.ads.test");
    for at in 1..request.len() {
        let mut talk = asked();
        let step = talk.client(PSH_ACK, b"field=value&other=more");
        assert_eq!(step.outcome, Outcome::Inspect);
        assert_eq!(talk.client(PSH_ACK, &request[..at]).outcome, Outcome::Inspect, "{at}");
        let step = talk.client(PSH_ACK, &request[at..]);
        assert_eq!(reason(&step), Some(Reason::DomainRule), "{at}");
    }
}

/// A client that sends much that is no request uploads something: that is not looked at to its end.
#[test]
fn an_upload_is_looked_at_no_longer_than_a_window() {
    let mut talk = asked();
    let packets = Limits::default().window_packets;
    for _ in 1..packets {
        assert_eq!(talk.client(PSH_ACK, &[b'x'; 1000]).outcome, Outcome::Inspect);
    }
    let step = talk.client(PSH_ACK, &[b'x'; 1000]);
    assert_eq!(reason(&step), Some(Reason::WindowEnd));
    assert!(step.news.is_none() && !step.is_repeated);
    assert!(talk.client(PSH_ACK, &[b'x'; 1000]).is_repeated);
    assert_eq!(talk.engine.flows(), 0);
}

#[test]
fn what_carries_nothing_or_ends_is_no_request() {
    let mut talk = asked();
    assert!(talk.client(ACK, &[]).is_repeated);
    assert!(talk.client(FIN | ACK, &[]).is_repeated);
    assert!(talk.client(RST | ACK, b"GET / HTTP/1.1\r\nHost: ads.test\r\n\r\n").is_repeated);
}
