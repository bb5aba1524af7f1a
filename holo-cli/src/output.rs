//! The only place that prints: data on stdout, prose on stderr.
//!
//! A reader that goes away (`holo array ls | head -1`) is not an error: what would follow is dropped. Any other
//! failure to write stdout is remembered and becomes the command's failure in [`Output::finish`].

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};

use holo_core::{ErrorCode, Failure, Retry};
use serde::Serialize;

/// Version of every JSON document that the command prints; grows when a field changes its meaning.
const JSON_VERSION: u32 = 1;

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
}

/// Where a command prints to, and how.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    quiet: bool,
    color: bool,
    stdout: RefCell<Stdout>,
}

#[derive(Debug)]
enum Stdout {
    Open,
    Closed,
    Failed(io::Error),
}

impl Output {
    /// Decides about colour: only on a terminal, unless `no_color` or `NO_COLOR` says otherwise.
    pub(crate) fn new(format: Format, quiet: bool, no_color: bool) -> Self {
        let unwanted =
            no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = !unwanted && io::stdout().is_terminal();
        Self { format, quiet, color, stdout: RefCell::new(Stdout::Open) }
    }

    /// Whether the data goes to a program rather than to a person.
    pub(crate) fn is_json(&self) -> bool {
        self.format != Format::Table
    }

    /// Whether a document goes on one line, so that there may be several.
    pub(crate) fn is_jsonl(&self) -> bool {
        self.format == Format::Jsonl
    }

    /// Whether somebody still reads stdout.
    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.stdout.borrow(), Stdout::Open)
    }

    /// Whether what is shown again goes to where it was shown before.
    pub(crate) fn redraws(&self) -> bool {
        self.format == Format::Table && io::stdout().is_terminal()
    }

    /// Empties the screen.
    pub(crate) fn clear_screen(&self) {
        self.write("\x1b[H\x1b[2J");
    }

    /// Whether stdout takes colour.
    pub(crate) fn color(&self) -> bool {
        self.color
    }

    /// Whether somebody watches stderr and wants to see progress there.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Prints data; a newline is added.
    pub(crate) fn data(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    /// Prints one JSON document with the version as its first field: indented for `-o json`, on one line for
    /// `-o jsonl`.
    pub(crate) fn json(&self, document: &impl Serialize) {
        let text = match self.format {
            Format::Jsonl => compact(document),
            Format::Table | Format::Json => indented(document),
        };
        self.data(&text);
    }

    /// Prints one JSON document on one line, whatever the format.
    pub(crate) fn json_line(&self, document: &impl Serialize) {
        self.data(&compact(document));
    }

    /// Prints a list: one document that holds `rows` under `name`, or one line a row for `-o jsonl`.
    pub(crate) fn json_rows<T: Serialize>(&self, name: &str, rows: &[T]) {
        if self.format == Format::Jsonl {
            for row in rows {
                self.data(&compact(row));
            }
            return;
        }
        let mut document = serde_json::Map::new();
        document.insert(name.to_owned(), to_value(rows));
        self.json(&document);
    }

    /// Says something to the person at the terminal, unless `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            to_stderr(text);
        }
    }

    /// Says something to the person at the terminal that they must not miss, even with `--quiet`.
    pub(crate) fn warn(&self, text: &str) {
        to_stderr(text);
    }

    /// Prints a failure: `error[HC1101]: ...` and its help, or one JSON line for programs.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.is_json() {
            to_stderr(&compact(&ErrorDocument::from(failure)));
        } else {
            to_stderr(&failure.to_string());
        }
    }

    /// Whether everything reached stdout; a reader that closed it wanted no more.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`] when stdout broke otherwise, such as a full disk.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        match &*self.stdout.borrow() {
            Stdout::Open | Stdout::Closed => Ok(()),
            Stdout::Failed(error) => {
                Err(Failure::new(ErrorCode::FileFailed, format!("cannot write to stdout: {error}")))
            }
        }
    }

    fn write(&self, text: &str) {
        let mut stdout = self.stdout.borrow_mut();
        if !matches!(*stdout, Stdout::Open) {
            return;
        }
        let mut lock = io::stdout().lock();
        match lock.write_all(text.as_bytes()).and_then(|()| lock.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => *stdout = Stdout::Closed,
            Err(error) => *stdout = Stdout::Failed(error),
        }
    }
}

#[derive(Serialize)]
struct ErrorDocument {
    error: ErrorFields,
}

#[derive(Serialize)]
struct ErrorFields {
    code: String,
    title: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    retry: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u32>,
}

impl From<&Failure> for ErrorDocument {
    fn from(failure: &Failure) -> Self {
        let retry = match failure.code.retry() {
            Retry::Never => "never",
            Retry::Later => "later",
            Retry::Unknown => "unknown",
        };
        Self {
            error: ErrorFields {
                code: failure.code.to_string(),
                title: failure.code.title(),
                message: failure.message.clone(),
                help: failure.help.clone(),
                retry,
                retry_after_ms: failure.retry_after_ms,
            },
        }
    }
}

/// A document with the version put before its own fields.
#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    document: &'a T,
}

fn compact(document: &impl Serialize) -> String {
    let versioned = Versioned { version: JSON_VERSION, document };
    serde_json::to_string(&versioned).unwrap_or_else(|error| unprintable(&error))
}

fn indented(document: &impl Serialize) -> String {
    let versioned = Versioned { version: JSON_VERSION, document };
    serde_json::to_string_pretty(&versioned).unwrap_or_else(|error| unprintable(&error))
}

fn to_value(rows: &(impl Serialize + ?Sized)) -> serde_json::Value {
    serde_json::to_value(rows)
        .unwrap_or_else(|error| serde_json::Value::String(unprintable(&error)))
}

/// Our documents are plain structs with string keys, so this is reached only by a bug of ours.
fn unprintable(error: &serde_json::Error) -> String {
    format!(
        "{{\"version\":{JSON_VERSION},\"error\":{{\"code\":\"{}\",\"message\":\"{error}\"}}}}",
        ErrorCode::Internal
    )
}

/// Nothing sensible is left to do when stderr is gone.
fn to_stderr(text: &str) {
    let mut lock = io::stderr().lock();
    if lock.write_all(text.as_bytes()).is_ok() && lock.write_all(b"\n").is_ok() {
        lock.flush().ok();
    }
}
