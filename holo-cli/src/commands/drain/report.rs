//! A drain, planned or under way, as the command shows it.

use std::time::Duration;

use holo_client::ClusterView;
use holo_core::wire::DrainReport;
use holo_core::{ErrorCode, Failure};
use serde::Serialize;

use crate::members;
use crate::quantity;
use crate::table::Table;

/// A drain of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    pub(crate) node: String,
    pub(crate) state: String,
    pub(crate) groups_total: u64,
    pub(crate) groups_left: u64,
    pub(crate) primaries_left: u64,
    pub(crate) bytes_left: u64,
    /// Absent while nobody can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eta_ms: Option<u64>,
    /// Absent when it is only planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    since_unix_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_unix_ms: Option<u64>,
    receivers: Vec<Receiver>,
    refusals: Vec<Refusal>,
    pub(crate) warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Receiver {
    node: String,
    groups: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Refusal {
    code: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    #[serde(skip)]
    failure: Failure,
}

impl Report {
    pub(crate) fn new(drain: &DrainReport, view: &ClusterView) -> Self {
        let unless_zero = |number: u64| (number != 0).then_some(number);
        let receivers = drain.receivers.iter().map(|receiver| Receiver {
            node: members::name_of(view, receiver.number),
            groups: receiver.groups,
        });
        let mut receivers: Vec<Receiver> = receivers.collect();
        members::sort_by_name(&mut receivers, |it| &it.node);
        let refusals = drain.refusals.iter().cloned().map(|body| {
            let failure = Failure::from(body);
            Refusal {
                code: failure.code.to_string(),
                message: failure.message.clone(),
                help: failure.help.clone(),
                failure,
            }
        });
        Self {
            node: drain.name.clone(),
            state: drain.state.clone(),
            groups_total: drain.groups_total,
            groups_left: drain.groups_left,
            primaries_left: drain.primaries_left,
            bytes_left: drain.bytes_left,
            eta_ms: unless_zero(drain.eta_ms),
            since_unix_ms: unless_zero(drain.since_unix_ms),
            deadline_unix_ms: unless_zero(drain.deadline_unix_ms),
            receivers,
            refusals: refusals.collect(),
            warnings: drain.warnings.clone(),
        }
    }

    /// Whether the catalog says that the node is empty.
    pub(crate) fn is_over(&self) -> bool {
        self.state == "drained"
    }

    /// Whether the catalog says that it is being emptied.
    pub(crate) fn is_under_way(&self) -> bool {
        self.state == "draining"
    }

    /// Whether the catalog says that nobody empties it.
    pub(crate) fn is_in_service(&self) -> bool {
        self.state == "active"
    }

    /// The first thing that stands in the way.
    ///
    /// # Errors
    ///
    /// It, naming the others too.
    pub(crate) fn refusal(&self) -> Result<(), Failure> {
        let Some((first, others)) = self.refusals.split_first() else { return Ok(()) };
        let mut failure = first.failure.clone();
        for other in others {
            failure.message.push_str("; ");
            failure.message.push_str(&other.message);
        }
        if self.is_under_way() {
            return Ok(());
        }
        Err(failure)
    }

    /// Why it does not go on for now.
    pub(super) fn waits(&self) -> Vec<String> {
        self.refusals.iter().map(|refusal| format!("it waits: {}", refusal.message)).collect()
    }

    /// Groups that are done.
    pub(crate) fn groups_done(&self) -> u64 {
        self.groups_total.saturating_sub(self.groups_left)
    }

    /// One sentence: a plan, or how far it is.
    pub(crate) fn in_words(&self) -> String {
        if self.is_over() {
            return format!("{} is drained", self.node);
        }
        if !self.is_under_way() {
            return format!("{} holds {}", self.node, self.held_in_words());
        }
        if self.groups_left == 0 {
            return format!("{}: nothing is left on it", self.node);
        }
        let waits = self.waits().first().map_or_else(String::new, |wait| format!("; {wait}"));
        format!(
            "{}: {} of {} left, {} to copy{}{waits}",
            self.node,
            quantity::count(self.groups_left),
            quantity::counted(self.groups_total, "group"),
            self.bytes_in_words(),
            self.eta_in_words(),
        )
    }

    /// What is left to be copied. It is an estimate: what groups like these have on average.
    pub(super) fn bytes_in_words(&self) -> String {
        match self.bytes_left {
            0 => "no data".to_owned(),
            bytes => format!("about {}", quantity::bytes(bytes)),
        }
    }

    fn held_in_words(&self) -> String {
        let as_primary = match (self.groups_left, self.primaries_left) {
            (0, _) => return "nothing".to_owned(),
            (1, 1) => "as the primary".to_owned(),
            (1, _) => "as a backup".to_owned(),
            (_, 0) => "none of them as the primary".to_owned(),
            (_, some) => format!("{} of them as the primary", quantity::count(some)),
        };
        format!(
            "{}, {as_primary}; {} to copy{}",
            quantity::counted(self.groups_left, "group"),
            self.bytes_in_words(),
            self.eta_in_words()
        )
    }

    fn eta_in_words(&self) -> String {
        self.eta_ms.map_or_else(String::new, |eta| {
            format!(", about {}", quantity::rough_duration(Duration::from_millis(eta)))
        })
    }

    /// The plan with those who take over.
    pub(super) fn plan_in_words(&self, color: bool) -> String {
        let mut text = self.in_words();
        if !self.receivers.is_empty() {
            let mut table = Table::new(&["goes to", ">groups"]);
            for receiver in &self.receivers {
                table.row([receiver.node.clone(), quantity::count(receiver.groups)]);
            }
            text = format!("{text}\n\n{}", table.render(color));
        }
        for warning in &self.warnings {
            text.push_str(&format!("\nnote: {warning}"));
        }
        text
    }

    /// What ends a wait for the drain: nothing yet, the end, or somebody who took it back.
    pub(super) fn verdict(&self) -> Option<Result<(), Failure>> {
        match self.state.as_str() {
            "drained" => Some(Ok(())),
            "draining" => None,
            state => {
                let message = format!("the drain of {} was taken back: it is {state}", self.node);
                Some(Err(Failure::new(ErrorCode::Conflict, message)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: &str) -> Report {
        Report {
            node: "n2".to_owned(),
            state: state.to_owned(),
            groups_total: 256,
            groups_left: 120,
            primaries_left: 60,
            bytes_left: 34 << 20,
            eta_ms: Some(12_300),
            since_unix_ms: None,
            deadline_unix_ms: None,
            receivers: Vec::new(),
            refusals: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_drain_is_over_only_when_the_catalog_says_drained() {
        assert_eq!(report("draining").verdict(), None);
        assert_eq!(report("drained").verdict(), Some(Ok(())));
        let taken_back = report("active").verdict().unwrap().unwrap_err();
        assert_eq!(taken_back.code, ErrorCode::Conflict);
        // Nothing left is not the same as drained.
        let empty = Report { groups_left: 0, ..report("draining") };
        assert_eq!(empty.verdict(), None);
    }

    #[test]
    fn plans_and_progress_read_well() {
        assert_eq!(
            report("active").in_words(),
            "n2 holds 120 groups, 60 of them as the primary; about 34.0 MiB to copy, about 13 s"
        );
        assert_eq!(
            report("draining").in_words(),
            "n2: 120 of 256 groups left, about 34.0 MiB to copy, about 13 s"
        );
        // It said "0 of 0 groups left, 0 B to go".
        let empty = Report { groups_left: 0, ..report("draining") };
        assert_eq!(empty.in_words(), "n2: nothing is left on it");
        let plan = |groups_left, primaries_left, bytes_left| {
            let plan = report("active");
            Report { groups_left, primaries_left, bytes_left, eta_ms: None, ..plan }.in_words()
        };
        assert_eq!(plan(0, 0, 0), "n2 holds nothing");
        assert_eq!(plan(1, 1, 10), "n2 holds 1 group, as the primary; about 10 B to copy");
        assert_eq!(
            plan(2, 0, 0),
            "n2 holds 2 groups, none of them as the primary; no data to copy"
        );
        assert_eq!(report("drained").in_words(), "n2 is drained");
    }

    #[test]
    fn every_refusal_is_told_and_a_drain_under_way_is_not_refused() {
        let refusal = |message: &str| {
            let failure = Failure::new(ErrorCode::DrainRefused, message).help("add a node");
            let (code, help) = (failure.code.to_string(), failure.help.clone());
            Refusal { code, message: message.to_owned(), help, failure }
        };
        let refusals = vec![refusal("no other node"), refusal("no room")];
        let refused = Report { refusals: refusals.clone(), ..report("active") }.refusal();
        let refused = refused.unwrap_err();
        assert_eq!(refused.message, "no other node; no room");
        assert_eq!(refused.help.as_deref(), Some("add a node"));
        let waiting = Report { refusals, ..report("draining") };
        assert_eq!(waiting.refusal(), Ok(()));
        assert!(waiting.in_words().ends_with("; it waits: no other node"));
    }
}
