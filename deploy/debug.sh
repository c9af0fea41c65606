#!/bin/sh
# make debug: the unit suite on a copy of the tree built with AddressSanitizer and UBSan.
# Arguments go to pytest instead of the whole suite.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python
copy=$root/build/debug
mkdir -p "$copy"
cd "$root"
# timestamps are kept, so a second run compiles only what changed
tar -cf - --exclude='*.so' --exclude=__pycache__ bench bpf deploy docs hub m13 native node tests \
    setup.py pyproject.toml Makefile README.md | tar -C "$copy" -xf -
cd "$copy"
export M13_SANITIZE=address,undefined
echo "==> C core and extensions with $M13_SANITIZE"
"$python" setup.py -q build_clib build_ext --inplace >build.log 2>&1 ||
    { cat build.log >&2; exit 1; }
echo "==> unit suite"
[ $# -gt 0 ] || set -- tests --ignore=tests/test_tidy.py --ignore=tests/netns --ignore=tests/fuzz \
    --ignore=tests/bpf --ignore=tests/host --ignore=tests/hub --ignore=tests/node
# Python itself is not instrumented: the runtime comes first, and what Python keeps is no leak.
# leaks are counted by the tests themselves (descriptors, frames)
asan=$(gcc -print-file-name=libasan.so) ubsan=$(gcc -print-file-name=libubsan.so)
cpp=$(gcc -print-file-name=libstdc++.so.6)
exec env PYTHONPATH="$copy" PYTHONMALLOC=malloc LD_PRELOAD="$asan $ubsan $cpp" \
    ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1 \
    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
    "$python" -m pytest -q -p no:cacheprovider "$@"
