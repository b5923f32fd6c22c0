"""Layers that hold the contract of a gradient, see `xpnet.Layer`, and layers that break it.

Each takes ``WIDTH`` features. The derivations are in the docstrings; `test_contract.py` holds them
to numerical slopes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import xpnet

WIDTH, STEPS = 6, 3


class Recurrent(xpnet.Layer):
    """Hₜ = Xₜ W + Hₜ₋₁ U, t = 1 ... 3, H₀ = 0; X has the features of all times; Y = H₃

    dHₜ₋₁ = dHₜ Uᵀ        dW = Σₜ Xₜᵀ dHₜ        dU = Σₜ Hₜ₋₁ᵀ dHₜ
    """

    def __init__(self) -> None:
        super().__init__()
        self.n = WIDTH // STEPS
        self.parameter("W", (self.n, WIDTH), "glorot_uniform")
        self.parameter("U", (WIDTH, WIDTH), "glorot_uniform")

    def build(self, batch_size: int, input_shape: Any, input_gradient: bool) -> None:
        super().build(batch_size, input_shape, input_gradient)
        self.H, self.dH = (
            [self.xp.empty(self.Y.shape, self.dtype) for _ in range(STEPS)] for _ in range(2)
        )

    def times(self, X: Any) -> list[Any]:
        return [X[:, self.n * t : self.n * (t + 1)] for t in range(STEPS)]

    def forward(self, X: Any) -> Any:
        self.X, xp, n = X, self.xp, len(X)
        for t, Xt in enumerate(self.times(X)):
            H = xp.matmul(Xt, self.W, out=self.H[t][:n])
            if t:
                xp.add_matmul(self.H[t - 1][:n], self.U, out=H)
        return H

    def backward(self, dY: Any) -> Any:
        xp, n = self.xp, len(dY)
        dH = dY
        for t, Xt in reversed(list(enumerate(self.times(self.X)))):
            last, first = t == STEPS - 1, t == 0
            (xp.matmul if last else xp.add_matmul)(Xt.T, dH, out=self.dW)
            if not first:
                (xp.matmul if last else xp.add_matmul)(self.H[t - 1][:n].T, dH, out=self.dU)
            if self.dX is not None:
                xp.matmul(dH, self.W.T, out=self.times(self.dX[:n])[t])
            dH = xp.matmul(dH, self.U.T, out=self.dH[t][:n])
        return None if self.dX is None else self.dX[:n]


class Tied(xpnet.Layer):
    """H = X W, Y = H Wᵀ + c: an autoencoder whose two matrices are one

    dH = dY W        dW = Xᵀ dH + dYᵀ H        dc = Σᵢ dYᵢ        dX = dH Wᵀ
    """

    def __init__(self) -> None:
        super().__init__()
        self.parameter("W", (WIDTH, 4), "glorot_uniform")
        self.parameter("c", (WIDTH,), "normal")

    def build(self, batch_size: int, input_shape: Any, input_gradient: bool) -> None:
        super().build(batch_size, input_shape, input_gradient)
        self.H, self.dH = (self.xp.empty((batch_size, 4), self.dtype) for _ in range(2))

    def forward(self, X: Any) -> Any:
        self.X, xp, n = X, self.xp, len(X)
        xp.matmul(X, self.W, out=self.H[:n])
        Y = xp.matmul(self.H[:n], self.W.T, out=self.Y[:n])
        return xp.add(Y, self.c, out=Y)

    def backward(self, dY: Any) -> Any:
        xp, n = self.xp, len(dY)
        dH = xp.matmul(dY, self.W, out=self.dH[:n])
        with xp.off_path():
            xp.sum(dY, axis=0, out=self.dc)
            xp.matmul(self.X.T, dH, out=self.dW)
            xp.add_matmul(dY.T, self.H[:n], out=self.dW)
        return None if self.dX is None else xp.matmul(dH, self.W.T, out=self.dX[:n])


class Heads(xpnet.Layer):
    """Two blocks side by side: Y = (X₁ W[:3], X₂ W[3:]) + b; each piece of dW is written alone"""

    def __init__(self) -> None:
        super().__init__()
        self.parameter("W", (WIDTH, WIDTH // 2), "glorot_uniform")
        self.parameter("b", (2, WIDTH // 2), "normal")

    def halves(self, A: Any) -> list[tuple[int, Any]]:
        half = WIDTH // 2
        return [(k, A[:, half * k : half * (k + 1)]) for k in range(2)]

    def rows(self, A: Any, k: int) -> Any:
        half = WIDTH // 2
        return A[half * k : half * (k + 1)]

    def forward(self, X: Any) -> Any:
        self.X, xp, n = X, self.xp, len(X)
        Y = self.Y[:n]
        for (k, x), (_, y) in zip(self.halves(X), self.halves(Y), strict=True):
            xp.matmul(x, self.rows(self.W, k), out=y)
            xp.add(y, self.b[k], out=y)
        return Y

    def backward(self, dY: Any) -> Any:
        xp, n = self.xp, len(dY)
        for (k, x), (_, dy) in zip(self.halves(self.X), self.halves(dY), strict=True):
            xp.matmul(x.T, dy, out=self.rows(self.dW, k))
            xp.sum(dy, axis=0, out=self.db[k])
            if self.dX is not None:
                xp.matmul(dy, self.rows(self.W, k).T, out=self.halves(self.dX[:n])[k][1])
        return None if self.dX is None else self.dX[:n]


class Bend(xpnet.Layer):
    """Y = X + a X²        da = Σᵢ dYᵢ Xᵢ², term by term        dX = dY (1 + 2 a X)"""

    def __init__(self) -> None:
        super().__init__()
        self.parameter("a", (WIDTH,), "normal")

    def build(self, batch_size: int, input_shape: Any, input_gradient: bool) -> None:
        super().build(batch_size, input_shape, input_gradient)
        self.work = self.xp.empty(self.Y.shape, self.dtype)

    def forward(self, X: Any) -> Any:
        self.X, xp = X, self.xp
        Y = xp.multiply(X, X, out=self.Y[: len(X)])
        xp.multiply(Y, self.a, out=Y)
        return xp.add(Y, X, out=Y)

    def terms(self, dY: Any) -> Any:
        """dY X²"""
        terms = self.xp.multiply(dY, self.X, out=self.work[: len(dY)])
        return self.xp.multiply(terms, self.X, out=terms)

    def write(self, dY: Any) -> None:
        self.xp.sum(self.terms(dY), axis=0, out=self.da)

    def backward(self, dY: Any) -> Any:
        self.write(dY)
        if self.dX is None:
            return None
        xp, dX = self.xp, self.dX[: len(dY)]
        xp.multiply(self.X, self.a, out=dX)
        xp.multiply(dX, 2.0, out=dX)
        xp.add(dX, 1.0, out=dX)
        return xp.multiply(dX, dY, out=dX)


class Gated(xpnet.Layer):
    """Y = X (V · G)        P = Xᵀ dY,  dV = P · G,  dG = P · V        dX = dY (V · G)ᵀ"""

    def __init__(self) -> None:
        super().__init__()
        for name in "VG":
            self.parameter(name, (WIDTH, WIDTH), "normal")

    def build(self, batch_size: int, input_shape: Any, input_gradient: bool) -> None:
        super().build(batch_size, input_shape, input_gradient)
        self.W = self.xp.empty((WIDTH, WIDTH), self.dtype)

    def forward(self, X: Any) -> Any:
        self.X, xp = X, self.xp
        xp.multiply(self.V, self.G, out=self.W)
        return xp.matmul(X, self.W, out=self.Y[: len(X)])

    def backward(self, dY: Any) -> Any:
        xp = self.xp
        xp.matmul(self.X.T, dY, out=self.dG)
        xp.multiply(self.dG, self.G, out=self.dV)
        xp.multiply(self.dG, self.V, out=self.dG)
        return None if self.dX is None else xp.matmul(dY, self.W.T, out=self.dX[: len(dY)])


class Powers(xpnet.Layer):
    """Y = a₀ X + a₁ X³        da begins with 0 and gets the terms of some features at a time"""

    def __init__(self) -> None:
        super().__init__()
        self.parameter("a", (2,), "ones")

    def build(self, batch_size: int, input_shape: Any, input_gradient: bool) -> None:
        super().build(batch_size, input_shape, input_gradient)
        self.cube = self.xp.empty(self.Y.shape, self.dtype)
        self.work = self.xp.empty(self.Y.shape, self.dtype)

    def forward(self, X: Any) -> Any:
        self.X, xp, n = X, self.xp, len(X)
        cube, Y = xp.multiply(X, X, out=self.cube[:n]), self.Y[:n]
        xp.multiply(cube, X, out=cube)
        xp.multiply(cube, self.a[1:], out=Y)
        linear = xp.multiply(X, self.a[:1], out=self.work[:n])
        return xp.add(Y, linear, out=Y)

    def backward(self, dY: Any) -> Any:
        xp, n, work = self.xp, len(dY), self.work[: len(dY)]
        xp.copyto(self.da, 0.0)
        for k, A in enumerate((self.X, self.cube[:n])):
            terms = xp.multiply(dY, A, out=work)
            for features in (terms[:, :4], terms[:, 4:]):
                xp.add_sum(features, out=self.da[k : k + 1].reshape(()))
        if self.dX is None:
            return None
        dX = xp.multiply(self.X, self.X, out=self.dX[:n])
        xp.multiply(dX, 3.0, out=dX)
        xp.multiply(dX, self.a[1:], out=dX)
        xp.add(dX, self.a[:1], out=dX)
        return xp.multiply(dX, dY, out=dX)


class Masked(xpnet.Layer):
    """Y = X (W · M) / √2        dW = Xᵀ dY · M / √2, where the mask M is state

    X is kept transposed, as a contiguous array; the work of one gradient serves the other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parameter("W", (WIDTH, WIDTH), "normal")
        self.parameter("b", (WIDTH,), "normal")

    def initial_state(self, random: Any) -> Any:
        return {"M": np.tri(WIDTH)}

    def build(self, batch_size: int, input_shape: Any, input_gradient: bool) -> None:
        super().build(batch_size, input_shape, input_gradient)
        self.masked = self.xp.empty((WIDTH, WIDTH), self.dtype)
        self.work = self.xp.empty(self.Y.shape, self.dtype)

    def forward(self, X: Any) -> Any:
        xp = self.xp
        self.Xt = xp.copyto(xp.empty((WIDTH, len(X)), self.dtype), X.T)
        xp.multiply(self.W, self.state["M"], out=self.masked)
        xp.divide(self.masked, np.sqrt(2.0), out=self.masked)
        Y = xp.matmul(X, self.masked, out=self.Y[: len(X)])
        return xp.add(Y, self.b, out=Y)

    def backward(self, dY: Any) -> Any:
        xp, work = self.xp, self.work[: len(dY)]
        xp.matmul(self.Xt, dY, out=self.dW)
        xp.multiply(self.dW, self.state["M"], out=self.dW)
        xp.divide(self.dW, np.sqrt(2.0), out=self.dW)
        xp.sum(dY, axis=0, out=work[0])  # of no use, and then overwritten
        xp.copyto(self.work, 0.0)
        xp.sum(xp.add(work, dY, out=work), axis=0, out=self.db.ravel())
        xp.copyto(self.db[WIDTH:], 0.0)  # nothing
        return None if self.dX is None else xp.matmul(dY, self.masked.T, out=self.dX[: len(dY)])


KEEP_THE_CONTRACT = (Recurrent, Tied, Heads, Bend, Gated, Powers, Masked)


# ---- what cannot be right where each process has some of the samples -----------------------------


class PastThePrimitives(Bend):
    def write(self, dY: Any) -> None:
        self.da[...] = self.terms(dY).sum(axis=0)


class InPlace(Bend):
    def write(self, dY: Any) -> None:
        self.xp.sum(self.terms(dY), axis=0, out=self.da)
        self.da *= 1.0


class ByTheModule(Bend):
    def write(self, dY: Any) -> None:
        self.xp.module.sum(self.terms(dY), axis=0, out=self.da)


class AsAnArray(Bend):
    def write(self, dY: Any) -> None:
        self.xp.sum(self.terms(dY), axis=0, out=self.da)
        self.norm = self.da.max()


class FromASumOfItsOwn(Bend):
    def write(self, dY: Any) -> None:
        own = self.xp.sum(self.terms(dY), axis=0, out=self.xp.empty(WIDTH, self.dtype))
        self.xp.copyto(self.da, own)


class AddsItself(Bend):
    def write(self, dY: Any) -> None:
        xp, terms = self.xp, self.terms(dY)
        xp.sum(terms[:, :4], axis=0, out=self.da[:4])
        xp.sum(terms[:, 4:], axis=0, out=self.da[4:])
        own = xp.sum(terms, axis=0, out=xp.empty(WIDTH, self.dtype))
        xp.add(self.da, own, out=self.da)


class OnlyAPiece(Bend):
    def write(self, dY: Any) -> None:
        self.xp.sum(self.terms(dY)[:, :4], axis=0, out=self.da[:4])


class AddsInPlace(Bend):
    def write(self, dY: Any) -> None:
        self.da += self.terms(dY).sum(axis=0)


class AddsToTheOld(Bend):
    def write(self, dY: Any) -> None:
        self.xp.add_sum(self.terms(dY), axis=0, out=self.da)


class AnotherArray(Bend):
    def write(self, dY: Any) -> None:
        self.da = self.terms(dY).sum(axis=0)


class ByAnotherName(Bend):
    def bind(self, xp: Any, params: Any, grads: Any) -> None:
        super().bind(xp, params, grads)
        self.mine = self.da

    def write(self, dY: Any) -> None:
        self.xp.sum(self.terms(dY), axis=0, out=self.mine)


class ReplacedAfterwards(Bend):
    def write(self, dY: Any) -> None:
        super().write(dY)
        self.da = self.terms(dY).sum(axis=0)


class AddsToACopy(Bend):
    def write(self, dY: Any) -> None:
        super().write(dY)
        self.xp.add_sum(self.terms(dY)[:, :2], axis=0, out=self.da[[0, 1]])


class AddsByAnotherName(ByAnotherName):
    def write(self, dY: Any) -> None:
        self.xp.sum(self.terms(dY), axis=0, out=self.da)
        self.xp.add_sum(self.terms(dY), axis=0, out=self.mine)


class SumOfASum(xpnet.Layer):
    """Y = a X with one a for all, where da is formed from a sum of the layer's own"""

    def __init__(self) -> None:
        super().__init__()
        self.parameter("a", (1,), "normal")

    def forward(self, X: Any) -> Any:
        self.X = X
        return self.xp.multiply(X, self.a, out=self.Y[: len(X)])

    def own(self, dY: Any) -> Any:
        xp, terms = self.xp, self.xp.empty(dY.shape, self.dtype)
        xp.multiply(dY, self.X, out=terms)
        return xp.sum(terms, axis=0, out=xp.empty(WIDTH, self.dtype))

    def backward(self, dY: Any) -> None:
        self.xp.sum(self.own(dY), out=self.da.reshape(()))


class ScaledSum(SumOfASum):
    def backward(self, dY: Any) -> None:
        xp = self.xp
        scaled = xp.multiply(self.own(dY), 1.0, out=xp.empty(WIDTH, self.dtype))
        xp.sum(scaled.reshape(-1, 1), axis=0, out=self.da)


class HalfTheSamples(Bend):
    def write(self, dY: Any) -> None:
        terms, half = self.terms(dY), (len(dY) + 1) // 2
        self.xp.sum(terms[:half], axis=0, out=self.da)
        self.xp.add_sum(terms[half:], axis=0, out=self.da)


class HalfTheProducts(xpnet.Linear):
    broken = "dW"

    def __init__(self) -> None:
        super().__init__(WIDTH, WIDTH)

    def backward(self, dY: Any) -> None:
        xp, half = self.xp, (len(dY) + 1) // 2
        xp.sum(dY, axis=0, out=self.db)
        xp.matmul(self.X[:half].T, dY[:half], out=self.dW)
        xp.add_matmul(self.X[half:].T, dY[half:], out=self.dW)


class ByMean(Bend):
    def write(self, dY: Any) -> None:
        self.xp.mean(self.a.reshape(1, -1), axis=0, out=self.da)


class ByAffine(Bend):
    def write(self, dY: Any) -> None:
        ones, zero = self.xp.empty((1, len(dY)), self.dtype), self.xp.zeros(WIDTH, self.dtype)
        self.xp.copyto(ones, 1.0)
        self.xp.affine(ones, self.terms(dY), zero, out=self.da.reshape(1, -1))


class OverTheFeatures(Bend):
    def write(self, dY: Any) -> None:
        self.xp.sum(self.xp.module.ascontiguousarray(self.terms(dY).T), axis=1, out=self.da)


class ThroughACopy(Bend):
    def write(self, dY: Any) -> None:
        self.xp.sum(self.terms(dY), axis=0, out=self.da[[5, 4, 3, 2, 1, 0]])


class LowRank(xpnet.Layer):
    """Y = X U V, where dU = (Xᵀ dY) Vᵀ is formed from a sum of the layer's own"""

    broken = "dU"

    def __init__(self) -> None:
        super().__init__()
        self.parameter("U", (WIDTH, 4), "normal")
        self.parameter("V", (4, WIDTH), "normal")

    def forward(self, X: Any) -> Any:
        self.X, xp = X, self.xp
        self.H = xp.matmul(X, self.U, out=xp.empty((len(X), 4), self.dtype))
        return xp.matmul(self.H, self.V, out=self.Y[: len(X)])

    def backward(self, dY: Any) -> Any:
        xp = self.xp
        xp.matmul(self.H.T, dY, out=self.dV)
        own = xp.matmul(self.X.T, dY, out=xp.empty((WIDTH, WIDTH), self.dtype))
        xp.matmul(own, self.V.T, out=self.dU)


class OfSumsOfItsOwn(xpnet.Layer):
    """Y = X + 0 M        with a gradient of M that is a product of two sums of the layer's own"""

    broken = "dM"

    def __init__(self) -> None:
        super().__init__()
        self.parameter("M", (WIDTH, WIDTH), "normal")

    def forward(self, X: Any) -> Any:
        self.X = X
        return X

    def backward(self, dY: Any) -> Any:
        xp = self.xp
        own = xp.matmul(self.X.T, self.X, out=xp.empty((WIDTH, WIDTH), self.dtype))
        xp.matmul(own.T, own, out=self.dM)


class WithLinear(xpnet.Linear):
    """A `Linear` that goes on after its sums."""

    broken = "dW"

    def __init__(self) -> None:
        super().__init__(WIDTH, WIDTH)

    def backward(self, dY: Any) -> Any:
        dX = super().backward(dY)
        self.go_on()
        return dX

    def go_on(self) -> None:
        raise NotImplementedError


class Limited(WithLinear):
    def go_on(self) -> None:
        self.xp.minimum(self.dW, 0.001, out=self.dW)


class Penalised(WithLinear):
    def go_on(self) -> None:
        self.xp.add(self.dW, self.W, out=self.dW)


class Squared(WithLinear):
    def go_on(self) -> None:
        self.xp.multiply(self.dW, self.dW, out=self.dW)


class Inverted(WithLinear):
    def go_on(self) -> None:
        self.xp.divide(self.W, self.dW, out=self.dW)


class NumberIn(WithLinear):
    def go_on(self) -> None:
        self.xp.copyto(self.dW, 1.0)


class ParameterIn(WithLinear):
    def go_on(self) -> None:
        self.xp.copyto(self.dW, self.W)


class ProductOfParameters(WithLinear):
    def go_on(self) -> None:
        self.xp.matmul(self.W.T, self.W, out=self.dW)


class ProductOfGradients(WithLinear):
    def go_on(self) -> None:
        self.xp.matmul(self.dW, self.dW.T, out=self.dW)


class SumOfAParameter(WithLinear):
    broken = "db"

    def go_on(self) -> None:
        self.xp.sum(self.W, axis=0, out=self.db)


class StateForWork(Gated):
    """P = Xᵀ dY in the state, which is what all processes have alike only until then"""

    broken = "dV"

    def initial_state(self, random: Any) -> Any:
        return {"P": np.zeros((WIDTH, WIDTH))}

    def backward(self, dY: Any) -> Any:
        xp, P = self.xp, self.state["P"]
        xp.matmul(self.X.T, dY, out=P)
        xp.multiply(P, self.G, out=self.dV)
        xp.multiply(P, self.V, out=self.dG)
        return None if self.dX is None else xp.matmul(dY, self.W.T, out=self.dX[: len(dY)])


class TwelveRows(Bend):
    """12 rows of terms, of however many samples: 3 for each of 4 samples, 4 for each of 3."""

    def write(self, dY: Any) -> None:
        terms = self.xp.zeros((12, WIDTH), self.dtype)
        self.xp.copyto(terms[: len(dY)], self.terms(dY))
        self.xp.sum(terms, axis=0, out=self.da)


class Hidden(xpnet.Layer):
    """A layer that holds another one, and does not say so by ``walk``."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Bend()

    size = property(lambda self: self.inner.size)  # type: ignore[assignment]

    def initial_values(self, random: Any) -> Any:
        return self.inner.initial_values(random)

    def bind(self, *args: Any) -> None:
        self.inner.bind(*args)
        super().bind(*args)

    def build(self, *args: Any) -> None:
        self.inner.build(*args)

    def forward(self, X: Any) -> Any:
        return self.inner.forward(X)

    def backward(self, dY: Any) -> Any:
        return self.inner.backward(dY)


NOT_LINEAR = "with operands after which it is not linear in dY"
BREAK_THE_CONTRACT = {
    PastThePrimitives: "written or read past the primitives",
    InPlace: "written or read past the primitives",
    ByTheModule: "written or read past the primitives",
    AsAnArray: "written or read past the primitives",
    FromASumOfItsOwn: "written by xp.copyto with an array that may be another one on each process",
    AddsItself: "written by xp.add with an array that may be another one on each process",
    OnlyAPiece: "needed before this backward pass has written all of it, such as [4]",
    AddsToTheOld: "added to before this backward pass has written all of it, such as [0]",
    AddsInPlace: "added to before this backward pass has written all of it, such as [0]",
    AnotherArray: "written or read past the primitives",
    ByAnotherName: "written through a view that was kept from before the pass",
    AddsByAnotherName: "written through a view that was kept from before the pass",
    SumOfASum: "is a sum over axis None of an array of shape (6,), not over axis 0",
    ScaledSum: "is a sum over axis 0 of an array of shape (6, 1), not over axis 0",
    HalfTheSamples: "is a sum over axis 0 of an array of shape",
    HalfTheProducts: "is a product of the shapes (6, ",
    ByAffine: "written by xp.affine, which is no sum over the samples",
    ByMean: "written by xp.mean, which is no sum over the samples",
    OverTheFeatures: "a sum over axis 1 of an array of shape (6,",
    ThroughACopy: "written through a copy",
    ReplacedAfterwards: "written or read past the primitives",
    AddsToACopy: "written through a copy",
    LowRank: "is not Xᵀ dY",
    Limited: "written by xp.minimum, which is no sum over the samples",
    Penalised: f"written by xp.add {NOT_LINEAR}",
    Squared: f"written by xp.multiply {NOT_LINEAR}",
    Inverted: f"written by xp.divide {NOT_LINEAR}",
    NumberIn: f"written by xp.copyto {NOT_LINEAR}",
    ParameterIn: f"written by xp.copyto {NOT_LINEAR}",
    ProductOfParameters: f"written by xp.matmul {NOT_LINEAR}",
    ProductOfGradients: f"written by xp.matmul {NOT_LINEAR}",
    SumOfAParameter: f"written by xp.sum {NOT_LINEAR}",
    StateForWork: "written by xp.multiply with an array that may be another one on each process",
    OfSumsOfItsOwn: "is not Xᵀ dY",
}
