"""Weights, networks and arrays for other libraries, and from them.

Each library is imported when it is first needed.
"""

from xpnet.exchange import torch_layout as _torch_layout  # noqa: F401 - adds its layout
from xpnet.exchange.dlpack import from_dlpack as from_dlpack
from xpnet.exchange.dlpack import to_dlpack as to_dlpack
from xpnet.exchange.onnx import to_onnx as to_onnx
from xpnet.exchange.safetensors import load_safetensors as load_safetensors
from xpnet.exchange.safetensors import save_safetensors as save_safetensors
