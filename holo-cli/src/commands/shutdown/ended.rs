//! Whether the process of a node has ended, as far as that can be seen from outside.
//!
//! A node that was told to stop says farewell to its peers, and may still write pages to its disk, for longer than it
//! answers. It keeps its port until then. A datagram to a port that nobody has comes back as an error, from this machine
//! and from most others.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use holo_client::MemberView;
use tokio::net::UdpSocket;

use super::Context;
use crate::clock::pause;

/// How long the ends of nodes are waited for: where nothing comes back, nobody tells.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two datagrams.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// What is sent: nothing that a node reads.
const KNOCK: [u8; 1] = [0];

/// Waits until the processes of these nodes have ended, or for a while where that cannot be seen, and says so then.
pub(super) async fn until_ended(nodes: &[&MemberView], context: &Context) {
    let all = async {
        for node in nodes {
            until_port_is_free(&node.member.address).await;
        }
    };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        let message =
            "they take no work any more; whether the processes have ended cannot be seen from here";
        context.output.note(message);
    }
}

/// Never ends where the address cannot be asked: that is not seen to be free.
async fn until_port_is_free(address: &str) {
    let Some(socket) = connected(address).await else { return std::future::pending().await };
    let mut byte = [0];
    loop {
        let told = async {
            socket.send(&KNOCK).await?;
            socket.recv(&mut byte).await
        };
        match tokio::time::timeout(LOOK_INTERVAL, told).await {
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return,
            // Another error or an answer would come at once, again and again.
            Ok(_) => pause(LOOK_INTERVAL).await,
            Err(_elapsed) => {}
        }
    }
}

async fn connected(address: &str) -> Option<UdpSocket> {
    let place = tokio::net::lookup_host(address).await.ok()?.next()?;
    let any: IpAddr = match place {
        std::net::SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        std::net::SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(place).await.ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_seen_to_be_free_once_nobody_has_it() {
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let waiting = until_port_is_free(&address);
        tokio::pin!(waiting);
        let knocked = async {
            let mut byte = [0];
            taken.recv(&mut byte).await.unwrap();
        };
        tokio::select! {
            () = &mut waiting => panic!("the port is taken"),
            () = knocked => {}
        }
        drop(taken);
        waiting.await;
        assert!(connected(&address).await.is_some(), "the address is one");
    }

    /// Its process was said to have ended, by a command that had not looked.
    #[tokio::test]
    async fn a_port_that_cannot_be_asked_is_not_seen_to_be_free() {
        let waiting = until_port_is_free("no address");
        assert!(tokio::time::timeout(LOOK_INTERVAL, waiting).await.is_err());
    }
}
