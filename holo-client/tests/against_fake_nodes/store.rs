//! What fake nodes hold: the bytes of one array, and the answers that they have given. Nodes that share a store are
//! replicas that agree at once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use bytes::Bytes;
use holo_core::group::{UpdateKind, apply_update};
use holo_core::wire::{
    Decode, Empty, FillRange, GetRange, GetReply, Kind, PutRange, RequestKeyBody, UpdateElement,
    UpdateReply,
};
use holo_core::{DType, ErrorCode, Failure, limits};
use prost::Message;

/// Elements of the array, and of each of its shards.
pub const ELEMS: u64 = 200_000;
pub const SHARD_ELEMS: u64 = 65_536;

pub struct Store {
    bytes: Mutex<Vec<u8>>,
    answers: Mutex<BTreeMap<(u64, u64), Bytes>>,
    /// Keys in the order in which they came, each time that they came.
    keys: Mutex<Vec<RequestKeyBody>>,
    sessions: Mutex<u64>,
    /// Name of the array that a client made beside the first one, and the token with which it did.
    pub made: Mutex<Option<(String, u64)>>,
}

impl Store {
    pub fn new() -> Self {
        let size = usize::try_from(ELEMS * 8).unwrap();
        let bytes = (0..size).map(|i| u8::try_from(i % 253).unwrap()).collect();
        Self {
            bytes: Mutex::new(bytes),
            answers: Mutex::default(),
            keys: Mutex::default(),
            sessions: Mutex::default(),
            made: Mutex::default(),
        }
    }

    pub fn elems(&self, elems: Range<u64>) -> Vec<i64> {
        let range =
            usize::try_from(elems.start * 8).unwrap()..usize::try_from(elems.end * 8).unwrap();
        bytemuck::pod_collect_to_vec(&self.bytes.lock().unwrap()[range])
    }

    pub fn keys(&self) -> Vec<RequestKeyBody> {
        self.keys.lock().unwrap().clone()
    }

    /// Requests that were carried out.
    pub fn executed(&self) -> usize {
        self.answers.lock().unwrap().len()
    }

    pub fn open_session(&self) -> u64 {
        let mut sessions = self.sessions.lock().unwrap();
        *sessions += 1;
        *sessions
    }

    pub fn slice(&self, range: &GetRange) -> Vec<u8> {
        self.bytes.lock().unwrap()[place(range)].to_vec()
    }

    /// A small request about elements.
    pub fn answer(&self, kind: Kind, body: &[u8]) -> Result<Bytes, Failure> {
        let reply = match kind {
            Kind::Get => {
                let data = self.slice(&GetRange::decode_body(body)?).into();
                GetReply { data }.encode_to_vec().into()
            }
            Kind::Put => {
                let put = PutRange::decode_body(body)?;
                self.write(put.key, put.shard, put.offset, &put.data)
            }
            Kind::Fill => {
                let fill = FillRange::decode_body(body)?;
                let data = fill.value.repeat(usize::try_from(fill.len).unwrap() / fill.value.len());
                self.write(fill.key, fill.shard, fill.offset, &data)
            }
            Kind::Update => self.update(&UpdateElement::decode_body(body)?),
            other => return Err(Failure::new(ErrorCode::NotYet, format!("{other:?}"))),
        };
        Ok(reply)
    }

    /// Writes once, however often it is asked.
    pub fn write(
        &self,
        key: Option<RequestKeyBody>,
        shard: u64,
        offset: u64,
        data: &[u8],
    ) -> Bytes {
        self.once(key, || {
            let range = GetRange { array: 1, shard, offset, len: data.len() as u64 };
            self.bytes.lock().unwrap()[place(&range)].copy_from_slice(data);
            Empty {}.encode_to_vec()
        })
    }

    fn update(&self, request: &UpdateElement) -> Bytes {
        self.once(request.key, || {
            let range = GetRange { array: 1, shard: request.shard, offset: request.offset, len: 8 };
            let mut bytes = self.bytes.lock().unwrap();
            let wide = |value: &[u8]| value.try_into().unwrap_or([0u8; 8]);
            let previous = apply_update(
                DType::I64,
                UpdateKind::from_byte(request.kind).unwrap(),
                &mut bytes[place(&range)],
                wide(&request.operand),
                wide(&request.expected),
            );
            UpdateReply { previous: previous.unwrap().to_vec() }.encode_to_vec()
        })
    }

    fn once(&self, key: Option<RequestKeyBody>, work: impl FnOnce() -> Vec<u8>) -> Bytes {
        let key = key.expect("everything that writes has a key");
        let sessions = 1..=*self.sessions.lock().unwrap();
        assert!(sessions.contains(&key.session), "a session that nobody opened: {key:?}");
        let window = key.floor..key.floor + limits::SESSION_WINDOW;
        assert!(key.floor > 0 && window.contains(&key.number), "{key:?}");
        self.keys.lock().unwrap().push(key);
        let mut answers = self.answers.lock().unwrap();
        answers.entry((key.session, key.number)).or_insert_with(|| work().into()).clone()
    }
}

/// Where a range of a shard lies in the whole array.
fn place(range: &GetRange) -> Range<usize> {
    let start = range.shard * SHARD_ELEMS * 8 + range.offset;
    usize::try_from(start).unwrap()..usize::try_from(start + range.len).unwrap()
}
