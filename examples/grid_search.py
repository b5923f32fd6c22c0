"""A search for the best settings
================================

The network is the last step of a scikit-learn pipeline, and scikit-learn tries settings of it: the
width of the hidden layer and the dropout, each on three parts of the data in turn.
"""

import sys
import warnings

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xpnet.estimators import MLPClassifier

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 30
warnings.simplefilter("ignore", ConvergenceWarning)  # so few epochs are what is asked for

# %%
# A pipeline scales the digits and hands them to the network. Its backend is one more parameter.
X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
network = MLPClassifier(learning_rate_init=0.01, max_iter=epochs, backend="numpy", random_state=0)
pipeline = make_pipeline(StandardScaler(), network)

# %%
# Nine settings, three trainings each, and a last one with the best of them on all the data.
widths, dropouts = [8, 32, 128], [0.0, 0.25, 0.5]
settings = {"mlpclassifier__hidden_layer_sizes": widths, "mlpclassifier__dropout": dropouts}
search = GridSearchCV(pipeline, settings, cv=3).fit(X, y)
best = search.best_estimator_[-1]
print(f"best: {best.hidden_layer_sizes} units, dropout {best.dropout}")
reached = search.score(X_test, y_test)
print(f"accuracy in the search {search.best_score_:.2%}, on new digits {reached:.2%}")

# %%
# What each setting has reached, and which digits the best one takes for which.
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
table = search.cv_results_["mean_test_score"].reshape(len(dropouts), len(widths))
left.imshow(table, cmap="Blues", vmin=table.min() - 0.02)
left.set(xlabel="units", ylabel="dropout", title="accuracy")
left.set_xticks(range(len(widths)), widths)
left.set_yticks(range(len(dropouts)), dropouts)
for i, row in enumerate(table):
    for j, value in enumerate(row):
        left.text(
            j, i, f"{value:.1%}", ha="center", color="white" if value > table.mean() else "black"
        )
ConfusionMatrixDisplay.from_estimator(
    search, X_test, y_test, ax=right, colorbar=False, cmap="Blues"
)
fig.savefig("grid_search.png")
print("the figure is in grid_search.png")
