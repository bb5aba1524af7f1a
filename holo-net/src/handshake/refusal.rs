//! Why a handshake ends early: one byte on the wire, a full sentence for the side that decided.

use holo_core::{ClusterId, ErrorCode, Failure, PublicKey, Role, UnixMillis};

use crate::Expected;

/// A reason to end a handshake. The peer gets its number only: it may not be anybody yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Bytes that are no message of this step.
    Malformed,
    /// The suite that the initiator named is not accepted here.
    Suite,
    /// A Noise message did not open: tampered with, or of another prologue.
    Cipher,
    /// The certificate does not hold.
    Certificate,
    /// The certificate has expired.
    Expired {
        /// When it did.
        not_after: UnixMillis,
    },
    /// The peer belongs to another cluster.
    Cluster {
        /// Its cluster.
        theirs: ClusterId,
    },
    /// The peer is not the one that was dialled.
    Identity {
        /// Its key.
        theirs: PublicKey,
    },
    /// The peer has another role than the one that was dialled.
    Role {
        /// Its role.
        theirs: Role,
    },
    /// The peer speaks another application protocol.
    Protocol,
    /// Our own primitives failed.
    Internal,
}

impl Refusal {
    /// Its number as a QUIC crypto error: 0x140 and up, so that it is never taken for a TLS alert.
    pub(crate) fn alert(self) -> u8 {
        match self {
            Self::Malformed => 0x40,
            Self::Suite => 0x41,
            Self::Cipher => 0x42,
            Self::Certificate => 0x43,
            Self::Expired { .. } => 0x44,
            Self::Cluster { .. } => 0x45,
            Self::Identity { .. } => 0x46,
            Self::Role { .. } => 0x47,
            Self::Protocol => 0x48,
            Self::Internal => 0x49,
        }
    }

    /// What the side that refused tells its caller.
    pub(crate) fn failure(self, own_cluster: ClusterId, expected: Option<Expected>) -> Failure {
        let expected_key = expected.and_then(|expected| expected.key);
        match self {
            Self::Malformed => {
                Failure::new(ErrorCode::Malformed, "the peer's handshake message does not decode")
            }
            Self::Suite => Failure::new(
                ErrorCode::SuiteRefused,
                "the peer's cipher suite is not accepted here",
            ),
            Self::Cipher => Failure::new(
                ErrorCode::Unauthenticated,
                "a handshake message did not open: it was changed on its way, or the peer means another handshake",
            ),
            Self::Certificate => {
                Failure::new(ErrorCode::Unauthenticated, "the peer's certificate does not hold")
            }
            Self::Expired { not_after } => Failure::new(
                ErrorCode::CertificateExpired,
                format!("the peer's certificate ended at {} ms since 1970", not_after.0),
            )
            .help("check the clocks of both machines"),
            Self::Cluster { theirs } => Failure::new(
                ErrorCode::ClusterMismatch,
                format!(
                    "the peer belongs to cluster {}, this side to {}",
                    theirs.short(),
                    own_cluster.short()
                ),
            ),
            Self::Identity { theirs } => Failure::new(
                ErrorCode::IdentityMismatch,
                format!(
                    "the peer is {}, expected was {}",
                    theirs.short(),
                    expected_key.map_or_else(|| "another".to_owned(), |key| key.short())
                ),
            ),
            Self::Role { theirs } => Failure::new(
                ErrorCode::IdentityMismatch,
                format!("the peer is a {theirs}, which is not the role that was dialled"),
            ),
            Self::Protocol => Failure::new(
                ErrorCode::VersionMismatch,
                "the peer speaks another application protocol",
            ),
            Self::Internal => {
                Failure::new(ErrorCode::Internal, "the handshake's primitives failed")
            }
        }
    }

    /// What the refused side tells its caller, from the number alone; `None` when it is no number of ours.
    pub(crate) fn failure_of_alert(alert: u64) -> Option<Failure> {
        let (code, message) = match alert {
            0x40 => (ErrorCode::Malformed, "the peer could not decode our handshake message"),
            0x41 => (ErrorCode::SuiteRefused, "the peer does not accept our cipher suite"),
            0x42 => (
                ErrorCode::Unauthenticated,
                "our handshake message did not open at the peer: it was changed on its way",
            ),
            0x43 => (ErrorCode::Unauthenticated, "the peer does not accept our certificate"),
            0x44 => {
                (ErrorCode::CertificateExpired, "our certificate has expired by the peer's clock")
            }
            0x45 => (ErrorCode::ClusterMismatch, "the peer belongs to another cluster than we do"),
            0x46 => (ErrorCode::IdentityMismatch, "the peer expected somebody else"),
            0x47 => (ErrorCode::IdentityMismatch, "the peer expected another role than ours"),
            0x48 => {
                (ErrorCode::VersionMismatch, "the peer does not speak our application protocol")
            }
            0x49 => (ErrorCode::Internal, "the peer's handshake primitives failed"),
            _ => return None,
        };
        Some(Failure::new(code, message))
    }
}
