//! ClientHellos made by hand: any size, any name, or wrong on purpose.

/// A ClientHello (RFC 8446, section 4.1.2) for `name`, filled up with a padding extension
/// (RFC 7685) so that the record is at least `size` bytes long.
#[must_use]
pub fn client_hello(name: &str, size: usize) -> Vec<u8> {
    let mut extensions = Vec::new();
    let host = name.as_bytes();
    let mut names = vec![0];
    names.extend_from_slice(&prefixed(host));
    extension(&mut extensions, 0, &prefixed(&names));
    // supported_groups: x25519; signature_algorithms: ecdsa_secp256r1_sha256.
    extension(&mut extensions, 10, &[0, 2, 0, 0x1d]);
    extension(&mut extensions, 13, &[0, 2, 0x04, 0x03]);
    // ALPN: h2.
    extension(&mut extensions, 16, &[0, 3, 2, b'h', b'2']);
    // supported_versions: TLS 1.3.
    extension(&mut extensions, 43, &[2, 0x03, 0x04]);

    let mut body = vec![0x03, 0x03];
    body.extend_from_slice(&[0x5a; 32]);
    body.push(0);
    // Cipher suites: TLS_AES_128_GCM_SHA256 and TLS_AES_256_GCM_SHA384; null compression.
    body.extend_from_slice(&[0, 4, 0x13, 0x01, 0x13, 0x02, 1, 0]);
    // Record, handshake and extension lengths are eleven bytes of headers.
    let without = 5 + 4 + body.len() + 2 + extensions.len();
    if let Some(padding) = size.checked_sub(without + 4) {
        extension(&mut extensions, 21, &vec![0; padding]);
    }
    body.extend_from_slice(&prefixed(&extensions));

    let mut record = vec![0x16, 0x03, 0x01];
    record.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
    record.extend_from_slice(&[1, 0]);
    record.extend_from_slice(&prefixed(&body));
    record
}

/// JA4 of every [`client_hello`] that is not padded.
///
/// Computed from the published definition by hand and with sha256sum, not with the code under test.
pub const JA4: &str = "t13d0205h2_62ed6f6ca7ad_9a0586ea5dd0";
/// JA4 of every [`client_hello`] that is padded.
pub const JA4_PADDED: &str = "t13d0206h2_62ed6f6ca7ad_512672a2931d";

/// A record that claims to be a ClientHello and is not: its cipher suites end behind the message.
#[must_use]
pub fn malformed(name: &str) -> Vec<u8> {
    let mut record = client_hello(name, 0);
    // Length of the cipher suites, behind record (5), handshake (4), version (2), random (32)
    // and the empty session (1).
    record[44..46].copy_from_slice(&[0xff, 0xfe]);
    record
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

fn extension(out: &mut Vec<u8>, kind: u16, body: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&prefixed(body));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_agree_and_padding_reaches_the_size() {
        for size in [0, 517, 1500, 4096, 16000] {
            let hello = client_hello("padded.test", size);
            assert!(hello.len() == size || size == 0, "{} for {size}", hello.len());
            assert_eq!(usize::from(u16::from_be_bytes([hello[3], hello[4]])), hello.len() - 5);
            let message = u32::from_be_bytes([0, hello[6], hello[7], hello[8]]);
            assert_eq!(message as usize, hello.len() - 9);
            // Version, random, session, ciphers, compression: extensions reach the end.
            let at = 9 + 2 + 32 + 1 + 6 + 2;
            let extensions = usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
            assert_eq!(at + 2 + extensions, hello.len());
        }
    }

    #[test]
    fn a_malformed_hello_differs_only_in_a_length_that_cannot_be() {
        let (good, bad) = (client_hello("x.test", 0), malformed("x.test"));
        let different: Vec<usize> = (0..good.len()).filter(|&i| good[i] != bad[i]).collect();
        assert_eq!(different, [44, 45]);
        assert_eq!(good[44..46], [0, 4]);
    }
}
