use super::huffman::tests::encode;
use super::*;

/// A frame.
pub(in crate::inspect) fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let len = (content.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

/// A block of fields that are not indexed; values in the code of HPACK.
pub(in crate::inspect) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let len = |len: usize, bit: u8| match u8::try_from(len) {
        Ok(len @ 0..=126) => vec![bit | len],
        _ => vec![bit | 127, (len - 127) as u8 & 127 | 128, ((len - 127) >> 7) as u8],
    };
    let field = |(name, value): &(&str, &str)| {
        let coded = encode(value.as_bytes());
        [&[0][..], &len(name.len(), 0), name.as_bytes(), &len(coded.len(), 128), &coded].concat()
    };
    fields.iter().flat_map(field).collect()
}

/// Preface, settings, and a request with this authority.
pub(in crate::inspect) fn opening(authority: &str) -> Vec<u8> {
    connection(&[(1, 5, 1, &get(authority))])
}

fn get(authority: &str) -> Vec<u8> {
    let all =
        [(":method", "GET"), (":path", "/a?b"), (":scheme", "http"), (":authority", authority)];
    block(&[&all[..], &[("user-agent", "curl/8"), ("accept", "*/*")]].concat())
}

/// What a client sends: preface, settings, more room, these frames.
fn connection(frames: &[(u8, u8, u32, &[u8])]) -> Vec<u8> {
    let before = [frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]), frame(8, 0, 0, &[0, 1, 0, 0])].concat();
    let frames = frames
        .iter()
        .flat_map(|(kind, flags, stream, content)| frame(*kind, *flags, *stream, content));
    PREFACE.iter().copied().chain(before).chain(frames).collect()
}

fn whole(bytes: &[u8]) -> Request {
    match request(bytes) {
        Answer::Request(request) => *request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_request_is_read_at_whatever_length_it_becomes_whole() {
    let bytes = opening("Shop.Example.COM:8080");
    let found = whole(&bytes);
    assert_eq!((&*found.method, &found.target[..]), ("GET", &b"/a?b"[..]));
    assert_eq!(found.host.as_deref(), Some("shop.example.com"));
    assert_eq!((found.user_agent.as_deref(), found.len), (Some(&b"curl/8"[..]), bytes.len()));
    for len in 0..bytes.len() {
        assert_eq!(request(&bytes[..len]), Answer::NeedMore, "{len}");
    }
    assert_eq!(whole(&[&bytes[..], b"whatever follows"].concat()), found);
}

#[test]
fn a_block_may_be_padded_with_a_priority_and_continued() {
    let get = get("a.test");
    let (first, second) = get.split_at(9);
    let padded = [&[3][..], &[0x80, 0, 0, 0, 16], first, &[0; 3]].concat();
    let bytes = connection(&[
        (0xfe, 0, 0, b"grease"),
        (1, 0x28, 3, &padded),
        (9, 0, 3, b""),
        (9, 4, 3, second),
    ]);
    assert_eq!(whole(&bytes).host.as_deref(), Some("a.test"));
    for frames in [
        &[(1, 0x28, 3, &padded[..]), (9, 4, 5, second)][..],
        &[(1, 0x28, 3, &padded), (8, 4, 0, &[0, 0, 0, 1])],
        &[(1, 0x2c, 3, &[255, 0, 0, 0, 0, 0, 1])],
        &[(1, 0x24, 3, &[0; 4])],
        &[(1, 4, 2, &get)],
        &[(9, 4, 1, &get)],
        &[(0, 0, 1, b"data")],
    ] {
        assert_eq!(request(&connection(frames)), Answer::Malformed(Malformed::Frame), "{frames:?}");
    }
    let no_settings = [&PREFACE[..], &frame(1, 5, 1, &get)].concat();
    assert_eq!(request(&no_settings), Answer::Malformed(Malformed::Frame));
}

#[test]
fn hosts_that_could_be_read_in_two_ways_are_refused() {
    let with = |fields: &[(&str, &str)]| {
        let all = [(":method", "GET"), (":path", "/"), (":scheme", "http")];
        request(&connection(&[(1, 5, 1, &block(&[&all[..], fields].concat()))]))
    };
    let host = |fields| match with(fields) {
        Answer::Request(request) => request.host,
        other => panic!("{other:?}"),
    };
    assert_eq!(host(&[("host", "A.test")]).as_deref(), Some("a.test"));
    assert_eq!(host(&[(":authority", "a.test:80"), ("host", "A.TEST")]).as_deref(), Some("a.test"));
    assert_eq!(host(&[(":authority", "[2001:db8::1]:80")]).as_deref(), Some("2001:db8::1"));
    assert_eq!(host(&[]), None);
    for (fields, cause) in [
        (&[(":authority", "a.test"), ("host", "b.test")][..], Malformed::TwoHosts),
        (&[("host", "a.test"), ("host", "a.test")], Malformed::TwoHosts),
        (&[(":authority", "a.test"), (":authority", "a.test")], Malformed::TwoHosts),
        (&[(":authority", "user@a.test")], Malformed::Host),
        (&[("host", "a.test"), (":authority", "b.test")], Malformed::Pseudo),
        (&[(":path", "/second")], Malformed::Pseudo),
        (&[(":unheard", "x")], Malformed::Pseudo),
        (&[("Host", "b.test")], Malformed::Field),
        (&[("x", "a\nb")], Malformed::Field),
    ] {
        assert_eq!(with(fields), Answer::Malformed(cause), "{fields:?}");
    }
    for fields in [
        &[(":method", "GET"), (":path", "/")][..],
        &[(":method", "GET"), (":scheme", "http"), (":path", "")],
        &[(":path", "/"), (":scheme", "http")],
        &[(":method", "CONNECT"), (":path", "/"), (":scheme", "http"), (":authority", "a.test")],
        &[(":method", "CONNECT")],
    ] {
        let bytes = connection(&[(1, 5, 1, &block(fields))]);
        assert_eq!(request(&bytes), Answer::Malformed(Malformed::Pseudo), "{fields:?}");
    }
    let tunnel = block(&[(":method", "CONNECT"), (":authority", "a.test:443")]);
    assert_eq!(whole(&connection(&[(1, 5, 1, &tunnel)])).host.as_deref(), Some("a.test"));
}

#[test]
fn what_is_too_long_or_something_else_is_told_at_once() {
    assert_eq!(request(b"PRI * HTTP/1.1\r\n"), Answer::NotHttp2);
    assert_eq!(request(b"GET / HTTP/1.1\r\n"), Answer::NotHttp2);
    let long = [&PREFACE[..], &[0, 0x40, 1, 4, 0, 0, 0, 0, 0]].concat();
    assert_eq!(request(&long), Answer::Malformed(Malformed::FrameTooLong));
    let pings = connection(&[]).into_iter().chain(frame(6, 0, 0, &[0; 8]).repeat(1000));
    let pings: Vec<u8> = pings.collect();
    assert_eq!(request(&pings), Answer::Malformed(Malformed::HeadTooLong));
    assert_eq!(request(&pings[..HEAD_MAX]), Answer::NeedMore);
}
