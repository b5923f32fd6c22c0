"""Mistakes to put into xpnet one at a time, and a worker that sees whether `kill` notices each.

A mutation exists in memory only: the worker imports xpnet anew for each one, with the text of one
module replaced. ``python tests/helpers/mutations.py 3 17`` tries numbers 3 and 17 and prints a line
of JSON for each; without numbers it tries them all.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
import time
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import ClassVar

HERE = Path(__file__).parent


class DoesNotFit(Exception):
    """The source has changed: the mutation must be written anew."""


# Errors of a mutation that does not run at all, which would be no test of anything.
BROKEN = (DoesNotFit, SyntaxError, ImportError, NameError, AttributeError, TypeError)


@dataclass(frozen=True)
class Mutation:
    """``old`` stands in the file once, or ``nth`` says which one is meant (0 for the first)."""

    module: str  # path under xpnet: a file, or a folder of which one file has the text
    what: str
    old: str
    new: str
    nth: int | None = None

    def __str__(self) -> str:
        return f"{self.module}: {self.what}"

    def apply(self, source: str) -> str:
        """Return the text of the module with the mistake in it."""
        pieces = source.split(self.old)
        cut = (self.nth or 0) + 1
        if len(pieces) <= cut or (self.nth is None and len(pieces) != 2):
            raise DoesNotFit(f"{self}: the old text occurs {len(pieces) - 1} times")
        return self.old.join(pieces[:cut]) + self.new + self.old.join(pieces[cut:])


def package() -> Path:
    """Return the folder of xpnet, without importing it."""
    return Path(importlib.util.find_spec("xpnet").origin).parent


def _in(module: str, *rows: tuple[str, str, str] | tuple[str, str, str, int]) -> list[Mutation]:
    return [Mutation(module, *row) for row in rows]


# ---- the layers ----------------------------------------------------------------------------------

LAYERS = [
    *_in(
        "layers/linear.py",
        ("dW with the wrong sign", "xp.matmul(self.X.T, dY, out=", "xp.matmul(self.X.T, -dY, out="),
        (
            "dW divided by n",
            "xp.matmul(self.X.T, dY, out=",
            "xp.matmul(self.X.T, dY / len(dY), out=",
        ),
        (
            "dW transposed",
            "xp.matmul(self.X.T, dY, out=self.dW)",
            "xp.copyto(self.dW, xp.module.matmul(dY.T, self.X).reshape(self.dW.shape))",
        ),
        (
            "dW added up, not overwritten",
            "xp.matmul(self.X.T, dY, out=self.dW)",
            "xp.add_matmul(self.X.T, dY, out=self.dW)",
        ),
        ("db is the last row", "xp.sum(dY, axis=0, out=self.db)", "xp.copyto(self.db, dY[-1])"),
        ("db is a mean", "xp.sum(dY, axis=0,", "xp.sum(dY / len(dY), axis=0,"),
        ("db is never written", "xp.sum(dY, axis=0, out=self.db)", "pass"),
        (
            "W updated before it is used",
            "        return None if self.dX",
            "        xp.subtract(self.W, self.dW, out=self.W)\n        return None if self.dX",
        ),
        ("dX with the wrong sign", "xp.matmul(dY, self.W.T, out=", "xp.matmul(-dY, self.W.T, out="),
        (
            "b left out of Y",
            "if not self.bias:\n            return",
            "if True:\n            return",
        ),
        ("b subtracted from Y", "affine(X, self.W, self.b,", "affine(X, self.W, -self.b,"),
    ),
    *_in(
        "network/fusions.py",
        ("Y is what comes in", "xp.affine_grad(dY, self.Y[:n],", "xp.affine_grad(dY, dY,"),
        ("another function", "out=dZ, db=self.db", "out=dZ, db=self.db[::-1]"),
        ("dY for dZ in dW", "xp.matmul(self.X.T, dZ,", "xp.matmul(self.X.T, dY,", 1),
        ("dY passed on", "xp.matmul(dZ, self.W.T,", "xp.matmul(dY, self.W.T,"),
        ("dW with the wrong sign", "xp.matmul(self.X.T, dZ,", "xp.matmul(self.X.T, -dZ,", 1),
        ("dW of the first", "xp.matmul(self.X.T, dZ,", "xp.matmul(self.X.T, -dZ,", 0),
    ),
    *_in(
        "layers/normalization.py",
        ("ε missing", "        xp.add(sigma, self.eps, out=sigma)\n", ""),
        ("σ is the variance", "        xp.sqrt(sigma, out=sigma)\n", ""),
        ("β left out of Y", "return xp.add(Y, self.beta, out=Y)", "return Y"),
        ("γ left out of Y", "xp.multiply(Xhat, self.gamma,", "xp.multiply(Xhat, 1.0,"),
        (
            "dβ is the first row",
            "xp.sum(dY, axis=0, out=self.dbeta)",
            "xp.copyto(self.dbeta, dY[0])",
        ),
        ("dγ without X̂", "xp.multiply(dY, Xhat, out=work)", "xp.copyto(work, dY)"),
        ("dX̂ without γ", "self.gamma if scaled else 1.0", "1.0"),
        ("the mean of dX̂ missing", "dX = xp.subtract(dXhat, mean, out=dXhat)", "dX = dXhat"),
        ("the term with X̂ missing", "        xp.subtract(dX, work, out=dX)\n", ""),
        ("the term with X̂ added", "xp.subtract(dX, work, out=dX)", "xp.add(dX, work, out=dX)"),
        ("dX not divided by σ", "return xp.divide(dX, sigma, out=dX)", "return dX"),
        (
            "the mean along the other axis",
            "self.xp.mean(A, self.axis, out=out",
            "self.xp.mean(A, 1 - self.axis, out=out",
        ),
        (
            "a sum for the variance",
            "self._mean(work, out=variance)",
            "self.xp.sum(work, axis=self.axis, out=variance, keepdims=True)",
        ),
        (
            "momentum the wrong way round",
            "xp.multiply(new, a, out=work)\n                xp.multiply(average, 1 - a,",
            "xp.multiply(new, 1 - a, out=work)\n                xp.multiply(average, a,",
        ),
        (
            "running averages never fade",
            "                xp.multiply(average, 1 - a, out=average)\n",
            "",
        ),
        ("running averages swapped", '"mean"], mu), (', '"variance"], mu), ('),
        (
            "a plain average of twice as many",
            'xp.add(self.state["batches"], 1,',
            'xp.add(self.state["batches"], 2,',
        ),
        ("a batch of one is taken", "least_batch = 2", "least_batch = 1"),
        (
            "the batch's own statistics at rest",
            "if not self._of_batch:\n            self.xp.copyto(mu",
            "if False:\n            self.xp.copyto(mu",
        ),
        (
            "μ and σ not constant at rest",
            "if not self._of_batch:\n            return self.xp",
            "if False:\n            return self.xp",
        ),
    ),
    *_in(
        "layers/dropout.py",
        (
            "no mask in backward",
            "return self.xp.multiply(dY, self.M[:n], out=self.dX[:n])",
            "return dY",
        ),
        ("the same mask each time", "        xp.add(drawn, 1, out=drawn)\n", ""),
        ("p kept instead of silenced", "keep=1 - self.p", "keep=self.p"),
        (
            "silence at rest",
            "if not self.training:\n            return X\n",
            "if False:\n            return X\n",
        ),
        (
            "a mask in backward at rest",
            "if not self.training:\n            return dY\n",
            "if False:\n            return dY\n",
        ),
        ("no mask in forward", "return xp.multiply(X, M, out=self.Y[: len(X)])", "return X"),
    ),
    *_in(
        "layers/flatten.py",
        (
            "dX in another order of axes",
            "dY.reshape(len(dY), *self.shape)",
            "dY.reshape(len(dY), *self.shape[::-1]).swapaxes(1, -1)",
        ),
    ),
    *_in(
        "layers/leaky_relu.py",
        ("slope lost in forward", "len(X)], slope=self.slope)", "len(X)])"),
        ("slope lost in backward", "self.dX[:n], slope=self.slope)", "self.dX[:n])"),
    ),
    *_in("layers/relu.py", ("the mask of dY", "relu_grad(dY, self.Y[:n]", "relu_grad(dY, dY")),
    *_in("layers/sigmoid.py", ("the slope of tanh", "xp.sigmoid_grad(", "xp.tanh_grad(")),
    *_in("layers/tanh.py", ("the slope of the sigmoid", "xp.tanh_grad(", "xp.sigmoid_grad(")),
    *_in(
        "layers/gelu.py",
        ("Y for X in backward", "gelu_grad(dY, X,", "gelu_grad(dY, self.Y[:n],"),
        ("exact: X φ missing", "        xp.add(dX, Phi, out=dX)\n", "        xp.copyto(dX, Phi)\n"),
        ("exact: Φ missing", "        xp.add(dX, Phi, out=dX)\n", ""),
    ),
    *_in(
        "layers/softmax.py",
        (
            "the diagonal of the Jacobian only",
            "softmax_grad(dY, self.Y[:n], out=self.dX[:n], work=self.work[:n])",
            "sigmoid_grad(dY, self.Y[:n], out=self.dX[:n])",
        ),
    ),
    *_in(
        "layers/memory.py",
        ("all parameters in one place", "            start += p.size\n", ""),
        ("what is assigned is not copied", "write(self.xp, what, own[name], value)", "pass"),
    ),
]

# ---- the losses ----------------------------------------------------------------------------------

LOSSES = [
    *_in(
        "losses",
        (
            "a mean with the gradient of the sum",
            "return self.xp.multiply(dY, self._share, out=dY)",
            "return dY",
        ),
        (
            "a sum with the gradient of the mean",
            "return xp.multiply(self.value, share, out=self.value)",
            "return self.value",
        ),
        (
            "divided by n alone",
            "return 1.0 / (n * self.outputs) if",
            "return 1.0 / n if",
        ),
        ("weights ignored", "alike = sample_weight is None and", "alike = True or"),
        (
            "weights ignored in the value",
            "        xp.multiply(elements, share, out=elements)\n",
            "        xp.multiply(elements, 1.0 / elements.size, out=elements)\n",
        ),
        (
            "weights not divided by their sum",
            "return xp.divide(share, value, out=share)",
            "return share",
        ),
        ("weights divided by n", "xp.sum(share, out=value)", "xp.copyto(value, n)"),
        (
            "the number of outputs lost with weights",
            "        xp.multiply(value, self.outputs, out=value)\n",
            "",
        ),
        ("MSE: 2 missing", "        self.xp.multiply(out, 2.0, out=out)\n", ""),
        (
            "MSE: sign",
            '"""2 (y - t)"""\n        self.xp.subtract(Y, T,',
            '"""2 (y - t)"""\n        self.xp.subtract(T, Y,',
        ),
        ("Huber: open below", "        self.xp.maximum(out, -self.delta, out=out)\n", ""),
        ("Huber: δ is 1", "self.xp.minimum(out, self.delta,", "self.xp.minimum(out, 1.0,"),
        ("Huber: 1/2 missing", "        xp.multiply(out, 0.5, out=out)\n", ""),
        ("Huber: e for e - c/2", "        xp.subtract(e, out, out=e)\n", ""),
        (
            "BCE: first ε missing",
            "xp.add(Y, self.eps, out=work)\n        xp.log(work, out=work)\n        xp.multiply(T",
            "xp.copyto(work, Y)\n        xp.log(work, out=work)\n        xp.multiply(T",
        ),
        (
            "BCE: second ε missing in the slope",
            "        xp.add(work, self.eps, out=work)\n        xp.subtract(1.0, T, out=out)\n",
            "        xp.subtract(1.0, T, out=out)\n",
        ),
        (
            "BCE: 1 - t missing",
            "xp.multiply(other, work, out=other)",
            "xp.copyto(other, work)",
        ),
        (
            "BCE: sign of the first term in the slope",
            "xp.divide(T, work, out=work)\n        xp.subtract(out, work",
            "xp.divide(T, work, out=work)\n        xp.add(out, work",
        ),
        (
            "BCE on scores: - t missing in the slope",
            "            xp.subtract(out, T, out=out)\n            return\n",
            "            return\n",
        ),
        (
            "BCE on scores: sign of the second term",
            "xp.multiply(out, work, out=out)\n            xp.add(",
            "xp.multiply(out, work, out=out)\n            xp.subtract(",
        ),
        (
            "BCE on scores: 1 - t missing",
            "            xp.multiply(out, work, out=out)\n            xp.add(",
            "            xp.add(",
        ),
        (
            "BCE on scores: y for -y",
            "xp.multiply(Y, -1.0, out=work)\n            xp.softplus",
            "xp.copyto(work, Y)\n            xp.softplus",
        ),
        ("CE: sign of the value", "self.xp.multiply(out, -1.0,", "self.xp.multiply(out, 1.0,", 0),
        ("CE: sign of the slope", "self.xp.multiply(out, -1.0,", "self.xp.multiply(out, 1.0,", 1),
        (
            "CE: ε missing in the slope",
            "self.xp.add(Y, self.eps, out=out)\n        self.xp.divide(T, out",
            "self.xp.copyto(out, Y)\n        self.xp.divide(T, out",
        ),
        (
            "softmax CE: sign of the slope",
            "            return self.dZ\n",
            "            return self.xp.multiply(self.dZ, -1, out=self.dZ)\n",
        ),
        (
            "softmax CE: targets taken to sum to 1",
            "        if T.ndim == 2:\n            self._add_rest(T, scale)\n",
            "",
        ),
        (
            "pos_weight: not in the slope",
            "xp.multiply(T, self._slope_of_c, out=work)",
            "xp.multiply(T, 0.0, out=work)",
        ),
        ("label_smoothing: nothing added", "alpha / self._shape[1], out=T", "0.0, out=T"),
        (
            "ignore_index: a class that counts",
            "            xp.copyto(hot[:, k], 0.0)\n",
            "            pass\n",
        ),
        (
            "Poisson: t for exp y",
            "        self._exp(Y, out=out, work=self.work)\n",
            "        self.xp.copyto(out, Y)\n",
        ),
        ("a sum is a mean", 'self.outputs) if self.reduction == "mean" else 1.0', "self.outputs)"),
    ),
]

# ---- the optimizers ------------------------------------------------------------------------------

OPTIMIZERS = [
    *_in(
        "optimizers/base.py",
        (
            "the table is not filled again",
            "if self.scheduled and self.t + steps > self.table.end:",
            "if False:",
        ),
        ("steps not counted", "        self.t += steps\n", "        self.t += 0\n"),
    ),
    *_in(
        "optimizers/memory.py",
        (
            "memory lost when the network moves",
            "            self.xp.copyto(a, self.xp.asarray(state[name], a.dtype))\n",
            "            pass\n",
        ),
    ),
    *_in(
        "optimizers/gradient.py",
        (
            "AdamW's decay twice",
            "0.0 if optimizer.decoupled_decay else optimizer.weight_decay",
            "optimizer.weight_decay",
        ),
        ("clip not applied", "xp.multiply(g, norm, out=own)", "xp.copyto(own, g)"),
        ("squares overflow", "-30 - frexp(", "1000 - frexp("),
        ("norm without its root", "        xp.sqrt(norm, out=norm)\n", ""),
        ("short gradients lengthened", "        xp.maximum(norm, optimizer.limit, out=norm)\n", ""),
        (
            "weight decay with the wrong sign",
            "xp.add(own, work, out=own)",
            "xp.subtract(own, work, out=own)",
        ),
        (
            "weight decay ignored beside a clip",
            "    if decay != 0.0:\n",
            "    if decay != 0.0 and clip is None:\n",
        ),
        (
            "the gradient is clipped in place",
            "own, work, norm = optimizer.own_gradient",
            "own, work, norm = g",
        ),
    ),
    *_in(
        "optimizers/rates.py",
        ("the rate stays", "        self.xp.add(self.position, 1, out=self.position)\n", ""),
        ("rates one step late", "schedule, t + i)", "schedule, max(t + i - 1, 0))"),
        ("rates one step early", "schedule, t + i)", "schedule, t + i + 1)"),
    ),
    *_in(
        "optimizers/sgd.py",
        (
            "Nesterov is plain momentum",
            "momentum), nesterov)",
            "momentum), False)",
        ),
        (
            "momentum not used",
            "if not self.options.mu:\n            self.xp.sgd",
            "if True:\n            self.xp.sgd",
        ),
    ),
    *_in(
        "optimizers/rmsprop.py",
        (
            "RMSprop: ρ is 1 - ρ",
            'fraction("rho", rho), positive(',
            '1 - fraction("rho", rho), positive(',
        ),
    ),
    *_in(
        "optimizers/adam.py",
        (
            "AdamW's decay in the gradient",
            "    decoupled_decay = True\n",
            "    decoupled_decay = False\n",
        ),
        (
            "powers of β stand still",
            "self.xp.multiply(self.powers, self._betas, out=self.powers)",
            "self.xp.copyto(self.powers, self._betas)",
        ),
        (
            "β₁ and β₂ swapped in the correction",
            "self._betas = self.xp.asarray(np.array([self.beta1, self.beta2])",
            "self._betas = self.xp.asarray(np.array([self.beta2, self.beta1])",
        ),
    ),
]

# ---- the primitives: what they mean, and NumPy's versions ----------------------------------------

BASE = [
    *_in(
        "backend/base.py",
        ("affine: b left out", "        self.add(out, b, out=out)\n", ""),
        ("affine: f left out", "return getattr(self, f)(out, out=out) if f else out", "return out"),
        (
            "affine_grad: the sum of dY",
            "self.sum(out, axis=0, out=db)",
            "self.sum(dY, axis=0, out=db)",
        ),
        (
            "add_matmul: overwrites",
            "self.add(out, self.matmul(A, B",
            "self.add(self.copyto(out, 0), self.matmul(A, B",
        ),
        (
            "add_sum: overwrites",
            "self.add(out, self.sum(A, axis",
            "self.add(self.copyto(out, 0), self.sum(A, axis",
        ),
        ("mean: of the other axis", "1.0 / A.shape[axis]", "1.0 / A.shape[axis - 1]"),
        ("mean: the sum", "return self.multiply(out, 1.0 / A.shape[axis], out=out)", "return out"),
        ("sgd: sign", "p -= rate.astype(p.dtype) * g\n", "p += rate.astype(p.dtype) * g\n"),
        ("momentum: v does not fade", "self.copyto(v, mu * v + g)", "self.copyto(v, v + g)"),
        ("momentum: term dropped", "self.copyto(v, mu * v + g)", "self.copyto(v, g)"),
        ("momentum: rate inside v", "(g + mu * v if nesterov", "(mu * v if nesterov"),
        (
            "rmsprop: ρ the wrong way round",
            "rho * s + (1 - rho) * g * g",
            "(1 - rho) * s + rho * g * g",
        ),
        ("rmsprop: ε missing", "(self.module.sqrt(s) + eps)", "self.module.sqrt(s)"),
        ("rmsprop: root missing", "(self.module.sqrt(s) + eps)", "(s + eps)"),
        ("rmsprop: ε inside the root", "(self.module.sqrt(s) + eps)", "self.module.sqrt(s + eps)"),
        ("adam: β₂ for β₁", "beta1 * m + (1 - beta1) * g", "beta2 * m + (1 - beta2) * g"),
        ("adam: β₁ for β₂", "beta2 * v + (1 - beta2) * g * g", "beta1 * v + (1 - beta1) * g * g"),
        ("adam: no correction of m", "(m / c1)", "m"),
        ("adam: no correction of v", "sqrt(v / c2)", "sqrt(v)"),
        ("adam: ε missing", "(self.module.sqrt(v / c2) + eps)", "self.module.sqrt(v / c2)"),
        (
            "adam: decay with the wrong sign",
            "p -= eta * decay * p + eta",
            "p -= -eta * decay * p + eta",
        ),
        ("adam: decay without the rate", "p -= eta * decay * p", "p -= decay * p"),
    ),
    *_in(
        "backend/fused.py",
        ("relu: slope lost", "slope * X if slope else 0", "0"),
        ("relu_grad: wrong mask", "where(Y > 0, dY", "where(Y < 0, dY"),
        ("relu_grad: slope lost", "dY, slope * dY)", "dY, 0 * dY)"),
        ("sigmoid: sign", "exp(-X)))", "exp(X)))"),
        ("sigmoid_grad: 1 - Y missing", "dY * Y * (1 - Y)", "dY * Y"),
        ("tanh_grad: square missing", "dY * (1 - Y * Y)", "dY * (1 - Y)"),
        ("gelu: a wrong constant", "GELU_A = 0.044715", "GELU_A = 0.04471"),
        ("gelu: another wrong constant", "GELU_C = 0.7978845608028654", "GELU_C = 0.79788"),
        ("gelu_grad: 3 missing", "3 * GELU_A", "GELU_A"),
        ("gelu_grad: 1 + T missing", "slope = (1 + T) + x", "slope = x"),
        (
            "softmax: sum over the batch",
            "E / self.module.sum(E, axis=1",
            "E / self.module.sum(E, axis=0",
        ),
        (
            "softmax: maximum not taken out",
            "E = self.module.exp(X - self.module.max(X, axis=1, keepdims=True))",
            "E = self.module.exp(X)",
        ),
        (
            "softmax_grad: diagonal only",
            "Y * (dY - self.module.sum(dY * Y, axis=1, keepdims=True))",
            "Y * dY * (1 - Y)",
        ),
        (
            "softmax_grad: sum without Y",
            "self.module.sum(dY * Y, axis=1",
            "self.module.sum(dY, axis=1",
        ),
        ("softplus: of X - 1", "logaddexp(X, 0)", "logaddexp(X, 1)"),
        ("one_hot: shifted", "labels[:, None] ==", "labels[:, None] - 1 =="),
        (
            "softmax_cross_entropy: sign",
            "T * (m.log(sums) - S)",
            "T * (S - m.log(sums))",
        ),
        (
            "softmax_cross_entropy: T ignored",
            "m.sum(T * (",
            "m.sum((",
        ),
        (
            "softmax_cross_entropy: maximum not taken out",
            "S = Z - m.max(Z, axis=1, keepdims=True)",
            "S = Z",
        ),
        ("scale left out", "if scale != 1.0:", "if False:"),
        (
            "record: always the first",
            "position[0] == self.module.arange",
            "0 == self.module.arange",
        ),
        ("softmax_cross_entropy: T not subtracted", "E / sums - T", "E / sums"),
        ("gather: k/256", "rows / 255", "rows / 256"),
        ("gather: always from the start", "position[0] + self.module.arange", "self.module.arange"),
        (
            "gather: order ignored",
            "rows = data[order[position[0] + self.module.arange(len(out))]]",
            "rows = data[position[0] + self.module.arange(len(out))]",
        ),
        (
            "dropout_mask: not rescaled",
            "kept.reshape(out.shape) * (1.0 / keep)",
            "kept.reshape(out.shape)",
        ),
        ("dropout_mask: scaled by keep", "(1.0 / keep)", "keep"),
        ("dropout_mask: one bit less", "(z >> 11) <", "(z >> 12) <"),
        ("dropout_mask: counter ignored", "mix64(key + mix64(counter))", "mix64(key)"),
        (
            "dropout_mask: always the first piece",
            " + np.uint64(first * GOLDEN % 2**64)",
            "",
        ),
        ("mix64: last step missing", "return z ^ (z >> 31)", "return z"),
    ),
]

NUMPY = [
    *_in(
        "backend/on_numpy.py",
        ("relu: absolute value", "return X.clip(0, np.inf, out=out)", "return np.abs(X, out=out)"),
        ("relu: slope lost", "np.multiply(X, slope, out=out)", "np.multiply(X, 0.0, out=out)"),
        ("relu_grad: wrong mask", "np.greater(Y, 0, out=out)", "np.less(Y, 0, out=out)"),
        (
            "relu_grad: slope lost",
            "            np.maximum(out, slope, out=out)\n",
            "            pass\n",
        ),
        ("sigmoid: sign", "np.negative(X, out=out)", "np.copyto(out, X)"),
        ("sigmoid_grad: 1 - Y missing", "np.subtract(1, Y, out=out)", "np.copyto(out, 1)"),
        ("sigmoid_grad: Y missing", "        np.multiply(out, Y, out=out)\n", ""),
        (
            "tanh_grad: square missing",
            "np.multiply(Y, Y, out=out)\n        np.subtract(1, out",
            "np.copyto(out, Y)\n        np.subtract(1, out",
        ),
        (
            "gelu: 1/2 missing",
            "np.multiply(out, 0.5, out=out)\n        return np.multiply(out, X,",
            "np.multiply(out, 1.0, out=out)\n        return np.multiply(out, X,",
        ),
        ("gelu_grad: 3 missing", "out=out), 3 * GELU_A", "out=out), GELU_A"),
        ("gelu_grad: ∞ · 0", "X.clip(-GELU_END, GELU_END, out=out), 3", "X, 3"),
        ("normal: the sides swapped", "np.greater(X, 0, out=out)", "np.less(X, 0, out=out)"),
        ("gelu_grad: T missing", "        np.add(out, T, out=out)\n", ""),
        (
            "gelu_grad: T² missing",
            "np.multiply(T, T, out=out)\n        np.subtract(1, out, out=out)",
            "np.copyto(out, 1)",
        ),
        (
            "softmax: maximum not taken out",
            "np.subtract(X, work, out=out)\n        np.exp",
            "np.copyto(out, X)\n        np.exp",
        ),
        ("softmax: not divided", "return np.divide(out, work, out=out)", "return out"),
        (
            "softmax_grad: diagonal only",
            "np.subtract(dY, work, out=out)\n        return np.multiply(out, Y",
            "np.copyto(out, dY)\n        return np.multiply(out, Y",
        ),
        (
            "softmax_grad: sum without Y",
            "np.multiply(dY, Y, out=out)\n        np.add.reduce(out,",
            "np.add.reduce(dY,",
        ),
        ("softplus: of X - 1", "np.logaddexp(X, 0, out=out)", "np.logaddexp(X, 1, out=out)"),
        ("one_hot: shifted", "np.arange(out.shape[1]), out", "np.arange(1, out.shape[1] + 1), out"),
        (
            "softmax_cross_entropy: sign",
            "np.subtract(column, work, out=work)",
            "np.subtract(work, column, out=work)",
        ),
        ("softmax_cross_entropy: T ignored", "        np.multiply(work, T, out=work)\n", ""),
        (
            "softmax_cross_entropy: maximum not taken out",
            "np.subtract(Z, column, out=work)",
            "np.copyto(work, Z)",
        ),
        (
            "softmax_cross_entropy: P not divided",
            "        np.divide(dZ, column, out=dZ)\n",
            "",
        ),
        (
            "softmax_cross_entropy: T not subtracted",
            "        np.subtract(dZ, T, out=dZ)\n",
            "",
        ),
        ("gather: k/256", "np.divide(out, 255, out=out)", "np.divide(out, 256, out=out)"),
        ("gather: always from the start", "start = int(position[0])", "start = 0"),
        (
            "gather: order ignored",
            "rows = order[start : start + len(out)]",
            "rows = np.arange(start, start + len(out))",
        ),
        (
            "dropout_mask: not rescaled",
            "            np.multiply(block, 1 / keep, out=block)\n",
            "",
        ),
        (
            "dropout_mask: p for 1 - p",
            "np.less(z, threshold, out=block)",
            "np.greater_equal(z, threshold, out=block)",
        ),
        (
            "dropout_mask: every block alike",
            "np.uint64((first + a) * GOLDEN % 2**64)",
            "np.uint64(0)",
        ),
        ("dropout_mask: always the first piece", "(first + a) * GOLDEN", "a * GOLDEN"),
        ("dropout_mask: counter ignored", "mix64(key + mix64(counter))", "mix64(key)"),
        (
            "dropout_mask: a bit too many",
            "np.right_shift(z, 11, out=z)",
            "np.right_shift(z, 10, out=z)",
        ),
        ("mix64: another shift", "(27, 0x94D0", "(28, 0x94D0"),
        ("sgd: sign", "np.subtract(p, work, out=p)", "np.add(p, work, out=p)", 0),
        ("momentum: sign", "np.subtract(p, work, out=p)", "np.add(p, work, out=p)", 1),
        ("momentum: v does not fade", "        np.multiply(v, mu, out=v)\n", ""),
        ("momentum: term dropped", "np.add(v, g, out=v)", "np.copyto(v, g)"),
        ("Nesterov: g missing", "            np.add(work, g, out=work)\n", ""),
        (
            "Nesterov: rate missing",
            "np.add(work, g, out=work)\n            np.multiply(work, float(rate[0]), out=work)\n",
            "np.add(work, g, out=work)\n",
        ),
        (
            "rmsprop: ρ the wrong way round",
            "_average(s, work, rho, work)",
            "_average(s, work, 1 - rho, work)",
        ),
        (
            "rmsprop: ε missing",
            "np.sqrt(s, out=work)\n        np.add(work, eps, out=work)",
            "np.sqrt(s, out=work)",
        ),
        ("rmsprop: root missing", "np.sqrt(s, out=work)", "np.copyto(work, s)"),
        ("adam: β₂ for β₁", "_average(m, g, beta1, work)", "_average(m, g, beta2, work)"),
        ("adam: β₁ for β₂", "_average(v, work, beta2, work)", "_average(v, work, beta1, work)"),
        (
            "adam: g not squared",
            "np.multiply(g, g, out=work)\n        _average(v",
            "np.abs(g, out=work)\n        _average(v",
        ),
        (
            "adam: no correction of m",
            "eta * c / (1 - float(powers[0]))",
            "eta * c",
        ),
        ("adam: no correction of v", "eta * c / (1", "eta / (1"),
        (
            "adam: correction of v upside down",
            "(1 - float(powers[1])) ** 0.5",
            "(1 - float(powers[1])) ** -0.5",
        ),
        ("adam: ε not corrected", "np.add(work, c * eps, out=work)", "np.add(work, eps, out=work)"),
        (
            "adam: ε missing",
            "np.add(work, c * eps, out=work)\n        np.divide(m, work",
            "np.divide(m, work",
        ),
        ("adam: decay with the wrong sign", "1 - eta * decay", "1 + eta * decay"),
        ("adam: decay without the rate", "1 - eta * decay", "1 - decay"),
        (
            "the newest value not scaled",
            "np.multiply(value, 1 - beta, out=work)",
            "np.copyto(work, value)",
        ),
    ),
]

# ---- the network, the training, the data ---------------------------------------------------------

REST = [
    *_in(
        "network",
        (
            "the first layer gets no gradient",
            "if size), len(sizes))",
            "if size and i), len(sizes))",
        ),
        (
            "all layers share their parameters",
            "params[piece], grads[piece])\n            start += layer.size\n",
            "params[piece], grads[piece])\n",
        ),
        ("pixels over 256", "self.xp.divide(converted, 255,", "self.xp.divide(converted, 256,"),
        (
            "prediction in training mode",
            "        self._set_modes(layers, False, [False] * len(layers))\n",
            "        self._set_modes(layers, True, [True] * len(layers))\n",
        ),
        (
            "training mode lost by predict",
            "            self._set_modes(layers, own, before)\n",
            "            pass\n",
        ),
        ("prediction overwritten", "np.array(xp.asnumpy(Y)))", "xp.asnumpy(Y))"),
        (
            "a copy with layers of its own",
            "if self._params is not None:  # the copied",
            "if False:  # the copied",
        ),
        ("weights of any seed", 'Random(self.seed, "weights",', 'Random(0, "weights",'),
        (
            "state lost in a move",
            "layer._state = {name: placed(value)",
            "layer._state = {name: placed(0 * value)",
        ),
        (
            "only the last layers do backward",
            "layers[self._first_with_gradient :]",
            "layers[self._first_with_gradient + 1 :]",
        ),
        (
            "modes not passed on",
            "                layer.training = training\n",
            "                pass\n",
        ),
        (
            "predictions in the buffers that backward needs",
            "if self._last.awaited:",
            "if False:",
        ),
        (
            "backward after a prediction",
            "last.shape, last.awaited, last.lost = None",
            "_, last.awaited, last.lost = None",
        ),
        (
            "a change that forgets the values",
            "self._set_all(self._params, self._grads, self._first",
            "self._set_all(0 * self._params, self._grads, self._first",
        ),
        ("a layer of two networks", "owner is not None and owner is not net and", "False and"),
    ),
    *_in(
        "training/step.py",
        (
            "a step before the gradient",
            "            self.backward()\n            self.optimizer.descend()\n",
            "            self.optimizer.descend()\n            self.backward()\n",
        ),
        (
            "losses in the wrong places",
            "        self.xp.copyto(self._place_of_loss, batch)\n",
            "        self.xp.copyto(self._place_of_loss, len(self.losses) > 2)\n",
        ),
    ),
    *_in(
        "training/trainer.py",
        (
            "each epoch in the order of the first",
            "steps.step.start(self.epoch, self.batch)",
            "steps.step.start(0, self.batch)",
        ),
        ("training at rest", "        self.net.train()\n", "        self.net.train(False)\n"),
    ),
    *_in(
        "training/epoch_loss.py",
        (
            "a mean of means for the epoch",
            "step.loss.counts(sizes)) / step.batches.n",
            "np.ones(len(sizes))) / len(sizes)",
        ),
    ),
    *_in(
        "storage/fields.py",
        (
            "unknown fields of a checkpoint are ignored",
            "        if name not in known:\n",
            "        if not name:\n",
        ),
        (
            "unknown arrays of a checkpoint are ignored",
            "or name in owners or name.startswith(starts)):",
            "or name in owners or name):",
        ),
        (
            "an epoch before the first of the fit",
            'progress["first_epoch"] > progress["epoch"]',
            'progress["first_epoch"] > progress["epoch"] + 1',
        ),
    ),
    *_in(
        "training/state.py",
        (
            "arrays that the optimizer does not know are dropped",
            "    if may_differ:\n",
            "    if not may_differ:\n",
        ),
        ("moments that are not finite come back", "if np.isnan(found).any()", "if not found.size"),
        (
            "numbers that cannot be set are passed over",
            "if name in numbers and name not in override:",
            "if name in override:",
        ),
    ),
    *_in(
        "training/differences.py",
        ("what differs goes on", "if name not in override or name in fixed}", "if name in fixed}"),
    ),
    *_in(
        "training/early_stopping.py",
        (
            "the best epoch is one to come",
            "if self.best_epoch >= self.trainer.epoch:",
            "if self.best_epoch > self.trainer.epoch:",
        ),
    ),
    *_in("training/data.py", ("samples of weight 0 used", "columns[2] > 0", "columns[2] >= 0")),
    *_in(
        "network/checks.py",
        ("infinity taken", "module.isfinite(rows) if own", "(rows == rows) if own"),
        ("too large for float32", "else module.abs(rows) <= largest", "else rows == rows"),
        ("the place of a value", "[first + start + row, *rest]", "[start + row, *rest]"),
    ),
    *_in(
        "support",
        ("pixels in tables", "host.astype(np.int16) if host", "host if host"),
        ("masks that are dropped", "if is_masked(a) and np.ma.is_masked(a):", "if False:"),
        (
            "masks in lists",
            'f"{name}[{i}]") if _holds(x) else x',
            'f"{name}[{i}]") if False else x',
        ),
        ("None is a number", "if is_missing(value):", "if False:"),
    ),
    *_in("data", ("labels of one-hot rows", "t.argmax(axis=1) if is", "t[:, 0] if is")),
    *_in(
        "data/batches.py",
        (
            "shuffle not applied",
            "            self.xp.copyto(self._order, self.xp.asarray(self._prepared[1]))\n",
            "            pass\n",
        ),
        ("the last batch dropped", " + [rest] * (rest > 0)", ""),
        (
            "position not moved on",
            "            self.xp.add(self._position, size, out=self._position)\n",
            "",
        ),
        (
            "position not put back",
            "        self.xp.copyto(self._position, batch * self.batch_size)\n",
            "",
        ),
        (
            "one batch for all",
            "self._whole_is_there = self.batch_size == self.n",
            "self._whole_is_there = True",
        ),
        ("never shuffled", "self.shuffle = shuffle and", "self.shuffle = False and"),
        (
            "epochs in one order",
            'Random(self.seed, "shuffle", epoch)',
            'Random(self.seed, "shuffle")',
        ),
    ),
    *_in(
        "schedules.py",
        ("WarmUp starts at 0", "(step + 1) / self.steps", "step / self.steps"),
        ("WarmUp goes on where it is", "self.then(step - self.steps)", "self.then(step)"),
        (
            "Cosine upside down",
            "(start - end) * share * share",
            "(start - end) * (1 - share * share)",
        ),
        ("Cosine goes up again", "if progress < 1 else 0.0", ""),
        ("Step without steps", "_whole(step) // self.every", "_whole(step)"),
        (
            "Exponential without its power",
            "_power(self.factor, _whole(step))",
            "(self.factor * _whole(step))",
        ),
        ("OneCycle: peak a step late", "self.up * self.steps - 1", "self.up * self.steps"),
    ),
    *_in(
        "initializers.py",
        ("uniform: 3 missing", "sqrt(3 * variance)", "sqrt(variance)"),
        ("normal: root missing", "Normal(sqrt(variance))", "Normal(variance)"),
        ("Glorot: the sum of both ends", "(n_in + n_out) / 2", "(n_in + n_out)"),
        ("He: gain 1", '"he_normal": Scaled(2,', '"he_normal": Scaled(1,'),
        ("n_out for n_in", "else n_in)", "else n_out)"),
    ),
    *_in(
        "backend/random.py",
        ("uniform on [0, 2)", "* 2.0**-53", "* 2.0**-52"),
        ("normal: 2 missing", "np.sqrt(-2 * log(1 - u))", "np.sqrt(-log(1 - u))"),
        ("normal: half a circle", "cos_sin(v)", "cos_sin(v / 2)"),
        (
            "one stream for all purposes",
            ", spawn_key=words)",
            ")",
        ),
        ("permutation not sorted", "(np.sort(keys) & low)", "(keys & low)"),
    ),
    *_in(
        "training/metrics",
        (
            "the least score",
            "t.reshape(n), width), one_hot(Y.argmax(axis=1)",
            "t.reshape(n), width), one_hot(Y.argmin(axis=1)",
        ),
        (
            "any threshold",
            "t.reshape(n, 1) > 0.5, np.greater(Y, threshold)",
            "t.reshape(n, 1) > 0.5, np.greater(Y, 0.5)",
        ),
        ("labels are classes", "    if independent:\n", "    if False:\n"),
        ("rmse without its root", "return sqrt(mse(t, Y, sample_weight))", "return mse(t, Y)"),
        ("r2 over the wrong sum", "(t - total(w * t) / total(w)) ** 2", "t**2"),
    ),
    *_in(
        "training/early_stopping.py",
        ("more is never better", "sign * (self.best - value)", "(self.best - value)"),
    ),
]

PROCESSES = [
    *_in(
        "parallel/base.py",
        ("a share: nobody has more", "each + (self.rank < more)", "each"),
        ("a share: the same first", "self.rank * each + min(self.rank, more)", "self.rank * each"),
    ),
    *_in(
        "parallel",
        ("mean: of the samples here", "1.0 / self.share.total", "1.0 / self.share.gathered[1]"),
        ("mean: not of all", "        self.across.allreduce(out)\n", ""),
        ("mean: what idles counts", "if self.share.rows:", "if True:"),
        ("dropout_mask: the same on all", "first += place * (out.size // rows)", "first += 0"),
        (
            "blocks: of what is here",
            "lengths = [min(size, total - k)",
            "lengths = [min(size, end - first)",
        ),
        ("greatest: of those here", 'return self.xp.across.allreduce(top, "max")', "return top"),
        ("total: of those here", "return self.xp.across.allreduce(S)", "return S"),
    ),
    *_in(
        "parallel/shared_reproducible.py",
        (
            "a further part of the samples here",
            "self._product(A, B, out, part)",
            "self.whole.matmul(A, B, out=part)",
        ),
        (
            "a further sum of the samples here",
            "self._sum(A, axis, out, part)",
            "self.whole.sum(A, axis, out=part)",
        ),
        (
            "a product of the samples here",
            "self._product(A, B, out, out.array)",
            "self.whole.matmul(A, B, out=out.array)",
        ),
        (
            "a sum of the samples here",
            "self._sum(A, axis, out, out.array)",
            "self.whole.sum(A, axis, out=out.array)",
        ),
        ("whatever is known", "return number or isinstance(a, SharedGradient)", "return True"),
        (
            "parts that do not fit the samples",
            "self._is_sum(B) or A.shape[1] % self._rows:",
            "self._is_sum(B):",
        ),
        ("sums over another axis", "if axis not in (None, 0, -A.ndim) or ", "if "),
        ("sums of sums", "self._is_sum(A) or len(A) % self._rows", "len(A) % self._rows"),
        ("rows that differ by process", "if len(set(rows)) > 1:", "if False:"),
        (
            "views that were kept",
            "        self._gradients.refuse_kept_view(out, self.module)\n",
            "",
        ),
        ("the rest of a sum", "any(map(self._is_sum, operands.values()))", "False"),
        (
            "any function of the array",
            "if name not in LINEAR:",
            "if False:",
        ),
        (
            "products without dY",
            "if isinstance(A, SharedGradient) == isinstance(B, SharedGradient):",
            "if False:",
        ),
        ("sums without dY", "if not isinstance(A, SharedGradient):", "if False:"),
        ("what is not linear", "if not is_linear(name, operands):", "if False:"),
        (
            "state is always known",
            "            self._known.pop(id(memory), None)\n",
            "            pass\n",
        ),
    ),
    *_in(
        "parallel/gradients.py",
        ("read before it is written", "if not self.written.all():", "if False:"),
        ("another array", "if getattr(layer, name) is not gradient:", "if False:"),
        ("added to a parameter", '"add": lambda a, b: a and b', '"add": lambda a, b: a or b'),
        ("a square", '"multiply": lambda a, b: a != b', '"multiply": lambda a, b: a or b'),
        ("a divisor", '"divide": lambda a, b: a and not b', '"divide": lambda a, b: a != b'),
        ("any number", "return operands[0] == 0", "return True"),
        ("any copy", '"copyto": lambda a: a,', '"copyto": lambda a: True,'),
        (
            "a copy",
            "if written.size and not np.may_share_memory",
            "if False and not np.shares_memory",
        ),
    ),
    *_in(
        "parallel/batch.py",
        ("weights not passed on", "loss.forward(Y, t, *weights)", "loss.forward(Y, t)", 0),
        ("dY not times the count", "        xp.multiply(dY, count, out=dY)\n", ""),
        ("what idles counts", "            xp.copyto(net.grads, 0.0)\n", "            pass\n"),
        (
            "L not times the count",
            "xp.multiply(loss.value, count, out=self._sum)",
            "xp.copyto(self._sum, loss.value)",
        ),
        ("no sum", "        xp.across.allreduce(self.vector)\n", ""),
        ("gradients not divided", "        xp.divide(net.grads, count, out=net.grads)\n", ""),
        (
            "loss not divided",
            "xp.divide(self._sum, count, out=loss.value)",
            "xp.copyto(loss.value, self._sum)",
        ),
        ("weights not counted", "if alike or not share.rows:", "if True:"),
        ("another's rows of dY", "loss.backward()[first : first + rows]", "loss.backward()[:rows]"),
    ),
]


def _of_a_new_layer(path: Path) -> list[Mutation]:
    """Return a mistake in each product of a layer for which nobody has written any."""
    module, text = f"layers/{path.name}", path.read_text(encoding="utf-8")
    n = text.count("xp.multiply(")
    return [
        Mutation(module, f"a sum for a product, {k}", "xp.multiply(", "xp.add(", k)
        for k in range(n)
    ]


WITHOUT = ("base.py", "identity.py", "part.py", "shapes.py")  # nothing is computed there
MUTATIONS = [*LAYERS, *LOSSES, *OPTIMIZERS, *BASE, *NUMPY, *REST, *PROCESSES]
_written = {mutation.module for mutation in MUTATIONS}
for _path in sorted((package() / "layers").glob("[!_]*.py")):
    if _path.name not in WITHOUT and f"layers/{_path.name}" not in _written:
        MUTATIONS += _of_a_new_layer(_path)
# In the kernels; `test_kernels_host.py` compiles each, runs it on the host and must find it.
KERNELS = [
    *_in(
        "backend/common.cuh",
        ("no rest after packs", "<1>(step, n - first,", "<1>(step, packs ? 0 : n,"),
        ("the rest of g from the start", "g + first, (state", "g, (state"),
        ("the rest of the state from the start", "(state + first)...", "state..."),
        ("a pack beyond the end", "n / size : 0", "(n + size - 1) / size : 0"),
        ("g may begin anywhere", "((u64)g | ... |", "(0ULL | ... |"),
        ("the state may begin anywhere", "((u64)g | ... | (u64)state) % 16", "(u64)g % 16"),
        ("two that are not aligned", "((u64)g | ... | (u64)state)", "((u64)g ^ ... ^ (u64)state)"),
        ("packs at multiples of 8", "% 16 == 0", "% 8 == 0"),
        ("one element of a pack", "k < size; k++", "k < 1; k++"),
        ("g the same in a pack", "step(g.of[k], now", "step(g.of[0], now"),
        ("nothing is written", "((state = now), ...);", ""),
    ),
    *_in(
        "backend/kernels.cu",
        ("sgd: the wrong way", "p = p - eta * g;", "p = p + eta * g;"),
        ("momentum: another v", "g + mu * v : v", "g + v : v"),
        ("rmsprop: g not squared", "one_minus_rho * g * g", "one_minus_rho * g"),
        ("adam: v for m", "eta * (m / c1)", "eta * (v / c1)"),
    ),
]

# ---- the worker ----------------------------------------------------------------------------------


class Mutated(SourceFileLoader):
    """Loads a module of xpnet from its text, with the mistake if it is the one that has it."""

    mutation: Mutation | None = None
    compiled: ClassVar[dict[str, CodeType]] = {}  # the modules as they are

    def get_code(self, fullname: str) -> CodeType:
        source, mutation = Path(self.path).read_text(encoding="utf-8"), type(self).mutation
        if mutation is not None and Path(self.path) == file_of(mutation):
            return compile(mutation.apply(source), self.path, "exec")
        if fullname not in self.compiled:
            self.compiled[fullname] = compile(source, self.path, "exec")
        return self.compiled[fullname]


class Finder:
    """Gives the modules of xpnet to `Mutated`, and leaves the others alone."""

    @staticmethod
    def find_spec(name: str, path=None, target=None) -> ModuleSpec | None:
        if name.partition(".")[0] != "xpnet":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Mutated(spec.loader.name, spec.loader.path)
        return spec


@functools.cache
def file_of(mutation: Mutation) -> Path:
    """Return the file that the mistake is put into."""
    path = package() / mutation.module
    if not path.is_dir():
        return path
    found = [file for file in sorted(path.rglob("*.py")) if mutation.old in file.read_text("utf-8")]
    if len(found) != 1:
        raise DoesNotFit(f"{mutation}: the old text is in {len(found)} files")
    return found[0]


def source_of(mutation: Mutation) -> str:
    return file_of(mutation).read_text(encoding="utf-8")


def attempt(mutation: Mutation | None) -> dict[str, str | float]:
    """Import xpnet with the mistake and run the checks; say how it ended."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("xpnet", "kill", "strict_backend", "team", "contract_layers"):
            del sys.modules[name]
    Mutated.mutation = mutation
    start, outcome, error = time.perf_counter(), "survived", ""
    try:
        importlib.import_module("kill").run()
    except BROKEN as raised:
        outcome, error = "broken", repr(raised)
    except Exception as raised:
        outcome, error = "killed", repr(raised)
    return {
        "what": str(mutation),
        "outcome": outcome,
        "error": error[:300],
        "seconds": round(time.perf_counter() - start, 3),
    }


def main(numbers: list[str]) -> None:
    sys.path.insert(0, str(HERE))
    sys.meta_path.insert(0, Finder)
    for k in map(int, numbers or range(len(MUTATIONS))):
        print(json.dumps({"number": k} | attempt(MUTATIONS[k] if k >= 0 else None)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
