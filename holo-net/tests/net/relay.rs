//! A hostile network: a UDP relay that sees, changes, repeats or drops datagrams on their way.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToNode,
    ToClient,
}

/// What becomes of a datagram: these are delivered in its place.
type Meddler = Box<dyn FnMut(Way, Vec<u8>) -> Vec<Vec<u8>> + Send>;

/// Stands between one client and a node until it is dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Relays between whoever sends to `address` and the node, through `meddler`.
    pub(crate) async fn new(node: SocketAddr, meddler: Meddler) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        back.connect(node).await.unwrap();
        let address = front.local_addr().unwrap();
        let client = Arc::new(Mutex::new(None));
        let meddler = Arc::new(Mutex::new(meddler));
        let mut tasks = JoinSet::new();
        {
            let (front, back) = (Arc::clone(&front), Arc::clone(&back));
            let (client, meddler) = (Arc::clone(&client), Arc::clone(&meddler));
            tasks.spawn(async move {
                let mut buffer = vec![0; 65_536];
                loop {
                    let (len, from) = front.recv_from(&mut buffer).await.unwrap();
                    *client.lock() = Some(from);
                    let out = (meddler.lock())(Way::ToNode, buffer[..len].to_vec());
                    for datagram in out {
                        // A refused port is the node being away: that is loss.
                        drop(back.send(&datagram).await);
                    }
                }
            });
        }
        tasks.spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                let Ok(len) = back.recv(&mut buffer).await else { continue };
                let to = *client.lock();
                let out = (meddler.lock())(Way::ToClient, buffer[..len].to_vec());
                for datagram in out {
                    if let Some(to) = to {
                        front.send_to(&datagram, to).await.unwrap();
                    }
                }
            }
        });
        Self { address, _tasks: tasks }
    }
}
