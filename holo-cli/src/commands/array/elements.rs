//! Single elements as text and JSON.

use holo_core::{DType, ErrorCode, Failure, Scalar};
use serde_json::{Number, Value};

/// Reads one element of a dtype.
///
/// # Errors
///
/// [`ErrorCode::DtypeMismatch`] for a text that is no such value, [`ErrorCode::OutOfRange`] for a number that the
/// dtype cannot hold.
pub(super) fn parse_value(text: &str, dtype: DType) -> Result<Scalar, Failure> {
    let plain = text.trim().replace('_', "");
    let mismatch = || {
        Failure::new(ErrorCode::DtypeMismatch, format!("{text:?} is no {dtype}"))
            .help("give a value of the array's dtype, such as -3, 0.5 or true")
    };
    match dtype {
        DType::Bool => match plain.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Scalar::bool(true)),
            "false" | "0" => Ok(Scalar::bool(false)),
            _ => Err(mismatch()),
        },
        DType::F32 => plain.parse().map(Scalar::f32).ok().ok_or_else(mismatch),
        DType::F64 => plain.parse().map(Scalar::f64).ok().ok_or_else(mismatch),
        _ => {
            let number: i128 = plain.parse().ok().ok_or_else(mismatch)?;
            let value = Scalar::from_bits(dtype, low_bits(number));
            if value.to_i128() == number {
                return Ok(value);
            }
            Err(Failure::new(ErrorCode::OutOfRange, format!("{number} does not fit in {dtype}"))
                .help("give a value that it can hold, or take an array of a wider dtype"))
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "two's complement; the caller compares what is left with what was meant"
)]
fn low_bits(number: i128) -> u64 {
    number as u64
}

/// Packed little-endian bytes as elements; bytes that are no whole element are left out.
pub(super) fn scalars(dtype: DType, bytes: &[u8]) -> Vec<Scalar> {
    bytes
        .chunks_exact(dtype.size())
        .filter_map(|chunk| Scalar::from_le_bytes(dtype, chunk).ok())
        .collect()
}

/// One element as JSON: a number or bool; floats that JSON does not have become the strings `NaN`, `inf` and `-inf`.
pub(super) fn to_json(value: Scalar) -> Value {
    match value.dtype() {
        DType::Bool => Value::Bool(value.bits() != 0),
        DType::U64 => Value::from(value.bits()),
        DType::F32 | DType::F64 => {
            let text = value.to_string();
            // The shortest text of a float32 must not become that of a float64.
            let number = text.parse().ok().and_then(Number::from_f64);
            number.map_or(Value::String(text), Value::Number)
        }
        _ => i64::try_from(value.to_i128()).map_or(Value::Null, Value::from),
    }
}

/// Elements in C order as nested JSON arrays of a shape.
pub(super) fn nested_json(values: &[Scalar], dims: &[u64]) -> Value {
    let Some((_, inner)) = dims.split_first() else {
        return values.first().map_or(Value::Null, |value| to_json(*value));
    };
    let stride: u64 = inner.iter().product();
    match usize::try_from(stride) {
        Ok(stride @ 1..) => {
            Value::Array(values.chunks(stride).map(|row| nested_json(row, inner)).collect())
        }
        // Every row is empty, and so is the whole.
        _ => Value::Array(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_their_dtype_or_refused() {
        assert_eq!(parse_value("-3", DType::I8).unwrap(), Scalar::from_bits(DType::I8, 0xfd));
        assert_eq!(parse_value("18446744073709551615", DType::U64).unwrap().bits(), u64::MAX);
        assert_eq!(parse_value("1_000", DType::I64).unwrap(), Scalar::i64(1000));
        assert_eq!(parse_value("0.5", DType::F32).unwrap(), Scalar::f32(0.5));
        assert_eq!(parse_value("True", DType::Bool).unwrap(), Scalar::bool(true));
        for (bad, dtype) in [("256", DType::U8), ("-1", DType::U64), ("128", DType::I8)] {
            assert_eq!(parse_value(bad, dtype).unwrap_err().code, ErrorCode::OutOfRange, "{bad}");
        }
        for (bad, dtype) in
            [("0.5", DType::I8), ("x", DType::F64), ("2", DType::Bool), ("", DType::I64)]
        {
            assert_eq!(
                parse_value(bad, dtype).unwrap_err().code,
                ErrorCode::DtypeMismatch,
                "{bad}"
            );
        }
    }

    #[test]
    fn json_keeps_every_value() {
        assert_eq!(to_json(Scalar::f32(0.1)).to_string(), "0.1");
        assert_eq!(to_json(Scalar::f64(f64::NAN)), Value::String("NaN".into()));
        assert_eq!(to_json(Scalar::f64(f64::NEG_INFINITY)), Value::String("-inf".into()));
        assert_eq!(to_json(Scalar::i64(i64::MIN)).to_string(), i64::MIN.to_string());
        assert_eq!(
            to_json(Scalar::from_bits(DType::U64, u64::MAX)).to_string(),
            u64::MAX.to_string()
        );
        let values: Vec<Scalar> = (0..6).map(Scalar::i64).collect();
        assert_eq!(nested_json(&values, &[2, 3]).to_string(), "[[0,1,2],[3,4,5]]");
        assert_eq!(nested_json(&values[..1], &[]).to_string(), "0");
        assert_eq!(nested_json(&[], &[0, 3]).to_string(), "[]");
    }
}
