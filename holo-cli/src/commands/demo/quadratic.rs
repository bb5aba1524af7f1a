//! The sequence `i*i + 3*i + 1` in 64-bit arithmetic that wraps around, and its sum in closed form.

/// The element at index `i`, modulo 2^64.
pub(crate) fn element(i: u64) -> u64 {
    i.wrapping_mul(i).wrapping_add(i.wrapping_mul(3)).wrapping_add(1)
}

/// The sum of the first `n` elements, modulo 2^64.
///
/// `(n-1)n(2n-1)/6 + 3(n-1)n/2 + n`: the divisions are done on a factor that they divide, so that nothing is lost to
/// the wrap-around.
pub(crate) fn sum(n: u64) -> u64 {
    let Some(before) = n.checked_sub(1) else { return 0 };
    let (mut a, mut b, mut c) = (u128::from(before), u128::from(n), 2 * u128::from(n) - 1);
    halve(&mut a, &mut b);
    let triangle = low(a).wrapping_mul(low(b));
    if a.is_multiple_of(3) {
        a /= 3;
    } else if b.is_multiple_of(3) {
        b /= 3;
    } else {
        c /= 3;
    }
    let squares = low(a).wrapping_mul(low(b)).wrapping_mul(low(c));
    squares.wrapping_add(triangle.wrapping_mul(3)).wrapping_add(n)
}

/// One of two neighbours is even.
fn halve(a: &mut u128, b: &mut u128) {
    if a.is_multiple_of(2) {
        *a /= 2;
    } else {
        *b /= 2;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "arithmetic modulo 2^64")]
fn low(number: u128) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_form_is_the_sum_of_the_elements() {
        let mut total = 0u64;
        for n in 0..5000 {
            assert_eq!(sum(n), total, "n = {n}");
            total = total.wrapping_add(element(n));
        }
    }

    #[test]
    fn it_holds_where_the_exact_sum_no_longer_fits() {
        // From a known sum on, step by step: the recurrence checks the closed form across the wrap-around.
        let far = 1u64 << 40;
        let mut total = sum(far);
        for i in far..far + 1000 {
            total = total.wrapping_add(element(i));
            assert_eq!(sum(i + 1), total, "n = {}", i + 1);
        }
        assert_eq!(sum(3), 1 + 5 + 11);
    }
}
