//! Values on the command line.

use holo_core::Failure;

/// Makes a parser of ours one of clap's: the message without its `error:`, which clap puts before it.
pub(crate) fn argument<T>(
    parse: fn(&str) -> Result<T, Failure>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |text| {
        parse(text).map_err(|failure| match failure.help {
            Some(help) => format!("{} [{}]\n  help: {help}", failure.message, failure.code),
            None => format!("{} [{}]", failure.message, failure.code),
        })
    }
}
