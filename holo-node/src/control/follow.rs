//! Following the catalog: a node that does not vote asks a voter for what changed, and waits there until something has.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holo_catalog::{ControlLog, Standing, rest};
use holo_core::catalog::Changes;
use holo_core::replication::NodeNumber;
use holo_core::wire::{CatalogFollow, CatalogNews, Decode, Kind};
use holo_core::{ErrorCode, Failure, limits};
use holo_net::{BulkReply, Connection, Request};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;

use super::Control;
use super::proofs::check_batch;
use super::propose::not_a_voter;
use crate::links::pause_for;

/// How long a voter lets a follower wait for news. A follower knows for so long at most no other voter's word.
const WAIT: Duration = Duration::from_secs(1);
/// How long a voter that nobody leads lets a follower wait: another one may know more.
const LEADERLESS_WAIT: Duration = Duration::from_millis(100);
/// How long the follower waits until the voter's answer begins: one that died or froze is still linked for a while.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// How long the whole answer may take.
const ASK_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of one answer.
const PIECE_BYTES: usize = 16 << 20;
/// Pause after a voter that gave nothing.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a voter that is in touch looks whether it still is; it looks at once when it hears of another leader.
const IN_TOUCH_LOOK: Duration = Duration::from_millis(500);
/// How long a voter may know no leader before its node follows another one.
const OUT_OF_TOUCH: Duration = Duration::from_secs(2);

/// The last large answer, for those who ask for the rest of it.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Mutex<Option<(CatalogNews, Bytes)>>);

/// Notices changes of the agreement's leader and voters. Made before one looks how things stand: what changes between the
/// look and the wait ends the wait.
#[derive(Debug)]
pub(super) struct StandingWatch(Option<watch::Receiver<Standing>>);

impl StandingWatch {
    fn new(mut standing: Option<watch::Receiver<Standing>>) -> Self {
        if let Some(standing) = &mut standing {
            standing.mark_unchanged();
        }
        Self(standing)
    }

    /// Waits for a change since this was made, for about `patience` at most; where this node does not vote, for as long.
    pub(super) async fn changed(self, patience: Duration) {
        let changed = async {
            let Some(mut standing) = self.0 else { return pending().await };
            if standing.changed().await.is_err() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = rest(patience) => {}
            () = changed => {}
        }
    }
}

impl Control {
    /// Keeps this node's copy up to date for as long as it is polled.
    pub(super) async fn keep_following(self: Arc<Self>) {
        let mut turn = 0;
        let mut lost = None;
        loop {
            let standing = self.watch_standing();
            if self.is_in_touch() {
                lost = None;
                // What others said of leaders is old when this voter loses its own.
                self.note_leader(NodeNumber(0));
                standing.changed(IN_TOUCH_LOOK).await;
                continue;
            }
            // Who votes hears of the next leader as soon as anybody.
            if self.vote_of_now().is_some_and(|it| it.votes()) && self.copy.is_voters_own() {
                let since = *lost.get_or_insert_with(|| self.clock.now());
                if self.clock.now().since(since) < OUT_OF_TOUCH {
                    pause_for(PAUSE).await;
                    continue;
                }
            }
            let opened = self.links.opened();
            let Some((voter, link)) = self.voter_in_turn(turn) else {
                // A link may open at any moment.
                drop(tokio::time::timeout(PAUSE, opened).await);
                continue;
            };
            match self.follow_once(&link).await {
                Ok(true) => {}
                // It knows no leader. Another one may.
                Ok(false) => {
                    turn += 1;
                    pause_for(PAUSE).await;
                }
                Err(failure) => {
                    tracing::debug!(%voter, %failure, "nothing heard of the catalog");
                    self.forget_leader(voter);
                    turn += 1;
                    pause_for(PAUSE).await;
                }
            }
        }
    }

    /// From now on, changes of the agreement's leader and voters are noticed.
    pub(super) fn watch_standing(&self) -> StandingWatch {
        StandingWatch::new(self.voting().map(|voting| voting.catalog.standing()))
    }

    /// Whether this node votes and knows a leader: the log brings all news.
    fn is_in_touch(&self) -> bool {
        self.copy.is_voters_own() && self.vote_of_now().is_some_and(|it| it.leader().is_some())
    }

    /// Asks a voter once; whether it knows who leads.
    async fn follow_once(&self, link: &Connection) -> Result<bool, Failure> {
        let known_version = *self.copy.version().borrow();
        let wait_ms = u32::try_from(WAIT.as_millis()).unwrap_or(u32::MAX);
        let mut ask = CatalogFollow { known_version, wait_ms, state_version: 0, offset: 0 };
        let (news, mut bytes) = fetch(link, &ask, 0).await?;
        self.note_leader(NodeNumber(news.leader));
        let led = news.leader != 0;
        if news.total_bytes == 0 {
            return Ok(led);
        }
        while (bytes.len() as u64) < news.total_bytes {
            ask.state_version = news.version;
            ask.offset = bytes.len() as u64;
            let (rest, piece) = fetch(link, &ask, bytes.len()).await?;
            if rest.total_bytes != news.total_bytes || piece.is_empty() {
                return Err(Failure::new(ErrorCode::Malformed, "the rest of another state"));
            }
            bytes.extend_from_slice(&piece);
        }
        let changes = Changes::decode(&bytes)?;
        self.verifier()?.learn(changes.issuers(), self.clock.wall());
        let cluster = self.cluster()?;
        let proofs = check_batch(changes.groups(), cluster, &news.issuer, &news.signature)?;
        match self.copy.merge(changes, proofs) {
            // A piece in between is missing: everything, next time.
            Err(failure) if failure.code == ErrorCode::Conflict => {
                tracing::debug!(%failure, "changes do not fit");
                Ok(led)
            }
            merged => merged.map(|()| led),
        }
    }

    /// Answers a follower.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::WrongNode`] on a node that does not vote, [`ErrorCode::NotReady`] before it knows anything,
    /// [`ErrorCode::Conflict`] for the rest of a state that is gone.
    pub(crate) async fn serve_follow(&self, ask: CatalogFollow) -> Result<BulkReply, Failure> {
        let voting = self.vote_of_now().ok_or_else(not_a_voter)?;
        if ask.state_version != 0 {
            return self.pieces.rest(&ask);
        }
        let mut version = self.copy.version();
        let mut standing = voting.catalog.standing();
        let led_by = standing.borrow_and_update().leader;
        let longest = if voting.leader().is_some() { WAIT } else { LEADERLESS_WAIT };
        let wait = longest.min(Duration::from_millis(u64::from(ask.wait_ms)));
        let newer = version.wait_for(|version| *version > ask.known_version);
        tokio::select! {
            _waited = tokio::time::timeout(wait, newer) => {}
            // Who leads now, or that nobody does, is news that followers wait for.
            _changed = standing.wait_for(|standing| standing.leader != led_by) => {}
            () = self.stopping() => {}
        }
        let leader = voting.leader().map_or(0, |leader| leader.0);
        if !self.copy.is_known() {
            return Err(Failure::new(ErrorCode::NotReady, "this voter knows nothing yet"));
        }
        let changes = self.copy.read(|state| {
            if state.version() <= ask.known_version {
                return None;
            }
            let changes = (ask.known_version > 0).then(|| state.changes_since(ask.known_version));
            Some(changes.flatten().unwrap_or_else(|| state.whole()))
        });
        let Some(changes) = changes else {
            let version = ask.known_version;
            let news = CatalogNews { version, leader, ..CatalogNews::default() };
            return Ok(BulkReply { body: news.encode_to_vec().into(), bulk: Vec::new() });
        };
        let prover = self.prover().ok_or_else(not_a_voter)?;
        let signature = prover.sign_batch(changes.groups());
        let bytes = Bytes::from(changes.encode());
        let news = CatalogNews {
            version: changes.to(),
            total_bytes: bytes.len() as u64,
            issuer: prover.issuer().0.to_vec(),
            signature: signature.map_or_else(Vec::new, |it| it.to_vec()),
            leader,
        };
        Ok(self.pieces.first(news, bytes))
    }
}

impl Pieces {
    fn first(&self, news: CatalogNews, bytes: Bytes) -> BulkReply {
        let piece = bytes.slice(..bytes.len().min(PIECE_BYTES));
        let body = Bytes::from(news.encode_to_vec());
        if piece.len() < bytes.len() {
            *self.0.lock() = Some((news, bytes));
        }
        BulkReply { body, bulk: vec![piece] }
    }

    fn rest(&self, ask: &CatalogFollow) -> Result<BulkReply, Failure> {
        let kept = self.0.lock();
        let gone = || Failure::new(ErrorCode::Conflict, "that state is not kept any more");
        let (news, bytes) =
            kept.as_ref().filter(|(news, _)| news.version == ask.state_version).ok_or_else(gone)?;
        let start = usize::try_from(ask.offset).ok().filter(|start| *start < bytes.len());
        let start = start.ok_or_else(gone)?;
        let end = bytes.len().min(start + PIECE_BYTES);
        let body = Bytes::from(news.encode_to_vec());
        Ok(BulkReply { body, bulk: vec![bytes.slice(start..end)] })
    }
}

/// Asks once; `have` bytes of the answer are here already.
async fn fetch(
    link: &Connection,
    ask: &CatalogFollow,
    have: usize,
) -> Result<(CatalogNews, BytesMut), Failure> {
    let body = Bytes::from(ask.encode_to_vec());
    let request = Request::new(Kind::CatalogFollow, ASK_DEADLINE, body);
    let answer = tokio::time::timeout(ANSWER_DEADLINE, link.bulk(request, Vec::new()));
    let (body, mut reader) = answer.await.map_err(|_elapsed| {
        let message = format!("a voter has not answered within {ANSWER_DEADLINE:?}");
        Failure::new(ErrorCode::DeadlineExceeded, message)
    })??;
    let news = CatalogNews::decode_body(&body)?;
    let length = usize::try_from(reader.remaining()).unwrap_or(usize::MAX);
    if have.saturating_add(length) > limits::CATALOG_STATE_BYTES_MAX || length > 2 * PIECE_BYTES {
        let message = format!("{length} bytes of the catalog after {have}");
        return Err(Failure::new(ErrorCode::TooLarge, message));
    }
    let mut bytes = BytesMut::zeroed(length);
    reader.read_exact(&mut bytes).await?;
    Ok((news, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_state_comes_in_pieces_that_fit_together() {
        let pieces = Pieces::default();
        let bytes: Bytes = (0..PIECE_BYTES + 5).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let total_bytes = bytes.len() as u64;
        let news = CatalogNews { version: 9, total_bytes, ..CatalogNews::default() };
        let first = pieces.first(news, bytes.clone());
        let mut ask = CatalogFollow { state_version: 9, ..CatalogFollow::default() };
        ask.offset = first.bulk[0].len() as u64;
        let rest = pieces.rest(&ask).unwrap();
        assert_eq!([&first.bulk[0][..], &rest.bulk[0][..]].concat(), bytes);
        ask.offset = total_bytes;
        assert_eq!(pieces.rest(&ask).unwrap_err().code, ErrorCode::Conflict);
        ask.state_version = 8;
        assert_eq!(pieces.rest(&ask).unwrap_err().code, ErrorCode::Conflict);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_between_the_look_and_the_wait_ends_the_wait() {
        // The wait began anew: a change right before it was seen half a second later.
        let (sender, standing) = watch::channel(Standing::default());
        sender.send_replace(Standing { term: 1, ..Standing::default() });
        let watching = StandingWatch::new(Some(standing.clone()));
        sender.send_replace(Standing { term: 2, ..Standing::default() });
        let begun = tokio::time::Instant::now();
        watching.changed(WAIT).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        StandingWatch::new(Some(standing)).changed(WAIT).await;
        // A test beside this one may say that the process is awake: that ends a wait in its last tenth of a second.
        let about = WAIT.saturating_sub(Duration::from_millis(100));
        assert!(begun.elapsed() >= about, "what was there at the look is no change");
    }
}
