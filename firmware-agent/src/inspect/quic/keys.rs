//! Keys of Initial packets and what is done with them (RFC 9001, sections 5.2 to 5.4).
//!
//! AES-128 and GCM come from a crate that uses the instructions of the processor where it has some.

use aes_gcm::aes::Aes128Enc;
use aes_gcm::aes::cipher::BlockEncrypt as _;
use aes_gcm::aes::cipher::generic_array::GenericArray;
use aes_gcm::aes::cipher::generic_array::typenum::U12;
use aes_gcm::{AeadInPlace as _, AesGcm, KeyInit as _};
use hkdf::Hkdf;
use sha2::Sha256;

use super::Version;

type Aead = AesGcm<Aes128Enc, U12>;

/// Bytes of the authentication tag.
pub(super) const TAG: usize = 16;
/// Bytes of the sample that hides the header.
const SAMPLE: usize = 16;
/// Longest packet number: the sample begins behind it whatever its length is.
const NUMBER_MAX: usize = 4;

/// What the derivation takes from the version: salt, and each label as HKDF-Expand gets it.
struct Labels {
    salt: [u8; 20],
    key: &'static [u8],
    iv: &'static [u8],
    header: &'static [u8],
}

const CLIENT: &[u8] = b"\x00\x20\x0ftls13 client in\x00";

static V1: Labels = Labels {
    salt: [
        0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c,
        0xad, 0xcc, 0xbb, 0x7f, 0x0a,
    ],
    key: b"\x00\x10\x0etls13 quic key\x00",
    iv: b"\x00\x0c\x0dtls13 quic iv\x00",
    header: b"\x00\x10\x0dtls13 quic hp\x00",
};

static V2: Labels = Labels {
    salt: [
        0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d,
        0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
    ],
    key: b"\x00\x10\x10tls13 quicv2 key\x00",
    iv: b"\x00\x0c\x0ftls13 quicv2 iv\x00",
    header: b"\x00\x10\x0ftls13 quicv2 hp\x00",
};

/// The keys of a client's Initial packets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Keys {
    pub(super) key: [u8; 16],
    pub(super) iv: [u8; 12],
    pub(super) header: [u8; 16],
}

impl Keys {
    /// The keys that follow from the destination connection id of the client's first packet.
    pub(super) fn new(version: Version, destination_id: &[u8]) -> Option<Self> {
        let labels = match version {
            Version::V1 => &V1,
            Version::V2 => &V2,
        };
        let mut keys = Self { key: [0; 16], iv: [0; 12], header: [0; 16] };
        let mut secret = [0; 32];
        // Expanding fails for lengths and hashes other than these only.
        Hkdf::<Sha256>::new(Some(&labels.salt), destination_id).expand(CLIENT, &mut secret).ok()?;
        let client = Hkdf::<Sha256>::from_prk(&secret).ok()?;
        client.expand(labels.key, &mut keys.key).ok()?;
        client.expand(labels.iv, &mut keys.iv).ok()?;
        client.expand(labels.header, &mut keys.header).ok()?;
        Some(keys)
    }

    /// The mask that hides the header of the packet `bytes`.
    fn mask(&self, bytes: &[u8], number_at: usize) -> Option<[u8; 5]> {
        let sample: &[u8; SAMPLE] = bytes.get(number_at + NUMBER_MAX..)?.first_chunk()?;
        let mut block = GenericArray::from(*sample);
        Aes128Enc::new(&GenericArray::from(self.header)).encrypt_block(&mut block);
        block.first_chunk().copied()
    }

    fn nonce(&self, number: u64) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, part) in nonce.iter_mut().skip(4).zip(number.to_be_bytes()) {
            *byte ^= part;
        }
        nonce
    }

    /// Copies a packet into `room` and takes its protection off. `largest` is the largest packet
    /// number so far. Gives the packet number and the payload; `None` when the packet was not made
    /// with these keys, or does not fit.
    pub(super) fn open<'a>(
        &self,
        bytes: &[u8],
        number_at: usize,
        largest: Option<u64>,
        room: &'a mut [u8],
    ) -> Option<(u64, &'a [u8])> {
        let [mask, number_mask @ ..] = self.mask(bytes, number_at)?;
        let room = room.get_mut(..bytes.len())?;
        room.copy_from_slice(bytes);
        let first = room.first_mut()?;
        *first ^= mask & 0x0f;
        let len = usize::from(*first & 3) + 1;
        let mut truncated = 0;
        for (byte, mask) in room.get_mut(number_at..number_at + len)?.iter_mut().zip(number_mask) {
            *byte ^= mask;
            truncated = truncated << 8 | u64::from(*byte);
        }
        let number = whole_number(largest, truncated, len as u32 * 8);
        let (header, payload) = room.split_at_mut_checked(number_at + len)?;
        let (payload, tag) = payload.split_at_mut_checked(payload.len().checked_sub(TAG)?)?;
        Aead::new(&GenericArray::from(self.key))
            .decrypt_in_place_detached(
                &GenericArray::from(self.nonce(number)),
                header,
                payload,
                GenericArray::from_slice(tag),
            )
            .ok()?;
        Some((number, payload))
    }
}

/// The packet number whose last `bits` are `truncated` and that is nearest to the one after
/// `largest` (RFC 9000, appendix A.3).
pub(super) const fn whole_number(largest: Option<u64>, truncated: u64, bits: u32) -> u64 {
    let expected = match largest {
        Some(largest) => largest + 1,
        None => 0,
    };
    let window = 1_u64 << bits;
    let candidate = expected & !(window - 1) | truncated;
    if candidate + window / 2 <= expected && candidate < (1 << 62) - window {
        candidate + window
    } else if candidate > expected + window / 2 && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

/// Protects a packet of a client: the inverse of reading one. `header` ends with the packet number,
/// whose length its first byte says.
#[cfg(any(test, fuzzing))]
#[must_use]
pub fn seal(
    version: Version,
    keys_from: &[u8],
    header: &[u8],
    number: u64,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let keys = Keys::new(version, keys_from)?;
    let len = usize::from(header.first()? & 3) + 1;
    let number_at = header.len().checked_sub(len)?;
    let mut bytes = [header, payload].concat();
    let tag = Aead::new(&GenericArray::from(keys.key))
        .encrypt_in_place_detached(
            &GenericArray::from(keys.nonce(number)),
            header,
            bytes.get_mut(header.len()..)?,
        )
        .ok()?;
    bytes.extend(tag);
    let [mask, number_mask @ ..] = keys.mask(&bytes, number_at)?;
    *bytes.first_mut()? ^= mask & 0x0f;
    for (byte, mask) in bytes.get_mut(number_at..number_at + len)?.iter_mut().zip(number_mask) {
        *byte ^= mask;
    }
    Some(bytes)
}
