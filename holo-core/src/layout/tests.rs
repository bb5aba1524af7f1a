use proptest::prelude::*;

use super::*;

fn layout(elems: u64, dtype: DType, shard_elems: u64) -> ArrayLayout {
    ArrayLayout::new(Shape::new(&[elems]).unwrap(), dtype, shard_elems).unwrap()
}

proptest! {
    #[test]
    fn every_element_has_exactly_one_place(elems in 0u64..5_000, shard in 1u64..700, pick in 0usize..11) {
        let layout = layout(elems, DType::ALL[pick], shard);
        let size = layout.dtype().size() as u64;
        let mut seen = std::collections::BTreeSet::new();
        for elem in 0..elems {
            let place = layout.locate(elem).unwrap();
            prop_assert!(place.byte + size <= layout.bytes_in_shard(place.shard));
            prop_assert_eq!(u64::from(place.page.0), place.byte / PAGE);
            prop_assert!(place.page.0 < layout.pages_in_shard(place.shard));
            prop_assert!(seen.insert((place.shard, place.byte)), "two elements share a place");
        }
        prop_assert_eq!(layout.locate(elems), None);
        let bytes: u64 = (0..layout.shards()).map(|s| layout.bytes_in_shard(ShardIndex(s))).sum();
        prop_assert_eq!(bytes, layout.bytes());
    }

    #[test]
    fn runs_cover_a_range_once_and_in_order(elems in 1u64..10_000, shard in 1u64..999, a in 0u64..10_000, b in 0u64..10_000) {
        let layout = layout(elems, DType::I16, shard);
        let range = a.min(b).min(elems)..a.max(b).min(elems);
        let mut next = range.start;
        for run in layout.shard_runs(range.clone()).unwrap() {
            prop_assert_eq!(run.first_elem, next);
            let place = layout.locate(run.first_elem).unwrap();
            prop_assert_eq!((place.shard, place.byte), (run.shard, run.byte));
            prop_assert_eq!(run.bytes, run.elems * 2);
            prop_assert!(run.byte + run.bytes <= layout.bytes_in_shard(run.shard));
            next += run.elems;
        }
        prop_assert_eq!(next, range.end);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let shape = Shape::new(&[1 << 49]).unwrap();
    assert_eq!(
        ArrayLayout::new(shape, DType::F64, 1 << 19).unwrap_err().code,
        ErrorCode::ShapeOverflow
    );
    let shape = Shape::new(&[1 << 40]).unwrap();
    assert_eq!(ArrayLayout::new(shape, DType::U8, 1).unwrap_err().code, ErrorCode::ShapeOverflow);
    let shape = Shape::new(&[10]).unwrap();
    assert_eq!(
        ArrayLayout::new(shape.clone(), DType::U8, 0).unwrap_err().code,
        ErrorCode::InvalidArgument
    );
    let small = ArrayLayout::new(shape, DType::U8, 4).unwrap();
    assert!(small.shard_runs(0..11).is_err());
    #[expect(clippy::reversed_empty_ranges, reason = "that is what must be refused")]
    let backwards = 5..3;
    assert_eq!(small.shard_runs(backwards).err().unwrap().code, ErrorCode::OutOfRange);
}
