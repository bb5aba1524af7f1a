//! `holo array put`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use holo_client::{AnyArray, Cluster};
use holo_core::npy::NpyHeader;
use holo_core::{DType, ErrorCode, Failure, Selection};
use serde::Serialize;

use super::elements::parse_value;
use super::target::Target;
use super::{Context, Described};
use crate::argument::argument;
use crate::commands::allocate::tell_fewer_copies;
use crate::progress::Progress;
use crate::quantity;

/// Bytes sent at a time on their way from a file.
const CHUNK_BYTES: usize = 64 << 20;
/// Bytes from the start of a file that say how long its header is.
const PREFIX_BYTES: usize = 12;
/// A slice of more pieces than this is written at once, from memory.
const PIECES_MAX: usize = 256;

/// Write elements from a .npy file, or one value everywhere
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo array put demo/a --in a.npy
  holo array put 'demo/a[5]' --value 3
  holo array put 'demo/a[0:10, :]' --in rows.npy

An array that does not exist is made with the file's shape and dtype. Fortran order and big-endian files are converted;
other dtypes are refused. A slice takes a file of exactly its shape.")]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub(crate) struct Args {
    /// The array, or a slice of it in quotes
    #[arg(value_name = "ARRAY[SLICE]", value_parser = argument(Target::parse))]
    target: Target,
    /// The file to read
    #[arg(long = "in", value_name = "FILE", group = "source")]
    file: Option<PathBuf>,
    /// One value for every element
    #[arg(long, allow_hyphen_values = true, group = "source")]
    value: Option<String>,
    /// An array to lie beside, when the array has to be made
    #[arg(long, value_name = "NAME", requires = "file")]
    like: Option<String>,
}

#[derive(Serialize)]
struct Put {
    array: Described,
    created: bool,
    elems: u64,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    // The file is checked before anybody connects or anything is made.
    let source = args.file.as_deref().map(Source::open).transpose()?;
    let cluster = context.connect().await?;
    let (array, created, elems) = match (source, &args.value) {
        (Some(source), _) => put_file(&args, &cluster, source, context).await?,
        (None, value) => {
            let array = cluster.open_any(&args.target.name).await?;
            let elems =
                put_value(&args.target, &array, value.as_deref().unwrap_or_default()).await?;
            (array, false, elems)
        }
    };
    let described = Described::from(array.descriptor());
    if context.output.is_json() {
        context.output.json(&Put { array: described, created, elems });
    } else {
        let made = if created { "made and wrote" } else { "wrote" };
        context
            .output
            .note(&format!("{made} {} of {described}", quantity::counted(elems, "element")));
    }
    if created && args.like.is_none() {
        tell_fewer_copies(&cluster, &array, context).await;
    }
    Ok(())
}

async fn put_file(
    args: &Args,
    cluster: &Cluster,
    mut source: Source,
    context: &Context,
) -> Result<(AnyArray, bool, u64), Failure> {
    let elems = source.header.shape.elems();
    let existing = cluster.find_any(&args.target.name).await?;
    let (array, created) = match existing {
        Some(array) => (array, false),
        None if args.target.is_whole() => {
            (source.make(&args.target.name, args.like.as_deref(), cluster).await?, true)
        }
        None => {
            let message = format!("array {}: not found", args.target.name);
            return Err(Failure::new(ErrorCode::NotFound, message).help(
                "make it first with `holo allocate`; a slice alone does not tell its shape",
            ));
        }
    };
    let written = source.write_to(&array, &args.target, context).await;
    if written.is_err() && created {
        // Nothing half-done: what we made and could not fill goes again. The first error is the one to tell.
        cluster.remove(array.name()).await.ok();
    }
    written.map(|()| (array, created, elems))
}

async fn put_value(target: &Target, array: &AnyArray, text: &str) -> Result<u64, Failure> {
    let value = parse_value(text, array.dtype())?;
    if target.is_whole() {
        array.fill(value).await?;
        return Ok(array.len());
    }
    let selection = target.select(array)?;
    let elems = selection.shape().elems();
    if selection.runs().take(PIECES_MAX + 1).count() > PIECES_MAX {
        let element = &value.le_bytes()[..array.dtype().size()];
        let count = usize::try_from(elems).map_err(|source| {
            Failure::new(
                ErrorCode::TooLarge,
                format!("a slice of {}: {source}", quantity::counted(elems, "element")),
            )
        })?;
        array.write_selection(&selection, &element.repeat(count)).await?;
        return Ok(elems);
    }
    for (first, elems) in selection.runs() {
        array.fill_range(first..first + elems, value).await?;
    }
    Ok(elems)
}

/// A `.npy` file whose header has been read and fits its length.
struct Source {
    path: PathBuf,
    file: File,
    header: NpyHeader,
    bytes: usize,
}

impl Source {
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |source: std::io::Error| io_failure(path, &source);
        let mut file = File::open(path).map_err(failed)?;
        let mut head = Vec::new();
        file.by_ref().take(PREFIX_BYTES as u64).read_to_end(&mut head).map_err(failed)?;
        let in_file = |failure: Failure| failure.context(path.display());
        let offset = NpyHeader::data_offset(&head).map_err(in_file)?;
        let rest = offset.saturating_sub(head.len());
        file.by_ref().take(rest as u64).read_to_end(&mut head).map_err(failed)?;
        let header = NpyHeader::parse(&head).map_err(in_file)?;
        let length = file.metadata().map_err(failed)?.len();
        let expected = header.shape.elems().saturating_mul(header.dtype.size() as u64);
        if length != expected.saturating_add(header.data_offset as u64) {
            let message = format!(
                "{}: {length} bytes, but {} {} needs {}",
                path.display(),
                header.dtype,
                header.shape,
                expected.saturating_add(header.data_offset as u64)
            );
            return Err(Failure::new(ErrorCode::UnsupportedFormat, message).help(
                "the file was cut off or has something behind its elements: write it again",
            ));
        }
        let bytes = usize::try_from(expected).map_err(|source| {
            Failure::new(
                ErrorCode::TooLarge,
                format!("{}: {expected} bytes: {source}", path.display()),
            )
        })?;
        Ok(Self { path: path.to_owned(), file, header, bytes })
    }

    async fn make(
        &self,
        name: &str,
        like: Option<&str>,
        cluster: &Cluster,
    ) -> Result<AnyArray, Failure> {
        let mut builder = cluster.array(name).shape(self.header.shape.dims());
        if let Some(like) = like {
            builder = builder.like(like);
        }
        Ok(builder.create_any(self.header.dtype).await?)
    }

    async fn write_to(
        &mut self,
        array: &AnyArray,
        target: &Target,
        context: &Context,
    ) -> Result<(), Failure> {
        if array.dtype() != self.header.dtype {
            let message = format!(
                "{} holds {}, array {} is {}",
                self.path.display(),
                self.header.dtype,
                array.name(),
                array.dtype()
            );
            return Err(Failure::new(ErrorCode::DtypeMismatch, message)
                .help("convert the file, or write it to an array of its own and convert with `holo run --expr`"));
        }
        let selection = target.select(array)?;
        if *selection.shape() != self.header.shape {
            let message = format!(
                "{} has shape {}, its target {}",
                self.path.display(),
                self.header.shape,
                selection.shape()
            );
            return Err(Failure::new(ErrorCode::InvalidArgument, message));
        }
        let progress = Progress::bytes(&context.output, array.name(), self.bytes as u64);
        let as_it_is = !self.header.fortran_order && !self.header.big_endian;
        if as_it_is && target.is_whole() {
            return self.stream_to(array, &progress).await;
        }
        let data = self.read(self.bytes)?;
        let data = if as_it_is { data } else { self.header.to_c_order_le(&data)? };
        write_slice(array, target, &selection, clean(self.header.dtype, data), &progress).await
    }

    /// Sends the file piece by piece; its elements lie as the array's do.
    async fn stream_to(&mut self, array: &AnyArray, progress: &Progress) -> Result<(), Failure> {
        let size = array.dtype().size();
        let mut sent = 0;
        while sent < self.bytes {
            let data = self.read((self.bytes - sent).min(CHUNK_BYTES))?;
            let (first, len) = ((sent / size) as u64, data.len());
            array.write_shared(first, clean(self.header.dtype, data).into(), progress).await?;
            sent += len;
        }
        Ok(())
    }

    fn read(&mut self, bytes: usize) -> Result<Vec<u8>, Failure> {
        let mut data = vec![0u8; bytes];
        self.file.read_exact(&mut data).map_err(|source| io_failure(&self.path, &source))?;
        Ok(data)
    }
}

async fn write_slice(
    array: &AnyArray,
    target: &Target,
    selection: &Selection,
    data: Vec<u8>,
    progress: &Progress,
) -> Result<(), Failure> {
    if target.is_whole() {
        array.write_shared(0, data.into(), progress).await?;
    } else {
        array.write_selection(selection, &data).await?;
    }
    Ok(())
}

/// A bool is 0 or 1, whatever other programs wrote.
fn clean(dtype: DType, mut data: Vec<u8>) -> Vec<u8> {
    if dtype == DType::Bool {
        data.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
    }
    data
}

fn io_failure(path: &Path, source: &std::io::Error) -> Failure {
    Failure::new(ErrorCode::of_file(source.kind()), format!("{}: {source}", path.display()))
}
