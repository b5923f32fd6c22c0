#!/usr/bin/env bash
# For a machine with a GPU, CuPy and xpnet's dependencies, in one call: the consistency check with and
# without CuPy's accelerated reductions, the GPU tests, and the goals on CuPy. Writes
# bench/results/gpu-<device>.json and .html (or into the folder that $1 names). XPNET_DATA names the
# folder with MNIST.
set -uo pipefail
cd "$(dirname "$0")/.."
out="${1:-bench/results}"
mkdir -p "$out"
export XPNET_REQUIRE_GPU=1 PYTHONPATH=. PYTHONUNBUFFERED=1

python3 -m xpnet info || exit
python3 -m xpnet check --require cupy --json --html "$out/check.html" > "$out/check.json"
check=$?
CUPY_ACCELERATORS= python3 -m xpnet check --backends cupy --json > "$out/check-plain.json"
plain=$?
python3 -m pytest -q -p no:cacheprovider -m gpu 2>&1 | tee "$out/tests.txt"
tests=${PIPESTATUS[0]}
python3 bench/goals.py --quick --backend cupy 2>&1 | tee "$out/goals.txt"
goals=${PIPESTATUS[0]}
python3 bench/gpu_report.py "$out" "$tests" "$goals"
exit $((check || plain || tests || goals))
