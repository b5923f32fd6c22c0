"""Which backend computes: names, the default one, CuPy that cannot be used, and mixed arrays."""

from __future__ import annotations

import builtins
import logging
import sys
from copy import copy, deepcopy
from dataclasses import replace
from functools import cache
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import pytest
import strictxp

import xpnet
from xpnet import BackendError, Linear, MixedArraysError, Sequential, XpnetError
from xpnet import backend as backends
from xpnet.backend import Kind, backend_of, find_backend, parse_name, register_backend, registry
from xpnet.backend.on_numpy import NumPyBackend
from xpnet.backend.reproducible import Reproducible

STRICT_ARRAY = strictxp.asarray(np.zeros(2))


class OtherBackend(xpnet.Backend):
    """A backend that knows its device and computes nothing."""

    name = "other"

    def __init__(self, device=0, tf32=False):
        self.device, self.tf32 = device, tf32


@pytest.fixture
def fresh(monkeypatch):
    """Nothing is known about CuPy and Numba yet; after the test is known what was known before."""
    for name in ("cupy", "numba"):
        kind = registry.KINDS[name]
        fresh = replace(kind, why_not=cache(kind.why_not.__wrapped__))
        monkeypatch.setitem(registry.KINDS, name, fresh)
    monkeypatch.setattr(registry, "say_once", cache(registry.say_once.__wrapped__))
    for name in ("cupy_device", "on_cupy", "cupy_probe"):
        monkeypatch.setattr(backends, name, None, raising=False)
        monkeypatch.delitem(sys.modules, f"xpnet.backend.{name}", raising=False)


@pytest.fixture
def two_gpus(monkeypatch):
    """CuPy works on the devices 0 and 1."""
    change(monkeypatch, "cupy", lambda d: "" if d < 2 else f"no GPU number {d}", OtherBackend)


def change(monkeypatch, name, why_not, make=None):
    """Change the entry of a backend."""
    kind = registry.KINDS[name]
    changed = replace(kind, why_not=why_not, make=make or kind.make)
    monkeypatch.setitem(registry.KINDS, name, changed)


# ---- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numpy", "cpu", " NumPy "])
def test_numpy_and_its_aliases(name):
    assert find_backend(name).name == "numpy"
    assert find_backend(name) is find_backend("numpy")


@pytest.mark.parametrize(
    ("name", "device"),
    [("cupy", 0), ("gpu", 0), ("cuda", 0), ("auto", 0), ("cupy:0", 0), ("cuda:1", 1), ("GPU:1", 1)],
)
def test_cupy_and_its_aliases(two_gpus, name, device):
    assert find_backend(name).device == device
    assert find_backend(name) is find_backend(f"cupy:{device}")


def test_a_gpu_that_is_not_there(two_gpus):
    with pytest.raises(BackendError, match="'cuda:2' cannot be used: no GPU number 2"):
        find_backend("cuda:2")


@pytest.mark.parametrize(
    "name", ["cuda:x", "cuda:", "cuda:-1", "cuda:²", "cpu:0", "auto:0", "cuda:0:0", "", "tpu", None]
)
def test_names_of_no_backend(name):
    for ask in (find_backend, parse_name, xpnet.set_backend):
        with pytest.raises(BackendError, match=f"unknown backend {name!r}; .*numpy"):
            ask(name)


def test_a_wrong_name_gets_a_suggestion():
    with pytest.raises(BackendError, match="'numpi'; did you mean 'numpy'"):
        xpnet.set_backend("numpi")


def test_a_backend_stands_for_itself():
    own = OtherBackend()
    assert find_backend(own) is own
    assert xpnet.set_backend(own) is own
    assert xpnet.get_backend() is own


def test_available_backends(monkeypatch, two_gpus):
    change(monkeypatch, "numba", lambda device: "")
    assert xpnet.available_backends() == ["numpy", "numba", "cupy"]
    change(monkeypatch, "numba", lambda device: "a reason")
    assert xpnet.available_backends() == ["numpy", "cupy"]
    change(monkeypatch, "cupy", lambda device: "a reason")
    assert xpnet.available_backends() == ["numpy"]


# ---- the default backend ----------------------------------------------------------------------


def test_the_default_is_numpy():
    assert xpnet.get_backend() is find_backend("numpy")


def test_use_backend_restores_what_was_there():
    a, b, c = OtherBackend(), OtherBackend(), OtherBackend()
    xpnet.set_backend(a)
    with xpnet.use_backend(b) as inside:
        assert inside is b
        assert xpnet.get_backend() is b
        with xpnet.use_backend(c):
            assert xpnet.get_backend() is c
        assert xpnet.get_backend() is b
        xpnet.set_backend(c)
    assert xpnet.get_backend() is a


def test_use_backend_restores_after_an_exception():
    own = xpnet.set_backend(OtherBackend())
    with pytest.raises(KeyError), xpnet.use_backend("numpy"):
        raise KeyError
    assert xpnet.get_backend() is own
    with pytest.raises(BackendError), xpnet.use_backend("numpi"):
        pytest.fail("the block must not run")
    assert xpnet.get_backend() is own


def test_the_environment_chooses_the_default(monkeypatch, two_gpus):
    monkeypatch.setenv("XPNET_BACKEND", " cuda:1 ")
    with xpnet.use_backend("numpy"):  # restored is "not chosen yet", too
        pass
    assert xpnet.get_backend().device == 1
    assert xpnet.set_backend("numpy") is xpnet.get_backend()


def test_an_empty_environment_variable_is_none(monkeypatch):
    monkeypatch.setenv("XPNET_BACKEND", " ")
    assert xpnet.get_backend().name == "numpy"


def test_a_bad_environment_variable_is_named(monkeypatch):
    monkeypatch.setenv("XPNET_BACKEND", "numpi")
    with pytest.raises(BackendError, match=r"XPNET_BACKEND.*'numpi'; did you mean 'numpy'"):
        xpnet.get_backend()
    monkeypatch.setenv("XPNET_BACKEND", "cpu")
    assert xpnet.get_backend().name == "numpy"


def test_a_network_has_a_backend_of_its_own():
    default, own = OtherBackend(), OtherBackend()
    xpnet.set_backend(default)
    net, other = Sequential(Linear(2, 1)), Sequential(Linear(2, 1), backend=own)
    xpnet.set_backend("numpy")
    assert net.xp is default
    assert other.xp is own
    assert Sequential(Linear(2, 1), backend="cpu").xp is xpnet.get_backend()


# ---- reproducible mode --------------------------------------------------------------------------

ORDINARY, MODE = find_backend("numpy", False), find_backend("numpy", True)


def test_the_mode_is_asked_for_by_name_or_by_backend():
    assert not ORDINARY.reproducible
    assert MODE.reproducible
    assert isinstance(MODE, Reproducible)
    for asked in ("numpy", "cpu", " NumPy ", ORDINARY, MODE):
        assert find_backend(asked, True) is MODE
        assert find_backend(asked, False) is ORDINARY
        assert find_backend(asked, reproducible=True) is MODE


def test_a_name_is_ordinary_and_a_backend_is_itself_unless_the_mode_is_said():
    assert find_backend("numpy") is find_backend("numpy", None) is ORDINARY
    assert find_backend(MODE) is MODE
    assert find_backend(ORDINARY) is ORDINARY


def test_the_two_know_each_other():
    assert MODE.ordinary is ORDINARY
    assert ORDINARY.ordinary is ORDINARY
    assert (repr(ORDINARY), repr(MODE)) == (
        "<xpnet backend 'numpy'>",
        "<xpnet backend 'numpy', reproducible>",
    )
    assert (MODE.name, MODE.module, MODE.on_host) == ("numpy", np, True)


def test_there_is_one_of_each_backend(monkeypatch):
    """A network that is moved, or read from a pickle, finds the same device and its scratch."""
    monkeypatch.setattr(registry, "_reproducible", cache(registry._reproducible.__wrapped__))
    a, b = OtherBackend(), OtherBackend(1)
    a.module = b.module = np
    assert find_backend(a, True) is find_backend(a, True)
    assert find_backend(a, True).ordinary is a
    assert find_backend(a, True) is not find_backend(b, True)
    assert find_backend(find_backend(b, True), True) is find_backend(b, True)


def test_set_backend_and_use_backend_take_the_mode():
    assert xpnet.set_backend("numpy", reproducible=True) is MODE
    assert xpnet.get_backend() is MODE
    assert xpnet.set_backend("numpy") is ORDINARY
    with xpnet.use_backend("numpy", reproducible=True) as inside:
        assert inside is MODE
        assert Sequential(Linear(2, 1)).xp is MODE
        with xpnet.use_backend("numpy", reproducible=False):
            assert xpnet.get_backend() is ORDINARY
        assert xpnet.get_backend() is MODE
    assert xpnet.get_backend() is ORDINARY


@pytest.mark.parametrize(
    ("text", "chosen"), [("1", MODE), (" 1 ", MODE), ("0", ORDINARY), ("", ORDINARY)]
)
def test_the_environment_chooses_the_mode(monkeypatch, text, chosen):
    monkeypatch.setenv("XPNET_REPRODUCIBLE", text)
    assert xpnet.get_backend() is chosen
    assert find_backend("numpy") is chosen
    assert find_backend("numpy", None) is chosen
    assert Sequential(Linear(2, 1), backend="numpy").xp is chosen
    for said, backend in ((True, MODE), (False, ORDINARY)):  # what is said in the program counts
        assert find_backend("numpy", said) is backend
        assert find_backend(backend) is backend


def test_tf32_is_a_backend_of_its_own(two_gpus):
    exact, fast = find_backend("cupy"), find_backend("cupy", tf32=True)
    assert (exact.tf32, fast.tf32) == (False, True)
    assert find_backend("cuda", tf32=True) is fast
    with xpnet.use_backend("cupy", tf32=True) as chosen:
        assert chosen is fast
        assert Sequential(Linear(2, 1)).xp is fast
        assert Sequential(Linear(2, 1), backend="cupy").xp is exact
    assert xpnet.set_backend("gpu", tf32=True) is fast


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("numpy", None, True), "NumPy has no tf32.*'cupy'"),
        (("numba", None, True), "NumPy has no tf32.*'cupy'"),
        (("cupy", True, True), "tf32.*reproducible mode cannot be had with it"),
        (("cupy", None, 1), "tf32 is True or False; got 1"),
    ],
)
def test_where_tf32_cannot_be(two_gpus, arguments, sentence):
    with pytest.raises(BackendError, match=sentence):
        find_backend(*arguments)
    with pytest.raises(BackendError, match="not possible on a backend with tf32"):
        find_backend(find_backend("cupy", tf32=True), True)


@pytest.mark.parametrize("text", ["yes", "true", "2", "01"])
def test_a_bad_mode_in_the_environment_is_named(monkeypatch, text):
    monkeypatch.setenv("XPNET_REPRODUCIBLE", text)
    sentence = f"^the environment variable XPNET_REPRODUCIBLE is 0 or 1; got '{text}'$"
    for ask in (lambda: find_backend("numpy"), xpnet.get_backend):
        with pytest.raises(BackendError, match=sentence):
            ask()
    assert find_backend("numpy", True) is MODE


def test_the_mode_of_cupy_is_asked_for_by_name(two_gpus, monkeypatch):
    monkeypatch.setattr(registry, "_reproducible", cache(lambda ordinary: ("mode of", ordinary)))
    assert find_backend("cuda:1", True) == ("mode of", find_backend("cuda:1"))


# ---- CuPy that cannot be used -----------------------------------------------------------------


def not_installed(monkeypatch):
    """No module cupy can be found."""
    monkeypatch.setitem(sys.modules, "cupy", None)


def broken(monkeypatch):
    """CuPy is there, but one of its own imports fails."""
    real = builtins.__import__

    def failing(name, *args, **kwargs):
        if name.partition(".")[0] == "cupy":
            raise ImportError("libcudart.so.13: cannot open shared object file")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(builtins, "__import__", failing)


def fake_cupy(monkeypatch):
    cupy = MagicMock(__version__="14.2.0", ndarray=type("ndarray", (), {}))
    cupy.cuda.runtime.getDeviceCount.return_value = 1
    cupy.cuda.runtime.driverGetVersion.return_value = 13020
    cupy.cuda.runtime.runtimeGetVersion.return_value = 13020
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


def no_gpu(monkeypatch):
    """CuPy imports, but finds no GPU and no driver."""
    cupy = fake_cupy(monkeypatch)
    cupy.is_available.return_value = False
    cupy.cuda.runtime.driverGetVersion.return_value = 0


def no_kernel(monkeypatch):
    """CuPy finds a GPU, but the first thing that it computes fails."""
    cupy = fake_cupy(monkeypatch)
    cupy.asarray.side_effect = cupy.matmul.side_effect = RuntimeError("no kernel image")


def no_library(monkeypatch):
    """CuPy finds a GPU, but not the libraries of CUDA."""
    cupy = fake_cupy(monkeypatch)
    cupy.asarray.side_effect = cupy.matmul.side_effect = ImportError("libnvrtc.so.13 not found")


def wrong_values(monkeypatch):
    """CuPy finds a GPU that computes nonsense."""
    cupy = fake_cupy(monkeypatch)
    cupy.ndarray, cupy.asnumpy.return_value = MagicMock, np.zeros((2, 2))


SITUATIONS = pytest.mark.parametrize(
    ("situation", "reason", "way_out"),
    [
        (not_installed, "CuPy is not installed", r"pip install 'cupy-cuda13x\[ctk\]'"),
        (broken, "does not import .*libcudart.so.13", "reinstall CuPy"),
        (no_gpu, "no usable NVIDIA GPU: there is no NVIDIA driver", "nvidia-smi"),
        (no_kernel, "RuntimeError: no kernel image", "nvidia-smi"),
        (no_library, "libnvrtc.so.13 not found", r"pip install 'cupy-cuda13x\[ctk\]'"),
        (wrong_values, "wrong values", "nvidia-smi"),
    ],
)


@SITUATIONS
@pytest.mark.parametrize("name", ["cupy", "gpu", "cuda:0"])
def test_cupy_says_why_it_cannot_be_used(fresh, monkeypatch, name, situation, reason, way_out):
    situation(monkeypatch)
    with pytest.raises(BackendError, match=f"^the backend '{name}' cannot.*{reason}.*{way_out}"):
        find_backend(name)
    assert "cupy" not in xpnet.available_backends()


@SITUATIONS
def test_auto_falls_back_and_says_so_once(fresh, monkeypatch, caplog, situation, reason, way_out):
    situation(monkeypatch)
    with caplog.at_level(logging.WARNING, logger="xpnet"):
        assert xpnet.set_backend("auto").name == "numpy"
        assert find_backend("auto").name == "numpy"
    (record,) = caplog.records
    assert record.name == "xpnet"
    assert record.message == "no GPU in use, computing with NumPy; xpnet info says why"
    with pytest.raises(BackendError, match=f"{reason}.*{way_out}"):  # the reason, where it counts
        find_backend("cupy")


def test_auto_says_nothing_where_cupy_works(two_gpus, caplog):
    assert find_backend("auto").name == "other"
    assert not caplog.records


# ---- Numba that cannot be used ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ModuleNotFoundError("", name="numba"), "is not installed; run pip install numba, or pip"),
        (ModuleNotFoundError("no llvmlite", name="llvmlite"), "does not import .no llvmlite.; run"),
        (ImportError("needs NumPy 2.4 or less"), "import .needs NumPy 2.4 or less.; .* --upgrade"),
        (SystemError("initialization failed"), "does not import .initialization failed.; run pip"),
        (OSError("libllvmlite.so"), "does not import .libllvmlite.so.; run pip install --upgrade"),
    ],
)
def test_numba_says_why_it_cannot_be_used(fresh, monkeypatch, error, sentence):
    real = builtins.__import__

    def failing(name, *args, **kwargs):
        if name == "numba":
            raise error
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", failing)
    for reproducible in (False, True):
        with pytest.raises(
            BackendError, match=f"^the backend 'numba' cannot .* Numba .*{sentence}"
        ):
            find_backend("numba", reproducible)
    assert "numba" not in xpnet.available_backends()
    monkeypatch.setenv("XPNET_BACKEND", "numba")
    with pytest.raises(BackendError, match=f"^the environment variable XPNET_BACKEND.*{sentence}"):
        xpnet.get_backend()


# ---- arrays -----------------------------------------------------------------------------------


def cupy_array(module):
    return type("ndarray", (), {"__module__": module, "dtype": np.dtype("f4")})()


@pytest.fixture
def cupy(monkeypatch):
    module = ModuleType("cupy")
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.mark.parametrize("arrays", [(), (np.zeros(2),), ([1.0], 2), (np.zeros(2), [1.0], None)])
def test_the_module_of_numpy_arrays_and_lists(monkeypatch, arrays):
    monkeypatch.setitem(sys.modules, "cupy", None)  # it must not even be looked for
    assert xpnet.get_array_module(*arrays) is np


@pytest.mark.parametrize("module", ["cupy", "cupy._core.core"])
def test_the_module_of_cupy_arrays(cupy, module):
    a = cupy_array(module)
    assert xpnet.get_array_module(a) is cupy
    assert xpnet.get_array_module([1.0], a, a, 2, np.float32(3)) is cupy


class Subclass(np.ndarray):
    """An array of NumPy whose type lives elsewhere."""


@pytest.mark.parametrize("host", [np.zeros(2), np.zeros(2).view(Subclass)])
def test_mixed_arrays_have_no_module(cupy, host):
    for arrays in ((host, cupy_array("cupy")), (cupy_array("cupy"), host)):
        with pytest.raises(MixedArraysError, match=r"cupy.asarray\(a\) or a.get\(\)"):
            xpnet.get_array_module(*arrays)


def test_the_backend_of_an_array(backend, two_gpus):
    assert backend_of(backend.zeros(2, np.float32)) is backend
    owner = backend if backend.owns(np.zeros(2)) else find_backend("numpy")
    assert backend_of(np.zeros(2)) is owner
    assert backend_of(cupy_array("cupy")) is find_backend("cupy")
    for no_array in ([1.0], 1.0, None):
        with pytest.raises(MixedArraysError, match=type(no_array).__name__):
            backend_of(no_array)


def test_require_lets_its_own_arrays_pass(backend):
    backend.require(backend.zeros(2, np.float32), "the network", "X")


@pytest.mark.parametrize(
    ("foreign", "kind"),
    [([1.0], "builtins.list"), (None, "builtins.NoneType"), (cupy_array("cupy"), "cupy.ndarray")],
)
def test_require_names_all(strict, foreign, kind):
    fix = r"pass net.xp.asarray\(dY\), or move the network with net.to"
    with pytest.raises(
        MixedArraysError, match=f"^the loss lives .* 'strict', but dY is a {kind}; {fix}"
    ):
        strict.require(foreign, "the loss", "dY")


def test_require_refuses_the_arrays_of_another_backend(strict):
    with pytest.raises(MixedArraysError, match=r"'strict', but X is a numpy.ndarray"):
        strict.require(np.zeros(2), "the network", "X")
    with pytest.raises(MixedArraysError, match=r"'numpy', but X is a strictxp.ndarray"):
        find_backend("numpy").require(STRICT_ARRAY, "the network", "X")


@pytest.mark.parametrize("error", [BackendError, MixedArraysError])
def test_the_errors_are_of_one_family(error):
    assert issubclass(error, XpnetError)


def test_a_backend_is_never_copied(backend):
    assert copy(backend) is backend
    assert deepcopy(backend) is backend


@pytest.mark.parametrize("mode", ["yes", 1, "1"])
def test_a_mode_that_is_no_bool_is_refused(mode):
    with pytest.raises(BackendError, match=f"reproducible is True or False; got {mode!r}"):
        xpnet.set_backend("numpy", reproducible=mode)


def test_names_that_a_backend_cannot_have(monkeypatch):
    monkeypatch.setattr(registry, "KINDS", dict(registry.KINDS))
    numpy = registry.KINDS["numpy"]
    for name in ("numpy", "gpu", "auto"):
        with pytest.raises(xpnet.BackendError, match=f"there is a backend '{name}' already"):
            register_backend(replace(numpy, name=name, aliases=()))
    for name in ("", "NumPy", "my backend", "cuda:1", "1st"):
        with pytest.raises(xpnet.BackendError, match="is no name of a backend"):
            register_backend(replace(numpy, name=name, aliases=()))
        with pytest.raises(xpnet.BackendError, match="is no name of a backend"):
            register_backend(replace(numpy, name="mine", aliases=(name,)))
    for kind in ("mine", None, NumPyBackend(), replace(numpy, name="mine", aliases="abc")):
        with pytest.raises(xpnet.BackendError, match="takes a Kind, with a tuple of names as ali"):
            register_backend(kind)
    assert "mine" not in registry.KINDS
    mine = replace(numpy, name="my-numpy_2", aliases=())
    register_backend(mine)
    register_backend(mine)  # again: nothing happens
    assert find_backend(" My-NumPy_2 ").name == "numpy"


def test_a_backend_that_is_not_made(monkeypatch):
    monkeypatch.setattr(registry, "KINDS", dict(registry.KINDS))
    for number, made in enumerate((None, np, NumPyBackend)):
        register_backend(Kind(f"made{number}", lambda device, tf32, made=made: made))
        with pytest.raises(xpnet.BackendError, match=f"'made{number}' must return a Backend; got"):
            find_backend(f"made{number}")
