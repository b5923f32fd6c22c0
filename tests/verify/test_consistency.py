"""The consistency check: right backends agree bit by bit, and each mistake is found and named."""

from __future__ import annotations

import copy
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import STRICT

import xpnet
from xpnet import golden
from xpnet.backend import NumPyBackend, find_backend
from xpnet.backend.registry import KINDS
from xpnet.backend.reproducible import Reproducible
from xpnet.support.errors import BackendError, OptionError
from xpnet.verify import consistency, consistency_report
from xpnet.verify.consistency import check
from xpnet.verify.consistency_html import page
from xpnet.verify.consistency_report import GoldenTraining

XOR, MOMENTUM, ADAM, GELU, DIGITS, DROPOUT = (r.name for r in golden.RECIPES[:6])
NUMBER = r"-?\d+\.\d+(?:e-\d+)?"


@pytest.fixture
def only(monkeypatch):
    """Leave a few of the recipes."""

    def only(*names):
        kept = [recipe for recipe in golden.RECIPES if recipe.name in names]
        monkeypatch.setattr(consistency, "RECIPES", kept)

    return only


@pytest.fixture
def no_gpu(monkeypatch):
    changed = replace(KINDS["cupy"], why_not=lambda device: "the reason; the way out")
    monkeypatch.setitem(KINDS, "cupy", changed)


@pytest.fixture
def changed_golden(monkeypatch):
    """Change the golden hashes in a copy, which the fixture's function returns."""
    changed = copy.deepcopy(golden.golden())
    for module in (golden, consistency):
        monkeypatch.setattr(module, "golden", lambda: changed)
    return changed


def _spoil(changed, name, step, phase):
    """Change the last digit of the hash of one phase of one step, from 1."""
    steps, last = changed["recipes"][name]["steps"], step * golden.DIGITS - 1
    other = "0" if steps[phase][last] != "0" else "1"
    steps[phase] = steps[phase][:last] + other + steps[phase][last + 1 :]


# ---- backends that are wrong by one bit ----------------------------------------------------------


class Other(NumPyBackend):
    """NumPy under another name, so that it is held against NumPy."""

    name = "other"


def _up(a, *entry):
    """Make one entry the next larger number."""
    a[entry] = np.nextafter(a[entry], np.float32(np.inf))
    return a


class Broken(Reproducible):
    def __init__(self):
        super().__init__(Other())


class WrongForward(Broken):
    def affine(self, X, W, b, out):
        super().affine(X, W, b, out)
        return _up(out, 7, 0) if W.shape == (32, 1) else out


class WrongProduct(Broken):
    def matmul(self, A, B, out):
        super().matmul(A, B, out)
        return _up(out, 1, 3) if out.shape == (2, 32) else out


class WrongSum(Broken):
    def sum(self, A, axis=None, *, out, keepdims=False):
        super().sum(A, axis, out=out, keepdims=keepdims)
        return _up(out, 5) if out.shape == (32,) else out


class WrongInputGradient(Broken):
    def sigmoid_grad(self, dY, Y, out):
        return _up(super().sigmoid_grad(dY, Y, out), 9, 0)


class WrongLoss(Broken):
    def log(self, A, out):
        super().log(A, out)
        out[3] *= 2
        return out


class WrongUpdate(Broken):
    def adam(self, p, *arrays, **numbers):
        super().adam(p, *arrays, **numbers)
        _up(p, 35)


class WrongMask(Broken):
    """Drops what is to be kept."""

    def __init__(self):
        super().__init__()
        self.right = self.dropout_mask
        self.dropout_mask = self.inverted

    def inverted(self, key, drawn, out, *, keep, work):
        self.right(key, drawn, out=out, keep=keep, work=work)
        return np.multiply(out == 0, np.float32(1 / keep), out=out)


class WrongState(Broken):
    """The running mean and variance are off, which a training does not use."""

    def add(self, A, B, out):
        super().add(A, B, out)
        running = A is out and np.shape(B) == out.shape == (1, 64)
        return _up(out, 0, 5) if running else out


class SomeDay(Broken):
    """One wrong product in all its life."""

    calls = 0

    def matmul(self, A, B, out):
        super().matmul(A, B, out)
        self.calls += 1
        return _up(out, 0, 0) if self.calls == 4 else out


class Late(Broken):
    """Wrong for one input of an activation alone, which comes up in the middle of the training."""

    def __init__(self, X):
        super().__init__()
        self.wrong_for = X.tobytes()

    def tanh(self, A, out):
        return self._wrong(super().tanh, A, out)

    def relu(self, X, out, slope=0.0):
        return self._wrong(super().relu, X, out, slope)

    def _wrong(self, right, X, out, *numbers):
        wrong = X.tobytes() == self.wrong_for
        right(X, out, *numbers)
        return _up(out, 7, 2) if wrong else out


class Listening(Late):
    def __init__(self):
        self.heard = []
        super().__init__(np.zeros(0))

    def _wrong(self, right, X, out, *numbers):
        self.heard.append(X.copy())
        return right(X, out, *numbers)


class WrongSlope(Other):
    """A wrong formula, in ordinary mode alone: reproducible mode has its own."""

    def tanh_grad(self, dY, Y, out):
        return np.multiply(dY, 1 - Y, out=out)


# ---- what is right agrees ------------------------------------------------------------------------


def test_numpy_alone_agrees_with_the_golden_hashes(no_gpu):
    told = []
    report = check(["spiral", "xor"], steps=5, on_recipe=told.append)
    assert report, str(report)
    assert told == report.recipes
    assert [recipe.name for recipe in report.recipes] == [XOR, MOMENTUM, ADAM, GELU]
    for recipe in report.recipes:
        assert recipe.ok
        assert recipe.inputs
        assert recipe.failures() == []
        (training,) = recipe.trainings.values()
        assert (training.golden, training.first, training.verdict) == (True, "", "golden")
        assert training.milliseconds > 0
        hashes = training.gradients, training.weights
        assert all(re.fullmatch("[0-9a-f]{64}", h) for h in hashes)
        for line in (f"numpy  gradients  {hashes[0]}", f"weights    {hashes[1]}  golden"):
            assert line in str(recipe)
    assert report.not_run == {"cupy": "the backend 'cupy' cannot be used: the reason; the way out"}
    text = str(report)
    assert f"cupy: not run: {report.not_run['cupy']}" in text.splitlines()
    assert text.count("agree      golden  ") == 4
    assert text.splitlines()[-1] == "all that ran agrees"
    assert max(map(len, text.splitlines())) <= 100
    assert report.machine["NumPy"] == np.__version__
    assert "GPU" not in report.machine


def test_all_steps_have_the_golden_hashes(only):
    only(XOR)
    (recipe,) = check(["xor"], ["numpy"]).recipes
    wanted = golden.golden()["recipes"][XOR]
    assert recipe.ok
    training = recipe.trainings["numpy"]
    assert (training.gradients, training.weights) == (wanted["backward"], wanted["update"])


@pytest.mark.thorough
def test_the_tables_are_there_for_every_recipe():
    report = check(["xor", "spiral", "digits"], ["numpy"], steps=1)
    assert len(report.recipes) == 6
    for recipe in report.recipes:
        parameters = [row.name for row in recipe.gradients.checks[0].rows]
        assert "0.W" in parameters
        float64, float32 = recipe.gradients.tables().split("\n\n")
        assert recipe.gradients.tables() in str(recipe)
        for dtype, table in (("float64", float64), ("float32", float32)):
            head, *rows = table.splitlines()
            assert head.startswith(f"{dtype}, error / limit")
            # In float64 the loss is compared with PyTorch's alone.
            loss = ["loss"] if dtype == "float32" or find_spec("torch") else []
            assert [row.split()[0] for row in rows] == [*parameters, *loss]
            assert all(re.search(r"\de[+-]\d\d / \d\.\de[+-]\d\d", row) for row in rows)
    reasons = {check.reason for recipe in report.recipes for check in recipe.gradients.checks}
    assert set(report.legend.values()) == reasons
    unfolded = " ".join(str(report).split())
    for reason in reasons:
        assert unfolded.count(reason) == 1  # one legend, at the end
    assert max(map(len, str(report).splitlines())) <= 100


@pytest.mark.parametrize("problem", ["xor", "spiral", "digits"])
def test_two_backends_agree_bit_by_bit(problem):
    strict = find_backend(STRICT, reproducible=True)
    report = check([problem], ["numpy", strict], steps=3)
    assert report, str(report)
    for recipe in report.recipes:
        ours, theirs = recipe.trainings["numpy"], recipe.trainings["strict"]
        assert (ours.gradients, ours.weights) == (theirs.gradients, theirs.weights)
        assert list(recipe.gradients.bits) == ["numpy", "strict"]
        assert "strict, norm" in {check.what for check in recipe.gradients.checks}
    assert "agree      golden  golden  " in report.summary()
    assert max(map(len, str(report).splitlines())) <= 100


def test_ordinary_backends_are_made_reproducible(only):
    only(XOR)
    report = check(["xor"], [find_backend("numpy"), STRICT], steps=2)
    assert report
    assert list(report.recipes[0].trainings) == ["numpy", "strict"]


@pytest.mark.thorough
def test_the_batch_is_taken_from_all_samples(monkeypatch):
    """The spiral comes arm by arm; its first 64 samples are of one class."""
    seen = []

    def parity(net, loss, X, t, backends):
        seen.append((len(X), set(t.tolist())))
        return xpnet.parity(net, loss, X, t, backends=backends)

    monkeypatch.setattr(consistency, "parity", parity)
    check(["xor", "spiral", "digits"], ["numpy"], steps=1)
    sizes, classes = zip(*seen, strict=True)
    assert sizes[:2] == (4, 4)
    assert all(32 <= size <= 64 for size in sizes[2:])
    assert classes == ({0, 1},) * 4 + (set(range(10)),) * 2


# ---- what is wrong is found and named ------------------------------------------------------------

LOCATED = [
    (WrongForward, ADAM, "forward", "layer 4, Linear(32, 1)", "its output; at [7][0] they are"),
    (WrongProduct, ADAM, "backward", "layer 0, Linear(2, 32)", "gradient of W; at [1][3] they are"),
    (WrongSum, ADAM, "backward", "layer 2, Linear(32, 32)", "gradient of b; at [5] they are"),
    (WrongInputGradient, ADAM, "backward", "layer 5, Sigmoid()", "its dX; at [9][0] they are"),
    (WrongUpdate, ADAM, "update", "Adam(lr=0.01)", "makes 0.W[1][3]"),
    (WrongState, DROPOUT, "forward", "layer 1, BatchNorm1d(64)", "makes 1.mean[0][5]"),
]


def _broken(only, name, backend, steps=5):
    """Check NumPy against a broken backend, which must be the only one that is wrong."""
    only(name)
    report = check([name.partition(":")[0]], ["numpy", backend], steps)
    assert not report
    (recipe,) = report.recipes
    assert recipe.trainings["numpy"].golden
    assert not recipe.trainings["other"].golden
    assert recipe.gradients.ok  # in ordinary mode it is NumPy
    (difference,) = recipe.differences
    return report, recipe, difference


@pytest.mark.parametrize(("kind", "name", "phase", "where", "what"), LOCATED)
def test_one_bit_is_found_and_named(only, kind, name, phase, where, what):
    report, recipe, difference = _broken(only, name, kind())
    assert difference.startswith(f"numpy and other part in step 1, in the {phase} phase: {where}")
    values = re.search(rf"{re.escape(what)} ({NUMBER}) and ({NUMBER})$", difference)
    right, wrong = map(np.float32, values.groups())
    assert wrong == np.nextafter(right, np.float32(np.inf))
    first = f"first in step 1, in the {phase} phase"
    assert recipe.trainings["other"].first == first
    assert recipe.failures() == [f"other does not have the golden hashes: {first}", difference]
    unfolded = " ".join(str(recipe).split())
    assert f"WRONG: {difference}" in unfolded
    assert unfolded.count("NOT GOLDEN") == 1
    assert "agree      golden  NOT GOLDEN  " in report.summary()
    assert report.summary().splitlines()[-1] == "NOT all agrees"
    assert max(map(len, str(report).splitlines())) <= 100


def test_a_wrong_loss_is_named(only):
    _, _, difference = _broken(only, ADAM, WrongLoss())
    assert re.fullmatch(
        "numpy and other part in step 1, in the forward phase: BinaryCrossEntropy\\(\\) gives "
        f"something else for the same input in the loss pass: its value: ({NUMBER}) and ({NUMBER})",
        difference,
    )


def test_a_wrong_mask_is_the_dropout_layer(only):
    _, _, difference = _broken(only, DROPOUT, WrongMask())
    assert "part in step 1, in the forward phase: layer 3, Dropout(0.2) gives" in difference
    a, b = map(float, re.search(rf"({NUMBER}) and ({NUMBER})$", difference).groups())
    assert (a == 0) != (b == 0)


@pytest.mark.parametrize(
    ("name", "layer"), [(ADAM, "layer 3, Tanh()"), (DROPOUT, "layer 5, LeakyReLU(0.01)")]
)
def test_the_step_is_the_first_wrong_one(only, name, layer):
    """It is run again with the weights and the masks of just that step, else all would be right."""
    listening, (recipe,) = Listening(), [r for r in golden.RECIPES if r.name == name]
    golden.trace(recipe, listening, 3)
    assert len(listening.heard) == 6
    _, report, difference = _broken(only, name, Late(listening.heard[5]))
    assert difference.startswith(
        f"numpy and other part in step 3, in the forward phase: {layer} gives something else for "
        "the same input in the forward pass: its output; at [7][2] they are "
    )
    assert report.trainings["other"].first == "first in step 3, in the forward phase"


def test_a_backend_that_does_not_repeat_itself_is_told(only):
    _, _, difference = _broken(only, XOR, SomeDay())
    assert difference == (
        "numpy and other part and agree when they are run again: one of them does not repeat itself"
    )


def test_each_pair_of_backends_is_compared(only):
    only(XOR)

    class Third(Reproducible):
        def __init__(self):
            ordinary = Other()
            ordinary.name = "third"
            super().__init__(ordinary)

        def sigmoid(self, X, out):
            return _up(super().sigmoid(X, out), 0, 0)

    report = check(["xor"], ["numpy", Broken(), Third()], steps=2)
    told = [text.partition(" part in")[0] for text in report.recipes[0].differences]
    assert told == ["numpy and third", "other and third"]
    assert not report.ok


def test_a_wrong_formula_in_ordinary_mode_is_told(only):
    only(ADAM)
    report = check(["spiral"], ["numpy", WrongSlope()], steps=2)
    assert not report
    (recipe,) = report.recipes
    assert not recipe.ok
    assert all(training.golden for training in recipe.trainings.values())
    assert recipe.differences == []
    assert "DIFFER     golden  golden  spiral" in report.summary()
    assert recipe.failures() == recipe.gradients.failures() != []
    worst = recipe.failures()[0]
    assert worst.startswith("float64, other, norm: ")
    assert "layer 3, Tanh() gives something else for the same input in the backward pass" in worst
    assert recipe.gradients.tables().count("WRONG") > 4
    assert max(map(len, str(report).splitlines())) <= 100


def test_a_wrong_formula_on_all_backends_is_told(only, monkeypatch):
    only(XOR)
    right = xpnet.Sigmoid.backward
    monkeypatch.setattr(
        xpnet.Sigmoid, "backward", lambda self, dY: right(self, dY * np.float32(1.01))
    )
    report = check(["xor"], ["numpy"], steps=2)
    assert not report
    assert "DIFFER     NOT GOLDEN  xor" in report.summary()
    assert "first in step 1, in the backward phase" in str(report)


# ---- the golden hashes ---------------------------------------------------------------------------


@pytest.mark.parametrize("phase", golden.PHASES)
def test_other_golden_hashes_are_seen(only, changed_golden, phase):
    only(XOR, MOMENTUM)
    _spoil(changed_golden, XOR, 3, phase)
    report = check(["xor"], ["numpy"], steps=4)
    assert not report
    bad, good = report.recipes
    first = f"first in step 3, in the {phase} phase"
    assert bad.failures() == [f"numpy does not have the golden hashes: {first}"]
    assert "NOT GOLDEN" in str(bad)
    assert good.ok
    assert "agree      NOT GOLDEN  xor: 2-8-1 sigmoid" in report.summary()
    assert "agree      golden      xor: 2-8-1 tanh" in report.summary()


def test_so_many_steps_are_compared_as_were_run(only, changed_golden):
    only(XOR)
    _spoil(changed_golden, XOR, 3, "forward")
    _spoil(changed_golden, MOMENTUM, golden.STEPS, "update")
    assert check(["xor"], ["numpy"], steps=2)
    assert not check(["xor"], ["numpy"], steps=3)
    only(MOMENTUM)
    (recipe,) = check(["xor"], ["numpy"], steps=golden.STEPS + 2).recipes
    assert recipe.trainings["numpy"].first == f"first in step {golden.STEPS}, in the update phase"


@pytest.mark.parametrize("phase", golden.PHASES)
def test_the_hashes_of_a_whole_training_are_compared(only, changed_golden, phase):
    only(XOR)
    changed_golden["recipes"][XOR][phase] = "0" * 64
    (recipe,) = check(["xor"], ["numpy"]).recipes
    assert recipe.trainings["numpy"].first == "the hashes of the whole training differ"
    assert not recipe.ok
    assert check(["xor"], ["numpy"], steps=golden.STEPS + 1)  # of which there is no golden one


def test_other_data_are_told(only, changed_golden):
    only(XOR)
    changed_golden["inputs"]["xor"] = "0" * 64
    report = check(["xor"], ["numpy"], steps=1)
    assert not report
    assert report.recipes[0].failures() == ["the data are not those of the golden hashes"]
    assert "WRONG: the data are not those of the golden hashes" in str(report)


# ---- what cannot run is said ---------------------------------------------------------------------


def test_what_is_required_must_run(only, no_gpu):
    only(XOR)
    assert check(["xor"], ["numpy", "cupy"], steps=1)
    assert check(["xor"], ["numpy"], steps=1, required=["numpy"])
    for backends_, required in ((["numpy", "cupy"], ["cupy"]), (["numpy"], ["cupy"])):
        report = check(["xor"], backends_, steps=1, required=required)
        assert not report
        assert report.recipes[0].ok
        assert list(report.recipes[0].trainings) == ["numpy"]
        assert report.verdict == "all that ran agrees; cupy was required and not run"
        assert report.summary().endswith(report.verdict)


def test_without_any_backend_nothing_was_checked(no_gpu):
    report = check(["xor"], ["cupy"], steps=1)
    assert not report
    assert report.recipes == []
    assert report.summary().endswith("\nnothing was checked")


def test_without_mnist_that_is_said(only, tmp_path, monkeypatch):
    calls = []
    load = golden.load
    monkeypatch.setattr(consistency, "load", lambda *which: calls.append(which[0]) or load(*which))
    report = check(["mnist"], ["numpy"], steps=1, data_dir=str(tmp_path))
    assert not report
    assert calls == ["mnist"]  # once, not for each of its recipes: it may be a download
    assert list(report.not_run) == ["mnist"]
    assert f"mnist: not run: {tmp_path} lacks train-images-idx3-ubyte" in " ".join(
        report.summary().split()
    )
    assert report.verdict == "nothing was checked"
    only(XOR)
    assert check(["mnist", "xor"], ["numpy"], steps=1, data_dir=str(tmp_path))


def test_without_pytorch_that_is_said(only, monkeypatch):
    only(XOR)
    monkeypatch.setitem(sys.modules, "torch", None)
    report = check(["xor"], ["numpy"], steps=1)
    assert report
    assert "PyTorch: not run: not installed" in report.summary().splitlines()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"problems": ["xro"]}, OptionError, "did you mean 'xor'"),
        ({"backends": ["nunpy"]}, BackendError, "did you mean 'numpy'"),
        ({"required": ["cupi"]}, BackendError, "did you mean 'cupy'"),
        ({"steps": 0}, OptionError, "steps must be a whole number, 1 or more; got 0"),
        ({"backends": [Other(), Other()]}, OptionError, "'other' is there twice"),
    ],
)
def test_what_does_not_fit_is_refused(monkeypatch, change, error, message):
    monkeypatch.setattr(consistency, "trace", pytest.fail)  # before any work
    with pytest.raises(error, match=message):
        check(**{"problems": ["xor"], "backends": ["numpy"], "steps": 1} | change)


def test_two_names_of_one_backend_are_one(only):
    only(XOR)
    report = check(["xor", "xor"], ["numpy", "cpu", "numpy"], steps=1, required=["cpu"])
    assert report
    assert [list(recipe.trainings) for recipe in report.recipes] == [["numpy"]]
    assert list(check(["xor"], ["cpu"], steps=1).recipes[0].trainings) == ["cpu"]


def test_the_last_gpu_that_agreed_is_named(only, monkeypatch):
    entries = [{"GPU": "A100", "date": "2026-01-02"}, {"GPU": "H100", "driver": "580"}]
    monkeypatch.setattr(consistency_report, "verified", lambda: entries)
    only(XOR)
    report = check(["xor"], ["numpy"], steps=1)
    assert "last verified on: GPU H100, driver 580" in str(report).splitlines()
    assert "Last verified on: GPU H100, driver 580." in page(report)
    assert "A100" not in str(report)
    assert report.to_dict()["verified"] == entries
    monkeypatch.setattr(consistency_report, "verified", list)
    assert "last verified on: no GPU yet" in str(report).splitlines()


def test_the_file_of_verified_gpus_can_be_read():
    entries = consistency_report.verified()
    assert isinstance(entries, list)
    assert all(isinstance(text, str) for entry in entries for text in entry.values())


# ---- as JSON and as HTML -------------------------------------------------------------------------


def _reports(only):
    """Give a report in which all is right, and one with all that can be wrong."""
    only(XOR)
    good = check(["xor"], ["numpy"], steps=1)
    bad, _, _ = _broken(only, ADAM, WrongUpdate(), steps=1)
    only(ADAM)
    bad.recipes += check(["spiral"], ["numpy", WrongSlope()], steps=1).recipes
    bad.not_run["<b>"] = '<script src="http://x">&amp;'
    return good, bad


def test_the_report_goes_into_json(only):
    for report in _reports(only):
        plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert plain["ok"] is report.ok
        assert plain["steps"] == 1
        assert plain["machine"] == report.machine
        assert plain["not_run"] == report.not_run
        for given, found in zip(report.recipes, plain["recipes"], strict=True):
            assert found["name"] == given.name
            assert found["ok"] is given.ok
            assert found["failures"] == given.failures()
            assert found["gradients"]["ok"] is given.gradients.ok
            for name, training in given.trainings.items():
                assert found["trainings"][name]["gradients"] == training.gradients
                assert found["trainings"][name]["golden"] is training.golden


class Page(HTMLParser):
    """Follows the nesting; whatever it meets that would need the network is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text = [], set(), []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert tag not in {"script", "link", "img", "iframe"}
        assert not {"src", "href"} & dict(attrs).keys()
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_holds_everything_and_needs_nothing(only):
    for report in _reports(only):
        html = page(report)
        found = Page(html)
        text = "".join(found.text)
        assert {"html", "head", "title", "body", "table", "details"} <= found.seen
        assert html.startswith("<!doctype html>")
        style = html.partition("<style>")[2].partition("</style>")[0]
        assert not re.search("http|url|@import", style)
        for recipe in report.recipes:
            assert recipe.name in text
            assert all(failure in text for failure in recipe.failures())
            for row in recipe.gradients.checks[0].rows:
                assert f"{row.error:.1e} of {row.limit:.1e}" in text
            for training in recipe.trainings.values():
                assert training.gradients in text
                assert training.weights in text
                assert training.first in text
        assert all(what in text and why in text for what, why in report.not_run.items())
        assert all(why in text for why in report.legend.values())
        assert html.count("<details open>") == sum(not recipe.ok for recipe in report.recipes)
        assert f"{'✓' if report.ok else '✗'} {report.verdict}" in text
        assert ("✗" in text) is not report.ok
        assert ("NOT GOLDEN" in text) is not report.ok


def test_a_page_about_nothing_is_a_page(no_gpu):
    text = "".join(Page(page(check(["xor"], ["cupy"], steps=1))).text)
    assert "✗ nothing was checked" in text
    assert "the reason; the way out" in text


@pytest.mark.parametrize(
    ("steps", "verdict"), [(5, "golden"), (200, "golden"), (201, "golden to 200")]
)
def test_golden_says_how_far_it_reaches(steps, verdict):
    assert GoldenTraining("a", "b", True, "", 1.0, steps).verdict == verdict
    assert GoldenTraining("a", "b", False, "step 1", 1.0, steps).verdict == "NOT GOLDEN"
