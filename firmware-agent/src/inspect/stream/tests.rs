use super::*;

const CAPS: Caps = Caps { bytes: 600, pieces: 1000 };

/// xorshift: the same segments in every run, on every machine.
struct Random(u32);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % end
    }
}

fn anchored(syn_seq: u32) -> Stream {
    let mut stream = Stream::default();
    stream.anchor(syn_seq);
    stream
}

/// What a stream should be: every byte by itself, the first copy wins.
struct Model {
    bytes: Vec<Option<u8>>,
    has_conflict: bool,
}

impl Model {
    /// Takes bytes that start at `offset`, less 50.
    fn push(&mut self, offset: usize, data: &[u8]) -> usize {
        let mut fresh = 0;
        for (index, &byte) in data.iter().enumerate() {
            let Some(at) = (offset + index).checked_sub(50) else { continue };
            match self.bytes.get_mut(at) {
                Some(Some(there)) => self.has_conflict |= *there != byte,
                Some(empty) => {
                    *empty = Some(byte);
                    fresh += 1;
                }
                None => {}
            }
        }
        fresh
    }

    fn head(&self) -> Vec<u8> {
        self.bytes.iter().map_while(|byte| *byte).collect()
    }
}

#[test]
fn agrees_with_a_model_that_keeps_each_byte_by_itself() {
    let mut random = Random(0x5eed_0001);
    let text: Vec<u8> = (0..800).map(|n: u32| (n * 7 % 251) as u8).collect();
    for round in 0..4000_u32 {
        // Bases around the wrap of sequence numbers and around the change of sign.
        let syn = [u32::MAX - 300, 0x7fff_ff00, 5, u32::MAX][round as usize % 4];
        let mut stream = anchored(syn);
        let mut model = Model { bytes: vec![None; CAPS.bytes as usize], has_conflict: false };
        for _ in 0..random.below(60) {
            let offset = random.below(750);
            let start = offset.saturating_sub(50);
            let most = [3, 40, 200][random.below(3)];
            let len = random.below(most).min(text.len() - start);
            let mut data = text[start..start + len].to_vec();
            if random.below(40) == 0 && !data.is_empty() {
                let at = random.below(data.len());
                data[at] ^= 0x80;
            }
            let seq = syn.wrapping_add(1).wrapping_sub(50).wrapping_add(offset as u32);
            let pushed = stream.push(seq, &data, CAPS);
            assert_eq!(pushed.fresh as usize, model.push(offset, &data), "round {round}");
            assert_eq!(stream.head(), model.head(), "round {round}");
            assert_eq!(stream.has_conflict(), model.has_conflict, "round {round}");
            let waits = model.bytes[model.head().len()..].iter().any(Option::is_some);
            assert_eq!(stream.has_gap(), waits, "round {round}");
        }
    }
}

#[test]
fn without_a_syn_the_earliest_segment_is_the_start() {
    let mut random = Random(0x5eed_0002);
    let text: Vec<u8> = (0..400).map(|n: u32| (n % 253) as u8).collect();
    for round in 0..2000_u32 {
        let base = [u32::MAX - 100, 0x7fff_ff80, 5][round as usize % 3];
        let mut cuts: Vec<usize> = (0..random.below(12)).map(|_| random.below(400)).collect();
        cuts.extend([0, 400]);
        cuts.sort_unstable();
        let mut parts: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        let mut stream = Stream::default();
        while !parts.is_empty() {
            let part = parts.swap_remove(random.below(parts.len()));
            let seq = base.wrapping_add(part.start as u32);
            let _ = stream.push(seq, &text[part], CAPS);
        }
        assert_eq!(stream.head(), text, "round {round}");
        assert!(!stream.has_conflict() && !stream.has_gap(), "round {round}");
    }
}

#[test]
fn a_split_at_every_byte_in_both_orders_gives_the_text() {
    let text: Vec<u8> = (0..300).map(|n: u32| n as u8).collect();
    for at in 0..=text.len() {
        for is_swapped in [false, true] {
            let mut stream = anchored(u32::MAX - 150);
            let mut parts = [(0, &text[..at]), (at, &text[at..])];
            if is_swapped {
                parts.reverse();
            }
            for (offset, part) in parts {
                let seq = (u32::MAX - 149).wrapping_add(offset as u32);
                let pushed = stream.push(seq, part, CAPS);
                assert_eq!(pushed.fresh as usize, part.len());
            }
            assert_eq!(stream.head(), text, "split at {at}, swapped: {is_swapped}");
        }
    }
}

#[test]
fn single_bytes_from_the_back_wait_in_one_piece() {
    let caps = Caps { bytes: 600, pieces: 1 };
    let mut stream = anchored(0);
    for offset in (0..600_u32).rev() {
        let pushed = stream.push(1 + offset, &[offset as u8], caps);
        assert_eq!((pushed.fresh, pushed.fault), (1, None), "{offset}");
    }
    let text: Vec<u8> = (0..600_u32).map(|n| n as u8).collect();
    assert_eq!(stream.head(), text);
}

#[test]
fn what_lies_behind_the_caps_is_refused_by_name() {
    let caps = Caps { bytes: 10, pieces: 2 };
    let mut stream = anchored(0);
    assert_eq!(stream.push(11, b"x", caps).fault, Some(Fault::Beyond));
    let pushed = stream.push(9, b"abc", caps);
    assert_eq!((pushed.fresh, pushed.fault), (2, Some(Fault::Beyond)), "what fits is kept");
    assert_eq!(stream.push(3, b"x", caps).fault, None);
    assert_eq!(stream.push(6, b"x", caps).fault, Some(Fault::Pieces));
    assert_eq!(stream.push(4, b"y", caps).fault, None, "what touches needs no piece");
    assert!(stream.head().is_empty() && stream.has_gap());
    assert_eq!(stream.push(1, b"ab", caps).fresh, 2);
    assert_eq!(stream.head(), b"abxy");
    // Far ahead, as after a forged sequence number: neither kept nor room made for it.
    assert_eq!(stream.push(0x7000_0000, b"x", caps).fault, Some(Fault::Beyond));
    assert!(stream.memory() < 1024, "{}", stream.memory());
}

#[test]
fn memory_is_in_proportion_to_what_came() {
    let caps = Caps { bytes: 16 << 10, pieces: 32 };
    let mut stream = anchored(0);
    for n in 0..100 {
        let _ = stream.push(2 + n * 160, b"x", caps);
    }
    assert!(stream.memory() < 4096, "{}", stream.memory());
    let _ = stream.push(1, &vec![0; 20_000], caps);
    assert_eq!(stream.head().len(), 16 << 10);
    assert!(stream.memory() <= 3 * (16 << 10), "{}", stream.memory());
    stream.release();
    assert_eq!(stream.memory(), 0);
}

#[test]
fn a_syn_that_repeats_itself_is_the_same_connection() {
    let stream = anchored(1000);
    assert!(!stream.contradicts(1000));
    assert!(stream.contradicts(1001));
    let mut midway = Stream::default();
    assert!(!midway.contradicts(7), "nothing is known yet");
    let _ = midway.push(1001, b"x", CAPS);
    assert!(midway.contradicts(1000), "a SYN after data is another connection");
}
