"""Networks: layers in a row, with all their parameters in one flat vector."""

from xpnet.network.sequential import DTYPES as DTYPES
from xpnet.network.sequential import PREDICTION_BATCH as PREDICTION_BATCH
from xpnet.network.sequential import Sequential as Sequential
from xpnet.network.sequential import check_shapes as check_shapes
