use proptest::prelude::*;

use super::*;

fn file(version: u8, dict: &str) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([version, 0]);
    let text = format!("{dict}\n");
    match version {
        1 => bytes.extend(u16::try_from(text.len()).unwrap().to_le_bytes()),
        _ => bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes()),
    }
    bytes.extend(text.as_bytes());
    bytes
}

#[test]
fn all_versions_are_read_and_elements_begin_where_the_header_ends() {
    for version in [1, 2, 3] {
        let bytes = file(version, "{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }");
        let header = NpyHeader::parse(&bytes).unwrap();
        assert_eq!(header.shape.dims(), [2, 3]);
        assert_eq!(
            (header.dtype, header.big_endian, header.fortran_order),
            (DType::F32, true, true)
        );
        assert_eq!(header.data_offset, bytes.len());
        assert_eq!(NpyHeader::data_offset(&bytes).unwrap(), bytes.len());
        assert_eq!(header.data_bytes(), 24);
    }
    let one = file(1, "{\"shape\":(5L,),\"descr\":\"|b1\",\"fortran_order\":False}");
    assert_eq!(NpyHeader::parse(&one).unwrap().shape.dims(), [5]);
    let scalar = file(1, "{'descr': '=i8', 'fortran_order': False, 'shape': ()}");
    assert_eq!(NpyHeader::parse(&scalar).unwrap().shape.elems(), 1);
}

#[test]
fn foreign_dtypes_are_refused_by_name() {
    for (descr, word) in [
        ("'<c16'", "complex"),
        ("'|O'", "objects"),
        ("'<U8'", "text"),
        ("'|S3'", "text"),
        ("'<M8[ns]'", "dates"),
        ("'<f2'", "another size"),
        ("'|V8'", "raw"),
        ("'f8'", "unknown"),
        ("[('a', '<f8'), ('b', '<i4')]", "structured"),
    ] {
        let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}");
        let refused = NpyHeader::parse(&file(1, &text)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::UnsupportedFormat, "{descr}");
        assert!(refused.message.contains(word), "{descr}: {}", refused.message);
    }
}

#[test]
fn broken_and_oversized_headers_are_refused() {
    let code = |bytes: &[u8]| NpyHeader::parse(bytes).unwrap_err().code;
    let good = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }";
    for bad in [
        "",
        "{",
        "{}",
        "{'descr': '<f8'}",
        "{'descr': '<f8', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': 1}",
        "{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'x': 1}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)} trailing",
    ] {
        assert_eq!(code(&file(1, bad)), ErrorCode::UnsupportedFormat, "{bad}");
    }
    let whole = file(1, good);
    for cut in 0..whole.len() {
        assert_eq!(code(&whole[..cut]), ErrorCode::UnsupportedFormat, "cut at {cut}");
    }
    let overflow = good.replace("(1,)", "(4294967296, 4294967296)");
    assert_eq!(code(&file(1, &overflow)), ErrorCode::ShapeOverflow);
    let axes = good.replace("(1,)", "(1,1,1,1,1,1,1,1,1)");
    assert_eq!(code(&file(1, &axes)), ErrorCode::ShapeOverflow);
    let mut long = MAGIC.to_vec();
    long.extend([2, 0, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(code(&long), ErrorCode::TooLarge);
    assert_eq!(code(b"\x93NUMPY\x09\x00........"), ErrorCode::UnsupportedFormat);
    assert_eq!(code(b"PK\x03\x04 zip archives are not read"), ErrorCode::UnsupportedFormat);
}

#[test]
fn a_header_is_the_one_that_numpy_writes() {
    let shape = Shape::new(&[3, 4]).unwrap();
    let expected = "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }";
    let header = encode_header(&shape, DType::F64);
    assert_eq!(header.len(), 128);
    assert_eq!(&header[..10], b"\x93NUMPY\x01\x00\x76\x00");
    assert_eq!(std::str::from_utf8(&header[10..]).unwrap().trim_end(), expected);
    assert_eq!(header.last(), Some(&b'\n'));
}

proptest! {
    #[test]
    fn headers_go_there_and_back(dims in proptest::collection::vec(0u64..1000, 0..5), pick in 0usize..11) {
        let shape = Shape::new(&dims).unwrap();
        let bytes = encode_header(&shape, DType::ALL[pick]);
        prop_assert_eq!(bytes.len() % 64, 0);
        let header = NpyHeader::parse(&bytes).unwrap();
        prop_assert!(header.is_native());
        prop_assert_eq!(header.data_offset, bytes.len());
        prop_assert_eq!((header.shape, header.dtype), (shape, DType::ALL[pick]));
    }

    #[test]
    fn big_endian_fortran_elements_land_in_their_place(dims in proptest::collection::vec(1u64..6, 0..4)) {
        let shape = Shape::new(&dims).unwrap();
        let elems = u32::try_from(shape.elems()).unwrap();
        // Element with C index k has value k; write them with the first axis fastest, most significant byte first.
        let mut data = Vec::new();
        for fortran in 0..shape.elems() {
            let (mut rest, mut c_index, mut stride) = (fortran, 0, shape.elems());
            for dim in &dims {
                stride /= dim;
                c_index += (rest % dim) * stride;
                rest /= dim;
            }
            let mut bytes = u32::try_from(c_index).unwrap().to_le_bytes();
            bytes.reverse();
            data.extend(bytes);
        }
        let header = NpyHeader { shape, dtype: DType::U32, big_endian: true, fortran_order: true, data_offset: 0 };
        let expected: Vec<u8> = (0..elems).flat_map(u32::to_le_bytes).collect();
        prop_assert_eq!(header.to_c_order_le(&data).unwrap(), expected);
        prop_assert_eq!(header.to_c_order_le(&[0]).is_err(), header.data_bytes() != 1);
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200), version in 1u8..4, text in ".{0,80}") {
        let _ = NpyHeader::parse(&noise).is_ok();
        let _ = NpyHeader::parse(&[MAGIC.as_slice(), &noise].concat()).is_ok();
        let _ = NpyHeader::parse(&file(version, &text)).is_ok();
        let _ = NpyHeader::parse(&file(version, &format!("{{'descr': '<f8', 'shape': ({text}"))).is_ok();
    }
}
