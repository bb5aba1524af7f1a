//! The network between everything that talks: delays, losses, copies, clogs and cuts, for each direction of each link.

use crate::queue::Time;
use crate::rng::Rng;

/// Milliseconds as [`Time`].
pub(crate) const MILLISECOND: Time = 1_000_000;
/// Microseconds as [`Time`].
pub(crate) const MICROSECOND: Time = 1_000;
/// Seconds as [`Time`].
pub(crate) const SECOND: Time = 1_000 * MILLISECOND;

/// Nodes that a run may have.
pub(crate) const NODES_MAX: usize = 8;
/// Clients that a run may have.
pub(crate) const CLIENTS_MAX: usize = 7;
const ENDS: usize = NODES_MAX + CLIENTS_MAX + 1;

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A node, by its index.
    Node(usize),
    /// A client, by its index.
    Client(usize),
    /// The catalog.
    Catalog,
}

impl End {
    fn index(self) -> usize {
        match self {
            Self::Node(index) => index,
            Self::Client(index) => NODES_MAX + index,
            Self::Catalog => ENDS - 1,
        }
    }
}

/// How the network behaves in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Shortest delay.
    pub(crate) delay_min: Time,
    /// What may be added to it.
    pub(crate) delay_span: Time,
    /// Of 1000 messages, how many are slow.
    pub(crate) slow_per_mille: u32,
    /// What a slow one may wait in addition.
    pub(crate) slow_span: Time,
    /// Of 1000 messages, how many are lost.
    pub(crate) loss_per_mille: u32,
    /// Of 1000 messages, how many come twice.
    pub(crate) copy_per_mille: u32,
    /// Whether messages of a link keep their order.
    pub(crate) ordered: bool,
}

impl Weather {
    /// A network without faults.
    pub(crate) const CALM: Self = Self {
        delay_min: 200 * MICROSECOND,
        delay_span: MILLISECOND,
        slow_per_mille: 0,
        slow_span: 0,
        loss_per_mille: 0,
        copy_per_mille: 0,
        ordered: false,
    };
}

/// When a message arrives: not at all, once or twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrivals {
    /// The first copy.
    pub(crate) first: Option<Time>,
    /// The second one.
    pub(crate) second: Option<Time>,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Network {
    rng: Rng,
    weather: Weather,
    /// Bit `to` of `cut[from]`: nothing passes in this direction.
    cut: [u32; ENDS],
    /// Until when messages of a direction wait.
    clogged: [[Time; ENDS]; ENDS],
    /// Until when an end hears nothing.
    deaf_until: [Time; ENDS],
    /// When the last message of a direction arrives.
    latest: [[Time; ENDS]; ENDS],
}

impl Network {
    /// A network with nothing cut.
    pub(crate) fn new(rng: Rng, weather: Weather) -> Self {
        Self {
            rng,
            weather,
            cut: [0; ENDS],
            clogged: [[0; ENDS]; ENDS],
            deaf_until: [0; ENDS],
            latest: [[0; ENDS]; ENDS],
        }
    }

    /// Decides about a message that leaves at `now`.
    pub(crate) fn send(&mut self, now: Time, from: End, to: End) -> Arrivals {
        if self.is_cut(from, to) || self.rng.chance(self.weather.loss_per_mille) {
            return Arrivals { first: None, second: None };
        }
        let first = Some(self.arrival(now, from, to));
        let twice = self.rng.chance(self.weather.copy_per_mille);
        Arrivals { first, second: twice.then(|| self.arrival(now, from, to)) }
    }

    /// Whether nothing passes; asked again when a message arrives, so that a cut also takes what is under way.
    pub(crate) fn is_cut(&self, from: End, to: End) -> bool {
        self.cut[from.index()] >> to.index() & 1 == 1
    }

    /// Cuts one direction.
    pub(crate) fn cut(&mut self, from: End, to: End) {
        self.cut[from.index()] |= 1 << to.index();
    }

    /// Cuts both directions.
    pub(crate) fn cut_both(&mut self, a: End, b: End) {
        self.cut(a, b);
        self.cut(b, a);
    }

    /// Lets messages of one direction wait until `until`.
    pub(crate) fn clog(&mut self, from: End, to: End, until: Time) {
        self.clogged[from.index()][to.index()] = until;
    }

    /// Mends every cut.
    pub(crate) fn mend(&mut self) {
        self.cut = [0; ENDS];
    }

    /// Loses all that would reach an end before `until`.
    pub(crate) fn deafen(&mut self, end: End, until: Time) {
        self.deaf_until[end.index()] = until;
    }

    /// Whether what arrives at an end now is lost.
    pub(crate) fn is_deaf(&self, end: End, now: Time) -> bool {
        now < self.deaf_until[end.index()]
    }

    /// Ends every fault for good.
    pub(crate) fn calm(&mut self) {
        self.mend();
        self.clogged = [[0; ENDS]; ENDS];
        self.deaf_until = [0; ENDS];
        self.weather = Weather::CALM;
    }

    fn arrival(&mut self, now: Time, from: End, to: End) -> Time {
        let weather = self.weather;
        let mut at = now + weather.delay_min + self.rng.below(weather.delay_span + 1);
        if self.rng.chance(weather.slow_per_mille) {
            at += self.rng.below(weather.slow_span + 1);
        }
        let (from, to) = (from.index(), to.index());
        at = at.max(self.clogged[from][to]);
        if weather.ordered {
            at = at.max(self.latest[from][to] + 1);
            self.latest[from][to] = at;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: End = End::Node(0);
    const B: End = End::Node(1);

    fn network(weather: Weather) -> Network {
        Network::new(Rng::new(1), weather)
    }

    #[test]
    fn a_cut_is_one_way_until_it_is_mended() {
        let mut network = network(Weather::CALM);
        network.cut(A, B);
        assert_eq!(network.send(0, A, B), Arrivals { first: None, second: None });
        assert!(network.send(0, B, A).first.is_some());
        network.mend();
        assert!(network.send(0, A, B).first.is_some());
    }

    #[test]
    fn a_clog_holds_messages_back_and_loses_none() {
        let mut network = network(Weather::CALM);
        network.clog(A, B, SECOND);
        assert_eq!(network.send(0, A, B).first, Some(SECOND));
        assert!(network.send(0, B, A).first < Some(SECOND));
    }

    #[test]
    fn an_ordered_link_never_lets_one_message_overtake_another() {
        let slow = Weather { slow_per_mille: 300, slow_span: SECOND, ..Weather::CALM };
        let arrivals = |weather| {
            let mut network = network(weather);
            (0..200).filter_map(|at| network.send(at, A, B).first).collect::<Vec<_>>()
        };
        assert!(arrivals(Weather { ordered: true, ..slow }).is_sorted());
        assert!(!arrivals(slow).is_sorted());
    }
}
