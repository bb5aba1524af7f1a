//! The UDP socket: its buffers, batches that the kernel takes, and no more wake-ups than there is to do.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::options::EndpointOptions;

/// Bytes of the largest UDP payload over IPv4, and of the largest batch that the kernel cuts into datagrams.
const BATCH_BYTES_MAX: usize = 65_507;

/// How long whoever waits for room does so where nobody can be told of it.
const ROOM_PAUSE: Duration = Duration::from_millis(5);

/// Binds the endpoint's socket.
pub(crate) fn bind(options: &EndpointOptions) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let socket =
        Socket::new(Domain::for_address(options.listen), Type::DGRAM, Some(Protocol::UDP))?;
    let wanted = options.socket_buffer_bytes;
    // The system may grant less without an error, so the outcome is what counts.
    drop(socket.set_send_buffer_size(wanted));
    drop(socket.set_recv_buffer_size(wanted));
    // Linux reports twice what it grants: the other half is for its own bookkeeping.
    let doubled = if cfg!(target_os = "linux") { 2 } else { 1 };
    let (send, receive) =
        (socket.send_buffer_size()? / doubled, socket.recv_buffer_size()? / doubled);
    if send < wanted || receive < wanted {
        tracing::warn!(
            wanted,
            send,
            receive,
            "socket buffers are smaller than asked for: raise net.core.rmem_max and net.core.wmem_max"
        );
    }
    socket.bind(&options.listen.into())?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from(socket);
    let state = UdpSocketState::new((&socket).into())?;
    let segments_max = (BATCH_BYTES_MAX / usize::from(options.profile.initial_mtu())).max(1);
    let socket = watch(socket, Interest::READABLE)?;
    Ok(Arc::new(BatchedSocket {
        socket,
        state,
        segments_max,
        loss: options.loss.clone(),
        is_full: AtomicBool::new(false),
        watch_room,
    }))
}

/// The same socket under a number of its own, of whose room the runtime is told.
fn watch_room(socket: &UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    watch(socket.try_clone()?, Interest::WRITABLE)
}

/// Has the runtime told of nothing else than `interest`.
#[expect(
    deprecated,
    reason = "asks too little of types that may show another descriptor each time; a socket owns its one"
)]
fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

/// Keeps every batch within what the kernel takes.
///
/// quinn makes batches of ten datagrams whatever their size; one beyond 65,507 bytes fails with EMSGSIZE, which
/// quinn-udp takes for success: to the connection it is loss, and large packets seem to fall into a black hole.
///
/// The runtime is told of datagrams that came and not of room to send: there is always some but for moments, and the
/// kernel would wake us for every datagram that has left.
#[derive(Debug)]
struct BatchedSocket {
    socket: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    segments_max: usize,
    loss: Option<Loss>,
    /// There was no room when something was last sent.
    is_full: AtomicBool,
    /// [`watch_room`], but in tests.
    watch_room: fn(&UdpSocket) -> io::Result<AsyncFd<UdpSocket>>,
}

impl BatchedSocket {
    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.socket.get_ref().into(), transmit);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.is_full.store(true, Ordering::SeqCst);
        }
        sent
    }
}

/// Waits for room to send, once there was none.
#[derive(Debug)]
struct Room {
    socket: Arc<BatchedSocket>,
    waiting: Option<Waiting>,
}

/// What is waited for.
#[derive(Debug)]
enum Waiting {
    /// The kernel's word that there is room.
    Told(AsyncFd<UdpSocket>),
    /// The next try: no descriptor is left to be told by.
    Pausing(Pin<Box<Sleep>>),
}

impl Waiting {
    fn begin(socket: &BatchedSocket) -> Self {
        match (socket.watch_room)(socket.socket.get_ref()) {
            Ok(watched) => Self::Told(watched),
            Err(error) => {
                tracing::debug!(%error, "a full socket cannot be watched");
                Self::Pausing(Box::pin(sleep_until(Instant::now() + ROOM_PAUSE)))
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Told(watched) => watched.poll_write_ready(context).map_ok(drop),
            Self::Pausing(sleep) => sleep.as_mut().poll(context).map(Ok),
        }
    }
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = match self.waiting.take() {
            Some(waiting) => waiting,
            // Asked before every datagram.
            None if !self.socket.is_full.load(Ordering::SeqCst) => return Poll::Ready(Ok(())),
            None => Waiting::begin(&self.socket),
        };
        let room = waiting.poll(context);
        match room {
            Poll::Ready(_) => self.socket.is_full.store(false, Ordering::SeqCst),
            Poll::Pending => self.waiting = Some(waiting),
        }
        room
    }
}

impl AsyncUdpSocket for BatchedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        if self.loss.is_none() && transmit.contents.len() <= BATCH_BYTES_MAX {
            return self.send(transmit);
        }
        // The packet size has grown since the batch's length was chosen.
        let part = if self.loss.is_some() {
            segment
        } else {
            (BATCH_BYTES_MAX / segment).max(1) * segment
        };
        for (index, contents) in transmit.contents.chunks(part).enumerate() {
            if self.loss.as_ref().is_some_and(Loss::next) {
                continue;
            }
            let segment_size = (contents.len() > segment).then_some(segment);
            let sent = self.send(&Transmit {
                destination: transmit.destination,
                ecn: transmit.ecn,
                contents,
                segment_size,
                src_ip: transmit.src_ip,
            });
            match sent {
                Ok(()) => {}
                // A part is out already: sending it all again would only repeat it. The rest counts as lost.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && index > 0 => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            let received =
                guard.try_io(|socket| self.state.recv(socket.get_ref().into(), bufs, meta));
            let Ok(received) = received else { continue };
            if cfg!(target_os = "linux") && received.as_ref().is_ok_and(|count| *count < bufs.len())
            {
                // The kernel had no more; it says so when it has. Asking again would cost as much as receiving.
                guard.clear_ready();
            }
            return Poll::Ready(received);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments().min(self.segments_max)
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Which datagrams a test loses: a sequence that a seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    per_mille: u32,
    state: Arc<AtomicU64>,
}

impl Loss {
    pub(crate) fn new(per_mille: u32, seed: u64) -> Self {
        Self { per_mille, state: Arc::new(AtomicU64::new(seed)) }
    }

    /// Whether the next datagram is lost.
    fn next(&self) -> bool {
        // SplitMix64: each state is one step of a counter, so threads need no lock.
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.state.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 1000 < u64::from(self.per_mille)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::ErrorKind;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    use std::task::Waker;

    use super::*;

    /// A socket that can be filled, which the loopback's cannot, and its other end.
    fn pair() -> (BatchedSocket, UnixDatagram) {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = BatchedSocket {
            socket: watch(UdpSocket::from(OwnedFd::from(near)), Interest::READABLE).unwrap(),
            state: UdpSocketState::new((&udp).into()).unwrap(),
            segments_max: 1,
            loss: None,
            is_full: AtomicBool::new(false),
            watch_room,
        };
        (socket, far)
    }

    /// Sends until there is no room.
    fn fill(socket: &BatchedSocket) {
        let raw = socket2::SockRef::from(socket.socket.get_ref());
        let error = std::iter::repeat_with(|| raw.send(&[0; 1024])).find_map(Result::err);
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::WouldBlock));
        socket.is_full.store(true, Ordering::SeqCst);
    }

    fn polls_once(room: &mut Room) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(room).poll_writable(&mut context).is_ready()
    }

    #[tokio::test]
    async fn whoever_finds_the_socket_full_waits_until_there_is_room() {
        let (socket, far) = pair();
        let socket = Arc::new(socket);
        let mut room = Room { socket: Arc::clone(&socket), waiting: None };
        assert!(polls_once(&mut room), "there is room until somebody found none");
        fill(&socket);
        for _ in 0..3 {
            assert!(!polls_once(&mut room));
            tokio::task::yield_now().await;
        }
        assert!(socket.is_full.load(Ordering::SeqCst));
        while far.recv(&mut [0; 1024]).is_ok() {}
        poll_fn(|context| Pin::new(&mut room).poll_writable(context)).await.unwrap();
        assert!(!socket.is_full.load(Ordering::SeqCst));
        assert!(polls_once(&mut room));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_descriptor_to_watch_the_socket_by_it_is_tried_again_soon() {
        // The driver of a connection ends by an error: nothing was sent any more, and nobody was told before the idle timeout.
        let (mut socket, _far) = pair();
        socket.watch_room = |_| Err(io::Error::from_raw_os_error(24));
        let socket = Arc::new(socket);
        fill(&socket);
        let mut room = Room { socket: Arc::clone(&socket), waiting: None };
        let begun = Instant::now();
        for tries in 1..=3 {
            socket.is_full.store(true, Ordering::SeqCst);
            poll_fn(|context| Pin::new(&mut room).poll_writable(context)).await.unwrap();
            assert!(begun.elapsed() >= ROOM_PAUSE * tries);
        }
    }
}
