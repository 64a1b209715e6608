//! Reading a ClientHello and computing its JA4 must not touch the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use sluice::inspect::ja::{Ja3, Ja4, Transport};
use sluice::inspect::tls::{Answer, Finder, Joined, NAME_MAX, Sni, client_hello};

/// Counts what is asked of the heap.
struct Counting;

thread_local! {
    /// Per thread: the test harness allocates in its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// A TLS record with a ClientHello: `ciphers` cipher suites, a name, ALPN and signature algorithms.
fn record(ciphers: u16) -> Vec<u8> {
    let extensions: &[u8] = &[
        0, 0, 0, 11, 0, 9, 0, 0, 6, b'A', b'.', b't', b'e', b's', b't', // server name
        0, 16, 0, 5, 0, 3, 2, b'h', b'2', 0, 13, 0, 4, 0, 2, 4, 3,
    ];
    let list: Vec<u8> = (0..ciphers).rev().flat_map(u16::to_be_bytes).collect();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend((list.len() as u16).to_be_bytes());
    body.extend(list);
    body.extend([1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

#[test]
fn neither_the_parser_nor_a_fingerprint_allocates() {
    let mut joined = Joined::default();
    // More ciphers than the small buffer of JA4 takes, too.
    for ciphers in [15, 4000] {
        let bytes = record(ciphers);
        let mut read = |use_text: bool| {
            let answer = client_hello(&mut Finder::default(), black_box(&bytes), &mut joined);
            let Answer::Hello(hello) = answer else { panic!("{answer:?}") };
            let Sni::Name(name) = hello.sni else { panic!("{:?}", hello.sni) };
            assert_eq!(name.to_lower(&mut [0; NAME_MAX]), "a.test");
            black_box((Ja4::new(&hello, Transport::Tcp), Ja3::new(&hello)));
            if use_text {
                black_box(Ja3::with_text(&hello, 4096));
            }
        };
        assert_eq!(allocations(|| read(false)), 0, "{ciphers} ciphers");
        assert!(allocations(|| read(true)) > 0, "the allocator counts");
    }
}
