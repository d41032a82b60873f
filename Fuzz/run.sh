#!/usr/bin/env bash
# Builds and runs fuzzers:
#   run.sh all|TARGET [SECONDS | RUNSx | FILE]     60 = a minute each, 100000x = so many inputs each, FILE = repeat it
#   run.sh list                                    prints the targets
#   run.sh build                                   builds, and no more
#
# FUZZ_JOBS of them run at a time, 1 unless told. With SECONDS, FUZZ_MOST inputs are the end as well.
# The corpus of a target grows in .build/fuzz/TARGET/corpus; an input that breaks something stays in .build/fuzz/TARGET.
# The targets are spread over several programs (Fuzz/*Fuzzers); of one target only its program is built.
# `all` ends with the canary, whose planted bug must be found, or the run fails.
set -euo pipefail

name=${1:?usage: run.sh all|list|build|TARGET [SECONDS | RUNSx | FILE]}
amount=${2:-60}
here=$(cd "$(dirname "$0")" && pwd)
root=$here/..
work=$root/.build/fuzz

programs=()
for folder in "$here"/*Fuzzers; do programs+=("$(basename "$folder")"); done

# The program that holds a target, by its sources.
program_of() {
  local found
  found=$(grep -lE "name: \"$1\"" "$here"/*Fuzzers/*.swift) || { echo "there is no target $1" >&2; return 1; }
  basename "$(dirname "$found")"
}

build() {
  # Both sanitizers in one flag: of two the compiler heeds only the last, and the fuzzer would see no coverage.
  MILLRACE_FUZZ=1 swift build --package-path "$root" --scratch-path "$work/build" -c release --sanitize fuzzer \
    --product "$1" -Xswiftc -sanitize=fuzzer,address -Xswiftc -enable-testing -Xswiftc -use-ld=lld \
    -Xcc -fsanitize=fuzzer-no-link,address >&2
}

# The backtracer would wait for input when an input crashes the program.
export SWIFT_BACKTRACE=enable=no
# Memory that the program maps is its own to use again; leaks at the end are not what is looked for.
export ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=64

case $name in
all | list | build) needed=("${programs[@]}") ;;
*) needed=$(program_of "$name") ;;
esac
for program in "${needed[@]}"; do build "$program"; done

list() {
  for program in "${programs[@]}"; do FUZZ_LIST=1 "$work/build/release/$program"; done
}

fuzz() {
  local target=$1 limit program
  program=$work/build/release/$(program_of "$target")
  mkdir -p "$work/$target/corpus" "$work/$target/seeds"
  python3 "$here/make-seeds.py" "$target" "$work/$target/seeds"
  FUZZ_TARGET=$target FUZZ_SEEDS=$work/$target/seeds "$program"
  if [[ -f $amount ]]; then
    FUZZ_TARGET=$target "$program" "$amount"
    return
  elif [[ $amount == *x ]]; then
    limit=-runs=${amount%x}
  else
    limit="-max_total_time=$amount ${FUZZ_MOST:+-runs=$FUZZ_MOST}"
  fi
  # The smoke run names a seed and a number of inputs, so that a faster machine looks at the same ones; what is new is
  # looked for by longer runs.
  # Where memory was allocated is told when an input is repeated; finding that out for each allocation takes an eighth of the time.
  # shellcheck disable=SC2086
  ASAN_OPTIONS=$ASAN_OPTIONS:malloc_context_size=1 FUZZ_TARGET=$target "$program" $limit ${FUZZ_SEED:+-seed=$FUZZ_SEED} -max_len=16384 -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=128 \
    -print_final_stats=1 -artifact_prefix="$work/$target/" "$work/$target/corpus" "$work/$target/seeds" \
    >"$work/$target/log" 2>&1 || { tail -40 "$work/$target/log"; return 1; }
  printf '%-20s %s, coverage %s\n' "$target" "$(sed -n 's/^fuzz: //p' "$work/$target/log" | tail -1)" \
    "$(grep -oE 'cov: [0-9]+' "$work/$target/log" | tail -1)"
}

# A run that cannot find a planted bug proves nothing.
canary() {
  amount=500000x
  rm -rf "$work/canary"
  if fuzz canary >"$work/canary.log" 2>&1; then
    echo "the canary's planted bug was not found" >&2
    return 1
  fi
  # A release build prints no reason, but the stack names the target.
  grep -qE "planted bug|Fuzzers6canary" "$work/canary.log" || { tail -40 "$work/canary.log"; return 1; }
  echo "canary               its planted bug was found"
}

case $name in
build) ;;
list) list ;;
canary) canary ;;
all)
  export -f fuzz program_of
  export amount here work
  list | grep -vx canary | xargs -P "${FUZZ_JOBS:-1}" -I TARGET bash -euo pipefail -c 'fuzz TARGET'
  canary
  ;;
*) fuzz "$name" ;;
esac
