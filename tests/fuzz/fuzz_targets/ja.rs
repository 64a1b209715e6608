//! Fingerprints of whatever parses have their form, and neither order nor reserved values matter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::inspect::ja::{Ja3, Ja4, Transport};
use sluice::inspect::tls::ClientHello;

fuzz_target!(|data: &[u8]| {
    let Ok(hello) = ClientHello::parse(data) else { return };
    let ja4 = Ja4::new(&hello, Transport::Tcp);
    let text = ja4.as_str();
    assert_eq!((text.len(), &text[..1], &text[10..11], &text[23..24]), (36, "t", "_", "_"));
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    let ciphers = hello.ciphers.known().count();
    assert_eq!(text[4..6].parse::<usize>().unwrap(), ciphers.min(99));
    assert_eq!(ciphers == 0, &text[11..23] == "000000000000");
    assert_eq!(Ja3::new(&hello).to_string().len(), 32);
    let (ja3, text) = Ja3::with_text(&hello, usize::MAX);
    let text = text.unwrap();
    assert_eq!(ja3, Ja3::new(&hello));
    assert_eq!(text.bytes().filter(|b| *b == b',').count(), 4);
    assert_eq!(Ja3::with_text(&hello, text.len() - 1), (ja3, None));
});
