//! A stream of bytes cut into messages.

use super::blob::Malformed;
use super::message;

/// Bytes that have come and are not a whole message yet. Holds no more than came.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The next whole message. After a mistake nothing in the stream can be believed.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        match message::frame_len(&self.bytes)? {
            Some(len) if len <= self.bytes.len() => {
                let rest = self.bytes.split_off(len);
                Ok(Some(std::mem::replace(&mut self.bytes, rest)))
            }
            _ => Ok(None),
        }
    }
}
