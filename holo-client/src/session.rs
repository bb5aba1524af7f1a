//! What all calls of one cluster share: options, links, the view, keys, and how a request finds its node.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use prost::Message;

use holo_core::placement::ClusterView;
use holo_core::wire::{Decode, Kind, ViewBody, ViewQuery};
use holo_core::{Epoch, ErrorCode, Failure, NodeId};
use holo_net::{Connection, Request};

use crate::call::Deadline;
use crate::flights::Flights;
use crate::introduce::{Introduced, introduce};
use crate::keys::Keys;
use crate::links::Links;
use crate::retry::{Attempts, Effect, Next, Patience, another_may_answer};
use crate::views::{Route, Target, Views};
use crate::{Options, Result};

/// Members that one round of a question reaches.
const ASKED_MAX: usize = 8;
/// How long one member has the word before the next one is asked beside it.
const STAGGER: Duration = Duration::from_millis(300);
/// The same for the view: every member knows it at once.
const VIEW_STAGGER: Duration = Duration::from_millis(50);
/// Time of one round of asking for the view.
const VIEW_WITHIN: Duration = Duration::from_secs(2);

/// A connected client.
#[derive(Debug)]
pub(crate) struct Session {
    options: Options,
    links: Links,
    views: Views,
    keys: Keys,
    flights: Flights,
    /// Who answered last of those who all know the same: staying there, we read what we wrote.
    preferred: Mutex<NodeId>,
}

impl Session {
    /// Finds a node that answers and learns the members from it.
    pub(crate) async fn open(options: Options) -> Result<Self> {
        let Introduced { links, view, node } = introduce(&options).await?;
        Ok(Self {
            options,
            links,
            views: Views::new(view),
            keys: Keys::new(),
            flights: Flights::default(),
            preferred: Mutex::new(node),
        })
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn flights(&self) -> &Flights {
        &self.flights
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) async fn close(&self) {
        self.links.close().await;
    }

    pub(crate) fn view(&self) -> Arc<ClusterView> {
        self.views.newest()
    }

    /// Ends when the newest view says that the catalog does not hear a node, or that it is no member.
    pub(crate) async fn until_down(&self, node: NodeId) {
        let mut news = self.views.follow();
        loop {
            let is_up = |view: &ClusterView| {
                view.members().iter().any(|it| it.member.node == node && it.up)
            };
            // Without the sender there is no session either.
            if !is_up(&news.borrow_and_update()) || news.changed().await.is_err() {
                return;
            }
        }
    }

    /// Where a request to `target` goes by now.
    pub(crate) fn route(&self, target: Target<'_>) -> Result<Route, Failure> {
        Route::find(&self.views.newest(), target)
    }

    /// The connection of a route.
    pub(crate) async fn link(
        &self,
        route: &Route,
        deadline: Deadline,
    ) -> Result<Connection, Failure> {
        self.links.to(route.node, &route.address, deadline).await
    }

    /// Sends a small request until it succeeds, fails for good or its time is over.
    pub(crate) async fn call<R: Decode>(
        &self,
        target: Target<'_>,
        kind: Kind,
        effect: Effect,
        message: &impl Message,
        deadline: Deadline,
    ) -> Result<R, Failure> {
        let body = Bytes::from(message.encode_to_vec());
        let mut attempts = match target {
            Target::Node(_) => Attempts::at_one_node(effect),
            Target::Shard(..) => Attempts::new(effect),
        };
        loop {
            let sent = match self.route(target) {
                Ok(route) => {
                    let work = self.send(&route, kind, body.clone(), deadline, &mut attempts);
                    self.watch(&route, target, work).await
                }
                Err(failure) => Err(failure),
            };
            match sent {
                Ok(reply) => return R::decode_body(&reply),
                Err(failure) => self.recover(&mut attempts, failure, deadline).await?,
            }
        }
    }

    async fn send(
        &self,
        route: &Route,
        kind: Kind,
        body: Bytes,
        deadline: Deadline,
        attempts: &mut Attempts,
    ) -> Result<Bytes, Failure> {
        let connection = self.link(route, deadline).await?;
        let request = request(kind, route, body, deadline)?;
        attempts.sending();
        connection.call(request).await
    }

    /// Does `work` at the node of `route` as long as that is the one to ask. While the node is silent others are asked
    /// whether it still is: a dead one is left as soon as the cluster has another in its place, and what it may answer
    /// later is not heard.
    pub(crate) async fn watch<T>(
        &self,
        route: &Route,
        target: Target<'_>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.watch_while(route, |view| !route.has_moved(view, target), work).await
    }

    /// [`Self::watch`] as long as `stays` says so.
    pub(crate) async fn watch_while<T>(
        &self,
        route: &Route,
        stays: impl Fn(&ClusterView) -> bool,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        let mut news = self.views.follow();
        let mut patience = Patience::default();
        loop {
            if !stays(&news.borrow_and_update()) {
                let message = format!("{} at {} was replaced meanwhile", route.name, route.address);
                return Err(Failure::new(ErrorCode::ConnectionLost, message));
            }
            let pause = patience.next();
            let asking = async {
                wait(pause).await;
                self.links.doubt(route.node);
                self.refresh(Deadline::after(VIEW_WITHIN)).await
            };
            tokio::select! {
                biased;
                done = &mut work => {
                    if pause != Patience::FIRST && done.is_ok() {
                        self.links.trust(route.node);
                    }
                    return done;
                }
                _ = news.changed() => {}
                asked = asking => {
                    if let Err(failure) = asked {
                        tracing::debug!(code = %failure.code, "nobody tells who is to be asked");
                    }
                }
            }
        }
    }

    /// Asks for what every member knows or passes on, one after the other until one answers; a slow one does not hold
    /// up the others, unless the request must not be sent twice.
    pub(crate) async fn ask_any<R: Decode>(
        &self,
        kind: Kind,
        effect: Effect,
        message: &impl Message,
        deadline: Deadline,
    ) -> Result<R, Failure> {
        let body = Bytes::from(message.encode_to_vec());
        let mut attempts = Attempts::new(effect);
        loop {
            let asked = match effect {
                Effect::Read | Effect::Keyed => {
                    attempts.sending();
                    self.ask_beside(kind, &body, deadline).await
                }
                Effect::Whole | Effect::Parts => {
                    self.ask_in_turn(kind, &body, deadline, &mut attempts).await
                }
            };
            match asked {
                Ok(reply) => return R::decode_body(&reply),
                Err(failure) => self.recover(&mut attempts, failure, deadline).await?,
            }
        }
    }

    async fn ask_beside(
        &self,
        kind: Kind,
        body: &Bytes,
        deadline: Deadline,
    ) -> Result<Bytes, Failure> {
        let mut routes = self.members_in_order(kind).into_iter();
        let mut asked = FuturesUnordered::new();
        let mut failed = None;
        loop {
            match routes.next() {
                Some(route) => asked.push(self.ask_one(route, kind, body.clone(), deadline)),
                None if asked.is_empty() => return Err(failed.unwrap_or_else(no_members)),
                None => {}
            }
            tokio::select! {
                biased;
                Some(answer) = asked.next() => match answer {
                    Err(failure) if another_may_answer(failure.code) => {
                        failed = Some(telling(failed, failure));
                    }
                    answer => return answer,
                },
                () = wait(STAGGER), if routes.len() > 0 => {}
            }
        }
    }

    async fn ask_in_turn(
        &self,
        kind: Kind,
        body: &Bytes,
        deadline: Deadline,
        attempts: &mut Attempts,
    ) -> Result<Bytes, Failure> {
        let (route, connection) = self.link_any(kind, deadline).await?;
        attempts.sending();
        let answer = connection.call(request(kind, &route, body.clone(), deadline)?).await?;
        self.prefer(route.node);
        Ok(answer)
    }

    /// A connection to whichever member has one first: each is tried a moment after the one before it.
    pub(crate) async fn link_any(
        &self,
        kind: Kind,
        deadline: Deadline,
    ) -> Result<(Route, Connection), Failure> {
        let mut routes = self.members_in_order(kind).into_iter();
        let mut dialed = FuturesUnordered::new();
        let mut failed = None;
        loop {
            match routes.next() {
                Some(route) => dialed.push(async move {
                    let connection = self.link(&route, deadline).await?;
                    Ok::<_, Failure>((route, connection))
                }),
                None if dialed.is_empty() => return Err(failed.unwrap_or_else(no_members)),
                None => {}
            }
            tokio::select! {
                biased;
                Some(linked) = dialed.next() => match linked {
                    Ok(linked) => return Ok(linked),
                    Err(failure) => failed = Some(telling(failed, failure)),
                },
                () = wait(STAGGER), if routes.len() > 0 => {}
            }
        }
    }

    async fn ask_one(
        &self,
        route: Route,
        kind: Kind,
        body: Bytes,
        deadline: Deadline,
    ) -> Result<Bytes, Failure> {
        let connection = self.link(&route, deadline).await?;
        let answer = connection.call(request(kind, &route, body, deadline)?).await?;
        self.links.trust(route.node);
        self.prefer(route.node);
        Ok(answer)
    }

    fn prefer(&self, node: NodeId) {
        *self.preferred.lock().unwrap_or_else(PoisonError::into_inner) = node;
    }

    /// Ways to some members: the one that answered last first, those that are silent last; where the catalog is to be
    /// changed, those that vote in it before all others.
    pub(crate) fn members_in_order(&self, kind: Kind) -> Vec<Route> {
        let preferred = *self.preferred.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.views.newest();
        let start = view.index_of(preferred).unwrap_or(0);
        let (before, after) = view.members().split_at(start);
        let mut members: Vec<_> = after.iter().chain(before).collect();
        let changes_catalog = matches!(kind, Kind::Admin | Kind::Allocate | Kind::ArrayRemove);
        members.sort_by_key(|member| {
            let votes = !changes_catalog || view.votes(member.number);
            (!votes, self.links.is_silent(member.member.node), !member.up)
        });
        members.iter().take(ASKED_MAX).map(|view| Route::to(&view.member)).collect()
    }

    /// Waits and learns what a retry needs; returns the failure when there is to be none.
    pub(crate) async fn recover(
        &self,
        attempts: &mut Attempts,
        failure: Failure,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        // A view that never comes must not be waited for.
        if let Err(closed) = self.links.check_open() {
            return Err(attempts.conclude(closed));
        }
        match attempts.after(&failure, deadline.remaining()) {
            Next::GiveUp => Err(attempts.conclude(failure)),
            Next::Again { pause, refresh } => {
                tracing::debug!(code = %failure.code, pause_ms = pause.as_millis(), refresh, "again");
                wait(pause).await;
                // Where nobody knows of a newer view, the next attempt says what is wrong.
                if refresh {
                    // Somebody else may be asking already, for longer than we have time.
                    let refreshing = self.refresh(deadline.within(VIEW_WITHIN));
                    if let Some(Err(silent)) = deadline.limit(refreshing).await {
                        tracing::debug!(code = %silent.code, "nobody tells who is to be asked");
                    }
                }
                Ok(())
            }
        }
    }

    /// Learns who holds what again, from whoever answers first. One asks for all who want to know at the same time.
    pub(crate) async fn refresh(&self, deadline: Deadline) -> Result<(), Failure> {
        self.views.once(|| self.ask_for_view(deadline)).await
    }

    async fn ask_for_view(&self, deadline: Deadline) -> Result<(), Failure> {
        let known_version = self.views.newest().version();
        let body = Bytes::from(ViewQuery { known_version }.encode_to_vec());
        let mut routes = self.members_in_order(Kind::View);
        // Another one each time: one that is cut off from the catalog does not learn who took over.
        let turn = self.views.turn();
        let awake = routes.iter().filter(|route| !self.links.is_silent(route.node)).count();
        if awake > 0 {
            routes[..awake].rotate_left(turn % awake);
        }
        let mut routes = routes.into_iter();
        let (mut asked, mut failed) = (FuturesUnordered::new(), None);
        let mut unchanged = false;
        loop {
            match routes.next() {
                Some(route) if !unchanged => {
                    asked.push(self.view_from(route, body.clone(), deadline));
                }
                _ if asked.is_empty() && unchanged => return Ok(()),
                _ if asked.is_empty() => return Err(failed.unwrap_or_else(no_members)),
                _ => {}
            }
            tokio::select! {
                biased;
                Some(answer) = asked.next() => match answer {
                    Ok(true) => return Ok(()),
                    Ok(false) => unchanged = true,
                    Err(failure) => failed = Some(telling(failed, failure)),
                },
                () = wait(VIEW_STAGGER), if unchanged || routes.len() > 0 => {
                    if unchanged {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn view_from(
        &self,
        route: Route,
        body: Bytes,
        deadline: Deadline,
    ) -> Result<bool, Failure> {
        let connection = self.link(&route, deadline).await?;
        let answer = connection.call(request(Kind::View, &route, body, deadline)?).await?;
        self.links.trust(route.node);
        self.views.take(&ViewBody::decode_body(&answer)?)
    }
}

/// Builds a request whose deadline is what is left of the call's.
pub(crate) fn request(
    kind: Kind,
    route: &Route,
    body: Bytes,
    deadline: Deadline,
) -> Result<Request, Failure> {
    let remaining = deadline.remaining();
    if remaining.is_zero() {
        return Err(Failure::new(
            ErrorCode::DeadlineExceeded,
            "no time was left to send the request",
        ));
    }
    // The primary knows its epoch better than a client does: 0 stands for that one.
    Ok(Request { kind, partition: route.partition, epoch: Epoch(0), deadline: remaining, body })
}

/// Of two failures of the same question, the one that says more than silence.
fn telling(kept: Option<Failure>, failure: Failure) -> Failure {
    match kept {
        Some(kept) if kept.code != ErrorCode::Unreachable => kept,
        _ => failure,
    }
}

fn no_members() -> Failure {
    Failure::new(ErrorCode::Internal, "the cluster has no members")
}

#[expect(
    clippy::disallowed_methods,
    reason = "a driver waits; when and for how long is decided in `retry`"
)]
pub(crate) async fn wait(pause: Duration) {
    tokio::time::sleep(pause).await;
}
