use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{ArrayId, PAGE_BYTES, PageIndex, ShardIndex};

const NOW: Instant = Instant(0);

fn group() -> GroupSequencer {
    GroupSequencer::new(PartitionId(3), Epoch(5))
}

fn small(array: u64) -> Op {
    Op::Write {
        array: ArrayId(array),
        shard: ShardIndex(0),
        offset: 0,
        bytes: Bytes::from_static(&[1]),
    }
}

fn propose(group: &mut GroupSequencer, ticket: u64, epoch: u64, op: Op) -> Result<(), Failure> {
    group.handle_input(NOW, Input::Propose { ticket: Ticket(ticket), epoch: Epoch(epoch), op })
}

fn applied(group: &mut GroupSequencer, seq: u64, outcome: Result<(), Failure>) {
    group.handle_input(NOW, Input::Applied { seq: Seq(seq), outcome }).unwrap();
}

#[test]
fn nothing_is_answered_before_it_is_applied() {
    let mut group = group();
    propose(&mut group, 9, 5, small(1)).unwrap();
    assert_eq!(group.poll_output(), Some(Output::Apply { seq: Seq(1), op: small(1) }));
    assert_eq!(group.poll_output(), None);
    let failed = Err(Failure::new(ErrorCode::NotFound, "gone"));
    applied(&mut group, 1, failed.clone());
    assert_eq!(group.poll_output(), Some(Output::Reply { ticket: Ticket(9), outcome: failed }));
    assert_eq!((group.in_flight(), group.applied()), (0, Seq(1)));
    assert_eq!(group.poll_timeout(), None);
    group.assert_invariants();
}

#[test]
fn another_epoch_is_refused_and_a_higher_one_not_believed() {
    let mut group = group();
    for epoch in [0, 4, 6, u64::MAX] {
        let refused = propose(&mut group, 1, epoch, small(1)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::WrongNode, "epoch {epoch}");
        assert_eq!(group.epoch(), Epoch(5));
        assert_eq!(group.poll_output(), None);
    }
    assert!(propose(&mut group, 1, 5, small(1)).is_ok());
}

#[test]
fn a_full_queue_refuses_and_takes_more_once_something_is_applied() {
    let mut group = group();
    for ticket in 0..limits::GROUP_QUEUE_OPS_MAX as u64 {
        propose(&mut group, ticket, 5, small(1)).unwrap();
    }
    let refused = propose(&mut group, 0, 5, small(1)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overloaded);
    assert!(refused.retry_after_ms.is_some());
    group.assert_invariants();
    assert!(group.poll_output().is_some());
    applied(&mut group, 1, Ok(()));
    propose(&mut group, 0, 5, small(1)).unwrap();
    group.assert_invariants();
}

#[test]
fn operations_are_checked_before_they_get_a_place() {
    let write = |offset, len| Op::Write {
        array: ArrayId(1),
        shard: ShardIndex(0),
        offset,
        bytes: Bytes::from(vec![0; len]),
    };
    let publish = |offset, len, first, count| Op::Publish {
        array: ArrayId(1),
        shard: ShardIndex(0),
        staging: StagingId(1),
        pages: PageSpan { first: PageIndex(first), count },
        offset,
        len,
    };
    let page = PAGE_BYTES as u64;
    let mut group = group();
    for good in [
        write(0, 1),
        write(limits::SHARD_BYTES_MAX - 256, 256),
        publish(0, limits::SHARD_BYTES_MAX, 0, 512),
        publish(page - 1, 2, 0, 2),
        publish(page, page, 1, 1),
    ] {
        propose(&mut group, 1, 5, good.clone()).unwrap();
        assert_eq!(good.array(), ArrayId(1));
    }
    let before = group.in_flight();
    for (bad, code) in [
        (write(0, 0), ErrorCode::InvalidArgument),
        (write(0, 257), ErrorCode::TooLarge),
        (write(limits::SHARD_BYTES_MAX, 1), ErrorCode::InvalidArgument),
        (write(u64::MAX, 2), ErrorCode::InvalidArgument),
        (publish(0, 0, 0, 0), ErrorCode::InvalidArgument),
        (publish(0, page, 0, 2), ErrorCode::InvalidArgument),
        (publish(0, page, 1, 1), ErrorCode::InvalidArgument),
        (publish(u64::MAX, page, 0, 1), ErrorCode::InvalidArgument),
    ] {
        let refused = propose(&mut group, 1, 5, bad.clone()).unwrap_err();
        assert_eq!(refused.code, code, "{bad:?}");
    }
    assert_eq!(group.in_flight(), before);
    group.assert_invariants();
}

#[test]
#[should_panic(expected = "applied in order")]
fn a_driver_that_reports_out_of_order_is_stopped() {
    let mut group = group();
    propose(&mut group, 1, 5, small(1)).unwrap();
    propose(&mut group, 2, 5, small(2)).unwrap();
    while group.poll_output().is_some() {}
    applied(&mut group, 2, Ok(()));
}

#[test]
#[should_panic(expected = "never handed out")]
fn a_driver_that_reports_what_it_did_not_get_is_stopped() {
    let mut group = group();
    propose(&mut group, 1, 5, small(1)).unwrap();
    applied(&mut group, 1, Ok(()));
}

proptest! {
    /// Proposals, polls and reports in any order against the plainest model: two lists.
    #[test]
    fn every_accepted_operation_is_applied_once_in_order_and_answered_once(steps in proptest::collection::vec(0u8..4, 0..200)) {
        let mut group = group();
        let (mut proposed, mut handed_out, mut answered) = (Vec::new(), Vec::new(), Vec::new());
        let mut reported = 0usize;
        for (ticket, step) in steps.into_iter().enumerate() {
            let ticket = ticket as u64;
            match step {
                0 | 1 => {
                    propose(&mut group, ticket, 5, small(ticket)).unwrap();
                    proposed.push(ticket);
                }
                2 => match group.poll_output() {
                    Some(Output::Apply { seq, op }) => {
                        prop_assert_eq!(seq.0, handed_out.len() as u64 + 1);
                        handed_out.push(op.array().0);
                    }
                    Some(Output::Reply { ticket, .. }) => answered.push(ticket.0),
                    None => {}
                },
                _ if reported < handed_out.len() => {
                    reported += 1;
                    applied(&mut group, reported as u64, Ok(()));
                }
                _ => {}
            }
            group.assert_invariants();
            prop_assert_eq!(&handed_out[..], &proposed[..handed_out.len()]);
            prop_assert_eq!(&answered[..], &proposed[..answered.len()]);
            prop_assert!(answered.len() <= reported);
            prop_assert_eq!(group.in_flight(), proposed.len() - reported);
        }
    }
}
