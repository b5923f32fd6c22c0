"""scikit-learn's own tests of its MLP, run on the estimators of xpnet: only the imports differ."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn

pytestmark = pytest.mark.thorough

SOURCE = Path(sklearn.__file__).parent / "neural_network" / "tests" / "test_mlp.py"
IMPORT = "from sklearn.neural_network import MLPClassifier, MLPRegressor"
READ_FOR = "1.9"  # the version whose tests the list below is about
DIFFERENT = {  # docs/estimators.md says the same
    "test_fit": "calls private methods of scikit-learn's class",
    "test_gradient": "calls private methods of scikit-learn's class",
    "test_nonfinite_params": "a loss that is not finite is a DivergenceError that names the layer",
    "test_mlp_diverging_loss": "so is a validation score; there the estimator goes on with NaN",
    "test_early_stopping_stratified": "the error names the class as the user wrote it: 1, not True",
}
SETTINGS = "import pytest\n\n\n@pytest.fixture\ndef global_random_seed():\n    return 42\n"


def test_what_scikit_learn_asks_of_its_own(tmp_path):
    if not sklearn.__version__.startswith(f"{READ_FOR}."):
        pytest.skip(f"the list is for scikit-learn {READ_FOR}; here is {sklearn.__version__}")
    text = SOURCE.read_text(encoding="utf-8")
    assert text.count(IMPORT) == 1
    swapped = text.replace(IMPORT, "from xpnet.estimators import MLPClassifier, MLPRegressor")
    (tmp_path / "test_swapped.py").write_text(swapped, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(SETTINGS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=600
    )
    failed = set(re.findall(r"^FAILED test_swapped\.py::(\w+)", done.stdout, re.MULTILINE))
    assert failed == set(DIFFERENT), done.stdout[-3000:]
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed >= 54
