//! What an operator hears of copies.

use holo_core::wire::{DigestQuery, ReplicaDigest};

use super::*;

async fn said(lab: &Lab, node: usize) -> Vec<ReplicaDigest> {
    let answer = Arc::clone(&lab.planes[node]).group_digests(DigestQuery::default()).await.unwrap();
    assert!(!answer.more);
    answer.replicas.into_iter().map(|body| ReplicaDigest::try_from(body).unwrap()).collect()
}

/// What both replicas contain, once they are at the same point.
async fn both(lab: &Lab) -> [ReplicaDigest; 2] {
    loop {
        if let ([one], [other]) = (&said(lab, 0).await[..], &said(lab, 1).await[..])
            && one.is_comparable_with(other)
        {
            return [*one, *other];
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn copies_with_the_same_content_have_the_same_digest_and_one_flipped_bit_shows() {
    let lab = Lab::start(3).await;
    lab.publish(9, 65_000, 200_000).await;
    lab.add(1, 5).await;
    let [one, other] = both(&lab).await;
    assert_eq!(one, other);
    assert_eq!((one.group, one.bytes), (GROUP, 5 * 65_536));
    assert!(said(&lab, 2).await.is_empty(), "no replica of the group");

    // Nobody can tell a page of zeros that somebody wrote from one that nobody wrote.
    let shard = lab.planes[1].arrays.pages(ARRAY, SHARD).unwrap();
    shard.write(600_000, &[0; 100]).unwrap();
    let [one, other] = both(&lab).await;
    assert_eq!(one, other);

    shard.write(70_000, &[8]).unwrap();
    let [one, other] = both(&lab).await;
    assert_eq!((one.applied, one.bytes), (other.applied, other.bytes));
    assert_ne!(one.pages, other.pages);
}

#[tokio::test]
async fn questions_about_copies_are_bounded_and_answered_one_at_a_time() {
    let lab = Lab::start(2).await;
    lab.publish(9, 0, 100).await;
    let plane = &lab.planes[0];
    let ask = |query| Arc::clone(plane).group_digests(query);
    let many = vec![GROUP.into(); holo_core::limits::DIGEST_GROUPS_MAX + 1];
    let refused = ask(DigestQuery { after: None, groups: many }).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooLarge);
    let behind = ask(DigestQuery { after: Some(GROUP.into()), groups: Vec::new() }).await.unwrap();
    assert!(behind.replicas.is_empty() && !behind.more);
    let other = GroupId { partition: PartitionId(5), ..GROUP };
    let none = ask(DigestQuery { after: None, groups: vec![other.into()] }).await.unwrap();
    assert!(none.replicas.is_empty());
    let busy = plane.digesting.lock().await;
    let refused = ask(DigestQuery::default()).await.unwrap_err();
    assert_eq!((refused.code, refused.retry_after_ms.is_some()), (ErrorCode::Overloaded, true));
    drop(busy);
    assert_eq!(ask(DigestQuery::default()).await.unwrap().replicas.len(), 1);
}
