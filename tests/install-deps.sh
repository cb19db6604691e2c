#!/usr/bin/env bash
# Installs what building, testing or benchmarking needs: packages of Debian 12 / Ubuntu 24.04, only those that
# are missing, with sudo only if there are any and we are not root.
#
#   tests/install-deps.sh build | test | bench | sanitize
set -euo pipefail

# The drivers (librte-net-*) come with dpdk; libclang is for bindgen.
build=(gcc libc6-dev make pkg-config dpdk libdpdk-dev libclang-dev)
# ip (namespaces, TAP, veth), ping, logger, nsenter and setpriv, a look at frames.
# rsyslogd sends to the sink; python with venv reads Parquet back (pyarrow, DuckDB, polars from PyPI).
# systemd-analyze reads the unit; e2fsprogs makes disks that fail.
test=(iproute2 iputils-ping bsdutils util-linux tcpdump rsyslog python3-venv systemd e2fsprogs)
# testpmd, to compare with.
bench=(dpdk-dev)
# memcheck, and what shows functions' names in AddressSanitizer's reports.
sanitize=(valgrind llvm)

case "${1:-}" in
build) wanted=("${build[@]}") ;;
test) wanted=("${build[@]}" "${test[@]}") ;;
bench) wanted=("${build[@]}" "${test[@]}" "${bench[@]}") ;;
sanitize) wanted=("${build[@]}" "${test[@]}" "${sanitize[@]}") ;;
*)
    echo "usage: $0 build|test|bench|sanitize" >&2
    exit 2
    ;;
esac

PATH="$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"
if ! command -v cargo >/dev/null; then
    echo "Rust is not installed: get 1.89 or later from https://rustup.rs, then run this again" >&2
    exit 1
fi
if [ "$1" = test ]; then
    for tool in cargo-fmt cargo-clippy; do
        if ! command -v "$tool" >/dev/null; then
            echo "$tool is not installed: rustup component add rustfmt clippy" >&2
            exit 1
        fi
    done
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "not Debian or Ubuntu: nothing installed; needed are your system's names for: ${wanted[*]}" >&2
    exit 0
fi

missing=()
for package in "${wanted[@]}"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "these packages are missing, and there is neither root nor sudo to install them: ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "installing: ${missing[*]}"
apt_get() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"
}
apt_get update
apt_get install --no-install-recommends "${missing[@]}"
