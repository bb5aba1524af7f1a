//! Who gets a group's bytes.

use super::*;

/// What one plane answers another of a group's bytes: whether it gives a frozen state, its pages and a payload, and takes
/// a payload.
async fn answers(lab: &Lab, from: usize, to: usize) -> [Option<ErrorCode>; 4] {
    use holo_core::wire::{FetchPayload, PayloadBody, SnapshotPages, SnapshotQuery, StagePayload};
    use prost::Message;
    let link = lab.planes[from].control.link(replica(to).node).unwrap();
    let payload = PayloadId { origin: replica(from), number: 1_000_000 };
    let (group, payload) = (Some(GROUP.into()), Some(PayloadBody::from(payload)));
    let ask = |kind, body: Vec<u8>| request(kind, PATIENCE, body.into());
    let (array, shard) = (ARRAY.0, SHARD.0);
    let index = SnapshotQuery { group, snapshot: 77, after: 0 }.encode_to_vec();
    let index = link.call(ask(Kind::SnapshotIndex, index)).await.map(drop);
    let pages = SnapshotPages { group, snapshot: 77, array, shard, offset: 0, len: 8 };
    let pages = ask(Kind::SnapshotPages, pages.encode_to_vec());
    let pages = link.bulk(pages, Vec::new()).await.map(drop);
    let fetch = ask(Kind::FetchPayload, FetchPayload { group, payload }.encode_to_vec());
    let fetch = link.bulk(fetch, Vec::new()).await.map(drop);
    let bytes = Bytes::from_static(&[1; 8]);
    let digests = Bytes::copy_from_slice(blake3::hash(&bytes).as_bytes());
    let stage = StagePayload { group, payload, array, shard, offset: 0, digests };
    let stage = ask(Kind::StagePayload, stage.encode_to_vec());
    let stage = link.bulk(stage, vec![bytes]).await.map(drop);
    [index, pages, fetch, stage].map(|answer| answer.err().map(|failure| failure.code))
}

#[tokio::test]
async fn a_groups_bytes_go_to_its_replicas_alone_and_only_its_primary_stages_them() {
    let lab = Lab::start(3).await;
    // Both have heard who they are.
    lab.publish(9, 0, 100_000).await;
    lab.until_equal(0, 1).await;
    for plane in &lab.planes[..2] {
        let frozen = crate::data::Frozen::of(&plane.arrays.shards_of_group(GROUP));
        plane.machine.lock().frozen.insert((GROUP, SnapshotId(77)), Arc::new(frozen));
    }
    let (denied, missing) = (Some(ErrorCode::Denied), Some(ErrorCode::NotFound));
    assert_eq!(answers(&lab, 2, 0).await, [denied; 4], "a member of the cluster, not of the group");
    let not_yet = Some(ErrorCode::NotReady);
    assert_eq!(answers(&lab, 1, 0).await, [None, None, missing, not_yet], "it may have taken over");
    assert_eq!(answers(&lab, 0, 1).await, [None, None, missing, None], "the primary");
}
