#!/usr/bin/env bash
# For a machine with a GPU, CuPy and xpnet's dependencies, in one call and under 8 minutes: the
# consistency check with and without CuPy's accelerated reductions, the comparison with PyTorch and
# JAX where they are installed, the time to accuracy, the GPU tests, those of several processes (with
# NCCL, and with an MPI for mpi4py, where they are installed), and the goals on CuPy if there is time
# left. Writes bench/results/gpu-<device>.json and .html (or into the folder that $1 names);
# python bench/report.py then brings the README up to date. XPNET_DATA names the folder with MNIST,
# PYTHON the Python to use. A part that fails or takes too long leaves its reason in the JSON, and
# the others go on; the exit code is 0 if all but the goals succeeded.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
out="${1:-bench/results}"
python="${PYTHON:-python3}"
budget=465 # seconds for all parts together
mkdir -p "$out" && parts=$(mktemp -d "$out/parts.XXXXXX") || exit 2
trap 'rm -rf "$parts"' EXIT
export XPNET_REQUIRE_GPU=1 PYTHONUNBUFFERED=1 PYTHONPATH=".${PYTHONPATH:+:$PYTHONPATH}"

if ! "$python" -c "import xpnet"; then
    echo "gpu.sh: $python cannot import xpnet: the line above says why; or set PYTHON" >&2
    exit 2
fi
# The device and the versions; says in a sentence why the GPU cannot be used, if so.
"$python" bench/gpu_report.py --device "$parts/device.json" || exit 2

data=(${XPNET_DATA:+--data-dir "$XPNET_DATA"})
failures=0
part() { # NAME LIMIT COMMAND ...
    local name=$1 limit=$2 left=$((budget - SECONDS)) begin=$SECONDS code=0 signal=TERM
    shift 2
    [[ $name == tests || $name == parallel ]] && signal=INT # at which pytest still says what it has found
    echo "== $name"
    if ((left < 10)); then
        echo "no time left" > "$parts/$name.err"
        code=124
    else
        ((limit < left)) || limit=$left
        timeout -s "$signal" -k 5 "$limit" "$@" 2> "$parts/$name.err" |
            tee "$parts/$name.out" | show "$name"
        code=${PIPESTATUS[0]}
    fi
    echo "$code $((SECONDS - begin)) $limit" > "$parts/$name.end"
    if ((code)); then
        tail -n 6 "$parts/$name.err" >&2
        failures=$((failures + 1))
    fi
    echo "== $name: exit code $code after $((SECONDS - begin)) s, $SECONDS s in all"
}
show() { # the checks print JSON, which nobody wants to see
    case $1 in check*) cat > /dev/null ;; *) cat ;; esac
}

check=("$python" -m xpnet check --json "${data[@]}")
part check 90 "${check[@]}" --require cupy --html "$parts/check.html"
part check-plain 60 env CUPY_ACCELERATORS= "${check[@]}" --backends cupy
part peers 190 "$python" bench/peers.py --out "$parts/peers.json"
part accuracy 75 "$python" bench/time_to_accuracy.py --out "$parts/accuracy.json"
tests=("$python" -m pytest -q -rs -p no:cacheprovider --continue-on-collection-errors -m gpu)
apart=tests/test_parallel_devices.py # where a process may wait for another one for ever
part tests 180 "${tests[@]}" --ignore "$apart"
part parallel 100 "${tests[@]}" "$apart"
slow=$failures
part goals 120 "$python" bench/goals.py --quick --backend cupy
failures=$slow # the goals are those of the CPU: how long they take here is only noted

"$python" bench/gpu_report.py "$parts" "$out" || exit 2
echo "== all: $SECONDS s, $failures of 6 parts failed"
exit $((failures > 0))
