#!/usr/bin/env bash
# Builds the wheel, installs it with its pins into an empty environment of each interpreter named, and runs it there.
# Usage: tests/wheel.sh python3.11 python3.13
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PIP_CONSTRAINT="$root/constraints.txt"  # for the build as well

"$1" -m venv "$folder/build"
"$folder/build/bin/pip" wheel --quiet --no-deps --wheel-dir "$folder" "$root"
cd "$folder"  # away from the checkout: nothing of it may be imported
for python in "$@"; do
    echo "$("$python" --version):"
    "$python" -m venv --clear empty
    empty/bin/pip install --quiet bulk_ocr-*.whl
    printf '%%PDF-1.4 nonsense' > broken.pdf
    export TMPDIR="$folder" BULK_OCR_CONFIG=/dev/null UPSTAGE_API_KEY=none
    empty/bin/bulk-ocr --version
    empty/bin/bulk-ocr run --help > /dev/null
    empty/bin/bulk-ocr config --all > /dev/null
    empty/bin/python -c 'import flows.backfill, flows.python, tasks.context'
    # Opens a document, without an account: it is broken, and the command says so.
    empty/bin/bulk-ocr file --dry-run broken.pdf && status=0 || status=$?
    [ "$status" = 1 ]
done
