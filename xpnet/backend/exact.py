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
MANTISSA32 = 24  # ... and of a float32
MOST_BITS = 51  # that `snap` can keep
EXPONENT = 0x7FF0000000000000  # the bits of a float64 that are its exponent
WHOLE_BITS = 26  # kept of the operand of a product that has no rest; float32 has 24
PIXEL_BITS = 8  # a pixel is a whole number below 2⁸
FLUSH = 1.5 * 2.0**-77
SMALLEST = 2.0**-100  # that it leaves


def flush(m: Any, x: Array) -> Array:
    """x = (x + c) - c in float32 with c = 1.5·2⁻⁷⁷: the same bits on every device

    CuPy computes in float32 without subnormal numbers: below 2⁻¹²⁶ it has 0 where NumPy may have
    something. And the sign of a zero may depend on an order. Here both become +0: the result is +0
    or at least 2⁻¹⁰⁰ = 8e-31 in magnitude. A number of more than 2⁻⁵² = 2e-16 stays as it is; below
    2⁻⁷⁷ = 7e-24 multiples of 2⁻¹⁰⁰ are left.

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


def tame(number: Any) -> Any:
    """Return a Python number that float32 would flush as 0, arrays and others as they are."""
    small = isinstance(number, float) and abs(number) < SMALLEST
    return 0.0 if small else number


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
    sum. In float32 the same holds with C = 1.5·2²³ q and up to 22 bits.
    """
    m.add(X, C, out=out)
    return m.subtract(out, C, out=out)


class Widths(NamedTuple):
    """How many bits are kept of the operands of a product.

    Attributes
    ----------
    whole, head : int
        Of one operand and of the first part of the other, multiplied in float64.
    short, rest : int
        Of the one operand again and of what the head has left of the other, multiplied in float32;
        0 where the head leaves nothing.
    """

    whole: int
    head: int
    short: int = 0
    rest: int = 0


def widths(n: int, pixels: bool) -> Widths:
    """Return the widths that make the sums of n products exact, for n up to 1024.

    Let the operands be a qᵢ and b rⱼ with whole numbers |a| ≤ 2^left, |b| ≤ 2^right and
    left + right + ⌈log₂ n⌉ ≤ 53, or 24 in float32.
    Proof of exactness. A product is a b qᵢ rⱼ with |a b| ≤ 2^(left + right). The sum of any of the
    n products, in any order, is a whole number of steps qᵢ rⱼ, of at most n 2^(left + right) ≤ 2⁵³
    (2²⁴): it can be represented, so the addition that makes it does not round. In float32 this
    needs qᵢ rⱼ ≥ 2⁻¹²⁶. Otherwise the whole sum is below 2²⁴⁻¹²⁶ = 2⁻¹⁰², and `flush` makes it 0.

    One operand is kept to 26 bits, more than float32 has. The head of the other has what then is
    left, 17 bits or more; the product of the rest needs only a few bits of both, which is why
    float32 does. Together they are as good as 24 bits of the largest of each row of one and column
    of the other. Pixels are whole numbers of 8 bits, which leaves so much room that one product
    does.
    """
    room, room32 = MANTISSA - sum_bits(n), MANTISSA32 - sum_bits(n)
    if pixels:
        return Widths(PIXEL_BITS, min(room - PIXEL_BITS, MOST_BITS))
    head, rest = room - WHOLE_BITS, room32 // 2
    if head >= MANTISSA32:
        return Widths(WHOLE_BITS, head)
    return Widths(WHOLE_BITS, head, room32 - rest, rest)
