"""The errors of the library: each says what came, where, and the way out."""


class XpnetError(Exception):
    """Base of every error that xpnet raises on purpose; the command line prints it in one line."""


class BackendError(XpnetError, RuntimeError):
    """A backend is unknown or cannot be used on this machine."""


class ShapeError(XpnetError, ValueError):
    """A shape does not fit the layer, the loss or the data beside it."""


class DataError(XpnetError, ValueError):
    """Data, labels or a data file are not what they must be."""


class CheckpointError(XpnetError, ValueError):
    """A file of a network or a training is damaged, or is none, or is one of another."""


class OptionError(XpnetError, ValueError):
    """An option has a name or a value that does not exist."""


class MixedArraysError(XpnetError, TypeError):
    """Arrays of two backends met in one computation."""


class DivergenceError(XpnetError, ArithmeticError):
    """The loss or the parameters are no longer finite."""


class ParallelError(XpnetError, RuntimeError):
    """The processes of a training do not fit together, or cannot be started."""


class OutOfMemoryError(XpnetError, MemoryError):
    """The data set, or a batch, does not fit in memory."""
