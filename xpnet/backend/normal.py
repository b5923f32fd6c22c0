"""The numbers of `Fused.normal`: the normal distribution Φ without an error function.

NumPy has no erf, and those of two libraries differ in the last bits. For a ≥ 0

    Φ(-a) = φ(a) m(a),  φ(a) = exp(-a²/2) / √(2π),  Φ(a) = 1 - Φ(-a)

where m is Mills's ratio. (1 + a) m(a) falls smoothly from √(π/2) to 1. In q = (a - 5) / (a + 5),
between -1 and 1, it is a polynomial of degree 22 up to 1.6e-17 (Shepherd and Laframboise,
"Chebyshev approximation of (1 + 2x) exp(x²) erfc x in 0 ≤ x < ∞", 1981). As the small side is never
a difference, Φ has its digits on both sides of 0: it is right to (4 + a²) u of itself, where one
rounding is u and φ is a normal number.
"""

CENTRE = 5.0
END = 40.0  # for a larger a, Φ(-a) and φ(a) are 0 in float64
PEAK = 0.3989422804014327  # φ(0) = 1/√(2π)
MILLS = (
    1.8848627012228162e-09,
    9.970665190638282e-09,
    8.81837221899713e-10,
    -8.004020241461786e-08,
    -5.479733350276982e-08,
    4.983223842029293e-07,
    3.122217179085655e-07,
    -3.283495388510688e-06,
    -1.7255559297479215e-07,
    2.271302236070428e-05,
    -2.4806895299412267e-05,
    -0.00013437542258164,
    0.0004570441004451402,
    1.9530875803184225e-05,
    -0.004201290345131883,
    0.016348231251545976,
    -0.03802659218530503,
    0.061505045842197445,
    -0.06617760077908394,
    0.025072179301575858,
    0.07778159886873685,
    -0.22948753825211257,
    1.1568486282918944,  # one unit in the last place less, so that Φ(0) is 1/2
)
