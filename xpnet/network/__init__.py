"""Networks: layers in a row, with all their parameters in one flat vector."""

from xpnet.network.checks import DTYPES as DTYPES
from xpnet.network.checks import check_shapes as check_shapes
from xpnet.network.predicting import PREDICTION_BATCH as PREDICTION_BATCH
from xpnet.network.sequential import Sequential as Sequential
