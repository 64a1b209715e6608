extern crate std;
use std::vec::Vec;

use sluice_abi::attach::Link;

use super::*;
use crate::parse::{self, SYN};

const LIMITS: fn() -> Limits = || Limits { answer_mss: 1460, answer_scale: 7, ..Limits::default() };

fn read(bytes: &[u8]) -> Offered {
    let mut options = [0xee; OPTIONS_MAX];
    options[..bytes.len()].copy_from_slice(bytes);
    let mut offered = Offered { mss: 9, scale: 9, sack: 9, stamps: 9, stamp: 9 };
    offered.read(&options, bytes.len() as u32, |value| value);
    offered
}

fn none() -> Offered {
    Offered { stamp: 9, ..Offered::default() }
}

/// The options of Linux, Windows, macOS and of a scanner, as they are seen on the wire.
#[test]
fn the_options_of_common_systems_are_read_in_any_order() {
    let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 1, 3, 3, 7];
    let all = Offered { mss: 1460, scale: 8, sack: 1, stamps: 1, stamp: 0x1234_5678 };
    assert_eq!(read(&linux), all);
    let windows = [2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2];
    assert_eq!(read(&windows), Offered { mss: 1460, scale: 9, sack: 1, ..none() });
    let macos =
        [2, 4, 5, 0xb4, 1, 3, 3, 6, 1, 1, 8, 10, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 4, 2, 0, 0];
    assert_eq!(read(&macos), Offered { scale: 7, ..all });
    assert_eq!(read(&[2, 4, 2, 0x18]), Offered { mss: 536, ..none() });
    assert_eq!(read(&[]), none());
    // No window scale is larger than 14.
    assert_eq!(read(&[3, 3, 200]), Offered { scale: 15, ..none() });
    assert_eq!(read(&[3, 3, 0]), Offered { scale: 1, ..none() });
}

#[test]
fn what_is_malformed_ends_the_options_and_nothing_is_read_beyond_them() {
    let mss = Offered { mss: 1460, ..none() };
    for end in [&[8, 1][..], &[8, 0], &[8, 11], &[8, 10, 1, 2], &[0, 3, 3, 7], &[3]] {
        let mut bytes = std::vec![2, 4, 5, 0xb4];
        bytes.extend(end);
        assert_eq!(read(&bytes), mss, "{end:?}");
    }
    // Another length than the option has, and options that nobody knows, are left out.
    assert_eq!(read(&[2, 5, 5, 0xb4, 1, 3, 4, 7, 7, 254, 6, 1, 2, 3, 4, 4, 2]).sack, 1);
    assert_eq!(read(&[2, 5, 5, 0xb4, 1]), none());
    assert_eq!(read(&[1; 40]), none());
    // Any bytes.
    let mut state = 7_u32;
    for _ in 0..100_000 {
        let bytes: Vec<u8> = (0..40)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 31 == 0 { (state >> 24) as u8 % 12 } else { (state >> 16) as u8 }
            })
            .collect();
        let len = state as usize % 41;
        let offered = read(&bytes[..len]);
        assert!(offered.mss <= 0xffff && offered.scale <= 15);
        let mut longer = [0xdd; OPTIONS_MAX];
        longer[..len].copy_from_slice(&bytes[..len]);
        let mut again = none();
        again.read(&longer, len as u32, |value| value);
        if offered.stamps == 1 {
            assert_eq!(again, offered, "what is behind the end does not matter");
        }
    }
}

fn brief(packet: &[u8]) -> Brief {
    let mut brief = Brief::default();
    parse::read(packet, Link::Ip, &mut brief).unwrap();
    assert!(brief.is_syn());
    brief
}

fn syn(header: &[u8]) -> Vec<u8> {
    let mut packet = header.to_vec();
    packet.extend([0x9c, 0x40, 0x00, 0x50, 0xff, 0xff, 0xff, 0xff]);
    packet.extend([0, 0, 0, 0, 0x50, SYN, 0xfa, 0xf0, 0, 0, 0, 0]);
    packet
}

fn v4() -> Vec<u8> {
    syn(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 7, 203, 0, 113, 1])
}

fn v6() -> Vec<u8> {
    let mut header = std::vec![0x60, 0, 0, 0, 0, 20, 6, 64];
    header.extend([0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    header.extend([0x20, 0x01, 0x0d, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    syn(&header)
}

fn bytes(words: &[u32], len: usize) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).take(len).collect()
}

/// Sum of the 16-bit words of `bytes`, folded (RFC 1071): 0xffff when a checksum among them is right.
fn sum(bytes: &[u8]) -> u32 {
    let sum =
        bytes.chunks(2).fold(0, |sum, pair| sum + u32::from(pair[0]) * 256 + u32::from(pair[1]));
    (sum >> 16) + (sum & 0xffff)
}

fn answer(packet: &[u8], offered: &Offered) -> (Vec<u8>, Vec<u8>) {
    // What another packet left in the memory.
    let mut draft = Draft { ip: [0xaaaa_aaaa; IP_WORDS], tcp: [0xaaaa_aaaa; TCP_WORDS] };
    let brief = brief(packet);
    let len = draft.answer(&brief, u32::MAX, 0xdead_beef, offered, &LIMITS(), 0x0102_03ff);
    let ip_len = if brief.is_v4() { 20 } else { 40 };
    (bytes(&draft.ip, ip_len), bytes(&draft.tcp, len as usize))
}

#[test]
fn the_answer_goes_back_with_right_checksums_whatever_is_offered() {
    for packet in [v4(), v6()] {
        for bits in 0..16_u32 {
            let offered = Offered {
                mss: (bits & 1) * 1400,
                scale: (bits >> 1 & 1) * 3,
                sack: bits >> 2 & 1,
                stamps: bits >> 3 & 1,
                stamp: 0xffff_fffe,
            };
            let (ip, tcp) = answer(&packet, &offered);
            let (addresses, total) = if ip.len() == 20 {
                assert_eq!(sum(&ip), 0xffff);
                assert_eq!(ip[..2], [0x45, 0]);
                assert_eq!((ip[6..8].to_vec(), &ip[8..10]), (std::vec![0x40, 0], &[64, 6][..]));
                assert_eq!((&ip[12..16], &ip[16..20]), (&packet[16..20], &packet[12..16]));
                (&ip[12..], usize::from(ip[2]) * 256 + usize::from(ip[3]) - 20)
            } else {
                assert_eq!((&ip[..4], &ip[6..8]), (&[0x60, 0, 0, 0][..], &[6, 64][..]));
                assert_eq!((&ip[8..24], &ip[24..40]), (&packet[24..40], &packet[8..24]));
                (&ip[8..], usize::from(ip[4]) * 256 + usize::from(ip[5]))
            };
            assert_eq!((total, usize::from(tcp[12] >> 4) * 4), (tcp.len(), tcp.len()));
            let mut pseudo = addresses.to_vec();
            pseudo.extend([0, 6, 0, tcp.len() as u8]);
            pseudo.extend(&tcp);
            assert_eq!(sum(&pseudo), 0xffff, "{offered:?}");
            assert_eq!(tcp[..4], [0x00, 0x50, 0x9c, 0x40], "ports");
            assert_eq!(tcp[4..8], 0xdead_beef_u32.to_be_bytes(), "the cookie");
            assert_eq!(tcp[8..12], [0; 4], "the number after the last one");
            assert_eq!(tcp[13..16], [SYN | ACK, 0, 0], "flags and a window of nothing");
            let mss = if ip.len() == 20 { 1460_u16 } else { 1440 };
            assert_eq!(tcp[20..24], [2, 4, (mss >> 8) as u8, mss as u8]);
        }
    }
}

/// As `synproxy_init_timestamp_cookie` and `synproxy_build_options` of the kernel have it.
#[test]
fn what_is_offered_is_kept_in_the_timestamp() {
    let offered = |scale, sack, stamps| Offered { mss: 1460, scale, sack, stamps, stamp: 77 };
    let options = |offered| answer(&v4(), &offered).1[20..].to_vec();
    assert_eq!(options(offered(8, 1, 0)), [2, 4, 5, 0xb4], "nothing is kept without one");
    let all = options(offered(8, 1, 1));
    assert_eq!(all[4..8], [4, 2, 8, 10]);
    assert_eq!(all[8..12], (0x0102_03c0_u32 | 7 | 16).to_be_bytes());
    assert_eq!(all[12..], [0, 0, 0, 77, 1, 3, 3, 7]);
    let less = options(offered(0, 0, 1));
    assert_eq!(less[4..8], [1, 1, 8, 10]);
    assert_eq!(less[8..12], (0x0102_03c0_u32 | 0xf).to_be_bytes());
    assert_eq!(less[12..], [0, 0, 0, 77, 1, 1, 1, 1]);
}

#[test]
fn the_question_has_what_a_cookie_is_made_of() {
    for packet in [v4(), v6()] {
        let mut draft = Draft { ip: [0xaaaa_aaaa; IP_WORDS], tcp: [0xaaaa_aaaa; TCP_WORDS] };
        for (mss, expected) in [(1200, [2, 4, 0x04, 0xb0]), (0, [1, 1, 1, 1])] {
            let offered = Offered { mss, ..none() };
            draft.question(&brief(&packet), 0x0102_0304, &offered);
            let (ip, tcp) = (bytes(&draft.ip, 40), bytes(&draft.tcp, 24));
            let addresses = if packet[0] >> 4 == 4 { 12..20 } else { 8..40 };
            assert_eq!(ip[addresses.clone()], packet[addresses]);
            assert_eq!(tcp[..4], [0x9c, 0x40, 0x00, 0x50]);
            assert_eq!(tcp[4..8], [1, 2, 3, 4]);
            assert_eq!((tcp[12], tcp[13], tcp.len()), (0x60, SYN, Draft::QUESTION as usize));
            assert_eq!(tcp[20..], expected);
        }
    }
}
