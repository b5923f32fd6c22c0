"""The errors of the library. Each message says what was given, what is wrong, and what to do."""


def printable(text: str) -> str:
    """Return a text with no character that a terminal obeys or does not show, except the new line.

    Names and words out of a file stand in messages; a file may hold a terminal's commands.
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class XpnetError(Exception):
    """Base of every error that xpnet raises on purpose; the command line prints it in one line."""

    def __str__(self) -> str:
        """Return the message, which a terminal can show whatever file its words are from."""
        return printable(super().__str__())


class BackendError(XpnetError, RuntimeError):
    """A backend is unknown or cannot be used on this machine."""


class ShapeError(XpnetError, ValueError):
    """A shape does not fit the layer, the loss or the data beside it."""


class DataError(XpnetError, ValueError):
    """Data, labels or a data file do not have the values that they need."""


class CheckpointError(XpnetError, ValueError):
    """A file is damaged, is not a checkpoint, or belongs to another network or training."""


class OptionError(XpnetError, ValueError):
    """An option has a name or a value that does not exist."""


class MixedArraysError(XpnetError, TypeError):
    """One computation has got arrays of two backends."""


class DivergenceError(XpnetError, ArithmeticError):
    """The loss or the parameters are no longer finite."""


class ParallelError(XpnetError, RuntimeError):
    """Processes cannot be started, or do not run the same training."""


class OutOfMemoryError(XpnetError, MemoryError):
    """The data set, or a batch, does not fit in memory."""


for _error in [XpnetError, *XpnetError.__subclasses__()]:
    _error.__module__ = "xpnet"  # where users find it, and what a traceback says
