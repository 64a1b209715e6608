use super::*;

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn bytes(&mut self, most: u64, letters: &[u8]) -> Vec<u8> {
        let len = self.roll(most) + 1;
        (0..len).map(|_| letters[self.roll(letters.len() as u64) as usize]).collect()
    }
}

fn occurs(text: &[u8], pattern: &[u8]) -> bool {
    text.windows(pattern.len()).any(|window| window.eq_ignore_ascii_case(pattern))
}

fn sorted(patterns: &[Vec<u8>]) -> Vec<&[u8]> {
    let mut patterns: Vec<&[u8]> = patterns.iter().map(Vec::as_slice).collect();
    patterns.sort_unstable();
    patterns.dedup();
    patterns
}

fn found(automaton: &Automaton, text: &[u8], patterns: usize) -> Vec<bool> {
    let mut hits = vec![false; patterns];
    automaton.scan(text, |pattern| !std::mem::replace(&mut hits[pattern as usize], true));
    hits
}

#[test]
fn the_automaton_agrees_with_looking_for_each_pattern() {
    let mut dice = Dice(1);
    let alphabets: [(&[u8], &[u8]); 4] = [
        (b"ab", b"aAbB"),
        (b"abc", b"abcABCx"),
        (b"abcdefghij\x00\xff", b"abcdefghijABCDEFGHIJ\x00\xff"),
        (b"a", b"aA"),
    ];
    for round in 0..1500 {
        let (letters, text_letters) = alphabets[round % alphabets.len()];
        let (count, longest) = (dice.roll(30) + 1, dice.roll(20) + 1);
        let patterns: Vec<_> = (0..count).map(|_| dice.bytes(longest, letters)).collect();
        let patterns = sorted(&patterns);
        // Everything kept, almost nothing kept, and what is used.
        for kept_min in [KEPT_MAX, 1, KEPT_MIN] {
            let plan = Plan::new(&patterns, kept_min);
            let automaton = Automaton::new(&plan);
            assert_eq!(automaton.memory(), plan.memory());
            for _ in 0..4 {
                let text = dice.bytes(80, text_letters);
                let hits = found(&automaton, &text, patterns.len());
                for ((hit, pattern), kept) in hits.iter().zip(&patterns).zip(&plan.kept) {
                    let kept = &pattern[..usize::from(*kept)];
                    assert_eq!(*hit, occurs(&text, kept), "{pattern:?} {kept:?} in {text:?}");
                    assert!(*hit || !occurs(&text, pattern));
                    assert!(kept_min < KEPT_MAX || kept.len() == pattern.len());
                }
            }
        }
    }
}

#[test]
fn a_pattern_is_cut_where_it_differs_from_every_other() {
    let plan = |patterns: &[&[u8]]| Plan::new(patterns, 4).kept;
    assert_eq!(plan(&[b"abcdefgh"]), [4]);
    assert_eq!(plan(&[b"ab", b"abcdefgh"]), [2, 4]);
    assert_eq!(plan(&[b"abcdefgh", b"abcdefxy"]), [7, 7]);
    assert_eq!(plan(&[b"abcdefgh", b"abcdefghi", b"b"]), [8, 9, 1]);
    let long = [b'a'; 100];
    assert_eq!(plan(&[&long]), [4]);
}

#[test]
fn every_byte_has_its_place() {
    let patterns: Vec<Vec<u8>> =
        (0..=255_u8).map(|byte| vec![byte.to_ascii_lowercase(), byte]).collect();
    let patterns: Vec<Vec<u8>> =
        patterns.into_iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
    let patterns = sorted(&patterns);
    let automaton = Automaton::new(&Plan::new(&patterns, KEPT_MIN));
    let text: Vec<u8> = (0..=255).flat_map(|byte| [byte, byte]).collect();
    assert!(found(&automaton, &text, patterns.len()).into_iter().all(|hit| hit));
    assert!(!found(&automaton, &text[..511], patterns.len())[patterns.len() - 1]);
}

#[test]
fn nothing_is_found_where_there_are_no_patterns() {
    let automaton = Automaton::new(&Plan::new(&[], KEPT_MIN));
    automaton.scan(b"text", |_| panic!("nothing to find"));
}
