#!/usr/bin/env bash
# The tests under AddressSanitizer and valgrind: tests/sanitize/run.sh asan|asan-dpdk|memcheck. tests/sanitize/README.md
# says which tool finds what, and which are of no use here.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/tests/sanitize
host=$(rustc -vV | sed -n 's/^host: //p')

# AddressSanitizer is a -Z flag: nightly takes it, stable if told that it may.
asan() {
    if command -v rustup >/dev/null && rustup toolchain list | grep -q '^nightly'; then
        export RUSTUP_TOOLCHAIN=nightly
    else
        export RUSTC_BOOTSTRAP=1
    fi
    # Beside AddressSanitizer's defaults: memory of a frame that is left (a hook's burst) counts as freed.
    export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
    export LSAN_OPTIONS=suppressions=$here/leaks:print_suppressions=0
    # With --target the flag is not for build scripts and macros, which run in the compiler.
    RUSTFLAGS=-Zsanitizer=address cargo test -p netpoll --locked --no-fail-fast --target "$host" \
        --target-dir target/asan "$@"
}

case "${1:-}" in
asan) asan --no-default-features ;;
# One EAL a process: cargo gives each test file a process of its own.
asan-dpdk)
    asan --lib --test stress --test engine_lifecycle --test dpdk_null --test dpdk_ring --test dpdk_engine --test dpdk_lcore \
        --test dpdk_attach --test dpdk_user --test dpdk_hugepages
    ;;
memcheck)
    runner="valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite"
    runner_of_host=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$host")_RUNNER
    env "$runner_of_host=$runner" NETPOLL_STRESS=10 cargo test -p netpoll --no-default-features --locked --test stress
    ;;
*)
    echo "usage: $0 asan|asan-dpdk|memcheck" >&2
    exit 2
    ;;
esac
