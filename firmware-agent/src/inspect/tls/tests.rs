use super::*;

/// A ClientHello made by hand. Fields that a test does not set are small and valid.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub(crate) version: u16,
    pub(crate) session: Vec<u8>,
    pub(crate) ciphers: Vec<u16>,
    pub(crate) extensions: Vec<(u16, Vec<u8>)>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self { version: 0x0303, session: vec![], ciphers: vec![0x1301, 0x1302], extensions: vec![] }
    }
}

pub(crate) fn short(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

pub(crate) fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

pub(crate) fn words(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

impl Recipe {
    pub(crate) fn named(name: &str) -> Self {
        Self::default().sni(name.as_bytes())
    }

    pub(crate) fn with(mut self, kind: u16, content: Vec<u8>) -> Self {
        self.extensions.push((kind, content));
        self
    }

    pub(crate) fn sni(self, name: &[u8]) -> Self {
        self.with(0, long(&[&[0][..], &long(name)].concat()))
    }

    pub(crate) fn alpn(self, names: &[&[u8]]) -> Self {
        let list: Vec<u8> = names.iter().flat_map(|name| short(name)).collect();
        self.with(16, long(&list))
    }

    pub(crate) fn versions(self, versions: &[u16]) -> Self {
        self.with(43, short(&words(versions)))
    }

    /// Filled up with a padding extension (RFC 7685) to a message body of `len` bytes.
    pub(crate) fn padded(self, len: usize) -> Self {
        let padding = len - self.clone().with(21, vec![]).body().len();
        self.with(21, vec![0; padding])
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = words(&[self.version]);
        body.extend([0x5a; 32]);
        body.extend(short(&self.session));
        body.extend(long(&words(&self.ciphers)));
        body.extend(short(&[0]));
        if !self.extensions.is_empty() {
            let list = |(kind, content): &(u16, Vec<u8>)| [words(&[*kind]), long(content)].concat();
            body.extend(long(&self.extensions.iter().flat_map(list).collect::<Vec<_>>()));
        }
        body
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        let body = self.body();
        let mut message = (body.len() as u32).to_be_bytes().to_vec();
        message[0] = 1;
        message.extend(body);
        message
    }

    /// The message in records of at most `most` bytes.
    pub(crate) fn records(&self, most: usize) -> Vec<u8> {
        self.message().chunks(most).flat_map(record).collect()
    }

    pub(crate) fn wire(&self) -> Vec<u8> {
        self.records(1 << 14)
    }
}

pub(crate) fn record(content: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &long(content)].concat()
}

/// The answer about `bytes` given at once.
fn ask(bytes: &[u8]) -> String {
    show(&client_hello(&mut Finder::default(), bytes, &mut Joined::default()))
}

fn show(answer: &Answer<'_>) -> String {
    match answer {
        Answer::NeedMore => "more".into(),
        Answer::NotTls => "not tls".into(),
        Answer::Malformed(cause) => cause.name().into(),
        Answer::Hello(hello) => match hello.sni {
            Sni::Absent => "hello".into(),
            Sni::Malformed => "hello, malformed name".into(),
            Sni::Name(name) => format!("hello {name}"),
        },
    }
}

#[test]
fn fields_of_a_hello_are_read() {
    let recipe = Recipe { session: vec![7; 32], ..Recipe::named("WWW.Example.com") }
        .alpn(&[b"h2", b"http/1.1"])
        .versions(&[0x8a8a, 0x0304, 0x0303])
        .with(10, long(&words(&[29, 23])))
        .with(11, short(&[0, 1]))
        .with(13, long(&words(&[0x0403])))
        .with(0xff01, vec![0]);
    let wire = recipe.wire();
    let mut joined = Joined::default();
    let answer = client_hello(&mut Finder::default(), &wire, &mut joined);
    let Answer::Hello(hello) = answer else { panic!("{answer:?}") };
    assert_eq!(hello.len, recipe.body().len());
    assert_eq!((hello.legacy_version, hello.version()), (0x0303, 0x0304));
    let Sni::Name(name) = hello.sni else { panic!("{:?}", hello.sni) };
    assert_eq!((name.as_written(), &*name.to_string()), ("WWW.Example.com", "www.example.com"));
    assert_eq!(hello.alpn.iter().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
    assert_eq!(hello.ciphers.iter().collect::<Vec<_>>(), [0x1301, 0x1302]);
    assert_eq!(hello.extensions.known().collect::<Vec<_>>(), [0, 16, 43, 10, 11, 13, 0xff01]);
    assert_eq!(hello.groups.iter().collect::<Vec<_>>(), [29, 23]);
    assert_eq!(hello.point_formats, [0, 1]);
    assert_eq!(hello.signature_algorithms.iter().collect::<Vec<_>>(), [0x0403]);
    assert_eq!(hello.supported_versions.len(), 3);
}

#[test]
fn a_hello_may_lack_everything_optional() {
    assert_eq!(ask(&Recipe::default().wire()), "hello");
    let empty = Recipe { ciphers: vec![], ..Recipe::default() };
    assert_eq!(ask(&empty.wire()), "hello");
    let hello = ClientHello::parse(&empty.body()).map(|hello| hello.version());
    assert_eq!(hello, Ok(0x0303), "without the extension, the version of the message");
    let reserved = Recipe::default().versions(&[0x0a0a, 0xfafa]).body();
    assert_eq!(ClientHello::parse(&reserved).map(|hello| hello.version()), Ok(0x0303));
}

#[test]
fn the_start_of_a_hello_is_waited_for_at_every_length_and_in_every_record_size() {
    let recipe = Recipe::named("split.example.com").alpn(&[b"h2"]).padded(600);
    for most in [1, 2, 3, 4, 5, 7, 100, 603, 604, 1000] {
        let wire = recipe.records(most);
        let mut finder = Finder::default();
        let mut joined = Joined::default();
        for len in 0..wire.len() {
            assert_eq!(ask(&wire[..len]), "more", "records of {most}, {len} bytes");
            let grown = client_hello(&mut finder, &wire[..len], &mut joined);
            assert_eq!(show(&grown), "more", "records of {most}, grown to {len} bytes");
        }
        assert_eq!(ask(&wire), "hello split.example.com", "records of {most}");
        let grown = client_hello(&mut finder, &wire, &mut joined);
        assert_eq!(show(&grown), "hello split.example.com", "records of {most}, grown");
    }
}

#[test]
fn what_follows_the_message_changes_nothing() {
    let recipe = Recipe::named("tail.example.com");
    for tail in [&[0][..], &[22, 3, 3, 0, 0], b"GET / HTTP/1.1"] {
        let behind = [&recipe.wire(), tail].concat();
        assert_eq!(ask(&behind), "hello tail.example.com");
        let inside = record(&[&recipe.message(), tail].concat());
        assert_eq!(ask(&inside), "hello tail.example.com", "in the same record");
    }
}

#[test]
fn every_truncation_of_the_body_is_refused() {
    let recipe = Recipe::named("cut.example.com")
        .alpn(&[b"h2"])
        .versions(&[0x0304])
        .with(11, short(&[0]))
        .with(10, long(&words(&[29])));
    let body = recipe.body();
    // Where the extensions start the message may end: so did those of old clients.
    let plain = Recipe::default().body().len();
    for len in 0..body.len() {
        let is_whole = ClientHello::parse(&body[..len]).is_ok();
        assert_eq!(is_whole, len == plain, "{len} bytes");
    }
}

#[test]
fn other_protocols_are_told_apart_by_their_first_bytes() {
    let server_hello = [22, 3, 3, 0, 4, 2, 0, 0, 0];
    let alert = [21, 3, 1, 0, 2, 2, 40];
    let ssl2 = [0x80, 0x2e, 1, 3, 1];
    for bytes in [&b"GET /"[..], b"SSH-2.0", &server_hello, &alert, &ssl2, &[0], &[22, 2]] {
        assert_eq!(ask(bytes), "not tls", "{bytes:?}");
    }
    for bytes in [&b""[..], &[22], &[22, 3], &[22, 3, 9], &[22, 3, 1, 0, 4], &[22, 3, 1, 0, 4, 1]] {
        assert_eq!(ask(bytes), "more", "{bytes:?}");
    }
}

#[test]
fn contradictions_are_refused_each_by_its_name() {
    let recipe = Recipe::named("bad.example.com");
    let message = recipe.message();
    let (head, tail) = message.split_at(9);
    let body = recipe.body();
    let in_body = |offset: usize, bytes: &[u8]| {
        let mut message = message.clone();
        message[4 + offset..4 + offset + bytes.len()].copy_from_slice(bytes);
        record(&message)
    };
    let many = |count| (0..count).fold(Recipe::default(), |r, n| r.with(1000 + n, vec![]));
    let twice = |kind: u16, content: &[u8]| {
        Recipe::default().with(kind, content.to_vec()).with(kind, content.to_vec()).wire()
    };
    let sni = |list: &[u8]| Recipe::default().with(0, list.to_vec()).wire();
    let two_names = long(&[&[0][..], &long(b"a.test"), &[0], &long(b"b.test")].concat());
    #[rustfmt::skip]
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty_record",        [record(head), record(b"")].concat()),
        ("empty_record",        record(b"")),
        ("record_too_long",     vec![22, 3, 1, 0x40, 1]),
        ("interrupted",         [record(head), vec![21, 3, 1, 0, 2]].concat()),
        ("interrupted",         [record(head), vec![22, 2]].concat()),
        ("handshake_too_long",  record(&[1, 1, 0, 1])),
        ("hello_too_long",      record(&[1, 0, 0x40, 1])),
        ("overrun",             in_body(35, &[0xff, 0xfe])), // cipher suites
        ("overrun",             in_body(41, &[0xff, 0xff])), // extensions
        ("odd_length",          in_body(35, &[0, 3])),
        ("session_id",          Recipe { session: vec![0; 33], ..recipe.clone() }.wire()),
        ("trailing",            in_body(41, &[0, 0])),
        ("too_many_extensions", many(101).wire()),
        ("duplicate_extension", twice(0, &long(&[&[0][..], &long(b"a.test")].concat()))),
        ("duplicate_extension", twice(16, &[0, 0])),
        ("duplicate_extension", twice(0xfe0d, &[0])),
        ("duplicate_extension", twice(43, &[0])),
        ("duplicate_extension", twice(10, &[0, 0])),
        ("duplicate_extension", twice(11, &[0])),
        ("duplicate_extension", twice(13, &[0, 0])),
        ("server_name_list",    sni(&two_names)),
        ("server_name_list",    sni(&[0, 0])),
        ("server_name_list",    sni(&long(&[&[1][..], &long(b"other kind")].concat()))),
        ("overrun",             sni(&[])),
        ("trailing",            sni(&[&long(&[&[0][..], &long(b"a.test")].concat())[..], &[0]].concat())),
        ("overrun",             sni(&long(&[0, 0, 9, b'a']))),
        ("overrun",             Recipe::default().with(16, long(&[3, b'h', b'2'])).wire()),
        ("trailing",            Recipe::default().with(16, vec![0, 0, 0]).wire()),
        ("odd_length",          Recipe::default().with(43, short(&[3])).wire()),
        ("odd_length",          Recipe::default().with(13, long(&[3])).wire()),
        ("trailing",            Recipe::default().with(10, vec![0, 0, 0]).wire()),
        ("trailing",            Recipe::default().with(11, vec![0, 0]).wire()),
    ];
    for (expected, wire) in cases {
        assert_eq!(ask(&wire), expected, "{wire:02x?}");
    }
    assert_eq!(ask(&many(100).wire()), "hello");
    assert_eq!(ask(&[record(head), record(tail)].concat()), "hello bad.example.com");
    assert_eq!(ClientHello::parse(&[&body[..], &[0]].concat()), Err(Malformed::Trailing));
}

#[test]
fn the_longest_hello_is_read_and_the_next_is_not() {
    let longest = Recipe::named("long.example.com").padded(HELLO_MAX);
    for most in [64, 1 << 14] {
        assert_eq!(ask(&longest.records(most)), "hello long.example.com");
    }
    let mut body = longest.body();
    body.push(0);
    assert_eq!(ClientHello::parse(&body), Err(Malformed::HelloTooLong));
}

#[test]
fn only_host_names_are_names() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    for name in
        ["a", "example.com", "example.com.", "xn--nxasmq6b.test", "a_b.test", "10.0.0.1", &longest]
    {
        let expected = name.strip_suffix('.').unwrap_or(name);
        assert_eq!(HostName::new(name.as_bytes()).unwrap().as_written(), expected);
    }
    for name in [
        "",
        ".",
        "..",
        ".a",
        "a..b",
        "a.b..",
        "a b",
        "a/b",
        "a:1",
        "[::1]",
        "*.a",
        "a\n",
        "a\0b",
        "\x1b[2J",
        "<img>",
        "a;b",
        "$(a)",
        "a\"b",
        "ü.test",
        "\u{7f}",
        &format!("{label}a.test"),
        &format!("{longest}b"),
    ] {
        assert_eq!(HostName::new(name.as_bytes()), None, "{name:?}");
        let wire = Recipe::default().sni(name.as_bytes()).wire();
        assert_eq!(ask(&wire), "hello, malformed name", "{name:?}");
    }
    assert_eq!(HostName::new(&[0xff]), None);
    assert_eq!(longest.len(), NAME_MAX);
}

#[test]
fn reserved_values_are_the_sixteen_of_the_standard() {
    let reserved: Vec<u16> = (0..=u16::MAX).filter(|value| is_grease(*value)).collect();
    let expected: Vec<u16> = (0..16).map(|n| n * 0x1010 + 0x0a0a).collect();
    assert_eq!(reserved, expected);
}

/// R38: the outer form alone hides a name; the inner one is never sent in the clear.
#[test]
fn a_hidden_hello_is_told_by_its_outer_form() {
    let has_ech = |recipe: Recipe| ClientHello::parse(&recipe.body()).unwrap().has_ech;
    assert!(has_ech(Recipe::named("outer.test").with(0xfe0d, vec![0, 0, 1, 0, 1, 7])));
    assert!(!has_ech(Recipe::named("outer.test").with(0xfe0d, vec![1])));
    assert!(!has_ech(Recipe::named("outer.test")));
}
