//! `holo version`.

use holo_core::Failure;
use serde::Serialize;

use super::Context;

/// Print the version of this program
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holo version -o json")]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Version {
    holo: &'static str,
    protocol: u32,
    target: String,
}

pub(crate) fn run(_args: &Args, context: &Context) -> Result<(), Failure> {
    let version = Version {
        holo: env!("CARGO_PKG_VERSION"),
        protocol: u32::from(holo_core::wire::WIRE_VERSION),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    };
    if context.output.is_json() {
        context.output.json(&version);
    } else {
        context.output.data(&format!(
            "holo {} ({}, wire protocol {})",
            version.holo, version.target, version.protocol
        ));
    }
    Ok(())
}
