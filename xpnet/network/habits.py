"""Names that other libraries use for what a network has elsewhere: each says where."""

from __future__ import annotations

from typing import Any, NoReturn

from xpnet.support.attributes import Foreign
from xpnet.support.errors import OptionError

TRAINS = "xpnet.Trainer(net, loss).fit(X, t) trains a network"
GRADIENTS = "every backward overwrites the gradients, and nobody sets them to zero"
VALUES = "net.params is the vector of all parameters, net.state_dict() has them by name"
OPTIMIZER = "it belongs to an optimizer: xpnet.Adam(net, lr=1e-3)"


class Habits:
    """What a user of another library may try first."""

    fit, compile, train_on_batch = Foreign(TRAINS), Foreign(TRAINS), Foreign(TRAINS)
    evaluate = Foreign("xpnet.Trainer(net, loss, metrics=[...]).evaluate(X, t) does it")
    score = Foreign("xpnet.Trainer(net, loss, metrics=[...]).evaluate(X, t) does it")
    predict_proba = Foreign("net.predict(X) gives the outputs; end with Softmax() or Sigmoid()")
    add, append = Foreign("net.layers.append(layer)"), Foreign("net.layers.append(layer)")
    eval = Foreign("net.train(False), or: with net.evaluating()")
    zero_grad = Foreign(GRADIENTS)
    cuda, cpu = Foreign('net.to("cupy")'), Foreign('net.to("numpy")')
    float, double = Foreign('net.to(dtype="float32")'), Foreign('net.to(dtype="float64")')
    weights, get_weights, set_weights = Foreign(VALUES), Foreign(VALUES), Foreign(VALUES)
    learning_rate, lr, optimizer = Foreign(OPTIMIZER), Foreign(OPTIMIZER), Foreign(OPTIMIZER)
    loss = Foreign("xpnet.Trainer(net, loss) has one")

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a call could mean either."""
        raise OptionError(
            "a network is not called: net.predict(X) gives outputs, net.forward(X) is the first "
            "half of a step"
        )
