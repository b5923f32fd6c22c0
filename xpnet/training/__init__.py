"""The step, and the trainer that takes it."""

from xpnet.training.trainer import Trainer as Trainer
from xpnet.training.training import History as History
