"""Arrays of other libraries: the same memory where that is possible, and never a crash."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import xpnet
from xpnet.exchange import from_dlpack, to_dlpack
from xpnet.support.checks import on_host

torch = pytest.importorskip("torch", reason="PyTorch is not installed, which arrays go to")


# ---- out ----------------------------------------------------------------------------------------

DTYPES = ["float16", "float32", "float64", "int8", "int64", "uint8", "bool", "complex64"]
SHARED = {
    "in order": lambda a: a,
    "transposed": lambda a: a.T,
    "columns": lambda a: a[:, ::2],
    "one row": lambda a: a[1],
    "one number": lambda a: a[1, 1, ...],
    "no rows": lambda a: a[:0],
}
COPIED = {
    "backwards": lambda a: a[::-1],
    "columns backwards": lambda a: a[:, ::-1],
    "not to be written": lambda a: np.broadcast_to(a, a.shape),
    "one row many times": lambda a: np.broadcast_to(a[0], (3, 4)),
    "the other byte order": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "not aligned": lambda a: np.frombuffer(bytearray(b"x" + a.tobytes()), np.uint8)[1:].view(
        a.dtype
    ),
    "part of records": lambda a: np.zeros(3, [("a", a.dtype), ("b", "f4")])["a"],
}


def matrix(dtype="float64"):
    return np.arange(12).reshape(3, 4).astype(dtype)


@pytest.mark.parametrize("layout", SHARED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_goes_out_is_the_same_memory(dtype, layout):
    a = SHARED[layout](matrix(dtype))
    assert to_dlpack(a) is a
    tensor = torch.from_dlpack(to_dlpack(a))
    back = from_dlpack(tensor)
    assert np.array_equal(back, a)
    assert back.dtype == a.dtype
    assert a.size == 0 or np.shares_memory(a, back)
    back[...] = 1
    assert (a == 1).all()


@pytest.mark.parametrize("layout", COPIED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_cannot_go_out_is_copied(dtype, layout):
    """Before PyTorch sees it, which would end the process or write where nobody may."""
    a = COPIED[layout](matrix(dtype))
    before = a.copy()
    safe = to_dlpack(a)
    if a.dtype.itemsize == 1 and layout in ("the other byte order", "not aligned"):
        assert safe.dtype == a.dtype  # bytes have no order and are aligned anywhere
    assert np.array_equal(safe, a)
    assert safe.flags.behaved
    assert safe.dtype.isnative
    assert all(k >= 0 and k % safe.itemsize == 0 for k in safe.strides)
    assert not np.shares_memory(safe, a) or safe is a
    if a.flags.writeable and safe is a:
        return
    tensor = torch.from_dlpack(safe)
    tensor.fill_(1)
    assert np.array_equal(a, before)


@pytest.mark.thorough
def test_arrays_backwards_come_through_in_a_process_of_their_own():
    """PyTorch 2.13 ends the process on a negative stride, which no test survives."""
    program = (
        "import numpy as np, torch\n"
        "from xpnet.exchange import to_dlpack\n"
        "a = np.arange(6.0).reshape(2, 3)\n"
        "for view in (a[::-1], a[:, ::-1], a[::-1, ::-2].T):\n"
        "    print(torch.equal(torch.from_dlpack(to_dlpack(view)), torch.tensor(view.copy())))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.split() == ["True"] * 3, run.stderr


def test_a_scalar_of_numpy_goes_out_as_an_array():
    assert torch.from_dlpack(to_dlpack(np.float32(3))).item() == 3


def test_a_type_that_numpy_lacks_is_named_with_a_way_out():
    with pytest.raises(xpnet.DataError, match=r"; NumPy has no such type, use tensor.float\(\)$"):
        from_dlpack(torch.zeros(2, dtype=torch.bfloat16))


def test_parameters_and_outputs_can_be_looked_at_and_changed_from_outside():
    net = xpnet.Sequential(xpnet.Linear(3, 2, bias=False))
    Y = net.forward(np.ones((4, 3), np.float32))
    weight, outputs = (torch.from_dlpack(to_dlpack(a)) for a in (net.layers[0].W.T, Y))
    assert weight.shape == (2, 3)
    weight.fill_(2)
    assert (net.params == 2).all()
    net.forward(np.ones((4, 3), np.float32))
    assert (outputs == 6).all()


@pytest.mark.parametrize(
    "a", [np.array(["a"]), np.array([None]), np.zeros(2, "M8[s]"), np.zeros(2, "g"), [1.0], 3]
)
def test_what_is_no_array_of_numbers_does_not_go_out(a):
    with pytest.raises(xpnet.DataError, match="DLPack is for arrays of numbers"):
        to_dlpack(a)


def test_a_device_array_backwards_is_copied_on_the_device(strict):
    a = strict.asarray(np.arange(6, dtype=np.float32))
    assert to_dlpack(a) is a
    back = to_dlpack(a[::-1])
    assert strict.owns(back)
    assert back.strides == (4,)
    assert strict.asnumpy(back).tolist() == [5, 4, 3, 2, 1, 0]


# ---- in -----------------------------------------------------------------------------------------


def test_what_comes_in_is_the_same_memory():
    tensor = torch.arange(12.0).reshape(3, 4)
    for theirs in (tensor, tensor.T, tensor[:, 1::2], tensor[1], tensor[1, 1], tensor[:0]):
        a = from_dlpack(theirs, backend="numpy")
        assert isinstance(a, np.ndarray)
        assert a.shape == tuple(theirs.shape)
        theirs += 1
        assert np.array_equal(a, theirs.numpy())
        a += 1
        assert np.array_equal(a, theirs.numpy())


def test_an_array_of_the_backend_is_itself(backend):
    a = backend.asarray(np.arange(3.0))
    assert from_dlpack(a) is a


def test_what_comes_to_a_device_is_put_there(strict):
    a = from_dlpack(torch.arange(3.0))
    assert strict.owns(a)
    assert strict.asnumpy(a).tolist() == [0, 1, 2]


class OnGPU:
    """What an array on a GPU looks like to the protocol."""

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **options):
        if options.get("dl_device") != (1, 0):
            raise BufferError("the data are on a GPU")
        return np.arange(3.0).__dlpack__()


def test_what_is_on_a_gpu_is_fetched_for_numpy_and_stays_there_for_cupy(strict, monkeypatch):
    theirs, given = OnGPU(), []
    assert from_dlpack(theirs, backend="numpy").tolist() == [0, 1, 2]
    monkeypatch.setattr(strict.module, "from_dlpack", lambda a: given.append(a) or "on the device")
    assert from_dlpack(theirs) == "on the device"
    assert given == [theirs]


def test_a_tensor_on_a_gpu_is_no_data_for_numpy():
    with pytest.raises(xpnet.DataError, match=r"X is a .*OnGPU that NumPy cannot read: .*GPU"):
        on_host(OnGPU(), "X")


@pytest.mark.parametrize(
    "a",
    [
        [1.0, 2.0],
        None,
        torch.zeros(3, requires_grad=True),
        torch.zeros(3, dtype=torch.bfloat16),
        torch.zeros(3, device="meta"),
        torch.zeros(3).to_sparse(),
    ],
    ids=["a list", "nothing", "a gradient", "bfloat16", "elsewhere", "sparse"],
)
def test_what_gives_nothing_away_is_an_error(a):
    with pytest.raises(xpnet.DataError, match=f"no array by DLPack from {type(a).__name__}: "):
        from_dlpack(a)


# ---- tensors as data ----------------------------------------------------------------------------


def _data():
    random = np.random.default_rng(0)
    return random.normal(size=(24, 3)).astype(np.float32), np.arange(24) % 4


class OnlyDLPack:
    """An array of a library that NumPy knows nothing of."""

    def __init__(self, a):
        self._a = a

    def __dlpack__(self, **options):
        return self._a.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._a.__dlpack_device__()


@pytest.mark.parametrize(
    "kind",
    [
        torch.tensor,
        lambda a: torch.tensor(np.stack([a, a]).T.copy())[..., 0].t(),
        lambda a: torch.tensor(a, requires_grad=a.dtype.kind == "f"),
        OnlyDLPack,
        lambda a: a[::-1].copy()[::-1],
        lambda a: a.astype(a.dtype.newbyteorder(">")),
    ],
    ids=["tensors", "transposed", "with a gradient", "only DLPack", "backwards", "byte order"],
)
def test_tensors_are_trained_from_as_arrays_are(kind, backend):
    X, t = _data()
    w = np.linspace(0.5, 1.5, 24)
    nets = [xpnet.Sequential(xpnet.Linear(3, 4)) for _ in range(2)]
    found = []
    for net, given in zip(nets, (lambda a: a, kind), strict=True):
        trainer = xpnet.Trainer(net, "softmax_cross_entropy", metrics=["accuracy"])
        trainer.fit(
            *(given(X), given(t)), epochs=2, sample_weight=given(w),
            validation_data=(given(X), given(t)),
        )  # fmt: skip
        Y = net.predict(given(X))
        assert isinstance(Y, np.ndarray)
        found.append((trainer.history, trainer.evaluate(given(X), given(t)), Y.tolist()))
    assert found[0] == found[1]
    assert nets[0].sha256() == nets[1].sha256()
