//! Rules and packets from files.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/signatures").join(file)
}

fn load() -> (Signatures, Report) {
    let mut variables = Variables::default();
    variables.set("HOME_NET", "[192.168.0.0/16, fd00::/8]");
    variables.set("EXTERNAL_NET", "!$HOME_NET");
    variables.set("HTTP_PORTS", "[80,8080]");
    let mut loader = Loader::new(variables);
    let mut builder = Builder::default();
    let text = fs::read(data("router.rules")).unwrap();
    loader.text("router.rules", &text, |parsed| builder.push(parsed));
    let signatures = builder.finish(loader.files(), loader.lists_memory(), 1 << 20).unwrap();
    (signatures, loader.report().clone())
}

/// Text in which hexadecimal numbers lie between pipes.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, part) in text.split('|').enumerate() {
        if at % 2 == 0 {
            bytes.extend_from_slice(part.as_bytes());
        } else {
            bytes.extend(part.split(' ').map(|pair| u8::from_str_radix(pair, 16).unwrap()));
        }
    }
    bytes
}

#[test]
fn packets_match_the_rules_they_should() {
    let (signatures, _) = load();
    let mut matcher = Matcher::new(signatures, Limits::default(), 1);
    let packets = fs::read_to_string(data("packets.tsv")).unwrap();
    let (mut wrong, mut matched) = (Vec::new(), Vec::new());
    for row in packets.lines().skip(1) {
        let row: Vec<&str> = row.split('\t').collect();
        let [name, transport, source, source_port, destination, destination_port, rest @ ..] =
            &row[..]
        else {
            panic!("{row:?}");
        };
        let [way, state, flags, app, buffers, payload, expected] = rest else { panic!("{row:?}") };
        let buffers: Vec<(Buffer, Vec<u8>)> = buffers
            .split(';')
            .filter(|text| *text != "-")
            .map(|text| {
                let (keyword, value) = text.split_once('=').unwrap();
                (Buffer::from_keyword(keyword).unwrap(), bytes(value))
            })
            .collect();
        let buffers: Vec<_> = buffers.iter().map(|(buffer, text)| (*buffer, &text[..])).collect();
        let payload = bytes(payload);
        let facts = Facts {
            transport: match *transport {
                "tcp" => Transport::Tcp,
                "udp" => Transport::Udp,
                _ => Transport::Icmp,
            },
            source: source.parse().unwrap(),
            source_port: source_port.parse().unwrap(),
            destination: destination.parse().unwrap(),
            destination_port: destination_port.parse().unwrap(),
            to_server: *way == "to_server",
            is_established: *state == "established",
            tcp_flags: u8::from_str_radix(flags, 16).unwrap(),
            app: match *app {
                "tls" => Some(App::Tls),
                "dns" => Some(App::Dns),
                "http" => Some(App::Http1),
                _ => None,
            },
            payload: &payload,
            stream: &[],
            buffers: &buffers,
        };
        let found = matcher.inspect(&facts, 1000);
        assert!(!found.is_cut, "{name}");
        let sids: Vec<String> = found.matches.iter().map(|found| found.sid.to_string()).collect();
        let shown = if sids.is_empty() { "-".to_owned() } else { sids.join(",") };
        if shown != *expected {
            wrong.push(format!("{name}: {shown}, not {expected}"));
        }
        matched.extend(sids);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Every rule in force has a packet that matches it.
    matched.sort();
    matched.dedup();
    assert_eq!(matched.len(), matcher.signatures().len());
}

#[test]
fn a_file_with_mistakes_keeps_its_other_rules() {
    let (signatures, report) = load();
    assert_eq!((signatures.len(), report.rules, report.unsupported, report.wrong), (31, 31, 5, 3));
    let keywords: Vec<_> = report.keywords.iter().map(|(k, n)| (k.as_str(), *n)).collect();
    let expected = [
        ("flowbits", 1),
        ("http_uri", 1),
        ("isdataat", 1),
        ("noalert", 1),
        ("pcre", 2),
        ("protocol:modbus", 1),
    ];
    assert_eq!(keywords, expected);
    let shown: Vec<String> = report.mistakes.iter().map(ToString::to_string).collect();
    let expected = [
        "router.rules:46: sid 1951: address: an unknown variable",
        "router.rules:47: sid 1952: depth: is less than the content has",
        "router.rules:48: sid 1301: the sid is that of router.rules line 23",
    ];
    assert_eq!(shown, expected);
    assert_eq!(signatures.file(0), Some("router.rules"));
}
