//! Any rules and any packet: no rule is missed for its pattern, and work ends where it should.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::signature::{
    App, Buffer, Builder, Content, Facts, Limits, Loader, Matcher, Parsed, Transport, Variables,
};

/// Pieces that random bytes put together to rules, so that most of them are in force.
const PIECES: [&str; 32] = [
    "content:\"ab\";",
    "content:\"Ab\";",
    "content:!\"ab\";",
    "content:\"a\";",
    "content:\"abc|00|\";",
    "nocase;",
    "offset:1;",
    "depth:5;",
    "distance:0;",
    "distance:-2;",
    "within:4;",
    "startswith;",
    "endswith;",
    "fast_pattern;",
    "tls.sni;",
    "http.uri;",
    "dns.query;",
    "bsize:<9;",
    "dsize:>2;",
    "flow:to_server;",
    "flow:only_stream;",
    "flow:no_stream;",
    "flags:S;",
    "content:\"abcabcabcabc\";",
    "content:\"bca\";",
    "content:\"abcabcabcabd\";",
    "http.host;",
    "content:\"b\";",
    "content:!\"c\";",
    "distance:3;",
    "within:30;",
    "detection_filter:track by_src, count 1, seconds 1;",
];

/// Whether a rule that asks only for plain contents of the payload is met.
fn plain_match(parsed: &Parsed, payload: &[u8]) -> Option<bool> {
    let rule = &parsed.rule;
    let [group] = &parsed.groups[..] else { return None };
    let is_plain = |content: &Content| {
        let bare = Content {
            bytes: content.bytes.clone(),
            is_negated: content.is_negated,
            is_nocase: content.is_nocase,
            is_fast: content.is_fast,
            ..Content::default()
        };
        *content == bare
    };
    let has_more = rule.flow != Default::default()
        || rule.flags.is_some()
        || rule.dsize.is_some()
        || rule.threshold.is_some()
        || group.buffer != Buffer::Payload;
    if has_more || !group.contents.iter().all(is_plain) {
        return None;
    }
    let occurs = |content: &Content| {
        payload.windows(content.bytes.len()).any(|window| {
            if content.is_nocase {
                window.eq_ignore_ascii_case(&content.bytes)
            } else {
                window == content.bytes
            }
        })
    };
    Some(!payload.is_empty() && group.contents.iter().all(|c| occurs(c) != c.is_negated))
}

fuzz_target!(|data: &[u8]| {
    let Some((&[count, few, split], data)) = data.split_first_chunk() else { return };
    let (mut rules, mut rest) = (String::new(), data);
    for sid in 1..=count % 8 {
        let Some((&len, tail)) = rest.split_first() else { break };
        let (pieces, tail) = tail.split_at(usize::from(len % 12).min(tail.len()));
        rest = tail;
        rules += if len & 0x80 == 0 { "alert" } else { "drop" };
        rules += " tcp any any -> any any (";
        for piece in pieces {
            rules += PIECES[usize::from(*piece) % PIECES.len()];
        }
        rules += &format!("sid:{sid};)\n");
    }
    let mut loader = Loader::new(Variables::default());
    let mut builder = Builder::default();
    let mut all = Vec::new();
    loader.text("fuzz.rules", rules.as_bytes(), |parsed| {
        all.push(parsed.clone());
        builder.push(parsed);
    });
    let signatures = builder.finish(loader.files(), 0, usize::MAX).unwrap();
    // The text is made of few letters, in which patterns meet often.
    let text: Vec<u8> = rest.iter().map(|byte| b"abcABC\0x"[usize::from(byte % 8)]).collect();
    let (head, payload) = text.split_at(usize::from(split).min(text.len()));
    let buffers = [(Buffer::Sni, head), (Buffer::HttpUri, payload), (Buffer::DnsQuery, head)];
    let facts = Facts {
        transport: Transport::Tcp,
        source: [192, 0, 2, 1].into(),
        source_port: 1,
        destination: [192, 0, 2, 2].into(),
        destination_port: 2,
        to_server: few & 1 == 0,
        is_established: true,
        tcp_flags: few,
        app: Some(App::Tls),
        payload,
        stream: &[],
        buffers: &buffers,
    };
    let limits = Limits { bytes_max: 1 << 20, counts_max: 8, ..Limits::default() };
    let mut matcher = Matcher::new(signatures, limits, 1);
    let found = matcher.inspect(&facts, 0);
    if !found.is_cut {
        for parsed in &all {
            if let Some(expected) = plain_match(parsed, payload) {
                let is_there = found.matches.iter().any(|found| found.sid == parsed.rule.sid);
                assert_eq!(is_there, expected, "sid {} of\n{rules}{payload:?}", parsed.rule.sid);
            }
        }
    }
    let whole = found.matches.len();
    if few & 2 == 0 {
        return;
    }
    // With little work fewer rules are tried, and none matches that did not before.
    let mut builder = Builder::default();
    all.into_iter().for_each(|parsed| builder.push(parsed));
    let limits =
        Limits { rules_max: u32::from(few % 4), bytes_max: u32::from(few) * 8, counts_max: 1 };
    let mut matcher = Matcher::new(builder.finish(&[], 0, usize::MAX).unwrap(), limits, 1);
    let found = matcher.inspect(&facts, 0);
    assert!(found.matches.len() <= whole.min(usize::from(few % 4)));
});
