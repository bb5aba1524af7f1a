//! The fixed header that opens every message.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Epoch, ErrorCode, Failure, PartitionId, RequestId, limits};

/// Version of the wire format in every header.
pub const WIRE_VERSION: u8 = 1;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 48;

const MAGIC: u16 = 0x4c48;
const FLAG_REPLY: u8 = 1;
const FLAG_FAILURE: u8 = 2;

/// The checked header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the body is.
    pub kind: Kind,
    /// Its priority class.
    pub lane: Lane,
    /// Whether it answers a request.
    pub reply: bool,
    /// Whether the body is a [`crate::wire::FailureBody`].
    pub failure: bool,
    /// Chosen by the requester, echoed in the reply, unique among its open requests.
    pub request: RequestId,
    /// The epoch that the sender knows for the partition.
    pub epoch: Epoch,
    /// The partition of the shard that it is about; 0 where there is none.
    pub partition: PartitionId,
    /// Milliseconds that the requester waits from sending; 0 waits for ever.
    pub deadline_ms: u32,
    /// Bytes of the protobuf body that follows.
    pub body_len: u32,
    /// Raw bytes that follow the body; only on streams of their own.
    pub bulk_len: u64,
}

impl FrameHeader {
    /// The header of a request without partition, deadline or bulk.
    pub fn request(kind: Kind, request: RequestId, body_len: u32) -> Self {
        Self {
            kind,
            lane: kind.lane(),
            reply: false,
            failure: false,
            request,
            epoch: Epoch(0),
            partition: PartitionId(0),
            deadline_ms: 0,
            body_len,
            bulk_len: 0,
        }
    }

    /// The header that answers this one.
    #[must_use]
    pub fn answer(&self, failure: bool, body_len: u32, bulk_len: u64) -> Self {
        Self { reply: true, failure, body_len, bulk_len, ..*self }
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let raw = RawHeader {
            magic: U16::new(MAGIC),
            version: WIRE_VERSION,
            flags: u8::from(self.reply) * FLAG_REPLY + u8::from(self.failure) * FLAG_FAILURE,
            kind: U16::new(self.kind as u16),
            lane: self.lane as u8,
            reserved_a: 0,
            request: U64::new(self.request.0),
            epoch: U64::new(self.epoch.0),
            partition: U32::new(self.partition.0),
            deadline_ms: U32::new(self.deadline_ms),
            body_len: U32::new(self.body_len),
            reserved_b: U32::ZERO,
            bulk_len: U64::new(self.bulk_len),
        };
        zerocopy::transmute!(raw)
    }

    /// Checks and reads a header; lengths beyond [`limits`] are refused here, before anything is allocated for them.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`], [`ErrorCode::VersionMismatch`] or [`ErrorCode::TooLarge`].
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Failure> {
        let raw: RawHeader = zerocopy::transmute!(*bytes);
        if raw.magic.get() != MAGIC {
            return Err(malformed("it does not start with the magic number"));
        }
        if raw.version != WIRE_VERSION {
            let message = format!("wire version {}, this side speaks {WIRE_VERSION}", raw.version);
            return Err(Failure::new(ErrorCode::VersionMismatch, message)
                .help("run the same release on both sides"));
        }
        if raw.flags & !(FLAG_REPLY | FLAG_FAILURE) != 0
            || raw.reserved_a != 0
            || raw.reserved_b.get() != 0
        {
            return Err(malformed("reserved bits are set"));
        }
        let kind = Kind::from_number(raw.kind.get()).ok_or_else(|| malformed("unknown kind"))?;
        let lane = Lane::from_byte(raw.lane).ok_or_else(|| malformed("unknown lane"))?;
        if raw.body_len.get() > limits::BODY_BYTES_MAX
            || raw.bulk_len.get() > limits::BULK_BYTES_MAX
        {
            let message = format!("a body of {} and bulk of {} bytes", raw.body_len, raw.bulk_len);
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        Ok(Self {
            kind,
            lane,
            reply: raw.flags & FLAG_REPLY != 0,
            failure: raw.flags & FLAG_FAILURE != 0,
            request: RequestId(raw.request.get()),
            epoch: Epoch(raw.epoch.get()),
            partition: PartitionId(raw.partition.get()),
            deadline_ms: raw.deadline_ms.get(),
            body_len: raw.body_len.get(),
            bulk_len: raw.bulk_len.get(),
        })
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: U16,
    version: u8,
    flags: u8,
    kind: U16,
    lane: u8,
    reserved_a: u8,
    request: U64,
    epoch: U64,
    partition: U32,
    deadline_ms: U32,
    body_len: U32,
    reserved_b: U32,
    bulk_len: U64,
}

/// Priority classes: a lower one never starves a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Who is alive.
    Membership = 0,
    /// Metadata.
    Catalog = 1,
    /// Between replicas.
    Replication = 2,
    /// Clients' requests.
    Client = 3,
    /// Copies that nobody waits for.
    Repair = 4,
}

impl Lane {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Membership),
            1 => Some(Self::Catalog),
            2 => Some(Self::Replication),
            3 => Some(Self::Client),
            4 => Some(Self::Repair),
            _ => None,
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $lane:ident;)*) => {
        /// What a message is about. Numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Kind {
            $($(#[$doc])* $name = $number,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The kind of a number; `None` for an unknown one.
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The lane that it rides in.
            pub fn lane(self) -> Lane {
                match self { $(Self::$name => Lane::$lane,)* }
            }
        }
    };
}

kinds! {
    /// `Hello` -> `HelloReply`: members and the placement table.
    Hello = 1, Membership;
    /// `StatusQuery` -> `NodeStatus`.
    Status = 2, Membership;
    /// `Shutdown` -> `Empty`.
    Shutdown = 3, Membership;
    /// `ViewQuery` -> `ViewBody`.
    View = 4, Membership;
    /// `OpenSession` -> `SessionReply`.
    OpenSession = 5, Client;
    /// `JoinRequest` -> `JoinReply`; the only request of a node that is no member yet.
    Join = 8, Membership;
    /// `AdminRequest` -> `AdminReply`: everything that operators ask of the cluster.
    Admin = 9, Catalog;
    /// `Allocate` -> `ArrayInfo`; at a voter of the catalog.
    Allocate = 16, Catalog;
    /// `ArrayRef` -> `ArrayInfo`.
    ArrayInfo = 17, Catalog;
    /// `Empty` -> `ArrayList`.
    ArrayList = 18, Catalog;
    /// `ArrayRef` -> `Empty`; at a voter of the catalog.
    ArrayRemove = 19, Catalog;
    /// `GetRange` -> `GetReply`; at most [`limits::INLINE_BYTES_MAX`] bytes.
    Get = 32, Client;
    /// `PutRange` -> `Empty`; at most [`limits::INLINE_BYTES_MAX`] bytes.
    Put = 33, Client;
    /// `GetRange` -> `PageDigests` and the bytes as bulk.
    ReadShard = 34, Client;
    /// `WriteShard` and the bytes as bulk -> `Empty`.
    WriteShard = 35, Client;
    /// `UpdateElement` -> `UpdateReply`.
    Update = 36, Client;
    /// `FillRange` -> `Empty`.
    Fill = 37, Client;
    /// `RunShards` -> `RunReply`.
    RunShards = 48, Client;
    /// `ModuleQuery` -> `ModuleStatus`.
    ModuleQuery = 49, Client;
    /// `ModulePush` and the module as bulk -> `ModuleStatus`.
    ModulePush = 50, Client;
    /// `CallModule` -> `CallReply`.
    CallModule = 51, Client;
    /// `CombineModule` -> `CallReply`.
    CombineModule = 52, Client;
    /// `PeerBatch` -> `PeerBatch`: messages of the replication machines, both ways.
    Replicate = 64, Replication;
    /// `PeerBatch` -> `PeerBatch`: beats and their echoes.
    Beat = 65, Membership;
    /// `StagePayload` and the bytes as bulk -> `Empty`: from a primary to a replica, before the operation.
    StagePayload = 66, Replication;
    /// `FetchPayload` -> `StagePayload` and the bytes as bulk: by a replica whose staged bytes were lost.
    FetchPayload = 67, Replication;
    /// `SnapshotQuery` -> `SnapshotIndex`: shards and page digests of a frozen group.
    SnapshotIndex = 68, Repair;
    /// `SnapshotPages` -> `Empty` and the pages as bulk.
    SnapshotPages = 69, Repair;
    /// `DigestQuery` -> `GroupDigests`: what the copies of groups contain, for an operator who compares them.
    GroupDigests = 70, Repair;
    /// Opaque to all but the catalog's driver.
    Raft = 80, Catalog;
    /// `CatalogCommand` -> `CatalogAnswer`: from a node to a voter.
    CatalogPropose = 81, Catalog;
    /// `CatalogFollow` -> `CatalogNews`: waits for a version above the asker's.
    CatalogFollow = 82, Catalog;
    /// `VoterSecrets` -> `Empty`: what a node needs to become a voter.
    VoterSecrets = 83, Catalog;
    /// `Heartbeat` -> `HeartbeatReply`: inventory and load of a node, to the catalog's leader.
    Heartbeat = 84, Membership;
}

fn malformed(why: &str) -> Failure {
    Failure::new(ErrorCode::Malformed, format!("message header: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated() {
        // An earlier system took the length from the header and allocated 4 GiB for one frame.
        let mut header = FrameHeader::request(Kind::Get, RequestId(1), u32::MAX);
        assert_eq!(FrameHeader::decode(&header.encode()).unwrap_err().code, ErrorCode::TooLarge);
        header.body_len = 0;
        header.bulk_len = limits::BULK_BYTES_MAX + 1;
        assert_eq!(FrameHeader::decode(&header.encode()).unwrap_err().code, ErrorCode::TooLarge);
    }

    #[test]
    fn another_version_is_named_and_refused() {
        let mut bytes = FrameHeader::request(Kind::Get, RequestId(1), 0).encode();
        bytes[2] = 9;
        assert_eq!(FrameHeader::decode(&bytes).unwrap_err().code, ErrorCode::VersionMismatch);
    }

    proptest! {
        #[test]
        fn headers_go_there_and_back(pick in 0usize..Kind::ALL.len(), request: u64, epoch: u64, partition: u32, deadline: u32) {
            let mut header = FrameHeader::request(Kind::ALL[pick], RequestId(request), 77);
            header.epoch = Epoch(epoch);
            header.partition = PartitionId(partition);
            header.deadline_ms = deadline;
            prop_assert_eq!(FrameHeader::decode(&header.encode()), Ok(header));
            let answer = header.answer(true, 3, 4);
            prop_assert_eq!(FrameHeader::decode(&answer.encode()), Ok(answer));
        }

        #[test]
        fn any_48_bytes_decode_to_themselves_or_are_refused(bytes: [u8; HEADER_BYTES]) {
            if let Ok(header) = FrameHeader::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }
    }
}
