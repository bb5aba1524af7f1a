//! The connections of a cluster, each told once.

use std::collections::BTreeMap;
use std::time::Duration;

use holo_client::{ClusterView, MemberStatus};
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
}

/// Every link once: two nodes both report the one between them.
pub(super) fn links_of(view: &ClusterView, status: &[MemberStatus]) -> Vec<Link> {
    let mut links = BTreeMap::new();
    for member in status {
        let said = member.outcome.iter().flat_map(|said| &said.links);
        for link in said {
            let here = member.member.name.clone();
            let there = peer_name(view, link);
            let between_nodes = link.role == "node";
            let (from, to) =
                if between_nodes && there < here { (there, here) } else { (here, there) };
            // Links between nodes first; several connections of one client to one node show as one.
            links.entry((!between_nodes, from.clone(), to.clone())).or_insert_with(|| Link {
                from,
                to,
                suite: link.suite.clone(),
                rtt_us: link.rtt_us,
                mtu: link.mtu,
            });
        }
    }
    links.into_values().collect()
}

pub(super) fn table(links: &[Link], color: bool) -> String {
    let mut table = Table::new(&["link", "", ">round trip", ">mtu", "cipher suite"]);
    for link in links {
        table.row([
            link.from.clone(),
            link.to.clone(),
            quantity::duration(Duration::from_micros(link.rtt_us)),
            link.mtu.to_string(),
            link.suite.clone(),
        ]);
    }
    table.render(color)
}

fn peer_name(view: &ClusterView, link: &LinkStatus) -> String {
    let Ok(key) = PublicKey::from_slice(&link.peer) else { return link.address.clone() };
    match view.member(NodeId(key)) {
        Some(member) => member.name.clone(),
        None => format!("{} {}", link.role, key.short()),
    }
}
