use super::*;

fn whole(text: &str) -> Request<'_> {
    match request(text.as_bytes()) {
        Answer::Request(request) => request,
        other => panic!("{other:?}: {text:?}"),
    }
}

fn name<'a>(request: &Request<'a>) -> &'a str {
    match request.host {
        Host::Name(name) => name.as_written(),
        other => panic!("{other:?}"),
    }
}

fn with_host(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[test]
fn a_request_is_read_with_its_host_its_target_and_its_client() {
    let text = "POST /a?b=c HTTP/1.1\r\nAccept: */*\r\nHOST:\t Example.COM:8080 \r\n\
                user-agent: Mozilla/5.0 (X11)\r\nUser-Agent: second\r\nX:\r\n\r\nbody";
    let request = whole(text);
    assert_eq!((request.method, request.target, request.minor), ("POST", &b"/a?b=c"[..], 1));
    assert_eq!(name(&request), "Example.COM");
    assert_eq!(request.user_agent, Some(&b"Mozilla/5.0 (X11)"[..]));
    assert_eq!(&text[request.len..], "body");
}

#[test]
fn what_servers_overlook_hides_no_host() {
    for text in [
        "GET / HTTP/1.0\nHost: a.test\n\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "\nM-SEARCH * HTTP/1.1\r\nhost:a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nhOsT:a.test.\r\n\r\n",
        "GET http://a.test HTTP/1.1\r\nHost: b.test\r\n\r\n",
        "GET HTTP://user:pw@a.test:80/x?y HTTP/1.1\r\n\r\n",
        "CONNECT a.test:443 HTTP/1.1\r\nHost: b.test\r\n\r\n",
    ] {
        assert_eq!(name(&whole(text)).trim_end_matches('.'), "a.test", "{text:?}");
    }
}

#[test]
fn hosts_are_names_or_addresses_or_nothing() {
    for (host, expected) in [
        ("", Host::Absent),
        ("192.0.2.1", Host::Address("192.0.2.1".parse().unwrap())),
        ("192.0.2.1:80", Host::Address("192.0.2.1".parse().unwrap())),
        ("[2001:db8::1]:80", Host::Address("2001:db8::1".parse().unwrap())),
        ("a-b_c.test:", Host::Name(HostName::new(b"a-b_c.test").unwrap())),
    ] {
        assert_eq!(whole(&with_host(host)).host, expected, "{host}");
    }
    assert_eq!(whole("GET / HTTP/1.0\r\n\r\n").host, Host::Absent);
    for host in [
        "a b",
        "a/b",
        "2001:db8::1",
        "[192.0.2.1]",
        "[a.test]",
        "[::1",
        "a.test:80x",
        "a:123456",
        "a..b",
        "<img>",
        "a@b",
        "[::1]80",
    ] {
        let text = with_host(host);
        assert_eq!(request(text.as_bytes()), Answer::Malformed(Malformed::Host), "{host}");
    }
}

#[test]
fn what_two_readers_may_read_differently_is_malformed() {
    for (fields, expected) in [
        ("Host: a.test\r\nHost: a.test", Malformed::TwoHosts),
        ("Host : a.test", Malformed::Field),
        ("Host: a.test\r\n b.test", Malformed::Folded),
        ("X: y\r\n\tHost: a.test", Malformed::Folded),
        ("no colon", Malformed::Field),
        (": a", Malformed::Field),
        ("H\u{e9}st: a", Malformed::Field),
        ("X: a\rHost: b", Malformed::Control),
        ("Host: a\0.test", Malformed::Control),
    ] {
        let text = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
        assert_eq!(request(text.as_bytes()), Answer::Malformed(expected), "{fields:?}");
    }
    for target in ["a.test", "x//a.test/", "1http://a.test/", "mailto:a"] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: b.test\r\n\r\n");
        assert_eq!(request(text.as_bytes()), Answer::Malformed(Malformed::Target), "{target}");
    }
}

#[test]
fn other_protocols_are_none_as_soon_as_that_is_known() {
    for text in [
        &b"\x16\x03\x01"[..],
        b"SSH-2.0-x\r\n",
        b"EHLO a.test\r\n",
        b"get / HTTP/1.1\r\n",
        b"GET  HTTP/1.1\r\n",
        b"GET / HTTP/2.0\r\n",
        b"GET / HTTP/1.10\r\n",
        b"GET / a HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"AVERYLONGWORDTHATISNOMETHOD",
        b"GET/",
        b"-GET /",
        b"\r\n\r\n\r\n\r\n\r\n",
        b" GET / HTTP/1.1\r\n",
    ] {
        assert_eq!(request(text), Answer::NotHttp, "{:?}", text.escape_ascii().to_string());
    }
}

/// R33's rule for names holds here too: however the bytes arrive.
#[test]
fn every_shorter_part_needs_more_and_what_follows_changes_nothing() {
    assert_eq!(request(b"GET /\x01"), Answer::NeedMore, "a way round, were it split here");
    assert_eq!(request(b"GET /\x01 HTTP/1.1\r\n"), Answer::Malformed(Malformed::Control));
    let text = "\r\nGET http://a.test/ HTTP/1.1\r\nHost: b.test\r\nUser-Agent: c\r\n\r\n";
    let expected = whole(text);
    for len in 0..text.len() {
        assert_eq!(request(&text.as_bytes()[..len]), Answer::NeedMore, "{len}");
    }
    for rest in ["x", "\r\n", "GET / HTTP/1.1\r\nHost: c.test\r\n\r\n"] {
        let longer = format!("{text}{rest}");
        assert_eq!(request(longer.as_bytes()), Answer::Request(expected));
    }
}

#[test]
fn a_head_has_a_longest_length() {
    let filled = |len: usize| {
        let frame = "GET / HTTP/1.1\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(len - frame))
    };
    assert_eq!(whole(&filled(HEAD_MAX)).len, HEAD_MAX);
    let long = filled(HEAD_MAX + 1);
    assert_eq!(request(long.as_bytes()), Answer::Malformed(Malformed::HeadTooLong));
    assert_eq!(request(&long.as_bytes()[..HEAD_MAX]), Answer::NeedMore);
    let line = format!("GET /{}", "a".repeat(HEAD_MAX));
    assert_eq!(request(line.as_bytes()), Answer::Malformed(Malformed::HeadTooLong));
}
