#!/bin/sh
# Builds and tests against another DPDK than the installed one: Debian 13's 24.11 on Debian 12, unpacked beside
# it. Needs apt, dpkg-deb, a network; root for the tests that run in a chroot. Nothing is installed.
#
#   ffi/tests/other-dpdk.sh [SUITE [DIR]]     SUITE: default trixie. DIR: kept and used again; default a temporary one
set -eu

suite=${1:-trixie}
cd "$(dirname "$0")/../.."
if [ $# -ge 2 ]; then
	mkdir -p "$2"
	dir=$(realpath "$2")
else
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
fi
root=$dir/root
libs=$root/usr/lib/$(gcc -print-multiarch)

fetch() {
	mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial" "$dir/apt/etc" "$root"
	: >"$dir/apt/status"
	keys=/usr/share/keyrings/debian-archive-keyring.gpg
	echo "deb [signed-by=$keys] http://deb.debian.org/debian $suite main" >"$dir/apt/sources.list"
	# Its own lists, cache and "nothing is installed": so that apt resolves all dependencies and touches nothing.
	cat >"$dir/apt/apt.conf" <<-CONF
		Dir::Etc "$dir/apt/etc";
		Dir::Etc::SourceList "$dir/apt/sources.list";
		Dir::State "$dir/apt";
		Dir::State::Lists "$dir/apt/lists";
		Dir::State::Status "$dir/apt/status";
		Dir::Cache "$dir/apt";
		Dir::Cache::Archives "$dir/apt/archives";
		APT::Sandbox::User "";
		Acquire::Languages "none";
	CONF
	export APT_CONFIG="$dir/apt/apt.conf"
	apt-get -qq update
	apt-get -qq install -y --download-only --no-install-recommends libdpdk-dev libc6-dev iproute2 util-linux bash
	for package in "$dir"/apt/archives/*.deb; do
		dpkg-deb -x "$package" "$root"
	done
	for link in bin sbin lib lib64; do
		[ -e "$root/$link" ] || ln -s "usr/$link" "$root/$link"
	done
	# A linker script with paths of the real root.
	ln -sf "$(basename "$(realpath "$libs/libbsd.so.0")")" "$libs/libbsd.so"
	touch "$dir/fetched"
}

[ -e "$dir/fetched" ] || fetch

# Its libraries want a newer libc than the one we link against, and get it when they run.
# rustc tells the kind of linker by its name.
cat >"$dir/cc" <<'LINK'
#!/bin/sh
exec cc "$@" -Wl,--allow-shlib-undefined
LINK
cat >"$dir/run" <<RUN
#!/bin/sh
program=/target/\${1#"$dir"/target/}
shift
exec unshare --mount sh -c '
	mkdir -p "$root/target" "$root/proc" "$root/sys" "$root/dev" "$root/tmp"
	mount --bind "$dir/target" "$root/target"
	for fs in proc sys dev; do mount --rbind /\$fs "$root/\$fs"; done
	exec chroot "$root" "\$@"' run "\$program" "\$@"
RUN
chmod +x "$dir/cc" "$dir/run"

target=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export PKG_CONFIG_LIBDIR="$libs/pkgconfig:$root/usr/share/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root"
export CARGO_TARGET_DIR="$dir/target" "CARGO_TARGET_${target}_LINKER=$dir/cc" "CARGO_TARGET_${target}_RUNNER=$dir/run"
echo "DPDK $(pkg-config --modversion libdpdk)"
cargo test -p dpdk-sys --tests
tests=$(sed -n 's/^name = "\(dpdk_[a-z]*\)"$/--test \1/p' engine/Cargo.toml)
# shellcheck disable=SC2086
cargo test -p netpoll --no-default-features --features dpdk --no-fail-fast $tests
