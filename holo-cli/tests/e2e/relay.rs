//! A network between real nodes that a test can spoil: one relay address per node, one path per ordered pair.
//!
//! Every node advertises its relay address. A datagram to it is forwarded from a socket that belongs to the pair
//! (sender, receiver), so the receiver sees each peer at an address of its own, and its answers find the way back.
//! Not every kernel has netem; this needs nothing but UDP.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::lab::now;

/// Nothing gets through.
const CUT: Spoil = Spoil { cut: true, lost_milli: 0, doubled_milli: 0, delay: Duration::ZERO };

/// How a path treats datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spoil {
    /// Nothing gets through.
    pub(crate) cut: bool,
    /// Of a thousand, so many are lost.
    pub(crate) lost_milli: u32,
    /// Of a thousand, so many come twice.
    pub(crate) doubled_milli: u32,
    /// Each is held back so long, and up to as much again.
    pub(crate) delay: Duration,
}

/// The relay of all nodes of a test.
pub(crate) struct Network {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Where each node really listens.
    nodes: Vec<SocketAddr>,
    /// The address at which the others reach each node.
    fronts: Vec<SocketAddr>,
    /// By (sender, receiver).
    paths: RwLock<BTreeMap<(usize, usize), Spoil>>,
    clients: Mutex<Clients>,
    ended: AtomicBool,
}

/// Senders that are no nodes.
struct Clients {
    /// Where each lives: beside a node, whose paths are its own, or [`ELSEWHERE`].
    homes: BTreeMap<SocketAddr, usize>,
    /// Where those live that nobody has heard of yet.
    newcomers: usize,
}

/// The home of clients that reach every node, whatever parts them.
const ELSEWHERE: usize = usize::MAX;

impl Network {
    /// A relay for nodes that will listen on `nodes`; datagrams pass untouched at first.
    pub(crate) fn new(nodes: Vec<SocketAddr>) -> Self {
        let sockets: Vec<UdpSocket> = nodes.iter().map(|_| socket()).collect();
        let fronts = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let clients = Clients { homes: BTreeMap::new(), newcomers: ELSEWHERE };
        let shared = Arc::new(Shared {
            nodes,
            fronts,
            paths: RwLock::default(),
            clients: Mutex::new(clients),
            ended: AtomicBool::new(false),
        });
        let threads = sockets.into_iter().enumerate().map(|(node, front)| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || serve(&shared, node, &Arc::new(front)))
        });
        Self { threads: threads.collect(), shared }
    }

    /// The address at which the others reach a node.
    pub(crate) fn front(&self, node: usize) -> SocketAddr {
        self.shared.fronts[node]
    }

    /// How datagrams from one node to another fare from now on.
    pub(crate) fn spoil(&self, from: usize, to: usize, spoil: Spoil) {
        self.shared.paths.write().unwrap().insert((from, to), spoil);
    }

    /// Cuts the way from a node to all others; what they send reaches it.
    pub(crate) fn mute(&self, node: usize) {
        self.others(node).for_each(|other| self.spoil(node, other, CUT));
    }

    /// Cuts the way from all others to a node; what it sends reaches them.
    pub(crate) fn deafen(&self, node: usize) {
        self.others(node).for_each(|other| self.spoil(other, node, CUT));
    }

    /// Parts a node from all others. Clients that are known already reach everyone still.
    pub(crate) fn part(&self, node: usize) {
        self.mute(node);
        self.deafen(node);
    }

    /// Clients that come from now on live on a node's side of the network.
    pub(crate) fn newcomers_live_with(&self, node: usize) {
        self.shared.clients.lock().unwrap().newcomers = node;
    }

    /// Spoils every path between nodes alike.
    pub(crate) fn spoil_all(&self, spoil: Spoil) {
        for from in 0..self.shared.fronts.len() {
            self.others(from).for_each(|to| self.spoil(from, to, spoil));
        }
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        self.shared.paths.write().unwrap().clear();
    }

    fn others(&self, node: usize) -> impl Iterator<Item = usize> {
        (0..self.shared.fronts.len()).filter(move |other| *other != node)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Which node sends from this address, or beside which one the client lives that does.
    fn sender(&self, from: SocketAddr) -> usize {
        if let Some(node) = self.nodes.iter().position(|node| *node == from) {
            return node;
        }
        let mut clients = self.clients.lock().unwrap();
        let newcomers = clients.newcomers;
        *clients.homes.entry(from).or_insert(newcomers)
    }

    fn spoil_of(&self, from: usize, to: usize) -> Spoil {
        self.paths.read().unwrap().get(&(from, to)).copied().unwrap_or_default()
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

/// Forwards what comes for one node, each sender's datagrams from a socket of its own.
fn serve(shared: &Arc<Shared>, node: usize, front: &Arc<UdpSocket>) {
    let mut backs: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut returning = Vec::new();
    let mut lane = Lane::new(u64::try_from(node).unwrap());
    let mut buffer = vec![0; 65_536];
    while !shared.has_ended() {
        let target = shared.nodes[node];
        lane.flush();
        let Ok((len, from)) = front.recv_from(&mut buffer) else { continue };
        let sender = shared.sender(from);
        let back = backs.entry(from).or_insert_with(|| {
            let back = Arc::new(socket());
            let (shared, front, way_back) =
                (Arc::clone(shared), Arc::clone(front), Arc::clone(&back));
            returning.push(std::thread::spawn(move || {
                give_back(&shared, (node, sender), &way_back, &front, from);
            }));
            back
        });
        lane.send(shared.spoil_of(sender, node), back, target, &buffer[..len]);
    }
    for thread in returning {
        drop(thread.join());
    }
}

/// Carries a node's answers back to the sender whose socket this is.
fn give_back(
    shared: &Shared,
    (node, sender): (usize, usize),
    back: &UdpSocket,
    front: &Arc<UdpSocket>,
    to: SocketAddr,
) {
    let mut lane = Lane::new(u64::try_from(node).unwrap() + 1000);
    let mut buffer = vec![0; 65_536];
    while !shared.has_ended() {
        lane.flush();
        let Ok((len, _)) = back.recv_from(&mut buffer) else { continue };
        lane.send(shared.spoil_of(node, sender), front, to, &buffer[..len]);
    }
}

/// Datagrams of one direction, some of them held back.
struct Lane {
    draws: u64,
    held: Vec<(Instant, Arc<UdpSocket>, SocketAddr, Vec<u8>)>,
}

impl Lane {
    fn new(seed: u64) -> Self {
        Self { draws: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, held: Vec::new() }
    }

    fn send(&mut self, spoil: Spoil, socket: &Arc<UdpSocket>, to: SocketAddr, bytes: &[u8]) {
        if spoil.cut || self.draw() % 1000 < u64::from(spoil.lost_milli) {
            return;
        }
        let copies = if self.draw() % 1000 < u64::from(spoil.doubled_milli) { 2 } else { 1 };
        for _ in 0..copies {
            if spoil.delay.is_zero() {
                // A node that is away is loss.
                drop(socket.send_to(bytes, to));
                continue;
            }
            let more = u64::try_from(spoil.delay.as_micros()).unwrap().max(1);
            let due = now() + spoil.delay + Duration::from_micros(self.draw() % more);
            self.held.push((due, Arc::clone(socket), to, bytes.to_vec()));
        }
    }

    fn flush(&mut self) {
        let now = now();
        self.held.retain(|(due, socket, to, bytes)| {
            if *due <= now {
                drop(socket.send_to(bytes, *to));
            }
            *due > now
        });
    }

    fn draw(&mut self) -> u64 {
        self.draws ^= self.draws << 13;
        self.draws ^= self.draws >> 7;
        self.draws ^= self.draws << 17;
        self.draws
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // Short, so that held datagrams and the end of the test are noticed.
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    socket
}
