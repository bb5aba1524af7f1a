//! Payloads that are refused.

use holo_core::limits;
use holo_core::replication::Input;
use holo_core::wire::StagePayload;
use prost::Message;

use super::*;

const LEN: usize = 200_000;

#[tokio::test]
async fn a_write_that_is_refused_gives_its_frames_back() {
    // Once the payload of a refused proposal stayed for as long as the process lived.
    let lab = Lab::start(2).await;
    lab.publish(9, 0, 100).await;
    lab.until_equal(0, 1).await;
    let backup = &lab.planes[1];
    let before = backup.arrays.usage().frame_bytes;
    let mut staged = backup.arrays.pages(ARRAY, SHARD).unwrap().stage(0, LEN as u64).unwrap();
    staged.buffers().for_each(|buffer| buffer.fill(1));
    let refused = backup.publish(GROUP, (ARRAY, SHARD), None, staged).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongNode);
    assert!(backup.arrays.usage().frame_bytes <= before);
    let own = |(_, id): &(GroupId, PayloadId)| id.origin == replica(1);
    assert!(!backup.machine.lock().payloads.keys().any(own));
}

#[tokio::test]
async fn bytes_that_a_replica_cannot_take_give_their_frames_back() {
    let lab = Lab::start(2).await;
    lab.publish(9, 0, 100).await;
    lab.until_equal(0, 1).await;
    let backup = &lab.planes[1];
    let link = lab.planes[0].control.link(replica(1).node).unwrap();
    let bytes = Bytes::from(vec![1; LEN]);
    let digests: Vec<u8> = bytes
        .chunks(holo_core::PAGE_BYTES)
        .flat_map(|page| *blake3::hash(page).as_bytes())
        .collect();
    for turn in 1u64.. {
        let id = |number: u64| PayloadId { origin: replica(0), number: (turn << 32) + number };
        // As many wait to be named as may. They are forgotten after a while, so it may take several turns.
        backup.with_machine(|machine, now| {
            for number in 1..=limits::PAYLOADS_READY_MAX as u64 {
                let waits = Input::PayloadReady { group: GROUP, id: id(number) };
                drop(machine.host.handle_input(now, waits));
            }
        });
        let before = backup.arrays.usage().frame_bytes;
        let head = StagePayload {
            group: Some(GROUP.into()),
            payload: Some(id(0).into()),
            array: ARRAY.0,
            shard: SHARD.0,
            offset: 0,
            digests: Bytes::from(digests.clone()),
        };
        let stage = request(Kind::StagePayload, PATIENCE, head.encode_to_vec().into());
        if let Err(refused) = link.bulk(stage, vec![bytes.clone()]).await {
            assert_eq!(refused.code, ErrorCode::Overloaded, "{refused}");
            assert!(!backup.machine.lock().payloads.contains_key(&(GROUP, id(0))));
            assert!(backup.arrays.usage().frame_bytes <= before);
            return;
        }
    }
}
