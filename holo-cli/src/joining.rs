//! Waits until freshly started nodes have found each other.

use std::time::Duration;

use holo_client::{Cluster, Options};
use holo_core::{DType, ErrorCode, Failure};

use crate::clock::Stopwatch;

/// Time that the nodes may take to find each other.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(20);
/// Name of the array that is made and removed to find out.
const PROBE: &str = "holo.starting";

/// Connects, and returns when every node takes part: when an array can be made, which needs all of them.
///
/// # Errors
///
/// [`ErrorCode::DeadlineExceeded`] with the last refusal; any other error of the connection at once.
pub(crate) async fn connect(options: Options) -> Result<Cluster, Failure> {
    let started = Stopwatch::start();
    let cluster = Cluster::connect(options).await?;
    let mut ticks = tokio::time::interval(PAUSE);
    loop {
        ticks.tick().await;
        let refused = match cluster.array(PROBE).shape([1]).create_any(DType::Bool).await {
            Ok(_) => {
                cluster.remove(PROBE).await?;
                return Ok(cluster);
            }
            Err(error) => Failure::from(error),
        };
        if refused.code != ErrorCode::Unreachable {
            return Err(refused);
        }
        if started.elapsed() > JOIN_TIMEOUT {
            let message = format!("the nodes did not find each other: {}", refused.message);
            return Err(Failure::new(ErrorCode::DeadlineExceeded, message));
        }
    }
}
