#!/bin/sh
# make debug: the unit suite, and hubs and nodes end to end, on a copy of the tree built with
# AddressSanitizer and UBSan. Arguments go to pytest instead of both.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python
copy=$root/build/debug
mkdir -p "$copy"
cd "$root"
folders="bench bpf deploy docs hub m13 native node tests"
# timestamps are kept, so a second run compiles only what changed; what is gone goes
tar -cf - --exclude='*.so' --exclude=__pycache__ $folders \
    setup.py pyproject.toml Makefile README.md | tar -C "$copy" -xf -
cd "$copy"
find $folders -type f ! -name '*.so' ! -path '*/__pycache__/*' | while read -r file; do
    [ -e "$root/$file" ] || rm "$file"
done
export M13_SANITIZE=address,undefined
echo "==> C core and extensions with $M13_SANITIZE"
"$python" setup.py -q build_clib build_ext --inplace -j "$(nproc)" >build.log 2>&1 ||
    { cat build.log >&2; exit 1; }

# Python itself is not instrumented: the runtime comes first, and what Python keeps is no leak.
# leaks are counted by the tests themselves (descriptors, frames)
asan=$(gcc -print-file-name=libasan.so) ubsan=$(gcc -print-file-name=libubsan.so)
cpp=$(gcc -print-file-name=libstdc++.so.6)
# pytest must not keep standard error to itself: the report is written there, and then it is over.
# color=never: to ask whether it is a terminal is not allowed to a worker that may only compute
ending=abort_on_error=1:color=never
run() {
    env PYTHONPATH="$copy" PYTHONMALLOC=malloc LD_PRELOAD="$asan $ubsan $cpp" \
        ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:$ending" \
        UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:$ending" \
        "$python" -u -m pytest -q -p no:cacheprovider -p tests.sanitized --capture=sys "$@"
}

if [ $# -gt 0 ]; then
    run "$@"
    exit
fi
echo "==> unit suite"
status=0
# left out: what has no C of ours (the machine's settings, the database), and the benches and
# fuzzers, which compile programs of their own
left_out=
for part in test_tidy.py netns fuzz/test_fuzz.py bench hub/registry host node; do
    left_out="$left_out --ignore=tests/$part"
done
run tests $left_out || status=$?
echo "==> hubs and nodes"
end_to_end=
for part in session traffic relay l2 path_mtu workers spoofing offload_path; do
    end_to_end="$end_to_end tests/netns/test_$part.py"
done
run $end_to_end || status=$?
exit $status
