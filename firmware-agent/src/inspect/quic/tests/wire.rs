//! Headers, keys and frames.

use super::super::header::Kind;
use super::super::keys::{Keys, whole_number};
use super::*;

#[test]
fn the_samples_of_the_standards_are_read() {
    assert_eq!(ask([sample_v1()]), ["v1 example.com"]);
    assert_eq!(ask([sample_v2()]), ["v2 example.com"]);
    let mut client = Client::default();
    let mut room = vec![0; 1200];
    let sample = sample_v1();
    let answer = client.datagram(&sample, sample.len(), &mut room, LIMITS);
    let Answer::Hello(hello, connection) = answer else { panic!("{answer:?}") };
    assert_eq!(hello.alpn.iter().collect::<Vec<_>>(), [b"alpn"]);
    assert_eq!(
        (connection.destination_id.as_bytes(), connection.source_id.as_bytes()),
        (ID, &[][..])
    );
    assert!(!connection.is_retried && !connection.has_token);
}

/// RFC 9001, appendix A.1, and RFC 9369, appendix A.1.
#[test]
fn keys_are_those_of_the_standards() {
    #[rustfmt::skip]
    let cases = [
        (Version::V1, "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2"),
        (Version::V2, "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9"),
    ];
    for (version, key, iv, header) in cases {
        let keys = Keys::new(version, ID).unwrap();
        let found = (&keys.key[..], &keys.iv[..], &keys.header[..]);
        assert_eq!(found, (&hex(key)[..], &hex(iv)[..], &hex(header)[..]));
    }
}

#[test]
fn types_of_packets_differ_by_version() {
    for (first, v1, v2) in [
        (0xc0, Kind::Initial, Kind::Retry),
        (0xd3, Kind::ZeroRtt, Kind::Initial),
        (0xe1, Kind::Handshake, Kind::ZeroRtt),
        (0xf0, Kind::Retry, Kind::Handshake),
    ] {
        assert_eq!((Kind::new(Version::V1, first), Kind::new(Version::V2, first)), (v1, v2));
    }
}

#[test]
fn packet_numbers_are_made_whole() {
    // RFC 9000, appendix A.3.
    assert_eq!(whole_number(Some(0xa82f_30ea), 0x9b32, 16), 0xa82f_9b32);
    #[rustfmt::skip]
    let cases = [
        (None, 0, 8, 0), (None, 255, 8, 255), (Some(255), 0, 8, 256), (Some(300), 250, 8, 250),
        (Some(511), 3, 8, 515), (None, u64::from(u32::MAX), 32, u64::from(u32::MAX)),
        (Some((1 << 62) - 1), 0, 8, 1 << 62),
    ];
    for (largest, truncated, bits, expected) in cases {
        assert_eq!(whole_number(largest, truncated, bits), expected, "{largest:?} {truncated}");
    }
    // And in packets: the second is written in one byte, which names 256.
    let hello = message("number.test");
    let mut sender = Sender { number: 255, number_len: 2, ..sender() };
    let first = sender.datagram(&crypto(0, &hello[..40]));
    sender.number_len = 1;
    let second = sender.datagram(&crypto(40, &hello[40..]));
    assert_eq!(ask([first, second]), ["news", "v1 number.test"]);
}

#[test]
fn one_changed_bit_anywhere_hides_the_message() {
    let sample = sample_v1();
    // Behind the header every byte is like the others.
    for at in (0..60).chain((60..sample.len()).step_by(37)).chain([sample.len() - 1]) {
        let mut changed = sample.clone();
        changed[at] ^= 1 << (at % 8);
        let answer = ask([&changed]).concat();
        assert_eq!(answer, "nothing", "byte {at}");
    }
}

#[test]
fn no_length_of_a_datagram_or_of_its_copy_is_too_short() {
    for sample in [sample_v1(), sample_v2()] {
        for len in 0..sample.len() {
            assert_eq!(ask([&sample[..len]]), ["nothing"], "{len} bytes on the wire");
            let mut client = Client::default();
            let answer = show(&client.datagram(&sample[..len], 1200, &mut [0; 1200], LIMITS));
            // The ids end at the fifteenth byte: before them it may be any packet.
            assert_eq!(answer, if len < 15 { "nothing" } else { "cut" }, "a copy of {len} bytes");
        }
    }
    // Nor is any of random bytes behind a header.
    let mut state = 1_u64;
    for len in (0..2000).step_by(19) {
        let mut bytes = sample_v1()[..20].to_vec();
        bytes.extend((0..len).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        }));
        bytes.resize(bytes.len().max(1200), 0);
        assert!(["nothing", "cut"].contains(&&*ask([&bytes]).concat()), "{len}");
    }
}

#[test]
fn a_packet_that_does_not_fit_its_room_is_not_read() {
    let sample = sample_v1();
    for (room, expected) in [(0, "nothing"), (1199, "nothing"), (1200, "v1 example.com")] {
        let mut client = Client::default();
        let answer = show(&client.datagram(&sample, sample.len(), &mut vec![0; room], LIMITS));
        assert_eq!(answer, expected);
    }
}

#[test]
fn frames_around_the_message_are_walked() {
    let hello = message("frames.test");
    let ack = [2, 9, 1, 2, 0, 1, 1, 3, 3];
    let ack_ecn = [3, 0x40, 9, 1, 0, 0, 1, 2, 3];
    let close = [0x1c, 2, 0, 3, b'b', b'y', b'e'];
    for before in [&ack[..], &ack_ecn, &close, &[0, 0, 0], &[1], &[1, 0, 1]] {
        let frames = [before, &crypto(0, &hello), before].concat();
        assert_eq!(ask([sender().datagram(&frames)]), ["v1 frames.test"], "{before:?}");
        for len in 1..before.len() {
            let cut = [&crypto(0, &hello)[..], &before[..len]].concat();
            let overhead = sender().packet(&cut).len() - cut.len();
            // Nothing follows, so that what is missing is behind the end of the packet.
            let padded = [&vec![0; DATAGRAM_MIN - overhead - cut.len()][..], &cut].concat();
            let is_whole = before.iter().all(|byte| *byte < 2);
            let expected = if is_whole { "v1 frames.test" } else { "frame_overrun" };
            assert_eq!(ask([sender().packet(&padded)]), [expected], "{before:?} {len}");
        }
    }
    for kind in (0..=255).filter(|kind| ![0, 1, 2, 3, 6, 0x1c].contains(kind)) {
        let frames = [&crypto(0, &hello)[..], &[kind]].concat();
        assert_eq!(ask([sender().datagram(&frames)]), ["frame"], "{kind:#x}");
    }
}

#[test]
fn offsets_and_lengths_of_any_size_are_bounded() {
    let last = (1_u64 << 62) - 1;
    let frame = |offset: u64, data: &[u8]| {
        [&[6][..], &varint(offset, 8), &varint(data.len() as u64, 8), data].concat()
    };
    for (frames, expected) in [
        (frame(last, b""), "nothing"),
        (frame(last, b"x"), "crypto_offset"),
        (frame(last - 1, b"x"), "nothing"),
        (frame(1 << 40, b"x"), "nothing"),
        (frame(u64::from(u32::MAX), b"x"), "nothing"),
        (frame(1 << 31, b"x"), "nothing"),
        (frame(16 * 1024 + 4, b"x"), "nothing"),
        (frame(16 * 1024 + 3, b"xx"), "news"),
        ([&[6][..], &varint(0, 1), &varint(last, 8)].concat(), "frame_overrun"),
    ] {
        let mut client = Client::default();
        assert_eq!(give(&mut client, &sender().datagram(&frames)), expected, "{frames:?}");
        assert!(client.memory() < 1024, "{}", client.memory());
    }
}
