#!/usr/bin/env bash
# Collects the wheels that run.sh installs on a machine without network: what requirements.lock pins for Python 3.12 on
# x86-64 Linux beside torch, torchvision and NVIDIA's libraries. Runs on a machine with network, pip and Python 3.12.
#
#   tests/gpu/wheels.sh [--out FOLDER] [--present FILE] [--limit MIB]
#
# --present FILE  `pip list` of the GPU machine: what it has stays out, whatever its version (summary.json names it)
# --limit MIB     greatest size of a part, to carry the wheels in several goes (default 50)
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3.12}
out=$project/build/gpu/wheels
limit=50
present=()
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2 ;;
        --present) present=(--present "$2") ;;
        --limit) limit=$2 ;;
        *) echo "error: $1: unknown; allowed: --out FOLDER, --present FILE, --limit MIB" >&2; exit 2 ;;
    esac
    [ $# -ge 2 ] || { echo "error: $1: needs a value" >&2; exit 2; }
    shift 2
done
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$version" = 3.12 ] || { echo "error: $python is Python $version; say PYTHON=/path/to/python3.12" >&2; exit 2; }

rm -rf "$out"
mkdir -p "$out"
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$python" -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet --disable-pip-version-check packaging
"$tools/venv/bin/python" "$project/tests/gpu/choose_wheels.py" choose "$project/requirements.lock" "${present[@]}" \
    > "$tools/chosen.txt"
# mmcv comes as source; the isolated build sees no torch and makes pure Python of it, without compiled operators.
"$tools/venv/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$out" -r "$tools/chosen.txt"
# Tagged for CPython 3.10 (see detectron2.lock); run.sh unpacks it.
"$tools/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$out" --python-version 3.10 \
    --implementation cp --abi none --platform any --only-binary=:all: -r "$project/detectron2.lock"
"$tools/venv/bin/python" "$project/tests/gpu/choose_wheels.py" split "$out" --limit "$limit"
