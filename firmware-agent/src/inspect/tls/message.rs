//! A handshake message without records, as QUIC carries it (RFC 9001, section 4).

use super::record::{CLIENT_HELLO, MESSAGE_HEADER};
use super::{Answer, ClientHello, HANDSHAKE_MAX, HELLO_MAX, Malformed};

/// Length of the body that the header of the message at the start of `bytes` says.
fn body_len(bytes: &[u8]) -> Option<usize> {
    let [_, a, b, c] = *bytes.first_chunk::<MESSAGE_HEADER>()?;
    Some(u32::from_be_bytes([0, a, b, c]) as usize)
}

/// Whether [`message`] can say more about `bytes` than that more is needed.
#[must_use]
pub fn is_message_whole(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|kind| *kind != CLIENT_HELLO)
        || body_len(bytes).is_some_and(|len| len > HELLO_MAX || bytes.len() >= MESSAGE_HEADER + len)
}

/// Reads the ClientHello that `bytes` start with. The answer does not depend on what follows it.
#[must_use]
pub fn message(bytes: &[u8]) -> Answer<'_> {
    if bytes.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Answer::NotTls;
    }
    let Some(len) = body_len(bytes) else { return Answer::NeedMore };
    if len > HANDSHAKE_MAX {
        return Answer::Malformed(Malformed::HandshakeTooLong);
    }
    if len > HELLO_MAX {
        return Answer::Malformed(Malformed::HelloTooLong);
    }
    let Some(body) = bytes.get(MESSAGE_HEADER..MESSAGE_HEADER + len) else {
        return Answer::NeedMore;
    };
    match ClientHello::parse(body) {
        Ok(hello) => Answer::Hello(hello),
        Err(cause) => Answer::Malformed(cause),
    }
}
