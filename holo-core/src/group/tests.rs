use bytes::Bytes;

use super::*;
use crate::{ArrayId, ErrorCode, PAGE_BYTES, PageIndex, ShardIndex, limits};

#[test]
fn an_operation_that_cannot_be_is_refused_with_the_reason() {
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
    for good in [
        write(0, 1),
        write(limits::SHARD_BYTES_MAX - 256, 256),
        publish(0, limits::SHARD_BYTES_MAX, 0, 512),
        publish(page - 1, 2, 0, 2),
        publish(page, page, 1, 1),
    ] {
        good.check().unwrap();
        assert_eq!(good.array(), ArrayId(1));
    }
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
        assert_eq!(bad.check().unwrap_err().code, code, "{bad:?}");
    }
}
