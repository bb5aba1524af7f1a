use holo_core::wire::Kind;
use holo_core::{ErrorCode, RequestId};
use proptest::prelude::*;

use super::*;

fn message(id: u64, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let len = u32::try_from(body.len()).unwrap();
    put_frame(&mut out, &FrameHeader::request(Kind::Get, RequestId(id), len), body);
    out
}

fn drain(reader: &mut FrameReader) -> Vec<Frame> {
    std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
}

#[test]
fn frames_arrive_whole_when_every_byte_comes_alone() {
    let mut wire = message(1, b"first");
    wire.extend_from_slice(&message(2, b""));
    wire.extend_from_slice(&message(3, &[7; 5000]));
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    for byte in wire {
        reader.push(Bytes::copy_from_slice(&[byte]));
        frames.extend(drain(&mut reader));
    }
    assert!(reader.is_between_frames());
    let bodies: Vec<usize> = frames.iter().map(|frame| frame.body.len()).collect();
    assert_eq!(bodies, [5, 0, 5000]);
    assert_eq!(frames[2].header.request, RequestId(3));
}

#[test]
fn a_length_beyond_the_limit_is_refused_and_an_announced_one_is_not_allocated() {
    let mut header = FrameHeader::request(Kind::Get, RequestId(1), limits::BODY_BYTES_MAX + 1);
    let mut reader = FrameReader::new();
    reader.push(Bytes::copy_from_slice(&header.encode()));
    assert_eq!(reader.next_frame().unwrap_err().code, ErrorCode::TooLarge);

    header.body_len = limits::BODY_BYTES_MAX;
    let mut reader = FrameReader::new();
    reader.push(Bytes::copy_from_slice(&header.encode()));
    assert_eq!(reader.next_frame().unwrap(), None);
    assert_eq!(reader.body.capacity(), 0, "a megabyte was announced and none arrived");
}

#[test]
fn an_answer_that_is_too_long_becomes_a_failure() {
    let long = Bytes::from(vec![0; limits::BODY_BYTES_MAX as usize + 1]);
    let (failed, body) = answer_body(Ok(long));
    assert!(failed);
    let failure = Failure::from(FailureBody::decode(&*body).unwrap());
    assert_eq!(failure.code, ErrorCode::TooLarge);
}

proptest! {
    #[test]
    fn frames_do_not_depend_on_how_the_network_cuts_them(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..8),
        cuts in prop::collection::vec(1usize..2000, 1..40),
    ) {
        let mut wire = BytesMut::new();
        for (id, body) in bodies.iter().enumerate() {
            wire.extend_from_slice(&message(id as u64, body));
        }
        let mut wire = wire.freeze();
        let mut reader = FrameReader::new();
        let mut seen = Vec::new();
        for cut in cuts.iter().cycle() {
            if wire.is_empty() {
                break;
            }
            reader.push(wire.split_to(wire.len().min(*cut)));
            seen.extend(drain(&mut reader));
        }
        prop_assert!(reader.is_between_frames());
        prop_assert_eq!(seen.iter().map(|frame| frame.body.to_vec()).collect::<Vec<_>>(), bodies);
    }

    #[test]
    fn any_bytes_are_frames_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 1usize..60) {
        crate::fuzzing::frames(&bytes, cut);
    }
}
