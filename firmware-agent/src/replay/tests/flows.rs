//! Flows of captures as a whole.

use super::*;

const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 1;
const RST: u8 = 4;

/// A TCP packet between port `port` of the client and port 443 of the server.
fn segment(is_reply: bool, port: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (mut src, mut dst) = (([192, 0, 2, 1], port), ([198, 51, 100, 1], 443_u16));
    if is_reply {
        std::mem::swap(&mut src, &mut dst);
    }
    let len = (40 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet.extend(src.0);
    packet.extend(dst.0);
    packet.extend(src.1.to_be_bytes());
    packet.extend(dst.1.to_be_bytes());
    packet.extend([0, 0, 0, 9, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

/// R184: who, when, how much each way, how it ended, what was concluded.
#[test]
fn a_flow_is_one_line_when_the_capture_has_ended() {
    let file = plain(
        101,
        &[
            segment(false, 1000, SYN, &[]),
            segment(true, 1000, SYN | ACK, &[]),
            packet("a.test", 2000),
            segment(true, 1000, ACK, &[7; 100]),
            segment(false, 1000, FIN | ACK, &[]),
            segment(true, 1000, FIN | ACK, &[]),
        ],
    );
    let (lines, result) = replay(&file, Options::default());
    let flows = of_type(&lines, "flow");
    #[rustfmt::skip]
    assert_eq!(*flows[0], serde_json::json!({
        "type": "flow", "time": 1_700_000_000.123_456, "last": 1_700_000_005.123_456, "transport": "tcp",
        "src": "192.0.2.1", "sport": 1000, "dst": "198.51.100.1", "dport": 443,
        "original_packets": 2, "original_bytes": 80, "reply_packets": 3, "reply_bytes": 220,
        "end": "fin", "name": null, "protocol": null, "verdict": "inspect",
    }));
    let second = flows[1];
    assert_eq!((&second["name"], &second["end"]), (&"a.test".into(), &"none".into()));
    assert_eq!((&second["protocol"], &second["verdict"]), (&"tls".into(), &"trusted".into()));
    let summary = result.unwrap();
    assert_eq!((flows.len(), summary.flow_lines), (2, 2));
    assert_eq!(lines.last().unwrap()["type"], "flow");
}

#[test]
fn ports_that_are_used_again_are_another_flow() {
    let ends = |last: u8, file: &[Vec<u8>]| {
        let file = [file, &[segment(false, 1000, last, &[])], &[segment(false, 1000, SYN, &[])]];
        let (lines, _) = replay(&plain(101, &file.concat()), Options::default());
        let flows = of_type(&lines, "flow");
        flows.iter().map(|flow| flow["end"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let open = [segment(false, 1000, SYN, &[])];
    assert_eq!(ends(FIN | ACK, &open), ["half", "none"]);
    assert_eq!(ends(RST, &open), ["rst", "none"]);
    assert_eq!(ends(ACK, &open), ["none"], "a SYN that is sent once more");
}

/// A capture of any length needs the room of so many flows; each is told.
#[test]
fn more_flows_than_are_counted_at_a_time_are_told_all_the_same() {
    const FLOWS: u32 = 65_536 + 10;
    let frames: Vec<_> = (0..FLOWS)
        .map(|number| {
            let mut frame = segment(false, 1000, ACK, &[]);
            frame[12..16].copy_from_slice(&(0x0a00_0000 + number).to_be_bytes());
            frame
        })
        .collect();
    let (lines, result) = replay(&plain(101, &frames), Options::default());
    let flows = of_type(&lines, "flow");
    assert_eq!(result.unwrap().flow_lines, u64::from(FLOWS));
    let addresses: Vec<_> = flows.iter().map(|flow| flow["src"].as_str().unwrap()).collect();
    assert_eq!((addresses[0], addresses[9]), ("10.0.0.0", "10.0.0.9"), "in order");
    assert_eq!(addresses.len(), FLOWS as usize);
}
