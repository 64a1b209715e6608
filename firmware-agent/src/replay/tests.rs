mod alerts;
mod events;
mod flows;
#[cfg(feature = "quic")]
mod quic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::source::Order;
use super::*;
use crate::config::RuleAction;
use crate::inspect::tls::tests::Recipe;
use crate::policy::of_domains;

/// Writes numbers in the order of a file.
struct Pen {
    order: Order,
    bytes: Vec<u8>,
}

impl Pen {
    const fn new(order: Order) -> Self {
        Self { order, bytes: Vec::new() }
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&match self.order {
            Order::Big => value.to_be_bytes(),
            Order::Little => value.to_le_bytes(),
        })
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&match self.order {
            Order::Big => value.to_be_bytes(),
            Order::Little => value.to_le_bytes(),
        })
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    /// Zeros up to a multiple of four.
    fn pad(&mut self) -> &mut Self {
        let len = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(len, 0);
        self
    }

    /// A block of pcapng.
    fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let len = 12 + body.len().next_multiple_of(4) as u32;
        self.u32(kind).u32(len).raw(body).pad().u32(len)
    }

    fn section(&mut self) -> &mut Self {
        let mut body = Self::new(self.order);
        body.u32(0x1a2b_3c4d).u16(1).u16(0).raw(&[0xff; 8]);
        self.block(0x0a0d_0d0a, &body.bytes)
    }

    fn interface(&mut self, link: u16, snap_len: u32, options: &[(u16, &[u8])]) -> &mut Self {
        let mut body = Self::new(self.order);
        body.u16(link).u16(0).u32(snap_len);
        for (option, value) in options {
            body.u16(*option).u16(value.len() as u16).raw(value).pad();
        }
        self.block(1, &body.bytes)
    }

    fn enhanced(&mut self, interface: u32, time: u64, data: &[u8], len: usize) -> &mut Self {
        let mut body = Self::new(self.order);
        body.u32(interface).u32((time >> 32) as u32).u32(time as u32);
        body.u32(data.len() as u32).u32(len as u32).raw(data);
        self.block(6, &body.bytes)
    }
}

/// The lines of one type.
fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

/// An IPv4 packet with a ClientHello for `name` from port `sport`; no SYN comes before it.
fn packet(name: &str, sport: u16) -> Vec<u8> {
    let hello = Recipe::named(name).alpn(&[b"h2"]).wire();
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1];
    packet.extend(sport.to_be_bytes());
    packet.extend([1, 0xbb, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(hello);
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet
}

fn ethernet(tags: &[u8], l3: &[u8]) -> Vec<u8> {
    [&[2; 12], tags, &[8, 0], l3].concat()
}

fn pcap(order: Order, magic: u32, link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut pen = Pen::new(order);
    pen.u32(magic).u16(2).u16(4).u32(0).u32(0).u32(65535).u32(link);
    for (n, frame) in frames.iter().enumerate() {
        pen.u32(1_700_000_000 + n as u32).u32(123_456).u32(frame.len() as u32);
        pen.u32(frame.len() as u32).raw(frame);
    }
    pen.bytes
}

fn plain(link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    pcap(Order::Little, 0xa1b2_c3d4, link, frames)
}

/// The lines about a file, and how reading it ended.
fn replay(file: &[u8], options: Options) -> (Vec<Value>, Result<Summary, ReplayError>) {
    let mut out = Vec::new();
    let result = run_reader(file, &mut out, options);
    let text = String::from_utf8(out).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), result)
}

/// Times and names of the ClientHellos in a file that is read to its end.
fn names(file: &[u8]) -> Vec<(Option<f64>, String)> {
    let (lines, result) = replay(file, Options::default());
    result.unwrap();
    lines
        .iter()
        .filter(|line| line["type"] == "tls")
        .map(|line| (line["time"].as_f64(), line["sni"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn a_hello_is_one_line_and_its_verdict_another() {
    let rules = [("ads.test".to_owned(), RuleAction::Block, 7)];
    let options = Options { rules: of_domains(rules), ..Options::default() };
    let file = plain(101, &[packet("www.Ads.test", 1000), packet("www.Ads.test", 1000)]);
    let (lines, result) = replay(&file, options);
    let [tls, verdict, _] = &lines[..] else { panic!("{lines:?}") };
    #[rustfmt::skip]
    assert_eq!(*tls, serde_json::json!({
        "type": "tls", "time": 1_700_000_000.123_456, "transport": "tcp",
        "src": "192.0.2.1", "sport": 1000, "dst": "198.51.100.1", "dport": 443,
        "sni": "www.ads.test", "sni_malformed": false, "ech": false, "alpn": ["h2"], "version": "1.2",
        "ja3": "335e6addd498f73d2dd9f87e9ae01695", "ja3_string": "771,4865-4866,0-16,,",
        "ja4": "t12d0202h2_62ed6f6ca7ad_000000000000",
    }));
    #[rustfmt::skip]
    assert_eq!(*verdict, serde_json::json!({
        "type": "verdict", "time": 1_700_000_000.123_456, "transport": "tcp",
        "src": "192.0.2.1", "sport": 1000, "dst": "198.51.100.1", "dport": 443,
        "verdict": "blocked", "reason": "domain_rule", "rule": 7, "packets": 1,
        "protocol": "tls", "confidence": "certain",
    }));
    let summary = result.unwrap();
    assert_eq!((summary.packets, summary.tls_lines, summary.verdict_lines), (2, 1, 1));
    assert_eq!(summary.stats.repeated, 1);
}

#[test]
fn an_undecided_flow_is_a_line_with_its_cause() {
    let mut bad = packet("ads.test", 1000);
    bad[20 + 20 + 44] = 0xff; // the length of the cipher suites
    let (lines, result) = replay(&plain(101, &[bad]), Options::default());
    result.unwrap();
    let [line, _] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&line["verdict"], &line["src"]), (&"undecided".into(), &"192.0.2.1".into()));
    assert_eq!((&line["reason"], &line["detail"]), (&"malformed_tls".into(), &"overrun".into()));
}

#[test]
fn text_from_the_network_stays_inside_its_string() {
    let mut hello =
        Recipe::default().sni(b"<img onerror=x>\n\x1b[2J\"").alpn(&[b"\n\x1b\"\\\x7f\xff<"]);
    hello.version = 0x7777;
    let mut frame = packet("x.test", 1);
    frame.truncate(40);
    frame.extend(hello.wire());
    let len = frame.len() as u16;
    frame[2..4].copy_from_slice(&len.to_be_bytes());
    let mut out = Vec::new();
    run_reader(&plain(101, &[frame])[..], &mut out, Options::default()).unwrap();
    assert!(out.iter().all(|byte| (b' '..0x7f).contains(byte) || *byte == b'\n'));
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(!text.contains("onerror"), "{text}");
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&line["sni"], &line["sni_malformed"]), (&Value::Null, &true.into()));
    assert_eq!(line["alpn"][0], "\\n\\x1b\\\"\\\\\\x7f\\xff<");
    assert_eq!(line["version"], Value::Null);
}

#[test]
fn every_kind_of_pcap_is_read() {
    for order in [Order::Big, Order::Little] {
        for (magic, fraction) in [(0xa1b2_c3d4, 0.123_456), (0xa1b2_3c4d, 0.000_123)] {
            let file = pcap(order, magic, 101, &[packet("a.test", 1), packet("b.test", 2)]);
            let expected = [
                (Some(1_700_000_000.0 + fraction), "a.test".to_owned()),
                (Some(1_700_000_001.0 + fraction), "b.test".to_owned()),
            ];
            assert_eq!(names(&file), expected, "{order:?} {magic:08x}");
        }
    }
}

#[test]
fn every_link_type_leads_to_the_packet() {
    let l3 = packet("a.test", 1);
    let vlan = [0x88, 0xa8, 0, 5, 0x81, 0, 0, 7];
    let with = |header: &[u8]| [header, &l3].concat();
    let sll = |tail: &[u8]| with(&[&[0; 14], tail].concat());
    let sll2 = |head: &[u8], tail: &[u8]| with(&[head, &[0; 18], tail].concat());
    #[rustfmt::skip]
    let cases = [
        ("ethernet",      1,   ethernet(&[], &l3)),
        ("two VLAN tags", 1,   ethernet(&vlan, &l3)),
        ("check length",  0x2400_0001, ethernet(&[], &l3)),
        ("raw",           101, l3.clone()),
        ("raw, old",      12,  l3.clone()),
        ("IPv4",          228, l3.clone()),
        ("null",          0,   with(&[2, 0, 0, 0])),
        ("loop",          108, with(&[0, 0, 0, 2])),
        ("SLL",           113, sll(&[8, 0])),
        ("SLL, VLAN",     113, sll(&[0x81, 0, 0, 7, 8, 0])),
        ("SLL2",          276, sll2(&[8, 0], &[])),
        ("SLL2, VLAN",    276, sll2(&[0x81, 0], &[0, 7, 8, 0])),
    ];
    for (name, link, frame) in cases {
        assert_eq!(names(&plain(link, std::slice::from_ref(&frame))).len(), 1, "{name}");
        // No truncation of a frame is anything but less to see.
        for len in 0..frame.len() {
            let (lines, result) =
                replay(&plain(link, &[frame[..len].to_vec()]), Options::default());
            result.unwrap();
            assert!(lines.iter().all(|line| line["type"] != "tls"), "{name}, {len} bytes");
        }
    }
    let (_, result) = replay(&plain(105, &[l3]), Options::default());
    let error = result.unwrap_err().to_string();
    assert_eq!(error, "the capture has link type 105, which is not supported");
}

#[test]
fn pcapng_with_several_sections_interfaces_and_resolutions() {
    for order in [Order::Big, Order::Little] {
        let mut pen = Pen::new(order);
        let offset = match order {
            Order::Big => 1_000_000_000_i64.to_be_bytes(),
            Order::Little => 1_000_000_000_i64.to_le_bytes(),
        };
        let raw = |name, port| packet(name, port);
        let len = raw("a.test", 1).len();
        pen.section()
            .block(4, b"names") // a block of no interest
            .interface(101, 0, &[])
            .interface(1, 0, &[(2, b"eth0"), (9, &[9]), (0, &[])])
            .interface(101, 0, &[(9, &[0x8a]), (14, &offset)])
            .interface(105, 0, &[])
            .enhanced(0, 1_700_000_000_250_000, &raw("a.test", 1), len)
            .enhanced(1, 1_700_000_001_500_000_000, &ethernet(&[], &raw("b.test", 2)), len)
            .enhanced(2, 700_000_002 << 10 | 512, &raw("c.test", 3), len)
            .enhanced(3, 0, &raw("skipped.test", 4), len);
        let mut simple = Pen::new(order);
        simple.u32(len as u32).raw(&raw("d.test", 5));
        pen.block(3, &simple.bytes);
        let mut old = Pen::new(order);
        old.u16(0).u16(0).u32(0).u32(5_000_000).u32(len as u32).u32(len as u32);
        old.raw(&raw("e.test", 6));
        pen.block(2, &old.bytes);
        // Another section forgets the interfaces, and may be written the other way round.
        let mut other = Pen::new(if order == Order::Big { Order::Little } else { Order::Big });
        other.section().interface(101, 0, &[]).enhanced(0, 7_000_000, &raw("f.test", 7), len);
        let file = [pen.bytes, other.bytes].concat();
        #[rustfmt::skip]
        let expected = [
            (Some(1_700_000_000.25), "a.test"),
            (Some(1_700_000_001.5),  "b.test"),
            (Some(1_700_000_002.5),  "c.test"),
            (None,                   "d.test"),
            (Some(5.0),              "e.test"),
            (Some(7.0),              "f.test"),
        ];
        let expected: Vec<_> = expected.map(|(time, name)| (time, name.to_owned())).to_vec();
        assert_eq!(names(&file), expected, "{order:?}");
        let (_, result) = replay(&file, Options::default());
        assert_eq!(result.unwrap().unknown_link, 1);
    }
}

#[test]
fn a_simple_packet_is_as_long_as_its_interface_keeps() {
    let frame = packet("a.test", 1);
    for (snap_len, is_whole) in [(0, true), (frame.len() as u32, true), (60, false)] {
        let mut body = Pen::new(Order::Little);
        body.u32(frame.len() as u32);
        body.raw(&frame[..if is_whole { frame.len() } else { 60 }]);
        let mut pen = Pen::new(Order::Little);
        pen.section().interface(101, snap_len, &[]).block(3, &body.bytes);
        let (lines, result) = replay(&pen.bytes, Options::default());
        assert_eq!(result.unwrap().stats.truncated, u64::from(!is_whole));
        let reason = if is_whole { "hello_clean" } else { "truncated_copy" };
        let verdict = lines.iter().find(|line| line["type"] == "verdict").unwrap();
        assert_eq!(verdict["reason"], reason);
    }
}

#[test]
fn a_cut_file_gives_what_came_before_and_says_where_it_ends() {
    let whole = plain(101, &[packet("a.test", 1), packet("b.test", 2)]);
    let second = 24 + 16 + packet("a.test", 1).len();
    let mut pen = Pen::new(Order::Little);
    let frame = packet("a.test", 1);
    pen.section().interface(101, 0, &[]).enhanced(0, 0, &frame, frame.len());
    let second_block = pen.bytes.len();
    pen.enhanced(0, 0, &packet("b.test", 2), frame.len());
    for (file, second, starts) in
        [(whole, second, vec![24, second]), (pen.bytes, second_block, vec![28, 48, second_block])]
    {
        for len in 4..file.len() {
            let (lines, result) = replay(&file[..len], Options::default());
            let found = lines.iter().filter(|line| line["type"] == "tls").count();
            assert_eq!(found, usize::from(len >= second), "{len} bytes");
            if starts.contains(&len) {
                assert!(result.is_ok(), "{len} bytes is a whole file: {result:?}");
                continue;
            }
            match result {
                Err(ReplayError::Truncated { offset, .. }) => assert_eq!(offset, len as u64),
                other => panic!("{len} bytes: {other:?}"),
            }
        }
    }
    let (_, result) = replay(&plain(101, &[packet("a.test", 1)])[..50], Options::default());
    let error = result.unwrap_err().to_string();
    assert_eq!(error, "the capture is cut off at byte 50, inside a packet");
}

#[test]
fn damage_is_named_with_its_place() {
    let frame = packet("a.test", 1);
    let start = |pen: &mut Pen| {
        pen.section().interface(101, 0, &[]);
        pen.bytes.len()
    };
    let little = || Pen::new(Order::Little);
    let damaged = |build: &dyn Fn(&mut Pen)| {
        let mut pen = little();
        let at = start(&mut pen);
        build(&mut pen);
        (pen.bytes, at)
    };
    let mut long = plain(101, &[]);
    long.extend([0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0]);
    #[rustfmt::skip]
    let cases: Vec<((Vec<u8>, usize), &str)> = vec![
        ((long, 24), "a packet of more than 256 KiB"),
        (damaged(&|pen| { pen.enhanced(9, 0, &frame, 1); }), "a packet of an interface that was not described"),
        (damaged(&|pen| { pen.u32(6).u32(13); }), "a block of impossible length"),
        (damaged(&|pen| { pen.u32(6).u32(8); }), "a block of impossible length"),
        (damaged(&|pen| { pen.block(6, &[0; 8]); }), "a packet block shorter than its fields"),
        (damaged(&|pen| { pen.block(3, &[]); }), "a packet block shorter than its fields"),
        (damaged(&|pen| { pen.block(1, &[0; 4]); }), "an interface description of impossible length"),
        (damaged(&|pen| { pen.interface(1, 0, &[(9, &[20])]); }), "an impossible time resolution"),
        (damaged(&|pen| { pen.interface(1, 0, &[(9, &[0xff])]); }), "an impossible time resolution"),
        (damaged(&|pen| { pen.u32(5).u32(12).u32(16); }), "the two lengths of a block differ"),
        (damaged(&|pen| { pen.block(0x0a0d_0d0a, &[0; 16]); }), "a section header without the byte-order mark"),
        (damaged(&|pen| {
            let mut body = little();
            body.u32(0).u32(0).u32(0).u32(99).u32(99).raw(&[0; 8]);
            pen.block(6, &body.bytes);
        }), "a packet longer than its block"),
        (damaged(&|pen| {
            let mut body = little();
            body.u32(0x1a2b_3c4d).u16(2).u16(0).raw(&[0xff; 8]);
            pen.block(0x0a0d_0d0a, &body.bytes);
        }), "a section of another version than 1"),
    ];
    for ((file, at), expected) in cases {
        match replay(&file, Options::default()).1 {
            Err(ReplayError::Invalid { offset, what }) => {
                assert_eq!((offset, what), (at as u64, expected));
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
    let message = |file: &[u8]| replay(file, Options::default()).1.unwrap_err().to_string();
    assert_eq!(message(b""), "the capture is empty");
    assert_eq!(message(b"abc"), "the capture is empty");
    assert!(message(b"GIF89a").starts_with("not a capture: the file starts with 47494638"));
    let missing = run(Path::new("/nowhere/x.pcap"), &mut Vec::new(), Options::default());
    assert_eq!(missing.unwrap_err().to_string(), "open capture /nowhere/x.pcap");
}

#[test]
fn a_reader_that_closes_is_an_error_and_not_a_panic() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let file = plain(101, &[packet("a.test", 1)]);
    let result = run_reader(&file[..], &mut Closed, Options::default());
    assert!(matches!(result, Err(ReplayError::Write(_))), "{result:?}");
}

/// What identifies a ClientHello: ends, name, JA4 and, where it is compared, JA3.
type Row = [String; 4];

/// ClientHellos in the table `expected`, by capture. Of nine columns JA3 is the last.
fn expected_hellos(expected: &Path, columns: usize) -> BTreeMap<String, Vec<Row>> {
    let text = std::fs::read_to_string(expected).unwrap();
    let mut captures: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(fields.len(), columns, "{line}");
        fields.resize(9, "");
        let [capture, transport, ends @ .., sni, ja4, ja3] = &fields[..] else { panic!("{line}") };
        let rows = captures.entry((*capture).to_owned()).or_default();
        if cfg!(feature = "quic") || *transport == "tcp" {
            rows.push([&ends.join(" "), *sni, *ja4, *ja3].map(str::to_owned));
        }
    }
    captures
}

fn found_hellos(capture: &Path) -> Vec<Row> {
    let mut out = Vec::new();
    run(capture, &mut out, Options::default()).unwrap();
    let mut again = Vec::new();
    let other_seed = Options { seed: [5, 6], ..Options::default() };
    run(capture, &mut again, other_seed).unwrap();
    assert_eq!(out, again, "the lines are the same in every run");
    let text = String::from_utf8(out).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["type"] == "tls")
        .map(|line| {
            let text = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
            let (sport, dport) = (&line["sport"], &line["dport"]);
            let ends = format!("{} {sport} {} {dport}", text("src"), text("dst"));
            [ends, text("sni"), text("ja4"), text("ja3")]
        })
        .collect()
}

/// Compares the captures in `folder` with their table; says how many ClientHellos there are.
fn compare(folder: &Path, expected: BTreeMap<String, Vec<Row>>, has_ja3: bool) -> usize {
    let mut compared = 0;
    for (capture, mut expected) in expected {
        let mut found = found_hellos(&folder.join(&capture));
        if !has_ja3 {
            for row in &mut found {
                row[3].clear();
            }
        }
        expected.sort();
        found.sort();
        compared += expected.len();
        assert_eq!(found, expected, "{capture}");
    }
    compared
}

/// The folder of recorded captures that lies beside a checkout, not in it.
fn shared_vectors() -> Option<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("shared/vectors/tls"))
        .find(|folder| folder.is_dir())
}

/// R35, R184: ClientHellos of real clients, with the published name and JA4 of each.
#[test]
fn published_captures_give_the_published_fingerprints() {
    let Some(folder) = shared_vectors() else {
        println!("SKIPPED: no folder shared/vectors/tls above {}", env!("CARGO_MANIFEST_DIR"));
        return;
    };
    let compared = compare(&folder, expected_hellos(&folder.join("expected.tsv"), 8), false);
    assert!(compared > 60, "{compared} rows");
    println!("{compared} ClientHellos compared");
}

/// R34, R35, R184: clients of this project's own recording, TLS 1.0 to 1.3, told by another program.
#[test]
fn recorded_clients_give_the_fingerprints_that_another_program_found() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tls");
    let table = expected_hellos(&folder.join("expected.tsv"), 9);
    let recorded = std::fs::read_dir(&folder).unwrap();
    let is_capture = |name: &str| name.contains(".pcap");
    let recorded =
        recorded.filter(|e| is_capture(&e.as_ref().unwrap().file_name().to_string_lossy()));
    assert_eq!(recorded.count(), table.len(), "each capture is in the table");
    assert_eq!(compare(&folder, table, true), 17);
}

#[test]
fn a_hello_in_several_segments_of_a_capture_is_one_hello() {
    let capture = "../tests/data/tls/openssl-segments.pcap";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(capture);
    let mut out = Vec::new();
    let summary = run(&path, &mut out, Options::default()).unwrap();
    assert_eq!((summary.tls_lines, summary.stats.trusted, summary.open_flows), (1, 1, 0));
    let line: Value =
        serde_json::from_slice(out.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(line["alpn"].as_array().unwrap().len(), 16, "the first of sixty are kept");
    assert_eq!(line["alpn"][15], "protocol-16");
    // Three packets of the handshake, two of data: the decision came with the second.
    assert_eq!(summary.stats.packets - summary.stats.repeated, 5);
}

/// R34: what servers answered in the recorded captures, told by another program: JA3S, and the SHA-1
/// of the certificate where it came in the clear.
#[test]
fn recorded_servers_give_the_fingerprints_that_another_program_found() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tls");
    let table = std::fs::read_to_string(folder.join("answers.tsv")).unwrap();
    let mut compared = 0;
    for row in table.lines().filter(|row| !row.starts_with('#')) {
        let [capture, version, cipher, ja3s, certificate] = row.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("{row}")
        };
        let mut out = Vec::new();
        run(&folder.join(capture), &mut out, Options::default()).unwrap();
        let lines: Vec<Value> = out
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let of = |kind: &str| lines.iter().find(|line| line["type"] == kind).unwrap();
        let (hello, answer) = (of("tls"), of("tls_answer"));
        for end in ["src", "sport", "dst", "dport"] {
            assert_eq!(hello[end], answer[end], "{capture}");
        }
        let found = [&answer["version"], &answer["ja3s"]].map(|value| value.as_str().unwrap());
        assert_eq!(found, [version, ja3s], "{capture}");
        assert_eq!(answer["cipher"].to_string(), cipher, "{capture}");
        assert_eq!(answer["certificate_sha1"].as_str().unwrap_or("-"), certificate, "{capture}");
        compared += 1;
    }
    assert_eq!(compared, 17);
}

/// R38: Chromium offers an encrypted ClientHello, `curl` does not.
#[test]
fn an_outer_name_is_told_as_one() {
    for (capture, expected) in [
        ("quic/chromium.pcap", true),
        ("tls/chromium-tls13.pcap", true),
        ("tls/curl-h2-tls13.pcap", false),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(capture);
        let mut out = Vec::new();
        run(&path, &mut out, Options::default()).unwrap();
        let lines = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let lines: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        let tls = lines.iter().find(|line| line["type"] == "tls").unwrap();
        assert_eq!(tls["ech"], expected, "{capture}");
    }
}
