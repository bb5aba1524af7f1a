//! The cipher suites: closed list, one byte each on the wire, named in full wherever people see them.

use std::fmt;

use holo_core::{ErrorCode, Failure};
use snow::params::{
    BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifierList, HandshakePattern,
    HashChoice, KemChoice, NoiseParams,
};

/// Which handshake and which packet cipher a connection uses.
///
/// The initiator names one; the responder takes it or refuses. Nothing is negotiated, so nothing can be negotiated
/// down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Suite {
    /// X25519 with ML-KEM-768; packets in AES-256-GCM. The default on machines with AES instructions.
    HybridAes256 = 1,
    /// X25519 with ML-KEM-768; packets in ChaCha20-Poly1305, for machines without AES instructions.
    HybridChaCha20 = 2,
    /// X25519 alone; packets in AES-256-GCM. Not safe against a quantum computer: only where a config names it.
    ClassicalAes256 = 0xc1,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 3] = [Self::HybridAes256, Self::HybridChaCha20, Self::ClassicalAes256];

    /// The suites that are safe against a quantum computer that records today: what an endpoint accepts by default.
    pub const HYBRID: [Self; 2] = [Self::HybridAes256, Self::HybridChaCha20];

    /// The name in full: the Noise protocol, and the cipher of the packets.
    pub fn name(self) -> &'static str {
        match self {
            Self::HybridAes256 => "Noise_XXhfs_25519+ML-KEM-768_ChaChaPoly_SHA256 / AES-256-GCM",
            Self::HybridChaCha20 => {
                "Noise_XXhfs_25519+ML-KEM-768_ChaChaPoly_SHA256 / ChaCha20-Poly1305"
            }
            Self::ClassicalAes256 => "Noise_XX_25519_ChaChaPoly_SHA256 / AES-256-GCM",
        }
    }

    /// The name as it stands in config files.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::HybridAes256 => "hybrid-aes-256",
            Self::HybridChaCha20 => "hybrid-chacha20",
            Self::ClassicalAes256 => "classical-aes-256",
        }
    }

    /// Reads a short or full name.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] for any other text, with the names there are.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        Self::ALL.into_iter().find(|suite| text == suite.short_name() || text == suite.name()).ok_or_else(|| {
            Failure::new(ErrorCode::ConfigInvalid, format!("{text:?} is no cipher suite"))
                .help("use hybrid-aes-256, hybrid-chacha20 or, where you accept its risk, classical-aes-256")
        })
    }

    pub(crate) fn to_byte(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.to_byte() == byte)
    }

    pub(crate) fn cipher(self) -> PacketCipher {
        match self {
            Self::HybridAes256 | Self::ClassicalAes256 => PacketCipher::Aes256Gcm,
            Self::HybridChaCha20 => PacketCipher::ChaCha20Poly1305,
        }
    }

    pub(crate) fn is_hybrid(self) -> bool {
        matches!(self, Self::HybridAes256 | Self::HybridChaCha20)
    }

    /// What snow needs. The protocol name is free text there and is hashed into the handshake, so it is ours; the
    /// enum value of the KEM is only a placeholder, since the resolver decides what it means.
    pub(crate) fn noise_params(self) -> NoiseParams {
        let modifiers =
            if self.is_hybrid() { vec![snow::params::HandshakeModifier::Hfs] } else { Vec::new() };
        let name = self.name().split(" / ").next().unwrap_or_default();
        NoiseParams::new(
            name.to_owned(),
            BaseChoice::Noise,
            HandshakeChoice {
                pattern: HandshakePattern::XX,
                modifiers: HandshakeModifierList { list: modifiers },
            },
            DHChoice::Curve25519,
            self.is_hybrid().then_some(KemChoice::Kyber1024),
            CipherChoice::ChaChaPoly,
            HashChoice::SHA256,
        )
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The cipher of packets after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketCipher {
    Aes256Gcm,
    ChaCha20Poly1305,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back_and_others_are_refused() {
        for suite in Suite::ALL {
            assert_eq!(Suite::parse(suite.name()), Ok(suite));
            assert_eq!(Suite::parse(suite.short_name()), Ok(suite));
            assert_eq!(Suite::from_byte(suite.to_byte()), Some(suite));
        }
        for bad in ["", "tls", "hybrid", "HYBRID-AES-256"] {
            assert_eq!(Suite::parse(bad).unwrap_err().code, ErrorCode::ConfigInvalid, "{bad:?}");
        }
        assert_eq!(Suite::from_byte(0), None);
    }

    #[test]
    fn the_hashed_protocol_name_is_the_one_that_people_see() {
        assert_eq!(
            Suite::HybridAes256.noise_params().name,
            "Noise_XXhfs_25519+ML-KEM-768_ChaChaPoly_SHA256"
        );
        assert_eq!(Suite::ClassicalAes256.noise_params().name, "Noise_XX_25519_ChaChaPoly_SHA256");
    }
}
