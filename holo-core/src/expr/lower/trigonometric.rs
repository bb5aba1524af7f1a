//! `sin` and `cos`.

use crate::expr::lower::exponential::{TINY, inverse_factorials};
use crate::expr::lower::writer::{Double, Value, Writer};
use crate::expr::{BinaryOp, CompareOp, UnaryOp};

/// pi/2 in parts of 33 bits, so that a product with a quadrant number below 2^20 is exact, and the rest.
const HALF_PI: [f64; 4] = [
    f64::from_bits(0x3ff9_21fb_5440_0000),
    f64::from_bits(0x3dd0_b461_1a60_0000),
    f64::from_bits(0x3ba3_198a_2e00_0000),
    f64::from_bits(0x397b_839a_2520_49c1),
];
/// Beyond this the parts do not suffice.
const ARGUMENT_MAX: f64 = 1_048_576.0;

/// Sine of radians.
pub(super) fn sin(w: &mut Writer<'_>, x: Value) -> Value {
    let result = quadrant_function(w, x, 0);
    // Keeps the sign of -0 and the last bit of subnormals.
    let size = w.abs(x);
    let tiny = w.less(size, TINY);
    w.select(tiny, x, result)
}

/// Cosine of radians: the sine one quadrant further.
pub(super) fn cos(w: &mut Writer<'_>, x: Value) -> Value {
    quadrant_function(w, x, 1)
}

fn quadrant_function(w: &mut Writer<'_>, x: Value, quadrants_ahead: i64) -> Value {
    let (n, r) = reduce(w, x);
    let (sine, cosine) = (sine_near_zero(w, r), cosine_near_zero(w, r));
    let n = w.int_of(n);
    let ahead = w.int(quadrants_ahead);
    let quadrant = w.add(n, ahead);
    let (one, two, zero) = (w.int(1), w.int(2), w.int(0));
    let odd = w.binary(BinaryOp::And, quadrant, one);
    let odd = w.compare(CompareOp::Ne, odd, zero);
    let value = w.select(odd, cosine, sine);
    let lower_half = w.binary(BinaryOp::And, quadrant, two);
    let lower_half = w.compare(CompareOp::Ne, lower_half, zero);
    let mirrored = w.neg(value);
    let value = w.select(lower_half, mirrored, value);
    // NaN compares as false, and infinity is too large.
    let size = w.abs(x);
    let limit = w.num(ARGUMENT_MAX);
    let reducible = w.compare(CompareOp::Le, size, limit);
    let nan = w.num(f64::NAN);
    w.select(reducible, value, nan)
}

/// The nearest multiple n of pi/2, and x - n pi/2 to about 100 bits (Cody and Waite 1980).
fn reduce(w: &mut Writer<'_>, x: Value) -> (Value, Double) {
    let per_half_pi = w.num(std::f64::consts::FRAC_2_PI);
    let n = w.mul(x, per_half_pi);
    let n = w.unary(UnaryOp::Round, n);
    let parts = HALF_PI.map(|part| {
        let part = w.num(part);
        w.mul(n, part)
    });
    let [first, second, third, rest] = parts;
    let left = w.sub(x, first);
    let left = w.two_diff(left, second);
    let last = w.two_diff(left.high, third);
    let low = w.add(left.low, last.low);
    let low = w.sub(low, rest);
    (n, w.fast_two_sum(last.high, low))
}

/// sin(r) for |r| <= pi/4: Taylor up to r^17, and the low part with the derivative 1 - r^2/2.
fn sine_near_zero(w: &mut Writer<'_>, r: Double) -> Value {
    let z = w.mul(r.high, r.high);
    let series = w.polynomial(z, &alternating(inverse_factorials::<8>(3, 2), -1.0));
    let cube = w.mul(z, r.high);
    let tail = w.mul(cube, series);
    let (half, one) = (w.num(0.5), w.num(1.0));
    let half_z = w.mul(half, z);
    let slope = w.sub(one, half_z);
    let low = w.mul(r.low, slope);
    let tail = w.add(tail, low);
    w.add(r.high, tail)
}

/// cos(r) for |r| <= pi/4: Taylor up to r^16, what rounding 1 - r^2/2 cuts off, and the low part.
fn cosine_near_zero(w: &mut Writer<'_>, r: Double) -> Value {
    let z = w.mul(r.high, r.high);
    let series = w.polynomial(z, &alternating(inverse_factorials::<7>(4, 2), 1.0));
    let square = w.mul(z, z);
    let tail = w.mul(square, series);
    let low = w.mul(r.high, r.low);
    let tail = w.sub(tail, low);
    let (half, one) = (w.num(0.5), w.num(1.0));
    let half_z = w.mul(half, z);
    let start = w.sub(one, half_z);
    let lost = w.sub(one, start);
    let lost = w.sub(lost, half_z);
    let tail = w.add(lost, tail);
    w.add(start, tail)
}

fn alternating<const N: usize>(coefficients: [f64; N], first_sign: f64) -> [f64; N] {
    let mut sign = -first_sign;
    coefficients.map(|coefficient| {
        sign = -sign;
        sign * coefficient
    })
}
