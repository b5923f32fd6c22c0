"""The estimators beside scikit-learn's MLP: ``python bench/estimators.py [--quick] [--out FILE]``.

Four data sets of scikit-learn, five folds, five seeds; the same parameters, behind a
StandardScaler, float64. A score is the accuracy, or R². scikit-learn and xpnet on each backend fit
each fold in turn. Printed are the means of the scores over folds and seeds with the standard
deviation over seeds, the mean difference from scikit-learn's score on the same fold with its
standard error (within noise: at most three of them; else there is a "!"), the median time of a fit,
and how many times longer scikit-learn takes: the median of the ratios of each turn. Both draw first
weights and order of the samples for themselves, so they stop after a few epochs more or less: the
last column is the same for an epoch.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn
from sklearn import neural_network
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info

import xpnet
from xpnet import estimators

OUT = Path(__file__).parent / "results" / "estimators.json"
PAGE = Path(__file__).parents[1] / "docs" / "estimators.md"  # has the table of the last whole run
DATA = {
    "digits": (load_digits, {}),
    "breast cancer": (load_breast_cancer, {}),
    "wine": (load_wine, {}),
    "diabetes": (load_diabetes, {"learning_rate_init": 0.01}),  # 200 epochs do not suffice else
}
FOLDS, SEEDS, NOISE = 5, 5, 3.0
HEAD = (
    "| data | who | score | difference | epochs | fit | scikit-learn takes | in an epoch |\n"
    "|---|---|---|---|---|---|---|---|"
)


def contestants(classes: bool) -> dict:
    """Return who takes part: a class, and the parameters that the others do not have."""
    kind = "MLPClassifier" if classes else "MLPRegressor"
    ours, theirs = getattr(estimators, kind), getattr(neural_network, kind)
    backends = [name for name in xpnet.available_backends() if name != "cupy"]
    return {"scikit-learn": (theirs, {})} | {name: (ours, {"backend": name}) for name in backends}


def rounds(name: str, seeds: int) -> dict[str, list[dict]]:
    """Return what each contestant reaches in each turn."""
    load, options = DATA[name]
    X, y = load(return_X_y=True)
    classes = y.dtype.kind == "i"
    found: dict[str, list[dict]] = {who: [] for who in contestants(classes)}
    splitter = (StratifiedKFold if classes else KFold)(FOLDS, shuffle=True, random_state=0)
    for train, test in splitter.split(X, y):
        scaler = StandardScaler().fit(X[train])
        X_train, X_test = scaler.transform(X[train]), scaler.transform(X[test])
        for seed in range(-1, seeds):  # the first one warms up
            for who, (kind, own) in contestants(classes).items():
                model = kind(random_state=max(seed, 0), **options, **own)
                if seed < 0:
                    model.set_params(max_iter=2)
                begin = time.perf_counter()
                model.fit(X_train, y[train])
                seconds = time.perf_counter() - begin
                if seed >= 0:
                    row = {"seed": seed, "seconds": seconds, "epochs": model.n_iter_}
                    found[who].append(row | {"score": model.score(X_test, y[test])})
    return found


def summary(found: list[dict], sklearn_found: list[dict]) -> dict:
    """Return the numbers of a contestant."""
    score, time_s, epochs, seed = (
        np.array([r[k] for r in found]) for k in ("score", "seconds", "epochs", "seed")
    )
    other, other_s, other_epochs = (
        np.array([r[k] for r in sklearn_found]) for k in ("score", "seconds", "epochs")
    )
    by_seed = [score[seed == s].mean() for s in sorted(set(seed.tolist()))]
    difference = score - other
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else 0.0
    return {
        "score": float(score.mean()),
        "std": float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else 0.0,
        "difference": float(difference.mean()),
        "error": float(error),
        "within_noise": bool(abs(difference.mean()) <= NOISE * error or not difference.any()),
        "seconds": float(np.median(time_s)),
        "epochs": float(np.median(epochs)),
        "ratio": float(np.median(other_s / time_s)),
        "ratio_of_an_epoch": float(np.median((other_s / other_epochs) / (time_s / epochs))),
    }


def row(name: str, who: str, s: dict) -> str:
    """Return a row of the table."""
    difference = f"{s['difference']:+.4f} ± {s['error']:.4f}"
    noise = "-" if who == "scikit-learn" else f"{difference}{'' if s['within_noise'] else ' !'}"
    return (
        f"| {name} | {who} | {s['score']:.4f} ± {s['std']:.4f} | {noise} | {s['epochs']:.0f} | "
        f"{s['seconds'] * 1e3:.0f} ms | {s['ratio']:.2f}x | {s['ratio_of_an_epoch']:.2f}x |"
    )


def into_the_page(report: dict) -> None:
    """Bring the table of docs/estimators.md up to date."""
    rows = [row(name, *pair) for name, found in report["data"].items() for pair in found.items()]
    text, table = PAGE.read_text(encoding="utf-8"), "\n".join([HEAD, *rows])
    PAGE.write_text(re.sub(r"\| data \|.*(\n\|.*)*", lambda _: table, text), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="wine alone, with two seeds")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    names, seeds = (["wine"], 2) if options.quick else (list(DATA), SEEDS)
    warnings.simplefilter("ignore", ConvergenceWarning)  # diabetes goes on for ever
    report: dict = {
        "processor": platform.processor() or platform.machine(),
        "threads": {p["internal_api"]: p["num_threads"] for p in threadpool_info()},
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "data": {},
    }
    print(HEAD)
    for name in names:
        found = rounds(name, seeds)
        numbers = {who: summary(rows, found["scikit-learn"]) for who, rows in found.items()}
        report["data"][name] = numbers
        for who, s in numbers.items():
            print(row(name, who, s), flush=True)
    if not options.quick or options.out:
        (options.out or OUT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if not options.quick and not options.out:
        into_the_page(report)


if __name__ == "__main__":
    main()
