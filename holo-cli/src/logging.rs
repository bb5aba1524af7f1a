//! What happens inside, on stderr, for whoever asks with `HOLO_LOG`.

use std::io::IsTerminal;

use holo_core::{ErrorCode, Failure};
use tracing_subscriber::EnvFilter;

use crate::output::Output;

/// What a node logs unless somebody says otherwise. openraft tells its usual steps as INFO and WARN and every voter that
/// does not answer as ERROR, several times a second; what a person has to know of the catalog, our own crates tell.
pub(crate) const NODE_DEFAULT: &str = "info,openraft=off";

/// Logs from now on what `HOLO_LOG` asks for; without it what `otherwise` says, or nothing at all.
///
/// # Errors
///
/// [`ErrorCode::ConfigInvalid`] when `HOLO_LOG` is no filter.
pub(crate) fn start(output: &Output, otherwise: Option<&str>) -> Result<(), Failure> {
    let wrong = |message: String| {
        Failure::new(ErrorCode::ConfigInvalid, format!("HOLO_LOG: {message}"))
            .help("write a level such as info or debug, or part=level pairs such as holo_net=trace")
    };
    let wanted = match std::env::var("HOLO_LOG") {
        Ok(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Ok(_) | Err(std::env::VarError::NotPresent) => otherwise.map(str::to_owned),
        Err(source) => return Err(wrong(source.to_string())),
    };
    let Some(wanted) = wanted else { return Ok(()) };
    let filter = EnvFilter::try_new(wanted).map_err(|source| wrong(source.to_string()))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && output.color());
    let started = if output.is_json() { lines.json().try_init() } else { lines.try_init() };
    started.map_err(|source| Failure::new(ErrorCode::Internal, format!("cannot log: {source}")))
}
