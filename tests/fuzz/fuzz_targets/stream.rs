//! Reassembly agrees with a model that keeps each byte by itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::inspect::stream::{Caps, Stream};

const BYTES: usize = 300;

fuzz_target!(|data: &[u8]| {
    let Some((&[a, b, c, d], mut rest)) = data.split_first_chunk() else { return };
    let syn = u32::from_be_bytes([a, b, c, d]);
    let caps = Caps { bytes: BYTES as u32, pieces: 1000 };
    let mut stream = Stream::default();
    stream.anchor(syn);
    let mut model = [None; BYTES];
    let mut conflict = false;
    // Two bytes of offset and one of length, then the segment.
    while let Some((&[high, low, len], tail)) = rest.split_first_chunk() {
        let (segment, tail) = tail.split_at(tail.len().min(usize::from(len)));
        rest = tail;
        let offset = i64::from(u16::from_be_bytes([high, low]) % 400) - 50;
        let seq = syn.wrapping_add(1).wrapping_add(offset as u32);
        let mut fresh = 0;
        for (index, byte) in segment.iter().enumerate() {
            let Ok(at) = usize::try_from(offset + index as i64) else { continue };
            match model.get_mut(at) {
                Some(Some(there)) => conflict |= there != byte,
                Some(empty) => {
                    *empty = Some(*byte);
                    fresh += 1;
                }
                None => {}
            }
        }
        assert_eq!(stream.push(seq, segment, caps).fresh, fresh);
        let head: Vec<u8> = model.iter().map_while(|byte| *byte).collect();
        assert_eq!(stream.head(), head);
        assert_eq!(stream.has_conflict(), conflict);
    }
});
