"""Write ``cupy_api.json``: CuPy's public names and signatures, for the stand-in ``strictxp``.

Run it where CuPy is installed (no GPU needed) after an upgrade of CuPy::

    python tests/helpers/make_cupy_api.py

The file holds

- ``cupy``: the version that was read;
- ``functions``: name -> [[parameter, kind, has a default], ...]; the kinds are the numbers of
  ``inspect.Parameter.kind``; null where there is no signature, or where the function is NumPy's;
- ``methods``: the same for the methods of ``cupy.ndarray``, without ``self``;
- ``ufuncs``, ``ndarray``: names of the ufuncs, and of all attributes of an array;
- ``values``: NumPy's own types and constants, such as ``float32`` and ``pi``.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Any

PATH = Path(__file__).with_name("cupy_api.json")


def describe() -> dict[str, Any]:
    """What the installed CuPy offers."""
    import cupy

    names = [name for name in dir(cupy) if not name.startswith("_")]
    kinds = {name: _kind(name, getattr(cupy, name), cupy.ufunc) for name in names}
    attributes = [name for name in dir(cupy.ndarray) if not name.startswith("_")]
    methods = [name for name in attributes if callable(getattr(cupy.ndarray, name))]
    return {
        "cupy": cupy.__version__,
        "functions": {n: _function(n, getattr(cupy, n)) for n in names if kinds[n] == "function"},
        "methods": {n: _method(getattr(cupy.ndarray, n)) for n in methods},
        "ndarray": attributes,
        "ufuncs": [n for n in names if kinds[n] == "ufunc"],
        "values": [n for n in names if kinds[n] == "value"],
    }


def _kind(name: str, value: Any, ufunc: type) -> str | None:
    if isinstance(value, ufunc):
        return "ufunc"
    if isinstance(value, type):
        return "value" if _is_numpys(name, value) else None
    if value is None or isinstance(value, float):
        return "value"
    return "function" if callable(value) and not isinstance(value, ModuleType) else None


def _is_numpys(name: str, value: Any) -> bool:
    import numpy as np

    return getattr(np, name, None) is value


def _function(name: str, function: Any) -> list[list[Any]] | None:
    if _is_numpys(name, function):
        return None
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return None
    return [[p.name, int(p.kind), p.default is not p.empty] for p in parameters]


def _method(method: Any) -> list[list[Any]]:
    """The signature in the first line of a compiled method's docstring.

    For example ``_ndarray_base.dot(self, _ndarray_base b, _ndarray_base out=None) -> ...``.
    """
    text = method.__doc__.splitlines()[0].partition("(")[2].rpartition(")")[0]
    kind, described = inspect.Parameter.POSITIONAL_OR_KEYWORD, []
    for parameter in text.split(", ")[1:]:
        declaration, has_default, _ = parameter.partition("=")
        name = declaration.split()[-1]
        if name.startswith("*"):
            if name != "*":
                described.append([name[1:], int(inspect.Parameter.VAR_POSITIONAL), False])
            kind = inspect.Parameter.KEYWORD_ONLY
        else:
            described.append([name, int(kind), bool(has_default)])
    return described


def to_json(api: dict[str, Any]) -> str:
    """One line per name with a signature, so that a diff shows what changed."""
    parts = []
    for key, value in sorted(api.items()):
        text = json.dumps(value)
        if isinstance(value, dict):
            lines = [f"{json.dumps(name)}: {json.dumps(value[name])}" for name in sorted(value)]
            text = "{\n" + ",\n".join(lines) + "\n}"
        parts.append(f'"{key}": {text}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    PATH.write_text(to_json(describe()), encoding="utf-8")
    print(f"wrote {PATH}")
