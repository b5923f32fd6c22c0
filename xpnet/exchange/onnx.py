"""Networks as ONNX files, for runtimes in other languages and on other devices.

`xpnet.exchange.onnx_nodes` says which nodes compute each layer. Here the nodes become a file.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from xpnet.backend import Backend
from xpnet.exchange.onnx_nodes import is_described
from xpnet.layers.base import Layer, Shape
from xpnet.network import Sequential
from xpnet.support.checks import count, file_of, yes_or_no
from xpnet.support.errors import OptionError, XpnetError
from xpnet.support.files import write_atomically, writing

INSTALL = "run pip install 'onnx>=1.21', or '.[onnx]' in the folder of xpnet"
OPSET, IR_VERSION = 21, 10  # of 2024: newer ones would be refused by the runtimes of then


def to_onnx(
    net: Sequential,
    path: str | os.PathLike[str],
    sample_shape: Shape | None = None,
    *,
    pixels: bool = False,
) -> None:
    """Write a network, as it predicts, to an ONNX file: the input X, the output Y, any batch size.

    Parameters
    ----------
    net : Sequential
        In float32 or float64, which is also the type of X and Y.
    path : str or os.PathLike
        A file that is there is replaced once the new one is complete.
    sample_shape : tuple of int, optional
        The shape of one sample, such as ``(784,)``; by default that of the last batch.
    pixels : bool
        True: X is uint8, pixels k that stand for k/255.

    Raises
    ------
    OptionError
        If the shape is not known or is none, or a layer does not say what it is in ONNX.
    ShapeError
        If the network does not take samples of that shape.
    XpnetError
        If the file cannot be written, or onnx is not installed.
    """
    onnx, path = _library(), file_of("to_onnx: path", path)
    if not isinstance(net, Sequential):
        raise OptionError(f"to_onnx writes a Sequential; got {net!r:.60}")
    yes_or_no("to_onnx: pixels", pixels)
    shape = net.sample_shape if sample_shape is None else sample_shape
    model = _model(onnx, net, _checked_shape(shape), pixels)
    onnx.checker.check_model(model, full_check=True)
    with writing(path.parent, "choose another folder"):
        write_atomically(path, model.SerializeToString())


def _checked_shape(shape: Any) -> Shape:
    """Return the shape of one sample as a tuple; a number stands for so many features."""
    if shape is None:
        raise OptionError(
            "to_onnx needs the shape of a sample, and the network has not seen any; write for "
            "example to_onnx(net, path, sample_shape=(784,))"
        )
    sides = (shape,) if isinstance(shape, int | np.integer) else shape
    try:
        return tuple(count("a side", side) for side in sides)
    except (TypeError, OptionError):
        raise OptionError(
            "to_onnx: sample_shape must be whole numbers, such as (784,), without the number of "
            f"samples, which stays free; got {shape!r:.60}"
        ) from None


def _model(onnx: Any, net: Sequential, shape: Shape, pixels: bool) -> Any:
    output_shape = net.output_shape(shape)
    assert output_shape is not None
    helper, params = onnx.helper, net.params  # they have their first values now
    dtype = helper.np_dtype_to_tensor_dtype(net.dtype)
    graph, X = NodeList(onnx, net.xp, params.dtype), "X"
    if pixels:
        X = graph("Div", graph("Cast", X, to=dtype), 255.0)
    graph.nodes.append(helper.make_node("Identity", [graph.layer("", net, X)], ["Y"]))
    given = onnx.TensorProto.UINT8 if pixels else dtype
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "xpnet",
            [helper.make_tensor_value_info("X", given, ("n", *shape))],
            [helper.make_tensor_value_info("Y", dtype, ("n", *output_shape))],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="xpnet",
    )


class NodeList:
    """The nodes and constants of a file: what layers add theirs to."""

    def __init__(self, onnx: Any, xp: Backend, dtype: np.dtype[Any]) -> None:
        self.onnx, self.xp, self.dtype = onnx, xp, dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.path = ""  # of the layer that is writing: "2.0."

    def __call__(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        """Add a node and return the name of its result."""
        name = f"{self.path}{kind}{len(self.nodes)}"
        names = [a if isinstance(a, str) else self._constant(a) for a in inputs]
        node = self.onnx.helper.make_node(kind, names, [f"{name}.Y"], name, **attributes)
        self.nodes.append(node)
        return f"{name}.Y"

    def _constant(self, a: Any) -> str:
        """Return the name of an array, a number or a list of whole numbers."""
        if self.xp.owns(a):
            a = self.xp.asnumpy(a)
        host = np.asarray(a) if isinstance(a, list) else np.asarray(a, self.dtype, order="C")
        name = f"{self.path}constant{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(host, name))
        return name

    def layer(self, name: str, layer: Layer, X: str) -> str:
        """Add the nodes of a layer and return the name of its output."""
        before, self.path = self.path, f"{self.path}{name}." if name else ""
        if not is_described(layer):
            kind = type(layer).__name__
            raise OptionError(
                f"layer {self.path[:-1]}, {layer!r}, does not say what it is in ONNX; define "
                f"{kind}.to_onnx beside {kind}.forward, see xpnet/exchange/onnx_nodes.py"
            )
        Y: str = layer.to_onnx(self, X)  # type: ignore[attr-defined]
        self.path = before
        return Y


def _library() -> Any:
    try:
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise XpnetError(f"onnx is not installed; {INSTALL}") from None
    return onnx
