// 64-bit integers as pairs of words: x is the low word, y the high one. Two's complement, wrapping.

fn pair_of_i32(a: i32) -> vec2<u32> {
    return vec2<u32>(bitcast<u32>(a), bitcast<u32>(a >> 31u));
}

fn pair_of_u32(a: u32) -> vec2<u32> {
    return vec2<u32>(a, 0u);
}

fn pair_is_negative(a: vec2<u32>) -> bool {
    return (a.y >> 31u) != 0u;
}

fn pair_add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn pair_sub(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn pair_neg(a: vec2<u32>) -> vec2<u32> {
    return pair_sub(vec2<u32>(0u, 0u), a);
}

fn pair_abs(a: vec2<u32>) -> vec2<u32> {
    if (pair_is_negative(a)) {
        return pair_neg(a);
    }
    return a;
}

// The whole product of two words, from four products of half words.
fn pair_product(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let cross0 = a0 * b1;
    let cross1 = a1 * b0;
    let middle = (low >> 16u) + (cross0 & 0xffffu) + (cross1 & 0xffffu);
    let high = a1 * b1 + (cross0 >> 16u) + (cross1 >> 16u) + (middle >> 16u);
    return vec2<u32>((low & 0xffffu) | (middle << 16u), high);
}

fn pair_mul(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let p = pair_product(a.x, b.x);
    return vec2<u32>(p.x, p.y + a.x * b.y + a.y * b.x);
}

fn pair_eq(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x == b.x && a.y == b.y;
}

fn pair_lt_unsigned(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn pair_lt_signed(a: vec2<u32>, b: vec2<u32>) -> bool {
    let high_a = bitcast<i32>(a.y);
    let high_b = bitcast<i32>(b.y);
    return high_a < high_b || (high_a == high_b && a.x < b.x);
}

fn pair_shl_by(a: vec2<u32>, n: u32) -> vec2<u32> {
    if (n == 0u) {
        return a;
    }
    if (n >= 32u) {
        return vec2<u32>(0u, a.x << (n - 32u));
    }
    return vec2<u32>(a.x << n, (a.y << n) | (a.x >> (32u - n)));
}

// `fill` is what comes in from the left: 0, or all ones.
fn pair_shr_by(a: vec2<u32>, n: u32, fill: u32) -> vec2<u32> {
    if (n == 0u) {
        return a;
    }
    if (n == 32u) {
        return vec2<u32>(a.y, fill);
    }
    if (n > 32u) {
        return vec2<u32>((a.y >> (n - 32u)) | (fill << (64u - n)), fill);
    }
    return vec2<u32>((a.x >> n) | (a.y << (32u - n)), (a.y >> n) | (fill << (32u - n)));
}

fn pair_shl(a: vec2<u32>, n: vec2<u32>) -> vec2<u32> {
    if (n.y != 0u || n.x > 63u) {
        return vec2<u32>(0u, 0u);
    }
    return pair_shl_by(a, n.x);
}

fn pair_shr_unsigned(a: vec2<u32>, n: vec2<u32>) -> vec2<u32> {
    if (n.y != 0u || n.x > 63u) {
        return vec2<u32>(0u, 0u);
    }
    return pair_shr_by(a, n.x, 0u);
}

fn pair_shr_signed(a: vec2<u32>, n: vec2<u32>) -> vec2<u32> {
    let fill = select(0u, 0xffffffffu, pair_is_negative(a));
    if (n.y != 0u || n.x > 63u) {
        return vec2<u32>(fill, fill);
    }
    return pair_shr_by(a, n.x, fill);
}

// Long division, bit by bit: quotient in xy, remainder in zw. The divisor is not 0.
fn pair_divide(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    if (a.y == 0u && b.y == 0u) {
        return vec4<u32>(a.x / b.x, 0u, a.x % b.x, 0u);
    }
    var rest = vec2<u32>(0u, 0u);
    var quotient = a;
    for (var step = 0u; step < 64u; step++) {
        let carry = rest.y >> 31u;
        rest = vec2<u32>((rest.x << 1u) | (quotient.y >> 31u), (rest.y << 1u) | (rest.x >> 31u));
        quotient = vec2<u32>(quotient.x << 1u, (quotient.y << 1u) | (quotient.x >> 31u));
        if (carry != 0u || !pair_lt_unsigned(rest, b)) {
            rest = pair_sub(rest, b);
            quotient.x |= 1u;
        }
    }
    return vec4<u32>(quotient, rest);
}

fn pair_floor_div_unsigned(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    if (b.x == 0u && b.y == 0u) {
        return vec2<u32>(0u, 0u);
    }
    return pair_divide(a, b).xy;
}

fn pair_rem_unsigned(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    if (b.x == 0u && b.y == 0u) {
        return vec2<u32>(0u, 0u);
    }
    return pair_divide(a, b).zw;
}

fn pair_floor_div_signed(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    if (b.x == 0u && b.y == 0u) {
        return vec2<u32>(0u, 0u);
    }
    let parts = pair_divide(pair_abs(a), pair_abs(b));
    if (pair_is_negative(a) == pair_is_negative(b)) {
        return parts.xy;
    }
    let towards_zero = pair_neg(parts.xy);
    if (parts.z == 0u && parts.w == 0u) {
        return towards_zero;
    }
    return pair_sub(towards_zero, vec2<u32>(1u, 0u));
}

fn pair_rem_signed(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    if (b.x == 0u && b.y == 0u) {
        return vec2<u32>(0u, 0u);
    }
    let rest = pair_divide(pair_abs(a), pair_abs(b)).zw;
    if (rest.x == 0u && rest.y == 0u) {
        return rest;
    }
    var signed_rest = rest;
    if (pair_is_negative(a)) {
        signed_rest = pair_neg(rest);
    }
    if (pair_is_negative(a) != pair_is_negative(b)) {
        signed_rest = pair_add(signed_rest, b);
    }
    return signed_rest;
}

// To nearest, ties to even, as drivers' own conversions of more than 24 significant bits are not always.
fn f32_of_u32(a: u32) -> f32 {
    let width = 32u - countLeadingZeros(a);
    if (width <= 24u) {
        return f32(a);
    }
    let surplus = width - 24u;
    let half = 1u << (surplus - 1u);
    let rest = a & ((1u << surplus) - 1u);
    let kept = a >> surplus;
    let up = rest > half || (rest == half && (kept & 1u) != 0u);
    return f32(kept + select(0u, 1u, up)) * float_of_bits((127u + surplus) << 23u);
}

fn f32_of_i32(a: i32) -> f32 {
    let magnitude = f32_of_u32(bitcast<u32>(abs(a)));
    return select(magnitude, -magnitude, a < 0);
}

// To nearest, ties to even: the upper 32 significant bits with the rest as one sticky bit, far below the rounding place.
fn f32_of_u64(a: vec2<u32>) -> f32 {
    if (a.y == 0u) {
        return f32_of_u32(a.x);
    }
    let n = 32u - countLeadingZeros(a.y);
    let upper = pair_shr_by(a, n, 0u);
    let lost = pair_sub(a, pair_shl_by(upper, n));
    let rounded = f32_of_u32(upper.x | select(0u, 1u, lost.x != 0u || lost.y != 0u));
    return rounded * float_of_bits((127u + n) << 23u);
}

fn f32_of_i64(a: vec2<u32>) -> f32 {
    let magnitude = f32_of_u64(pair_abs(a));
    return select(magnitude, -magnitude, pair_is_negative(a));
}

// 32-bit division with NumPy's meaning.

fn i32_floor_div(a: i32, b: i32) -> i32 {
    if (b == 0) {
        return 0;
    }
    let towards_zero = a / b;
    let rest = a - towards_zero * b;
    return select(towards_zero, towards_zero - 1, rest != 0 && ((rest ^ b) < 0));
}

fn i32_rem(a: i32, b: i32) -> i32 {
    if (b == 0) {
        return 0;
    }
    let rest = a - (a / b) * b;
    return select(rest, rest + b, rest != 0 && ((rest ^ b) < 0));
}

fn u32_floor_div(a: u32, b: u32) -> u32 {
    if (b == 0u) {
        return 0u;
    }
    return a / b;
}

fn u32_rem(a: u32, b: u32) -> u32 {
    if (b == 0u) {
        return 0u;
    }
    return a % b;
}

// Shifts of values that fill `width` bits; an amount outside 0..width empties them.

fn i32_shl(a: i32, n: i32, width: u32) -> i32 {
    let amount = bitcast<u32>(n);
    return select(0, a << (amount & 31u), amount < width);
}

fn i32_shr(a: i32, n: i32, width: u32) -> i32 {
    let amount = bitcast<u32>(n);
    return a >> select(31u, amount & 31u, amount < width);
}

fn u32_shl(a: u32, n: u32, width: u32) -> u32 {
    return select(0u, a << (n & 31u), n < width);
}

fn u32_shr(a: u32, n: u32, width: u32) -> u32 {
    return select(0u, a >> (n & 31u), n < width);
}
