use std::collections::BTreeSet;

use super::*;
use crate::control::events::document::{check, check_all, documented};
use crate::inspect::dhcp::tests as dhcp;
use crate::inspect::dns::kind;
use crate::inspect::dns::tests::Pen as Dns;

/// An IPv4 packet of UDP between a client and a name server.
fn udp(is_answer: bool, message: &[u8]) -> Vec<u8> {
    let ports: [u16; 2] = if is_answer { [53, 40_000] } else { [40_000, 53] };
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet.extend(if is_answer {
        [198, 51, 100, 1, 192, 0, 2, 1]
    } else {
        [192, 0, 2, 1, 198, 51, 100, 1]
    });
    for word in [ports[0], ports[1], message.len() as u16 + 8, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(message);
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet
}

/// R184: a question and its answer are a line each, before the verdict of their flow.
#[test]
fn questions_and_answers_of_dns_are_lines() {
    let question = Dns::new(0x0100, 1, 0).question("WWW.a.test", kind::HTTPS).0;
    let service = Dns::default()
        .u16(1)
        .raw(&[0])
        .u16(1)
        .u16(3)
        .raw(b"\x02h2")
        .u16(4)
        .u16(4)
        .raw(&[192, 0, 2, 7]);
    let service = service.u16(5).u16(1).raw(&[9]).0;
    let answer = Dns::new(0x8183, 1, 3)
        .question("www.a.test", kind::HTTPS)
        .record("", kind::CNAME, &Dns::default().name("b.test").0)
        .record("b.test", kind::HTTPS, &service)
        .record("b.test", 999, b"x")
        .0;
    let file = plain(101, &[udp(false, &question), udp(true, &answer), udp(true, &answer[..40])]);
    let (lines, result) = replay(&file, Options::default());
    assert_eq!(result.unwrap().dns_lines, 3);
    let [asked, answered, cut] = of_type(&lines, "dns")[..] else { panic!("{lines:?}") };
    #[rustfmt::skip]
    assert_eq!(*asked, serde_json::json!({
        "type": "dns", "time": 1_700_000_000.123_456, "transport": "udp",
        "src": "192.0.2.1", "sport": 40000, "dst": "198.51.100.1", "dport": 53,
        "id": 0x5155, "response": false, "name": "www.a.test", "query": "HTTPS", "rcode": null,
        "truncated": false, "answers": [], "malformed": null,
    }));
    #[rustfmt::skip]
    assert_eq!(*answered, serde_json::json!({
        "type": "dns", "time": 1_700_000_001.123_456, "transport": "udp",
        "src": "198.51.100.1", "sport": 53, "dst": "192.0.2.1", "dport": 40000,
        "id": 0x5155, "response": true, "name": "www.a.test", "query": "HTTPS", "rcode": "NXDOMAIN",
        "truncated": false, "malformed": null,
        "answers": [
            {"name": "www.a.test", "type": "CNAME", "ttl": 300, "data": "b.test"},
            {"name": "b.test", "type": "HTTPS", "ttl": 300, "data": "1 . alpn=h2 ipv4hint=192.0.2.7 ech"},
            {"name": "b.test", "type": "TYPE999", "ttl": 300, "data": null},
        ],
    }));
    assert_eq!((&cut["malformed"], &cut["id"]), (&"truncated".into(), &Value::Null));
}

/// A broadcast of UDP from a client of DHCP to its server.
fn dhcp(message: &[u8]) -> Vec<u8> {
    let mut packet = udp(false, message);
    packet[12..24].copy_from_slice(&[0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67]);
    packet
}

/// R184: messages of a real client and server are lines with what `tshark` finds in them.
#[test]
fn messages_of_dhcp_are_lines_with_what_another_program_found() {
    let file = |name: &str| format!("{}/../tests/data/dhcp/{name}", env!("CARGO_MANIFEST_DIR"));
    let capture = std::fs::read(file("udhcpc.pcap")).unwrap();
    let (lines, result) = replay(&capture, Options::default());
    let lines = of_type(&lines, "dhcp");
    assert_eq!(result.unwrap().dhcp_lines as usize, lines.len());
    let expected = std::fs::read_to_string(file("expected.tsv")).unwrap();
    let expected: Vec<_> = expected.lines().skip(1).collect();
    assert_eq!(expected.len(), lines.len());
    for (line, expected) in lines.iter().zip(expected) {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let list = |name: &str| {
            let items = line[name].as_array().unwrap().iter();
            let items =
                items.map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned));
            items.collect::<Vec<_>>().join(",")
        };
        let kind = ["", "DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK"];
        let kind = kind.iter().position(|word| *word == text("message")).unwrap();
        let yours = line["yours"].as_str().unwrap_or("0.0.0.0");
        let lease = line["lease_s"].as_u64().map(|lease| lease.to_string()).unwrap_or_default();
        let found = [
            kind.to_string(),
            format!("{:#010x}", line["id"].as_u64().unwrap()),
            text("mac"),
            yours.to_owned(),
            text("requested"),
            text("server"),
            lease,
            text("name"),
            text("vendor"),
            list("parameters"),
            list("routers"),
            list("name_servers"),
        ];
        assert_eq!(found.join("\t"), expected);
        let ports = if line["reply"] == true { (67, 68) } else { (68, 67) };
        assert_eq!((&line["sport"], &line["dport"]), (&ports.0.into(), &ports.1.into()));
        assert_eq!((&line["client"], &line["relay"]), (&Value::Null, &Value::Null));
    }
    // Other ports are somebody else's, and what cannot be read says why.
    let message = dhcp::with(dhcp::fixed(1), &[]);
    let mut other = dhcp(&message);
    other[23] = 53;
    let (lines, _) = replay(&plain(101, &[other, dhcp(&message[..239])]), Options::default());
    let [cut] = of_type(&lines, "dhcp")[..] else { panic!("{lines:?}") };
    assert_eq!((&cut["malformed"], &cut["message"]), (&"truncated".into(), &Value::Null));
}

/// Every field that is printed is in `config/events.md` with its type, and every field there is printed.
#[test]
fn events_and_their_document_have_the_same_fields() {
    let documented = documented();
    let mut request = packet("a.test", 4000);
    request.truncate(40);
    request.extend(b"GET /x HTTP/1.1\r\nHost: a.test\r\nUser-Agent: b\r\n\r\n");
    let len = request.len() as u16;
    request[2..4].copy_from_slice(&len.to_be_bytes());
    let mut bad = packet("ads.test", 1000);
    bad[20 + 20 + 44] = 0xff;
    let answer = Dns::new(0x8180, 1, 1).question("a.test", kind::A).record("", kind::A, &[1; 4]).0;
    let frames =
        [packet("ads.test", 1), bad, request, udp(true, &answer), udp(true, &answer[..30])];
    let frames = [&frames[..], &[dhcp(&dhcp::with(dhcp::fixed(2), &[(53, &[99])]))]].concat();
    let rules = of_domains([("ads.test".to_owned(), RuleAction::Block, 7)]);
    let rule = r#"alert tcp any any -> any any (msg:"x"; content:"GET"; sid:1; rev:1;)"#;
    let rulesets = vec![Ruleset::of_text("local", false, rule).unwrap()];
    let options = Options { rules, rulesets, ..Options::default() };
    let mut lines = replay(&plain(101, &frames), options).0;
    for folder in ["tls", "quic", "dhcp"] {
        let folder = format!("{}/../tests/data/{folder}", env!("CARGO_MANIFEST_DIR"));
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|end| end == "pcap" || end == "pcapng"));
        for file in files {
            lines.extend(replay(&std::fs::read(file).unwrap(), Options::default()).0);
        }
    }
    let mut printed = BTreeSet::new();
    for line in &lines {
        check(&documented, line, false, &mut printed);
    }
    check_all(&documented, &printed, |row| {
        row.is_replayed() && (cfg!(feature = "quic") || row.event != "quic")
    });
}
