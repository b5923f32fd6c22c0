"""Estimators: the networks of this library as scikit-learn's classifiers and regressors.

Importing this imports scikit-learn, which ``import xpnet`` does not.
"""

from xpnet.estimators.classifier import MLPClassifier as MLPClassifier
from xpnet.estimators.regressor import MLPRegressor as MLPRegressor
