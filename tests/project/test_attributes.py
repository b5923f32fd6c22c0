"""What a user assigns takes effect or is refused: the pieces that all classes use."""

from __future__ import annotations

import copy
import pickle

import pytest

import xpnet
from xpnet.support.attributes import Checked, Fixed, names_of, require_known
from xpnet.support.checks import positive


class Scale(xpnet.Layer):
    """A layer of a user's."""

    factor = Checked(positive)
    n = Fixed()

    def __init__(self, factor=2.0, n=3):
        super().__init__()
        self.factor, self.n = factor, n


def test_a_checked_attribute_takes_what_the_check_returns():
    layer = Scale()
    layer.factor = 3
    assert layer.factor == 3.0
    assert type(vars(layer)["factor"]) is float


def test_a_checked_attribute_refuses_by_the_name_of_the_class():
    layer = Scale()
    with pytest.raises(xpnet.OptionError, match=r"^Scale: factor must be .*; got -1$"):
        layer.factor = -1
    assert layer.factor == 2.0


def test_a_fixed_attribute_can_be_set_once():
    layer = Scale(n=4)
    layer.n = 4  # the same value changes nothing
    with pytest.raises(xpnet.OptionError, match=r"n of Scale\(\) cannot .* to 5; make a new Scale"):
        layer.n = 5
    assert layer.n == 4


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_keep_the_values(duplicate):
    assert duplicate(Scale(5.0, 6)).factor == 5.0
    assert duplicate(Scale(5.0, 6)).n == 6


def test_pickles_keep_the_values():
    layer = pickle.loads(pickle.dumps(Scale(5.0, 6)))
    assert (layer.factor, layer.n) == (5.0, 6)


def test_a_name_that_nothing_reads_is_found():
    layer = xpnet.Dropout(0.25)
    require_known(layer)
    layer.pp = 0.5
    with pytest.raises(
        xpnet.OptionError, match=r"Dropout\(0.25\): unknown attribute 'pp'; did you"
    ):
        require_known(layer)


def test_a_class_of_a_users_may_have_any_name():
    layer = Scale()
    layer.note = "mine"
    require_known(layer)


def test_names_that_only_a_step_sets_are_known():
    net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.BatchNorm1d(3), xpnet.GELU())
    net.input_gradient = True
    Y = net.forward(net.xp.asarray([[0.0, 1.0], [2.0, 3.0]], net.dtype))
    net.backward(Y)
    for thing in (net, *net):
        require_known(thing)
    assert {"X", "Y", "W", "bias"} <= names_of(xpnet.Linear)
    assert "weight" not in names_of(xpnet.Linear)
