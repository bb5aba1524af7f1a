//! The connections of a cluster, each told once.

use std::collections::BTreeMap;
use std::time::Duration;

use holo_client::{ClusterView, MemberStatus, MemberView};
use holo_core::wire::LinkStatus;
use holo_core::{NodeId, PublicKey};
use serde::Serialize;

use crate::quantity;
use crate::table::Table;

/// One connection, whichever ends report it.
#[derive(Debug, Serialize)]
pub(super) struct Link {
    from: String,
    to: String,
    suite: String,
    rtt_us: u64,
    mtu: u32,
    /// The end that has not answered: what the other one says may be from before.
    #[serde(skip_serializing_if = "Option::is_none")]
    silent: Option<String>,
}

/// Every link once: two nodes both report the one between them. One to a node that is down is only a connection that has
/// not been given up yet.
pub(super) fn links_of(view: &ClusterView, status: &[MemberStatus]) -> Vec<Link> {
    let mut links = BTreeMap::new();
    for member in status {
        let said = member.outcome.iter().flat_map(|said| &said.links);
        for link in said {
            let peer = peer_of(view, link);
            if peer.is_some_and(|peer| !peer.up && !answers(status, peer)) {
                continue;
            }
            let here = member.member.name.clone();
            let there = peer_name(peer, link);
            let between_nodes = link.role == "node";
            let silent = peer.filter(|peer| !answers(status, peer));
            let silent = silent.map(|peer| peer.member.name.clone());
            let (from, to) =
                if between_nodes && there < here { (there, here) } else { (here, there) };
            // Links between nodes first; several connections of one client to one node show as one.
            links.entry((!between_nodes, from.clone(), to.clone())).or_insert_with(|| Link {
                from,
                to,
                suite: link.suite.clone(),
                rtt_us: link.rtt_us,
                mtu: link.mtu,
                silent,
            });
        }
    }
    links.into_values().collect()
}

fn answers(status: &[MemberStatus], peer: &MemberView) -> bool {
    let asked = status.iter().find(|it| it.member.node == peer.member.node);
    asked.is_some_and(|it| it.outcome.is_ok())
}

pub(super) fn table(links: &[Link], color: bool) -> String {
    let mut table = Table::new(&["link", "", ">round trip", ">mtu", "cipher suite"]);
    for link in links {
        let end = |name: &String| match link.silent.as_ref() == Some(name) {
            true => format!("{name} (silent)"),
            false => name.clone(),
        };
        table.row([
            end(&link.from),
            end(&link.to),
            quantity::duration(Duration::from_micros(link.rtt_us)),
            link.mtu.to_string(),
            link.suite.clone(),
        ]);
    }
    table.render(color)
}

fn peer_of<'a>(view: &'a ClusterView, link: &LinkStatus) -> Option<&'a MemberView> {
    let key = PublicKey::from_slice(&link.peer).ok()?;
    view.members().get(view.index_of(NodeId(key))?)
}

fn peer_name(peer: Option<&MemberView>, link: &LinkStatus) -> String {
    match (peer, PublicKey::from_slice(&link.peer)) {
        (Some(peer), _) => peer.member.name.clone(),
        (None, Ok(key)) => format!("{} {}", link.role, key.short()),
        (None, Err(_)) => link.address.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_link_that_has_not_answered_is_marked() {
        let link = |silent: Option<&str>| Link {
            from: "n1".to_owned(),
            to: "n2".to_owned(),
            suite: "suite".to_owned(),
            rtt_us: 900,
            mtu: 1452,
            silent: silent.map(str::to_owned),
        };
        for (silent, words) in [
            (None, "n1 n2 900 us"),
            (Some("n1"), "n1 (silent) n2 900 us"),
            (Some("n2"), "n1 n2 (silent) 900 us"),
        ] {
            let shown = table(&[link(silent)], false);
            let row: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
            assert!(row.join(" ").starts_with(words), "{shown}");
        }
    }
}
