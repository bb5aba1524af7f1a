//! Planted bugs: those of the machine, and those that only the surroundings can have.

use holo_core::replication::Mutant;

/// The bug of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// None.
    #[default]
    None,
    /// One of the machine's, or of the catalog's as named there.
    Machine(Mutant),
    /// A driver's: a read looks at its gate only before it copies.
    ReadWithoutSecondLook,
    /// A driver's: it says that a group is held before its file is synced.
    HoldBeforeSync,
    /// A driver's: what it wrote for an earlier close or epoch counts for this one.
    ReuseOlderHold,
    /// A driver's: a primary takes writes while the cluster stops.
    WriteWhileClosing,
    /// A driver's: a primary takes writes before a group that came back has its copies.
    WriteWhileReopening,
    /// The catalog's: sessions go on after a close.
    SessionsOutliveClose,
    /// A driver's: the pages that an earlier life kept are taken for those of the snapshot.
    TrustKeptPages,
    /// A driver's: what any earlier life left counts as what the one that is in sync left.
    ResumeFromAnyLife,
}

impl Plant {
    /// The bugs outside the machine, with what is wrong.
    const SURROUNDINGS: [(Self, &str); 8] = [
        (Self::ReadWithoutSecondLook, "driver looks at the read gate only before the copy"),
        (Self::HoldBeforeSync, "a close counts on a file that is not synced"),
        (Self::ReuseOlderHold, "a close counts on what was written for an earlier one"),
        (Self::WriteWhileClosing, "writes taken while the cluster stops"),
        (Self::WriteWhileReopening, "writes taken before a reopened group has its copies"),
        (Self::SessionsOutliveClose, "sessions go on after a close"),
        (Self::TrustKeptPages, "pages of an earlier life are taken without comparing them"),
        (Self::ResumeFromAnyLife, "a group goes on from what a life left that is not in sync"),
    ];

    /// Every planted bug.
    pub fn all() -> impl Iterator<Item = Self> {
        let surroundings = Self::SURROUNDINGS.iter().map(|(plant, _)| *plant);
        Mutant::ALL.iter().copied().map(Self::Machine).chain(surroundings)
    }

    /// Its name, for people and for the command line.
    pub fn name(self) -> String {
        match self {
            Self::Machine(mutant) => format!("{mutant:?}"),
            other => format!("{other:?}"),
        }
    }

    /// What is wrong, in a few words.
    pub fn title(self) -> &'static str {
        if let Self::Machine(mutant) = self {
            return mutant.title();
        }
        let known = Self::SURROUNDINGS.iter().find(|(plant, _)| *plant == self);
        known.map_or("the protocol as it should be", |(_, title)| title)
    }

    /// The bug with a name.
    pub fn find(name: &str) -> Option<Self> {
        let none = std::iter::once(Self::None);
        none.chain(Self::all()).find(|plant| plant.name().eq_ignore_ascii_case(name))
    }

    pub(crate) fn machine(self) -> Mutant {
        if let Self::Machine(mutant) = self { mutant } else { Mutant::None }
    }

    pub(crate) fn is(self, mutant: Mutant) -> bool {
        self == Self::Machine(mutant)
    }

    pub(crate) fn reads_without_second_look(self) -> bool {
        self == Self::ReadWithoutSecondLook
    }
}
