#!/usr/bin/env bash
# Builds and runs a fuzzer: run.sh RequestFuzzer|RecordBatchFuzzer [SECONDS | RUNSx]     (60 = a minute, 100000x = runs)
#
# The corpus grows in .build/fuzz/NAME/corpus; an input that breaks something stays in .build/fuzz/NAME, and
# `run.sh NAME FILE` repeats it.
set -euo pipefail

name=${1:?usage: run.sh RequestFuzzer|RecordBatchFuzzer [SECONDS | RUNSx | FILE]}
amount=${2:-60}
here=$(cd "$(dirname "$0")" && pwd)
build=$here/../.build/fuzz
work=$build/$name

# Both sanitizers in one flag: of two the compiler heeds only the last, and the fuzzer would see no coverage.
swift build --package-path "$here" --scratch-path "$build/build" -c release --sanitize fuzzer --product "$name" \
  -Xswiftc -sanitize=fuzzer,address -Xswiftc -use-ld=lld -Xcc -fsanitize=fuzzer-no-link,address
mkdir -p "$work/corpus"
python3 "$here/make-seeds.py" "$name" "$work/seeds"

# The backtracer would wait for input when an input crashes the program.
export SWIFT_BACKTRACE=enable=no
program=$build/build/release/$name
if [[ -f $amount ]]; then
  exec "$program" "$amount"
elif [[ $amount == *x ]]; then
  limit=-runs=${amount%x}
else
  limit=-max_total_time=$amount
fi
exec "$program" "$limit" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=256 -print_final_stats=1 \
  -artifact_prefix="$work/" "$work/corpus" "$work/seeds"
