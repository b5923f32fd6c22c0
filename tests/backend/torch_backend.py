"""PyTorch's tensors on the CPU as a backend: what a further array library needs, and no more.

Tensors can be changed, have strided views, and PyTorch's functions take ``out=``. What differs are
names: `Tensor` gives an array the attributes that NumPy's have, `Functions` are the functions that
the texts of ``base.py`` and ``fused.py`` call. No primitive is written anew. Dropout is left out,
since PyTorch does not calculate with uint64.
"""

from __future__ import annotations

from types import SimpleNamespace as Flags
from typing import Any

import numpy as np
import torch

from xpnet.backend import Backend, Kind

NAMES = ("float16", "float32", "float64", "int32", "int64", "uint8", "uint64", "bool")
NUMPY = {getattr(torch, name): np.dtype(name) for name in NAMES}
TORCH = {known: kind for kind, known in NUMPY.items()}


class Tensor(torch.Tensor):
    """A tensor with the attributes of a NumPy array."""

    @property
    def dtype(self) -> np.dtype:
        with torch._C.DisableTorchFunctionSubclass():
            return NUMPY[torch.Tensor.dtype.__get__(self)]

    size = property(torch.Tensor.numel)
    flags = property(lambda self: Flags(c_contiguous=self.is_contiguous()))
    copy, __deepcopy__ = torch.Tensor.clone, None  # copy.deepcopy asks __reduce_ex__

    def __reduce_ex__(self, protocol: Any) -> Any:
        return array, (np.array(self.as_subclass(torch.Tensor).numpy()),)

    def astype(self, dtype: Any) -> Tensor:
        return self.to(TORCH[np.dtype(dtype)])

    def __truediv__(self, other: Any) -> Tensor:
        whole = self.dtype.kind in "iu"  # which NumPy divides in float64
        return torch.Tensor.__truediv__(self.astype(np.float64) if whole else self, other)


def array(a: Any, dtype: Any = None) -> Tensor:
    """Return anything as an array; it shares memory where it can."""
    if not isinstance(a, Tensor):
        host = np.require(a, dtype, requirements="CW")
        return torch.from_numpy(host).as_subclass(Tensor)
    return (a if dtype is None else a.astype(dtype)).contiguous()


def elementwise(function: Any) -> Any:
    """Return a function of arrays or numbers; a number takes the type of the array beside it."""

    def call(*operands: Any, out: Any = None) -> Any:
        like = next(a for a in operands if isinstance(a, Tensor)).dtype
        arrays = [a if isinstance(a, Tensor) else array(np.array(a, like)) for a in operands]
        return function(*arrays, out=out)

    return staticmethod(call)


class Functions:
    """The functions of an array module that the texts of the primitives call."""

    ndarray = Tensor
    add, subtract = elementwise(torch.add), elementwise(torch.sub)
    multiply, divide = elementwise(torch.mul), elementwise(torch.div)
    maximum, minimum = elementwise(torch.maximum), elementwise(torch.minimum)
    sqrt, log = elementwise(torch.sqrt), elementwise(torch.log)
    exp, tanh = elementwise(torch.exp), elementwise(torch.tanh)
    logaddexp, where = elementwise(torch.logaddexp), staticmethod(torch.where)
    matmul, concatenate = staticmethod(torch.matmul), staticmethod(torch.cat)

    @staticmethod
    def empty(shape: Any, dtype: Any) -> Tensor:
        return torch.empty(shape, dtype=TORCH[np.dtype(dtype)]).as_subclass(Tensor)

    @staticmethod
    def zeros(shape: Any, dtype: Any) -> Tensor:
        return torch.zeros(shape, dtype=TORCH[np.dtype(dtype)]).as_subclass(Tensor)

    asarray = staticmethod(lambda a, dtype=None, order="C": array(a, dtype))

    @staticmethod
    def arange(n: int) -> Tensor:
        return torch.arange(n).as_subclass(Tensor)

    @staticmethod
    def sum(A: Tensor, axis: Any = None, out: Any = None, keepdims: bool = False) -> Tensor:
        axes = tuple(range(A.ndim)) if axis is None else axis
        return torch.sum(A, axes, keepdim=keepdims, out=out)

    @staticmethod
    def max(A: Tensor, axis: int, out: Any = None, keepdims: bool = False) -> Tensor:
        return torch.amax(A, axis, keepdim=keepdims, out=out)

    @staticmethod
    def take(A: Tensor, indices: Tensor, axis: int, out: Tensor) -> Tensor:
        return torch.index_select(A, axis, indices, out=out)


class TorchBackend(Backend):
    """The CPU, with PyTorch's tensors."""

    name = "torch"
    module = Functions()
    on_host = True
    dtypes = ("float32", "float64")

    def asnumpy(self, a: Any) -> np.ndarray:
        return a if isinstance(a, np.ndarray) else a.as_subclass(torch.Tensor).numpy()


Tensor.__module__ = "torch"  # as arrays of the library itself have it
TORCH_KIND = Kind("torch", lambda device, tf32: TorchBackend(), library="PyTorch", arrays="torch")
