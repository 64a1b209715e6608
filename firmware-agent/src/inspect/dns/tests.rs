use core::net::IpAddr;

use super::*;

/// Writes messages.
#[derive(Clone, Default)]
pub(crate) struct Pen(pub(crate) Vec<u8>);

impl Pen {
    /// A header; flags, and how many questions and answers it says there are.
    pub(crate) fn new(flags: u16, questions: u16, answers: u16) -> Self {
        let mut pen = Self::default();
        for word in [0x5155, flags, questions, answers, 0, 0] {
            pen = pen.u16(word);
        }
        pen
    }

    pub(crate) fn u16(mut self, word: u16) -> Self {
        self.0.extend(word.to_be_bytes());
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// A name without pointers.
    pub(crate) fn name(mut self, name: &str) -> Self {
        for label in name.split('.').filter(|label| !label.is_empty()) {
            self.0.push(label.len() as u8);
            self.0.extend(label.as_bytes());
        }
        self.raw(&[0])
    }

    pub(crate) fn question(self, name: &str, kind: u16) -> Self {
        self.name(name).u16(kind).u16(CLASS_IN)
    }

    /// A record about `name`; an empty name is a pointer to the question's.
    pub(crate) fn record(self, name: &str, kind: u16, data: &[u8]) -> Self {
        let pen = if name.is_empty() { self.u16(0xc00c) } else { self.name(name) };
        pen.u16(kind).u16(CLASS_IN).raw(&[0, 0, 1, 44]).u16(data.len() as u16).raw(data)
    }
}

fn wire(name: &str) -> Vec<u8> {
    Pen::default().name(name).0
}

fn addresses(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    Message::parse(bytes).unwrap().addresses(|address: IpAddr| found.push(address.to_string()));
    found
}

fn refusal(bytes: &[u8]) -> Malformed {
    Message::parse(bytes).err().unwrap()
}

#[test]
fn a_chain_of_names_leads_to_the_addresses_of_the_name_that_was_asked_for() {
    let message = Pen::new(0x8180, 1, 5)
        .question("WWW.example.test", kind::A)
        .record("", kind::CNAME, &wire("cdn.test"))
        .record("other.test", kind::A, &[9, 9, 9, 9])
        .record("CDN.test", kind::A, &[192, 0, 2, 1])
        .record("cdn.test", kind::A, &[192, 0, 2, 2])
        .record("cdn.test", kind::AAAA, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7])
        .0;
    assert_eq!(addresses(&message), ["192.0.2.1", "192.0.2.2", "2001:db8::7"]);
    let read = Message::parse(&message).unwrap();
    assert_eq!((read.id(), read.is_response(), read.rcode()), (0x5155, true, 0));
    let question = read.question().unwrap();
    assert_eq!((question.name.to_string().as_str(), question.kind), ("www.example.test", kind::A));
    // The order of the records means nothing, and a loop ends.
    let looped = Pen::new(0x8180, 1, 4)
        .question("a.test", kind::A)
        .record("c.test", kind::A, &[192, 0, 2, 3])
        .record("b.test", kind::CNAME, &wire("c.test"))
        .record("", kind::CNAME, &wire("b.test"))
        .record("c.test", kind::CNAME, &wire("a.test"));
    assert_eq!(addresses(&looped.0), ["192.0.2.3"]);
}

#[test]
fn another_class_and_another_operation_give_nothing() {
    let answer = |class: u16, flags: u16| {
        let pen = Pen::new(flags, 1, 1).name("a.test").u16(kind::A).u16(class);
        pen.u16(0xc00c).u16(kind::A).u16(class).raw(&[0; 4]).u16(4).raw(&[192, 0, 2, 1]).0
    };
    assert_eq!(addresses(&answer(CLASS_IN, 0x8180)), ["192.0.2.1"]);
    assert!(addresses(&answer(3, 0x8180)).is_empty(), "class CH");
    let update = answer(CLASS_IN, 0xa800);
    let read = Message::parse(&update).unwrap();
    assert_eq!((read.opcode(), read.question().is_none(), read.answers().count()), (5, true, 0));
    // Data of another class need not have the form of the type.
    let odd =
        Pen::new(0x8180, 0, 1).name("a.test").u16(kind::A).u16(3).raw(&[0; 4]).u16(1).raw(b"x");
    assert!(matches!(Message::parse(&odd.0).unwrap().answers().next().unwrap().data, Data::Other));
}

#[test]
fn a_service_says_its_protocols_its_addresses_and_whether_hellos_are_encrypted() {
    let data = Pen::default()
        .u16(1)
        .raw(&[0])
        .u16(1)
        .u16(6)
        .raw(b"\x02h3\x02h2")
        .u16(4)
        .u16(8)
        .raw(&[192, 0, 2, 1, 192, 0, 2, 2])
        .u16(5)
        .u16(3)
        .raw(&[1, 2, 3])
        .u16(6)
        .u16(16)
        .raw(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7])
        .u16(0xff00)
        .u16(0)
        .0;
    let answer = |data: &[u8]| {
        Pen::new(0x8180, 1, 1).question("a.test", kind::HTTPS).record("", kind::HTTPS, data).0
    };
    let message = answer(&data);
    let read = Message::parse(&message).unwrap();
    let Data::Service(service) = read.answers().next().unwrap().data else { unreachable!() };
    assert!(service.has_ech && service.priority == 1);
    assert_eq!(service.alpn().collect::<Vec<_>>(), [b"h3", b"h2"]);
    assert_eq!(addresses(&message), ["192.0.2.1", "192.0.2.2", "2001:db8::7"]);

    let alias = answer(&Pen::default().u16(0).name("b.test").u16(4).u16(4).raw(&[1; 4]).0);
    assert!(addresses(&alias).is_empty(), "an alias has no parameters");
    for (what, data, refused) in [
        ("no priority", Pen::default().raw(&[1]), Malformed::Data),
        ("no target", Pen::default().u16(1), Malformed::Data),
        ("a target by pointer", Pen::default().u16(1).u16(0xc00c), Malformed::Pointer),
        (
            "keys out of order",
            Pen::default().u16(1).raw(&[0]).u16(5).u16(1).raw(&[1]).u16(3).u16(0),
            Malformed::Parameters,
        ),
        (
            "a key twice",
            Pen::default().u16(1).raw(&[0]).u16(9).u16(0).u16(9).u16(0),
            Malformed::Parameters,
        ),
        (
            "half a hint",
            Pen::default().u16(1).raw(&[0]).u16(4).u16(3).raw(&[1; 3]),
            Malformed::Parameters,
        ),
        (
            "an empty protocol",
            Pen::default().u16(1).raw(&[0]).u16(1).u16(2).raw(&[0, 0]),
            Malformed::Parameters,
        ),
        (
            "a protocol too long",
            Pen::default().u16(1).raw(&[0]).u16(1).u16(2).raw(&[2, 1]),
            Malformed::Parameters,
        ),
        (
            "a value too long",
            Pen::default().u16(1).raw(&[0]).u16(9).u16(2).raw(&[2]),
            Malformed::Parameters,
        ),
    ] {
        assert_eq!(refusal(&answer(&data.0)), refused, "{what}");
    }
}

#[test]
fn the_name_of_an_address_is_read_from_a_reverse_question() {
    let reverse = |name: &str| {
        let message = Pen::new(0x8180, 1, 2)
            .question(name, kind::PTR)
            .record("", kind::PTR, &wire("Host.test"))
            .record("else.test", kind::PTR, &wire("wrong.test"))
            .0;
        let mut found = Vec::new();
        Message::parse(&message)
            .unwrap()
            .reverse(|address, name| found.push(format!("{address} {name}")));
        found
    };
    assert_eq!(reverse("4.2.0.192.IN-ADDR.arpa"), ["192.0.2.4 host.test"]);
    let nibbles = format!("7.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23));
    assert_eq!(reverse(&nibbles), ["2001:db8::7 host.test"]);
    for other in
        ["256.2.0.192.in-addr.arpa", "4.2.0.192.in-addr.test", "2.0.192.in-addr.arpa", "a.test"]
    {
        assert!(reverse(other).is_empty(), "{other}");
    }
}

#[test]
fn pointers_lead_backwards_and_are_counted() {
    let asks = |name: &[u8]| Pen::new(0x0100, 1, 0).raw(name).u16(kind::A).u16(CLASS_IN).0;
    assert_eq!(refusal(&asks(&[0xc0, 12])), Malformed::Pointer, "to itself");
    assert_eq!(refusal(&asks(&[0xc0, 14])), Malformed::Pointer, "forwards");
    assert_eq!(refusal(&asks(b"\x01a\xc0\x0c")), Malformed::Pointer, "into itself");
    assert_eq!(refusal(&asks(&[0x40, 1, 0])), Malformed::Label);
    assert_eq!(refusal(&asks(&[0x80, 1, 0])), Malformed::Label);

    // Each record's name is a pointer to that of the one before.
    let chained = |records: u16| {
        let mut pen = Pen::new(0x8180, 1, records).question("a.test", kind::A);
        let mut target = 12_u16;
        for _ in 0..records {
            let at = pen.0.len() as u16;
            pen = pen
                .u16(0xc000 | target)
                .u16(kind::A)
                .u16(CLASS_IN)
                .raw(&[0; 4])
                .u16(4)
                .raw(&[192, 0, 2, 1]);
            target = at;
        }
        pen.0
    };
    assert_eq!(addresses(&chained(16)).len(), 16);
    assert_eq!(refusal(&chained(17)), Malformed::Pointer);
}

#[test]
fn names_are_as_long_as_they_may_be_and_no_longer() {
    let labels =
        |lens: &[usize]| lens.iter().map(|len| "x".repeat(*len)).collect::<Vec<_>>().join(".");
    let longest = labels(&[63, 63, 63, 61]);
    assert_eq!(longest.len(), NAME_MAX);
    let fits = Pen::new(0x0100, 1, 0).question(&longest, kind::A).0;
    assert_eq!(Message::parse(&fits).unwrap().question().unwrap().name.to_string(), longest);
    let beyond = Pen::new(0x0100, 1, 0).question(&labels(&[63, 63, 63, 62]), kind::A).0;
    assert_eq!(refusal(&beyond), Malformed::NameTooLong);
}

#[test]
fn names_from_the_network_have_nothing_that_a_terminal_obeys() {
    let hostile = Pen::new(0x0100, 1, 0).raw(b"\x06A\x1b[\n.\\\x00").u16(kind::A).u16(CLASS_IN).0;
    let name = Message::parse(&hostile).unwrap().question().unwrap().name;
    assert_eq!(name.to_string(), "a\\027\\091\\010\\046\\092");
    assert!(!name.is_host());
    let root = Pen::new(0x0100, 1, 0).question("", 2).0;
    let name = Message::parse(&root).unwrap().question().unwrap().name;
    assert!(name.to_string() == "." && !name.is_host());
    let host = Pen::new(0x0100, 1, 0).question("_dns.a-b.test", 2).0;
    assert!(Message::parse(&host).unwrap().question().unwrap().name.is_host());
}

#[test]
fn only_so_many_answers_and_addresses_count() {
    let mut pen = Pen::new(0x8180, 1, 100).question("a.test", kind::A);
    for last in 0..100 {
        pen = pen.record("", kind::A, &[192, 0, 2, last]);
    }
    let message = Message::parse(&pen.0).unwrap();
    assert_eq!(message.answers().count(), usize::from(ANSWERS_MAX));
    assert_eq!(addresses(&pen.0).len(), ADDRESSES_MAX);
    let two = Pen::new(0x0100, 2, 0).question("a.test", kind::A).question("b.test", kind::A).0;
    assert_eq!(refusal(&two), Malformed::Questions);
}

/// Every message of the other tests, cut anywhere: said so, unless the bit says it first.
#[test]
fn what_is_cut_says_so() {
    let whole = Pen::new(0x8180, 1, 2)
        .question("a.test", kind::A)
        .record("", kind::CNAME, &wire("b.test"))
        .record("b.test", kind::A, &[192, 0, 2, 1])
        .0;
    for len in 0..whole.len() {
        let expected = if len < 12 { Malformed::Header } else { Malformed::Truncated };
        assert_eq!(refusal(&whole[..len]), expected, "{len} bytes");
        let mut marked = whole[..len].to_vec();
        if len >= 26 {
            marked[2] |= 2;
            assert!(Message::parse(&marked).unwrap().answers().count() < 2);
        }
    }
    let followed = [&whole[..], &[0xff; 40]].concat();
    assert_eq!(addresses(&followed), addresses(&whole));
    for (kind, data) in [
        (kind::A, &[1, 2, 3][..]),
        (kind::AAAA, &[1; 4]),
        (kind::CNAME, b"\x01a"),
        (kind::PTR, b"\x01a\0x"),
    ] {
        let wrong = Pen::new(0x8180, 1, 1).question("a.test", kind).record("", kind, data).0;
        assert_eq!(refusal(&wrong), Malformed::Data, "type {kind}");
    }
}

/// A packet of TCP between 192.0.2.1:40000 and 192.0.2.2:53.
fn tcp(is_answer: bool, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (from, to) =
        if is_answer { ([2, 0, 53], [1, 0x9c, 0x40]) } else { ([1, 0x9c, 0x40], [2, 0, 53]) };
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0];
    packet.extend([192, 0, 2, from[0], 192, 0, 2, to[0], from[1], from[2], to[1], to[2]]);
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(payload);
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet
}

fn tapped(tap: &mut Tap, packet: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    tap.packet(packet, packet.len(), |one| {
        let name = |message: Message<'_>| message.question().unwrap().name.to_string();
        found.push(match (one.query(), one.response(), one.message) {
            (Some(query), None, _) => format!("asks {}", name(query)),
            (None, Some(response), _) => format!("answers {}", name(response)),
            (None, None, Ok(_)) => "odd".to_owned(),
            (_, _, Err(malformed)) => malformed.name().to_owned(),
            _ => unreachable!(),
        });
    });
    found
}

#[test]
fn messages_of_a_stream_are_found_however_their_bytes_arrive() {
    let framed = |message: Vec<u8>| [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    let asks = |name| framed(Pen::new(0x0100, 1, 0).question(name, kind::A).0);
    let answers = |name| framed(Pen::new(0x8180, 1, 0).question(name, kind::A).0);
    let both = [asks("a.test"), asks("b.test")].concat();
    for cut in 0..=both.len() {
        let mut tap = Tap::new([3, 4]);
        assert!(tapped(&mut tap, &tcp(false, 99, 2, &[])).is_empty());
        let (first, second) = both.split_at(cut);
        // The second piece first.
        let at = 100 + cut as u32;
        let mut found = tapped(&mut tap, &tcp(false, at, 0x18, second));
        found.extend(tapped(&mut tap, &tcp(false, 100, 0x18, first)));
        assert_eq!(found, ["asks a.test", "asks b.test"], "cut at {cut}");
        // The other direction is a stream of its own, also after the client has said all.
        assert!(tapped(&mut tap, &tcp(false, 500, 0x11, &[])).is_empty());
        assert_eq!(tapped(&mut tap, &tcp(true, 7, 0x18, &answers("a.test"))), ["answers a.test"]);
        assert_eq!(
            tapped(&mut tap, &tcp(true, 7, 0x18, &answers("a.test"))),
            [""; 0],
            "sent again"
        );
        assert_eq!(tap.streams(), 1);
    }
    // Another connection of the same ports starts anew; a reset ends it.
    let mut tap = Tap::new([3, 4]);
    tapped(&mut tap, &tcp(false, 99, 2, &[]));
    assert_eq!(tapped(&mut tap, &tcp(false, 100, 0x18, &[0, 3, 1, 2, 3])), ["frame"]);
    assert_eq!(tapped(&mut tap, &tcp(false, 105, 0x18, &asks("a.test"))), [""; 0], "lost");
    tapped(&mut tap, &tcp(false, 7000, 2, &[]));
    assert_eq!(tapped(&mut tap, &tcp(false, 7001, 0x18, &asks("a.test"))), ["asks a.test"]);
    tapped(&mut tap, &tcp(false, 7002, 4, &[]));
    assert_eq!(tap.streams(), 0);
}

#[test]
fn what_a_client_says_in_the_place_of_a_server_is_no_answer() {
    let mut tap = Tap::new([3, 4]);
    let framed = |message: Vec<u8>| [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    let answer = framed(Pen::new(0x8180, 1, 0).question("a.test", kind::A).0);
    assert_eq!(tapped(&mut tap, &tcp(false, 100, 0x18, &answer)), ["odd"]);
    let question = framed(Pen::new(0x0100, 1, 0).question("a.test", kind::A).0);
    assert_eq!(tapped(&mut tap, &tcp(true, 100, 0x18, &question)), ["odd"]);
}

/// What a real server answered says what the server was told to answer.
#[test]
fn answers_of_dnsmasq_say_what_it_was_configured_to() {
    let table = include_str!("../../../../tests/data/dns/dnsmasq.tsv");
    let mut rows = table.lines().filter(|row| !row.starts_with('#'));
    for (what, rcode, answers, asked) in [
        ("a", 0, "192.0.2.7", "www.example.test"),
        ("aaaa_edns", 0, "2001:db8::7", "www.example.test"),
        ("cname", 0, "192.0.2.7", "alias.example.test"),
        ("ptr", 0, "192.0.2.7 is www.example.test", "7.2.0.192.in-addr.arpa"),
        ("ptr6", 0, "2001:db8::7 is www.example.test", "7.0.0"),
        ("https", 0, "192.0.2.7 2001:db8::7", "www.example.test"),
        ("nxdomain", 3, "", "gone.example.test"),
        ("refused", 5, "", "elsewhere.invalid.example"),
        ("many", 0, "16 of 60", "many.example.test"),
        ("cut", 0, "16 of 29", "many.example.test"),
    ] {
        let (named, hex) = rows.next().unwrap().split_once('\t').unwrap();
        assert_eq!(named, what);
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.id(), message.is_response()), (0x1234, true), "{what}");
        assert_eq!((message.rcode(), message.is_truncated()), (rcode, what == "cut"), "{what}");
        assert!(message.question().unwrap().name.to_string().starts_with(asked), "{what}");
        let mut found = addresses(&bytes);
        message.reverse(|address, name| found.push(format!("{address} is {name}")));
        if found.len() == ADDRESSES_MAX {
            found = vec![format!("16 of {}", message.answers().count())];
        }
        assert_eq!(found.join(" "), answers, "{what}");
    }
    assert!(rows.next().is_none());
}
