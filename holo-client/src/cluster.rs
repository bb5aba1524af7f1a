//! The entry point: one cluster, as a client sees it.

use std::sync::Arc;
use std::time::Duration;

use holo_core::expr::{Program, Reduction};
use holo_core::placement::ClusterView;
use holo_core::wire::{
    ArrayInfo, ArrayList, ArrayRef, Empty, Kind, NodeStatus, Shutdown, StatusQuery,
};
use holo_core::{ArrayDescriptor, ErrorCode, Failure, Member, NodeId};

use crate::array::reference;
use crate::call::{Call, Deadline, Limit};
use crate::retry::Effect;
use crate::session::{Session, wait};
use crate::views::Target;
use crate::{
    AnyArray, ArrayBuilder, Element, Error, Expression, LocalCluster, Options, Result, SharedArray,
    Task,
};

/// What a member that the catalog misses gets to prove it wrong.
const DOWN_WITHIN: Duration = Duration::from_millis(300);
/// What an array that a failed call has made may cost that call, when its time was over already.
const TAKE_BACK_WITHIN: Duration = Duration::from_secs(2);

/// A connected client. Cheap to clone; the connections close when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Cluster {
    session: Arc<Session>,
    /// How long a call may take, all its requests together.
    limit: Option<Limit>,
}

impl Cluster {
    /// Connects to the first address that answers and learns the members from it. Other nodes are connected to when
    /// they are first needed; each must prove the key under which it is a member.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] without address or identity, [`ErrorCode::Unreachable`] when nobody answered in
    /// time, [`ErrorCode::ClusterMismatch`], [`ErrorCode::IdentityMismatch`], [`ErrorCode::Unauthenticated`].
    pub async fn connect(options: Options) -> Result<Self> {
        Ok(Self { session: Arc::new(Session::open(options).await?), limit: None })
    }

    /// Starts nodes on this machine, with fresh identities, and connects to them. They stop with the value that this
    /// returns.
    ///
    /// The `holo` program is looked for in [`crate::ENV_BINARY`], beside the running program, then on `PATH`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`] without the program, and whatever keeps the nodes from starting.
    pub async fn local(nodes: usize) -> Result<LocalCluster> {
        Self::local_with(nodes, Options::new()).await
    }

    /// [`Self::local`] with timeouts or a program of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`Self::local`].
    pub async fn local_with(nodes: usize, options: Options) -> Result<LocalCluster> {
        LocalCluster::start(nodes, options).await
    }

    /// The same cluster, on which each call ends within `limit` or fails with [`ErrorCode::DeadlineExceeded`]: all
    /// requests of a call together, where otherwise each request has the time of [`Options`]. Arrays that come from it
    /// keep to it, too. Only a run that has failed after it made its output may take up to
    /// two seconds longer, to remove that again.
    #[must_use]
    pub fn with_deadline(&self, limit: Duration) -> Self {
        Self { session: Arc::clone(&self.session), limit: Some(Limit::Each(limit)) }
    }

    /// Waits until every change that this value, its clones and their arrays have begun so far has ended: writes,
    /// updates, fills, runs, arrays made and removed. Whoever began one is told how it ended.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::DeadlineExceeded`] only with [`Self::with_deadline`].
    pub async fn sync(&self) -> Result<()> {
        let landed = self.session.flights().landed();
        let Some(limit) = self.limit else {
            landed.await;
            return Ok(());
        };
        limit
            .begin()
            .limit(landed)
            .await
            .ok_or_else(|| Error::new(ErrorCode::DeadlineExceeded, "changes are still under way"))
    }

    /// Closes the connections of this value and all its clones, so that the nodes know at once. Later calls are refused.
    ///
    /// Dropping the last clone does the same, but nobody waits until the nodes have heard it.
    pub async fn disconnect(&self) {
        self.session.close().await;
    }

    /// An array to be made.
    pub fn array(&self, name: &str) -> ArrayBuilder {
        ArrayBuilder::new(self.clone(), name)
    }

    /// An array that exists, with elements of a Rust type.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`], [`ErrorCode::DtypeMismatch`].
    pub async fn open<T: Element>(&self, name: &str) -> Result<SharedArray<T>> {
        self.open_any(name).await?.typed()
    }

    /// An array that exists, of whatever dtype.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`], [`ErrorCode::InvalidArgument`] for what is no name.
    pub async fn open_any(&self, name: &str) -> Result<AnyArray> {
        let (reference, deadline) = (reference(name)?, self.reading().deadline());
        let info: ArrayInfo = self
            .session
            .ask_any(Kind::ArrayInfo, Effect::Read, &reference, deadline)
            .await
            .map_err(|failure| failure.context(format!("array {name}")))?;
        Ok(AnyArray::new(self.clone(), ArrayDescriptor::try_from(info)?))
    }

    /// [`Self::open_any`], or `None` when there is no such array.
    ///
    /// # Errors
    ///
    /// As [`Self::open_any`], but for [`ErrorCode::NotFound`].
    pub async fn find_any(&self, name: &str) -> Result<Option<AnyArray>> {
        match self.open_any(name).await {
            Ok(array) => Ok(Some(array)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All arrays that the caller may read, by name.
    ///
    /// # Errors
    ///
    /// Those of the link.
    pub async fn arrays(&self) -> Result<Vec<AnyArray>> {
        let deadline = self.reading().deadline();
        let list: ArrayList =
            self.session.ask_any(Kind::ArrayList, Effect::Read, &Empty {}, deadline).await?;
        let arrays = list
            .arrays
            .into_iter()
            .map(|info| Ok(AnyArray::new(self.clone(), ArrayDescriptor::try_from(info)?)));
        arrays.collect()
    }

    /// Removes an array and frees its memory.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`], [`ErrorCode::Denied`].
    pub async fn remove(&self, name: &str) -> Result<()> {
        // By id: the name may be another array's when an answer was lost and we ask again.
        let cluster = self.for_one_call();
        let found = cluster.open_any(name).await?;
        let call = cluster.changing();
        match cluster.remove_id(found.descriptor().id.0, call.deadline()).await {
            // It was there a moment ago: an attempt whose answer was lost has removed it, or somebody else.
            Err(failure) if failure.code == ErrorCode::NotFound => Ok(()),
            removed => Ok(removed.map_err(|failure| failure.context(format!("array {name}")))?),
        }
    }

    async fn remove_id(&self, id: u64, deadline: Deadline) -> Result<(), Failure> {
        let array = ArrayRef { name: String::new(), id };
        let (kind, effect) = (Kind::ArrayRemove, Effect::Keyed);
        let Empty {} = self.session.ask_any(kind, effect, &array, deadline).await?;
        Ok(())
    }

    /// Removes an array that a call of ours made and could not fill, as well as that goes: the call's own error is the one
    /// to tell. By id: the name may be another array's by now.
    pub(crate) async fn take_back(&self, array: &AnyArray) {
        let call = self.changing();
        // Whoever set a limit does not wait as long again.
        let deadline = match self.limit {
            Some(_) => call.deadline_within(TAKE_BACK_WITHIN),
            None => call.deadline(),
        };
        if let Err(failure) = self.remove_id(array.descriptor().id.0, deadline).await {
            tracing::debug!(array = %array.name(), code = %failure.code, "an unfilled array stays");
        }
    }

    /// The members and who holds what, as of the last time that a node told us.
    pub fn view(&self) -> Arc<ClusterView> {
        self.session.view()
    }

    /// Asks the members for a newer view than the one that we have.
    ///
    /// # Errors
    ///
    /// Those of the link, when no member answers.
    pub async fn refresh(&self) -> Result<Arc<ClusterView>> {
        self.session.refresh(self.reading().deadline()).await?;
        Ok(self.session.view())
    }

    /// The state of every member, asked of all at the same time; the order is the members'. One that the catalog takes
    /// for down, or finds to be down meanwhile, is not waited for.
    pub async fn status(&self) -> Vec<MemberStatus> {
        let view = self.view();
        let asked = view.members().iter().map(|view| async {
            let member = view.member.clone();
            let (target, kind) = (Target::Node(member.node), Kind::Status);
            let deadline = self.reading().deadline();
            let asked = self.session.call(target, kind, Effect::Read, &StatusQuery {}, deadline);
            let missed = async {
                self.session.until_down(member.node).await;
                // The others may be wrong about one that has just come back.
                wait(DOWN_WITHIN).await;
                let message = format!("{}: the others do not hear it either", member.address);
                Err(Failure::new(ErrorCode::Unreachable, message))
            };
            let outcome = tokio::select! {
                biased;
                said = asked => said,
                missed = missed => missed,
            };
            MemberStatus { member: view.member.clone(), outcome: outcome.map_err(Error::from) }
        });
        futures_util::future::join_all(asked).await
    }

    /// Asks one node to stop.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::DrainRefused`] unless `now` or the node holds nothing, [`ErrorCode::Denied`], [`ErrorCode::NotFound`] for
    /// no member.
    pub async fn shutdown(&self, node: NodeId, now: bool) -> Result<()> {
        let (target, request) = (Target::Node(node), Shutdown { now });
        let (kind, deadline) = (Kind::Shutdown, self.reading().deadline());
        let Empty {} = self.session.call(target, kind, Effect::Read, &request, deadline).await?;
        Ok(())
    }

    /// An expression over arrays, such as `y = sqrt(x*x + 1)` or `sum(x)`; bind its names before you run it.
    pub fn expr(&self, text: &str) -> Expression {
        Expression::of_text(self.clone(), text)
    }

    /// An expression that was built rather than written; its inputs are bound by name.
    pub fn program(&self, program: Program) -> Expression {
        Expression::of_program(self.clone(), program)
    }

    /// A WASM module that runs on the nodes; bind its arrays before you run it.
    pub fn task(&self, module: impl Into<bytes::Bytes>) -> Task {
        Task::new(self.clone(), module.into())
    }

    /// The same cluster for a call that is made of several: what limits each of them limits all together, from now on.
    pub(crate) fn for_one_call(&self) -> Self {
        let limit = self.limit.map(|limit| Limit::Until(limit.begin()));
        Self { session: Arc::clone(&self.session), limit }
    }

    /// A call that changes nothing.
    pub(crate) fn reading(&self) -> Call<'_> {
        Call::reading(&self.session, self.limit)
    }

    /// A call that changes something.
    pub(crate) fn changing(&self) -> Call<'_> {
        Call::changing(&self.session, self.limit)
    }

    /// An expression that reduces one array.
    pub(crate) fn reduction(
        &self,
        array: &AnyArray,
        reduction: Reduction,
    ) -> Result<Expression, Failure> {
        let program = crate::expression::reduction("x", array.dtype(), reduction)?;
        Ok(self.program(program).input_array("x", array))
    }
}

/// What one member said when it was asked for its state.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemberStatus {
    /// Who was asked.
    pub member: Member,
    /// Its state, or why there is none: [`ErrorCode::Unreachable`] when it does not answer.
    pub outcome: Result<NodeStatus>,
}
