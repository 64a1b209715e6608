//! The keys of a feed: Ed25519 in the form of signify for opkg (whose usign reads no passwords), ECDSA on P-256 in PEM
//! for apk.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use base64ct::{Base64, Encoding as _};
use ed25519_dalek::Signer as _;
use p256::SecretKey;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use sha2::{Digest as _, Sha512};

use super::super::apk::hex;

/// Files of the keys' directory.
pub(super) const OPKG_SECRET: &str = "opkg.sec";
pub(super) const OPKG_PUBLIC: &str = "opkg.pub";
pub(super) const APK_SECRET: &str = "apk.sec.pem";
pub(super) const APK_PUBLIC: &str = "apk.pem";

/// Ed25519, in all three kinds of file.
const ALGORITHM: &[u8; 2] = b"Ed";
/// How the secret would be derived from a password; with no rounds it is not.
const DERIVATION: &[u8; 6] = b"BK\0\0\0\0";
const COMMENT: &str = "untrusted comment: ";

/// Both secrets.
pub(super) struct Keys {
    opkg: ed25519_dalek::SigningKey,
    /// By which usign finds the public one; random.
    fingerprint: [u8; 8],
    apk: SecretKey,
}

impl Keys {
    /// New ones.
    pub(super) fn random() -> Result<Self> {
        let mut random = std::fs::File::open("/dev/urandom")?;
        let mut bytes = [0; 72];
        random.read_exact(&mut bytes)?;
        Self::from_random(&bytes)
    }

    /// Those that come of these bytes. A number that is no key of P-256 is drawn once in four billion times.
    pub(super) fn from_random(bytes: &[u8; 72]) -> Result<Self> {
        let (fingerprint, rest) = bytes.split_first_chunk().context("too few bytes")?;
        let (opkg, rest) = rest.split_first_chunk().context("too few bytes")?;
        Ok(Self {
            opkg: ed25519_dalek::SigningKey::from_bytes(opkg),
            fingerprint: *fingerprint,
            apk: SecretKey::from_slice(rest).context("not a key, try again")?,
        })
    }

    /// Reads what [`Self::save`] or usign and openssl have written.
    pub(super) fn load(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read_to_string(&path)
                .with_context(|| format!("could not read {}: cargo xtask key", path.display()))
        };
        let (opkg, fingerprint) =
            secret(&read(OPKG_SECRET)?).with_context(|| format!("{OPKG_SECRET} is no key"))?;
        let pem = read(APK_SECRET)?;
        let apk = SecretKey::from_pkcs8_pem(&pem)
            .or_else(|_| SecretKey::from_sec1_pem(&pem))
            .with_context(|| format!("{APK_SECRET} is no key of P-256"))?;
        Ok(Self { opkg, fingerprint, apk })
    }

    /// Writes four files. Keys that are there stay: routers trust them.
    pub(super) fn save(&self, directory: &Path) -> Result<()> {
        let names = [OPKG_SECRET, OPKG_PUBLIC, APK_SECRET, APK_PUBLIC];
        if let Some(name) = names.iter().find(|name| directory.join(name).exists()) {
            bail!("{} is there already", directory.join(name).display());
        }
        std::fs::create_dir_all(directory)?;
        let name = self.opkg_name();
        let pair = self.opkg.to_keypair_bytes();
        let sum = Sha512::digest(pair);
        let secret = [
            ALGORITHM.as_slice(),
            DERIVATION,
            // What would be mixed into a password.
            &[0; 16],
            sum.get(..8).context("a short digest")?,
            &self.fingerprint,
            &pair,
        ];
        let verifying = self.opkg.verifying_key();
        let public = [ALGORITHM.as_slice(), &self.fingerprint, verifying.as_bytes()];
        let files = [
            (OPKG_SECRET, 0o600, lines(&format!("private key {name}"), &secret.concat())),
            (OPKG_PUBLIC, 0o644, lines(&format!("public key {name}"), &public.concat())),
            (APK_SECRET, 0o600, self.apk.to_pkcs8_pem(LineEnding::LF)?.to_string()),
            (APK_PUBLIC, 0o644, self.apk.public_key().to_public_key_pem(LineEnding::LF)?),
        ];
        for (name, mode, content) in files {
            let mut options = std::fs::OpenOptions::new();
            let mut file =
                options.write(true).create_new(true).mode(mode).open(directory.join(name))?;
            file.write_all(content.as_bytes())?;
        }
        Ok(())
    }

    /// The name of the public key's file where opkg looks for it.
    pub(super) fn opkg_name(&self) -> String {
        hex(&self.fingerprint)
    }

    /// A signature for `usign -V`.
    pub(super) fn sign_opkg(&self, message: &[u8]) -> String {
        let signature = self.opkg.sign(message).to_bytes();
        let bytes = [ALGORITHM.as_slice(), &self.fingerprint, &signature].concat();
        lines(&format!("signed by key {}", self.opkg_name()), &bytes)
    }

    /// How apk knows a key: the beginning of the digest of its uncompressed point.
    pub(super) fn apk_id(&self) -> Result<[u8; 16]> {
        let point = self.apk.public_key().to_encoded_point(false);
        let digest = Sha512::digest(point.as_bytes());
        Ok(*digest.first_chunk().context("a short digest")?)
    }

    /// A signature in DER over the SHA-512 of a message; the same each time.
    pub(super) fn sign_apk(&self, message: &[u8]) -> Result<Vec<u8>> {
        let key = p256::ecdsa::SigningKey::from(&self.apk);
        let signature: p256::ecdsa::Signature = key.sign_prehash(&Sha512::digest(message))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

/// A file of signify: a comment, and what it is about.
fn lines(comment: &str, bytes: &[u8]) -> String {
    format!("{COMMENT}{comment}\n{}\n", Base64::encode_string(bytes))
}

/// The key and the fingerprint of a secret that has no password.
fn secret(text: &str) -> Result<(ed25519_dalek::SigningKey, [u8; 8])> {
    let mut lines = text.lines();
    ensure!(lines.next().is_some_and(|line| line.starts_with(COMMENT)), "no comment");
    let bytes = Base64::decode_vec(lines.next().context("one line")?.trim())
        .ok()
        .context("not in base64")?;
    let bytes: &[u8; 104] = bytes.as_slice().try_into().context("another size")?;
    let (head, rest) = bytes.split_at(8);
    ensure!(head.starts_with(ALGORITHM), "another algorithm");
    ensure!(head.ends_with(DERIVATION), "it has a password, and usign reads none");
    let (salt_and_sum, rest) = rest.split_at(24);
    let (fingerprint, pair) = rest.split_first_chunk().context("too short")?;
    let pair: &[u8; 64] = pair.try_into().context("too short")?;
    let sum = Sha512::digest(pair);
    ensure!(salt_and_sum.get(16..) == sum.get(..8), "its sum is wrong");
    Ok((ed25519_dalek::SigningKey::from_keypair_bytes(pair)?, *fingerprint))
}
