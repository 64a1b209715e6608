use super::super::list::Variables;
use super::super::{Builder, Loader};
use super::*;

fn signatures(rules: &str) -> Signatures {
    let mut variables = Variables::default();
    variables.set("HOME_NET", "192.168.0.0/16");
    let mut loader = Loader::new(variables);
    let mut builder = Builder::default();
    loader.text("test.rules", rules.as_bytes(), |parsed| builder.push(parsed));
    let report = loader.report();
    assert!(report.mistakes.is_empty() && report.unsupported == 0, "{report:?}");
    builder.finish(loader.files(), loader.lists_memory(), 64 << 20).unwrap()
}

fn matcher(rules: &str) -> Matcher {
    Matcher::new(signatures(rules), Limits::default(), 1)
}

fn facts(payload: &[u8]) -> Facts<'_> {
    Facts {
        transport: Transport::Tcp,
        source: "192.168.1.2".parse().unwrap(),
        source_port: 40_000,
        destination: "203.0.113.5".parse().unwrap(),
        destination_port: 80,
        to_server: true,
        is_established: true,
        tcp_flags: 0x18,
        app: None,
        payload,
        stream: &[],
        buffers: &[],
    }
}

fn sids(matcher: &mut Matcher, facts: &Facts<'_>) -> Vec<u32> {
    matcher.inspect(facts, 0).matches.iter().map(|found| found.sid).collect()
}

/// Whether a rule with these options matches.
fn hit(options: &str, facts: &Facts<'_>) -> bool {
    let rule = format!("alert tcp any any -> any any ({options} sid:1;)");
    !sids(&mut matcher(&rule), facts).is_empty()
}

#[test]
fn headers_choose_packets() {
    let web = facts(b"x");
    for (header, expected) in [
        ("tcp any any -> any any", true),
        ("udp any any -> any any", false),
        ("ip any any -> any any", true),
        ("icmp any any -> any any", false),
        ("tcp $HOME_NET any -> any 80", true),
        ("tcp $HOME_NET any -> any !80", false),
        ("tcp !$HOME_NET any -> any any", false),
        ("tcp any any -> $HOME_NET any", false),
        ("tcp any 80 -> $HOME_NET any", false),
        ("tcp any 80 <> $HOME_NET any", true),
        ("tcp any 81 <> $HOME_NET any", false),
        ("tcp any 1024: -> [203.0.113.0/24,!203.0.113.5] any", false),
        ("http any any -> any any", false),
    ] {
        let mut matcher = matcher(&format!("alert {header} (sid:1;)"));
        assert_eq!(!sids(&mut matcher, &web).is_empty(), expected, "{header}");
    }
    for (protocol, app, expected) in [
        ("http", App::Http1, true),
        ("http", App::Http2, true),
        ("http2", App::Http1, false),
        ("tls", App::Tls, true),
        ("ssl", App::Tls, true),
        ("dns", App::Tls, false),
    ] {
        let mut matcher = matcher(&format!("alert {protocol} any any -> any any (sid:1;)"));
        let facts = Facts { app: Some(app), ..web };
        assert_eq!(!sids(&mut matcher, &facts).is_empty(), expected, "{protocol} {app:?}");
    }
}

#[test]
fn each_keyword_decides() {
    let text = facts(b"GET /index.php HTTP/1.1\r\nHost: a\r\n\r\n");
    for (options, expected) in [
        (r#"content:"index";"#, true),
        (r#"content:"Index";"#, false),
        (r#"content:"INDEX"; nocase;"#, true),
        (r#"content:!"index";"#, false),
        (r#"content:!"absent";"#, true),
        (r#"content:"GET|20|"; startswith;"#, true),
        (r#"content:"ET|20|"; startswith;"#, false),
        (r#"content:"|0d0a 0d0a|"; endswith;"#, true),
        (r#"content:"Host"; endswith;"#, false),
        (r#"content:!"Host"; endswith;"#, true),
        (r#"content:"index"; offset:5; depth:5;"#, true),
        (r#"content:"index"; offset:6;"#, false),
        (r#"content:"index"; depth:9;"#, false),
        (r#"content:"index"; depth:10;"#, true),
        (r#"content:"index"; content:".php"; distance:0; within:4;"#, true),
        (r#"content:"index"; content:"php"; within:3;"#, false),
        (r#"content:"index"; content:"php"; distance:1; within:3;"#, true),
        (r#"content:"php"; content:"index"; distance:-9;"#, true),
        (r#"content:"php"; content:"index"; distance:-8;"#, false),
        (r#"content:"php"; content:"index"; distance:-9; within:5;"#, true),
        (r#"content:"php"; content:"GET"; distance:-100;"#, true),
        (r#"content:"php"; content:"GET"; distance:-100; within:50;"#, false),
        (r#"content:"index"; content:!"php"; within:5;"#, false),
        (r#"content:"index"; content:!"php"; within:3;"#, true),
        (r#"content:"/"; content:"1.1"; within:3;"#, true),
        ("flow:to_server,established;", true),
        ("flow:to_client;", false),
        ("flow:not_established;", false),
        ("flow:stateless;", true),
        ("flags:PA;", true),
        ("flags:S;", false),
        ("dsize:>30;", true),
        ("dsize:<30;", false),
        (r#"dsize:>30; content:"index";"#, true),
        (r#"dsize:>30; flow:no_stream; content:"absent";"#, false),
    ] {
        assert_eq!(hit(options, &text), expected, "{options}");
    }
}

#[test]
fn buffers_are_looked_at_one_by_one() {
    let buffers = [
        (Buffer::Sni, &b"www.example.com"[..]),
        (Buffer::Ja3, b"e7eca2baf4458d095b7f45da28c16c34"),
        (Buffer::Ja4, b"t13d1516h2_8daaf6152771_b186095e22b6"),
        (Buffer::HttpUri, b"/a/b?c=1"),
        (Buffer::HttpHost, b"example.net"),
        (Buffer::HttpMethod, b"POST"),
        (Buffer::UserAgent, b"Wget"),
        (Buffer::DnsQuery, b"one.example"),
        (Buffer::DnsQuery, b"two.test"),
    ];
    let with = Facts { buffers: &buffers, ..facts(b"payload") };
    for (options, expected) in [
        (r#"tls.sni; content:"example.com"; endswith;"#, true),
        (r#"tls.sni; content:"payload";"#, false),
        (r#"content:"example.com";"#, false),
        (r#"tls.sni; content:"example.com"; bsize:15;"#, true),
        ("tls.sni; bsize:>15;", false),
        (r#"ja3.hash; content:"E7ECA2BAF4458D095B7F45DA28C16C34";"#, true),
        (r#"ja4.hash; content:"t13d1516h2_";  startswith;"#, true),
        (r#"http.uri; content:"/b"; content:"c="; distance:1; within:2;"#, true),
        (
            r#"http.host; content:"example.net"; bsize:11; http.uri; content:"/a"; startswith;"#,
            true,
        ),
        (r#"http.host; content:"example.net"; http.uri; content:"/z"; startswith;"#, false),
        (r#"http.method; content:"POST"; http.user_agent; content:"wget"; nocase;"#, true),
        (r#"dns.query; content:"two"; startswith; content:".test"; distance:0;"#, true),
        // One name must be all of it.
        (r#"dns.query; content:"one"; content:"test";"#, false),
        (r#"dns.query; content:!"one";"#, true),
        (r#"http.host; content:!"example.org";"#, true),
        (r#"content:"payload"; tls.sni; content:"www";"#, true),
        (r#"content:"pay"; tls.sni; content:"wwx";"#, false),
    ] {
        assert_eq!(hit(options, &with), expected, "{options}");
    }
    // What is asked of a buffer that is not there does not hold, also when it is negated.
    assert!(!hit(r#"tls.sni; content:!"a";"#, &facts(b"payload")));
    assert!(!hit(r#"content:!"a";"#, &facts(b"")));
}

#[test]
fn packet_and_stream_are_told_apart() {
    let split = Facts { stream: b"first second", ..facts(b"second") };
    for (protocol, options, expected) in [
        ("tcp", r#"content:"second";"#, true),
        ("tcp", r#"content:"first second";"#, true),
        ("tcp", r#"content:"second"; startswith;"#, true),
        ("tcp-stream", r#"content:"second"; startswith;"#, false),
        ("tcp-pkt", r#"content:"first";"#, false),
        ("tcp", r#"flow:only_stream; content:"second"; startswith;"#, false),
        ("tcp", r#"flow:no_stream; content:"first";"#, false),
        ("tcp", r#"dsize:6; content:"first";"#, false),
        ("tcp", r#"dsize:6; content:"second";"#, true),
    ] {
        let rule = format!("alert {protocol} any any -> any any ({options} sid:1;)");
        assert_eq!(!sids(&mut matcher(&rule), &split).is_empty(), expected, "{rule}");
    }
    let bytes = b"all of it";
    let whole = Facts { stream: bytes, ..facts(bytes) };
    assert!(hit(r#"flow:only_stream; content:"all"; startswith;"#, &whole));
    assert!(hit(r#"flow:no_stream; content:"all"; startswith;"#, &whole));
    assert!(hit(r#"content:"all"; startswith;"#, &whole));
}

#[test]
fn actions_have_an_order_and_pass_ends_it() {
    let mut matcher = matcher(concat!(
        "alert tcp any any -> any any (content:\"abcd\"; sid:1;)\n",
        "reject tcp any any -> any any (content:\"abcd\"; sid:2;)\n",
        "drop tcp any any -> any any (content:\"abcd\"; sid:3;)\n",
        "alert tcp any any -> any any (content:\"ABCD\"; nocase; sid:4;)\n",
        "pass tcp any any -> any any (content:\"abcdefgh\"; sid:5;)\n",
        "pass tcp any any -> any any (content:\"abcdefg\"; sid:6;)\n",
    ));
    assert_eq!(sids(&mut matcher, &facts(b"..abcd..")), [3, 2, 1, 4]);
    assert_eq!(matcher.inspect(&facts(b"..abcd.."), 0).action(), Some(Action::Drop));
    assert_eq!(sids(&mut matcher, &facts(b"..ABCD..")), [4]);
    assert_eq!(sids(&mut matcher, &facts(b"abcdefgh")), [5]);
    assert_eq!(matcher.inspect(&facts(b"abcdefgh"), 0).action(), Some(Action::Pass));
    assert_eq!(matcher.inspect(&facts(b"nothing"), 0).action(), None);
}

#[test]
fn thresholds_hold_back_alerts_and_not_drops() {
    let mut matcher = matcher(concat!(
        "alert tcp any any -> any any (sid:1; threshold:type limit, track by_src, count 1, seconds 10;)\n",
        "drop tcp any any -> any any (sid:2; threshold:type limit, track by_src, count 1, seconds 10;)\n",
        "drop tcp any any -> any any (sid:3; detection_filter:track by_src, count 2, seconds 10;)\n",
    ));
    let mut at = |now_ms| {
        let found = matcher.inspect(&facts(b"x"), now_ms);
        found.matches.iter().map(|found| (found.sid, found.is_told)).collect::<Vec<_>>()
    };
    assert_eq!(at(0), [(2, true), (1, true)]);
    assert_eq!(at(1), [(2, false)]);
    assert_eq!(at(2), [(2, false), (3, true)]);
    assert_eq!(at(10_000), [(2, true), (1, true)]);
}

#[test]
fn work_for_a_packet_ends_and_that_is_counted() {
    let rule = |sid| format!("alert tcp any any -> any any (content:\"abc{sid}\"; sid:{sid};)");
    let rules = (1..=50).map(rule).collect::<Vec<_>>().join("\n");
    let text = (1..=50).map(|sid| format!("abc{sid}")).collect::<Vec<_>>().join(" ");
    let limits = Limits { rules_max: 10, ..Limits::default() };
    let mut matcher = Matcher::new(signatures(&rules), limits, 1);
    let found = matcher.inspect(&facts(text.as_bytes()), 0);
    assert_eq!((found.matches.len(), found.is_cut), (10, true));
    assert_eq!(matcher.stats().cut, 1);
    let limits = Limits { bytes_max: 2000, ..Limits::default() };
    let mut matcher = Matcher::new(signatures(&rules), limits, 1);
    let found = matcher.inspect(&facts(text.as_bytes()), 0);
    assert!(found.is_cut && !found.matches.is_empty() && found.matches.len() < 50);
    // With enough of it nothing is cut.
    let mut matcher = Matcher::new(signatures(&rules), Limits::default(), 1);
    let found = matcher.inspect(&facts(text.as_bytes()), 0);
    assert_eq!((found.matches.len(), found.is_cut), (50, false));
}

#[test]
fn rules_beyond_their_memory_are_refused_with_the_arithmetic() {
    let load = |max| {
        let mut loader = Loader::new(Variables::default());
        let mut builder = Builder::default();
        let rule = |sid| {
            let host = sid % 200;
            format!("alert tcp 10.0.0.{host} any -> any any (content:\"{sid} abc\"; sid:{sid};)")
        };
        let rules = (1..=500).map(rule).collect::<Vec<_>>().join("\n");
        loader.text("a", rules.as_bytes(), |parsed| builder.push(parsed));
        builder.finish(loader.files(), loader.lists_memory(), max)
    };
    let signatures = load(1 << 20).unwrap();
    let memory = signatures.memory();
    // What is added up beforehand is what is used.
    assert_eq!(load(memory).unwrap().memory(), memory);
    let refusal = load(memory - 1).unwrap_err();
    assert_eq!(refusal.rules_bytes + refusal.patterns_bytes + refusal.lists_bytes, memory);
    let shown = refusal.to_string();
    assert!(shown.starts_with("500 rules need "), "{shown}");
    let lists = refusal.lists_bytes.div_ceil(1024);
    assert!(shown.contains(&format!("{lists} KiB for lists")), "{shown}");
}
