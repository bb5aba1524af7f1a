//! An adapter, through the real worker process.

#[path = "worker/mod.rs"]
mod worker;

use worker::worker_with_adapter;

#[test]
fn an_adapter_says_what_it_is_and_what_it_can_do() {
    let Some((_worker, report)) = worker_with_adapter("the report of an adapter") else { return };
    eprintln!("{report} {report:?}");
    assert!(!report.name.is_empty());
    assert!(report.storage_binding_bytes_max >= 64 << 20);
    // Mesa's software device is known: what the canary finds must be what we know.
    if report.name.contains("llvmpipe") {
        assert!(report.capabilities.loop_limited);
        assert!(report.capabilities.int64 && report.capabilities.float64);
    }
    assert!(report.capabilities.out_of_bounds_contained);
}
