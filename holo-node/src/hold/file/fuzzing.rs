//! Any bytes as a file, and as the records of one: what a fuzzer cannot guess, keys and hashes, is put in for it.

use std::path::Path;

use holo_core::catalog::CloseId;
use holo_core::group::Seq;
use holo_core::replication::{Class, GroupId, Incarnation, NodeNumber};
use holo_core::{ArrayId, ClusterId, Epoch, Failure, PAGE_BYTES, PartitionId, ShardIndex};

use super::{PAGE_HEAD_BYTES, Page, SALT_BYTES, STATE, Sealer, Subject, end, read_from};

const KEY: [u8; 32] = [3; 32];
const SUBJECT: Subject = Subject {
    cluster: ClusterId([1; 32]),
    node: NodeNumber(2),
    life: Incarnation(3),
    close: CloseId(0),
    group: GroupId { partition: PartitionId(200), class: Class { replicas: 2, min_in_sync: 1 } },
    epoch: Epoch(0),
    seq: Seq(0),
};

/// Three bytes order a page, so many of them would be a large file.
const RECORDS_MAX: usize = 16;

/// The pages of a file, and what else it says of its group.
type Content = (Vec<Vec<u8>>, Option<Vec<u8>>);

/// Reads bytes as a file, and as a list of what to write into one: that is read as it was written, or refused where no
/// node writes it so; and refused when a byte of it is another, or its end is missing.
pub(crate) fn hold_file(bytes: &[u8]) {
    assert!(load(bytes).is_err(), "nobody but the node has the key");
    let mut draft = Draft::new();
    let mut rest = bytes;
    for _ in 0..RECORDS_MAX {
        let Some(([order, fill, size], after)) = rest.split_first_chunk::<3>() else { break };
        let (content, after) = after.split_at(usize::from(*size).min(after.len()));
        draft.put(*order, usize::from(*fill), content);
        rest = after;
    }
    let Draft { mut file, content, is_sound, has_ended, .. } = draft;
    let read = load(&file);
    if is_sound && has_ended {
        assert_eq!(read, Ok(content));
    } else {
        assert!(read.is_err(), "no node writes this");
        return;
    }
    let at = bytes.iter().fold(0, |at, byte| (at << 8 | usize::from(*byte)) % file.len());
    assert!(load(&file[..at]).is_err(), "it is cut off");
    file[at] ^= bytes.first().copied().unwrap_or_default() | 1;
    assert!(load(&file).is_err(), "it is damaged");
}

fn load(bytes: &[u8]) -> Result<Content, Failure> {
    let mut pages = Vec::new();
    let state = read_from(bytes, Path::new("a file"), &KEY, &SUBJECT, |page| {
        assert!(page.bytes.len() <= PAGE_BYTES, "{} bytes of a page", page.bytes.len());
        pages.push(page.bytes.to_vec());
        Ok(())
    })?;
    Ok((pages, state))
}

/// A file that is made record by record, with what it must be read as.
struct Draft {
    sealer: Sealer,
    file: Vec<u8>,
    all: blake3::Hasher,
    content: Content,
    /// A node could have begun like this.
    is_sound: bool,
    has_ended: bool,
}

impl Draft {
    fn new() -> Self {
        let salt = [7; SALT_BYTES];
        let file = SUBJECT.head(&salt);
        let sealer = Sealer::new(&KEY, &salt, file.clone()).expect("a key of the right length");
        let (all, content) = (blake3::Hasher::new(), Content::default());
        Self { sealer, file, all, content, is_sound: true, has_ended: false }
    }

    fn put(&mut self, order: u8, fill: usize, content: &[u8]) {
        self.is_sound &= !self.has_ended;
        let record = match (order % 4, content) {
            // A page that is filled up with zeros, in steps that lead from the shortest to more than the longest.
            (0, _) => self.page([content, &vec![0; fill * PAGE_BYTES / 250]].concat()),
            (1, state) | (2, [STATE, state @ ..]) => self.state(state),
            // Of any kind, with hashes that fit nothing.
            (2, _) => {
                self.is_sound = false;
                content.to_vec()
            }
            _ => {
                self.has_ended = true;
                end(self.content.0.len() as u64, &self.all)
            }
        };
        let sealed = self.sealer.seal(record).expect("memory for a record");
        let length = u32::try_from(sealed.len()).expect("a record is short");
        self.file.extend_from_slice(&length.to_le_bytes());
        self.file.extend_from_slice(&sealed);
    }

    fn page(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.is_sound &= (1..=PAGE_BYTES).contains(&bytes.len());
        let digest = *blake3::hash(&bytes).as_bytes();
        let (array, shard) = (ArrayId(4), ShardIndex(6));
        let record = Page { array, shard, index: 5, digest, bytes: &bytes }.record();
        self.all.update(&record[1..PAGE_HEAD_BYTES]);
        self.content.0.push(bytes);
        record
    }

    fn state(&mut self, state: &[u8]) -> Vec<u8> {
        self.is_sound &= self.content.1.is_none();
        let record = [&[STATE], state].concat();
        self.all.update(&record);
        self.content.1 = Some(state.to_vec());
        record
    }
}
