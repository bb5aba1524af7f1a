//! Where connections are driven: packets of a background connection are sealed, opened and put in order on a runtime of
//! their own, so that bulk work whose threads have a low priority holds nobody up who waits for an answer.
//!
//! Both ends must agree without a word of theirs: the driver starts with the first packet. So the dialler says it by the
//! length of that packet's connection id. It is a wish and no right; what it grants is a worse place.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use quinn_proto::{ConnectionId, ConnectionIdGenerator, RandomConnectionIdGenerator};
use tokio::runtime::Handle;

use crate::alarm::alarm;

/// Bytes of the first packet's connection id of a background connection; all others have 20.
const BACKGROUND_ID_BYTES: usize = 18;

/// Whose work a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Somebody waits for it.
    Foreground,
    /// It may take longer.
    Background,
}

impl Urgency {
    /// What the dialler of a connection wishes.
    pub(crate) fn of_first_id(id: &ConnectionId) -> Self {
        if id.len() == BACKGROUND_ID_BYTES { Self::Background } else { Self::Foreground }
    }
}

/// The first connection id of a background connection.
pub(crate) fn background_first_id() -> ConnectionId {
    RandomConnectionIdGenerator::new(BACKGROUND_ID_BYTES).generate_cid()
}

/// The runtimes of an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Runtimes {
    foreground: Handle,
    background: Handle,
}

impl Runtimes {
    pub(crate) fn new(foreground: Handle, background: Option<Handle>) -> Self {
        let background = background.unwrap_or_else(|| foreground.clone());
        Self { foreground, background }
    }

    pub(crate) fn of(&self, urgency: Urgency) -> &Handle {
        match urgency {
            Urgency::Foreground => &self.foreground,
            Urgency::Background => &self.background,
        }
    }
}

thread_local! {
    /// quinn starts a connection's driver within the call that makes the connection, and does not say which it is.
    static MAKING: Cell<Urgency> = const { Cell::new(Urgency::Foreground) };
}

/// Makes a connection that is driven where its urgency says.
pub(crate) fn making<T>(urgency: Urgency, make: impl FnOnce() -> T) -> T {
    let before = MAKING.replace(urgency);
    let made = make();
    MAKING.set(before);
    made
}

/// Starts the drivers of an endpoint and of its connections.
#[derive(Debug)]
pub(crate) struct Drivers(pub(crate) Runtimes);

impl Runtime for Drivers {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        alarm(at)
    }

    fn spawn(&self, driver: Pin<Box<dyn Future<Output = ()> + Send>>) {
        // It ends with its connection, and the endpoint's close waits for those.
        drop(self.0.of(MAKING.get()).spawn(driver));
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
