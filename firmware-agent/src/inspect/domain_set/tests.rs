use std::collections::HashMap;

use super::*;

const KEY: Key = Key::new([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
const MIB: u64 = 1 << 20;
/// A million, or fewer where an emulator runs the test.
const NAMES: u32 = if cfg!(target_pointer_width = "64") { 1_000_000 } else { 50_000 };

pub(in crate::inspect) fn build(names: &[(&str, u32)], room: Room) -> DomainSet {
    let mut counting = Counting::new(KEY, room);
    for (name, _) in names {
        counting.count(name);
    }
    let mut builder = counting.done();
    for (name, list) in names {
        builder.add(name, *list);
    }
    builder.finish()
}

fn set(names: &[(&str, u32)]) -> DomainSet {
    let lists = names.iter().map(|(_, list)| list + 1).max().unwrap_or(1);
    build(names, Room::new(names.len() as u32, lists, 0, 64 * MIB).unwrap())
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    /// A name of two to four labels; of some lengths there are few, so names lie below each other.
    fn name(&mut self) -> String {
        let mut name = String::new();
        for label in 0..2 + self.next() % 3 {
            if label > 0 {
                name.push('.');
            }
            for _ in 0..=self.next() % 8 {
                name.push(char::from(b'a' + (self.next() % 26) as u8));
            }
        }
        name
    }
}

/// R173: a list that observes is told where none blocks, however particular its entry is.
#[test]
fn a_list_that_blocks_comes_before_longer_names_of_one_that_observes() {
    let names = [("ads.test", 0), ("a.ads.test", 1), ("b.test", 1), ("b.test", 0), ("c.test", 1)];
    let set = set(&names).observing_from(1);
    for (name, list, observes, domain) in [
        ("x.a.ads.test", 0, false, "ads.test"),
        ("b.test", 0, false, "b.test"),
        ("x.c.test", 1, true, "c.test"),
    ] {
        assert_eq!(set.lookup(name), Some(Found { list, observes, domain }), "{name}");
    }
    assert_eq!(set.lookup("test"), None);
}

/// R72: every name of the list and what is below it, on borders of labels, and nothing else.
#[test]
fn a_listed_domain_covers_itself_and_what_is_below_it_and_nothing_else() {
    let set = set(&[("example.com", 0), ("ads.example.com", 1), ("Shop.Example", 2)]);
    for (name, list, domain) in [
        ("example.com", 0, "example.com"),
        ("www.example.com", 0, "example.com"),
        ("badads.example.com", 0, "example.com"),
        ("ads.example.com", 1, "ads.example.com"),
        ("a.b.ads.example.com", 1, "ads.example.com"),
        ("shop.example", 2, "shop.example"),
        ("EXAMPLE.com", 0, "EXAMPLE.com"),
    ] {
        assert_eq!(set.lookup(name), Some(Found { list, observes: false, domain }), "{name}");
    }
    for name in [
        "notexample.com",
        "example.com.evil.net",
        "com",
        "example.co",
        "xample.com",
        "example",
        "",
        ".",
        "..",
        ".com",
        "example.com.",
    ] {
        assert_eq!(set.lookup(name), None, "{name}");
    }
    assert_eq!(DomainSet::default().lookup("example.com"), None);
}

#[test]
fn of_lists_with_the_same_name_the_first_counts_whatever_the_order() {
    let names = [("a.test", 9), ("b.test", 3), ("a.test", 2), ("b.test", 3), ("a.test", 15)];
    let set = set(&names);
    assert_eq!(set.len(), 2);
    assert_eq!(set.lookup("x.a.test").map(|found| found.list), Some(2));
    assert_eq!(set.lookup("b.test").map(|found| found.list), Some(3));
}

/// R72, R182: a million names, against the names themselves: nothing is missed, and none of a million
/// others is blocked.
#[test]
fn a_million_names_agree_with_the_names_themselves() {
    let mut random = Random(1);
    let mut names = HashMap::new();
    while names.len() < NAMES as usize {
        let list = random.next() as u32 % 3;
        names.entry(random.name()).or_insert(list);
    }
    let listed: Vec<(&str, u32)> =
        names.iter().map(|(name, list)| (name.as_str(), *list)).collect();
    let room = Room::new(NAMES, 3, 0, 11 * MIB).unwrap();
    let set = build(&listed, room);
    assert_eq!(set.len(), names.len());
    assert_eq!(set.bytes(), room.set_bytes());
    println!("{} names take {} bytes", set.len(), set.bytes());

    let model = |name: &str| {
        let mut suffix = name;
        loop {
            if let Some(list) = names.get(suffix) {
                return Some((*list, suffix.len()));
            }
            suffix = suffix.split_once('.')?.1;
        }
    };
    let found = |name: &str| set.lookup(name).map(|found| (found.list, found.domain.len()));
    for (name, list) in &listed {
        assert_eq!(found(name), Some((*list, name.len())), "{name}");
    }
    let (mut blocked, mut passed) = (0, 0);
    while passed < NAMES {
        let name = random.name();
        let expected = model(&name);
        assert_eq!(found(&name), expected, "{name}");
        match expected {
            Some(_) => blocked += 1,
            None => passed += 1,
        }
    }
    assert!(blocked > 100, "{blocked} names below listed ones");
}

/// R182: what fits is built in as few parts as fit, what does not is refused with its arithmetic.
#[test]
fn a_set_that_does_not_fit_is_refused_with_the_arithmetic() {
    let million = |in_force, cap| Room::new(1_000_000, 1, in_force, cap);
    let room = million(0, 64 * MIB).unwrap();
    let size = room.set_bytes();
    assert!(size < 5_900_000 && room.sort_bytes() < 800_000, "{room:?}");
    // An eighth of 128 MiB, less what the kernel keeps, is enough to replace one by another.
    assert!(million(size, 13_000 << 10).is_ok());
    let least = 2 * size + room.sort_bytes();
    assert_eq!(million(size, least), Ok(room));
    assert!(million(size, least - 1).is_err());
    assert_eq!(
        million(size, 8 << 20).unwrap_err().to_string(),
        "the domain lists need 5,686 KiB for 1,000,000 names and 745 KiB to sort them beside \
         5,686 KiB in force, domain_memory_kib allows 8,192 KiB"
    );
    assert!(Room::new(0, 0, 100 * MIB, 0).is_ok(), "none needs nothing");
    assert!(Room::new(u32::MAX, 16, 0, 1 << 30).is_err());
}

#[test]
fn names_that_come_twice_take_no_room_in_the_end() {
    let names: Vec<String> = (0..2000).map(|n| format!("n{n}.test")).collect();
    let listed: Vec<(&str, u32)> =
        (0..20).flat_map(|round| names.iter().map(move |n| (n.as_str(), 1 + round % 2))).collect();
    let room = Room::new(listed.len() as u32, 3, 0, MIB).unwrap();
    let set = build(&listed, room);
    assert_eq!(set.len(), 2000);
    assert!(set.bytes() < room.set_bytes() / 4, "{} bytes", set.bytes());
    assert!(names.iter().all(|name| set.lookup(name).is_some_and(|found| found.list == 1)));
    // Other names than those that were counted: no set, and no panic.
    let mut builder = Counting::new(KEY, room).done();
    for name in &names {
        builder.add(name, 99);
    }
    drop(builder.finish());
}
