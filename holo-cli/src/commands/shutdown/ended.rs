//! Whether the process of a node has ended, as far as that can be seen from outside.
//!
//! A node that was told to stop says farewell to its peers, and may still write pages to its disk, for longer than it
//! answers. It keeps its port until then. A datagram to a port that nobody has comes back as an error, from this machine
//! and from most others.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use holo_client::MemberView;
use holo_core::{ErrorCode, Failure};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::Context;
use crate::clock::pause;
use crate::signals::StopSignals;

/// How long the end of a node is waited for before something is said: where nothing comes back, nobody tells.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two datagrams.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// What is sent: nothing that a node reads.
const KNOCK: [u8; 1] = [0];

/// What nodes that take no work any more may still have to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Others have it, or it is on disk.
    Nothing,
    /// Write down what they hold, which may take minutes.
    Writing,
}

/// Waits until the processes of these nodes have ended: however long it takes where they can be seen to run, and for a
/// while where that cannot be seen. Returns the names of those whose end was not seen, and says what that means.
///
/// # Errors
///
/// [`ErrorCode::Cancelled`] when somebody does not want to wait any longer.
pub(super) async fn until_ended(
    nodes: &[&MemberView],
    left: Left,
    context: &Context,
) -> Result<Vec<String>, Failure> {
    // Caught here: whoever followed a drain has taken from the signals that they end the process.
    let mut signals = StopSignals::catch()?;
    let members = nodes.iter().map(|node| (&*node.member.name, &*node.member.address));
    let watched = watch(members.collect(), PATIENCE, |running| {
        context.output.note(&left.of_running(running));
    });
    let unseen = tokio::select! {
        unseen = watched => unseen,
        signal = signals.next() => {
            let message = format!("{signal}: not all processes were seen to end; they were told to, and will");
            return Err(Failure::new(ErrorCode::Cancelled, message).help(left.advice()));
        }
    };
    match (unseen.is_empty(), left) {
        (true, _) => {}
        (false, Left::Nothing) => context.output.note(&left.of_unseen(&unseen)),
        // Who switches the machine off now may lose what lies nowhere else.
        (false, Left::Writing) => context.output.warn(&left.of_unseen(&unseen)),
    }
    Ok(unseen)
}

impl Left {
    fn of_running(self, names: &[&str]) -> String {
        let names = names.join(", ");
        match self {
            Self::Nothing => format!("still running: {names}; Ctrl-C ends the waiting"),
            Self::Writing => format!(
                "still running, and may write to disk: {names}; the log there says what keeps it, and Ctrl-C ends the waiting, not the writing"
            ),
        }
    }

    fn of_unseen(self, names: &[String]) -> String {
        let names = names.join(", ");
        let unseen = "whether the processes have ended cannot be seen from here";
        match self {
            Self::Nothing => format!("{names}: no work is taken any more; {unseen}"),
            Self::Writing => format!(
                "{names}: no work is taken any more; {unseen}, and they may still write what they hold to disk: {}",
                self.advice()
            ),
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Nothing => "nothing is left for them to write",
            Self::Writing => {
                "switch no machine off before `holo agent` on it has ended, or what only it holds is lost"
            }
        }
    }
}

/// Waits until these ports, by the nodes' names, are free. Where nobody tells, a port of this machine is taken, for the
/// machine would answer for a free one: `tell` gets the names of those then, and the waiting goes on. Of other machines
/// that is not known, and the names of theirs are returned.
async fn watch(
    nodes: Vec<(&str, &str)>,
    patience: Duration,
    mut tell: impl FnMut(&[&str]),
) -> Vec<String> {
    let mut knocking = JoinSet::new();
    for (index, (_, address)) in nodes.iter().enumerate() {
        let address = (*address).to_owned();
        knocking.spawn(async move {
            until_port_is_free(&address).await;
            index
        });
    }
    let mut left: BTreeMap<usize, (&str, &str)> = nodes.into_iter().enumerate().collect();
    while !left.is_empty() {
        match tokio::time::timeout(patience, knocking.join_next()).await {
            Ok(Some(Ok(index))) => {
                left.remove(&index);
                continue;
            }
            Ok(_) => break,
            Err(_elapsed) => {}
        }
        let mut running = Vec::new();
        for (name, address) in left.values() {
            if is_of_this_machine(address).await {
                running.push(*name);
            }
        }
        if running.is_empty() {
            break;
        }
        tell(&running);
    }
    left.into_values().map(|(name, _)| name.to_owned()).collect()
}

async fn is_of_this_machine(address: &str) -> bool {
    let Some(place) = resolved(address).await else { return false };
    UdpSocket::bind((place.ip(), 0)).await.is_ok()
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
    let place = resolved(address).await?;
    let any: IpAddr = match place {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(place).await.ok()?;
    Some(socket)
}

async fn resolved(address: &str) -> Option<SocketAddr> {
    tokio::net::lookup_host(address).await.ok()?.next()
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

    /// It was told as stopped after five seconds, while it still wrote.
    #[tokio::test]
    async fn a_process_that_is_seen_to_run_is_waited_for_and_told() {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = port.local_addr().unwrap().to_string();
        let mut taken = Some(port);
        let mut told = 0;
        let unseen = watch(vec![("n1", &address)], LOOK_INTERVAL, |running| {
            assert_eq!(running, ["n1"]);
            told += 1;
            if told == 3 {
                drop(taken.take());
            }
        });
        assert!(unseen.await.is_empty());
        assert!(told >= 3, "{told}");
    }

    #[tokio::test]
    async fn a_process_whose_end_cannot_be_seen_is_named_and_its_machine_is_not_to_be_switched_off()
    {
        let unseen = watch(vec![("n2", "no address")], LOOK_INTERVAL, |running| {
            panic!("{running:?} cannot be seen to run")
        });
        let unseen = unseen.await;
        assert_eq!(unseen, ["n2"]);
        let said = Left::Writing.of_unseen(&unseen);
        for part in ["n2", "cannot be seen from here", "may still write", "switch no machine off"] {
            assert!(said.contains(part), "{part:?} is missing: {said}");
        }
    }
}
