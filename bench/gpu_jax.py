"""JAX in the comparison with xpnet: ``python bench/gpu_jax.py MODE [--device cpu]``.

The data lie on the device as uint8. One compiled function is a whole epoch: it shuffles, then scans
over the batches, and its state is donated. ``scan`` leaves the loop as it is, ``scan-unrolled`` has
eight steps in a round of it. Products are of full float32.
"""

from __future__ import annotations

import os
from functools import partial

import gpu_common as common

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np

MODES = ("scan", "scan-unrolled")
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def outputs(params, X):
    A = X.astype(jnp.float32) / 255
    for W, b in params[:-1]:
        A = jax.nn.relu(A @ W + b)
    W, b = params[-1]
    return A @ W + b


def loss(params, X, t):
    log_p = jax.nn.log_softmax(outputs(params, X))
    return -jnp.take_along_axis(log_p, t[:, None], axis=1).mean()


def adam(state, g):
    """Take a step of Adam; the state is (params, m, v, number of steps)."""
    p, m, v, n = state
    n = n + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
    c1, c2 = 1 - BETA1**n, 1 - BETA2**n
    p = jax.tree.map(lambda p, m, v: p - common.LR * (m / c1) / (jnp.sqrt(v / c2) + EPS), p, m, v)
    return p, m, v, n


def step(state, batch):
    value, g = jax.value_and_grad(loss)(state[0], *batch)
    return adam(state, g), value


@partial(jax.jit, donate_argnums=0, static_argnums=4)
def epoch(state, key, X, t, unroll):
    """Train for an epoch; return the new state, the next key and the mean loss."""
    key, now = jax.random.split(key)
    order = jax.random.permutation(now, len(X))
    batches = (
        X[order].reshape(-1, common.BATCH, X.shape[1]),
        t[order].reshape(-1, common.BATCH),
    )
    state, losses = jax.lax.scan(step, state, batches, unroll=unroll)
    return state, key, losses.mean()


class Contestant:
    def __init__(self, mode: str, X, t) -> None:
        self.X, self.t = jnp.asarray(X), jnp.asarray(t.astype(np.int32))
        params = [(jnp.asarray(W), jnp.asarray(b)) for W, b in common.weights(common.SIZES)]
        m, v = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        self.state = (params, m, v, jnp.zeros((), jnp.float32))
        self.key = jax.random.key(0)
        self.unroll = 8 if mode == "scan-unrolled" else 1

    def epoch(self) -> float:
        self.state, self.key, mean = epoch(self.state, self.key, self.X, self.t, self.unroll)
        return float(mean)

    def wait(self) -> None:
        jax.block_until_ready((self.state, self.X, self.t))


def spin() -> None:
    """Keep a GPU busy for a second."""
    if jax.default_backend() == "gpu":
        A = jnp.zeros((common.SPIN_SIZE, common.SPIN_SIZE), jnp.float32)
        product = jax.jit(jnp.matmul)
        common.spin(lambda: jax.block_until_ready(product(A, A)), lambda: None)


def main() -> None:
    options = common.arguments(__doc__, MODES)
    if options.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif jax.default_backend() != "gpu":
        raise SystemExit(f"JAX {jax.__version__} finds no usable GPU")
    jax.config.update("jax_default_matmul_precision", "highest")
    X, t, X_test, t_test = common.mnist(options.quick)
    peer = Contestant(options.mode, X, t)
    found = common.race(peer.epoch, peer.wait, len(X) // common.BATCH, options.quick, spin)
    Y = np.asarray(outputs(peer.state[0], jnp.asarray(X_test)))
    found["accuracy"] = common.accuracy(Y, t_test)
    common.say(found | {"version": jax.__version__})


if __name__ == "__main__":
    main()
