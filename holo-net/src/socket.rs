//! The UDP socket: its buffers, and batches that the kernel takes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};

use crate::options::EndpointOptions;

/// Bytes of the largest UDP payload over IPv4, and of the largest batch that the kernel cuts into datagrams.
const BATCH_BYTES_MAX: usize = 65_507;

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
    let inner = TokioRuntime.wrap_udp_socket(socket.into())?;
    let segments_max = (BATCH_BYTES_MAX / usize::from(options.profile.initial_mtu())).max(1);
    Ok(Arc::new(BatchedSocket { inner, segments_max, loss: options.loss.clone() }))
}

/// Keeps every batch within what the kernel takes.
///
/// quinn makes batches of ten datagrams whatever their size; one beyond 65,507 bytes fails with EMSGSIZE, which
/// quinn-udp takes for success: to the connection it is loss, and large packets seem to fall into a black hole.
#[derive(Debug)]
struct BatchedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    segments_max: usize,
    loss: Option<Loss>,
}

impl AsyncUdpSocket for BatchedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        if self.loss.is_none() && transmit.contents.len() <= BATCH_BYTES_MAX {
            return self.inner.try_send(transmit);
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
            let sent = self.inner.try_send(&Transmit {
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
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments().min(self.segments_max)
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
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
