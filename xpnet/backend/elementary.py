"""exp, log, tanh and their kin from + - · / alone: the same bits on every machine.

The exp of one library differs from that of another in the last bits, and so does that of one
processor from that of the next. Here each function is a polynomial whose every operation IEEE 754
defines to the last bit. The results are right to about 1e-14 of themselves, a million times finer
than the float32 to which they are rounded in the end.

All functions work in place on a float64 array ``x`` of the array module ``m``, with ``work``, a
list of six scratch arrays of the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnet.backend.base import GELU_A, GELU_C, Array
from xpnet.backend.normal import CENTRE, END, MILLS, PEAK

Work = Sequence[Array]

LOG2_E = float.fromhex("0x1.71547652b82fep+0")
LN2_HIGH = float.fromhex("0x1.62e42fefa3800p-1")  # 42 bits, so k LN2_HIGH is exact for |k| < 2¹¹
LN2_LOW = float.fromhex("0x1.ef35793c76730p-45")  # ln 2 - LN2_HIGH
WHOLE = 1.5 * 2.0**52  # a number near 0, added to it, is rounded to a whole number k ...
WHOLE_BITS = 0x4338000000000000  # ... and the bits of the sum are these plus k
BIAS = 1023  # of the exponent of a float64
ROOT_HALF_BITS = 0x3FE6A09E667F3BCD  # of √½
FACTORIALS = (39916800, 3628800, 362880, 40320, 5040, 720, 120, 24, 6, 2, 1)  # 11! ... 1!
EXP_LIMIT = 700.0  # exp of ±700 is finite and normal
TANH_LIMIT = 20.0  # tanh of 20 is 1 to the last bit


def clip(m: Any, x: Array, limit: float) -> None:
    """x = x held within ±limit"""
    m.maximum(x, -limit, out=x)
    m.minimum(x, limit, out=x)


def exp_parts(m: Any, x: Array, work: Work) -> tuple[Array, Array]:
    """Return exp r - 1 and 2ᵏ, where x = k ln 2 + r and |r| ≤ ln 2 / 2; x is used up.

    k is the whole number nearest to x / ln 2. In x - k ln 2 only the part with LN2_LOW is rounded,
    since k LN2_HIGH has at most 53 bits and is close to x. exp r - 1 = r + r²/2! + ... + r¹¹/11!,
    whose first omitted term is below 2e-14 r. 2ᵏ is made of its bits: the exponent k + 1023, and no
    mantissa.
    """
    a, power = work[:2]
    m.multiply(x, LOG2_E, out=power)
    m.add(power, WHOLE + BIAS, out=power)
    for part in (LN2_HIGH, LN2_LOW):
        m.subtract(power, WHOLE + BIAS, out=a)
        m.multiply(a, part, out=a)
        m.subtract(x, a, out=x)
    m.multiply(x, 1 / FACTORIALS[0], out=a)
    for factorial in FACTORIALS[1:]:
        m.add(a, 1 / factorial, out=a)
        m.multiply(a, x, out=a)
    bits = power.view("int64")
    m.left_shift(bits, 52, out=bits)
    return a, power


def exp(m: Any, x: Array, work: Work) -> None:
    """x = exp x = 2ᵏ (exp r - 1) + 2ᵏ, with x held within ±700"""
    clip(m, x, EXP_LIMIT)
    rest, power = exp_parts(m, x, work)
    m.multiply(rest, power, out=x)
    m.add(x, power, out=x)


def expm1(m: Any, x: Array, work: Work) -> None:
    """x = exp x - 1 = 2ᵏ (exp r - 1) + (2ᵏ - 1): where x is small, k = 0 and nothing cancels"""
    rest, power = exp_parts(m, x, work)
    m.multiply(rest, power, out=x)
    m.subtract(power, 1.0, out=power)
    m.add(x, power, out=x)


def log(m: Any, x: Array, work: Work) -> None:
    """x = log x, for positive x that are not subnormal; NaN for 0, negative numbers and infinity

    x = 2ᵏ (1 + f) with √½ ≤ 1 + f < √2: what the bits of x have above those of √½, in the exponent,
    is k. With s = f / (2 + f) and z = s² ≤ 0.03,
    log (1 + f) = 2 artanh s = 2s + s R,  R = 2 (z/3 + z²/5 + ... + z¹⁰/21),
    whose first omitted term is below 1e-17. As 2s = f - s f, that is f - s (f - R). k ln 2 is added
    in two parts, of which the larger is exact. What has no logarithm is found by (√x - √x) / x,
    which is 0 for a positive number and else NaN.
    """
    k, s, z, R, none = work[:5]
    m.sqrt(x, out=none)
    m.subtract(none, none, out=none)
    m.divide(none, x, out=none)
    x_bits, k_bits, s_bits = x.view("int64"), k.view("int64"), s.view("int64")
    m.subtract(x_bits, ROOT_HALF_BITS, out=k_bits)
    m.right_shift(k_bits, 52, out=k_bits)
    m.multiply(k_bits, 1 << 52, out=s_bits)
    m.subtract(x_bits, s_bits, out=x_bits)
    m.subtract(x, 1.0, out=x)  # f
    m.add(k_bits, WHOLE_BITS, out=k_bits)
    m.subtract(k, WHOLE, out=k)  # k as a float64
    m.add(x, 2.0, out=s)
    m.divide(x, s, out=s)
    m.multiply(s, s, out=z)
    m.multiply(z, 2 / 21, out=R)
    for odd in range(19, 1, -2):
        m.add(R, 2 / odd, out=R)
        m.multiply(R, z, out=R)
    m.subtract(x, R, out=R)
    m.multiply(R, s, out=R)
    m.subtract(x, R, out=x)
    for part in (LN2_LOW, LN2_HIGH):
        m.multiply(k, part, out=s)
        m.add(x, s, out=x)
    m.add(x, none, out=x)


def sigmoid(m: Any, x: Array, work: Work) -> None:
    """x = 1 / (1 + exp(-x))"""
    m.negative(x, out=x)
    exp(m, x, work)
    m.add(x, 1.0, out=x)
    m.divide(1.0, x, out=x)


def tanh(m: Any, x: Array, work: Work) -> None:
    """x = tanh x = E / (E + 2) with E = exp(2x) - 1, which keeps the last bits of a small x"""
    clip(m, x, TANH_LIMIT)
    m.multiply(x, 2.0, out=x)
    expm1(m, x, work)
    m.add(x, 2.0, out=work[0])
    m.divide(x, work[0], out=x)


def softplus(m: Any, x: Array, work: Work) -> None:
    """x = log(1 + exp x) = max(x, 0) + log(1 + e) with e = exp(-|x|)

    With u = 1 + e as it is rounded, log(1 + e) = log u + (e - (u - 1)) / u: the second term makes
    up for the rounding (Kahan).
    """
    e, rest = work[4:6]
    m.maximum(x, 0.0, out=rest)
    m.absolute(x, out=e)
    m.negative(e, out=e)
    exp(m, e, work)
    m.add(e, 1.0, out=x)
    m.subtract(x, 1.0, out=work[0])
    m.subtract(e, work[0], out=e)
    m.divide(e, x, out=e)
    m.add(rest, e, out=rest)
    log(m, x, work)
    m.add(x, rest, out=x)


def gelu(m: Any, x: Array, t: Array, work: Work) -> None:
    """t = tanh(√(2/π) (1 + a x²) x),  x = x (1 + t) / 2"""
    _gelu_polynomial(m, x, GELU_A, out=t)
    m.multiply(t, x, out=t)
    tanh(m, t, work)
    m.add(t, 1.0, out=work[0])
    m.multiply(x, work[0], out=x)
    m.multiply(x, 0.5, out=x)


def gelu_grad(m: Any, dy: Array, x: Array, t: Array, work: Work) -> None:
    """dy = dy ((1 + t) + x (1 - t²) √(2/π) (1 + 3a x²)) / 2"""
    slope, square = work[:2]
    _gelu_polynomial(m, x, 3 * GELU_A, out=slope)
    m.multiply(slope, x, out=slope)
    m.multiply(t, t, out=square)
    m.subtract(1.0, square, out=square)
    m.multiply(slope, square, out=slope)
    m.add(slope, t, out=slope)
    m.add(slope, 1.0, out=slope)
    m.multiply(dy, slope, out=dy)
    m.multiply(dy, 0.5, out=dy)


def _gelu_polynomial(m: Any, x: Array, factor: float, out: Array) -> None:
    """out = √(2/π) (1 + factor x²)"""
    m.multiply(x, x, out=out)
    m.multiply(out, factor, out=out)
    m.add(out, 1.0, out=out)
    m.multiply(out, GELU_C, out=out)


def normal(m: Any, x: Array, p: Array, work: Work) -> None:
    """x = Φ(x),  p = φ(x), see `xpnet.backend.normal`; φ is held above exp(-700)"""
    a, q, ratio = work[2:5]
    m.absolute(x, out=a)
    m.minimum(a, END, out=a)
    m.subtract(a, CENTRE, out=q)
    m.add(a, CENTRE, out=ratio)
    m.divide(q, ratio, out=q)
    m.multiply(q, MILLS[0], out=ratio)
    for c in MILLS[1:-1]:
        m.add(ratio, c, out=ratio)
        m.multiply(ratio, q, out=ratio)
    m.add(ratio, MILLS[-1], out=ratio)
    m.multiply(a, -0.5, out=p)
    m.multiply(p, a, out=p)
    exp(m, p, work)
    m.multiply(p, PEAK, out=p)
    m.add(a, 1.0, out=a)
    m.divide(ratio, a, out=ratio)
    m.multiply(ratio, p, out=ratio)
    m.greater(x, 0.0, out=x)
    m.subtract(x, ratio, out=x)
    m.absolute(x, out=x)


def sigmoid_grad(m: Any, dy: Array, y: Array, work: Work) -> None:
    """dy = dy y (1 - y)"""
    m.multiply(dy, y, out=dy)
    m.subtract(1.0, y, out=y)
    m.multiply(dy, y, out=dy)


def tanh_grad(m: Any, dy: Array, y: Array, work: Work) -> None:
    """dy = dy (1 - y²)"""
    m.multiply(y, y, out=y)
    m.subtract(1.0, y, out=y)
    m.multiply(dy, y, out=dy)
