"""The random numbers: the same everywhere and for ever, independent, and evenly spread."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import xpnet
from xpnet.backend import find_backend
from xpnet.backend.random import Random
from xpnet.data.batches import Batches

# --- The stream never changes: a seed in a paper must give the same numbers in ten years --------

RAW = {
    (0, "weights"): [3563048944444373595, 2713122621103342546, 3917297608280035526],
    (1, "weights"): [8632141058626196682, 13888293362360597318, 12134742355210378388],
    (0, "shuffle", 7): [4122917606644654920, 1652765367211250752, 3951168280907514010],
}


@pytest.mark.parametrize("purpose", RAW)
def test_the_first_raw_integers(purpose):
    assert Random(*purpose).raw(3).tolist() == RAW[purpose]


def test_the_first_numbers():
    assert Random(0, "weights").uniform((2, 2)).tolist() == [
        [0.19315327031193863, 0.14707867200099045],
        [0.21235712885847424, 0.44248865989350694],
    ]
    assert Random(0, "shuffle", 0).permutation(10).tolist() == [9, 3, 5, 0, 8, 6, 7, 4, 2, 1]
    assert Random(0, "weights").integers(8, 100).tolist() == [19, 14, 21, 44, 67, 25, 0, 24]
    np.testing.assert_allclose(
        Random(0, "weights").normal((3,)),
        [0.15351739786979113, -0.5276425076810316, 0.6369266191064161],
        rtol=1e-14,
    )


def test_numbers_are_made_from_the_upper_53_bits():
    raw = Random(3, "a").raw(5)
    u = np.array([int(k) // 2**11 / 2**53 for k in raw])
    np.testing.assert_array_equal(Random(3, "a").uniform((5,)), u)
    np.testing.assert_array_equal(Random(3, "a").uniform((5,), -2.0, 6.0), -2 + 8 * u)
    np.testing.assert_array_equal(Random(3, "a").integers(5, 10), (10 * u).astype(int))


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_normal_numbers_come_in_pairs_from_a_radius_and_an_angle(n):
    u, v = Random(3, "a").uniform((2, -(-n // 2)))
    radius, angle = np.sqrt(-2 * np.log(1 - u)), 2 * np.pi * v
    pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    np.testing.assert_allclose(Random(3, "a").normal((n,)), pairs[:n], rtol=1e-12)


def test_a_generator_goes_on_where_it_was():
    random = Random(0, "weights")
    parts = [random.raw(2), random.raw(1), random.raw(3)]
    np.testing.assert_array_equal(np.concatenate(parts), Random(0, "weights").raw(6))


# --- Even, normal, independent -----------------------------------------------------------------

N = 100_000


def test_uniform_numbers_are_even_on_the_half_open_interval():
    u = Random(0, "uniform").uniform((N,))
    assert 0 <= u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    counts = np.bincount((u * 20).astype(int), minlength=20)
    assert abs(counts - N / 20).max() < 4 * np.sqrt(N / 20)
    largest = np.uint64(2**64 - 1)
    random = Random(0)
    random.raw = lambda n: np.full(n, largest)
    assert random.uniform((1,))[0] == 1 - 2.0**-53
    assert random.integers(1, 10)[0] == 9
    assert np.isfinite(random.normal((2,))).all()


def test_normal_numbers_are_normal():
    x = Random(0, "normal").normal((N + 1,))
    assert x.shape == (N + 1,)
    assert abs(x.mean()) < 4 / np.sqrt(N)
    assert x.var() == pytest.approx(1, abs=4 * np.sqrt(2 / N))
    assert (x**3).mean() == pytest.approx(0, abs=4 * np.sqrt(15 / N))
    assert (x**4).mean() == pytest.approx(3, abs=4 * np.sqrt(96 / N))
    half = N // 2  # the two numbers of a pair come from one radius
    assert abs(np.corrcoef(x[:half], x[half + 1 :])[0, 1]) < 4 / np.sqrt(half)
    assert abs(np.corrcoef(x[:half] ** 2, x[half + 1 :] ** 2)[0, 1]) < 4 / np.sqrt(half)


def test_integers_are_even():
    counts = np.bincount(Random(0, "integers").integers(N, 7), minlength=7)
    assert counts.size == 7
    assert abs(counts - N / 7).max() < 4 * np.sqrt(N / 7)


STREAMS = [
    *((0, "weights"), (0, "state"), (0, "shuffle"), (0, "shuffle", 0), (0, "shuffle", 1)),
    *((1, "weights"), (1, "shuffle", 0), (0,), (0, 0), (1,), (2**32,), (2**32, "weights")),
    *((0, 1), (0, 1, "weights"), (7 * 2**32,), (0, 7)),
]


def test_streams_of_different_seeds_and_purposes_are_independent():
    streams = [Random(*purpose).uniform((2000,)) for purpose in STREAMS]
    for (a, x), (b, y) in itertools.combinations(zip(STREAMS, streams, strict=True), 2):
        assert abs(np.corrcoef(x, y)[0, 1]) < 5 / np.sqrt(2000), (a, b)


def test_a_seed_may_be_any_whole_number_from_0():
    np.testing.assert_array_equal(Random(np.uint8(5), "a").raw(3), Random(5, "a").raw(3))
    assert Random(2**200).raw(1) != Random(2**200 + 1).raw(1)


@pytest.mark.parametrize("seed", [-1, 1.5, 1.0, True, "1", None, [1], np.float64(2)])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(xpnet.OptionError) as raised:
        Random(seed)
    assert str(raised.value) == f"seed must be a whole number, 0 or more; got {seed!r}"
    with pytest.raises(xpnet.OptionError, match="seed must be"):
        xpnet.Sequential(xpnet.Linear(1, 1), seed=seed)


# --- Permutations ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 10, 1000])
def test_a_permutation_has_every_number_once(n):
    order = Random(0, "shuffle", 0).permutation(n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))
    assert n < 10 or (order != np.arange(n)).any()


def test_every_order_is_as_likely_as_any_other():
    orders = [tuple(Random(0, "shuffle", epoch).permutation(3).tolist()) for epoch in range(3000)]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    assert sum(counts) == 3000
    assert max(abs(count - 500) for count in counts) < 4 * np.sqrt(3000 * 5 / 36)


def test_equal_keys_keep_their_places_so_that_the_sorting_method_is_no_matter():
    random, junk = Random(0), [99, 7, 3, 50, 1]
    random.raw = lambda n: np.array(
        [key * 2**32 + j for key, j in zip([3, 1, 2, 1, 1], junk, strict=True)], np.uint64
    )
    assert random.permutation(5).tolist() == [1, 3, 4, 2, 0]


# --- The same on every backend -----------------------------------------------------------------


def network(xp, seed=0, dtype="float32", p=0.3):
    layers = [xpnet.Linear(30, 40, init="lecun_uniform"), xpnet.Dropout(p), xpnet.Dropout(p)]
    return xpnet.Sequential(*layers, dtype=dtype, seed=seed, backend=xp)


def masks(net, n=25, layer=1, width=40):
    """The mask of the next step: ones in, so that M comes out."""
    net.forward(net.xp.asarray(np.ones((n, 30)), net.dtype))
    return np.array(net.xp.asnumpy(net[layer].M[:n]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_seed_gives_the_same_weights_and_masks_on_every_backend(backend, dtype):
    ours, theirs = network(backend, 5, dtype), network(find_backend("numpy"), 5, dtype)
    np.testing.assert_array_equal(backend.asnumpy(ours.params), theirs.params, strict=True)
    for _ in range(3):
        for layer in (1, 2):
            expected = masks(theirs, layer=layer)
            np.testing.assert_array_equal(masks(ours, layer=layer), expected, strict=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masks_of_every_rate_are_the_same_on_every_backend(backend, dtype):
    for p in np.arange(100) / 100:
        nets = [xpnet.Sequential(xpnet.Dropout(p), dtype=dtype, backend=b)
                for b in (backend, "numpy")]  # fmt: skip
        mine, theirs = (
            net.xp.asnumpy(net.forward(net.xp.asarray(np.ones((3, 50), dtype)))) for net in nets
        )
        np.testing.assert_array_equal(mine, theirs, str(p), strict=True)


def test_the_same_seed_gives_the_same_batches_on_every_backend(backend):
    def batches(xp, seed):
        b = Batches(xp, [xp.asarray(np.arange(20.0))], [np.float64], 8, True, seed)
        b.start(3)
        return [np.array(xp.asnumpy(b.gather(size)[0])) for size in b.sizes()]

    expected = batches(find_backend("numpy"), 5)
    for a, b in zip(batches(backend, 5), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (batches(backend, 6)[0] != expected[0]).any()


def test_another_seed_gives_other_weights_and_masks(backend):
    a, b = network(backend, 0), network(backend, 1)
    W, V = (backend.asnumpy(net.params) for net in (a, b))
    assert (W != V)[:-40].all()  # all but the biases
    assert (masks(a) != masks(b)).any()


# --- Dropout -----------------------------------------------------------------------------------


def mix(z):
    """The finaliser of splitmix64, in Python's own integers."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_a_mask_is_the_documented_function_of_key_draw_and_place(backend):
    net = network(backend, dtype="float64")
    key = int(net.state_dict()["1.key"][0])
    for draw in range(2):
        start = mix((key + mix(draw)) % 2**64)
        bits = [mix((start + j * 0x9E3779B97F4A7C15) % 2**64) >> 11 for j in range(300 * 40)]
        expected = np.where(np.array(bits) < int(0.7 * 2**53), 1 / 0.7, 0).reshape(300, 40)
        np.testing.assert_array_equal(masks(net, 300), expected)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
def test_a_share_of_1_minus_p_is_kept_and_scaled(backend, p):
    net, n = network(backend, p=p), 1000 * 40
    M = masks(net, 1000)
    assert set(np.unique(M)) == {np.float32(0), np.float32(1 / (1 - p))}
    assert abs(np.count_nonzero(M) - n * (1 - p)) < 4 * np.sqrt(n * p * (1 - p))


def agree(A, B):
    """How often two masks of p = 0.5 agree, in σ from one half."""
    return abs(np.mean((A > 0) == (B > 0)) - 0.5) * 2 * np.sqrt(A.size)


def test_steps_layers_rows_and_columns_have_masks_of_their_own(backend):
    net = network(backend, p=0.5)
    first, second = masks(net, 500), masks(net, 500)
    other = np.array(backend.asnumpy(net[2].M))
    assert agree(first, second) < 4
    assert agree(second, other) < 4
    assert agree(first[1:], first[:-1]) < 4
    assert agree(first[:, 1:], first[:, :-1]) < 4


def test_a_rate_of_0_keeps_all_and_prediction_keeps_all_and_draws_nothing(backend):
    assert xpnet.Dropout().p == 0.5
    assert (masks(network(backend, p=0.0)) == 1).all()
    a, b, X = network(backend), network(backend), np.ones((4, 30), np.float32)
    plain = xpnet.Sequential(xpnet.Linear(30, 40, init="lecun_uniform"))
    np.testing.assert_array_equal(a.predict(X), plain.predict(X))
    np.testing.assert_array_equal(masks(a), masks(b))


def test_backward_uses_the_mask_of_forward(backend):
    net = xpnet.Sequential(xpnet.Dropout(0.4), dtype="float64")
    net.input_gradient = True
    X = np.arange(1.0, 13).reshape(3, 4)
    Y = np.array(backend.asnumpy(net.forward(backend.asarray(X))))
    dX = backend.asnumpy(net.backward(backend.asarray(2 * X)))
    np.testing.assert_allclose(dX, 2 * Y, rtol=1e-15)
    assert 0 < np.count_nonzero(Y) < 12
