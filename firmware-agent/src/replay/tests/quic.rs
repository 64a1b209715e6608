//! QUIC in captures.

use super::*;
use crate::inspect::quic::tests::{sample_v1, sample_v2};

/// An IPv4 packet with a datagram of UDP to port 443.
fn datagram(sport: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet =
        vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1];
    packet.extend(sport.to_be_bytes());
    packet.extend([1, 0xbb]);
    packet.extend((8 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet
}

/// R36, R184.
#[test]
fn a_connection_of_quic_is_one_line_and_its_hello_and_verdict_others() {
    let rules = [("example.com".to_owned(), RuleAction::Block, 7)];
    let options = Options { rules: of_domains(rules), ..Options::default() };
    let file = plain(101, &[datagram(1000, &sample_v1()), datagram(2000, &sample_v2())]);
    let (lines, result) = replay(&file, options);
    let [quic, tls, verdict, second, ..] = &lines[..] else { panic!("{lines:?}") };
    #[rustfmt::skip]
    assert_eq!(*quic, serde_json::json!({
        "type": "quic", "time": 1_700_000_000.123_456,
        "src": "192.0.2.1", "sport": 1000, "dst": "198.51.100.1", "dport": 443,
        "version": "v1", "dcid": "8394c8f03e515708", "scid": "", "retry": false, "token": false,
        "sni": "example.com", "alpn": ["alpn"], "ja4": "q13d0211an_62ed6f6ca7ad_4d634acda6c0",
    }));
    assert_eq!((&tls["type"], &tls["transport"]), (&"tls".into(), &"udp".into()));
    assert_eq!((&tls["sni"], &tls["ja4"]), (&quic["sni"], &quic["ja4"]));
    assert_eq!((&verdict["type"], &verdict["reason"]), (&"verdict".into(), &"domain_rule".into()));
    assert_eq!((&verdict["transport"], &verdict["packets"]), (&"udp".into(), &1.into()));
    assert_eq!((&second["version"], &second["sport"]), (&"v2".into(), &2000.into()));
    let summary = result.unwrap();
    assert_eq!((summary.quic_lines, summary.tls_lines, summary.verdict_lines), (2, 2, 2));
    assert_eq!((summary.stats.quic_hellos, summary.stats.hellos), (2, 2));
}

/// R35, R36, R184: clients of this project's own recording, told by another program.
#[test]
fn recorded_quic_clients_give_the_fingerprints_that_another_program_found() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/quic");
    let table = expected_hellos(&folder.join("expected.tsv"), 9);
    let is_capture = |name: &str| name.contains(".pcap");
    let recorded = std::fs::read_dir(&folder).unwrap();
    let recorded =
        recorded.filter(|e| is_capture(&e.as_ref().unwrap().file_name().to_string_lossy()));
    assert_eq!(recorded.count(), table.len(), "each capture is in the table");
    assert_eq!(compare(&folder, table, true), 10);
}

#[test]
fn recorded_connections_are_decided_and_their_versions_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/quic");
    for (capture, version, packets) in [
        ("aioquic-v1.pcap", "v1", 1),
        ("aioquic-v2.pcap", "v2", 1),
        ("aioquic-three-datagrams.pcap", "v1", 3),
        ("chromium.pcap", "v1", 2),
    ] {
        let mut out = Vec::new();
        let summary = run(&folder.join(capture), &mut out, Options::default()).unwrap();
        assert_eq!((summary.quic_lines, summary.open_flows), (summary.verdict_lines, 0));
        for line in String::from_utf8(out).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            match line["type"].as_str() {
                Some("quic") => assert_eq!(line["version"], version, "{capture}"),
                Some("verdict") => assert_eq!(line["packets"], packets, "{capture}"),
                _ => {}
            }
        }
    }
}
