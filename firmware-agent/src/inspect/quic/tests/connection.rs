//! Datagrams of one connection, and of several.

use super::*;

/// A Retry or, without a version, a Version Negotiation packet.
fn server_packet(first: u8, version: u32, source: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend(version.to_be_bytes());
    packet.extend([5, 1, 2, 3, 4, 5, source.len() as u8]);
    [&packet, source, rest].concat()
}

#[test]
fn a_hello_split_at_every_byte_over_two_datagrams_in_both_orders() {
    let hello = message("split.example.com");
    for version in [Version::V1, Version::V2] {
        let expected = format!("{} split.example.com", version.name());
        for at in 1..hello.len() {
            let mut sender = Sender::new(version, ID);
            let first = sender.datagram(&crypto(0, &hello[..at]));
            let second = sender.datagram(&crypto(at, &hello[at..]));
            assert_eq!(ask([&first, &second]), ["news", &expected], "split at {at}");
            assert_eq!(ask([&second, &first]), ["news", &expected], "split at {at}, turned round");
        }
    }
}

#[test]
fn a_hello_in_shuffled_frames_with_others_between() {
    let hello = message("chaos.example.com");
    for len in [7, 11, 40] {
        let mut frames: Vec<Vec<u8>> =
            hello.chunks(len).enumerate().map(|(n, part)| crypto(n * len, part)).collect();
        frames.reverse();
        let half = frames.len() / 2;
        frames.swap(0, half);
        for frame in frames.iter_mut().step_by(2) {
            frame.extend([1, 0, 0]);
        }
        assert_eq!(ask([sender().datagram(&frames.concat())]), ["v1 chaos.example.com"]);
        let mut sender = sender();
        let (first, second) = frames.split_at(half);
        let datagrams = [sender.datagram(&first.concat()), sender.datagram(&second.concat())];
        assert_eq!(ask(datagrams), ["news", "v1 chaos.example.com"]);
    }
}

#[test]
fn more_pieces_than_may_wait_are_said() {
    let hello = message("pieces.test");
    let every_second = |from: usize| -> Vec<u8> {
        (from..hello.len()).step_by(2).flat_map(|at| crypto(at, &hello[at..=at])).collect()
    };
    let mut sender = sender();
    let odd = every_second(1);
    assert_eq!(ask([sender.datagram(&odd)]), ["pieces"]);
    // The server has the first copy of what was left out here, and the message may be another one.
    let whole = [odd, crypto(0, &message("other.test"))].concat();
    assert_eq!(ask([sender.datagram(&whole)]), ["pieces"]);
}

#[test]
fn the_longest_hello_is_read_and_the_next_is_not() {
    let longest = Recipe::named("long.test").padded(tls::HELLO_MAX).message();
    let flight = sender().flight(&longest);
    assert_eq!(flight.len(), 15);
    let answers = ask(&flight);
    assert_eq!(answers[14], "v1 long.test");
    assert!(answers[..14].iter().all(|answer| answer == "news"), "{answers:?}");
    assert_eq!(ask(flight.iter().rev())[14], "v1 long.test");
    let too_long = sender().datagram(&crypto(0, &[1, 0, 0x40, 1]));
    assert_eq!(ask([too_long]), ["tls: hello_too_long"]);
    let another = sender().datagram(&crypto(0, &[2, 0, 0, 0]));
    assert_eq!(ask([another]), ["not_client_hello"]);
}

#[test]
fn coalesced_packets_are_walked() {
    let hello = message("coalesced.test");
    let (first, second) = (crypto(0, &hello[..50]), crypto(50, &hello[50..]));
    for version in [Version::V1, Version::V2] {
        let expected = format!("{} coalesced.test", version.name());
        let new = || Sender::new(version, ID);
        let pad = |mut bytes: Vec<u8>| {
            bytes.resize(bytes.len().max(DATAGRAM_MIN), 0);
            bytes
        };
        let mut sender = new();
        let two = [sender.packet(&first), sender.packet(&second)].concat();
        assert_eq!(ask([pad(two)]), [&*expected], "two, and zeros behind them");
        let mut sender = new();
        let behind =
            [sender.other(1, 300), sender.other(2, 40), sender.datagram(&crypto(0, &hello))];
        assert_eq!(ask([behind.concat()]), [&*expected], "behind 0-RTT and Handshake");
        let mut sender = new();
        let before = [sender.packet(&crypto(0, &hello)), sender.other(2, 1100)];
        assert_eq!(ask([before.concat()]), [&*expected], "before Handshake");
        let garbage = [new().other(0, 100), new().datagram(&crypto(0, &hello))].concat();
        assert_eq!(ask([garbage]), [&*expected], "behind one that is not authentic");
        let many = [new().other(0, 30).repeat(4), new().datagram(&crypto(0, &hello))].concat();
        assert_eq!(ask([many]), ["nothing"], "behind too many of them");
    }
    // Servers leave a coalesced packet of another connection alone.
    let mut other = Sender::new(Version::V1, b"another id");
    let two = [sender().packet(&first), other.datagram(&crypto(0, &message("other.test")))];
    assert_eq!(ask([two.concat()]), ["news"]);
}

#[test]
fn datagrams_that_servers_drop_say_nothing() {
    let hello = message("short.test");
    let packet = sender().datagram(&crypto(0, &hello));
    assert_eq!(packet.len(), DATAGRAM_MIN);
    let short = sender().packet(&crypto(0, &hello));
    assert_eq!(ask([&short, &packet]), ["nothing", "v1 short.test"]);
}

#[test]
fn keys_stay_when_the_client_goes_on_under_the_servers_id() {
    let hello = message("id.test");
    let mut sender = sender();
    let first = sender.datagram(&crypto(0, &hello[..40]));
    for id in [&b"server"[..], b"", &[7; 20]] {
        let mut later = Sender { destination: id.to_vec(), ..sender.clone() };
        let second = later.datagram(&crypto(40, &hello[40..]));
        let mut client = Client::default();
        assert_eq!(give(&mut client, &first), "news");
        assert_eq!(give(&mut client, &second), "v1 id.test");
        assert!(!client.has_conflict());
    }
    // It may also go on in the other version, which the server has chosen.
    let mut later = Sender { version: Version::V2, destination: vec![9; 8], ..sender };
    let second = later.datagram(&crypto(40, &hello[40..]));
    assert_eq!(ask([first, second]), ["news", "v2 id.test"]);
}

#[test]
fn a_retry_begins_anew_with_the_id_of_the_server() {
    let hello = message("retry.test");
    let first = sender().datagram(&crypto(0, &hello[..40]));
    let mut again =
        Sender { token: b"token".to_vec(), number: 1, ..Sender::new(Version::V1, b"retry") };
    let rest =
        [again.datagram(&crypto(0, &hello[..60])), again.datagram(&crypto(60, &hello[60..]))];
    for (version, retry) in [(1, 0xf5), (0x6b33_43cf, 0xc5)] {
        let mut client = Client::default();
        assert_eq!(give(&mut client, &first), "news");
        client.server_datagram(&server_packet(
            retry,
            version,
            b"retry",
            b"token, and an integrity tag",
        ));
        assert_eq!(give(&mut client, &rest[0]), "news");
        let mut room = vec![0; 1200];
        let answer = client.datagram(&rest[1], rest[1].len(), &mut room, LIMITS);
        let Answer::Hello(_, connection) = answer else { panic!("{answer:?}") };
        assert!(connection.is_retried && connection.has_token);
        assert_eq!(connection.destination_id.as_bytes(), b"retry");
        assert!(!client.has_conflict());
    }
    // Nobody asked for that: the message that was begun may be the one that the server gets.
    for server in [vec![], server_packet(0xf5, 1, b"other", b"token, and an integrity tag")] {
        let mut client = Client::default();
        assert_eq!(give(&mut client, &first), "news");
        client.server_datagram(&server);
        assert_eq!(give(&mut client, &rest[0]), "news");
        assert_eq!(give(&mut client, &rest[1]), "v1 retry.test");
        assert!(client.has_conflict());
    }
}

#[test]
fn a_negotiated_version_begins_anew() {
    let offer = server_packet(0x80, 0, ID, &1_u32.to_be_bytes());
    let old = message("old.test");
    let mut sender = Sender::new(Version::V2, ID);
    let first = sender.datagram(&crypto(0, &old[..40]));
    let hello = message("new.test");
    for id in [ID, b"another"] {
        let mut client = Client::default();
        assert_eq!(give(&mut client, &first), "news");
        client.server_datagram(&offer);
        let mut sender = Sender::new(Version::V1, id);
        assert_eq!(give(&mut client, &sender.datagram(&crypto(0, &hello))), "v1 new.test");
        assert!(!client.has_conflict());
    }
    // A version that cannot be read, such as one that exists to be refused.
    let mut unknown = sample_v1();
    unknown[1..5].copy_from_slice(&[0x1a, 0x2a, 0x3a, 0x4a]);
    let mut client = Client::default();
    assert_eq!(give(&mut client, &unknown), "nothing");
    assert!(client.is_version_unknown() && !client.is_opened());
    client.server_datagram(&offer);
    assert_eq!(give(&mut client, &sample_v1()), "v1 example.com");
}

#[test]
fn the_first_copy_of_a_byte_counts_and_another_is_a_conflict() {
    let (one, other) = (message("first.test"), message("other.test"));
    let mut sender = sender();
    let mut client = Client::default();
    assert_eq!(give(&mut client, &sender.datagram(&crypto(0, &one[..70]))), "news");
    assert_eq!(give(&mut client, &sender.datagram(&crypto(0, &one[..70]))), "nothing");
    assert!(!client.has_conflict());
    assert_eq!(give(&mut client, &sender.datagram(&crypto(0, &other))), "v1 first.test");
    assert!(client.has_conflict());
}

#[test]
fn what_looks_like_quic_is_told_from_what_does_not() {
    let (v1, v2) = (sample_v1(), sample_v2());
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = v1.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    #[rustfmt::skip]
    let cases = [
        (v1.clone(),               443, true),
        (v2,                       443, true),
        (v1.clone(),              4433, true),
        (v1[..60].to_vec(),        443, true),
        (with(0, &[0x80]),         443, true),  // RFC 9287
        (with(0, &[0x80])[..60].to_vec(), 443, false),
        (with(0, &[0xe0]),         443, false), // Handshake
        (with(0, &[0x40]),         443, false), // a short header
        (with(1, &[0, 0, 0, 0]),   443, false), // Version Negotiation
        (with(1, b"Q046"),         443, true),
        (with(1, b"Q046"),        8443, false),
        (with(5, &[21]),           443, false), // longer than an id
        (vec![],                   443, false),
        (vec![0xc0, 0, 0, 0, 1],   443, false),
    ];
    for (bytes, port, expected) in cases {
        let shown = &bytes[..bytes.len().min(8)];
        assert_eq!(looks_like(&bytes, bytes.len(), port), expected, "{shown:02x?} to {port}");
    }
}
