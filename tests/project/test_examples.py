"""The examples: what each is, that it runs, and that what it claims is so."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import data, golden
from xpnet.data.mnist import find_mnist
from xpnet.parallel.launch import environment, start

plt = pytest.importorskip("matplotlib.pyplot", reason="the examples draw with matplotlib")

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py"))
FAST = {"mnist": 1, "mnist_parallel": 1, "spiral": 1, "grid_search": 8}  # epochs; 2 of all others
PUBLISHED = [0.5321, 0.3786, 0.3333, 0.3089, 0.2916, 0.2776, 0.2649]  # at 100, 200 ... 700


def source(name):
    return (FOLDER / f"{name}.py").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _without_a_screen(monkeypatch):
    before = plt.get_backend()
    plt.switch_backend("agg")
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("an example opens a window"))
    yield
    plt.close("all")
    plt.switch_backend(before)


def execute(text, *arguments):
    """Run a text as a script with arguments; return its names and what it has printed."""
    names, printed, before = {"__name__": "__main__"}, StringIO(), sys.argv
    sys.argv = ["example.py", *map(str, arguments)]
    try:
        with xpnet.use_backend("numpy"), redirect_stdout(printed):
            exec(compile(text, "example.py", "exec"), names)
    finally:
        sys.argv = before
    return names, printed.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run an example in an empty folder, each only once; return names, what was printed, folder."""
    done = {}

    def run(name, *arguments):
        mnist = find_mnist()
        if name in ("find_the_bug", "mnist", "mnist_parallel") and mnist is None:
            pytest.skip("needs MNIST in the folder that XPNET_DATA names")
        if name in ("compare_with_autograd", "from_pytorch"):
            pytest.importorskip("torch", reason="compares with PyTorch")
        if name == "from_pytorch":
            pytest.importorskip("onnx", reason="writes an ONNX file")
        if (name, arguments) not in done:
            folder = tmp_path_factory.mktemp(name)
            with pytest.MonkeyPatch.context() as patch:
                if mnist:  # in another folder a relative path is none
                    patch.setenv("XPNET_DATA", str(mnist.resolve()))
                patch.chdir(folder)
                done[name, arguments] = *execute(source(name), *arguments), folder
            assert plt.get_fignums(), "the figures stay open, for the gallery"
        return done[name, arguments]

    return run


# ---- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_has_a_title_a_text_and_cells(name):
    lines = source(name).splitlines()
    assert len(lines) < 60
    assert lines[0].startswith('"""')
    assert re.fullmatch("=+", lines[1])
    assert len(lines[1]) >= len(lines[0].removeprefix('"""'))  # else Sphinx warns
    assert lines[2] == ""
    assert re.match("[A-Z0-9]", lines[3])
    cells = [i for i, line in enumerate(lines) if line == "# %%"]
    assert len(cells) >= 2
    assert all(re.match("# [A-Z0-9]", lines[i + 1]) for i in cells)


@pytest.mark.thorough(but=["first_steps", "by_hand", "xor"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_leaves_what_it_says(name, run):
    _, printed, folder = run(name, FAST.get(name, 2))
    said = set(re.findall(r"\w+\.(?:png|html|onnx)", printed))
    assert f"{name}.png" in said
    assert {path.name for path in folder.iterdir()} == said
    assert all((folder / file).stat().st_size > 5000 for file in said)


# ---- what they claim -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["and", "xor"])
def test_a_gate_is_learnt(name, run):
    names, *_ = run(name)
    Y = names["net"].predict(names["X"])[:, 0]
    assert np.abs(Y - names["t"]).max() < 0.1


def test_the_line_of_the_and_gate_is_the_border(run):
    names, *_ = run("and")
    x1 = np.array([0.2, 0.9])
    x2 = -(names["w1"] * x1 + names["b"]) / names["w2"]
    assert names["net"].predict(np.stack([x1, x2], axis=1)) == pytest.approx(0.5, abs=1e-5)


def test_the_loss_of_xor_stands_still_for_3000_epochs(run):
    losses = run("xor")[0]["trainer"].history["loss"]
    assert losses[3000] > 0.2
    assert losses[-1] < 0.002


@pytest.mark.thorough
def test_the_curve_is_found_behind_the_noise(run):
    history = run("curve")[0]["history"]
    assert history["val_r2"][-1] > 0.99
    assert history["loss"][-1] == pytest.approx(0.01, rel=0.2)  # the variance of the noise
    assert history["val_loss"][-1] < 0.1 * history["loss"][-1]


@pytest.mark.thorough
def test_the_surface_is_found(run):
    names, *_ = run("surface")
    assert names["result"]["rmse"] < 0.02
    X, t = data.surface_grid(5)
    assert names["truth"](X) == pytest.approx(t)
    assert names["difference"](X) == pytest.approx(names["net"].predict(X) - t)


@pytest.mark.thorough
def test_the_search_finds_a_network_that_is_good_on_new_digits(run):
    names, *_ = run("grid_search", FAST["grid_search"])
    assert names["table"].shape == (3, 3)
    assert names["table"].max() == names["search"].best_score_
    assert names["best"].hidden_layer_sizes > 8
    assert names["reached"] > 0.95


def test_the_spirals_are_told_apart():
    names, printed = execute(source("spiral").partition("# %%\n# Where")[0])
    assert [float(x) > 99 for x in re.findall(r"accuracy (\S+)%", printed)] == [True, True]
    assert names["recorder"].epochs[0] == 0
    assert names["recorder"].epochs[-1] == 300


@pytest.mark.thorough
def test_the_film_of_the_spirals_has_a_slider(run):
    folder = run("spiral", FAST["spiral"])[2]
    assert 'type="range"' in (folder / "spiral.html").read_text(encoding="utf-8")


def test_the_first_steps_end_where_the_readme_does(run):
    _, printed, _ = run("first_steps")
    assert "test accuracy 97" in printed
    assert "predicted [5 2 5 1 5" in printed
    by_hand = float(re.findall("last batch (.*)", printed)[0])
    assert by_hand < 0.3


@pytest.mark.thorough
def test_mnist_gets_more_than_90_of_100_right_in_an_epoch(run):
    names, *_ = run("mnist", FAST["mnist"])
    assert names["trainer"].history["val_accuracy"][-1] > 0.9


def test_the_layer_of_your_own_is_checked_and_learns(run):
    names, printed, _ = run("add_a_layer")
    assert names["report"].ok
    assert names["report"]["1.a"].numerical != 0
    assert "accuracy 100" in printed
    assert np.ptp(names["net"].layers[1].a) > 0.1  # the slopes have been trained


def test_the_gradients_by_hand_are_those_of_xpnet_and_the_slopes_of_the_loss(run):
    names, printed, _ = run("by_hand", 2)
    (largest,) = re.findall(r"gradient: (\S+)", printed)
    assert float(largest) < 1e-12
    X, T, forward = names["X"], names["T"], names["forward"]

    def loss():
        return -(T * np.log(forward(X)[2])).sum() / len(X)

    gradients = names["backward"](*forward(X))
    for W, dW in zip(names["parameters"], gradients, strict=True):
        place = np.unravel_index(np.abs(dW).argmax(), dW.shape)
        value, h = W[place], 1e-5
        W[place] = value + h
        up = loss()
        W[place] = value - h
        down = loss()
        W[place] = value
        assert dW[place] == pytest.approx((up - down) / (2 * h), rel=1e-6)


@pytest.mark.thorough
def test_the_network_by_hand_learns(run):
    names, *_ = run("by_hand", 200)
    assert names["accuracy"] > 0.9
    assert names["losses"][-1] < 0.1 * names["losses"][0]


# ---- autograd ------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_by_hand_and_autograd_differ_by_rounding(run):
    names, *_ = run("compare_with_autograd", 300)
    assert names["ours"][-1] < 0.5 * names["ours"][0]
    assert names["difference"].max() < 1e-13
    twins = names["twin"].parameters()
    for ours, twin in zip(names["net"].state_dict().values(), twins, strict=True):
        assert np.abs(ours.T - twin.detach().numpy()).max() < 1e-12


@pytest.mark.parametrize("name", ["compare_with_autograd", "from_pytorch"])
def test_without_pytorch_the_comparison_says_so(name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit) as end:
        exec(compile(source(name), "example.py", "exec"), {})
    assert not end.value.code
    assert capsys.readouterr().out.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_what_pytorch_has_learnt_is_here_and_in_the_file(run):
    names, printed, _ = run("from_pytorch", 150)
    assert float(re.findall(r"accuracy (\S+)%", printed)[0]) > 95
    assert np.ptp(names["ours"]) > 5
    assert names["ours"] == pytest.approx(names["theirs"], abs=1e-4)
    assert names["found"] == pytest.approx(names["ours"], abs=1e-4)


# ---- the mistakes --------------------------------------------------------------------------------


def test_the_gradient_check_names_both_mistakes():
    names, printed = execute(source("find_the_bug").partition("# %%\n# The notebook")[0])
    first, second = printed.strip().split("\n\n")
    assert first.endswith("NOT right")
    assert second.endswith("NOT right")
    assert "backward changed 0.W and 2.W: update a parameter only after" in first
    assert "a sum over the samples where the loss is their mean" in second
    right, mistakes = (xpnet.Linear, xpnet.CrossEntropy), (names["TooEarly"], names["Summed"])
    for k in range(3):  # the first, the second, and none
        layer, loss = (mistakes[i] if i == k else right[i] for i in range(2))
        net = xpnet.Sequential(layer(5, 7), xpnet.ReLU(), layer(7, 3), xpnet.Softmax())
        assert xpnet.gradcheck(net, loss(), names["X"], names["t"]).ok == (k == 2)


def notebook(X, t, too_early):
    """The first step of the notebook in plain NumPy: the losses before and after it."""
    random, layers, losses = np.random.RandomState(42), [], []
    for n_in, n_out in ((784, 64), (64, 32), (32, 10)):
        W = random.randn(n_out, n_in) * np.sqrt(1 / n_in)
        layers.append((W.T.copy(), random.randn(n_out, 1).ravel()))
    for _ in range(2):
        A, inputs = X, []
        for k, (W, b) in enumerate(layers):
            inputs.append(A)
            Z = A @ W + b
            A = np.maximum(Z, 0) if k < 2 else np.exp(Z)
        P = A / A.sum(axis=1, keepdims=True)
        losses.append(-np.mean(np.log(P[np.arange(len(t)), t] + 1e-8)))
        dZ = (P - np.eye(10)[t]) / len(X)
        for k in (2, 1, 0):
            (W, b), A, before = layers[k], inputs[k], layers[k][0].copy()
            W -= 0.1 * A.T @ dZ
            b -= 0.1 * dZ.sum(axis=0)
            if k:
                dZ = dZ @ (W if too_early else before).T * (A > 0)
    return losses


@pytest.mark.thorough
def test_the_notebook_and_its_mistake_are_those_of_the_notebook(run):
    names, printed, _ = run("find_the_bug", 2)
    early, right = names["early"], names["right"]
    assert early[0] == right[0] == pytest.approx(3.1170, abs=5e-5)
    assert abs(early[2] - right[2]) > 1e-3
    assert f"2: {early[2]:.6f} and {right[2]:.6f}" in printed
    X, t, *_ = data.load_mnist(download=False)
    X = X / 255
    assert early[:2] == pytest.approx(notebook(X, t, too_early=True), rel=1e-6)
    assert right[:2] == pytest.approx(notebook(X, t, too_early=False), rel=1e-6)
    assert abs(early[1] - right[1]) > 1e-4  # what the two lines above tell apart


def test_the_published_losses_stand_beside_those_found(monkeypatch, tmp_path, capsys):
    """The last cell, with made-up losses: 700 iterations take minutes."""
    monkeypatch.chdir(tmp_path)
    cell = source("find_the_bug").rpartition("# %%\n")[2]
    early, right = np.linspace(1, 0.3, 701), np.linspace(2, 0.2, 701)
    names = {"iterations": 700, "losses": [early, right], "plt": plt, "np": np}
    exec(compile(cell, "example.py", "exec"), names)
    assert capsys.readouterr().out.splitlines()[:7] == [
        f"{i}: loss {early[i]:.4f}, published {published}, right {right[i]:.4f}"
        for i, published in zip(range(100, 701, 100), PUBLISHED, strict=True)
    ]


# ---- the same bits -------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("steps", [2, 200])
def test_the_hash_is_the_golden_one(run, steps):
    names, printed, _ = run("cpu_or_gpu", steps)
    sha, known = names["nets"]["numpy"].sha256(), golden.golden_trace(names["recipe"])
    assert sha[: golden.DIGITS] == known.phases["update"][steps - 1]
    if steps == golden.STEPS:
        assert sha == known.sha256["update"]
    assert f"numpy    {sha}" in printed
    if "cupy" not in xpnet.available_backends():
        assert "no GPU can be used here; any GPU has to give this hash" in printed


def test_another_hash_is_an_error(monkeypatch):
    """A gradient that is off in its last bit."""
    slope = xpnet.Huber.slope

    def off(self, Y, T, out):
        slope(self, Y, T, out)
        self.xp.multiply(out, 1 + 2.0**-23, out=out)

    monkeypatch.setattr(xpnet.Huber, "slope", off)
    with pytest.raises(SystemExit, match="the hashes differ"):
        execute(source("cpu_or_gpu"), 2)


@pytest.mark.thorough
@pytest.mark.usefixtures("mpi")
def test_two_processes_print_once_the_same_hash_twice(tmp_path):
    mnist = find_mnist()
    if mnist is None:
        pytest.skip("needs MNIST in the folder that XPNET_DATA names")
    package = Path(xpnet.__file__).parent.parent
    of_both = {"XPNET_DATA": str(mnist.resolve()), "PYTHONPATH": str(package), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [*start(2), str((FOLDER / "mnist_parallel.py").resolve()), "1"],
        cwd=tmp_path, env={**environment(2), **of_both}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = re.findall(r"processes: (\d)  accuracy: (\S+)%  (\w{64})\n", done.stdout)
    assert [size for size, *_ in found] == ["1", "2"]
    assert found[0][1:] == found[1][1:]
    assert float(found[0][1]) > 85
    assert (tmp_path / "mnist_parallel.png").stat().st_size > 5000
