use std::collections::HashMap;

use super::shares::Shares;
use super::*;

const SERVER: [u32; 2] = [0xc000_0201, 0xc000_0202];
const ASKER: (Addr, Option<Mac>) = (Addr::v4(0xc0a8_4d0a), Some(Mac([2, 0, 0, 0, 0, 1])));
const OTHER: (Addr, Option<Mac>) = (Addr::v4(0xc0a8_4d0b), Some(Mac([2, 0, 0, 0, 0, 2])));

fn server(n: usize) -> Addr {
    Addr::v4(SERVER[n])
}

fn v6(last: u32) -> Addr {
    Addr::v6([0x2001_0db8, 0, 0, last])
}

fn learn(names: &mut Names, now_ms: u64, name: &str) {
    names.learn(now_ms, ASKER, server(0), name, Source::Dns);
}

fn found(names: &Names, now_ms: u64) -> Option<&str> {
    names.find(now_ms, ASKER, server(0)).map(|(name, _)| name)
}

#[test]
fn the_first_name_counts_while_it_is_fresh_then_the_last() {
    let mut names = Names::new(64);
    learn(&mut names, 0, "a.test");
    learn(&mut names, 5_000, "b.test");
    assert_eq!(found(&names, 10_000), Some("a.test"));
    assert_eq!(found(&names, 10_001), Some("b.test"), "only that one is fresh");
    assert_eq!(found(&names, 300_000), Some("b.test"), "none is fresh: the last");
    // At the same time, the order decides.
    names.learn(7, ASKER, server(1), "x.test", Source::Dns);
    names.learn(7, ASKER, server(1), "y.test", Source::Dns);
    assert_eq!(names.find(7, ASKER, server(1)), Some(("x.test", Source::Dns)));
    assert_eq!(names.find(20_000, ASKER, server(1)), Some(("y.test", Source::Dns)));
    // Told again, it is fresh again, behind those that are so already.
    learn(&mut names, 301_000, "b.test");
    learn(&mut names, 302_000, "a.test");
    assert_eq!(found(&names, 303_000), Some("b.test"));
    assert_eq!(found(&names, 302_000 + KEEP_MS), Some("a.test"));
    assert_eq!(found(&names, 302_001 + KEEP_MS), None);
    assert_eq!(names.len(), 2);
    names.expire(302_000 + KEEP_MS);
    assert_eq!(names.len(), 1);
    names.expire(302_001 + KEEP_MS);
    assert!(names.is_empty());
}

#[test]
fn a_fifth_name_takes_the_place_of_one_that_is_not_fresh_and_of_no_other() {
    let mut names = Names::new(64);
    for (at, name) in ["a.test", "b.test", "c.test", "d.test", "e.test"].into_iter().enumerate() {
        learn(&mut names, at as u64 * 1000, name);
    }
    assert_eq!(found(&names, 60_000), Some("d.test"), "all four were fresh: no place for e.test");
    learn(&mut names, 60_000, "f.test");
    assert_eq!(found(&names, 61_000), Some("f.test"));
}

#[test]
fn a_name_of_an_address_counts_less_than_an_address_of_a_name() {
    let mut names = Names::new(64);
    for (at, ptr) in ["p.test", "q.test", "r.test", "s.test"].into_iter().enumerate() {
        names.learn(at as u64, ASKER, server(0), ptr, Source::Ptr);
    }
    assert_eq!(names.find(9, ASKER, server(0)), Some(("p.test", Source::Ptr)));
    learn(&mut names, 5_000, "a.test");
    assert_eq!(names.find(6_000, ASKER, server(0)), Some(("a.test", Source::Dns)));
    assert_eq!(
        names.find(400_000, ASKER, server(0)),
        Some(("a.test", Source::Dns)),
        "also when old"
    );
    for name in ["b.test", "c.test", "d.test"] {
        learn(&mut names, 6_000, name);
    }
    names.learn(300_000, ASKER, server(0), "p.test", Source::Ptr);
    assert_eq!(names.find(300_000, ASKER, server(0)).unwrap().1, Source::Dns, "it displaces none");
    let ranks =
        [Source::Tls, Source::Quic, Source::Http, Source::Dns, Source::Ptr].map(Source::rank);
    assert_eq!(ranks, [100, 100, 100, 80, 20]);
}

#[test]
fn nobody_gets_a_name_from_an_answer_to_another() {
    let mut names = Names::new(64);
    learn(&mut names, 0, "a.test");
    assert_eq!(names.find(0, OTHER, server(0)), None);
    assert_eq!(names.find(0, ASKER, server(1)), None);
    // The hardware address alone makes nobody the same in IPv4: a router stands before a household.
    assert_eq!(names.find(0, (OTHER.0, ASKER.1), server(0)), None);
    // What is asked in IPv4, or from another address, is the same device's in IPv6.
    names.learn(0, ASKER, v6(1), "six.test", Source::Dns);
    names.learn(0, (v6(100), OTHER.1), v6(1), "other.test", Source::Dns);
    assert_eq!(names.find(0, (v6(7), ASKER.1), v6(1)), Some(("six.test", Source::Dns)));
    assert_eq!(names.find(0, (v6(8), OTHER.1), v6(1)), Some(("other.test", Source::Dns)));
    assert_eq!(names.find(0, (v6(100), None), v6(1)), None);
    // Where links have no hardware addresses, the address is all there is.
    names.learn(0, (v6(100), None), v6(1), "bare.test", Source::Dns);
    assert_eq!(names.find(0, (v6(100), None), v6(1)), Some(("bare.test", Source::Dns)));
}

#[test]
fn one_device_takes_a_quarter_and_displaces_only_itself() {
    let mut names = Names::new(64);
    names.learn(0, OTHER, server(0), "kept.test", Source::Dns);
    for n in 0..1000 {
        names.learn(n.into(), ASKER, Addr::v4(n), "many.test", Source::Dns);
    }
    assert_eq!(names.len(), 17);
    assert_eq!(names.find(999, OTHER, server(0)), Some(("kept.test", Source::Dns)));
    assert_eq!(names.find(999, ASKER, Addr::v4(984)), Some(("many.test", Source::Dns)));
    assert_eq!(names.find(999, ASKER, Addr::v4(983)), None);
    let mut none = Names::new(0);
    learn(&mut none, 0, "a.test");
    assert!(none.is_empty());
}

/// The cache answers like a list of everything that was ever told, walked from its start.
#[test]
fn the_cache_agrees_with_a_list_of_all_that_was_told() {
    type Event = (u64, (Addr, Option<Mac>), Addr, &'static str, Source);
    #[derive(Clone)]
    struct One(&'static str, Source, u64, u64);
    fn naive(
        events: &[Event],
        now: u64,
        who: Addr,
        address: Addr,
    ) -> Option<(&'static str, Source)> {
        let mut slots: Vec<One> = Vec::new();
        for &(at, _, _, name, source) in
            events.iter().filter(|event| event.1.0 == who && event.2 == address)
        {
            slots.retain(|one| at - one.3 <= KEEP_MS);
            if let Some(one) = slots.iter_mut().find(|one| (one.0, one.1) == (name, source)) {
                if at - one.3 > FRESH_MS {
                    one.2 = at;
                }
                one.3 = at;
                continue;
            }
            if slots.len() == NAMES_MAX {
                let weaker = |one: &One| {
                    one.1.rank() < source.rank() || one.1 == source && at - one.3 > FRESH_MS
                };
                let mut able: Vec<usize> =
                    (0..slots.len()).filter(|n| weaker(&slots[*n])).collect();
                able.sort_by_key(|n| (slots[*n].1.rank(), slots[*n].3));
                match able.first() {
                    Some(place) => drop(slots.remove(*place)),
                    None => continue,
                }
            }
            slots.push(One(name, source, at, at));
        }
        slots.retain(|one| now - one.3 <= KEEP_MS);
        let best = slots.iter().map(|one| one.1.rank()).max()?;
        slots.retain(|one| one.1.rank() == best);
        let fresh = slots.iter().filter(|one| now - one.3 <= FRESH_MS);
        // Of several that came at once, the list's last: whichever, it is one of them.
        let chosen = match fresh.min_by_key(|one| one.2) {
            Some(one) => one,
            None => slots.iter().max_by_key(|one| one.3)?,
        };
        Some((chosen.0, chosen.1))
    }
    const WORDS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
    let mut state = 7_u64;
    let mut draw = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) % n
    };
    for _ in 0..40 {
        let (mut names, mut events, mut now) = (Names::new(256), Vec::<Event>::new(), 0);
        for _ in 0..120 {
            // Never twice at one time, so that the order is that of times.
            now += 1 + [draw(3_000), draw(20_000), draw(400_000)][draw(3) as usize];
            let who = [ASKER, OTHER][draw(2) as usize];
            let address = server(draw(2) as usize);
            if draw(3) > 0 {
                let word = WORDS[draw(7) as usize];
                let source = if draw(4) == 0 { Source::Ptr } else { Source::Dns };
                names.learn(now, who, address, word, source);
                events.push((now, who, address, word, source));
            } else {
                names.expire(now);
            }
            for who in [ASKER, OTHER] {
                for address in SERVER.map(Addr::v4) {
                    let expected = naive(&events, now, who.0, address);
                    assert_eq!(names.find(now, who, address), expected, "at {now}: {events:?}");
                }
            }
        }
    }
}

#[test]
fn an_answer_needs_its_question_and_there_is_one() {
    let asked = Asked {
        client: (ASKER.0, 40_000),
        server: (server(0), 53),
        transport: 17,
        id: 7,
        name: "a.test",
        kind: 1,
    };
    let mut questions = Questions::default();
    questions.ask(1_000, &asked, ASKER.1);
    for (what, wrong) in [
        ("a client", Asked { client: (OTHER.0, 40_000), ..asked }),
        ("a port", Asked { client: (ASKER.0, 40_001), ..asked }),
        ("a server", Asked { server: (server(1), 53), ..asked }),
        ("a port of the server", Asked { server: (server(0), 5353), ..asked }),
        ("a transport", Asked { transport: 6, ..asked }),
        ("a number", Asked { id: 8, ..asked }),
        ("a name", Asked { name: "b.test", ..asked }),
        ("a type", Asked { kind: 28, ..asked }),
    ] {
        assert_eq!(questions.answer(1_010, &wrong), None, "another {what}");
    }
    assert_eq!(questions.answer(1_020, &asked), Some(Answered { mac: ASKER.1, ms: 20 }));
    assert_eq!(questions.answer(1_021, &asked), None, "the second answer");
    questions.ask(2_000, &asked, None);
    assert_eq!(questions.answer(2_001 + PENDING_MS, &asked), None, "too late");
    questions.ask(3_000, &asked, None);
    assert_eq!((questions.expire(3_000 + PENDING_MS), questions.len()), (0, 1));
    assert_eq!((questions.expire(3_001 + PENDING_MS), questions.len()), (1, 0));
    for port in 0..5_000 {
        questions.ask(4_000, &Asked { client: (ASKER.0, port), ..asked }, None);
    }
    assert_eq!(questions.len(), PENDING_MAX / 4, "of one device");
    assert!(!questions.is_empty());
}

#[test]
fn shares_agree_with_a_list() {
    let mut shares = Shares::<u8, u16, u32>::new(32);
    let mut model: Vec<(u8, u16)> = Vec::new();
    let mut values = HashMap::new();
    let mut state = 3_u64;
    for step in 0..50_000_u32 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        let (owner, key) = ((state >> 62) as u8, (state >> 40) as u16 % 12);
        if (state >> 33).is_multiple_of(8) {
            let place = model.iter().position(|one| *one == (owner, key));
            place.map(|place| model.remove(place));
            assert_eq!(shares.remove(owner, key).is_some(), place.is_some());
            continue;
        }
        if let Some(place) = model.iter().position(|one| *one == (owner, key)) {
            model.remove(place);
        } else {
            values.insert((owner, key), step);
            if model.iter().filter(|one| one.0 == owner).count() == 8 {
                let place = model.iter().position(|one| one.0 == owner).unwrap();
                model.remove(place);
            } else if model.len() == 32 {
                model.remove(0);
            }
        }
        model.push((owner, key));
        shares.touch(owner, key, || step);
        assert_eq!(shares.len(), model.len());
        for (owner, key) in (0..4).flat_map(|owner| (0..12).map(move |key| (owner, key))) {
            let expected = model.contains(&(owner, key)).then(|| values[&(owner, key)]);
            assert_eq!(shares.get(owner, key).copied(), expected);
        }
    }
}
