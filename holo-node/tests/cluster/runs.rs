//! Programs beside the data.

use std::time::Duration;

use holo_client::{DType, ErrorCode};

use crate::harness::Harness;
use crate::with_memory;

const DOUBLE_THEN_TRAP: &str = r#"(module
  (memory (export "memory") 4)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_tile") (param $desc i32) (result i32)
    ;; Traps on the tile that starts at element 3000, after it has written its window.
    (i64.store (i32.load offset=44 (local.get $desc)) (i64.const 77))
    (if (i64.eq (i64.load offset=8 (local.get $desc)) (i64.const 3000)) (then unreachable))
    i32.const 0))"#;

const COUNT: &str = r#"(module
  (memory (export "memory") 4)
  (global (export "holo_abi") i32 (i32.const 1))
  (global $n (mut i64) (i64.const 0))
  (func (export "holo_tile") (param $desc i32) (result i32)
    (global.set $n (i64.add (global.get $n) (i64.extend_i32_u (i32.load offset=16 (local.get $desc)))))
    i32.const 0)
  (func (export "holo_finish") (param $out i32) (param $cap i32) (result i32)
    (i64.store (local.get $out) (global.get $n))
    i32.const 8)
  (func (export "holo_combine") (param i32 i32 i32 i32 i32 i32) (result i32)
    (i64.store (local.get 4) (i64.add (i64.load (local.get 0)) (i64.load (local.get 2))))
    i32.const 8))"#;

const SAY: &str = r#"(module
  (import "holo" "result" (func $result (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param $args i32) (param $len i32) (result i32)
    (drop (call $result (local.get $args) (local.get $len)))
    i32.const 0))"#;

const ENDLESS: &str = r#"(module
  (memory (export "memory") 4)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_tile") (param i32) (result i32) (loop $again (br $again)) i32.const 0))"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_hit_names_itself_and_more_than_a_node_gives_is_refused() {
    let harness = Harness::start_with(1, &with_memory("32MiB")).await;
    let cluster = harness.client().await;
    cluster.array("t/x").shape([100_000]).create::<f64>().await.unwrap();
    let sum = || cluster.expr("sum(sqrt(x) + 1)").input("x", "t/x");
    assert_eq!(sum().fuel(10).run().await.unwrap_err().code(), ErrorCode::FuelLimit);
    assert_eq!(sum().memory(1 << 20).run().await.unwrap_err().code(), ErrorCode::InvalidArgument);
    let minute = Duration::from_secs(60);
    assert_eq!(
        sum().time_limit(minute).run().await.unwrap_err().code(),
        ErrorCode::InvalidArgument
    );
    let endless = cluster.task(wat::parse_str(ENDLESS).unwrap()).output("t/x");
    let stopped = endless.time_limit(Duration::from_millis(60)).run().await.unwrap_err();
    assert_eq!(stopped.code(), ErrorCode::TimeLimit, "{stopped}");
    assert!(stopped.to_string().contains("60 ms"), "{stopped}");
    assert!(sum().run().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_requester_left_is_stopped() {
    let harness = Harness::start_with(1, &with_memory("32MiB")).await;
    let cluster = harness.client().await;
    cluster.array("t/x").shape([1_000]).create::<f64>().await.unwrap();
    {
        // Its own connection: it closes with the client.
        let leaving = harness.client().await;
        let endless = leaving.task(wat::parse_str(ENDLESS).unwrap()).output("t/x");
        let left = tokio::time::timeout(Duration::from_millis(300), endless.run()).await;
        assert!(left.is_err(), "an endless kernel ended: {left:?}");
        leaving.disconnect().await;
    }
    // Both workers of the node are needed for this, so the endless kernel must be gone: its limit is 30 s.
    let noop = wat::parse_str(SAY).unwrap();
    let task = cluster.task(noop).grant("result");
    let calls = (0..4).map(|_| task.call(&b"x"[..]));
    let answered =
        tokio::time::timeout(Duration::from_secs(25), futures_util::future::join_all(calls));
    assert!(answered.await.unwrap().iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expression_gives_the_same_bits_however_the_shards_lie() {
    let mut sums = Vec::new();
    for nodes in [1, 3] {
        let harness = Harness::start_with(nodes, &with_memory("64MiB")).await;
        let cluster = harness.client().await;
        cluster
            .array("t/x")
            .shape([100_003])
            .shard_elems(7_001)
            .create_any(DType::F64)
            .await
            .unwrap();
        cluster.expr("y = sin(float64(i)) * 1e3").output("y", "t/x").run().await.unwrap();
        let report = cluster.expr("sum(sqrt(x*x + 1) / 3)").input("x", "t/x").run().await.unwrap();
        assert_eq!(report.shards, 15);
        sums.push(report.into_value().unwrap());
    }
    assert_eq!(sums[0], sums[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_array_may_be_input_and_output_at_once() {
    let harness = Harness::start_with(2, &with_memory("64MiB")).await;
    let cluster = harness.client().await;
    let array =
        cluster.array("t/x").shape([50_000]).shard_elems(4_000).create::<i64>().await.unwrap();
    cluster.expr("y = i").output("y", "t/x").run().await.unwrap();
    cluster.expr("y = x*2 + 1").input("x", "t/x").output("y", "t/x").run().await.unwrap();
    let values = array.read(..).await.unwrap();
    assert!(values.iter().zip(0i64..).all(|(value, i)| *value == 2 * i + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_kernel_leaves_no_trace_in_its_shard() {
    let harness = Harness::start_with(2, &with_memory("64MiB")).await;
    let cluster = harness.client().await;
    let array =
        cluster.array("t/x").shape([6_000]).shard_elems(1_000).create::<i64>().await.unwrap();
    array.fill(5).await.unwrap();
    let module = wat::parse_str(DOUBLE_THEN_TRAP).unwrap();
    let failed = cluster.task(module).output("t/x").run().await.unwrap_err();
    assert_eq!(failed.code(), ErrorCode::TaskFailed);
    assert!(failed.to_string().contains("shard 3"), "{failed}");
    let untouched = array.read(3_000..4_000).await.unwrap();
    assert!(untouched.iter().all(|value| *value == 5));
    // The node goes on.
    assert_eq!(array.get(3_500).await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_modules_partial_results_are_combined_in_shard_order() {
    let harness = Harness::start_with(3, &with_memory("64MiB")).await;
    let cluster = harness.client().await;
    cluster.array("t/x").shape([123_457]).shard_elems(10_000).create::<u8>().await.unwrap();
    let module = wat::parse_str(COUNT).unwrap();
    let report = cluster.task(module).input("t/x").run().await.unwrap();
    assert_eq!(report.output.as_deref(), Some(&123_457i64.to_le_bytes()[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_works_only_where_it_was_granted() {
    let harness = Harness::start_with(1, &with_memory("32MiB")).await;
    let cluster = harness.client().await;
    let module = wat::parse_str(SAY).unwrap();
    let denied = cluster.task(module.clone()).call(&b"hello"[..]).await.unwrap_err();
    assert_eq!(denied.code(), ErrorCode::CapabilityDenied);
    assert!(denied.to_string().contains("result"), "{denied}");
    let report = cluster.task(module.clone()).grant("result").call(&b"hello"[..]).await.unwrap();
    assert_eq!(&report.output[..], b"hello");
    let unknown = cluster.task(module).grant("everything").call(&b""[..]).await.unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operands_that_do_not_lie_side_by_side_are_refused() {
    let harness = Harness::start_with(2, &with_memory("64MiB")).await;
    let cluster = harness.client().await;
    for name in ["t/x", "t/apart"] {
        cluster.array(name).shape([1_000]).create::<f32>().await.unwrap();
    }
    let refused = cluster
        .expr("x + y")
        .input("x", "t/x")
        .input("y", "t/apart")
        .output("z", "t/x")
        .run()
        .await
        .unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotColocated);
    let wrong =
        cluster.expr("z = x > 0").input("x", "t/x").output("z", "t/x").run().await.unwrap_err();
    assert_eq!(wrong.code(), ErrorCode::DtypeMismatch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_memory_than_a_node_has_fails_that_run_alone() {
    let harness = Harness::start_with(1, &with_memory("16MiB")).await;
    let cluster = harness.client().await;
    let array = cluster.array("t/x").shape([1 << 20]).create::<i64>().await.unwrap();
    array.fill(1).await.unwrap();
    let refused =
        cluster.array("t/y").shape([1 << 20]).like("t/x").create::<i64>().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::OutOfCapacity);
    assert_eq!(array.sum().await.unwrap(), 1 << 20);
}
