use super::*;

/// What a group means, tried place by place.
fn naive(contents: &[Content], text: &[u8]) -> bool {
    fn at(content: &Content, end: usize, text: &[u8], place: usize) -> bool {
        let stop = place + content.bytes.len();
        let Some(there) = text.get(place..place + content.bytes.len()) else { return false };
        let is_same = if content.is_nocase {
            there.eq_ignore_ascii_case(&content.bytes)
        } else {
            there == content.bytes
        };
        // Places count from 100, so that none of them is negative.
        let low = if content.is_relative() {
            (end + 100).saturating_add_signed(content.distance.unwrap_or(0) as isize)
        } else {
            100 + content.offset.unwrap_or(0).unsigned_abs() as usize
        };
        let span = if content.is_relative() { content.within } else { content.depth };
        is_same
            && place + 100 >= low
            && span.is_none_or(|span| stop + 100 <= low + span.unsigned_abs() as usize)
            && (!content.is_at_end || stop == text.len())
    }
    fn rest(contents: &[Content], end: usize, text: &[u8]) -> bool {
        let Some((content, tail)) = contents.split_first() else { return true };
        let places = || (0..=text.len()).filter(|place| at(content, end, text, *place));
        if content.is_negated {
            return places().next().is_none() && rest(tail, end, text);
        }
        places().any(|place| rest(tail, place + content.bytes.len(), text))
    }
    rest(contents, 0, text)
}

fn search(contents: &[Content], text: &[u8], work: &mut Work) -> Result<bool, Spent> {
    let mut bytes = Vec::new();
    let packed: Vec<Packed> = contents.iter().map(|c| Packed::new(c, &mut bytes)).collect();
    Search { bytes: &bytes, text }.all(&packed, work)
}

#[test]
fn searching_agrees_with_trying_every_place() {
    let mut state = 5_u64;
    let mut roll = |sides: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    let (mut hits, mut rounds) = (0, 0);
    for _ in 0..20_000 {
        let contents: Vec<Content> = (0..=roll(5))
            .map(|_| {
                let len = roll(3) + 1;
                let is_nocase = roll(4) == 0;
                let letters = if is_nocase { b"ab" } else { b"aB" };
                let mut content = Content {
                    bytes: (0..len).map(|_| letters[roll(2) as usize]).collect(),
                    is_negated: roll(4) == 0,
                    is_nocase,
                    is_at_end: roll(8) == 0,
                    ..Content::default()
                };
                let len = len as i32;
                let mut maybe = |sides, low: i32, high: i32| {
                    let value = low + roll(u64::from(high.abs_diff(low))) as i32;
                    (roll(sides) == 0).then_some(value)
                };
                if maybe(2, 0, 1).is_some() {
                    content.distance = maybe(2, -6, 6);
                    content.within = maybe(2, len, len + 6);
                } else {
                    content.offset = maybe(4, 0, 8);
                    content.depth = maybe(4, len, len + 8);
                }
                content
            })
            .collect();
        let text: Vec<u8> = (0..roll(14)).map(|_| b"aAbB"[roll(4) as usize]).collect();
        let expected = naive(&contents, &text);
        let found = search(&contents, &text, &mut Work(u32::MAX)).unwrap();
        assert_eq!(found, expected, "{contents:?} in {:?}", String::from_utf8_lossy(&text));
        hits += u32::from(expected);
        rounds += 1;
    }
    assert!(hits > rounds / 10 && hits < rounds * 9 / 10, "{hits} of {rounds}");
}

#[test]
fn a_text_made_to_be_slow_ends_with_the_work() {
    let a = |within| Content { bytes: b"a".to_vec(), within, ..Content::default() };
    let mut contents = vec![a(None)];
    contents.extend((0..30).map(|_| a(Some(40))));
    contents.push(Content { bytes: b"b".to_vec(), within: Some(1), ..Content::default() });
    let text = vec![b'a'; 1500];
    let mut work = Work(100_000);
    assert_eq!(search(&contents, &text, &mut work), Err(Spent));
    assert_eq!(work.0, 0);
}
