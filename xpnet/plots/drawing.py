"""Matplotlib, whatever the user's settings of it are."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xpnet.support.errors import XpnetError
from xpnet.support.messages import what_went_wrong

DRAWS = "matplotlib, which draws the pictures"
INSTALL = "run pip install matplotlib"
SETTINGS = "MPLBACKEND", "MATPLOTLIBRC"  # variables that can keep Matplotlib from its import


def require_matplotlib(or_else: str = "") -> None:
    """Import Matplotlib, also where the user's settings of it cannot be used.

    The errors end with ``or_else``, another way out.

    Nothing is said of a home folder that cannot be written: Matplotlib then keeps its cache in a
    temporary folder, which it removes.

    Raises
    ------
    XpnetError
        If Matplotlib is not installed, or is damaged.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        _import()
    except ImportError as error:
        raise XpnetError(f"{DRAWS}, cannot be imported ({error}); {INSTALL}{or_else}") from None
    except Exception as error:  # as where the working folder has a matplotlibrc that is none
        raise XpnetError(
            f"{DRAWS}, cannot be imported ({what_went_wrong(error)}); remove the file matplotlibrc "
            f"of this folder if there is one, or {INSTALL}{or_else}"
        ) from None
    finally:
        logger.setLevel(level)


def _import() -> None:
    """Import Matplotlib; with its own settings, if it does not accept those of the user."""
    try:
        import matplotlib.font_manager
    except ImportError:
        raise
    except Exception:  # a backend or a file of settings that cannot be read
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]  # what the first attempt has left
        with _own_settings():
            import matplotlib.font_manager  # noqa: F401


@contextmanager
def _own_settings() -> Iterator[None]:
    """Hide the user's settings from an import of Matplotlib."""
    before = {name: os.environ.get(name) for name in SETTINGS}
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).parent / "mpl-data" / "matplotlibrc"
    os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": str(file)}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def own_style(style: Any) -> Iterator[None]:
    """Draw with Matplotlib's defaults and this style: the user's settings come back afterwards."""
    require_matplotlib()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        yield


def new_figure(**options: Any) -> Any:
    """Return a figure of pyplot where that is in use, else one without a window."""
    require_matplotlib()
    if "matplotlib.pyplot" in sys.modules or "ipykernel" in sys.modules:
        from matplotlib import pyplot

        with suppress(Exception):  # no window, or a backend that is not installed
            return pyplot.figure(layout="constrained", **options)
    from matplotlib.figure import Figure

    return Figure(layout="constrained", **options)
