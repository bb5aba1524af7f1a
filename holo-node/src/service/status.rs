//! Who this node is, and how it does.

use bytes::Bytes;
use holo_core::wire::{Decode, Hello, HelloReply, LinkStatus, NodeEntry, NodeStatus, StatusQuery};
use holo_core::{Failure, Role, action};
use holo_net::{Endpoint, Peer};

use super::{AGENT, NodeService, encode};
use crate::process;

impl NodeService {
    pub(super) fn hello(&self, body: &[u8]) -> Result<Bytes, Failure> {
        Hello::decode_body(body)?;
        let view = self.control.view();
        let members = view.iter().flat_map(|served| served.view.members());
        Ok(encode(HelloReply {
            node: self.me.0.0.to_vec(),
            agent: AGENT.to_owned(),
            members: members.map(|member| NodeEntry::from(&member.member)).collect(),
            // Who holds what changes with every death of a node: `View` tells it.
            table: None,
            cluster_name: view.map_or_else(String::new, |it| it.view.cluster_name().to_owned()),
        }))
    }

    pub(super) fn status(&self, peer: &Peer, body: &[u8]) -> Result<Bytes, Failure> {
        StatusQuery::decode_body(body)?;
        let _may = self.control.policy().authorize::<action::Status>(peer.key, "cluster")?;
        let connections =
            self.endpoint.lock().as_ref().map(Endpoint::connections).unwrap_or_default();
        // Who else uses the cluster is nobody's business: members, and the asker's own links.
        let shown = connections
            .iter()
            .filter(|link| link.peer().role == Role::Node || link.peer().key == peer.key);
        let links = shown.map(|link| {
            let (peer, stats) = (link.peer(), link.stats());
            LinkStatus {
                peer: peer.key.0.to_vec(),
                role: peer.role.to_string(),
                address: peer.address.to_string(),
                suite: peer.suite.name().to_owned(),
                rtt_us: stats.rtt_us,
                mtu: u32::from(stats.mtu),
            }
        });
        let data = self.data.get();
        let usage = data.map(|data| data.arrays.usage());
        let load = data.map(|data| data.load()).unwrap_or_default();
        let process = process::usage();
        Ok(encode(NodeStatus {
            node: self.me.0.0.to_vec(),
            name: self.name.clone(),
            agent: AGENT.to_owned(),
            uptime_ms: self.clock.now().0 / 1_000_000,
            frame_bytes: usage.map_or(0, |it| it.frame_bytes),
            frame_bytes_max: usage
                .map_or(self.control.config.memory_bytes, |it| it.frame_bytes_max),
            reserved_bytes: usage.map_or(0, |it| it.reserved_bytes),
            shards: usage.map_or(0, |it| it.shards),
            partitions: load.groups_primary,
            links: links.collect(),
            resident_bytes: process.resident_bytes,
            cpu_ms: process.cpu_ms,
            pid: std::process::id(),
            state: self.control.standing_text(),
        }))
    }
}
