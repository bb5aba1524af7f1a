//! Any bytes as a module: refused, or run within limits. Never a panic, a hang, or a sandbox that stays behind.
#![no_main]

use std::{sync::LazyLock, time::Duration};

use holo_exec::{Capability, Engine, EngineOptions, Grants, Limits, RunControl};
use libfuzzer_sys::fuzz_target;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let options = EngineOptions { instances_max: 1, ..EngineOptions::default() };
    Engine::new(options).expect("an engine on this machine")
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(module) = ENGINE.module(bytes) else { return };
    let grants =
        Capability::ALL.iter().fold(Grants::none(), |grants, capability| grants.with(*capability));
    let limits = Limits {
        fuel: 1 << 20,
        time: Duration::from_secs(1),
        memory_bytes: 4 << 20,
        output_bytes: 1 << 16,
        log_bytes: 1 << 12,
    };
    let control = RunControl::default();
    let _ = module.call(b"arguments", &grants, &limits, &control);
    let partials = vec![vec![1; 8], vec![2; 8], vec![3; 8]];
    let _ = module.combine(&[], &partials, &grants, &limits, &control);
    if let Ok(instance) = module.start(b"parameters", &grants, &limits, &control) {
        let _ = instance.finish(&control);
    }
});
