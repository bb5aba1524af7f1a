//! What a worker and its parent say to each other, over a pair of pipes.
//!
//! A frame is the head's length and the payload's length, each a little-endian `u32`, then the head (protobuf), then
//! the payload (raw bytes of array elements). The worker answers every request with one frame, in order. Neither side
//! trusts the other's lengths.

use prost::Message;

use crate::GpuError;
use crate::report::{AdapterReport, Capabilities, DeviceType};

/// Bytes of the two lengths.
pub(crate) const PREFIX_BYTES: usize = 8;
/// Bytes of a head: a kernel of the largest expression and its constants fit several times.
pub(crate) const HEAD_BYTES_MAX: usize = 1 << 20;
/// Bytes of a payload: the inputs or the results of one launch.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// What the parent asks for.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    /// A kernel to run; without one the worker reports its adapter.
    #[prost(message, optional, tag = "1")]
    pub(crate) run: Option<Run>,
}

/// One launch. The payload holds the inputs.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Run {
    /// WGSL with the entry point `main`.
    #[prost(string, tag = "1")]
    pub(crate) source: String,
    /// Words of the binding `params`.
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) params: Vec<u32>,
    /// Workgroups along x.
    #[prost(uint32, tag = "3")]
    pub(crate) groups_x: u32,
    /// Workgroups along y.
    #[prost(uint32, tag = "4")]
    pub(crate) groups_y: u32,
    /// Bytes of the binding `results`, whole words.
    #[prost(uint64, tag = "5")]
    pub(crate) result_bytes: u64,
}

/// What the worker answers. The payload holds the results of a launch.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reply {
    /// Present after a request for the adapter.
    #[prost(message, optional, tag = "1")]
    pub(crate) report: Option<Report>,
    /// Present where the request failed.
    #[prost(message, optional, tag = "2")]
    pub(crate) refusal: Option<Refusal>,
}

/// An [`AdapterReport`] on the pipe.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Report {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    driver: String,
    #[prost(uint32, tag = "3")]
    device_type: u32,
    #[prost(uint32, tag = "4")]
    capabilities: u32,
    #[prost(uint64, tag = "5")]
    storage_binding_bytes_max: u64,
    #[prost(uint64, tag = "6")]
    buffer_bytes_max: u64,
}

impl From<&AdapterReport> for Report {
    fn from(report: &AdapterReport) -> Self {
        Self {
            name: report.name.clone(),
            driver: report.driver.clone(),
            device_type: report.device_type.to_number(),
            capabilities: report.capabilities.to_bits(),
            storage_binding_bytes_max: report.storage_binding_bytes_max,
            buffer_bytes_max: report.buffer_bytes_max,
        }
    }
}

impl From<Report> for AdapterReport {
    fn from(report: Report) -> Self {
        Self {
            name: report.name,
            driver: report.driver,
            device_type: DeviceType::from_number(report.device_type),
            capabilities: Capabilities::from_bits(report.capabilities),
            storage_binding_bytes_max: report.storage_binding_bytes_max,
            buffer_bytes_max: report.buffer_bytes_max,
        }
    }
}

/// A [`GpuError`] of the worker on the pipe.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Refusal {
    /// One of the constants below.
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    /// The error's own words.
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

const NO_ADAPTER: u32 = 1;
const DEVICE: u32 = 2;
const OUT_OF_MEMORY: u32 = 3;

impl From<GpuError> for Refusal {
    fn from(error: GpuError) -> Self {
        match error {
            GpuError::NoAdapter(message) => Self { kind: NO_ADAPTER, message },
            GpuError::OutOfMemory(message) => Self { kind: OUT_OF_MEMORY, message },
            GpuError::Device(message) => Self { kind: DEVICE, message },
            other => Self { kind: DEVICE, message: other.to_string() },
        }
    }
}

impl From<Refusal> for GpuError {
    fn from(refusal: Refusal) -> Self {
        match refusal.kind {
            NO_ADAPTER => Self::NoAdapter(refusal.message),
            OUT_OF_MEMORY => Self::OutOfMemory(refusal.message),
            DEVICE => Self::Device(refusal.message),
            unknown => Self::Protocol(format!("refusal of kind {unknown}")),
        }
    }
}

/// The prefix and head of a frame whose payload has `payload_bytes`.
pub(crate) fn encode_head(head: &impl Message, payload_bytes: usize) -> Result<Vec<u8>, GpuError> {
    let head_bytes = head.encoded_len();
    let lengths = (u32::try_from(head_bytes), u32::try_from(payload_bytes));
    let (Ok(head_length), Ok(payload_length)) = lengths else {
        return Err(too_large(head_bytes, payload_bytes));
    };
    if head_bytes > HEAD_BYTES_MAX || payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(too_large(head_bytes, payload_bytes));
    }
    let mut frame = Vec::with_capacity(PREFIX_BYTES + head_bytes);
    frame.extend_from_slice(&head_length.to_le_bytes());
    frame.extend_from_slice(&payload_length.to_le_bytes());
    frame.extend_from_slice(&head.encode_to_vec());
    Ok(frame)
}

/// Lengths of head and payload, within their limits.
pub(crate) fn decode_prefix(prefix: [u8; PREFIX_BYTES]) -> Result<(usize, usize), GpuError> {
    let [a, b, c, d, e, f, g, h] = prefix;
    let head_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
    let payload_bytes = u32::from_le_bytes([e, f, g, h]) as usize;
    if head_bytes > HEAD_BYTES_MAX || payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(too_large(head_bytes, payload_bytes));
    }
    Ok((head_bytes, payload_bytes))
}

/// A head from its bytes.
pub(crate) fn decode_head<M: Message + Default>(bytes: &[u8]) -> Result<M, GpuError> {
    M::decode(bytes).map_err(|source| GpuError::Protocol(format!("head of a frame: {source}")))
}

fn too_large(head_bytes: usize, payload_bytes: usize) -> GpuError {
    GpuError::Protocol(format!(
        "a frame of {head_bytes} + {payload_bytes} bytes; at most {HEAD_BYTES_MAX} + {PAYLOAD_BYTES_MAX} are allowed"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_goes_there_and_back() {
        let run = Run {
            source: "fn main() {}".into(),
            params: vec![1, u32::MAX],
            groups_x: 3,
            groups_y: 1,
            result_bytes: 64,
        };
        let request = Request { run: Some(run) };
        let frame = encode_head(&request, 9).unwrap();
        let (head, payload) = decode_prefix(*frame.first_chunk().unwrap()).unwrap();
        assert_eq!((head, payload), (frame.len() - PREFIX_BYTES, 9));
        assert_eq!(decode_head::<Request>(&frame[PREFIX_BYTES..]).unwrap(), request);
    }

    #[test]
    fn frames_beyond_their_limits_are_refused_both_ways() {
        let request = Request::default();
        assert!(matches!(encode_head(&request, PAYLOAD_BYTES_MAX + 1), Err(GpuError::Protocol(_))));
        let run = Run { source: "x".repeat(HEAD_BYTES_MAX), ..Run::default() };
        assert!(encode_head(&Request { run: Some(run) }, 0).is_err());
        assert!(decode_prefix([0xff; 8]).is_err());
        assert!(decode_prefix([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn refusals_keep_their_kind() {
        for error in [
            GpuError::NoAdapter("a".into()),
            GpuError::OutOfMemory("b".into()),
            GpuError::Device("c".into()),
        ] {
            let text = error.to_string();
            let back = GpuError::from(Refusal::from(error));
            assert_eq!(back.to_string(), text);
        }
        let unknown = Refusal { kind: 77, message: String::new() };
        assert!(matches!(GpuError::from(unknown), GpuError::Protocol(_)));
    }
}
