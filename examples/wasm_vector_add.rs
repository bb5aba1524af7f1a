//! Adds two shared arrays of 10 million `f32` by a WASM module that runs on the nodes that hold them.
//!
//! ```text
//! cargo build --release --bin holo
//! (cd examples/kernels && cargo build --release)
//! cargo run --release -p holo-examples --example wasm_vector_add -- [MODULE.wasm]
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use holo_client::{Cluster, ENV_CLUSTER, Options};

const ELEMS: u64 = 10_000_000;
const A: &str = "examples/add-a";
const B: &str = "examples/add-b";
const C: &str = "examples/add-c";

#[tokio::main]
async fn main() -> Result<()> {
    let module = std::env::args().nth(1).map_or_else(default_module, PathBuf::from);
    let module = std::fs::read(&module).with_context(|| {
        format!(
            "no module at {}: build it with\n  (cd examples/kernels && cargo build --release)\nor name one",
            module.display()
        )
    })?;
    if std::env::var_os(ENV_CLUSTER).is_some() {
        return run(&Cluster::connect(Options::from_env()?).await?, module).await;
    }
    let local = Cluster::local(3).await?;
    let outcome = run(&local, module).await;
    local.close().await?;
    outcome
}

async fn run(cluster: &Cluster, module: Vec<u8>) -> Result<()> {
    cluster.array(A).shape([ELEMS]).create::<f32>().await?;
    cluster.array(B).like(A).create::<f32>().await?;
    cluster.array(C).like(A).create::<f32>().await?;
    let outcome = vector_add(cluster, module).await;
    for name in [A, B, C] {
        cluster.remove(name).await?;
    }
    outcome
}

async fn vector_add(cluster: &Cluster, module: Vec<u8>) -> Result<()> {
    cluster.expr("float32(i % 1000)").store_into(A).run().await?;
    cluster.expr("float32(i % 7) / 2").store_into(B).run().await?;
    let task = cluster.task(module).input(A).input(B).output(C);
    println!("module {}", task.module_id());
    let report = task.run().await?;
    println!("added {} elements in {} shards: {:.1?}", report.elems, report.shards, report.elapsed);
    for node in &report.nodes {
        println!("  {}: {} shards in {:.1?}", node.name, node.shards, node.elapsed);
    }
    let wrong = cluster.expr("sum(c != a + b)").input("a", A).input("b", B).input("c", C);
    let wrong = wrong.run().await?.into_value()?.to_i128();
    ensure!(wrong == 0, "{wrong} elements are wrong");
    println!(
        "every element is right; c[0..8] = {:?}",
        cluster.open::<f32>(C).await?.read(0..8).await?
    );
    Ok(())
}

/// Where cargo leaves the kernel of `examples/kernels`.
fn default_module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("kernels/target/wasm32-unknown-unknown/release/vector_add.wasm")
}
