// float32 with IEEE's special values. WGSL lets a compiler assume that no NaN and no infinity exists, so every decision
// about them is made on the bits. Constants that are not finite come through float_of_bits, because WGSL refuses them
// in constant expressions.

fn float_of_bits(bits: u32) -> f32 {
    return bitcast<f32>(bits);
}

fn f32_nan() -> f32 {
    return float_of_bits(0x7fc00000u);
}

fn f32_infinity() -> f32 {
    return float_of_bits(0x7f800000u);
}

fn f32_magnitude_bits(a: f32) -> u32 {
    return bitcast<u32>(a) & 0x7fffffffu;
}

fn f32_is_nan(a: f32) -> bool {
    return f32_magnitude_bits(a) > 0x7f800000u;
}

fn f32_is_negative(a: f32) -> bool {
    return (bitcast<u32>(a) >> 31u) != 0u;
}

fn f32_with_sign_of(a: f32, sign: f32) -> f32 {
    return float_of_bits(f32_magnitude_bits(a) | (bitcast<u32>(sign) & 0x80000000u));
}

// Orders all floats but NaN as integers; both zeros are 0.
fn f32_key(a: f32) -> i32 {
    let magnitude = bitcast<i32>(f32_magnitude_bits(a));
    return select(magnitude, -magnitude, f32_is_negative(a));
}

fn f32_comparable(a: f32, b: f32) -> bool {
    return !f32_is_nan(a) && !f32_is_nan(b);
}

fn f32_eq(a: f32, b: f32) -> bool {
    return f32_comparable(a, b) && f32_key(a) == f32_key(b);
}

fn f32_lt(a: f32, b: f32) -> bool {
    return f32_comparable(a, b) && f32_key(a) < f32_key(b);
}

fn f32_le(a: f32, b: f32) -> bool {
    return f32_comparable(a, b) && f32_key(a) <= f32_key(b);
}

// As f32_key, with -0 below +0.
fn f32_total_key(a: f32) -> i32 {
    let magnitude = bitcast<i32>(f32_magnitude_bits(a));
    return select(magnitude, ~magnitude, f32_is_negative(a));
}

fn f32_min(a: f32, b: f32) -> f32 {
    if (!f32_comparable(a, b)) {
        return f32_nan();
    }
    return select(a, b, f32_total_key(b) < f32_total_key(a));
}

fn f32_max(a: f32, b: f32) -> f32 {
    if (!f32_comparable(a, b)) {
        return f32_nan();
    }
    return select(a, b, f32_total_key(a) < f32_total_key(b));
}

// The word that is stored: every NaN is the one quiet NaN.
fn f32_canonical_bits(a: f32) -> u32 {
    return select(bitcast<u32>(a), 0x7fc00000u, f32_is_nan(a));
}

// The magnitude cut to an integer, all ones from 2^64 on.
fn f32_to_magnitude(a: f32) -> vec2<u32> {
    let bits = f32_magnitude_bits(a);
    let exponent = i32(bits >> 23u) - 150;
    let mantissa = (bits & 0x7fffffu) | 0x800000u;
    if (exponent < -23) {
        return vec2<u32>(0u, 0u);
    }
    if (exponent < 0) {
        return vec2<u32>(mantissa >> u32(-exponent), 0u);
    }
    if (exponent > 40) {
        return vec2<u32>(0xffffffffu, 0xffffffffu);
    }
    return pair_shl_by(vec2<u32>(mantissa, 0u), u32(exponent));
}

fn i64_of_f32(a: f32) -> vec2<u32> {
    if (f32_is_nan(a)) {
        return vec2<u32>(0u, 0u);
    }
    let magnitude = f32_to_magnitude(a);
    if (f32_is_negative(a)) {
        if (magnitude.y >= 0x80000000u) {
            return vec2<u32>(0u, 0x80000000u);
        }
        return pair_neg(magnitude);
    }
    if (magnitude.y >= 0x80000000u) {
        return vec2<u32>(0xffffffffu, 0x7fffffffu);
    }
    return magnitude;
}

fn u64_of_f32(a: f32) -> vec2<u32> {
    if (f32_is_nan(a) || f32_is_negative(a)) {
        return vec2<u32>(0u, 0u);
    }
    return f32_to_magnitude(a);
}

// Saturates at the bounds of a signed integer of `width` bits.
fn i32_of_f32(a: f32, width: u32) -> i32 {
    if (f32_is_nan(a)) {
        return 0;
    }
    let magnitude = f32_to_magnitude(a);
    let most = (1u << (width - 1u)) - 1u;
    let over = magnitude.y != 0u || magnitude.x > most;
    if (f32_is_negative(a)) {
        return select(-bitcast<i32>(magnitude.x), -1 - bitcast<i32>(most), over);
    }
    return select(bitcast<i32>(magnitude.x), bitcast<i32>(most), over);
}

// Saturates at the bounds of an unsigned integer of `width` bits.
fn u32_of_f32(a: f32, width: u32) -> u32 {
    if (f32_is_nan(a) || f32_is_negative(a)) {
        return 0u;
    }
    let magnitude = f32_to_magnitude(a);
    let most = 0xffffffffu >> (32u - width);
    return select(magnitude.x, most, magnitude.y != 0u || magnitude.x > most);
}

fn f32_sqrt(a: f32) -> f32 {
    if (f32_is_nan(a) || f32_key(a) == 0) {
        return a;
    }
    if (f32_is_negative(a)) {
        return f32_nan();
    }
    if (f32_magnitude_bits(a) == 0x7f800000u) {
        return a;
    }
    return sqrt(a);
}

// The exact remainder of two magnitudes as bits, with the dividend's sign dropped. Eight bits of quotient a step:
// at most 32 steps. Neither is NaN, the dividend is finite, the divisor is not 0.
fn f32_remainder_bits(a: u32, b: u32) -> u32 {
    if (a < b) {
        return a;
    }
    let hidden_a = select(0x800000u, 0u, (a >> 23u) == 0u);
    let hidden_b = select(0x800000u, 0u, (b >> 23u) == 0u);
    var exponent = max(a >> 23u, 1u);
    let exponent_b = max(b >> 23u, 1u);
    let divisor = (b & 0x7fffffu) | hidden_b;
    var rest = ((a & 0x7fffffu) | hidden_a) % divisor;
    for (var step = 0u; step < 32u; step++) {
        let shift = min(exponent - exponent_b, 8u);
        rest = (rest << shift) % divisor;
        exponent -= shift;
    }
    if (rest == 0u) {
        return 0u;
    }
    let room = countLeadingZeros(rest) - 8u;
    if (room < exponent_b) {
        return ((exponent_b - room) << 23u) | ((rest << room) & 0x7fffffu);
    }
    return rest << (exponent_b - 1u);
}

// NumPy's remainder: the divisor's sign; of a zero divisor or an infinite dividend NaN.
fn f32_rem(a: f32, b: f32) -> f32 {
    let bits_a = f32_magnitude_bits(a);
    let bits_b = f32_magnitude_bits(b);
    if (bits_a >= 0x7f800000u || bits_b > 0x7f800000u || bits_b == 0u) {
        return f32_nan();
    }
    let rest = f32_remainder_bits(bits_a, bits_b);
    if (rest == 0u) {
        return f32_with_sign_of(0.0, b);
    }
    let signed_rest = f32_with_sign_of(float_of_bits(rest), a);
    if (f32_is_negative(a) == f32_is_negative(b)) {
        return signed_rest;
    }
    if (bits_b == 0x7f800000u) {
        return b;
    }
    return signed_rest + b;
}

// NumPy's floor_divide: from the exact remainder, so that a quotient just below an integer does not round up to it.
fn f32_floor_div(a: f32, b: f32) -> f32 {
    let bits_a = f32_magnitude_bits(a);
    let bits_b = f32_magnitude_bits(b);
    if (bits_a >= 0x7f800000u || bits_b > 0x7f800000u || bits_b == 0u) {
        if (bits_a > 0x7f800000u || bits_b > 0x7f800000u || (bits_a == 0u && bits_b == 0u)) {
            return f32_nan();
        }
        if (bits_a == 0x7f800000u && (bits_b == 0x7f800000u || bits_b != 0u)) {
            return f32_nan();
        }
        return f32_with_sign_of(f32_infinity(), float_of_bits(bitcast<u32>(a) ^ bitcast<u32>(b)));
    }
    let rest = f32_with_sign_of(float_of_bits(f32_remainder_bits(bits_a, bits_b)), a);
    var quotient = (a - rest) / b;
    if (bits_b == 0x7f800000u) {
        quotient = 0.0;
    }
    if (f32_magnitude_bits(rest) != 0u && f32_is_negative(a) != f32_is_negative(b)) {
        quotient -= 1.0;
    }
    // Exact but for rounding, so the nearest integer is the one.
    let whole = round(quotient);
    return f32_with_sign_of(whole, float_of_bits(bitcast<u32>(a) ^ bitcast<u32>(b)));
}

// e^x: 2^n times a series for the rest, which lies within ln(2)/2 of 0.
fn f32_exp(x: f32) -> f32 {
    if (f32_is_nan(x)) {
        return x;
    }
    if (f32_key(x) > f32_key(89.0)) {
        return f32_infinity();
    }
    if (f32_key(x) < f32_key(-104.0)) {
        return 0.0;
    }
    let n = round(x * 1.44269504);
    let r = (x - n * 0.693145751953125) - n * 1.42860682e-6;
    var series = 1.0 / 5040.0;
    series = series * r + 1.0 / 720.0;
    series = series * r + 1.0 / 120.0;
    series = series * r + 1.0 / 24.0;
    series = series * r + 1.0 / 6.0;
    series = series * r + 0.5;
    series = series * r * r + r;
    let whole = i32(n);
    let half = whole >> 1u;
    let first = float_of_bits(u32(127 + half) << 23u);
    let second = float_of_bits(u32(127 + whole - half) << 23u);
    return (series * first + first) * second;
}

// ln(x) = e ln(2) + 2 atanh((m - 1) / (m + 1)) with m within a factor of sqrt(2) of 1.
fn f32_log(x: f32) -> f32 {
    let bits = f32_magnitude_bits(x);
    if (bits == 0u) {
        return float_of_bits(0xff800000u);
    }
    if (bits > 0x7f800000u || f32_is_negative(x)) {
        return f32_nan();
    }
    if (bits == 0x7f800000u) {
        return x;
    }
    var exponent = i32(bits >> 23u) - 127;
    var mantissa = bits & 0x7fffffu;
    if (exponent == -127) {
        let room = countLeadingZeros(mantissa) - 8u;
        mantissa = (mantissa << room) & 0x7fffffu;
        exponent = -126 - i32(room);
    }
    var m = float_of_bits(mantissa | 0x3f800000u);
    if (mantissa > 0x3504f3u) {
        m = float_of_bits(mantissa | 0x3f000000u);
        exponent += 1;
    }
    let e = f32(exponent);
    let f = m - 1.0;
    let s = f / (f + 2.0);
    let z = s * s;
    var series = 2.0 / 9.0;
    series = series * z + 2.0 / 7.0;
    series = series * z + 2.0 / 5.0;
    series = series * z + 2.0 / 3.0;
    // 2s = f - s f: the large part f is exact.
    let tail = s * (series * z - f);
    return e * 0.693145751953125 + (f + (tail + e * 1.42860682e-6));
}

// |x| as a multiple of pi/2: the nearest one modulo 4, and what is left in radians, from 96 bits of 2/pi that begin
// where the product stops being a multiple of 4 (Payne and Hanek, 1983).
struct Turn {
    quadrant: u32,
    rest: f32,
}

fn f32_turn(x: f32) -> Turn {
    let bits = f32_magnitude_bits(x);
    if (bits <= 0x3f490fdau) {
        return Turn(0u, float_of_bits(bits));
    }
    var digits = array<u32, 8>(0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu);
    let start = (bits >> 23u) - 120u;
    let word = start >> 5u;
    let shift = start & 31u;
    var w0 = digits[word];
    var w1 = digits[word + 1u];
    var w2 = digits[word + 2u];
    if (shift != 0u) {
        let back = 32u - shift;
        w0 = (w0 << shift) | (w1 >> back);
        w1 = (w1 << shift) | (w2 >> back);
        w2 = (w2 << shift) | (digits[word + 3u] >> back);
    }
    let mantissa = (bits & 0x7fffffu) | 0x800000u;
    let low = pair_product(mantissa, w2);
    let middle = pair_add(pair_product(mantissa, w1), vec2<u32>(low.y, 0u));
    let high = mantissa * w0 + middle.y;
    var quadrant = high >> 30u;
    var fraction = vec2<u32>((middle.x << 2u) | (low.x >> 30u), (high << 2u) | (middle.x >> 30u));
    var sign = 1.0;
    if (pair_is_negative(fraction)) {
        quadrant += 1u;
        fraction = pair_neg(fraction);
        sign = -1.0;
    }
    // fraction / 2^64, in radians.
    let rest = f32_of_u64(fraction) * 5.42101086e-20 * 1.57079633;
    return Turn(quadrant & 3u, sign * rest);
}

fn f32_sin_of_rest(r: f32) -> f32 {
    let z = r * r;
    var series = 1.0 / 362880.0;
    series = series * z - 1.0 / 5040.0;
    series = series * z + 1.0 / 120.0;
    series = series * z - 1.0 / 6.0;
    return series * z * r + r;
}

fn f32_cos_of_rest(r: f32) -> f32 {
    let z = r * r;
    var series = -1.0 / 3628800.0;
    series = series * z + 1.0 / 40320.0;
    series = series * z - 1.0 / 720.0;
    series = series * z + 1.0 / 24.0;
    series = series * z - 0.5;
    return series * z + 1.0;
}

fn f32_sin(x: f32) -> f32 {
    if (f32_magnitude_bits(x) >= 0x7f800000u) {
        return f32_nan();
    }
    let turn = f32_turn(x);
    var value = f32_sin_of_rest(turn.rest);
    if ((turn.quadrant & 1u) != 0u) {
        value = f32_cos_of_rest(turn.rest);
    }
    let flip = (turn.quadrant >= 2u) != f32_is_negative(x);
    return select(value, -value, flip);
}

fn f32_cos(x: f32) -> f32 {
    if (f32_magnitude_bits(x) >= 0x7f800000u) {
        return f32_nan();
    }
    let turn = f32_turn(x);
    var value = f32_cos_of_rest(turn.rest);
    if ((turn.quadrant & 1u) != 0u) {
        value = -f32_sin_of_rest(turn.rest);
    }
    return select(value, -value, turn.quadrant >= 2u);
}

// Near 0 Lambert's continued fraction, elsewhere 1 - 2 / (e^2x + 1), from 10 on 1.
fn f32_tanh(x: f32) -> f32 {
    if (f32_is_nan(x)) {
        return x;
    }
    let a = float_of_bits(f32_magnitude_bits(x));
    var value = 1.0;
    if (f32_key(a) < f32_key(0.6)) {
        let z = a * a;
        value = a / (1.0 + z / (3.0 + z / (5.0 + z / (7.0 + z / 9.0))));
    } else if (f32_key(a) < f32_key(10.0)) {
        value = 1.0 - 2.0 / (f32_exp(2.0 * a) + 1.0);
    }
    return f32_with_sign_of(value, x);
}

// C's pow. Small whole exponents by squaring, the others as e^(y ln|x|).
fn f32_pow(x: f32, y: f32) -> f32 {
    let bits_x = f32_magnitude_bits(x);
    let bits_y = f32_magnitude_bits(y);
    if (bits_y == 0u || bitcast<u32>(x) == 0x3f800000u) {
        return 1.0;
    }
    if (bits_x > 0x7f800000u || bits_y > 0x7f800000u) {
        return f32_nan();
    }
    // Every float from 2^24 on is even.
    let small = bits_y < 0x4b800000u;
    let magnitude = f32_to_magnitude(y).x;
    let whole = !small || bits_y == bitcast<u32>(f32(magnitude));
    let odd = small && whole && (magnitude & 1u) != 0u;
    let sign = select(1.0, -1.0, odd && f32_is_negative(x));
    let grows = (bits_x > 0x3f800000u) != f32_is_negative(y);
    if (bits_y == 0x7f800000u && bits_x == 0x3f800000u) {
        return 1.0;
    }
    if (bits_x == 0u || bits_x == 0x7f800000u || bits_y == 0x7f800000u) {
        return f32_with_sign_of(select(0.0, f32_infinity(), grows), sign);
    }
    if (f32_is_negative(x) && !whole) {
        return f32_nan();
    }
    let base = float_of_bits(bits_x);
    if (whole && magnitude <= 16u && small && !f32_is_negative(y)) {
        var power = 1.0;
        var square = base;
        for (var bit = 0u; bit < 5u; bit++) {
            if (((magnitude >> bit) & 1u) != 0u) {
                power *= square;
            }
            square *= square;
        }
        return sign * power;
    }
    return sign * f32_exp(y * f32_log(base));
}
