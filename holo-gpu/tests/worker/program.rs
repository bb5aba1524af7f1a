//! The worker as a program of its own, and the ways in which a worker can misbehave.

use std::io::{Read, Write};
use std::process::ExitCode;

/// What the first argument asks for; a second one names a file whose presence means: behave from now on.
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let Some(marker) = args.get(2) {
        if std::fs::exists(marker).unwrap_or(true) {
            return holo_gpu::worker_main();
        }
        if std::fs::write(marker, b"").is_err() {
            return ExitCode::FAILURE;
        }
    }
    match args.get(1).map_or("", String::as_str) {
        "gpu-worker" => holo_gpu::worker_main(),
        "hang" | "killed-hang" | "cancelled-hang" => read_for_ever(),
        "garbage" => answer_with(&[4, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        "oversized" => answer_with(&[0xff; 8]),
        "nothing" => answer_with(&[0; 8]),
        "says-why" => say_why(),
        _ => ExitCode::from(64),
    }
}

fn read_for_ever() -> ExitCode {
    let read = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    if read.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn answer_with(bytes: &[u8]) -> ExitCode {
    let mut request = [0; 8];
    let mut answer = std::io::stdout();
    let done = std::io::stdin()
        .read_exact(&mut request)
        .and_then(|()| answer.write_all(bytes))
        .and_then(|()| answer.flush());
    if done.is_err() {
        return ExitCode::FAILURE;
    }
    read_for_ever()
}

fn say_why() -> ExitCode {
    let said = std::io::stderr().write_all(b"the driver is on fire\n");
    if said.is_ok() { ExitCode::from(3) } else { ExitCode::FAILURE }
}
