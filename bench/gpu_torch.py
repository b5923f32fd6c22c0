"""PyTorch in the comparison with xpnet: ``python bench/gpu_torch.py MODE [--device cpu]``.

The data lie on the device as uint8; an epoch shuffles them there at once, so that a batch is a
slice; the loss is summed there and read once an epoch. ``eager`` takes the fused Adam, which
PyTorch's documentation calls the fastest, ``eager-foreach`` the default one. ``compile`` compiles
forward, loss and backward as one function and the optimizer's step as another,
``compile-forward`` leaves the fused Adam as it is; both by mode="reduce-overhead". ``graph`` is the
whole step, captured by hand. TF32 is off.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import gpu_common as common
import torch
from torch import nn

MODES = ("eager", "eager-foreach", "compile", "compile-forward", "graph")


class Loss(nn.Module):
    """The net and its loss, from pixels: what is compiled."""

    def __init__(self, start, device: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for W, _ in start:
            layers += [nn.Linear(*W.shape, device=device), nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, x, t):
        return nn.functional.cross_entropy(self.net(x / 255), t)


class Contestant:
    """One way to train with PyTorch.

    ``scheduled``: a captured or compiled optimizer finds its rate in a tensor, as it must where
    the rate changes.
    """

    def __init__(
        self, mode, device, X, t, start, *, batch, lr, beta2=0.999, scheduled=False, seed=0
    ) -> None:
        torch.set_float32_matmul_precision("highest")
        torch.manual_seed(seed)
        self.device, self.batch, on_gpu = device, batch, device == "cuda"
        self.X, self.t = (torch.from_numpy(a).to(device) for a in (X, t))
        self.loss = Loss(start, device)
        self.total = torch.zeros((), device=device)
        frozen = mode in ("compile", "graph")  # Adam's numbers are then read on the device
        self.rate = torch.tensor(lr, device=device) if frozen and scheduled else None
        self.optimizer = torch.optim.Adam(
            self.loss.parameters(),
            lr=lr if self.rate is None else self.rate,
            betas=(0.9, beta2),
            fused=True if mode in ("eager", "compile-forward", "graph") else None,
            capturable=frozen and on_gpu,
        )
        self.compute, self.update = self.loss, self.optimizer.step
        self.restart(start)
        if mode.startswith("compile"):
            self.compute = compiled(self.loss, on_gpu)
        if mode == "compile":
            self.update = compiled(lambda: self.optimizer.step(), on_gpu)
        begin = time.perf_counter()
        self.step = self.capture(start) if mode == "graph" else self.work
        self.capture_s = time.perf_counter() - begin

    def restart(self, start) -> None:
        """Go back to these weights, in the same arrays, and forget what Adam remembers."""
        with torch.no_grad():
            for layer, (W, b) in zip(self.loss.net[::2], start, strict=True):
                layer.weight.copy_(torch.from_numpy(W.T.copy()))
                layer.bias.copy_(torch.from_numpy(b))
            for state in self.optimizer.state.values():
                for a in state.values():
                    a.zero_()

    def work(self, x, t) -> None:
        """Take one step."""
        if self.compute is not self.loss:
            torch.compiler.cudagraph_mark_step_begin()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.compute(x, t)
        self.total += loss.detach()
        loss.backward()
        self.update()

    def capture(self, start):
        """Return a step that copies the batch to a fixed place and replays a graph.

        As in PyTorch's notes on CUDA: three steps on a side stream first. Without a GPU the step
        runs as it is, which tests all but the capture.
        """
        x, t = self.X[: self.batch].clone(), self.t[: self.batch].clone()
        graph = torch.cuda.CUDAGraph() if self.device == "cuda" else None
        if graph is not None:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self.work(x, t)
            torch.cuda.current_stream().wait_stream(side)
            self.optimizer.zero_grad(set_to_none=True)
            with torch.cuda.graph(graph):
                self.work(x, t)
            self.restart(start)

        def step(x_now, t_now) -> None:
            x.copy_(x_now)
            t.copy_(t_now)
            if graph is None:
                self.work(x, t)
            else:
                graph.replay()

        return step

    def epoch(self, rates: Sequence[float] | None = None) -> float:
        """Train for an epoch, perhaps with a rate for each step; return the mean loss."""
        order = torch.randperm(len(self.t), device=self.device)
        X, t = self.X[order].split(self.batch), self.t[order].split(self.batch)
        self.total.zero_()
        for i in range(len(X)):
            if rates is not None:
                self.set_rate(rates[i])
            self.step(X[i], t[i])
        return float(self.total) / len(X)

    def set_rate(self, rate: float) -> None:
        if self.rate is None:
            self.optimizer.param_groups[0]["lr"] = rate
        else:
            self.rate.fill_(rate)

    def accuracy(self, X, t) -> float:
        with torch.no_grad():
            Y = self.loss.net(torch.from_numpy(X).to(self.device) / 255)
        return common.accuracy(Y.cpu().numpy(), t)


def compiled(function, on_gpu: bool):
    """Compile a function; without a GPU only its graph is made, which is quick."""
    if on_gpu:
        return torch.compile(function, mode="reduce-overhead")
    return torch.compile(function, backend="aot_eager")


def waiter(device: str):
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def spin(device: str) -> None:
    """Keep a GPU busy for a second."""
    if device == "cuda":
        A = torch.zeros(common.SPIN_SIZE, common.SPIN_SIZE, device=device)
        out = torch.empty_like(A)
        common.spin(lambda: torch.mm(A, A, out=out), waiter(device))


def check(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(f"PyTorch {torch.__version__} finds no usable GPU")


def main() -> None:
    options = common.arguments(__doc__, MODES)
    check(options.device)
    X, t, X_test, t_test = common.mnist(options.quick)
    start = common.weights(common.SIZES)
    peer = Contestant(options.mode, options.device, X, t, start, batch=common.BATCH, lr=common.LR)
    steps = len(X) // common.BATCH
    device = options.device
    found = common.race(peer.epoch, waiter(device), steps, options.quick, lambda: spin(device))
    found["cold_s"] += peer.capture_s
    found["accuracy"] = peer.accuracy(X_test, t_test)
    common.say(found | {"version": torch.__version__, "CUDA": torch.version.cuda})


if __name__ == "__main__":
    main()
