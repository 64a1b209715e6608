use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::Zeroable as _;
use sluice_abi::bulk::{
    BITS_SHIFT, BLOCK_BOUNDARIES, DENSE, INDEX_FIRST, LINES, SAMPLES_MAX, line,
};

use super::*;
use crate::config::Net;

/// An image in memory.
struct Built {
    chunks: BTreeMap<u32, Box<Chunk>>,
    header: Header,
}

impl Image for Built {
    fn chunk(&self, number: u32) -> Option<&Chunk> {
        self.chunks.get(&number).map(|chunk| &**chunk)
    }
}

impl Built {
    fn of(lists: &[(u32, &[Net])]) -> Self {
        let mut entries = Entries::of(lists);
        assert_eq!(entries.take_long(), []);
        entries.sort();
        let mut chunks = BTreeMap::new();
        let header = write(&entries, |number, chunk| {
            assert!(chunks.insert(number, Box::new(*chunk)).is_none(), "{number} twice");
            Ok::<(), Infallible>(())
        })
        .unwrap();
        // No gap, nothing beyond, and the size that was promised.
        assert_eq!(
            chunks.keys().copied().collect::<Vec<_>>(),
            (0..header.chunks).collect::<Vec<_>>()
        );
        assert_eq!(measure(&entries).unwrap(), chunks.len() as u64 * 65_536);
        assert_eq!(Header::of(&chunks[&0]), Some(header));
        Self { chunks, header }
    }

    fn find(&self, addr: IpAddr) -> Option<u32> {
        lookup(self, &addr.into())
    }

    /// The index word of the bucket of `addr`.
    fn word(&self, addr: &str) -> u32 {
        let addr = u32::from(addr.parse::<Ipv4Addr>().unwrap());
        self.chunks[&(INDEX_FIRST + (addr >> 30))].word(addr >> 16)
    }
}

fn net(text: &str) -> Net {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<Net> {
    texts.iter().copied().map(net).collect()
}

fn naive(lists: &[(u32, &[Net])], addr: IpAddr) -> Option<u32> {
    let host = Net::host(addr);
    let having = lists.iter().filter(|(_, nets)| nets.iter().any(|net| net.contains(&host)));
    having.map(|(list, _)| *list).min()
}

/// Looks up the ends of every entry and their neighbours, and what `more` adds.
fn agree(lists: &[(u32, &[Net])], more: impl IntoIterator<Item = IpAddr>) -> Built {
    let built = Built::of(lists);
    let check = |addr: IpAddr| {
        assert_eq!(built.find(addr), naive(lists, addr), "{addr} in {lists:?}");
    };
    for net in lists.iter().flat_map(|(_, nets)| *nets) {
        let first = net.bits();
        let last = first | u128::MAX.checked_shr(net.prefix().into()).unwrap_or(0);
        for bits in [first.wrapping_sub(1), first, first + 1, last - 1, last, last.wrapping_add(1)]
        {
            check(Ipv6Addr::from_bits(bits).to_canonical());
        }
        if !net.is_v4() {
            // Whole /64s count.
            for bits in [first.wrapping_sub(1 << 64), last.wrapping_add(1 << 64)] {
                check(Ipv6Addr::from_bits(bits).to_canonical());
            }
        }
    }
    more.into_iter().for_each(check);
    built
}

/// xorshift: the same in every run, on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

#[test]
fn an_empty_image_finds_nothing() {
    let built =
        agree(&[], ["0.0.0.0", "255.255.255.255", "::", "2001:db8::"].map(|a| a.parse().unwrap()));
    assert_eq!((built.header.buckets, built.header.blocks, built.header.chunks), (0, 0, 5));
}

#[test]
fn intervals_that_touch_nest_and_end_with_their_bucket_are_exact() {
    let (first, second, third) = (
        nets(&["10.0.0.0/8", "192.0.2.0/25", "198.51.100.7", "203.0.112.0/23", "1.2.255.255"]),
        nets(&[
            "10.1.0.0/16",
            "192.0.2.128/25",
            "198.51.100.8",
            "203.0.113.255",
            "1.3.0.0",
            "192.0.2.3",
        ]),
        nets(&[
            "9.255.255.255",
            "11.0.0.0",
            "198.51.100.6/31",
            "203.0.114.0/24",
            "255.255.255.255/32",
            "0.0.0.1",
        ]),
    );
    agree(&[(0, &first), (1, &second), (2, &third)], []);
    // The other way round: what is inside counts for its own list.
    let built = agree(&[(7, &first), (3, &second), (5, &third)], []);
    assert_eq!(built.find("10.1.2.3".parse().unwrap()), Some(3));
    assert_eq!(built.find("10.2.2.3".parse().unwrap()), Some(7));
    agree(&[(61, &nets(&["0.0.0.0/0"])), (60, &nets(&["128.0.0.0/1", "1.0.0.0/8"]))], []);
}

#[test]
fn every_odd_address_of_a_bucket_makes_it_dense_and_its_neighbours_not() {
    let odd: Vec<Net> = (0..65_536_u32)
        .step_by(2)
        .map(|low| Net::host(Ipv4Addr::from_bits(0xc612_0001 | low).into()))
        .collect();
    let beside = nets(&["198.17.255.255", "198.19.0.0/24"]);
    let built = Built::of(&[(4, &odd), (2, &beside)]);
    assert_eq!(built.word("198.18.0.0") >> BITS_SHIFT, DENSE);
    assert_ne!(built.word("198.19.0.0") >> BITS_SHIFT, DENSE);
    for low in 0..=0xffff_u32 {
        let addr = IpAddr::from(Ipv4Addr::from_bits(0xc612_0000 | low));
        assert_eq!(built.find(addr), (low % 2 == 1).then_some(4), "{addr}");
    }
    for net in beside {
        assert_eq!(built.find(net.addr().into()), Some(2));
    }
}

#[test]
fn buckets_are_sorted_up_to_the_largest_that_fits_a_chunk() {
    // 5 bytes an interval with a tag each; 4 when one tag does for all.
    for (lists, most) in [(1, 16_382), (2, 13_106)] {
        for (count, is_dense) in [(most, false), (most + 2, true)] {
            let mut held: Vec<Vec<Net>> = vec![Vec::new(); lists];
            for number in 0..count {
                let host = Net::host(Ipv4Addr::from_bits(0x0a05_0001 + number * 4).into());
                held[number as usize % lists].push(host);
            }
            let held: Vec<(u32, &[Net])> = (0..).zip(held.iter().map(Vec::as_slice)).collect();
            let built = Built::of(&held);
            assert_eq!(built.word("10.5.0.0") >> BITS_SHIFT == DENSE, is_dense, "{lists} {count}");
            for low in 0..=0xffff_u32 {
                let (number, is_first) = (low / 4, low % 4 == 1);
                let expected = (is_first && number < count).then_some(number % lists as u32);
                let addr = IpAddr::from(Ipv4Addr::from_bits(0x0a05_0000 | low));
                assert_eq!(built.find(addr), expected, "{addr}");
            }
        }
    }
}

#[test]
fn a_wide_prefix_costs_one_bucket() {
    let one = Built::of(&[(0, &nets(&["8.0.0.0/8"]))]);
    assert_eq!((one.header.buckets, one.header.chunks), (256, 6));
    assert_eq!(one.word("8.0.0.0"), one.word("8.255.0.0"));
    let all: Vec<Net> = (0..256_u32).map(|upper| net(&format!("{upper}.0.0.0/8"))).collect();
    assert_eq!(Built::of(&[(0, &all)]).header.chunks, 6);
}

/// Random addresses and short prefixes of so many buckets, `many` in each, of `lists` lists in turn.
fn spread(buckets: u32, many: u32, lists: usize) -> Vec<Vec<Net>> {
    let mut held = vec![Vec::new(); lists];
    let mut random = Random(0x11_5e5e);
    for number in 0..buckets * many {
        let bits = 0x2000_0000 + number % buckets * 65_536 + random.below(65_536) as u32;
        let prefix = if random.below(6) == 0 { 96 + 24 } else { 128 };
        let net = Net::new(IpAddr::from(Ipv4Addr::from_bits(bits)).into(), prefix);
        held[number as usize % 7 % lists].push(net);
    }
    held
}

#[test]
fn lines_of_every_shape_are_exact_from_two_addresses_to_thousands() {
    let mut random = Random(0x5eed);
    let mut shapes = std::collections::BTreeSet::new();
    for lists in [1, 3] {
        for (buckets, many) in [(30, 3), (30, 6), (20, 18), (10, 34), (8, 60), (3, 300), (1, 5000)]
        {
            let held = spread(buckets, many, lists);
            let lists: Vec<(u32, &[Net])> = (1..).zip(held.iter().map(Vec::as_slice)).collect();
            let probes = (0..1000).map(|_| {
                let bits = 0x2000_0000 + random.below(u64::from(buckets + 1) << 16) as u32;
                IpAddr::from(Ipv4Addr::from_bits(bits))
            });
            let built = agree(&lists, probes.collect::<Vec<_>>());
            for bucket in 0..buckets {
                let word = built.word(&format!("32.{bucket}.0.0"));
                if word & LINES != 0 {
                    let longs = word >> line::LONGS_SHIFT & 3;
                    shapes.insert((longs, word >> line::SPLIT_SHIFT & 15));
                }
            }
        }
    }
    let expected = [(0, 1), (1, 1), (2, 1), (2, 2), (2, 3), (2, 5)];
    assert!(expected.iter().all(|shape| shapes.contains(shape)), "{shapes:?}");
}

#[test]
fn a_list_takes_no_more_than_its_buckets_and_a_quarter_and_large_ones_take_less() {
    let chunks = |count: u32, spread: u32| {
        let mut entries = Entries::with_capacity(count as usize, 0);
        for number in 0..count {
            let bits = number.wrapping_mul(0x9e37_79b1) / spread;
            entries.push(&Net::host(Ipv4Addr::from_bits(bits).into()), 0);
        }
        entries.sort();
        measure(&entries).unwrap() / 65_536
    };
    // Four bytes an address, four or six each of the buckets, five chunks.
    assert!(chunks(1000, 1) <= 6);
    assert!(chunks(100_000, 1) <= 18, "{}", chunks(100_000, 1));
    assert!(chunks(1 << 20, 1) < 72, "{}", chunks(1 << 20, 1));
    assert!(chunks(1 << 20, 3) < 60, "{}", chunks(1 << 20, 3));
}

#[test]
fn ipv6_prefixes_are_exact_at_the_borders_of_blocks_and_chunks() {
    // Every second /64 of a /45: 4 * 65,536 / 28 intervals fill many blocks and three chunks.
    let many: Vec<Net> = (0..1_u32 << 18)
        .step_by(2)
        .map(|low| {
            Net::new(
                Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(low) << 64)
                    .to_canonical()
                    .into(),
                64,
            )
        })
        .collect();
    let built = Built::of(&[(9, &many)]);
    assert_eq!(built.header.blocks, (1_u32 << 17).div_ceil(BLOCK_BOUNDARIES / 2));
    for low in 0..1_u128 << 18 {
        for host in [0, 1, u64::MAX] {
            let addr = Ipv6Addr::from_bits(0x2001_0db8 << 96 | low << 64 | u128::from(host));
            assert_eq!(built.find(addr.into()), (low % 2 == 0).then_some(9), "{addr}");
        }
    }
    let few = nets(&[
        "2001:db8::/32",
        "2001:db8:8000::/33",
        "2000::/19",
        "fc00::/7",
        "2001:db9::/64",
        "ffff:ffff::/33",
    ]);
    agree(
        &[(3, &few[..2]), (1, &few[2..])],
        ["::", "::1", "0:0:0:1::"].map(|a| a.parse().unwrap()),
    );
}

#[test]
fn more_ipv6_than_an_image_can_hold_is_an_error() {
    let most = SAMPLES_MAX * BLOCK_BOUNDARIES / 2;
    let image = |count: u32| {
        let mut entries = Entries::with_capacity(0, count as usize);
        for number in 0..count {
            let bits = 0x2001 << 112 | u128::from(number) << 65;
            entries.push(&Net::new(Ipv6Addr::from_bits(bits).to_canonical().into(), 64), 0);
        }
        entries.sort();
        measure(&entries)
    };
    assert!(image(most).is_ok());
    assert!(matches!(image(most + 1), Err(ImageError::TooManyV6)));
}

#[test]
fn a_million_random_probes_agree_with_looking_at_every_entry() {
    let mut random = Random(0x5eed_2026);
    let mut hit = 0_u32;
    for round in 0..100 {
        let mut lists: Vec<Vec<Net>> = vec![Vec::new(); 1 + round % 5];
        for _ in 0..random.below(120) {
            let number = random.below(lists.len() as u64) as usize;
            // Close together, so that they touch and lie in each other.
            let low = random.below(1 << 20) as u32;
            let net = if random.below(3) == 0 {
                let bits = 0x2001_0db8 << 96 | u128::from(low) << 60;
                Net::new(
                    Ipv6Addr::from_bits(bits).to_canonical().into(),
                    44 + random.below(21) as u8,
                )
            } else {
                let addr = Ipv4Addr::from_bits(0xc610_0000 + low);
                Net::new(IpAddr::from(addr).into(), 96 + 12 + random.below(21) as u8)
            };
            lists[number].push(net);
        }
        let lists: Vec<(u32, &[Net])> = (0..).zip(lists.iter().map(Vec::as_slice)).collect();
        let probes: Vec<IpAddr> = (0..10_000)
            .map(|_| {
                let low = random.below(1 << 21) as u32;
                if random.below(3) == 0 {
                    let bits =
                        0x2001_0db8 << 96 | u128::from(low) << 59 | u128::from(random.below(2));
                    Ipv6Addr::from_bits(bits).to_canonical()
                } else {
                    Ipv4Addr::from_bits(0xc608_0000 + low).into()
                }
            })
            .collect();
        let built = agree(&lists, probes.iter().copied());
        hit += probes.iter().filter(|addr| built.find(**addr).is_some()).count() as u32;
    }
    assert!(hit > 100_000, "{hit} hits prove little");
}

#[test]
fn a_damaged_image_is_never_read_outside_of_its_chunks() {
    let few = nets(&["198.51.100.0/24", "198.51.100.7", "2001:db8::/32"]);
    let mut built = Built::of(&[(0, &few)]);
    let mut random = Random(7);
    for _ in 0..20_000 {
        let number = random.below(u64::from(built.header.chunks)) as u32;
        let at = random.below(65_536) as usize;
        let at = if random.below(2) == 0 { at % 64 } else { at };
        built.chunks.get_mut(&number).unwrap().bytes_mut()[at] = random.next() as u8;
        let low = random.next() as u32;
        // An answer, whatever it is.
        built.find(Ipv4Addr::from_bits(0xc633_0000 | low & 0xffff).into());
        built.find(Ipv4Addr::from_bits(low).into());
        built.find(Ipv6Addr::from_bits(u128::from(low) << 96).to_canonical());
    }
    let empty = Box::new(Chunk::zeroed());
    assert_eq!(Header::of(&empty), None);
}
