//! `x ** y` of floats.

use crate::expr::lower::exponential::{
    LN2_HIGH, LN2_LOW, exp_of_sum, fraction_and_exponent, inverse_odds, log_of_positive,
};
use crate::expr::lower::writer::{Double, Value, Writer};
use crate::expr::{BinaryOp, CompareOp, UnaryOp};

/// Where even a base next to 1 over- or underflows, so exponents beyond it need not be told apart.
const EXPONENT_MAX: f64 = 73_786_976_294_838_206_464.0;

/// x to the power of y. `precise` carries the logarithm to 64 bits, which a float64 result needs.
pub(super) fn pow(w: &mut Writer<'_>, x: Value, y: Value, precise: bool) -> Value {
    let size = w.abs(x);
    let (least, most) = (w.num(-EXPONENT_MAX), w.num(EXPONENT_MAX));
    let exponent = w.binary(BinaryOp::Max, y, least);
    let exponent = w.binary(BinaryOp::Min, exponent, most);
    let magnitude = if precise {
        let log = precise_log(w, size);
        let product = w.two_product(exponent, log.high);
        let low = w.mul(exponent, log.low);
        let low = w.add(product.low, low);
        // Where the result is 0 or infinity, what the product lost may be huge by itself.
        let scale = w.abs(product.high);
        let counts = w.less(scale, 800.0);
        let zero = w.num(0.0);
        let low = w.select(counts, low, zero);
        exp_of_sum(w, product.high, Some(low))
    } else {
        let log = log_of_positive(w, size);
        let product = w.mul(exponent, log);
        exp_of_sum(w, product, None)
    };
    special_values(w, x, y, size, magnitude)
}

/// The values that C99's Annex F prescribes, and the sign.
fn special_values(w: &mut Writer<'_>, x: Value, y: Value, size: Value, magnitude: Value) -> Value {
    let (zero, one, infinity, nan) =
        (w.num(0.0), w.num(1.0), w.num(f64::INFINITY), w.num(f64::NAN));
    let down = w.less(y, 0.0);
    let of_zero = w.select(down, infinity, zero);
    let of_infinity = w.select(down, zero, infinity);
    let is_zero = w.equals(x, 0.0);
    let is_infinite = w.equals(size, f64::INFINITY);
    let magnitude = w.select(is_zero, of_zero, magnitude);
    let magnitude = w.select(is_infinite, of_infinity, magnitude);

    let whole = is_whole(w, y);
    let half = w.num(0.5);
    let half_y = w.mul(y, half);
    let even = is_whole(w, half_y);
    let odd = w.unary(UnaryOp::Not, even);
    let odd = w.binary(BinaryOp::And, whole, odd);
    let bits = w.bits(x);
    let no_bits = w.int(0);
    let signed = w.compare(CompareOp::Lt, bits, no_bits);
    let mirror = w.binary(BinaryOp::And, signed, odd);
    let mirrored = w.neg(magnitude);
    let value = w.select(mirror, mirrored, magnitude);

    let negative = w.less(x, 0.0);
    let finite = w.unary(UnaryOp::Not, is_infinite);
    let broken = w.unary(UnaryOp::Not, whole);
    let undefined = w.binary(BinaryOp::And, negative, finite);
    let undefined = w.binary(BinaryOp::And, undefined, broken);
    let x_nan = w.compare(CompareOp::Ne, x, x);
    let y_nan = w.compare(CompareOp::Ne, y, y);
    let unknown = w.binary(BinaryOp::Or, x_nan, y_nan);
    let undefined = w.binary(BinaryOp::Or, undefined, unknown);
    let value = w.select(undefined, nan, value);
    // One of anything, even of NaN.
    let no_exponent = w.equals(y, 0.0);
    let unit = w.equals(x, 1.0);
    let always_one = w.binary(BinaryOp::Or, no_exponent, unit);
    w.select(always_one, one, value)
}

/// A bool; infinity counts.
fn is_whole(w: &mut Writer<'_>, a: Value) -> Value {
    let cut = w.unary(UnaryOp::Trunc, a);
    w.compare(CompareOp::Eq, cut, a)
}

/// log(x) of a finite x > 0 with an error below 2^-64 of it.
///
/// As the plain logarithm, but s, s^2 and the first two terms of atanh(s) = s (1 + s^2/3 + s^4/5 + ...) are sums of two
/// float64; the terms from s^4/5 on are small enough for one.
fn precise_log(w: &mut Writer<'_>, x: Value) -> Double {
    let (f, k) = fraction_and_exponent(w, x);
    let two = w.num(2.0);
    // 2 + f loses a bit at most; the remainder of the division and that bit give the low part of s.
    let divisor = w.fast_two_sum(two, f);
    let quotient = w.div(f, divisor.high);
    let product = w.two_product(quotient, divisor.high);
    let remainder = w.sub(f, product.high);
    let remainder = w.sub(remainder, product.low);
    let bent = w.mul(quotient, divisor.low);
    let remainder = w.sub(remainder, bent);
    let low = w.div(remainder, divisor.high);
    let s = Double { high: quotient, low };

    let z = multiply(w, s, s);
    let series = w.polynomial(z.high, &inverse_odds::<9>(5, 1.0));
    let tail = w.mul(z.high, series);
    let third = w.num(1.0 / 3.0);
    let third_low = w.num(THIRD_LOW);
    let factor = w.fast_two_sum(third, tail);
    let factor = Double { high: factor.high, low: w.add(factor.low, third_low) };
    let growth = multiply(w, z, factor);
    let excess = multiply(w, s, growth);
    let sum = w.fast_two_sum(s.high, excess.high);
    let low = w.add(s.low, excess.low);
    let low = w.add(sum.low, low);
    let fraction = Double { high: w.mul(two, sum.high), low: w.mul(two, low) };

    let (ln2_high, ln2_low) = (w.num(LN2_HIGH), w.num(LN2_LOW));
    let whole = w.mul(k, ln2_high);
    let whole_low = w.mul(k, ln2_low);
    let sum = w.fast_two_sum(whole, fraction.high);
    let low = w.add(fraction.low, whole_low);
    let low = w.add(sum.low, low);
    w.fast_two_sum(sum.high, low)
}

/// 1/3 less its float64.
const THIRD_LOW: f64 = 1.850_371_707_708_594e-17;

fn multiply(w: &mut Writer<'_>, a: Double, b: Double) -> Double {
    let product = w.two_product(a.high, b.high);
    let left = w.mul(a.high, b.low);
    let right = w.mul(a.low, b.high);
    let cross = w.add(left, right);
    Double { high: product.high, low: w.add(product.low, cross) }
}
