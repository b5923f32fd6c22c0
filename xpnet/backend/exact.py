"""Sums and products that have one possible answer, and float32 that every device stores alike.

Floating-point sums differ between libraries, thread counts and GPUs because each addition rounds.
Here nothing is left to round: the operands are first rounded to a common grid, so coarse that every
product and every partial sum is a whole number of grid steps below 2⁵³, which float64 holds
exactly. Then the order of the additions, fused multiply-adds, blocking and threads have nothing to
act on. The idea is that of Ozaki, Ogita, Oishi and Rump, "Error-free transformations of matrix
multiplication by using fast routines of matrix multiplication", 2012.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnet.backend.base import Array

MANTISSA = 53  # bits of a float64: it holds all whole numbers up to 2⁵³
MOST_BITS = 51  # that `snap` can keep
EXPONENT = 0x7FF0000000000000  # the bits of a float64 that are its exponent
WHOLE_BITS = 26  # kept of the operand of a product that is not split; float32 has 24
PIXEL_BITS = 8  # a pixel is a whole number below 2⁸
FLUSH = 1.5 * 2.0**-77


def flush(m: Any, x: Array) -> Array:
    """x = (x + c) - c in float32 with c = 1.5·2⁻⁷⁷: the same bits on every device

    CuPy computes in float32 without subnormal numbers: below 2⁻¹²⁶ it has 0 where NumPy may have
    something. And the sign of a zero may depend on an order. Here both become +0: the result is +0
    or at least 2⁻¹⁰⁰ = 8e-31 in magnitude. A number of more than 2⁻⁵² = 2e-16 stays as it is.

    Proof. Around ±c the spacing of float32 is h = 2⁻¹⁰⁰. Let x be a sum of terms of which some are
    subnormal on one device and 0 on the other. If the rest of the sum is at least h/2, its spacing
    is at least 2⁻¹²⁵, and a term below 2⁻¹²⁶ is less than half of that: it does not change the
    rounded sum. If the rest is below h/2, then |x| ≤ h/2, so x + c rounds to c (a tie to the even
    one, which is c), and c - c = +0. In all other cases the devices have the same x, and x + c is a
    multiple of 2⁻¹⁰¹, as both terms are wherever the sum is small: nothing subnormal can arise,
    neither here nor in the subtraction.
    """
    m.add(x, FLUSH, out=x)
    return m.subtract(x, FLUSH, out=x)


def sum_bits(n: int) -> int:
    """Return L = ⌈log₂ n⌉: the sum of n numbers within ±a is within ±2ᴸ a."""
    return (n - 1).bit_length()


def grid(m: Any, top: Array, bits: int) -> Array:
    """top = 1.5·2⁵² q with the step q = 2^(e - bits), where 2^(e - 1) ≤ top < 2^e

    That is what `snap` needs to keep numbers of up to ``top`` to ``bits`` bits. It is made of the
    bits of ``top``: the exponent grows by 53 - bits, the mantissa is 1.5. For top = 0 the step is
    tiny, and 0 stays 0. If top is infinite or NaN, the exponent overflows to a number near 0 that
    leaves infinity and NaN in their places.
    """
    pattern = top.view("int64")
    m.bitwise_and(pattern, EXPONENT, out=pattern)
    m.add(pattern, ((MANTISSA - bits) << 52) | (1 << 51), out=pattern)
    return top


def snap(m: Any, X: Array, C: Array | float, out: Array) -> Array:
    """out = (X + C) - C with C = 1.5·2⁵² q: X rounded to a multiple of q, ties to even

    Proof. As |X| < 2^bits q ≤ 2⁵¹ q, the sum lies in (2⁵² q, 2⁵³ q), where the spacing of float64
    is q: the addition rounds to a multiple of q, and the subtraction is exact. The result is a
    whole number of at most 2^bits steps. A compiler finds no product that it could merge into a
    sum.
    """
    m.add(X, C, out=out)
    return m.subtract(out, C, out=out)


def split(m: Any, X: Array, coarse: Array, fine: Array, head: Array) -> None:
    """head = X snapped to the coarse grid, X = the rest X - head, snapped to the fine one

    The rest is exact before it is snapped, and at most half a step of the coarse grid.
    """
    snap(m, X, coarse, out=head)
    m.subtract(X, head, out=X)
    snap(m, X, fine, out=X)


class Widths(NamedTuple):
    """How many bits are kept of the operands of a product, and in how many slices."""

    left: int
    left_slices: int
    right: int
    right_slices: int


def widths(n: int, pixels: bool, split_right: bool) -> Widths:
    """Return the widths for a product of matrices that make its sums of n products exact.

    Let the operands be a qᵢ and b rⱼ with whole numbers |a| ≤ 2^left, |b| ≤ 2^right and
    left + right + ⌈log₂ n⌉ ≤ 53.
    Proof of exactness. A product is a b qᵢ rⱼ with |a b| ≤ 2^(left + right). The sum of any of the
    n products, in any order, is a whole number of steps qᵢ rⱼ, of at most n 2^(left + right) ≤ 2⁵³:
    it can be represented, so the addition that makes it does not round.

    One operand is kept whole, to 26 bits, more than float32 has. The other is cut into two slices,
    the second on a finer grid, with a product for each; it should be the smaller one. Pixels are
    whole numbers of 8 bits, which leaves so much room that one product does.
    """
    room = MANTISSA - sum_bits(n)
    if pixels:
        return Widths(PIXEL_BITS, 1, min(room - PIXEL_BITS, MOST_BITS), 1)
    rest = room - WHOLE_BITS
    if rest >= WHOLE_BITS - 1:  # all 24 bits of a float32 in one slice
        return Widths(WHOLE_BITS, 1, rest, 1)
    return Widths(WHOLE_BITS, 1, rest, 2) if split_right else Widths(rest, 2, WHOLE_BITS, 1)
