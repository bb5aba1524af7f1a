//! Packet protection: from a level's secret to the keys that quinn encrypts packets and headers with.
//!
//! As RFC 9001 does it, with BLAKE3 in the place of HKDF and little-endian packet numbers in the nonce.

use aws_lc_rs::aead;
use bytes::BytesMut;
use quinn_proto::ConnectionId;
use quinn_proto::crypto::{
    AeadKey, CryptoError, HandshakeTokenKey, HeaderKey, HmacKey, KeyPair, Keys, PacketKey,
};
use zeroize::Zeroizing;

use crate::suite::PacketCipher;

const TAG_BYTES: usize = 16;
const SAMPLE_BYTES: usize = 16;

/// The secrets of both directions at one level.
pub(super) struct DirectionSecrets {
    client: Zeroizing<[u8; 32]>,
    server: Zeroizing<[u8; 32]>,
}

impl DirectionSecrets {
    pub(super) fn of_level(level: &[u8; 32]) -> Self {
        Self {
            client: derive("holocompute net v1 client to server", level),
            server: derive("holocompute net v1 server to client", level),
        }
    }

    /// Moves both directions one key phase on; header keys stay.
    pub(super) fn update(&mut self) {
        self.client = derive("holocompute net v1 key update", &self.client);
        self.server = derive("holocompute net v1 key update", &self.server);
    }

    pub(super) fn packet_keys(
        &self,
        cipher: PacketCipher,
        client: bool,
    ) -> KeyPair<Box<dyn PacketKey>> {
        let (local, remote) = self.local_and_remote(client);
        KeyPair {
            local: Box::new(PacketProtection::new(cipher, local)),
            remote: Box::new(PacketProtection::new(cipher, remote)),
        }
    }

    pub(super) fn keys(&self, cipher: PacketCipher, client: bool) -> Keys {
        let (local, remote) = self.local_and_remote(client);
        Keys {
            header: KeyPair {
                local: Box::new(HeaderProtection::new(cipher, local)),
                remote: Box::new(HeaderProtection::new(cipher, remote)),
            },
            packet: self.packet_keys(cipher, client),
        }
    }

    fn local_and_remote(&self, client: bool) -> (&[u8; 32], &[u8; 32]) {
        if client { (&self.client, &self.server) } else { (&self.server, &self.client) }
    }
}

/// Keys of Initial packets: public, as in QUIC itself; they only keep accidents out.
pub(crate) fn initial_keys(destination: &ConnectionId, client: bool) -> Keys {
    let mut hasher = blake3::Hasher::new_derive_key("holocompute net v1 initial level");
    hasher.update(destination);
    DirectionSecrets::of_level(hasher.finalize().as_bytes()).keys(PacketCipher::Aes256Gcm, client)
}

/// Integrity tag of a Retry packet: its key is public too, as in RFC 9001 section 5.8.
pub(super) fn retry_tag(original_destination: &ConnectionId, packet: &[&[u8]]) -> [u8; TAG_BYTES] {
    let key = blake3::derive_key("holocompute net v1 retry integrity", b"");
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(&(original_destination.len() as u64).to_le_bytes()).update(original_destination);
    for part in packet {
        hasher.update(part);
    }
    let mut tag = [0; TAG_BYTES];
    hasher.finalize_xof().fill(&mut tag);
    tag
}

/// AEAD of packets in one direction and key phase. The cipher's key schedule is done once, here.
struct PacketProtection {
    key: aead::LessSafeKey,
    iv: [u8; 12],
    confidentiality_limit: u64,
    integrity_limit: u64,
}

impl PacketProtection {
    fn new(cipher: PacketCipher, secret: &[u8; 32]) -> Self {
        let mut material = Zeroizing::new([0; 44]);
        blake3::Hasher::new_derive_key("holocompute net v1 packet key and iv")
            .update(secret)
            .finalize_xof()
            .fill(&mut *material);
        // RFC 9001 section 6.6 and appendix B: packets to seal and forgeries to bear before the keys must change.
        let (algorithm, confidentiality_limit, integrity_limit) = match cipher {
            PacketCipher::Aes256Gcm => (&aead::AES_256_GCM, 1 << 23, 1 << 52),
            PacketCipher::ChaCha20Poly1305 => (&aead::CHACHA20_POLY1305, u64::MAX, 1 << 36),
        };
        let key =
            aead::UnboundKey::new(algorithm, &material[..32]).expect("both ciphers take 32 bytes");
        let mut iv = [0; 12];
        iv.copy_from_slice(&material[32..]);
        Self { key: aead::LessSafeKey::new(key), iv, confidentiality_limit, integrity_limit }
    }

    fn nonce(&self, packet: u64) -> aead::Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(packet.to_le_bytes()) {
            *byte ^= number;
        }
        aead::Nonce::assume_unique_for_key(nonce)
    }
}

impl PacketKey for PacketProtection {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let (header, rest) = buf.split_at_mut(header_len);
        let (payload, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
        let sealed = self
            .key
            .seal_in_place_separate_tag(self.nonce(packet), aead::Aad::from(&*header), payload)
            .expect("a datagram is far below the cipher's length limit");
        tag.copy_from_slice(sealed.as_ref());
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        let opened = self
            .key
            .open_in_place(self.nonce(packet), aead::Aad::from(header), payload)
            .or(Err(CryptoError))?
            .len();
        payload.truncate(opened);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    fn confidentiality_limit(&self) -> u64 {
        self.confidentiality_limit
    }

    fn integrity_limit(&self) -> u64 {
        self.integrity_limit
    }
}

struct HeaderProtection(aead::quic::HeaderProtectionKey);

impl HeaderProtection {
    fn new(cipher: PacketCipher, secret: &[u8; 32]) -> Self {
        let key = derive("holocompute net v1 header protection", secret);
        let algorithm = match cipher {
            PacketCipher::Aes256Gcm => &aead::quic::AES_256,
            PacketCipher::ChaCha20Poly1305 => &aead::quic::CHACHA20,
        };
        Self(aead::quic::HeaderProtectionKey::new(algorithm, &*key).expect("both take 32 bytes"))
    }

    fn mask(&self, packet_number_offset: usize, packet: &[u8]) -> [u8; 5] {
        let start = packet_number_offset + 4;
        self.0.new_mask(&packet[start..start + SAMPLE_BYTES]).expect("the sample has 16 bytes")
    }
}

impl HeaderKey for HeaderProtection {
    fn decrypt(&self, pn_offset: usize, packet: &mut [u8]) {
        let mask = self.mask(pn_offset, packet);
        packet[0] ^= mask[0] & masked_bits(packet[0]);
        // The length of the packet number is readable only now that the first byte is bare.
        let len = packet_number_len(packet[0]);
        xor(&mut packet[pn_offset..pn_offset + len], &mask[1..]);
    }

    fn encrypt(&self, pn_offset: usize, packet: &mut [u8]) {
        let mask = self.mask(pn_offset, packet);
        let len = packet_number_len(packet[0]);
        packet[0] ^= mask[0] & masked_bits(packet[0]);
        xor(&mut packet[pn_offset..pn_offset + len], &mask[1..]);
    }

    fn sample_size(&self) -> usize {
        SAMPLE_BYTES
    }
}

/// Long headers hide four bits of the first byte, short ones five.
fn masked_bits(first: u8) -> u8 {
    if first & 0x80 == 0 { 0x1f } else { 0x0f }
}

fn packet_number_len(first: u8) -> usize {
    usize::from(first & 3) + 1
}

fn xor(bytes: &mut [u8], mask: &[u8]) {
    for (byte, mask) in bytes.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Signs stateless resets; the same after a restart, so that peers of the old process learn that it is gone.
pub(crate) struct ResetKey(pub(crate) Zeroizing<[u8; 32]>);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        blake3::Hasher::new_keyed(&self.0).update(data).finalize_xof().fill(signature_out);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let theirs: [u8; blake3::OUT_LEN] = signature.try_into().or(Err(CryptoError))?;
        // Comparing hashes of the blake3 crate takes constant time.
        if blake3::keyed_hash(&self.0, data) == theirs { Ok(()) } else { Err(CryptoError) }
    }
}

/// Seals address-validation tokens.
pub(crate) struct TokenKey(pub(crate) Zeroizing<[u8; 32]>);

impl HandshakeTokenKey for TokenKey {
    fn aead_from_hkdf(&self, random_bytes: &[u8]) -> Box<dyn AeadKey> {
        let key = blake3::keyed_hash(&self.0, random_bytes);
        let key =
            aead::UnboundKey::new(&aead::AES_256_GCM, key.as_bytes()).expect("it takes 32 bytes");
        Box::new(TokenSeal(aead::LessSafeKey::new(key)))
    }
}

/// Each of these keys seals one token, so the nonce may be constant.
struct TokenSeal(aead::LessSafeKey);

impl AeadKey for TokenSeal {
    fn seal(&self, data: &mut Vec<u8>, additional_data: &[u8]) -> Result<(), CryptoError> {
        self.0
            .seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key([0; 12]),
                aead::Aad::from(additional_data),
                data,
            )
            .or(Err(CryptoError))
    }

    fn open<'a>(
        &self,
        data: &'a mut [u8],
        additional_data: &[u8],
    ) -> Result<&'a mut [u8], CryptoError> {
        self.0
            .open_in_place(
                aead::Nonce::assume_unique_for_key([0; 12]),
                aead::Aad::from(additional_data),
                data,
            )
            .or(Err(CryptoError))
    }
}

fn derive(context: &str, secret: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(blake3::derive_key(context, secret))
}
