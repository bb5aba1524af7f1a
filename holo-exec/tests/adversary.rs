//! Modules that mean harm, or that are broken: each ends as its own clear error, and the engine is as good as before.
//!
//! The modules are in `adversary/`, each with a first line that says what it does.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod operands;

use std::{path::Path, sync::Arc, time::Duration};

use holo_core::{DType, ErrorCode, Failure, TileSink};
use holo_exec::{
    CallOutput, Capability, Engine, EngineOptions, ExecError, Grants, Limits, Module, RunControl,
    ShardTask, TrapKind,
};
use operands::{Draw, Sink, Source};

fn engine() -> Engine {
    Engine::new(EngineOptions { instances_max: 8, ..EngineOptions::default() }).unwrap()
}

fn bytes(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adversary").join(name);
    let text = std::fs::read_to_string(path.with_extension("wat")).unwrap();
    wat::parse_str(&text).unwrap()
}

fn module(engine: &Engine, name: &str) -> Arc<Module> {
    engine.module(&bytes(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn everything() -> Grants {
    Capability::ALL.iter().fold(Grants::none(), |grants, capability| grants.with(*capability))
}

/// Enough for any module that means well; time above all, for a machine that is busy elsewhere.
fn limits() -> Limits {
    Limits {
        fuel: 1 << 62,
        time: Duration::from_secs(3600),
        memory_bytes: 8 << 20,
        output_bytes: 1 << 20,
        log_bytes: 16 << 10,
    }
}

/// The same for modules that never end by themselves.
fn brief() -> Limits {
    Limits { time: Duration::from_millis(50), ..limits() }
}

fn call(engine: &Engine, name: &str) -> Result<CallOutput, ExecError> {
    module(engine, name).call(&[], &everything(), &limits(), &RunControl::default())
}

/// The module's error; a good module runs in the same engine right after it.
fn stopped(name: &str) -> ExecError {
    stopped_within(name, &limits())
}

fn stopped_within(name: &str, limits: &Limits) -> ExecError {
    let engine = engine();
    let module = module(&engine, name);
    let error = module.call(&[], &everything(), limits, &RunControl::default()).unwrap_err();
    still_healthy(&engine);
    error
}

fn still_healthy(engine: &Engine) {
    let output = module(engine, "well_behaved")
        .call(b"hello", &everything().seed(1), &limits(), &RunControl::default())
        .unwrap();
    assert_eq!(&output.output[..5], b"hello");
}

fn refused(name: &str) -> ExecError {
    let engine = engine();
    let error = engine.module(&bytes(name)).unwrap_err();
    still_healthy(&engine);
    error
}

fn code(error: ExecError) -> ErrorCode {
    Failure::from(error).code
}

#[test]
fn an_endless_loop_ends_at_the_time_limit() {
    let error = stopped_within("endless_loop", &brief());
    assert!(
        error.to_string().contains("holo_task") && error.to_string().contains("50ms"),
        "{error}"
    );
    assert_eq!(
        error.fuel(),
        brief().fuel,
        "the engine cannot say what was burned, so all is billed"
    );
    assert_eq!(code(error), ErrorCode::TimeLimit);
    for name in ["bulk_fill_loop", "spins_for_the_clock", "endless_start"] {
        assert_eq!(code(stopped_within(name, &brief())), ErrorCode::TimeLimit, "{name}");
    }
}

#[test]
fn an_endless_loop_ends_when_its_fuel_is_burned() {
    let engine = engine();
    let little_fuel = Limits { fuel: 1_000_000, ..limits() };
    for name in ["endless_loop", "endless_start"] {
        let error = module(&engine, name)
            .call(&[], &everything(), &little_fuel, &RunControl::default())
            .unwrap_err();
        assert!(error.to_string().contains("1000000 units"), "{error}");
        assert_eq!(error.fuel(), 1_000_000);
        assert_eq!(code(error), ErrorCode::FuelLimit);
    }
    still_healthy(&engine);
}

#[test]
fn an_endless_loop_ends_when_it_is_cancelled() {
    let engine = engine();
    let module = module(&engine, "endless_loop");
    let control = RunControl::default();
    let error = std::thread::scope(|scope| {
        let theirs = control.clone();
        let run =
            scope.spawn(move || module.call(&[], &everything(), &limits(), &theirs).unwrap_err());
        control.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        run.join().unwrap()
    });
    assert_eq!(code(error), ErrorCode::Cancelled);
    still_healthy(&engine);
}

#[test]
fn an_endless_loop_ends_at_the_deadline_of_its_request() {
    let engine = engine();
    #[expect(clippy::disallowed_methods, reason = "a deadline is a wall-clock instant")]
    let deadline = Some(std::time::Instant::now() + Duration::from_millis(20));
    let control = RunControl { deadline, ..RunControl::default() };
    let module = module(&engine, "endless_loop");
    let error = module.call(&[], &everything(), &limits(), &control).unwrap_err();
    assert_eq!(code(error), ErrorCode::DeadlineExceeded);
}

#[test]
fn a_memory_grab_ends_at_the_memory_limit() {
    for name in ["memory_grab", "memory_grab_and_report"] {
        let error = stopped(name);
        assert!(
            matches!(error, ExecError::MemoryLimit { limit: 8_388_608, wanted, .. } if wanted > 8 << 20)
        );
        assert_eq!(code(error), ErrorCode::MemoryLimit);
    }
}

#[test]
fn a_module_that_starts_too_large_is_not_started() {
    let error = refused("huge_initial_memory");
    assert!(error.to_string().contains("bytes of initial memory"), "{error}");
    assert_eq!(code(error), ErrorCode::TooLarge);
    assert_eq!(code(stopped("large_initial_memory")), ErrorCode::MemoryLimit);
}

#[test]
fn tiles_and_arguments_count_against_the_memory_limit() {
    let engine = engine();
    let module = module(&engine, "writes_past_its_window");
    let tight = Limits { memory_bytes: 128 << 10, ..limits() };
    let mut instance = module.start(&[], &Grants::none(), &tight, &RunControl::default()).unwrap();
    let mut sink = Sink::default();
    let task = ShardTask {
        first_index: 0,
        elems: 1,
        inputs: &[&Source(&[0; 8])],
        outputs: &mut [&mut sink],
    };
    let error = instance.run_shard(task, &[DType::I64; 2], &RunControl::default()).unwrap_err();
    assert!(matches!(error, ExecError::MemoryLimit { limit: 131_072, .. }), "{error}");
    assert_eq!(code(run_tile(&engine, "own_memory_maximum").unwrap_err()), ErrorCode::MemoryLimit);
}

#[test]
fn endless_recursion_ends_at_the_stack_limit() {
    let error = stopped("stack_overflow");
    assert!(matches!(error, ExecError::StackLimit { limit: 262_144, .. }), "{error}");
    assert_eq!(code(error), ErrorCode::StackLimit);
}

#[test]
fn an_output_flood_ends_at_the_output_limit() {
    let error = stopped("output_flood");
    assert!(matches!(error, ExecError::OutputLimit { limit: 1_048_576, .. }), "{error}");
    assert_eq!(code(error), ErrorCode::OutputLimit);
}

#[test]
fn a_log_flood_ends_at_the_log_limit() {
    for name in ["log_flood", "empty_log_flood"] {
        let error = stopped(name);
        assert!(matches!(error, ExecError::LogLimit { limit: 16_384, .. }), "{error}");
    }
}

#[test]
fn an_import_that_was_not_granted_is_named_and_nothing_runs() {
    let engine = engine();
    let module = module(&engine, "ungranted_import");
    assert_eq!(module.imports(), ["holo.rand64"]);
    assert_eq!(module.needs(), [Capability::Random]);
    for grants in [Grants::none(), Grants::none().with(Capability::Log).with(Capability::Result)] {
        let error = module.call(&[], &grants, &limits(), &RunControl::default()).unwrap_err();
        assert!(error.to_string().contains("holo.rand64"), "{error}");
        assert_eq!(error.fuel(), 0);
        assert_eq!(code(error), ErrorCode::CapabilityDenied);
    }
    let granted = Grants::none().with(Capability::Random);
    module.call(&[], &granted, &limits(), &RunControl::default()).unwrap();
}

#[test]
fn an_import_that_this_host_does_not_have_is_named() {
    let error = refused("unknown_import");
    assert!(error.to_string().contains("wasi_snapshot_preview1.fd_write"), "{error}");
    assert!(matches!(refused("imported_memory"), ExecError::ImportUnknown { .. }));
    assert!(matches!(refused("mistyped_import"), ExecError::ModuleInvalid { .. }));
    assert_eq!(code(refused("planned_import")), ErrorCode::NotYet);
}

#[test]
fn bytes_that_are_no_module_are_refused() {
    let engine = engine();
    let whole = bytes("well_behaved");
    let mut flipped = whole.clone();
    for byte in &mut flipped[20..] {
        *byte ^= 0x5a;
    }
    let component = *b"\0asm\x0d\0\x01\0";
    let elf = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
    for bad in
        [&b""[..], b"\0asm", b"\0asm\x01\0\0\0", b"not wasm at all", &flipped, &component, &elf]
    {
        assert!(matches!(engine.module(bad).unwrap_err(), ExecError::ModuleInvalid { .. }));
    }
    // Native code that the engine itself would load has the shape of an ELF file.
    let mut valid = 0;
    for length in 0..whole.len() {
        match engine.module(&whole[..length]) {
            Ok(_) => valid += 1,
            Err(error) => assert_eq!(code(error), ErrorCode::ModuleInvalid, "cut at {length}"),
        }
    }
    assert_eq!(valid, 1, "only the one cut before the optional names leaves a module");
    still_healthy(&engine);
}

#[test]
fn modules_with_flipped_bytes_are_refused_or_run_within_limits() {
    let engine = engine();
    let mut draw = Draw(4);
    let tight = Limits { fuel: 100_000, ..brief() };
    let mut ran = 0;
    for name in ["well_behaved", "canary", "table_grab", "writes_past_its_window", "calls_nothing"]
    {
        let whole = bytes(name);
        for _ in 0..60 {
            let mut flipped = whole.clone();
            for _ in 0..1 + draw.below(3) {
                let at = 8 + draw.below(flipped.len() - 8);
                flipped[at] ^= 1 << draw.below(8);
            }
            let Ok(module) = engine.module(&flipped) else { continue };
            ran += 1;
            // Whatever comes out, the next good run below has to be possible.
            module.call(b"arguments", &everything(), &tight, &RunControl::default()).ok();
        }
        still_healthy(&engine);
    }
    assert!(ran > 0, "some mutants are modules");
}

#[test]
fn a_compile_bomb_is_refused_before_it_is_compiled() {
    let engine = engine();
    let wrap = |body: &str| {
        let text = format!(
            "(module (memory (export \"memory\") 1) (global (export \"holo_abi\") i32 (i32.const 1))
             (func (export \"holo_task\") (param i32 i32) (result i32) (local i32) {body} (i32.const 0)))"
        );
        wat::parse_str(text).unwrap()
    };
    let statement = "(local.set 2 (i32.mul (local.get 0) (i32.load (local.get 1))))";
    let huge_function = wrap(&statement.repeat(40_000));
    let deep = wrap(&format!("{}{}", "(block ".repeat(2_000), ")".repeat(2_000)));
    let many = wat::parse_str(format!("(module {})", "(func)".repeat(20_001))).unwrap();
    let large = vec![0; (16 << 20) + 1];
    for (bomb, what) in [
        (huge_function, "bytes in one function"),
        (deep, "nested blocks"),
        (many, "functions"),
        (large, "bytes,"),
        (bytes("huge_table"), "table elements"),
    ] {
        let error = engine.module(&bomb).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(code(error), ErrorCode::TooLarge);
    }
    still_healthy(&engine);
}

#[test]
fn a_table_does_not_grow_beyond_its_bound() {
    let output = call(&engine(), "table_grab").unwrap().output;
    assert_eq!(u32::from_le_bytes(output.try_into().unwrap()), 9_901);
}

#[test]
fn features_that_this_host_does_not_have_are_refused() {
    for name in [
        "feature_threads",
        "feature_atomics",
        "feature_memory64",
        "feature_multi_memory",
        "feature_relaxed_simd",
        "feature_gc",
        "feature_tail_calls",
        "feature_exceptions",
    ] {
        assert_eq!(code(refused(name)), ErrorCode::ModuleInvalid, "{name}");
    }
}

#[test]
fn a_module_of_another_abi_is_refused() {
    for (name, why) in [
        ("abi_missing", "exports no global holo_abi"),
        ("abi_version_two", "version 2"),
        ("abi_mutable", "no constant"),
        ("export_memory_missing", "no export memory"),
        ("export_kernel_missing", "neither holo_tile nor holo_task"),
        ("export_mistyped", "holo_task must be a function of 2 i32"),
    ] {
        let error = refused(name);
        assert!(error.to_string().contains(why), "{name}: {error}");
        assert_eq!(code(error), ErrorCode::ModuleInvalid);
    }
    call(&engine(), "abi_by_address").unwrap();
}

#[test]
fn a_call_that_the_module_does_not_offer_is_refused() {
    let engine = engine();
    let module = module(&engine, "well_behaved");
    let start = module.start(&[], &everything(), &limits(), &RunControl::default()).unwrap_err();
    assert!(start.to_string().contains("does not export holo_tile"), "{start}");
    let combine = module
        .combine(&[], &[vec![1]], &everything(), &limits(), &RunControl::default())
        .unwrap_err();
    assert!(combine.to_string().contains("does not export holo_combine"), "{combine}");
    let args = vec![0; holo_core::limits::TASK_ARGS_BYTES_MAX + 1];
    let long = module.call(&args, &everything(), &limits(), &RunControl::default()).unwrap_err();
    assert_eq!(code(long), ErrorCode::InvalidArgument);
}

#[test]
fn a_pointer_outside_memory_ends_the_call_that_it_was_given_to() {
    for (name, host_call, pointer) in [
        ("bad_pointer_log", "log", 65_530),
        ("bad_pointer_result", "result", 0xffff_fff0),
        ("bad_pointer_fail", "fail", 0),
    ] {
        let error = stopped(name);
        let ExecError::Trap {
            kind: TrapKind::BadPointer { import, pointer: found, memory, .. },
            ..
        } = error
        else {
            panic!("{name}: {error}");
        };
        assert_eq!((import, found, memory), (host_call, pointer, 65_536));
    }
}

#[test]
fn a_trap_says_what_it_was_and_bills_all_that_was_granted() {
    for (name, expected) in [
        ("divides_by_zero", TrapKind::DivisionByZero),
        ("reads_outside_memory", TrapKind::MemoryOutOfBounds),
        ("calls_nothing", TrapKind::BadIndirectCall),
        ("trap_in_start", TrapKind::Unreachable),
    ] {
        let error = stopped(name);
        assert_eq!(error.fuel(), limits().fuel, "{name}");
        let ExecError::Trap { kind, export, .. } = &error else { panic!("{name}: {error}") };
        assert_eq!(*kind, expected);
        assert_eq!(*export == "holo_task", name != "trap_in_start");
        assert_eq!(code(error), ErrorCode::TaskFailed);
    }
}

#[test]
fn a_module_can_fail_in_its_own_words() {
    let error = stopped("fails_by_itself");
    assert!(error.to_string().contains("code 7: no such row"), "{error}");
    assert_eq!(code(error), ErrorCode::TaskFailed);
}

fn run_tile(engine: &Engine, name: &str) -> Result<Vec<u8>, ExecError> {
    let module = module(engine, name);
    let control = RunControl::default();
    let mut instance = module.start(&[], &Grants::none(), &limits(), &control)?;
    let (input, mut sink) =
        ((0..40_000u64).flat_map(u64::to_le_bytes).collect::<Vec<u8>>(), Sink::default());
    let sinks: &mut [&mut dyn TileSink] = &mut [&mut sink];
    let task =
        ShardTask { first_index: 0, elems: 40_000, inputs: &[&Source(&input)], outputs: sinks };
    if let Err(error) = instance.run_shard(task, &[DType::I64; 2], &control) {
        let task =
            ShardTask { first_index: 0, elems: 0, inputs: &[&Source(&[])], outputs: &mut [] };
        let again = instance.run_shard(task, &[DType::I64], &control).unwrap_err();
        assert!(
            matches!(again, ExecError::TaskInvalid { .. }),
            "a dead sandbox does not run: {again}"
        );
        return Err(error);
    }
    instance.finish(&control)?;
    Ok(sink.0)
}

#[test]
fn a_tile_kernel_that_writes_outside_its_windows_hurts_only_itself() {
    let output = run_tile(&engine(), "writes_past_its_window").unwrap();
    let expected: Vec<u8> = (0..40_000u64).flat_map(|i| (2 * i).to_le_bytes()).collect();
    assert!(output == expected, "the input's source and the next tile are as they were");
}

#[test]
fn lengths_and_pointers_that_a_module_returns_are_checked() {
    let engine = engine();
    assert_eq!(code(run_tile(&engine, "finish_lies").unwrap_err()), ErrorCode::OutputLimit);
    assert!(matches!(
        run_tile(&engine, "reserve_lies").unwrap_err(),
        ExecError::GuestStatus { export: "holo_reserve", .. }
    ));
}

#[test]
fn nothing_of_one_run_is_visible_to_the_next() {
    let engine =
        Engine::new(EngineOptions { instances_max: 1, ..EngineOptions::default() }).unwrap();
    let mut fresh = vec![0; 0x40000 + 4];
    fresh[8..13].copy_from_slice(b"fresh");
    for _ in 0..20 {
        let output = call(&engine, "canary").unwrap().output;
        assert!(output == fresh, "memory, data and globals are as the module was written");
    }
    // Another module that gets the same slot sees zeros, too.
    still_healthy(&engine);
    assert!(call(&engine, "canary").unwrap().output == fresh);
}

#[test]
fn sandboxes_are_bounded_and_come_back() {
    let engine =
        Engine::new(EngineOptions { instances_max: 1, ..EngineOptions::default() }).unwrap();
    let module = module(&engine, "writes_past_its_window");
    let control = RunControl::default();
    let first = module.start(&[], &Grants::none(), &limits(), &control).unwrap();
    let error = module.start(&[], &Grants::none(), &limits(), &control).unwrap_err();
    let failure = Failure::from(error);
    assert_eq!(failure.code, ErrorCode::Overloaded);
    assert!(failure.retry_after_ms.is_some());
    drop(first);
    module.start(&[], &Grants::none(), &limits(), &control).unwrap();
}

#[test]
fn the_same_run_twice_has_the_same_output_and_fuel() {
    let engine = engine();
    let module = module(&engine, "well_behaved");
    let run = |seed| {
        let grants = everything().seed(seed);
        module.call(b"same", &grants, &limits(), &RunControl::default()).unwrap()
    };
    assert_eq!(run(7), run(7));
    assert!(run(7).fuel > 0);
    assert_ne!(run(7).output, run(8).output, "another seed, another number");
    assert_eq!(run(7).fuel, run(8).fuel);
}

#[test]
fn ten_thousand_traps_leave_the_engine_healthy() {
    let engine = engine();
    let names = [
        "trap_in_start",
        "divides_by_zero",
        "reads_outside_memory",
        "stack_overflow",
        "bad_pointer_log",
    ];
    let modules = names.map(|name| module(&engine, name));
    let grants = everything();
    for round in 0..2_000 {
        for module in &modules {
            module.call(&[], &grants, &limits(), &RunControl::default()).unwrap_err();
        }
        if round % 100 == 0 {
            still_healthy(&engine);
        }
    }
    still_healthy(&engine);
}
