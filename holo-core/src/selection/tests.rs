use proptest::prelude::*;

use super::*;

fn shape(dims: &[u64]) -> Shape {
    Shape::new(dims).unwrap()
}

/// NumPy's rule for one axis, step by step.
fn picked(index: AxisIndex, extent: u64) -> Vec<u64> {
    let extent = i64::try_from(extent).unwrap();
    let wrap = |end: i64| if end < 0 { end + extent } else { end };
    match index {
        AxisIndex::At(at) => vec![u64::try_from(wrap(at)).unwrap()],
        AxisIndex::Ellipsis => unreachable!("not drawn"),
        AxisIndex::Slice(slice) => {
            let start = slice.start.map_or(0, wrap).clamp(0, extent);
            let stop = slice.stop.map_or(extent, wrap).clamp(0, extent);
            (start..stop)
                .step_by(usize::try_from(slice.step).unwrap())
                .map(|at| u64::try_from(at).unwrap())
                .collect()
        }
    }
}

fn indexes() -> impl Strategy<Value = (Vec<u64>, Vec<AxisIndex>)> {
    let end = proptest::option::of(-9i64..9);
    let slice = (end.clone(), end, 1u64..5)
        .prop_map(|(start, stop, step)| AxisIndex::Slice(Slice { start, stop, step }));
    let axis = (1u64..7, slice, any::<proptest::sample::Index>(), 0u8..4);
    proptest::collection::vec(axis, 0..5).prop_map(|axes| {
        axes.into_iter()
            .map(|(extent, slice, at, kind)| {
                let extent_signed = i64::try_from(extent).unwrap();
                let at = i64::try_from(at.index(2 * usize::try_from(extent).unwrap())).unwrap()
                    - extent_signed;
                (extent, if kind == 0 { AxisIndex::At(at) } else { slice })
            })
            .unzip()
    })
}

proptest! {
    #[test]
    fn runs_are_the_elements_that_numpy_picks_and_cannot_be_joined((dims, indexes) in indexes()) {
        let shape = shape(&dims);
        let selection = Selection::new(&indexes, &shape).unwrap();
        let mut expected = vec![0u64];
        let mut result = Vec::new();
        for (extent, index) in dims.iter().zip(&indexes) {
            let picks = picked(*index, *extent);
            if !matches!(index, AxisIndex::At(_)) {
                result.push(picks.len() as u64);
            }
            expected = expected
                .iter()
                .flat_map(|flat| picks.iter().map(move |pick| flat * extent + pick))
                .collect();
        }
        prop_assert_eq!(selection.shape().dims(), &result[..]);
        prop_assert_eq!(selection.elems(), expected.len() as u64);
        let runs: Vec<(u64, u64)> = selection.runs().collect();
        let flat: Vec<u64> = runs.iter().flat_map(|(start, count)| *start..start + count).collect();
        prop_assert_eq!(&flat, &expected);
        for pair in runs.windows(2) {
            prop_assert!(pair[0].0 + pair[0].1 != pair[1].0, "two runs could be one: {:?}", runs);
        }
    }

    #[test]
    fn text_says_the_same_as_indexes((dims, indexes) in indexes()) {
        let number = |end: Option<i64>| end.map_or(String::new(), |end| end.to_string());
        let parts: Vec<String> = indexes
            .iter()
            .map(|index| match index {
                AxisIndex::At(at) => at.to_string(),
                AxisIndex::Ellipsis => "...".to_owned(),
                AxisIndex::Slice(s) => format!("{}:{} : {}", number(s.start), number(s.stop), s.step),
            })
            .collect();
        let shape = shape(&dims);
        let expected = Selection::new(&indexes, &shape).unwrap();
        prop_assert_eq!(Selection::parse(&format!("[{}]", parts.join(", ")), &shape).unwrap(), Selection::new(&indexes, &shape).unwrap());
        prop_assert_eq!(Selection::parse(&parts.join(","), &shape).unwrap(), expected);
    }

    #[test]
    fn noise_is_refused_or_inside(text in "[-0-9:., \\[\\]x]{0,20}", dims in proptest::collection::vec(0u64..9, 0..4)) {
        let shape = shape(&dims);
        if let Ok(selection) = Selection::parse(&text, &shape) {
            for (start, count) in selection.runs() {
                prop_assert!(start + count <= shape.elems());
            }
        }
    }
}

#[test]
fn whole_and_huge_arrays_are_one_run() {
    let cube = shape(&[1 << 20, 1 << 10, 1 << 10]);
    let all: Vec<_> = Selection::all(&cube).runs().collect();
    assert_eq!(all, [(0, 1 << 40)]);
    let rows: Vec<_> = Selection::parse("[5:7]", &cube).unwrap().runs().collect();
    assert_eq!(rows, [(5 << 20, 2 << 20)]);
    let last = Selection::parse("[..., -1]", &cube).unwrap();
    assert_eq!(last.shape().dims(), [1 << 20, 1 << 10]);
    assert_eq!(last.runs().nth(1), Some((2047, 1)));
    let scalar: Vec<_> = Selection::all(&shape(&[])).runs().collect();
    assert_eq!(scalar, [(0, 1)]);
    assert_eq!(Selection::all(&shape(&[3, 0])).runs().count(), 0);
    let step = Slice { start: None, stop: None, step: u64::MAX };
    let first: Vec<_> = Selection::new(&[AxisIndex::Slice(step)], &cube).unwrap().runs().collect();
    assert_eq!(first, [(0, 1 << 20)]);
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let square = shape(&[4, 4]);
    let code = |text: &str| Selection::parse(text, &square).unwrap_err().code;
    for bad in ["[4]", "[-5]", "[0, 4]", "[9223372036854775807]", "[-9223372036854775808]"] {
        assert_eq!(code(bad), ErrorCode::OutOfRange, "{bad}");
    }
    for bad in [
        "[1, 2, 3]",
        "[::0]",
        "[::-1]",
        "[a]",
        "[1",
        "1]",
        "[1:2:3:4]",
        "[,]",
        "[..., ...]",
        "[99999999999999999999]",
        "[1.5]",
        "[,,,,,,,,,,,,,]",
    ] {
        assert_eq!(code(bad), ErrorCode::InvalidArgument, "{bad}");
    }
    assert_eq!(Selection::parse("[100:200, -100:2]", &square).unwrap().shape().dims(), [0, 2]);
    assert_eq!(Selection::parse("", &square).unwrap(), Selection::all(&square));
    assert_eq!(Selection::parse("[1,]", &square).unwrap().shape().dims(), [4]);
}
