//! Fills a shared array with `i*i + 3i + 1` on the nodes that hold it, sums it there, and checks the sum.
//!
//! ```text
//! cargo build --release --bin holo
//! cargo run --release -p holo-examples --example quadratic_sum -- 100000000
//! ```
//!
//! Starts three nodes on this machine unless `HOLO_CLUSTER` and `HOLO_IDENTITY` name a cluster.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use anyhow::{Context, Result, ensure};
use holo_client::{Cluster, ENV_CLUSTER, Options};

const ELEMS_DEFAULT: u64 = 10_000_000;
const NAME: &str = "examples/quadratic";

#[tokio::main]
async fn main() -> Result<()> {
    let elems = match std::env::args().nth(1) {
        Some(text) => text.parse().with_context(|| format!("{text:?} is no number of elements"))?,
        None => ELEMS_DEFAULT,
    };
    if std::env::var_os(ENV_CLUSTER).is_some() {
        return quadratic_sum(&Cluster::connect(Options::from_env()?).await?, elems).await;
    }
    let local = Cluster::local(3).await?;
    let outcome = quadratic_sum(&local, elems).await;
    local.close().await?;
    outcome
}

async fn quadratic_sum(cluster: &Cluster, elems: u64) -> Result<()> {
    let array = cluster.array(NAME).shape([elems]).create::<i64>().await?;
    let outcome = fill_and_sum(cluster, elems).await;
    cluster.remove(array.name()).await?;
    outcome
}

async fn fill_and_sum(cluster: &Cluster, elems: u64) -> Result<()> {
    let array = cluster.open::<i64>(NAME).await?;
    let fill = cluster.expr("i*i + 3*i + 1").store_into(&array).run().await?;
    println!("filled {} elements in {} shards: {:.1?}", fill.elems, fill.shards, fill.elapsed);
    for node in &fill.nodes {
        println!(
            "  {}: {} shards in {:.1?} ({})",
            node.name, node.shards, node.elapsed, node.engine
        );
    }
    let (sum, expected) = (array.sum().await?, closed_form(elems));
    println!("sum {sum}, expected {expected}");
    ensure!(sum == expected, "the sum is wrong");
    println!("array[1000..1003] = {:?}", array.read(1000..1003).await?);
    Ok(())
}

/// The sum of `i*i + 3i + 1` for `i` below `elems`, wrapped to 64 bits as the nodes do it.
fn closed_form(elems: u64) -> i64 {
    let n = i128::from(elems);
    let squares = (n - 1) * n * (2 * n - 1) / 6;
    let exact = squares + 3 * n * (n - 1) / 2 + n;
    i64::from_le_bytes(std::array::from_fn(|byte| exact.to_le_bytes()[byte]))
}
