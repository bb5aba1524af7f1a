//! Planted bugs, to test that the simulator finds what such systems get wrong.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident, $text:literal;)*) => {
        /// A bug that the machine has on purpose; [`Mutant::None`] in every product.
        #[doc(hidden)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            /// The protocol as it should be.
            #[default]
            None,
            $($(#[$doc])* $name,)*
        }

        impl Mutant {
            /// Every planted bug.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What is wrong, in a few words.
            pub fn title(self) -> &'static str {
                match self {
                    Self::None => "none",
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

mutants! {
    /// Entries of an older epoch are taken.
    NoEpochCheckOnAppend, "no epoch check on Append";
    /// Half of the in-sync replicas suffice.
    CommitOnMajority, "commit on a majority of the in-sync set";
    /// A proposed member's acks and leases are not needed.
    PendingMemberNotCounted, "pending AddInSync missing from commit and lease set";
    /// A new primary serves while it still owes its silence.
    IgnorePromises, "new primary ignores its promises";
    /// A lease counts from the arrival of the ack.
    LeaseFromAckArrival, "lease counted from the ack's arrival";
    /// A promise lives exactly as long as the lease.
    NoDriftMargin, "no drift margin";
    /// A new primary serves at once.
    ServeBeforeBarrier, "serving before the barrier commits";
    /// A snapshot carries pages only.
    DedupMissingInSnapshot, "dedup missing in snapshots";
    /// Backups do not note requests.
    DedupOnlyAtPrimary, "dedup only in the primary's memory";
    /// Planted by the simulator: a restarted node keeps its replica id.
    RestartKeepsIdentity, "restart keeps its identity";
    /// Planted by the simulator: the catalog takes proposals of any epoch.
    CatalogWithoutCompare, "catalog without CAS";
    /// The primary applies before it commits.
    ReadUncommittedTail, "reads of the uncommitted tail";
    /// Entries are appended without comparing what lies before them.
    NoPreviousEpochCheck, "no prev-epoch check";
    /// A learner is proposed before it has its base.
    PromoteBeforeCopied, "learner promoted before it is copied";
    /// Planted by the simulator: the catalog elects a learner when no in-sync replica is left.
    UncleanElection, "unclean election";
    /// The primary reads without asking anyone.
    ReadWithoutLease, "reads without lease";
    /// What a member had is believed after it left and came back.
    ProgressSurvivesRemoval, "match index surviving remove and re-add";
    /// A late Release frees promises of a later epoch.
    ReleaseIgnoresEpoch, "Release not scoped by epoch";
    /// An ack renews the groups of the set that was known, though it names a newer one.
    AckOfOldSetVersion, "ack counted at an old set version";
    /// A group leaves the lease set only after the newer config is adopted and its promise forgotten.
    LeaveSetAfterAdopting, "set left after adopting";
    /// Any config is believed.
    BelieveUnprovenConfig, "forged config believed";
    /// A config of a lower epoch is adopted again.
    BelieveReplayedConfig, "replayed config believed";
    /// Acks and appends count whoever sends them.
    IgnoreSenderRole, "message from a node without the role";
    /// An entry is acknowledged although its bytes are missing.
    AckWithoutPayload, "staged bytes lost between stage and publish";
    /// A request beyond its session's window is executed.
    ExecuteBeyondWindow, "dedup window overflow executes again";
    /// A request of an expired session is executed.
    ExecuteExpiredSession, "expired session executes again";
    /// A snapshot that failed to arrive whole is taken for whole.
    AcceptTornSnapshot, "torn snapshot accepted";
    /// Fewer copies than wanted suffice.
    IgnoreMinInSync, "min_in_sync ignored";
    /// A primary that missed a config goes on as if nothing had happened.
    ContinueAcrossMissedEpochs, "progress kept across missed epochs";
    /// A process that ends leaves out what it held and did not know to be committed.
    LeaveTailBehind, "a stopped replica's unheard tail left out";
    /// Who goes on for an earlier life serves at once, whatever that one had promised.
    ForgetPromisesOfEarlierLife, "promises of an earlier life forgotten";
    /// A backup looks only at whether its primary speaks, not at whether it hears.
    IgnoreEcho, "a primary that hears nothing is left alone";
}
