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
}

impl Plant {
    /// Every planted bug.
    pub fn all() -> impl Iterator<Item = Self> {
        Mutant::ALL.iter().copied().map(Self::Machine).chain([Self::ReadWithoutSecondLook])
    }

    /// Its name, for people and for the command line.
    pub fn name(self) -> String {
        match self {
            Self::None => "None".to_owned(),
            Self::Machine(mutant) => format!("{mutant:?}"),
            Self::ReadWithoutSecondLook => "ReadWithoutSecondLook".to_owned(),
        }
    }

    /// What is wrong, in a few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::None => "the protocol as it should be",
            Self::Machine(mutant) => mutant.title(),
            Self::ReadWithoutSecondLook => "driver looks at the read gate only before the copy",
        }
    }

    /// The bug with a name.
    pub fn find(name: &str) -> Option<Self> {
        let none = std::iter::once(Self::None);
        none.chain(Self::all()).find(|plant| plant.name().eq_ignore_ascii_case(name))
    }

    pub(crate) fn machine(self) -> Mutant {
        match self {
            Self::Machine(mutant) => mutant,
            Self::None | Self::ReadWithoutSecondLook => Mutant::None,
        }
    }

    pub(crate) fn is(self, mutant: Mutant) -> bool {
        self == Self::Machine(mutant)
    }

    pub(crate) fn reads_without_second_look(self) -> bool {
        self == Self::ReadWithoutSecondLook
    }
}
