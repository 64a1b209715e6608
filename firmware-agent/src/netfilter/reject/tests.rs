use super::*;

const HOME: Told = Told { is_from_home: true, is_hello: false };

/// Reads a packet back: ends, numbers, flags and payload; checks lengths and the sum.
fn read(answer: &Answer) -> (SocketPair, u32, u32, u8, Vec<u8>) {
    let Answer::Whole { to, packet } = answer else { panic!("{answer:?}") };
    let headers = headers(packet.as_slice(), Link::Ip).unwrap();
    assert_eq!((IpAddr::from(headers.dst), end_of(packet, 0)), (*to, Some(packet.len())));
    let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
    let tcp = &packet[headers.l4..];
    assert_eq!(checksum(sum(addresses) + 6 + tcp.len() as u32 + sum(tcp)), 0);
    let number = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
    let payload = tcp[usize::from(tcp[12] >> 4) * 4..].to_vec();
    let end = |addr: sluice_abi::flow::Addr, port: u16| (addr.into(), u16::from_be(port));
    let ends = (end(headers.src, headers.sport), end(headers.dst, headers.dport));
    (ends, number(4), number(8), headers.tcp_flags, payload)
}

type SocketPair = ((IpAddr, u16), (IpAddr, u16));

/// A segment of a client, with timestamps.
fn segment(addresses: [&str; 2], flags: u8, payload: &[u8]) -> (SocketPair, Vec<u8>) {
    let [client, server] = addresses.map(|text| text.parse::<IpAddr>().unwrap());
    let options = [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9];
    let ack = if flags & ACK == 0 { 0 } else { 5000 };
    let segment = Segment { seq: u32::MAX - 1, ack, flags, options: &options, payload };
    let from = (client, 40_000_u16.to_be());
    let Answer::Whole { packet, .. } = packet(from, (server, 443_u16.to_be()), &segment) else {
        panic!("a packet")
    };
    (((client, 40_000), (server, 443)), packet)
}

const V4: [&str; 2] = ["192.0.2.7", "198.51.100.1"];
const V6: [&str; 2] = ["2001:db8::7", "2001:db8:1::1"];

#[test]
fn both_ends_get_a_reset_with_the_numbers_that_they_wait_for() {
    for addresses in [V4, V6] {
        let (ends, syn) = segment(addresses, SYN, b"");
        let told = answers(&syn, syn.len(), HOME);
        let back = (ends.1, ends.0);
        assert_eq!(told.len(), 1, "the server knows of nothing");
        assert_eq!(read(&told[0]), (back, 0, u32::MAX, RST | ACK, Vec::new()));

        let (ends, data) = segment(addresses, ACK | PSH, b"hello");
        let mut padded = data.clone();
        padded.extend([0; 6]);
        for data in [data, padded] {
            let told = answers(&data, data.len(), HOME);
            assert_eq!(told.len(), 2);
            assert_eq!(read(&told[0]), (back, 5000, 3, RST | ACK, Vec::new()));
            assert_eq!(read(&told[1]), (ends, u32::MAX - 1, 5000, RST | ACK, Vec::new()));
        }
    }
}

#[test]
fn a_client_that_sent_its_hello_gets_an_alert_and_the_end_of_the_stream() {
    let (ends, hello) = segment(V4, ACK | PSH, &[22; 300]);
    let told = answers(&hello, hello.len(), Told { is_hello: true, ..HOME });
    let (back, seq, ack, flags, payload) = read(&told[0]);
    assert_eq!((back, seq, ack), ((ends.1, ends.0), 5000, 298));
    assert_eq!((flags, payload), (PSH | FIN | ACK, ALERT.to_vec()));
    let Answer::Whole { packet, .. } = &told[0] else { panic!("{told:?}") };
    assert_eq!(packet[40..52], [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7], "its clock comes back");
    assert_eq!(read(&told[1]).3, RST | ACK);
    // Copies that are cut have their length in the header.
    assert_eq!(answers(&hello[..60], hello.len(), Told { is_hello: true, ..HOME }), told);
}

#[test]
fn a_stranger_learns_nothing_by_a_first_packet() {
    let stranger = Told { is_from_home: false, is_hello: false };
    let (_, syn) = segment(V4, SYN, b"");
    assert_eq!(answers(&syn, syn.len(), stranger), []);
    let (_, data) = segment(V4, ACK, b"x");
    assert_eq!(answers(&data, data.len(), stranger).len(), 2);
    let (_, reset) = segment(V4, RST | ACK, b"");
    assert_eq!(answers(&reset, reset.len(), HOME), [], "a reset is not answered");
}

#[test]
fn a_datagram_comes_back_as_prohibited() {
    for (addresses, first) in [(V4, [3, 13]), (V6, [1, 1])] {
        let (_, mut packet) = segment(addresses, ACK, &[7; 900]);
        let at = if first[0] == 3 { 9 } else { 6 };
        packet[at] = UDP;
        let udp = if first[0] == 3 { 24 } else { 44 };
        let len = (packet.len() - udp + 4) as u16;
        packet[udp..udp + 2].copy_from_slice(&len.to_be_bytes());
        let told = answers(&packet, packet.len(), HOME);
        let [Answer::Icmp { to, message }] = &told[..] else { panic!("{told:?}") };
        assert_eq!(*to, addresses[0].parse::<IpAddr>().unwrap());
        assert_eq!((&message[..2], &message[8..]), (&first[..], &packet[..QUOTE_MAX]));
        if first[0] == 3 {
            assert_eq!(checksum(sum(message)), 0);
        }
        let stranger = Told { is_from_home: false, is_hello: false };
        assert_eq!(answers(&packet, packet.len(), stranger), []);
    }
}

/// Whatever the packet, there is an answer or none, and never a panic.
#[test]
fn every_beginning_of_a_packet_is_read() {
    for flags in [SYN, ACK] {
        let (_, packet) = segment(V4, flags, b"some bytes");
        for len in 0..packet.len() {
            let told = answers(&packet[..len], packet.len(), HOME);
            assert_eq!(told.is_empty(), len < 52, "{len}");
        }
    }
}
