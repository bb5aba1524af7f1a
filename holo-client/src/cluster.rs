//! The entry point: one cluster, as a client sees it.

use std::sync::Arc;

use holo_core::expr::{Program, Reduction};
use holo_core::wire::{
    ArrayInfo, ArrayList, ArrayRef, Empty, Kind, NodeStatus, Shutdown, StatusQuery,
};
use holo_core::{ArrayDescriptor, ErrorCode, Failure, Member, Membership, NodeId, Scalar};

use crate::array::reference;
use crate::retry::Effect;
use crate::session::{Session, Target};
use crate::{
    AnyArray, ArrayBuilder, Element, Error, Expression, LocalCluster, Options, Result, SharedArray,
    Task,
};

/// A connected client. Cheap to clone; the connections close when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Cluster {
    session: Arc<Session>,
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
        Ok(Self { session: Arc::new(Session::open(options).await?) })
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
        let info: ArrayInfo = self
            .session
            .ask_any(Kind::ArrayInfo, &reference(name)?)
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
        let list: ArrayList = self.session.ask_any(Kind::ArrayList, &Empty {}).await?;
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
        let Empty {} = self
            .session
            .call(Target::Directory, Kind::ArrayRemove, Effect::Once, &reference(name)?)
            .await
            .map_err(|failure| failure.context(format!("array {name}")))?;
        Ok(())
    }

    /// Removes an array that a call of ours made and could not fill, as well as that goes: the call's own error is the
    /// one to tell. By id: the name may be another array's by now.
    pub(crate) async fn take_back(&self, array: &AnyArray) {
        let made = ArrayRef { name: String::new(), id: array.descriptor().id.0 };
        let removed: Result<Empty, Failure> =
            self.session.call(Target::Directory, Kind::ArrayRemove, Effect::Once, &made).await;
        if let Err(failure) = removed {
            tracing::debug!(array = %array.name(), code = %failure.code, "an unfilled array stays");
        }
    }

    /// The members and where each part of the ring lies, as of the last time that a node told us.
    pub fn membership(&self) -> Arc<Membership> {
        self.session.membership()
    }

    /// The state of every member, asked of all at the same time; the order is the members'.
    pub async fn status(&self) -> Vec<MemberStatus> {
        let membership = self.membership();
        let asked = membership.members().iter().map(|member| async {
            let outcome = self
                .session
                .call(Target::Node(member.node), Kind::Status, Effect::Idempotent, &StatusQuery {})
                .await
                .map_err(Error::from);
            MemberStatus { member: member.clone(), outcome }
        });
        futures_util::future::join_all(asked).await
    }

    /// Asks one node to stop.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotYet`] unless `now`, [`ErrorCode::Denied`], [`ErrorCode::NotFound`] for no member.
    pub async fn shutdown(&self, node: NodeId, now: bool) -> Result<()> {
        let request = Shutdown { now };
        let Empty {} = self
            .session
            .call(Target::Node(node), Kind::Shutdown, Effect::Idempotent, &request)
            .await?;
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

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// An expression that is the same value everywhere.
    pub(crate) fn constant(&self, value: Scalar) -> Result<Expression, Failure> {
        Ok(self.program(crate::expression::constant(value)?))
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
