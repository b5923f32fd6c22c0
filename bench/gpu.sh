#!/usr/bin/env bash
# Everything that only a GPU can tell about xpnet, in two calls of 7 and 4 minutes at most:
#
#   bench/gpu.sh [--call 1|2] [--stage NAME] [--rehearse] [FOLDER]
#
# Call 1: the golden hashes, captured steps, the tests, xpnet beside PyTorch and JAX, the time to
# accuracy. Call 2: the other modes, several processes, the full check, compute-sanitizer. Without
# --call, both. FOLDER gets results.json and a few files beside it, after each stage; its default is
# $OUT, else bench/results/gpu-run. PYTHON names the Python to use. What the machine lacks (MNIST, an
# MPI) can come in bench/gpu_pack, which bench/gpu_pack.sh makes. --rehearse needs no GPU.
# Then, on any machine: python bench/gpu_report.py FOLDER
set -uo pipefail
GPU_SH_BEGAN=$(date +%s) # the calls count their seconds from here
root=$(cd "$(dirname "$0")/.." && pwd) || exit 2
pack="${GPU_PACK:-$root/bench/gpu_pack}"
python=$(command -v "${PYTHON:-python3}") || {
    echo "gpu.sh: there is no ${PYTHON:-python3}; set PYTHON to the Python to use" >&2
    exit 2
}
[[ $python == /* ]] || python="$PWD/$python"
GPU_SCRATCH=$(cd "${TMPDIR:-/tmp}" 2> /dev/null && mktemp -d "$PWD/gpu-sh.XXXXXX" 2> /dev/null) || {
    echo "gpu.sh: cannot write to ${TMPDIR:-/tmp}; set TMPDIR to a folder with 1 GB of room" >&2
    exit 2
}
trap 'rm -rf "$GPU_SCRATCH"' EXIT # until Python takes over

unpack() { # what the machine lacks; a wheel of pure Python needs no pip, which may be missing, too
    local wheel missing=0
    for wheel in "$pack"/*.whl; do
        "$python" -m zipfile -e "$wheel" "$GPU_SCRATCH/site" || missing=1
    done
    "$python" -m zipfile -e "$pack/mpich.zip" "$GPU_SCRATCH/mpich" &&
        chmod +x "$GPU_SCRATCH"/mpich/bin/* || missing=1
    return $missing
}
if [[ -d $pack ]]; then
    unpack 2> "$GPU_SCRATCH/unpack" ||
        echo "gpu.sh: a part of $pack cannot be used ($(tail -n 1 "$GPU_SCRATCH/unpack"))" >&2
    export PATH="$GPU_SCRATCH/mpich/bin:$PATH"
    export LD_LIBRARY_PATH="$GPU_SCRATCH/mpich/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export PYTHONPATH="$GPU_SCRATCH/site${PYTHONPATH:+:$PYTHONPATH}"
    export XPNET_DATA="${XPNET_DATA:-$pack/mnist}"
fi

export GPU_SH_BEGAN GPU_SCRATCH PYTHON="$python"
exec "$python" "$root/bench/gpu_stages.py" "$@"
