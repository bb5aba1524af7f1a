use super::*;

/// `numpy.promote_types` of every pair, row by row, both in the order of [`DType::ALL`].
const TABLE: [&str; 11] = [
    "bool    int8    int16   int32   int64   uint8   uint16  uint32  uint64  float32 float64",
    "int8    int8    int16   int32   int64   int16   int32   int64   float64 float32 float64",
    "int16   int16   int16   int32   int64   int16   int32   int64   float64 float32 float64",
    "int32   int32   int32   int32   int64   int32   int32   int64   float64 float64 float64",
    "int64   int64   int64   int64   int64   int64   int64   int64   float64 float64 float64",
    "uint8   int16   int16   int32   int64   uint8   uint16  uint32  uint64  float32 float64",
    "uint16  int32   int32   int32   int64   uint16  uint16  uint32  uint64  float32 float64",
    "uint32  int64   int64   int64   int64   uint32  uint32  uint32  uint64  float64 float64",
    "uint64  float64 float64 float64 float64 uint64  uint64  uint64  uint64  float64 float64",
    "float32 float32 float32 float64 float64 float32 float32 float64 float64 float32 float64",
    "float64 float64 float64 float64 float64 float64 float64 float64 float64 float64 float64",
];

#[test]
fn promotion_is_numpys_for_all_pairs() {
    for (a, row) in DType::ALL.iter().zip(TABLE) {
        let expected: Vec<_> = row.split_whitespace().collect();
        assert_eq!(expected.len(), DType::ALL.len());
        for (b, name) in DType::ALL.iter().zip(expected) {
            assert_eq!(promote(*a, *b).name(), name, "{a} with {b}");
        }
    }
}
