"""xpnet: neural networks with backpropagation written by hand, on NumPy and on CuPy.

Importing it imports NumPy and nothing else.
"""

from xpnet import parallel as parallel
from xpnet import schedules as schedules
from xpnet.backend import Backend as Backend
from xpnet.backend import available_backends as available_backends
from xpnet.backend import get_array_module as get_array_module
from xpnet.backend import get_backend as get_backend
from xpnet.backend import set_backend as set_backend
from xpnet.backend import use_backend as use_backend
from xpnet.callbacks import Callback as Callback
from xpnet.callbacks import EarlyStopping as EarlyStopping
from xpnet.callbacks import ProgressBar as ProgressBar
from xpnet.checkpoint import Checkpoint as Checkpoint
from xpnet.checkpoint import load as load
from xpnet.consistency import CheckReport as CheckReport
from xpnet.consistency import check as check
from xpnet.errors import BackendError as BackendError
from xpnet.errors import CheckpointError as CheckpointError
from xpnet.errors import DataError as DataError
from xpnet.errors import DivergenceError as DivergenceError
from xpnet.errors import MixedArraysError as MixedArraysError
from xpnet.errors import OptionError as OptionError
from xpnet.errors import OutOfMemoryError as OutOfMemoryError
from xpnet.errors import ParallelError as ParallelError
from xpnet.errors import ShapeError as ShapeError
from xpnet.errors import XpnetError as XpnetError
from xpnet.gradcheck import GradientReport as GradientReport
from xpnet.gradcheck import gradcheck as gradcheck
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
from xpnet.losses import SoftmaxCrossEntropy as SoftmaxCrossEntropy
from xpnet.network import Sequential as Sequential
from xpnet.optimizers import SGD as SGD
from xpnet.optimizers import Adam as Adam
from xpnet.optimizers import AdamW as AdamW
from xpnet.optimizers import Optimizer as Optimizer
from xpnet.optimizers import RMSprop as RMSprop
from xpnet.parity import ParityReport as ParityReport
from xpnet.parity import parity as parity
from xpnet.recording import Recorder as Recorder
from xpnet.training import History as History
from xpnet.training import Trainer as Trainer

__version__ = "0.1.0"
