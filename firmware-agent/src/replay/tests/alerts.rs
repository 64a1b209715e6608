//! Lines about rules that match.

use super::*;
use crate::signature::Ruleset;

fn options(text: &str) -> Options {
    Options { rulesets: vec![Ruleset::of_text("feed", false, text).unwrap()], ..Options::default() }
}

/// R184 with rulesets: a match is a line between its message and its verdict, once for a flow; the same
/// file and rules give the same lines.
#[test]
fn a_match_is_one_line() {
    let rules = concat!(
        "drop tls any any -> any 443 (msg:\"a \x1b b\"; tls.sni; content:\"ads\"; sid:7; rev:3;)\n",
        "alert tcp any any -> any any (content:\"ads.test\"; threshold:type threshold, track by_src, ",
        "count 2, seconds 60; sid:8;)\n",
    );
    let frames = [packet("www.Ads.test", 1), packet("other.test", 2), packet("ads.test", 3)];
    let file = plain(101, &frames);
    let (lines, result) = replay(&file, options(rules));
    assert_eq!(result.unwrap().alert_lines, 2);
    let kinds = lines.iter().map(|line| line["type"].as_str().unwrap());
    let kinds: Vec<_> = kinds.filter(|kind| *kind != "flow").collect();
    let expected = ["tls", "alert", "verdict", "tls", "verdict", "tls", "alert", "verdict"];
    assert_eq!(kinds, expected);
    let [first, _] = of_type(&lines, "alert")[..] else { panic!("{lines:?}") };
    #[rustfmt::skip]
    assert_eq!(*first, serde_json::json!({
        "type": "alert", "time": 1_700_000_000.123_456,
        "src": "192.0.2.1", "sport": 1, "dst": "198.51.100.1", "dport": 443,
        "ruleset": "feed", "gid": 1, "sid": 7, "rev": 3, "action": "drop", "msg": "a \u{1b} b",
    }));
    // A capture is only looked at.
    assert!(of_type(&lines, "verdict").iter().all(|line| line["verdict"] == "trusted"));
    assert_eq!(replay(&file, options(rules)).0, lines);
    assert!(of_type(&replay(&file, Options::default()).0, "alert").is_empty());
}
