//! A group in a file. `docs/disk-format.md` has the bytes.
//!
//! The reader knows what it wants to find, from the catalog: everything that says which group this is, in which state
//! and of which close, is compared, and is part of what the cipher authenticates. So nothing of another group, of an
//! earlier close or from another node's disk is ever taken for it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use holo_core::catalog::CloseId;
use holo_core::group::Seq;
use holo_core::replication::{GroupId, Incarnation, NodeNumber};
use holo_core::{ArrayId, ClusterId, Epoch, ErrorCode, Failure, PAGE_BYTES, ShardIndex};
use zeroize::Zeroizing;

use crate::home::fill_random;

pub(crate) mod fuzzing;

const MAGIC: &[u8; 8] = b"HOLOHOLD";
const VERSION: u32 = 2;
const SALT_BYTES: usize = 16;
/// Magic, version, salt, cluster, node, life, close, group, epoch, last operation.
const HEAD_BYTES: usize = 8 + 4 + SALT_BYTES + 32 + 4 + 4 + 8 + 6 + 8 + 8;
const TAG_BYTES: usize = 16;
const PAGE: u8 = 1;
const END: u8 = 2;
const STATE: u8 = 3;
/// Kind, array, shard, page, digest.
const PAGE_HEAD_BYTES: usize = 1 + 8 + 8 + 4 + 32;
/// Kind, pages, digest of all of them.
const END_BYTES: usize = 1 + 8 + 32;
/// The requests that a group remembers come to half of that at most.
const STATE_BYTES_MAX: usize = 2 << 20;
const PAGE_RECORD_BYTES_MAX: usize = PAGE_HEAD_BYTES + PAGE_BYTES + TAG_BYTES;
const RECORD_BYTES_MAX: usize = 1 + STATE_BYTES_MAX + TAG_BYTES;
const BUFFER_BYTES: usize = 1 << 20;
/// What the keys of files are derived for; part of the format.
const KEY_CONTEXT: &str = "holocompute 2026 key of a file with the pages of one group";

/// Which group a file holds, in which state, for whom. What a close of the cluster had written is of the close, an epoch
/// and an operation; what a life left at its end is of that life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) cluster: ClusterId,
    pub(super) node: NodeNumber,
    pub(super) life: Incarnation,
    pub(super) close: CloseId,
    pub(super) group: GroupId,
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
}

/// One page that somebody wrote.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    pub(crate) array: ArrayId,
    pub(crate) shard: ShardIndex,
    pub(crate) index: u32,
    pub(crate) digest: [u8; 32],
    pub(crate) bytes: &'a [u8],
}

impl Page<'_> {
    /// As it is written, before it is encrypted.
    fn record(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(PAGE_RECORD_BYTES_MAX);
        record.push(PAGE);
        record.extend_from_slice(&self.array.0.to_le_bytes());
        record.extend_from_slice(&self.shard.0.to_le_bytes());
        record.extend_from_slice(&self.index.to_le_bytes());
        record.extend_from_slice(&self.digest);
        record.extend_from_slice(self.bytes);
        record
    }
}

impl Subject {
    /// The file's name.
    pub(super) fn file_name(&self) -> String {
        let GroupId { partition, class } = self.group;
        let of_life = match self.life {
            Incarnation(0) => String::new(),
            Incarnation(life) => format!("-l{life}"),
        };
        format!("{}-r{}m{}{of_life}.hold", partition.0, class.replicas, class.min_in_sync)
    }

    fn head(&self, salt: &[u8; SALT_BYTES]) -> Vec<u8> {
        let GroupId { partition, class } = self.group;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(salt);
        head.extend_from_slice(&self.cluster.0);
        head.extend_from_slice(&self.node.0.to_le_bytes());
        head.extend_from_slice(&self.life.0.to_le_bytes());
        head.extend_from_slice(&self.close.0.to_le_bytes());
        head.extend_from_slice(&partition.0.to_le_bytes());
        head.extend_from_slice(&[class.replicas, class.min_in_sync]);
        head.extend_from_slice(&self.epoch.0.to_le_bytes());
        head.extend_from_slice(&self.seq.0.to_le_bytes());
        head
    }
}

/// A file that is being written. It is in its place only after [`Self::finish`].
pub(super) struct Writer {
    file: BufWriter<File>,
    sealer: Sealer,
    draft: PathBuf,
    place: PathBuf,
    pages: u64,
    bytes: u64,
    all: blake3::Hasher,
}

impl Writer {
    /// Begins a file in a folder that is there.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`], [`ErrorCode::Internal`] without randomness.
    pub(super) fn new(folder: &Path, key: &[u8; 32], subject: &Subject) -> Result<Self, Failure> {
        let mut salt = [0; SALT_BYTES];
        fill_random(&mut salt)?;
        let head = subject.head(&salt);
        let place = folder.join(subject.file_name());
        let draft = place.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&draft).map_err(|source| failed(&draft, &source))?;
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
        file.write_all(&head).map_err(|source| failed(&draft, &source))?;
        let sealer = Sealer::new(key, &salt, head)?;
        Ok(Self { file, sealer, draft, place, pages: 0, bytes: 0, all: blake3::Hasher::new() })
    }

    /// Adds a page.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`].
    pub(super) fn put(&mut self, page: &Page<'_>) -> Result<(), Failure> {
        let record = page.record();
        self.all.update(&record[1..PAGE_HEAD_BYTES]);
        self.pages += 1;
        self.bytes += page.bytes.len() as u64;
        self.write(record)
    }

    /// Adds what there is to know of the group beside its pages; once.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`], [`ErrorCode::TooLarge`] for what no group can have to remember.
    pub(super) fn put_state(&mut self, state: &[u8]) -> Result<(), Failure> {
        if state.len() > STATE_BYTES_MAX {
            let message = format!("{} bytes of answered requests", state.len());
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        let mut record = Vec::with_capacity(1 + state.len() + TAG_BYTES);
        record.push(STATE);
        record.extend_from_slice(state);
        self.all.update(&record);
        self.write(record)
    }

    /// Ends the file, has it on disk and puts it into its place; gives the bytes of its pages. The folder has still to be
    /// synced.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`].
    pub(super) fn finish(mut self) -> Result<u64, Failure> {
        self.write(end(self.pages, &self.all))?;
        let Self { mut file, draft, place, bytes, .. } = self;
        let placed = (|| {
            file.flush()?;
            file.get_ref().sync_all()?;
            fs::rename(&draft, &place)
        })();
        placed.map(|()| bytes).map_err(|source| {
            drop(fs::remove_file(&draft));
            failed(&place, &source)
        })
    }

    /// Leaves nothing behind.
    pub(super) fn give_up(self) {
        drop(fs::remove_file(&self.draft));
    }

    fn write(&mut self, record: Vec<u8>) -> Result<(), Failure> {
        let sealed = self.sealer.seal(record)?;
        let written = (|| {
            let len = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
            self.file.write_all(&len.to_le_bytes())?;
            self.file.write_all(&sealed)
        })();
        written.map_err(|source| failed(&self.draft, &source))
    }
}

/// Reads the whole file of a group, hands out its pages in the order in which they were written, and gives what else is
/// known of the group, if anything was written of it. Only when this succeeds are they all there, and the group's.
///
/// # Errors
///
/// [`ErrorCode::Corrupt`] for a file that is damaged, cut off, of another group, state, close, node, life or key;
/// [`ErrorCode::VersionMismatch`], [`ErrorCode::FileFailed`], and those of `take`.
pub(super) fn read(
    folder: &Path,
    key: &[u8; 32],
    subject: &Subject,
    take: impl FnMut(Page<'_>) -> Result<(), Failure>,
) -> Result<Option<Vec<u8>>, Failure> {
    let place = folder.join(subject.file_name());
    let file = File::open(&place).map_err(|source| unreadable(&place, &source))?;
    read_from(BufReader::with_capacity(BUFFER_BYTES, file), &place, key, subject, take)
}

/// Reads what the file at `place` says, wherever that comes from.
fn read_from(
    mut file: impl Read,
    place: &Path,
    key: &[u8; 32],
    subject: &Subject,
    mut take: impl FnMut(Page<'_>) -> Result<(), Failure>,
) -> Result<Option<Vec<u8>>, Failure> {
    let corrupt = |why: &str| corrupt(place, why);
    let broken = |source: std::io::Error| unreadable(place, &source);
    let mut head = [0; HEAD_BYTES];
    file.read_exact(&mut head).map_err(broken)?;
    let (magic, rest) = head.split_at(MAGIC.len());
    let (version, rest) = rest.split_at(4);
    if magic != MAGIC {
        return Err(corrupt("it is no file with the pages of a group"));
    }
    if version != VERSION.to_le_bytes() {
        let message = format!("{}: it is of another version", place.display());
        return Err(Failure::new(ErrorCode::VersionMismatch, message)
            .help("start the release that wrote it"));
    }
    let mut salt = [0; SALT_BYTES];
    salt.copy_from_slice(&rest[..SALT_BYTES]);
    if head != *subject.head(&salt) {
        return Err(corrupt("it is of another group, node, life, close or state than is wanted"));
    }
    let mut sealer = Sealer::new(key, &salt, head.to_vec())?;
    let (mut pages, mut all, mut state) = (0u64, blake3::Hasher::new(), None);
    loop {
        let mut len = [0; 4];
        file.read_exact(&mut len).map_err(broken)?;
        let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
        if len > RECORD_BYTES_MAX {
            return Err(corrupt("a record is too long"));
        }
        let mut record = vec![0; len];
        file.read_exact(&mut record).map_err(broken)?;
        let record = sealer
            .open(record)
            .ok_or_else(|| corrupt("it is damaged, or was encrypted with another key"))?;
        match record.first() {
            Some(&PAGE) if record.len() > PAGE_HEAD_BYTES => {
                let (head, bytes) = record[1..].split_at(PAGE_HEAD_BYTES - 1);
                if bytes.len() > PAGE_BYTES {
                    return Err(corrupt("a page is longer than pages are"));
                }
                all.update(head);
                pages += 1;
                let page = to_page(head, bytes).ok_or_else(|| corrupt("a page"))?;
                if blake3::hash(bytes).as_bytes() != &page.digest {
                    return Err(corrupt("a page is not the one whose hash is written beside it"));
                }
                take(page)?;
            }
            Some(&STATE) if state.is_none() => {
                all.update(&record);
                state = Some(record[1..].to_vec());
            }
            Some(&END) if record.len() == END_BYTES => {
                let (count, digest) = record[1..].split_at(8);
                if count != pages.to_le_bytes() || digest != all.finalize().as_bytes() {
                    return Err(corrupt("its pages are not those that it lists"));
                }
                let mut more = [0; 1];
                return match file.read(&mut more).map_err(broken)? {
                    0 => Ok(state),
                    _ => Err(corrupt("there is something after its end")),
                };
            }
            _ => return Err(corrupt("a record is of no known kind")),
        }
    }
}

/// Makes the names of files that were put into their places outlast a crash.
///
/// # Errors
///
/// [`ErrorCode::FileFailed`].
pub(super) fn sync_folder(folder: &Path) -> Result<(), Failure> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| failed(folder, &source))
}

/// Deletes the folder and all that is in it; done as well when there is none.
///
/// # Errors
///
/// [`ErrorCode::FileFailed`].
pub(super) fn remove_folder(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed(folder, &source)),
    }
}

/// The last record of a file.
fn end(pages: u64, all: &blake3::Hasher) -> Vec<u8> {
    let mut record = vec![END];
    record.extend_from_slice(&pages.to_le_bytes());
    record.extend_from_slice(all.finalize().as_bytes());
    record
}

fn to_page<'a>(head: &[u8], bytes: &'a [u8]) -> Option<Page<'a>> {
    let (array, rest) = head.split_first_chunk::<8>()?;
    let (shard, rest) = rest.split_first_chunk::<8>()?;
    let (index, digest) = rest.split_first_chunk::<4>()?;
    Some(Page {
        array: ArrayId(u64::from_le_bytes(*array)),
        shard: ShardIndex(u64::from_le_bytes(*shard)),
        index: u32::from_le_bytes(*index),
        digest: digest.try_into().ok()?,
        bytes,
    })
}

fn corrupt(place: &Path, why: &str) -> Failure {
    Failure::new(ErrorCode::Corrupt, format!("{}: {why}", place.display()))
        .help("bring back the file as it was, or start another node that held the same")
}

fn unreadable(place: &Path, source: &std::io::Error) -> Failure {
    match source.kind() {
        ErrorKind::UnexpectedEof => corrupt(place, "it is cut off"),
        ErrorKind::NotFound => corrupt(place, "it is gone"),
        _ => failed(place, source),
    }
}

pub(super) fn failed(path: &Path, source: &std::io::Error) -> Failure {
    Failure::new(ErrorCode::FileFailed, format!("{}: {source}", path.display()))
}

/// Seals records one after the other. Every file has a key of its own, from its random salt, so the count of records is
/// enough for nonces never to repeat; and a record that is moved, dropped or doubled does not open.
struct Sealer {
    key: LessSafeKey,
    head: Vec<u8>,
    count: u64,
}

impl Sealer {
    fn new(root: &[u8; 32], salt: &[u8; SALT_BYTES], head: Vec<u8>) -> Result<Self, Failure> {
        let mut hasher = blake3::Hasher::new_derive_key(KEY_CONTEXT);
        hasher.update(root);
        hasher.update(salt);
        let derived = Zeroizing::new(*hasher.finalize().as_bytes());
        let key = UnboundKey::new(&AES_256_GCM, derived.as_slice()).map_err(|source| {
            Failure::new(ErrorCode::Internal, format!("a derived key: {source}"))
        })?;
        Ok(Self { key: LessSafeKey::new(key), head, count: 0 })
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.count.to_le_bytes());
        self.count += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, mut record: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let nonce = self.nonce();
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(&self.head), &mut record)
            .map_err(|source| Failure::new(ErrorCode::Internal, format!("encryption: {source}")))?;
        Ok(record)
    }

    fn open(&mut self, mut record: Vec<u8>) -> Option<Vec<u8>> {
        let nonce = self.nonce();
        let len = self.key.open_in_place(nonce, Aad::from(&self.head), &mut record).ok()?.len();
        record.truncate(len);
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use holo_core::PartitionId;
    use holo_core::replication::Class;
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [3; 32];
    const STATE_TEXT: &[u8] = b"what was answered";

    fn subject() -> Subject {
        let class = Class { replicas: 2, min_in_sync: 1 };
        Subject {
            cluster: ClusterId([1; 32]),
            node: NodeNumber(2),
            life: Incarnation(0),
            close: CloseId(70),
            group: GroupId { partition: PartitionId(200), class },
            epoch: Epoch(5),
            seq: Seq(900),
        }
    }

    fn bytes(index: u32) -> Vec<u8> {
        let len = if index == 2 { 100 } else { PAGE_BYTES };
        vec![u8::try_from(index).unwrap() + 1; len]
    }

    fn write(folder: &Path) -> u64 {
        let mut writer = Writer::new(folder, &KEY, &subject()).unwrap();
        for index in 0..3 {
            let bytes = bytes(index);
            let digest = *blake3::hash(&bytes).as_bytes();
            let (array, shard) = (ArrayId(4), ShardIndex(6));
            writer.put(&Page { array, shard, index, digest, bytes: &bytes }).unwrap();
        }
        writer.put_state(STATE_TEXT).unwrap();
        writer.finish().unwrap()
    }

    fn load(folder: &Path, key: &[u8; 32], subject: &Subject) -> Result<Vec<Vec<u8>>, Failure> {
        let mut pages = Vec::new();
        let state = read(folder, key, subject, |page| {
            assert_eq!((page.array, page.shard), (ArrayId(4), ShardIndex(6)));
            pages.push(page.bytes.to_vec());
            Ok(())
        })?;
        assert_eq!(state.as_deref(), Some(STATE_TEXT));
        Ok(pages)
    }

    #[test]
    fn what_is_written_is_read_again_whole() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(write(folder.path()), 2 * PAGE_BYTES as u64 + 100);
        sync_folder(folder.path()).unwrap();
        assert_eq!(load(folder.path(), &KEY, &subject()).unwrap(), [bytes(0), bytes(1), bytes(2)]);
        // Nothing of it can be read without the key.
        let text = fs::read(folder.path().join(subject().file_name())).unwrap();
        assert!(!text.windows(32).any(|window| window.iter().all(|byte| *byte == 1 + 1)));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "no draft is left: {names:?}");
    }

    #[test]
    fn a_file_of_anything_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let s = subject();
        let class = Class { replicas: 3, min_in_sync: 1 };
        for other in [
            Subject { cluster: ClusterId([9; 32]), ..s },
            Subject { node: NodeNumber(3), ..s },
            Subject { close: CloseId(69), ..s },
            Subject { life: Incarnation(1), ..s },
            Subject { epoch: Epoch(4), ..s },
            Subject { seq: Seq(899), ..s },
        ] {
            let refused = load(folder.path(), &KEY, &other).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Corrupt, "{other:?}");
        }
        // Under another group's name.
        let renamed = Subject { group: GroupId { class, ..s.group }, ..s };
        let place = |subject: &Subject| folder.path().join(subject.file_name());
        fs::copy(place(&s), place(&renamed)).unwrap();
        assert_eq!(load(folder.path(), &KEY, &renamed).unwrap_err().code, ErrorCode::Corrupt);
        // With the key of another node.
        assert_eq!(load(folder.path(), &[4; 32], &s).unwrap_err().code, ErrorCode::Corrupt);
        // With a head that was made to fit.
        let mut text = fs::read(place(&s)).unwrap();
        let newer = Subject { close: CloseId(71), ..s };
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&text[12..28]);
        text[..HEAD_BYTES].copy_from_slice(&newer.head(&salt));
        fs::write(place(&s), text).unwrap();
        assert_eq!(load(folder.path(), &KEY, &newer).unwrap_err().code, ErrorCode::Corrupt);
        fs::remove_file(place(&s)).unwrap();
        assert_eq!(load(folder.path(), &KEY, &s).unwrap_err().code, ErrorCode::Corrupt);
        remove_folder(folder.path()).unwrap();
        remove_folder(folder.path()).unwrap();
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let place = folder.path().join(subject().file_name());
        let good = fs::read(&place).unwrap();
        let mut places: Vec<usize> = (0..HEAD_BYTES + 80).collect();
        places.extend((0..good.len()).step_by(997));
        places.extend(good.len() - 70..good.len());
        for at in places {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&place, &bad).unwrap();
            assert!(load(folder.path(), &KEY, &subject()).is_err(), "byte {at}");
        }
        for cut in [0, 5, HEAD_BYTES, HEAD_BYTES + 2, good.len() / 2, good.len() - 1] {
            fs::write(&place, &good[..cut]).unwrap();
            assert!(load(folder.path(), &KEY, &subject()).is_err(), "cut at {cut}");
        }
        let mut longer = good.clone();
        longer.push(0);
        fs::write(&place, &longer).unwrap();
        assert!(load(folder.path(), &KEY, &subject()).is_err());
        // A page that is left out: the second record goes.
        let record = 4 + PAGE_HEAD_BYTES + PAGE_BYTES + TAG_BYTES;
        let mut shorter = good.clone();
        shorter.drain(HEAD_BYTES + record..HEAD_BYTES + 2 * record);
        fs::write(&place, &shorter).unwrap();
        assert!(load(folder.path(), &KEY, &subject()).is_err());
        fs::write(&place, &good).unwrap();
        load(folder.path(), &KEY, &subject()).unwrap();
    }

    #[test]
    fn more_than_a_page_is_not_taken_for_a_page() {
        // Whoever takes pages would put it over those that follow, at the end of a shard.
        for (len, is_taken) in [(1, true), (PAGE_BYTES, true), (PAGE_BYTES + 1, false)] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = Writer::new(folder.path(), &KEY, &subject()).unwrap();
            let bytes = vec![1; len];
            let digest = *blake3::hash(&bytes).as_bytes();
            let (array, shard) = (ArrayId(4), ShardIndex(6));
            writer.put(&Page { array, shard, index: 0, digest, bytes: &bytes }).unwrap();
            writer.finish().unwrap();
            let read = read(folder.path(), &KEY, &subject(), |_page| Ok(()));
            let wanted = if is_taken { Ok(None) } else { Err(ErrorCode::Corrupt) };
            assert_eq!(read.map_err(|failure| failure.code), wanted, "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_file_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            crate::fuzzing::hold_file(&bytes);
            let place = Path::new("a file");
            let mut text = subject().head(&[7; SALT_BYTES]);
            text.extend_from_slice(&bytes);
            let read = read_from(text.as_slice(), place, &KEY, &subject(), |_page| Ok(()));
            prop_assert_eq!(read.unwrap_err().code, ErrorCode::Corrupt);
        }

        #[test]
        fn any_records_are_a_group_or_refused(
            records in proptest::collection::vec(
                (0u8..3, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..20)), 0..6,
            ),
            more: bool,
        ) {
            let end = (3, 0, Vec::new());
            let records = records.into_iter().chain([end.clone()]).chain(more.then_some(end));
            let list = records.flat_map(|(order, fill, content)| {
                let size = u8::try_from(content.len()).unwrap();
                [vec![order, fill, size], content].concat()
            });
            crate::fuzzing::hold_file(&list.collect::<Vec<u8>>());
        }
    }
}
