use super::*;

const ALERT: u8 = 21;

/// A message with its header.
pub(in crate::inspect) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

/// Records of at most `size` bytes each.
pub(in crate::inspect) fn records(content: &[u8], size: usize) -> Vec<u8> {
    let record =
        |part: &[u8]| [&[HANDSHAKE, 3, 3][..], &(part.len() as u16).to_be_bytes(), part].concat();
    content.chunks(size).flat_map(record).collect()
}

pub(in crate::inspect) fn hello_body(session: usize, extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, content)| {
            [&kind.to_be_bytes()[..], &(content.len() as u16).to_be_bytes(), content].concat()
        })
        .collect();
    let fixed =
        [&[3, 3][..], &[7; 32], &[session as u8], &vec![9; session], &[0xc0, 0x2f, 0]].concat();
    if extensions.is_empty() {
        return fixed;
    }
    [&fixed[..], &(list.len() as u16).to_be_bytes(), &list].concat()
}

fn certificates(certificates: &[&[u8]]) -> Vec<u8> {
    let length = |len: usize| (len as u32).to_be_bytes()[1..].to_vec();
    let list: Vec<u8> =
        certificates.iter().flat_map(|der| [length(der.len()), der.to_vec()].concat()).collect();
    message(CERTIFICATE, &[length(list.len()), list].concat())
}

fn hash(der: &[u8]) -> Certificate {
    Certificate::Sha1(CertificateHash(Sha1::digest(der).into()))
}

/// ServerHello of TLS 1.2, certificate and the end, without records.
pub(in crate::inspect) fn flight(der: &[u8]) -> Vec<u8> {
    let hello = hello_body(32, &[(0xff01, &[0]), (0, &[]), (11, &[3, 0, 1, 2])]);
    let chain = certificates(&[der, b"issuer"]);
    [message(SERVER_HELLO, &hello), chain, message(14, &[])].concat()
}

#[test]
fn a_hello_and_the_first_certificate_are_read_over_any_record_borders_at_any_length() {
    let der: Vec<u8> = (0..700_u32).map(|n| n as u8).collect();
    let content = flight(&der);
    for size in [1, 2, 3, 5, 40, 100, 719, 1 << 14] {
        let bytes = records(&content, size);
        let whole = server_hello(&bytes);
        let ServerAnswer::Hello(hello, certificate) = whole else { panic!("{whole:?}") };
        assert_eq!((hello.legacy_version, hello.version, hello.cipher), (0x0303, 0x0303, 0xc02f));
        assert_eq!(hello.extensions(), [0xff01, 0, 11]);
        assert_eq!(certificate, hash(&der));
        // Cut anywhere, it is the same or not there yet.
        for len in 0..bytes.len() {
            match server_hello(&bytes[..len]) {
                ServerAnswer::NeedMore => {}
                ServerAnswer::Hello(part, certificate) => {
                    assert_eq!(part, hello);
                    assert!(certificate == Certificate::NeedMore || certificate == hash(&der));
                }
                other => panic!("{len}: {other:?}"),
            }
        }
    }
}

#[test]
fn no_certificate_comes_with_tls_1_3_nor_with_a_resumed_session() {
    let body = hello_body(32, &[(43, &[3, 4]), (51, &[0; 36])]);
    let thirteen = records(&message(SERVER_HELLO, &body), 1000);
    let ServerAnswer::Hello(hello, certificate) = server_hello(&thirteen) else { panic!() };
    assert_eq!((hello.legacy_version, hello.version), (0x0303, 0x0304));
    assert_eq!(certificate, Certificate::None);

    let mut resumed = records(&message(SERVER_HELLO, &hello_body(32, &[])), 1000);
    let ServerAnswer::Hello(hello, certificate) = server_hello(&resumed) else { panic!() };
    assert!(hello.extensions().is_empty());
    assert_eq!(certificate, Certificate::NeedMore);
    resumed.extend([20, 3, 3, 0, 1, 1]);
    let ServerAnswer::Hello(_, certificate) = server_hello(&resumed) else { panic!() };
    assert_eq!(certificate, Certificate::None);
    // An anonymous suite goes on with another message.
    let anonymous = [message(SERVER_HELLO, &hello_body(0, &[])), message(12, &[1])].concat();
    let ServerAnswer::Hello(_, certificate) = server_hello(&records(&anonymous, 99)) else {
        panic!()
    };
    assert_eq!(certificate, Certificate::None);
}

#[test]
fn other_answers_are_none() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\n"[..],
        &[ALERT, 3, 3, 0, 2, 2, 40],
        &[HANDSHAKE, 2],
        &[HANDSHAKE, 3, 3, 0, 4, 1, 0, 0, 0],
    ] {
        assert_eq!(server_hello(bytes), ServerAnswer::NotTls, "{bytes:?}");
    }
    assert_eq!(server_hello(&[]), ServerAnswer::NeedMore);
}

#[test]
fn what_does_not_fit_its_lengths_is_malformed() {
    let answer = |body: &[u8]| server_hello(&records(&message(SERVER_HELLO, body), 9999));
    let body = hello_body(32, &[(0, &[]), (11, &[1, 0])]);
    let malformed = ServerAnswer::Malformed;
    for len in 0..body.len() {
        // Without extensions at all it is whole.
        let expected = if len == 70 { "Hello" } else { "Malformed" };
        assert!(format!("{:?}", answer(&body[..len])).starts_with(expected), "{len}");
    }
    assert_eq!(answer(&[&body[..], &[0]].concat()), malformed(Malformed::Trailing));
    let mut long = body.clone();
    long[34] = 33;
    assert_eq!(answer(&long), malformed(Malformed::SessionId));
    let many = vec![(7_u16, &[][..]); EXTENSIONS_MAX + 1];
    assert_eq!(answer(&hello_body(0, &many)), malformed(Malformed::TooManyExtensions));
    assert_eq!(server_hello(&[HANDSHAKE, 3, 3, 0, 0]), malformed(Malformed::EmptyRecord));
    assert_eq!(server_hello(&[HANDSHAKE, 3, 3, 0x40, 1]), malformed(Malformed::RecordTooLong));
    let huge = records(&[SERVER_HELLO, 1, 0, 1], 99);
    assert_eq!(server_hello(&huge), malformed(Malformed::HandshakeTooLong));
    // A certificate longer than its message.
    let mut chain = certificates(&[b"der"]);
    chain[9] = 200;
    let content = [message(SERVER_HELLO, &hello_body(0, &[])), chain].concat();
    assert_eq!(server_hello(&records(&content, 999)), malformed(Malformed::Overrun));
}
