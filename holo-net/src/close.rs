//! How a connection's end crosses the wire, and what callers hear of it.

use bytes::Bytes;
use holo_core::wire::{Decode, FailureBody};
use holo_core::{ErrorCode, Failure};
use prost::Message;
use quinn::{ConnectionError, TransportErrorCode, VarInt};

use crate::handshake::Refusal;

/// Bytes of a close reason: it must fit into one small packet beside its headers.
const REASON_BYTES_MAX: usize = 900;
/// Bytes of the message in a close reason that is too long as a whole.
const MESSAGE_BYTES_MAX: usize = 600;

/// The code and reason that carry a failure in a CONNECTION_CLOSE frame.
pub(crate) fn close_frame(failure: &Failure) -> (VarInt, Bytes) {
    let mut body = FailureBody::from(failure.clone());
    if body.encoded_len() > REASON_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|at| body.message.is_char_boundary(*at));
        body.message.truncate(end.unwrap_or(0));
        body.help = None;
    }
    (VarInt::from_u32(body.code), Bytes::from(body.encode_to_vec()))
}

/// What callers hear when a connection has ended with this error.
pub(crate) fn failure_of(error: &ConnectionError) -> Failure {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            application_failure(close.error_code, &close.reason)
        }
        ConnectionError::ConnectionClosed(close) => {
            transport_failure(close.error_code, "the peer closed the connection")
        }
        ConnectionError::TransportError(error) => {
            transport_failure(error.code, &format!("the peer broke the protocol: {error}"))
        }
        ConnectionError::VersionMismatch => Failure::new(
            ErrorCode::VersionMismatch,
            "the peer speaks no transport version that we do",
        )
        .help("run the same release on both sides"),
        ConnectionError::Reset => Failure::new(ErrorCode::ConnectionLost, "the peer was restarted"),
        ConnectionError::TimedOut => Failure::new(
            ErrorCode::ConnectionLost,
            "the peer fell silent for longer than the idle timeout",
        ),
        ConnectionError::LocallyClosed => {
            Failure::new(ErrorCode::ConnectionLost, "this side closed the connection")
        }
        ConnectionError::CidsExhausted => {
            Failure::new(ErrorCode::Internal, "no connection ids are left")
        }
    }
}

fn application_failure(code: VarInt, reason: &[u8]) -> Failure {
    let stated = u32::try_from(code.into_inner()).ok();
    match FailureBody::decode_body(reason) {
        Ok(body) if body.code != 0 && Some(body.code) == stated => Failure::from(body),
        _ => Failure::new(
            ErrorCode::ConnectionLost,
            "the peer closed the connection without a reason",
        ),
    }
}

fn transport_failure(code: TransportErrorCode, otherwise: &str) -> Failure {
    let number = u64::from(code);
    if let Some(failure) = number.checked_sub(0x100).and_then(Refusal::failure_of_alert) {
        return failure;
    }
    if code == TransportErrorCode::CONNECTION_REFUSED {
        return Failure::new(ErrorCode::Overloaded, "the peer takes no more connections now")
            .retry_after_ms(200);
    }
    Failure::new(ErrorCode::ConnectionLost, otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_close_frame() {
        let failure = Failure::new(ErrorCode::Denied, "key 12ab is not registered")
            .help("run `holo key add`")
            .retry_after_ms(7);
        let (code, reason) = close_frame(&failure);
        assert_eq!(application_failure(code, &reason), failure);
    }

    #[test]
    fn a_long_failure_is_cut_to_fit_one_packet() {
        let failure = Failure::new(ErrorCode::Denied, "ä".repeat(5000)).help("b".repeat(5000));
        let (code, reason) = close_frame(&failure);
        assert!(reason.len() <= REASON_BYTES_MAX);
        let heard = application_failure(code, &reason);
        assert_eq!(heard.code, ErrorCode::Denied);
        assert!(failure.message.starts_with(&heard.message) && heard.message.len() >= 598);
    }

    #[test]
    fn a_reason_that_is_no_failure_of_ours_is_a_lost_connection() {
        for (code, reason) in [(1302u32, &b"\xff\xff"[..]), (0, b""), (7, b"bye")] {
            let failure = application_failure(VarInt::from_u32(code), reason);
            assert_eq!(failure.code, ErrorCode::ConnectionLost);
        }
    }
}
