use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::inspect::tls::server::tests as server;
use crate::inspect::tls::tests::{Recipe, long, short, words};
use crate::inspect::tls::{ServerAnswer, server_hello};

/// The browser of the definition's examples, in the order of its cipher list there.
const CIPHERS: [u16; 15] = [
    0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c,
    0x009d, 0x002f, 0x0035,
];
const ALGORITHMS: [u16; 8] = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];

fn browser() -> Recipe {
    Recipe { ciphers: CIPHERS.to_vec(), ..Recipe::default() }
        .with(0x001b, vec![])
        .sni(b"example.com")
        .with(0x0033, vec![])
        .alpn(&[b"h2"])
        .with(0x4469, vec![])
        .with(0x0017, vec![])
        .with(0x002d, vec![])
        .with(0x000d, long(&words(&ALGORITHMS)))
        .with(0x0005, vec![])
        .with(0x0023, vec![])
        .with(0x0012, vec![])
        .versions(&[0x0304, 0x0303])
        .with(0xff01, vec![0])
        .with(0x000b, short(&[0]))
        .with(0x000a, long(&words(&[29, 23, 24])))
        .with(0x0015, vec![])
}

fn ja4(recipe: &Recipe) -> String {
    let body = recipe.body();
    let hello = ClientHello::parse(&body).unwrap();
    Ja4::new(&hello, Transport::Tcp).to_string()
}

fn ja3(recipe: &Recipe) -> (String, String) {
    let body = recipe.body();
    let hello = ClientHello::parse(&body).unwrap();
    let (ja3, text) = Ja3::with_text(&hello, 4096);
    assert_eq!(ja3, Ja3::new(&hello));
    (text.unwrap().into_string(), ja3.to_string())
}

#[test]
fn the_example_of_the_definition() {
    assert_eq!(ja4(&browser()), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    let body = browser().body();
    let hello = ClientHello::parse(&body).unwrap();
    assert!(Ja4::new(&hello, Transport::Quic).as_str().starts_with("q13d1516h2_"));
    assert!(Ja4::new(&hello, Transport::Dtls).as_str().starts_with("d13d1516h2_"));
}

#[test]
fn without_signature_algorithms_no_underscore_is_hashed() {
    let mut recipe = browser();
    // An empty list, so that the extension stays in the list of extensions.
    recipe.extensions.iter_mut().find(|(kind, _)| *kind == 13).unwrap().1 = vec![0, 0];
    assert_eq!(ja4(&recipe), "t13d1516h2_8daaf6152771_6d807ffa2a79");
}

#[test]
fn order_of_ciphers_and_extensions_does_not_matter_and_that_of_algorithms_does() {
    let mut recipe = browser();
    recipe.ciphers.reverse();
    recipe.extensions.reverse();
    assert_eq!(ja4(&recipe), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    let algorithms = recipe.extensions.iter_mut().find(|(kind, _)| *kind == 13).unwrap();
    algorithms.1 = long(&words(&ALGORITHMS.iter().rev().copied().collect::<Vec<_>>()));
    assert_ne!(ja4(&recipe), "t13d1516h2_8daaf6152771_e5627efa2ab1");
}

#[test]
fn reserved_values_change_neither_fingerprint() {
    let mut greased = browser();
    let plain = browser();
    greased.ciphers.insert(0, 0x2a2a);
    greased.extensions.insert(0, (0x5a5a, vec![]));
    greased.extensions.push((0xfafa, vec![0]));
    for (kind, content) in &mut greased.extensions {
        match kind {
            10 => *content = long(&words(&[0x1a1a, 29, 23, 24])),
            13 => *content = long(&[&words(&[0x8a8a])[..], &words(&ALGORITHMS)].concat()),
            16 => *content = long(&[&short(&[0x0a, 0x0a])[..], &short(b"h2")].concat()),
            43 => *content = short(&words(&[0xdada, 0x0304, 0x0303])),
            _ => {}
        }
    }
    assert_eq!(ja4(&greased), ja4(&plain));
    assert_eq!(ja3(&greased), ja3(&plain));
}

#[test]
fn empty_lists_are_twelve_zeros() {
    let bare = Recipe { ciphers: vec![], version: 0x0301, ..Recipe::default() };
    assert_eq!(ja4(&bare), "t10i000000_000000000000_000000000000");
    // Server name and ALPN are counted, and are not in the list.
    let named = bare.sni(b"a.test").alpn(&[b"h2"]);
    assert_eq!(ja4(&named), "t10d0002h2_000000000000_000000000000");
}

#[test]
fn a_name_that_is_no_host_name_is_a_name_all_the_same() {
    assert_eq!(&ja4(&Recipe::default().sni(b"\x1b[2J"))[..4], "t12d");
}

#[test]
fn counts_stop_at_99() {
    let ciphers: Vec<u16> = (0..100).collect();
    let mut recipe = Recipe { ciphers, ..Recipe::default() };
    for kind in 0x100..0x164 {
        recipe = recipe.with(kind, vec![]);
    }
    assert_eq!(&ja4(&recipe)[4..8], "9999");
    recipe.ciphers.truncate(98);
    recipe.extensions.truncate(9);
    assert_eq!(&ja4(&recipe)[4..8], "9809");
}

#[test]
fn the_version_is_the_highest_that_is_offered() {
    #[rustfmt::skip]
    let cases: [(u16, &[u16], &str); 12] = [
        (0x0300, &[],                       "s3"),
        (0x0002, &[],                       "s2"),
        (0x0301, &[],                       "10"),
        (0x0302, &[],                       "11"),
        (0x0303, &[],                       "12"),
        (0x0304, &[],                       "13"),
        (0xfeff, &[],                       "d1"),
        (0xfefd, &[],                       "d2"),
        (0xfefc, &[],                       "d3"),
        (0x1234, &[],                       "00"),
        (0x0303, &[0x0302, 0x0304, 0x0303], "13"),
        (0x0303, &[0x0302, 0x7a7a],         "11"),
    ];
    for (version, versions, expected) in cases {
        let mut recipe = Recipe { version, ..Recipe::default() };
        if !versions.is_empty() {
            recipe = recipe.versions(versions);
        }
        assert_eq!(&ja4(&recipe)[1..3], expected, "{version:04x} {versions:04x?}");
    }
}

#[test]
fn the_protocol_is_shown_by_its_ends_or_by_the_ends_of_its_hexadecimal_form() {
    #[rustfmt::skip]
    let cases: [(&[u8], &str); 16] = [
        (b"h2",                     "h2"),
        (b"http/1.1",               "h1"),
        (b"x",                      "xx"),
        (b"",                       "00"),
        (&[0xab],                   "ab"),
        (&[0x20],                   "20"),
        (&[0xab, 0xcd],             "ad"),
        (&[0x20, 0x61],             "21"),
        (&[0x30, 0xab],             "3b"),
        (&[0x61, 0x20],             "60"),
        (&[0x30, 0x31, 0xab, 0xcd], "3d"),
        (&[0x30, 0xab, 0xcd, 0x31], "01"),
        (b"A/Z",                    "AZ"),
        (b"/x",                     "28"),
        (b"@x",                     "48"),
        (b"x{",                     "7b"),
    ];
    for (protocol, expected) in cases {
        assert_eq!(&ja4(&Recipe::default().alpn(&[protocol, b"zz"]))[8..10], expected);
    }
    assert_eq!(&ja4(&Recipe::default().alpn(&[]))[8..10], "00");
    assert_eq!(&ja4(&Recipe::default())[8..10], "00");
}

/// What a JA4 shows of a text.
fn hash(text: &str) -> String {
    format!("{:x}", Sha256::digest(text.as_bytes()))[..12].to_owned()
}

fn hex_list(values: impl Iterator<Item = u16>) -> String {
    values.map(|value| format!("{value:04x}")).collect::<Vec<_>>().join(",")
}

#[test]
fn lists_of_every_length_are_hashed_whole() {
    // Every place in a block where a text can end, what is kept until the end and what is not, and the
    // most that a ClientHello holds.
    for count in (1..=300).chain([8150]) {
        let values: Vec<u16> = (0..count).rev().map(|value| value * 8).collect();
        let recipe = Recipe { ciphers: values.clone(), ..Recipe::default() };
        let known = || values.iter().copied().filter(|value| !is_grease(*value));
        let expected = hash(&hex_list(known().rev()));
        assert_eq!(&ja4(&recipe)[11..23], expected, "{count} ciphers");
        if count > 8000 {
            continue;
        }
        let recipe = Recipe::default().with(13, long(&words(&values)));
        let expected = hash(&format!("000d_{}", hex_list(known())));
        assert_eq!(&ja4(&recipe)[24..36], expected, "{count} algorithms");
    }
    // Reserved values in between, the others twice.
    for count in 1..=300_u16 {
        let ciphers = (0..count).flat_map(|value| [0x0a0a, value, value]).collect();
        let recipe = Recipe { ciphers, ..Recipe::default() };
        let known = (0..count).flat_map(|value| [value, value]);
        assert_eq!(&ja4(&recipe)[11..23], hash(&hex_list(known)), "{count} ciphers twice");
    }
}

#[test]
fn the_ja3_examples_of_its_publication() {
    // From the published description of JA3: the texts and their MD5.
    let ciphers = vec![47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4];
    let recipe = Recipe { version: 769, ciphers, ..Recipe::default() }
        .sni(b"a.test")
        .with(10, long(&words(&[23, 24, 25])))
        .with(11, short(&[0]));
    let text = "769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0";
    assert_eq!(ja3(&recipe), (text.into(), "ada70206e40642a3e4461f35503241d5".into()));

    let bare = Recipe {
        version: 769,
        ciphers: vec![4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99],
        ..Recipe::default()
    };
    let text = "769,4-5-10-9-100-98-3-6-19-18-99,,,";
    assert_eq!(ja3(&bare), (text.into(), "de350869b8c85de67a350c8d186f11e6".into()));
}

#[test]
fn a_ja3_is_the_hash_of_its_text_however_long() {
    for count in (0..=300).chain([8000]) {
        // One to five digits.
        let ciphers: Vec<u16> = (0..count).map(|n: u16| n.wrapping_mul(n)).collect();
        let recipe = Recipe { ciphers: ciphers.clone(), ..Recipe::default() };
        let body = recipe.body();
        let (ja3, text) = Ja3::with_text(&ClientHello::parse(&body).unwrap(), usize::MAX);
        let known = ciphers.iter().filter(|value| !is_grease(**value));
        let list = known.map(ToString::to_string).collect::<Vec<_>>().join("-");
        assert_eq!(text.as_deref(), Some(&*format!("{},{list},,,", recipe.version)));
        let digest = Md5::digest(text.unwrap().as_bytes());
        assert_eq!(ja3.to_string(), format!("{digest:x}"), "{count} ciphers");
    }
}

#[test]
fn a_ja3_text_longer_than_asked_for_is_left_out() {
    let body = Recipe { ciphers: vec![0xffff; 4000], ..Recipe::default() }.body();
    let hello = ClientHello::parse(&body).unwrap();
    let text = |max| Ja3::with_text(&hello, max).1;
    assert!(text(4096).is_none());
    let len = text(usize::MAX).unwrap().len();
    assert!(text(len - 1).is_none());
    assert!(text(len).is_some());
}

/// R34: the texts are those of real answers in `tests/data/tls`, the hashes `md5sum`'s.
#[test]
fn ja3s_is_the_hash_of_version_suite_and_extensions() {
    let of = |extensions: &[(u16, &[u8])]| {
        let bytes = server::records(&server::message(2, &server::hello_body(32, extensions)), 99);
        let ServerAnswer::Hello(hello, _) = server_hello(&bytes) else { panic!() };
        Ja3s::new(&hello).to_string()
    };
    assert_eq!(of(&[(65281, &[0]), (0, &[]), (11, &[0])]), "a704460bd0a887c62e4f462bf1bba96b");
    assert_eq!(of(&[]), format!("{:x}", Md5::digest(b"771,49199,")));
}
