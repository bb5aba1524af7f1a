//! The worker as a process: absent drivers, hangs, kills and garbage. None of it needs an adapter, unless it says so.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says aloud what it skips"
)]

#[path = "worker/mod.rs"]
mod worker;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use holo_core::expr::{Input, NodeIndex, Op, Program, Reduction};
use holo_core::{DType, ErrorCode, Failure, Scalar};
use holo_gpu::{GpuError, GpuOutput, GpuTask, GpuWorker};
use rustix::process::{Pid, Signal, kill_process};
use worker::{PATIENT, PROGRAM, worker, worker_with_adapter};

/// Impatient, but long enough for a process to start and to say nothing.
const SHORT: Duration = Duration::from_secs(3);

/// A file that is not there yet; present, it makes a misbehaving worker behave.
struct Marker(String);

impl Marker {
    fn of(test: &str) -> Self {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{test}-{}", std::process::id()));
        Self(path.into_os_string().into_string().unwrap())
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

fn sum_of_indexes() -> Program {
    Program::new(Vec::new(), vec![Op::Index], NodeIndex(0), Some(Reduction::Sum)).unwrap()
}

fn run(worker: &GpuWorker) -> Result<GpuOutput, GpuError> {
    let task = GpuTask { first_index: 0, elems: 10, inputs: &[], output: None };
    worker.run_shard(&sum_of_indexes(), task)
}

/// The worker answers again: with the sum, or with the news that this machine has no adapter.
fn assert_answers(worker: &GpuWorker) {
    match run(worker) {
        Ok(output) => assert_eq!(output.accumulator, Some(Scalar::i64(45))),
        Err(GpuError::NoAdapter(why)) => {
            eprintln!("no adapter, but the worker answers: {why}");
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// The children of this process that run the test worker with `first` as its first argument.
fn workers_running(first: &str) -> Vec<Pid> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = numbers.filter(|number| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        // pid (name) state parent ..: the name may hold anything, but no `)` after its end.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        let command = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0).skip(1);
        parent == Some(own.as_str()) && words.next() == Some(first.as_bytes())
    });
    ours.filter_map(Pid::from_raw).collect()
}

/// Waits for the one worker with this first argument: the scan itself is the pause between two looks.
fn running_worker(first: &str) -> Pid {
    loop {
        if let [pid] = workers_running(first)[..] {
            return pid;
        }
    }
}

#[test]
fn without_a_driver_there_is_no_adapter_and_the_help_says_what_to_install() {
    let worker = worker(&["gpu-worker"], PATIENT)
        .env("VK_DRIVER_FILES", "/nonexistent")
        .env("VK_ICD_FILENAMES", "/nonexistent");
    assert!(matches!(worker.adapter(), Err(GpuError::NoAdapter(_))));
    let failure = Failure::from(run(&worker).unwrap_err());
    assert_eq!(failure.code, ErrorCode::NoGpuAdapter);
    assert!(failure.to_string().starts_with("error[HC1701]: no GPU adapter: "), "{failure}");
    assert!(failure.help.unwrap().contains("mesa-vulkan-drivers"));
}

#[test]
fn a_hung_worker_is_killed_by_the_watchdog_and_the_next_call_works() {
    let marker = Marker::of("hang");
    let hung = worker(&["hang", &marker.0], SHORT);
    // A busy machine may not even have started it in time: then once more, until it has hung at least once.
    while !fs::exists(&marker.0).unwrap() {
        let error = hung.adapter().unwrap_err();
        assert!(matches!(error, GpuError::Watchdog { .. }), "{error:?}");
        let failure = Failure::from(error);
        assert_eq!(failure.code, ErrorCode::TimeLimit);
        assert!(
            failure.message.contains("watchdog") && failure.message.contains("3s"),
            "{failure}"
        );
        assert_eq!(workers_running("hang"), []);
    }
    // The marker is there now, so that this one behaves; it needs more time than the hung one got.
    assert_answers(&worker(&["hang", &marker.0], PATIENT));
}

#[test]
fn a_worker_that_stops_in_a_launch_is_killed_and_the_next_call_works() {
    let Some((_, report)) = worker_with_adapter("a worker that stops in a launch") else { return };
    let marker = Marker::of("stops");
    fs::write(&marker.0, b"").unwrap();
    // Behaves because of the marker; its first argument makes it findable.
    let worker = worker(&["stops", &marker.0], Duration::from_secs(30));
    assert_eq!(worker.adapter().unwrap(), report);
    let stopped = running_worker("stops");
    kill_process(stopped, Signal::STOP).unwrap();
    let error = run(&worker).unwrap_err();
    assert!(
        matches!(error, GpuError::Watchdog { during, .. } if during.contains("kernel")),
        "{error:?}"
    );
    assert_answers(&worker);
    assert_ne!(running_worker("stops"), stopped);
}

#[test]
fn a_worker_killed_during_a_call_is_named_and_the_next_call_works() {
    let marker = Marker::of("killed");
    let worker = worker(&["killed-hang", &marker.0], PATIENT);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| worker.adapter());
        while !fs::exists(&marker.0).unwrap() {}
        kill_process(running_worker("killed-hang"), Signal::KILL).unwrap();
        let error = call.join().unwrap().unwrap_err();
        assert!(
            matches!(&error, GpuError::WorkerDied { status, .. } if status.contains("SIGKILL")),
            "{error:?}"
        );
        assert_eq!(Failure::from(error).code, ErrorCode::GpuFailed);
    });
    assert_answers(&worker);
}

#[test]
fn a_cancelled_call_ends_at_once_and_the_next_call_works() {
    let marker = Marker::of("cancelled");
    let worker = worker(&["cancelled-hang", &marker.0], PATIENT);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| run(&worker));
        while !fs::exists(&marker.0).unwrap() {}
        worker.cancel();
        let error = call.join().unwrap().unwrap_err();
        assert!(matches!(error, GpuError::Cancelled), "{error:?}");
        assert_eq!(Failure::from(error).code, ErrorCode::Cancelled);
    });
    // Nothing runs: nothing to cancel, and the next call is not hit by it.
    worker.cancel();
    assert_answers(&worker);
}

#[test]
fn answers_that_are_none_are_errors_and_end_the_worker() {
    for (mode, part) in
        [("garbage", "head of a frame"), ("oversized", "at most"), ("nothing", "no report")]
    {
        let worker = worker(&[mode], PATIENT);
        let error = worker.adapter().unwrap_err();
        assert!(
            matches!(&error, GpuError::Protocol(why) if why.contains(part)),
            "{mode}: {error:?}"
        );
        assert_eq!(Failure::from(error).code, ErrorCode::GpuFailed);
        assert_eq!(workers_running(mode), []);
    }
}

#[test]
fn a_worker_that_ends_by_itself_is_quoted() {
    let error = worker(&["says-why"], PATIENT).adapter().unwrap_err();
    let failure = Failure::from(error);
    assert_eq!(failure.code, ErrorCode::GpuFailed);
    assert!(failure.message.contains("exit status: 3"), "{failure}");
    assert!(failure.message.contains("the driver is on fire"), "{failure}");
}

#[test]
fn a_worker_that_cannot_start_is_named() {
    let missing = GpuWorker::new("/nonexistent/holo".into(), Vec::new(), PATIENT);
    let failure = Failure::from(missing.adapter().unwrap_err());
    assert_eq!(failure.code, ErrorCode::GpuFailed);
    assert!(failure.message.contains("/nonexistent/holo"), "{failure}");
}

#[test]
fn a_dropped_handle_leaves_no_process() {
    let marker = Marker::of("dropped");
    fs::write(&marker.0, b"").unwrap();
    let worker = worker(&["dropped", &marker.0], PATIENT);
    assert_answers(&worker);
    drop(worker);
    assert_eq!(workers_running("dropped"), []);
}

#[test]
fn a_worker_has_a_memory_limit_and_leaves_no_core_dump() {
    let marker = Marker::of("limits");
    fs::write(&marker.0, b"").unwrap();
    let Some(_) = worker_with_adapter("the limits of a worker") else { return };
    let worker = worker(&["limits", &marker.0], PATIENT);
    worker.adapter().unwrap();
    let pid = running_worker("limits").as_raw_nonzero();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit_of = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()).map(str::to_owned)
    };
    assert_eq!(limit_of("Max data size").as_deref(), Some("4294967296"), "{limits}");
    assert_eq!(limit_of("Max core file size").as_deref(), Some("0"), "{limits}");
}

#[test]
fn a_task_that_does_not_fit_its_program_starts_nothing() {
    let absent = GpuWorker::new("/nonexistent/holo".into(), Vec::new(), PATIENT);
    let stores = Program::new(
        vec![Input { name: "x".into(), dtype: DType::I32 }],
        vec![Op::Input(0)],
        NodeIndex(0),
        None,
    )
    .unwrap();
    let task = || GpuTask { first_index: 0, elems: 4, inputs: &[], output: None };
    assert!(matches!(absent.run_shard(&stores, task()), Err(GpuError::InvalidTask(_))));
    let beyond = GpuTask { first_index: u64::MAX, ..task() };
    assert!(absent.run_shard(&sum_of_indexes(), beyond).is_err());
}

/// Feeds bytes to a real worker and gives its exit code and what it said.
fn fed_with(bytes: &[u8]) -> (Option<i32>, String) {
    let mut child = Command::new(PROGRAM)
        .arg("gpu-worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_worker_ends_well_when_its_input_is_closed() {
    assert_eq!(fed_with(&[]), (Some(0), String::new()));
}

#[test]
fn a_worker_refuses_oversized_and_malformed_requests() {
    let (code, said) = fed_with(&[0xff; 8]);
    assert_eq!(code, Some(1));
    assert!(said.contains("at most"), "{said}");
    let (code, said) = fed_with(&[4, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(code, Some(1));
    assert!(said.contains("head of a frame"), "{said}");
}
