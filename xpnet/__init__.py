"""xpnet: neural networks with backpropagation written by hand, on NumPy and on CuPy.

Importing it imports NumPy and nothing else.
"""

import sys

from xpnet import exchange as exchange
from xpnet import layers as layers
from xpnet import parallel as parallel
from xpnet import schedules as schedules
from xpnet.backend import Backend as Backend
from xpnet.backend import available_backends as available_backends
from xpnet.backend import get_array_module as get_array_module
from xpnet.backend import get_backend as get_backend
from xpnet.backend import set_backend as set_backend
from xpnet.backend import use_backend as use_backend
from xpnet.layers import GELU as GELU
from xpnet.layers import BatchNorm1d as BatchNorm1d
from xpnet.layers import Dropout as Dropout
from xpnet.layers import Flatten as Flatten
from xpnet.layers import Identity as Identity
from xpnet.layers import Layer as Layer
from xpnet.layers import LayerNorm as LayerNorm
from xpnet.layers import LeakyReLU as LeakyReLU
from xpnet.layers import Linear as Linear
from xpnet.layers import ReLU as ReLU
from xpnet.layers import Sigmoid as Sigmoid
from xpnet.layers import Softmax as Softmax
from xpnet.layers import Tanh as Tanh
from xpnet.losses import BinaryCrossEntropy as BinaryCrossEntropy
from xpnet.losses import CrossEntropy as CrossEntropy
from xpnet.losses import Huber as Huber
from xpnet.losses import Loss as Loss
from xpnet.losses import MeanSquaredError as MeanSquaredError
from xpnet.losses import Poisson as Poisson
from xpnet.losses import SoftmaxCrossEntropy as SoftmaxCrossEntropy
from xpnet.network import Sequential as Sequential
from xpnet.optimizers import SGD as SGD
from xpnet.optimizers import Adam as Adam
from xpnet.optimizers import AdamW as AdamW
from xpnet.optimizers import Optimizer as Optimizer
from xpnet.optimizers import RMSprop as RMSprop
from xpnet.storage.network_file import load as load
from xpnet.support.errors import BackendError as BackendError
from xpnet.support.errors import CheckpointError as CheckpointError
from xpnet.support.errors import DataError as DataError
from xpnet.support.errors import DivergenceError as DivergenceError
from xpnet.support.errors import MixedArraysError as MixedArraysError
from xpnet.support.errors import OptionError as OptionError
from xpnet.support.errors import OutOfMemoryError as OutOfMemoryError
from xpnet.support.errors import ParallelError as ParallelError
from xpnet.support.errors import ShapeError as ShapeError
from xpnet.support.errors import XpnetError as XpnetError
from xpnet.support.version import __version__ as __version__
from xpnet.training.callbacks import Callback as Callback
from xpnet.training.callbacks import ProgressBar as ProgressBar
from xpnet.training.checkpoint import Checkpoint as Checkpoint
from xpnet.training.early_stopping import EarlyStopping as EarlyStopping
from xpnet.training.recording import Recorder as Recorder
from xpnet.training.register import register as register
from xpnet.training.trainer import Trainer as Trainer
from xpnet.training.training import History as History
from xpnet.verify import golden as golden
from xpnet.verify.consistency import CheckReport as CheckReport
from xpnet.verify.consistency import check as check
from xpnet.verify.gradcheck import GradientReport as GradientReport
from xpnet.verify.gradcheck import gradcheck as gradcheck
from xpnet.verify.parity import ParityReport as ParityReport
from xpnet.verify.parity import parity as parity

# Modules that version 0.1 had here: `from xpnet.callbacks import Callback` still works.
_MOVED = {
    "backend": ["random"],
    "support": ["errors"],
    "training": ["callbacks", "checkpoint", "metrics", "recording"],
    "verify": ["consistency", "golden", "gradcheck", "parity"],
}
for _room, _names in _MOVED.items():
    for _name in _names:
        _module = sys.modules[f"xpnet.{_name}"] = sys.modules[f"xpnet.{_room}.{_name}"]
        globals().setdefault(_name, _module)

vars(sys.modules["xpnet.callbacks"])["EarlyStopping"] = EarlyStopping  # version 0.1 had it there

globals().update(layers.LAYERS)  # those that have no line above: see xpnet/layers/__init__.py
