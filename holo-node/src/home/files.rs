//! Files of a node's directory: read within bounds, written whole or not at all, secrets for their owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use holo_core::{ErrorCode, Failure};
use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

/// Bytes of a file that we read at most: the longest lists the members.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Makes a directory, and those above it, for its owner only.
pub(crate) fn make_directory(path: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| failed(path, &source))
}

/// The text of a file; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(path, &source)),
    };
    let mut text = Zeroizing::new(String::with_capacity(4096));
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|source| failed(path, &source))?;
    Ok(Some(text))
}

/// The text of a file that nobody but its owner may read; `None` when there is none.
pub(crate) fn read_secret(path: &Path) -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(text) = read(path)? else { return Ok(None) };
    let mode = fs::metadata(path).map_err(|source| failed(path, &source))?.mode();
    if mode & 0o077 != 0 {
        let message = format!("{} may be read by others (mode {:o})", path.display(), mode & 0o777);
        return Err(Failure::new(ErrorCode::ConfigInvalid, message)
            .help(format!("chmod 600 {}", path.display())));
    }
    Ok(Some(text))
}

/// Writes a file for its owner only, in the place of the one before: after a crash there is either of the two.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let draft = path.with_extension("new");
    let written = (|| {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    })();
    written.map_err(|source| failed(path, &source))
}

/// Removes a file; done as well when there is none.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed(path, &source)),
    }
}

/// Removes a file for good: after a crash it does not come back. Done as well when there is none.
pub(crate) fn remove_for_good(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(path, &source)),
    }
    let Some(parent) = path.parent() else { return Ok(()) };
    let synced = File::open(parent).and_then(|parent| parent.sync_all());
    synced.map_err(|source| failed(parent, &source))
}

/// Whether a file is there, or a directory with files of this extension in it; what else a disk has is nobody's.
pub(crate) fn has_files(path: &Path, extension: &str) -> Result<bool, Failure> {
    let found = fs::metadata(path).and_then(|it| {
        if !it.is_dir() {
            return Ok(true);
        }
        let names = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
        Ok(names.iter().any(|it| it.path().extension().is_some_and(|it| it == extension)))
    });
    match found {
        Ok(found) => Ok(found),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(failed(path, &source)),
    }
}

/// Takes the directory for this process, for as long as the file is open.
pub(crate) fn lock(path: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = opened.map_err(|source| failed(path, &source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let directory = path.parent().unwrap_or(path).display();
            Err(Failure::new(ErrorCode::Conflict, format!("a node runs in {directory} already"))
                .help("stop it first, or name another directory"))
        }
        Err(source) => Err(failed(path, &source.into())),
    }
}

/// 32 bytes as 64 hexadecimal digits in a secret file; `None` when there is no file.
pub(crate) fn read_key(path: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, Failure> {
    let Some(text) = read_secret(path)? else { return Ok(None) };
    match holo_core::ClusterId::from_hex(text.trim()) {
        Ok(key) => Ok(Some(Zeroizing::new(key.0))),
        // The content is never part of the message.
        Err(_) => Err(Failure::new(
            ErrorCode::ConfigInvalid,
            format!("{} does not hold 64 hexadecimal digits", path.display()),
        )),
    }
}

/// Writes 32 bytes as [`read_key`] reads them.
pub(crate) fn write_key(path: &Path, key: &[u8; 32]) -> Result<(), Failure> {
    let mut text = Zeroizing::new(holo_core::ClusterId(*key).to_hex());
    text.push('\n');
    write(path, &text)
}

pub(crate) fn failed(path: &Path, source: &std::io::Error) -> Failure {
    Failure::new(ErrorCode::FileFailed, format!("{}: {source}", path.display()))
}
