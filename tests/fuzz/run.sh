#!/usr/bin/env bash
# Fuzzes targets for a bounded time each: tests/fuzz/run.sh SECONDS TARGET...
# New inputs stay in target/fuzz/corpus, failing ones in target/fuzz/artifacts; the checked-in corpus is only read.
set -euo pipefail
cd "$(dirname "$0")"

seconds=$1
shift
out=$(cd ../.. && pwd)/target/fuzz
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

if ! command -v cargo-fuzz >/dev/null; then
    echo "installing cargo-fuzz (about a minute)"
    cargo install --locked cargo-fuzz
fi
# libFuzzer's instrumentation and AddressSanitizer are -Z flags: nightly takes them, stable if told that it may.
if command -v rustup >/dev/null && rustup toolchain list | grep -q '^nightly'; then
    export RUSTUP_TOOLCHAIN=nightly
else
    export RUSTC_BOOTSTRAP=1
fi

failed=()
for target in "$@"; do
    mkdir -p "$out/corpus/$target" "$out/artifacts/$target"
    printf '\n=== fuzz %s, %s s\n' "$target" "$seconds"
    options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1
        -artifact_prefix="$out/artifacts/$target/")
    [ ! -f "dictionaries/$target" ] || options+=(-dict="dictionaries/$target")
    if ! cargo fuzz run --fuzz-dir . --target-dir "$out" "$target" "$out/corpus/$target" "corpus/$target" -- "${options[@]}"; then
        failed+=("$target")
    fi
done
if [ "${#failed[@]}" -gt 0 ]; then
    echo "=== fuzz: FAILED: ${failed[*]}; the inputs are in $out/artifacts" >&2
    exit 1
fi
printf '\n=== fuzz: nothing found\n'
