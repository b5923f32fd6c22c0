"""JAX in the comparison on the CPU: ``python bench/cpu_jax.py MODE SETTING``.

``jit`` compiles a step, which gives its buffers away to the next; ``scan`` compiles an epoch as one
`lax.scan`. The data are float32 on the device, a batch is picked by its rows inside.
"""

from __future__ import annotations

from functools import partial

import cpu_common as common
import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

MODES = ("jit", "scan")
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def outputs(params, X):
    for W, b in params[:-1]:
        X = jax.nn.relu(X @ W + b)
    W, b = params[-1]
    return X @ W + b


def loss_of(params, X, t):
    Y = outputs(params, X)
    if Y.shape[1] == 1:
        return jnp.mean(jax.nn.softplus(Y[:, 0]) - t * Y[:, 0])
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(Y), t[:, None], axis=1))


def step(state, X, t, *, adam: bool, lr: float):
    params, m, v, i, total = state
    loss, grads = jax.value_and_grad(loss_of)(params, X, t)
    tree = jax.tree_util.tree_map
    i = i + 1
    if not adam:
        return tree(lambda p, g: p - lr * g, params, grads), m, v, i, total + loss
    m = tree(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, grads)
    v = tree(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, grads)
    c1, c2 = 1 - BETA1**i, 1 - BETA2**i
    params = tree(lambda p, m, v: p - lr * (m / c1) / (jnp.sqrt(v / c2) + EPS), params, m, v)
    return params, m, v, i, total + loss


class Contestant:
    def __init__(self, mode: str, task: common.Task) -> None:
        self.task, self.mode, setting = task, mode, task.setting
        one = partial(step, adam=setting.optimizer == "adam", lr=setting.lr)
        self.whole = len(task.X) == setting.batch
        self.X, self.t = jnp.asarray(task.X), jnp.asarray(task.t.astype(np.int32))
        self.X_test = jnp.asarray(task.X_test)
        if setting.binary:
            self.t = self.t.astype(jnp.float32)
        size = setting.batch
        self.epochs = [jnp.asarray(o.reshape(-1, size).astype(np.int32)) for o in task.orders]
        self.rows = [row for epoch in self.epochs for row in epoch]

        def picked(state, X, t, rows):
            return one(state, X[rows], t[rows])

        def epoch(state, X, t, rows):
            return lax.scan(lambda s, r: (one(s, X[r], t[r]), None), state, rows)[0]

        def whole(state, X, t):
            return lax.scan(lambda s, _: (one(s, X, t), None), state, length=len(task.orders))[0]

        compiled = partial(jax.jit, donate_argnums=0)
        self.step, self.picked = compiled(one), compiled(picked)
        self.epoch, self.all = compiled(epoch), compiled(whole)
        self.outputs_of = jax.jit(outputs)

    def restart(self) -> None:
        def values(f):
            return [(jnp.asarray(f(W)), jnp.asarray(f(b))) for W, b in self.task.start]

        zero = values(np.zeros_like), values(np.zeros_like), jnp.float32(0), jnp.float32(0)
        self.state = jax.block_until_ready((values(np.array), *zero))

    def train(self) -> None:
        state, X, t = self.state, self.X, self.t
        if self.mode == "scan":
            if self.whole:
                state = self.all(state, X, t)
            else:
                for rows in self.epochs:
                    state = self.epoch(state, X, t, rows)
        else:
            for rows in self.rows:
                state = self.step(state, X, t) if self.whole else self.picked(state, X, t, rows)
        self.state = jax.block_until_ready(state)

    def predict(self) -> None:
        self.Y = self.outputs_of(self.state[0], self.X_test).block_until_ready()

    def outputs(self, X):
        return np.asarray(self.outputs_of(self.state[0], jnp.asarray(X)))


def main() -> None:
    mode, task = common.arguments(__doc__, MODES)
    common.compete(Contestant(mode, task), f"JAX {jax.__version__}")


if __name__ == "__main__":
    main()
