//! `holo array get`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use holo_client::AnyArray;
use holo_core::{ErrorCode, Failure, Selection, npy};
use serde::Serialize;

use super::Context;
use super::elements::{nested_json, scalars};
use super::target::Target;
use super::text::{Excerpt, flat_ranges};
use crate::argument::argument;
use crate::progress::Progress;
use crate::quantity;

/// Elements printed as JSON at most.
const JSON_ELEMS_MAX: u64 = 1_000_000;
/// Bytes fetched at a time on their way to a file.
const CHUNK_BYTES: u64 = 64 << 20;
/// Runs shorter than this are fetched together rather than one by one.
const LONG_RUN_BYTES: u64 = 64 << 10;

/// Print elements, or write them to a .npy file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo array get 'demo/a[0:10, ::2]'
  holo array get demo/a --out a.npy

On the terminal long axes show their edges only, as NumPy does; --out and -o json give every element.")]
pub(crate) struct Args {
    /// The array, or a slice of it in quotes
    #[arg(value_name = "ARRAY[SLICE]", value_parser = argument(Target::parse))]
    target: Target,
    /// The file to write; replaced only when everything has arrived
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Elements {
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
    data: serde_json::Value,
}

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    dtype: &'static str,
    shape: Vec<u64>,
    bytes: u64,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let array = cluster.open_any(&args.target.name).await?;
    let selection = args.target.select(&array)?;
    match &args.out {
        Some(path) => save(&array, &selection, path, context).await,
        None if context.output.is_json() => print_json(&array, &selection, context).await,
        None => print_text(&array, &selection, context).await,
    }
}

async fn print_text(
    array: &AnyArray,
    selection: &Selection,
    context: &Context,
) -> Result<(), Failure> {
    let excerpt = Excerpt::of(selection.shape().dims());
    let mut values = Vec::new();
    for range in flat_ranges(&excerpt.positions(), selection.runs()) {
        values.extend(scalars(array.dtype(), &array.read_bytes(range).await?));
    }
    context.output.data(&excerpt.render(&values));
    context.output.note(&format!("{} {}", array.dtype(), selection.shape()));
    Ok(())
}

async fn print_json(
    array: &AnyArray,
    selection: &Selection,
    context: &Context,
) -> Result<(), Failure> {
    let elems = selection.shape().elems();
    if elems > JSON_ELEMS_MAX {
        let message = format!("{elems} elements as JSON, at most {JSON_ELEMS_MAX} are printed");
        return Err(
            Failure::new(ErrorCode::TooLarge, message).help("take a slice, or give --out FILE")
        );
    }
    let values = scalars(array.dtype(), &array.read_selection(selection).await?);
    let shape = selection.shape().dims().to_vec();
    context.output.json(&Elements {
        name: array.name().to_owned(),
        dtype: array.dtype().name(),
        data: nested_json(&values, &shape),
        shape,
    });
    Ok(())
}

/// Writes beside the file and renames at the end, so that no half of a file is ever left under its name.
async fn save(
    array: &AnyArray,
    selection: &Selection,
    path: &Path,
    context: &Context,
) -> Result<(), Failure> {
    let failed = |source: std::io::Error| {
        Failure::new(ErrorCode::of_file(source.kind()), format!("{}: {source}", path.display()))
    };
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    // Else the message names a file that nobody has asked for.
    std::fs::metadata(folder).map_err(failed)?;
    let mut temporary =
        tempfile::Builder::new().prefix(".holo-").tempfile_in(folder).map_err(failed)?;
    let mut file = BufWriter::new(temporary.as_file_mut());
    file.write_all(&npy::encode_header(selection.shape(), array.dtype())).map_err(failed)?;
    copy(array, selection, &mut file, &failed, context).await?;
    file.flush().map_err(failed)?;
    drop(file);
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(path).map_err(|error| failed(error.error))?;
    let bytes = bytes_of(array, selection);
    if context.output.is_json() {
        context.output.json(&Written {
            file: path.to_owned(),
            dtype: array.dtype().name(),
            shape: selection.shape().dims().to_vec(),
            bytes,
        });
    } else {
        context.output.note(&format!(
            "wrote {}: {} {}, {}",
            path.display(),
            array.dtype(),
            selection.shape(),
            quantity::bytes(bytes)
        ));
    }
    Ok(())
}

async fn copy(
    array: &AnyArray,
    selection: &Selection,
    file: &mut BufWriter<&mut File>,
    failed: &impl Fn(std::io::Error) -> Failure,
    context: &Context,
) -> Result<(), Failure> {
    let (bytes, size) = (bytes_of(array, selection), array.dtype().size() as u64);
    let progress = Progress::bytes(&context.output, array.name(), bytes);
    let longest = selection.runs().map(|(_, elems)| elems * size).max().unwrap_or(0);
    if longest < LONG_RUN_BYTES {
        let data = array.read_selection(selection).await?;
        return file.write_all(&data).map_err(failed);
    }
    for (first, elems) in selection.runs() {
        let end = first + elems;
        let mut next = first;
        while next < end {
            let upto = end.min(next + CHUNK_BYTES / size);
            let data = array.read_bytes_with(next..upto, &progress).await?;
            file.write_all(&data).map_err(failed)?;
            next = upto;
        }
    }
    Ok(())
}

fn bytes_of(array: &AnyArray, selection: &Selection) -> u64 {
    selection.shape().elems() * array.dtype().size() as u64
}
