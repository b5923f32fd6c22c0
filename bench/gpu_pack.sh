#!/usr/bin/env bash
# Gathers what a machine with a GPU may lack and cannot download: bench/gpu_pack.sh [FOLDER]
#
# MNIST from the folder that XPNET_DATA names, wheels of pooch and platformdirs, and of MPICH what
# mpi4py needs to run here. FOLDER is bench/gpu_pack by default, which git ignores; bench/gpu.sh uses
# it where it finds it. Everything that is copied to such a machine has to be small: the pack under
# 20 MB, the tracked and untracked files of this folder and the pack together under 40 MB.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder="${1:-$root/bench/gpu_pack}"
python="${PYTHON:-python3}"
pack_limit=20000000 all_limit=40000000

say() { # what was wrong, in one sentence
    echo "gpu_pack.sh: $*" >&2
    exit 1
}
size() { find "$@" -type f -exec wc -c {} + | awk '$2 != "total" { n += $1 } END { print n + 0 }'; }

[[ -e $folder && ! -d $folder ]] && say "$folder is a file; name a folder for the pack"
others=$(find "$folder" -mindepth 1 -maxdepth 1 ! -name mnist ! -name 'pooch-*.whl' \
    ! -name 'platformdirs-*.whl' ! -name mpich.zip ! -name commit.txt -print -quit 2> /dev/null || true)
[[ -n $others || (-e $folder/mnist && ! -e $folder/mpich.zip) ]] &&
    say "$folder has other files than an earlier pack, which would be lost; name a new folder"
data="${XPNET_DATA:-}"
[[ -d $data/mnist ]] && data=$data/mnist
compgen -G "$data/*-ubyte*" > /dev/null || say "no MNIST in '$data'; set XPNET_DATA to its folder"

new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
mkdir -p "$new/wheels" "$new/pack/mnist"
cp "$data"/*-ubyte* "$new/pack/mnist/"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64 \
    --platform manylinux2014_x86_64 --dest "$new/wheels" pooch platformdirs mpich ||
    say "pip cannot download pooch, platformdirs and mpich; the lines above say why"
mv "$new"/wheels/{pooch,platformdirs}-*.whl "$new/pack/"
"$python" "$root/bench/gpu_pack_mpich.py" "$new"/wheels/mpich-*.whl "$new/pack/mpich.zip"
git -C "$root" describe --always --dirty --abbrev=40 > "$new/pack/commit.txt" 2> /dev/null || true
chmod -R u+w "$new/pack"
rm -rf "$folder" && mkdir -p "$(dirname "$folder")" && mv "$new/pack" "$folder"

find "$folder" -type f -exec wc -c {} + | sort -n
pack=$(size "$folder")
((pack < pack_limit)) || say "the pack has $pack bytes, more than $pack_limit; leave something out"
tree=$(cd "$root" && git ls-files -z --cached --others --exclude-standard |
    xargs -0 sh -c 'for f; do [ -f "$f" ] && wc -c < "$f"; done' sh | awk '{ n += $1 } END { print n }')
all=$((pack + tree))
echo "pack $pack, files of this folder $tree, together $all bytes"
((all < all_limit)) || say "together $all bytes, more than $all_limit; see git status for large files"
