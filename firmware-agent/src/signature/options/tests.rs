use super::*;

fn rule(body: &str) -> Result<Parsed, Refusal> {
    rule_of("tcp", body)
}

fn rule_of(protocol: &str, body: &str) -> Result<Parsed, Refusal> {
    let text = format!("alert {protocol} any any -> any any ({body} sid:1;)");
    let line = Line::new(&text).unwrap();
    let mut lists = Lists {
        variables: Variables::default(),
        addresses: Known::addresses(),
        ports: Known::ports(),
    };
    parse(&line, &mut lists, 0, 1)
}

fn contents(body: &str) -> Vec<Content> {
    rule(body).unwrap().groups.into_iter().flat_map(|group| group.contents).collect()
}

fn plain(bytes: &[u8]) -> Content {
    Content { bytes: bytes.to_vec(), ..Content::default() }
}

#[test]
fn contents_are_bytes() {
    for (text, bytes) in [
        (r#""abc""#, &b"abc"[..]),
        (r#""a|0D|bc""#, b"a\rbc"),
        (r#""|61 0D 62 63|""#, b"a\rbc"),
        (r#""a|0d0a|b|63|""#, b"a\r\nbc"),
        (r#""http|3A|//""#, b"http://"),
        (r#""http://""#, b"http://"),
        (r#""a\;b\"c\\d\:e""#, b"a;b\"c\\d:e"),
        (r#"" ( ) ""#, b" ( ) "),
        ("\"\u{e4}\"", "\u{e4}".as_bytes()),
    ] {
        assert_eq!(contents(&format!("content:{text};")), [plain(bytes)], "{text}");
    }
    for text in [
        "",
        "abc",
        "\"",
        "\"\"",
        "\"abc",
        "abc\"",
        "!\"\"",
        "\"|\"",
        "\"|0|\"",
        "\"|0 0|\"",
        "\"|0g|\"",
        "\"a|00\"",
        "\"||\"",
        r#""\a""#,
        r#""a"b""#,
        r#""a\""#,
        "!",
    ] {
        let refusal = rule(&format!("content:{text};"));
        assert!(matches!(refusal, Err(Refusal::Invalid(_))), "{text} {refusal:?}");
    }
    let (fits, long) = ("a".repeat(1024), "a".repeat(1025));
    assert!(rule(&format!("content:\"{fits}\";")).is_ok());
    assert!(rule(&format!("content:\"{long}\";")).is_err());
}

#[test]
fn modifiers_belong_to_the_content_before_them() {
    let expected = [
        Content { offset: Some(3), depth: Some(9), ..plain(b"one") },
        Content {
            is_negated: true,
            is_nocase: true,
            distance: Some(-4),
            within: Some(7),
            ..plain(b"two")
        },
        Content { offset: Some(0), depth: Some(5), is_fast: true, ..plain(b"Three") },
        Content { is_at_end: true, ..plain(b"four") },
    ];
    let one = ["content:\"one\";", "offset:3;", "depth:9;"];
    let two = ["content:!\"Two\";", "nocase;", "distance:-4;", "within:7;"];
    let three = ["content:\"Three\";", "startswith;", "fast_pattern:only;", "rawbytes;"];
    let four = ["content:\"four\";", "endswith;"];
    // Modifiers of one content in every order; options without effect in between.
    for turn in 0..24 {
        let mut body = String::new();
        for content in [&one[..], &two, &three, &four] {
            let mut rest = content[1..].to_vec();
            body += content[0];
            let mut turn = turn;
            while !rest.is_empty() {
                body += rest.remove(turn % rest.len());
                body += " msg:\"x\"; ";
                turn /= 2;
            }
        }
        assert_eq!(contents(&body), expected, "{body}");
    }
}

#[test]
fn options_mean_the_same_in_every_order() {
    let parts = [
        "msg:\"m\"; classtype:x; priority:3; rev:4;",
        "flow:to_server;",
        "dsize:>9;",
        "content:\"a\"; depth:2;",
        "flags:+A;",
        "threshold:type limit, track by_src, count 1, seconds 2;",
    ];
    let shape = |parsed: Parsed| {
        let rule = parsed.rule;
        (rule.rev, rule.flow, rule.dsize, rule.flags, rule.threshold, parsed.groups)
    };
    let expected = shape(rule(&parts.concat()).unwrap());
    for turn in 1..720 {
        let (mut rest, mut body, mut turn) = (parts.to_vec(), String::new(), turn);
        while !rest.is_empty() {
            let len = rest.len();
            body += rest.remove(turn % len);
            turn /= len;
        }
        assert_eq!(shape(rule(&body).unwrap()), expected, "{body}");
    }
}

#[test]
fn modifiers_that_contradict_are_refused() {
    for body in [
        "nocase;",
        "content:\"a\"; depth:0;",
        "content:\"abc\"; depth:2;",
        "content:\"abc\"; within:2;",
        "content:\"a\"; within:-1;",
        "content:\"a\"; offset:-1;",
        "content:\"a\"; offset:1; offset:1;",
        "content:\"a\"; offset;",
        "content:\"a\"; distance:1048577;",
        "content:\"a\"; distance:--1;",
        "content:\"a\"; startswith; depth:1;",
        "content:\"a\"; offset:1; startswith;",
        "content:\"a\"; startswith; distance:1;",
        "content:\"a\"; startswith; startswith;",
        "content:\"a\"; offset:1; distance:1;",
        "content:\"a\"; depth:1; within:1;",
        "content:\"a\"; nocase:1;",
        "content:\"a\"; http.uri; nocase;",
        "content:\"a\"; fast_pattern; content:\"b\"; fast_pattern;",
        "http.uri;",
        "http.uri; content:\"a\"; http.host;",
        "http.uri:1; content:\"a\";",
        "bsize:1;",
        "content:\"a\"; bsize:1;",
        "http.uri; content:\"abc\"; bsize:2;",
        "http.uri; content:\"abc\"; bsize:<3;",
        "http.uri; bsize:2; bsize:2;",
        "http.uri; content:\"a\"; dsize:3;",
        "dsize:3; flow:only_stream;",
        "http.host; content:\"Upper\";",
        "sid:2;",
        "rev:x;",
        "msg:text;",
        "threshold:type limit, track by_src, count 1, seconds 1; \
         detection_filter:track by_src, count 1, seconds 1;",
    ] {
        let refusal = rule(body);
        assert!(matches!(refusal, Err(Refusal::Invalid(_))), "{body} {refusal:?}");
    }
    assert!(rule_of("udp", "flags:S;").is_err());
    assert!(rule_of("tcp-pkt", "flow:only_stream;").is_err());
    assert_eq!(
        rule("content:\"a\"; offset:var;").unwrap_err(),
        Refusal::unsupported("offset:name")
    );
}

#[test]
fn buffers_stick_until_the_next_one() {
    let parsed = rule(concat!(
        "content:\"raw\"; http.uri; content:\"/a\"; bsize:>3; content:\"b\"; distance:0; ",
        "http.host; content:\"c\"; http.uri; content:\"d\"; pkt_data; content:\"e\";"
    ));
    let groups = parsed.unwrap().groups;
    let shape: Vec<_> = groups
        .iter()
        .map(|group| {
            let contents: Vec<_> = group.contents.iter().map(|c| c.bytes.as_slice()).collect();
            (group.buffer.name(), group.size.is_some(), contents.concat())
        })
        .collect();
    let expected = [
        ("payload", false, b"rawe".to_vec()),
        ("http.uri", true, b"/abd".to_vec()),
        ("http.host", false, b"c".to_vec()),
    ];
    assert_eq!(shape, expected);
    for buffer in Buffer::ALL.into_iter().skip(1) {
        let parsed = rule(&format!("{}; content:\"a\";", buffer.name())).unwrap();
        assert_eq!(parsed.groups[0].buffer, buffer);
    }
    let again = rule("dns.query; content:\"a\"; dns.query; content:\"b\";");
    assert_eq!(again.unwrap_err(), Refusal::unsupported("dns.query:again"));
    // What modifies the content before it is another language for the same buffer.
    let old = rule("content:\"a\"; http_uri;");
    assert_eq!(old.unwrap_err(), Refusal::unsupported("http_uri"));
}

#[test]
fn fingerprints_have_no_case() {
    let parsed = rule("ja3.hash; content:\"E7ECA2BAF4458D095B7F45DA28C16C34\";").unwrap();
    let content = &parsed.groups[0].contents[0];
    assert!(content.is_nocase);
    assert_eq!(content.bytes, b"e7eca2baf4458d095b7f45da28c16c34");
}
