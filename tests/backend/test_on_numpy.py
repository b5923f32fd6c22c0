"""Every override of the NumPy backend against the meaning in ``base.py``."""

from __future__ import annotations

import inspect

import numpy as np
import primitive_cases
import pytest
from primitive_cases import ARRAY_METHODS, Meaning, check, check_array_methods, primitives, public

from xpnet.backend.base import Backend
from xpnet.backend.on_numpy import NumPyBackend
from xpnet.support.errors import MixedArraysError

CASES = primitive_cases.cases()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_numpy_backend_does_what_base_says(case):
    check(NumPyBackend(), case, same_order=False)


@pytest.mark.parametrize("backend", [Meaning(), NumPyBackend()], ids=["meaning", "numpy"])
def test_arrays_are_made_and_recognised(backend):
    check_array_methods(backend)
    with pytest.raises(MixedArraysError, match=r"ReLU\(\).*but X is a builtins.list"):
        backend.require([1.0], "ReLU()", "X")


def test_every_primitive_has_cases_and_there_are_no_others():
    covered = {case.primitive for case in CASES}
    assert covered | ARRAY_METHODS == primitives()
    assert not covered & ARRAY_METHODS
    assert len({str(case) for case in CASES}) == len(CASES)


def test_overrides_have_the_signatures_of_base():
    for name in public(NumPyBackend):
        ours, theirs = (inspect.signature(getattr(c, name)) for c in (NumPyBackend, Backend))
        assert ours.parameters == theirs.parameters, name


def test_the_check_sees_one_wrong_rounding_more_than_it_allows():
    want = np.array([1.0, -2.0], np.float32)
    primitive_cases.compare("", want * np.float32(1 + 2**-22), want, ulps=2, scale=0.0)
    with pytest.raises(AssertionError, match="more than 2 roundings"):
        primitive_cases.compare("", want * np.float32(1 + 2**-21), want, ulps=2, scale=0.0)
