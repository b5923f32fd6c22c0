"""PyTorch in the comparison on the CPU: ``python bench/cpu_torch.py MODE SETTING``.

``eager``, and ``compile``, where the net with its loss is compiled. The data are float32 in memory,
a batch is picked by its rows (a DataLoader takes far longer), the optimizer is the fused one (to
compile its step instead is no faster), the gradients are set to None, and the loss is read once, at
the end.
"""

from __future__ import annotations

from itertools import pairwise

import cpu_common as common
import torch
from torch import nn
from torch.nn import functional

MODES = ("eager", "compile")


class Loss(nn.Module):
    """The net and its loss."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.net, self.binary = nn.Sequential(*layers[:-1]), sizes[-1] == 1

    def forward(self, X, t):
        Y = self.net(X)
        if self.binary:
            return functional.binary_cross_entropy_with_logits(Y, t)
        return functional.cross_entropy(Y, t)


class Contestant:
    def __init__(self, mode: str, task: common.Task) -> None:
        self.task, setting = task, task.setting
        self.X, self.t = torch.from_numpy(task.X), torch.from_numpy(task.t)
        if setting.binary:
            self.t = self.t.float().reshape(-1, 1)
        self.batches = [torch.from_numpy(rows) for rows in task.batches()]
        self.X_test = torch.from_numpy(task.X_test)
        self.whole = len(task.X) == setting.batch
        self.module = Loss(setting.sizes)
        make = torch.optim.SGD if setting.optimizer == "sgd" else torch.optim.Adam
        self.optimizer = make(self.module.parameters(), lr=setting.lr, fused=True)
        self.loss, self.net = self.module, self.module.net
        if mode == "compile":
            self.loss, self.net = torch.compile(self.loss), torch.compile(self.net)

    def restart(self) -> None:
        with torch.no_grad():
            linear = [m for m in self.module.net if isinstance(m, nn.Linear)]
            for layer, (W, b) in zip(linear, self.task.start, strict=True):
                layer.weight.copy_(torch.from_numpy(W.T))
                layer.bias.copy_(torch.from_numpy(b))
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()

    def train(self) -> None:
        X, t, loss, optimizer = self.X, self.t, self.loss, self.optimizer
        total = torch.zeros(())
        for rows in self.batches:
            value = loss(X, t) if self.whole else loss(X[rows], t[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.detach()
        self.total = float(total)

    @torch.inference_mode()
    def predict(self) -> None:
        self.Y = self.net(self.X_test)

    @torch.inference_mode()
    def outputs(self, X):
        return self.module.net(torch.from_numpy(X)).numpy()


def main() -> None:
    mode, task = common.arguments(__doc__, MODES)
    torch.set_num_threads(common.threads())
    common.compete(Contestant(mode, task), f"PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
