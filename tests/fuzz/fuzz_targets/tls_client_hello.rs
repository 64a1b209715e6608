//! The answer about a stream does not depend on how it is handed over, nor on what follows it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::inspect::tls::{Answer, ClientHello, Finder, Joined, Sni, client_hello};

/// An answer that borrows nothing.
fn plain(answer: &Answer<'_>) -> (u8, Option<(usize, String)>) {
    match answer {
        Answer::NeedMore => (0, None),
        Answer::NotTls => (1, None),
        Answer::Malformed(cause) => (2 + *cause as u8, None),
        Answer::Hello(hello) => {
            let name = match hello.sni {
                Sni::Name(name) => {
                    let name = name.to_string();
                    assert!(!name.is_empty() && name.len() <= 253);
                    assert!(name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()));
                    name
                }
                Sni::Absent => "-".into(),
                Sni::Malformed => "!".into(),
            };
            assert!(hello.extensions.iter().count() <= 100);
            (255, Some((hello.len, name)))
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&seed, bytes)) = data.split_first() else { return };
    let mut joined = Joined::default();
    let whole = plain(&client_hello(&mut Finder::default(), bytes, &mut joined));

    let mut finder = Finder::default();
    let step = usize::from(seed).max(1);
    let mut grown = (0, None);
    for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
        grown = plain(&client_hello(&mut finder, &bytes[..end], &mut joined));
        if grown.0 != 0 {
            break;
        }
    }
    assert_eq!(whole, grown);

    if whole.0 != 0 {
        let longer = [bytes, &[seed; 9]].concat();
        assert_eq!(whole, plain(&client_hello(&mut Finder::default(), &longer, &mut joined)));
    }
    let _ = ClientHello::parse(bytes);
});
