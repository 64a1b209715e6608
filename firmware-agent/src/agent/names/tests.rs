use super::*;
use crate::config::Mac;
use crate::inspect::dns::kind;
use crate::inspect::dns::tests::Pen;

const MAC: Option<Mac> = Some(Mac([2, 0, 0, 0, 0, 1]));
const LAN: Option<Zone> = Some(Zone { number: 1, is_lan: true });
const WAN: Option<Zone> = Some(Zone { number: 0, is_lan: false });
const ASKS: Path = Path { mac: MAC, from: LAN, to: WAN };
const ANSWERS: Path = Path { mac: None, from: WAN, to: LAN };

fn udp((from, to): (&str, &str), message: &[u8]) -> Vec<u8> {
    let [from, to] = [from, to].map(|text| text.parse::<std::net::SocketAddrV4>().unwrap());
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    for word in [from.port(), to.port(), message.len() as u16 + 8, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(message);
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    Pen::new(0x0100, 1, 0).question(name, kind).0
}

fn name(resolutions: &Resolutions, device: &str, peer: &str) -> Option<(String, &'static str)> {
    let addr = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
    let (device, peer): (Addr, Addr) = (addr(device), addr(peer));
    let (key, direction) = FlowKey::new(device, peer, 1_u16.to_be(), 443_u16.to_be(), 6);
    let ends = Ends::new(&key, direction, direction, &ASKS);
    assert_eq!(resolutions.name(1, &ends, peer), None, "a flow that the other end opened");
    let learned = resolutions.name(1, &ends, device)?;
    Some((learned.name.into(), learned.source))
}

const CLIENT: &str = "192.168.1.7:40000";
const RESOLVER: &str = "192.0.2.53:53";

/// Where no packet socket is, the queue shows forwarded DNS; a name of an address is one too.
#[test]
fn the_queue_shows_what_is_forwarded_where_there_is_no_socket() {
    let mut all = Resolutions::new(64, [1, 2]);
    let queued = |resolutions: &mut Resolutions, ends, message: &[u8], path: &Path| {
        let packet = udp(ends, message);
        resolutions.queued(1, &packet, packet.len(), path);
    };
    let answer = Pen::new(0x8180, 1, 1).question("a.test", kind::A);
    let answer = answer.record("", kind::A, &[192, 0, 2, 9]).0;
    for is_deaf in [false, true] {
        all.ears.deaf = if is_deaf { vec![(1, String::new())] } else { Vec::new() };
        queued(&mut all, (CLIENT, RESOLVER), &question("a.test", kind::A), &ASKS);
        queued(&mut all, (RESOLVER, CLIENT), &answer, &ANSWERS);
        let expected = is_deaf.then(|| ("a.test".to_owned(), "dns"));
        assert_eq!(name(&all, "192.168.1.7", "192.0.2.9"), expected);
    }
    assert_eq!(name(&all, "192.168.1.8", "192.0.2.9"), None);
    let reverse = "8.2.0.192.in-addr.arpa";
    let answer = Pen::new(0x8180, 1, 1).question(reverse, kind::PTR);
    let answer = answer.record("", kind::PTR, &Pen::default().name("host.test").0).0;
    queued(&mut all, (CLIENT, RESOLVER), &question(reverse, kind::PTR), &ASKS);
    queued(&mut all, (RESOLVER, CLIENT), &answer, &ANSWERS);
    assert_eq!(name(&all, "192.168.1.7", "192.0.2.8"), Some(("host.test".to_owned(), "ptr")));
    assert_eq!((all.lessons.report().questions, all.lessons.report().answers), (2, 2));
}

/// No answer counts on its way in, or for a question on its way out, or with an error.
#[test]
fn a_question_counts_on_its_way_in_and_an_answer_on_its_way_out() {
    let answer = |flags| {
        let pen = Pen::new(flags, 1, 2).question("a.test", kind::A);
        pen.record("", kind::A, &[192, 0, 2, 9]).record("", kind::A, &[0, 0, 0, 0]).0
    };
    for (asks, answers, flags, expected) in [
        (Way::In(MAC), Way::Out, 0x8180, 1),
        (Way::In(MAC), Way::In(MAC), 0x8180, 0),
        (Way::Out, Way::Out, 0x8180, 0),
        (Way::In(MAC), Way::Out, 0x8183, 0),
    ] {
        let mut all = Resolutions::new(64, [1, 2]);
        let (asked, answered) = (
            udp((CLIENT, RESOLVER), &question("A.test", kind::A)),
            udp((RESOLVER, CLIENT), &answer(flags)),
        );
        all.lessons.take(0, &asked, asked.len(), asks);
        all.lessons.take(1, &answered, answered.len(), answers);
        assert_eq!(all.lessons.report().entries, expected);
    }
}
