//! `exp`, `log` and `tanh`.

use crate::expr::lower::writer::{Value, Writer};
use crate::expr::{BinaryOp, CompareOp, UnaryOp};

/// The leading bits of ln 2, few enough that a product with an exponent is exact, and the rest.
pub(super) const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
/// See [`LN2_HIGH`].
pub(super) const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

const SQRT_HALF_BITS: i64 = 0x3fe6_a09e_667f_3bcd;
const MANTISSA_BITS: i64 = 52;
const EXPONENT_BIAS: i64 = 1023;
/// Below this many times smaller than 1, `f(x) = x` to the last bit for sine and tanh.
pub(super) const TINY: f64 = 1.0 / 134_217_728.0;

/// e^x.
pub(super) fn exp(w: &mut Writer<'_>, x: Value) -> Value {
    exp_of_sum(w, x, None)
}

/// e^(x + low), `low` being small beside `x`.
///
/// With n the multiple of ln 2 nearest to x, e^x = 2^n e^r where |r| <= 0.35, and e^r comes from its Taylor series up
/// to r^13, whose remainder is below 2^-57.
pub(super) fn exp_of_sum(w: &mut Writer<'_>, x: Value, low: Option<Value>) -> Value {
    // Beyond these bounds the result is 0 or infinity anyway, and inside n has 11 bits. NaN passes through both.
    let (least, most) = (w.num(-746.0), w.num(710.0));
    let x = w.binary(BinaryOp::Max, x, least);
    let x = w.binary(BinaryOp::Min, x, most);
    let log2_e = w.num(std::f64::consts::LOG2_E);
    let n = w.mul(x, log2_e);
    let n = w.unary(UnaryOp::Round, n);
    let (ln2_high, ln2_low) = (w.num(LN2_HIGH), w.num(LN2_LOW));
    let multiple = w.mul(n, ln2_high);
    let high = w.sub(x, multiple);
    let rest = w.mul(n, ln2_low);
    let r = w.sub(high, rest);
    // What rounding cut off r.
    let lost = w.sub(high, r);
    let mut lost = w.sub(lost, rest);
    if let Some(low) = low {
        lost = w.add(lost, low);
    }
    // e^r - 1 = r + r^2 (1/2! + r/3! + ...), and e^(r + lost) - 1 = (e^r - 1) + lost e^r to first order.
    let series = w.polynomial(r, &inverse_factorials::<12>(2, 1));
    let square = w.mul(r, r);
    let tail = w.mul(square, series);
    let growth = w.add(r, tail);
    let correction = w.mul(lost, growth);
    let correction = w.add(lost, correction);
    let growth = w.add(growth, correction);
    let one = w.num(1.0);
    let mantissa = w.add(one, growth);
    scale(w, mantissa, n)
}

/// `mantissa * 2^n`, in two steps so that neither power overflows and a subnormal result is rounded once.
fn scale(w: &mut Writer<'_>, mantissa: Value, n: Value) -> Value {
    let n = w.int_of(n);
    let one = w.int(1);
    let half = w.binary(BinaryOp::Shr, n, one);
    let other_half = w.sub(n, half);
    let mut scaled = mantissa;
    for exponent in [half, other_half] {
        let bias = w.int(EXPONENT_BIAS);
        let biased = w.add(exponent, bias);
        let width = w.int(MANTISSA_BITS);
        let bits = w.binary(BinaryOp::Shl, biased, width);
        let power = w.of_bits(bits);
        scaled = w.mul(scaled, power);
    }
    scaled
}

/// x = (1 + f) 2^k with sqrt(1/2) <= 1 + f < sqrt(2); f is exact. For finite x > 0.
pub(super) fn fraction_and_exponent(w: &mut Writer<'_>, x: Value) -> (Value, Value) {
    let subnormal = w.less(x, f64::MIN_POSITIVE);
    let two_54 = w.num(18_014_398_509_481_984.0);
    let normal = w.mul(x, two_54);
    let x = w.select(subnormal, normal, x);
    let bits = w.bits(x);
    let sqrt_half = w.int(SQRT_HALF_BITS);
    let above = w.sub(bits, sqrt_half);
    let width = w.int(MANTISSA_BITS);
    let k = w.binary(BinaryOp::Shr, above, width);
    let exponent = w.binary(BinaryOp::Shl, k, width);
    let fraction = w.sub(bits, exponent);
    let fraction = w.of_bits(fraction);
    let one = w.num(1.0);
    let f = w.sub(fraction, one);
    let k = w.float_of(k);
    let (scaled_by, zero) = (w.num(54.0), w.num(0.0));
    let correction = w.select(subnormal, scaled_by, zero);
    (f, w.sub(k, correction))
}

/// Natural logarithm.
pub(super) fn log(w: &mut Writer<'_>, x: Value) -> Value {
    let result = log_of_positive(w, x);
    // Infinity and NaN are their own logarithms.
    let infinity = w.num(f64::INFINITY);
    let finite = w.compare(CompareOp::Lt, x, infinity);
    let result = w.select(finite, result, x);
    let zero = w.equals(x, 0.0);
    let pole = w.num(f64::NEG_INFINITY);
    let result = w.select(zero, pole, result);
    let negative = w.less(x, 0.0);
    let nan = w.num(f64::NAN);
    w.select(negative, nan, result)
}

/// Natural logarithm of a finite x > 0; anything else gives any value.
///
/// With s = f/(2 + f), log(1 + f) = 2 atanh(s) = 2s + s R, where R = 2 (s^2/3 + s^4/5 + ...). The leading term is
/// written as f - f^2/2 + s f^2/2, of which f is exact.
pub(super) fn log_of_positive(w: &mut Writer<'_>, x: Value) -> Value {
    let (f, k) = fraction_and_exponent(w, x);
    let two = w.num(2.0);
    let divisor = w.add(two, f);
    let s = w.div(f, divisor);
    let z = w.mul(s, s);
    let series = w.polynomial(z, &inverse_odds::<10>(3, 2.0));
    let r = w.mul(z, series);
    let half = w.num(0.5);
    let half_f = w.mul(half, f);
    let half_square = w.mul(half_f, f);
    let inner = w.add(half_square, r);
    let inner = w.mul(s, inner);
    let (ln2_high, ln2_low) = (w.num(LN2_HIGH), w.num(LN2_LOW));
    let low = w.mul(k, ln2_low);
    let inner = w.add(inner, low);
    let rest = w.sub(half_square, inner);
    let rest = w.sub(rest, f);
    let high = w.mul(k, ln2_high);
    w.sub(high, rest)
}

/// Hyperbolic tangent: its Taylor series below 0.55, 1 - 2/(e^2x + 1) above.
pub(super) fn tanh(w: &mut Writer<'_>, x: Value) -> Value {
    let size = w.abs(x);
    let z = w.mul(x, x);
    let series = w.polynomial(z, &TANH);
    let cube = w.mul(x, z);
    let tail = w.mul(cube, series);
    let small = w.add(x, tail);
    let tiny = w.less(size, TINY);
    let small = w.select(tiny, x, small);

    let (one, two) = (w.num(1.0), w.num(2.0));
    let doubled = w.mul(two, size);
    let power = exp(w, doubled);
    let divisor = w.add(power, one);
    let gap = w.div(two, divisor);
    let large = w.sub(one, gap);
    let mirrored = w.neg(large);
    let negative = w.less(x, 0.0);
    let large = w.select(negative, mirrored, large);
    let near = w.less(size, 0.55);
    w.select(near, small, large)
}

/// Coefficients of x^3, x^5, ... of tanh(x).
#[expect(clippy::unreadable_literal, reason = "coefficients as their shortest decimals")]
const TANH: [f64; 19] = [
    -0.3333333333333333,
    0.13333333333333333,
    -0.05396825396825397,
    0.021869488536155203,
    -0.008863235529902197,
    0.003592128036572481,
    -0.0014558343870513183,
    0.000590027440945586,
    -0.00023912911424355248,
    9.691537956929451e-05,
    -3.927832388331683e-05,
    1.5918905069328964e-05,
    -6.451689215655431e-06,
    2.6147711512907546e-06,
    -1.0597268320104654e-06,
    4.294911078273806e-07,
    -1.7406618963571648e-07,
    7.054636946400968e-08,
    -2.859136662305254e-08,
];

/// 1/first!, 1/(first + step)!, ...; exact factorials as long as they stay below 19!.
pub(super) fn inverse_factorials<const N: usize>(first: u32, step: u32) -> [f64; N] {
    let (mut factorial, mut reached) = (1.0, 0);
    let mut wanted = first;
    [(); N].map(|()| {
        while reached < wanted {
            reached += 1;
            factorial *= f64::from(reached);
        }
        wanted += step;
        1.0 / factorial
    })
}

/// scale/first, scale/(first + 2), ...
pub(super) fn inverse_odds<const N: usize>(first: u32, scale: f64) -> [f64; N] {
    let mut odd = first;
    [(); N].map(|()| {
        let coefficient = scale / f64::from(odd);
        odd += 2;
        coefficient
    })
}
