#!/bin/bash
# Builds the image and tests it in containers. Works on a fresh Debian 12: installs what is missing, starts a daemon of its
# own where none answers, makes the base image where no registry does, and ends everything that it started.
#
#   docker/test.sh            exit code 77 where no daemon can be had: nothing was tested, and it says what and why
#   docker/test.sh --clean    removes what is kept for the next run ($NETPOLL_DOCKER_CACHE, /var/tmp/netpoll-docker-test)
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=netpoll-docker-test
image=$name:latest
null_image=$name-null:latest
cache=${NETPOLL_DOCKER_CACHE:-/var/tmp/$name}
docker=docker
# Another client may come first on the PATH; Debian's is known to fit Debian's daemon.
[ ! -x /usr/bin/docker ] || docker=/usr/bin/docker
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
work=
daemon_pid=
failures=0
source docker/daemon.sh
source docker/image.sh
source docker/cases.sh

main() {
    local begin=$SECONDS
    case "${1:-}" in
    --clean) "${as_root[@]}" rm -rf --one-file-system "$cache" && exit ;;
    '') ;;
    *) sed -n '2,/^set/{/^#/p}' "$0" >&2 && exit 2 ;;
    esac
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    work=$(mktemp -d)

    # Compiled as whoever calls, before anything is done as root.
    [ -n "${NETPOLL_BINARY:-}" ] && binary=$NETPOLL_BINARY || build_binary
    have_packages
    if "$docker" info >/dev/null 2>&1; then
        echo "a daemon answers: $("$docker" info --format '{{ .Name }}, {{ .ServerVersion }}' 2>/dev/null)"
        image_theirs
    else
        become_root "$@"
        lock_cache
        image_ours
    fi
    echo "image ready after $((SECONDS - begin)) s"
    run_cases
    echo "docker: $failures failed, $((SECONDS - begin)) s"
    [ "$failures" -eq 0 ]
}

# skip REASON: no containers can be had here. Never in silence.
skip() {
    printf '=== docker: SKIPPED, %s. Not tested: %s\n' "$1" "${cases[*]}" >&2
    exit 77
}

have_packages() {
    local package missing=()
    local wanted=(jq)
    compose=("$docker" compose)
    if ! "${compose[@]}" version >/dev/null 2>&1; then
        compose=(docker-compose)
        wanted+=(docker-compose)
    fi
    "$docker" info >/dev/null 2>&1 || wanted+=(docker.io debootstrap iproute2 util-linux procps)
    for package in "${wanted[@]}"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    command -v apt-get >/dev/null || skip "not Debian or Ubuntu, and these are missing: ${missing[*]}"
    [ "${#as_root[@]}" -eq 0 ] || command -v sudo >/dev/null || skip "neither root nor sudo to install ${missing[*]}"
    echo "installing ${missing[*]}"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
    { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } >"$work/apt" 2>&1 ||
        { tail -n 5 "$work/apt" >&2; skip "could not install ${missing[*]}"; }
    [ ! -x /usr/bin/docker ] || docker=/usr/bin/docker
}

# A daemon of our own needs root.
become_root() {
    [ "${#as_root[@]}" -gt 0 ] || return 0
    sudo -v 2>/dev/null || skip "no docker daemon answers, and starting one needs root"
    clean_up
    trap - EXIT
    exec sudo env NETPOLL_BINARY="$binary" NETPOLL_DOCKER_CACHE="$cache" "$0" "$@"
}

# One run at a time; and nobody else's directory, as its name is known.
lock_cache() {
    mkdir -p -m 700 "$cache"
    if [ -L "$cache" ] || [ "$(stat -c %u "$cache")" -ne 0 ]; then
        echo "$cache is not root's own directory" >&2
        exit 1
    fi
    exec 9>"$cache/lock"
    flock -n 9 || { echo "waiting for another run to end"; flock -w 600 9; }
    unshare --mount --pid --net --fork true 2>/dev/null || skip "this machine allows no namespaces, which a daemon needs"
    : >"$cache/daemon.log"
}

clean_up() {
    local status=$?
    trap '' INT TERM
    local pid
    for pid in "${case_pids[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
    if [ -n "$work" ] && "$docker" version >/dev/null 2>&1; then remove_ours >/dev/null 2>&1 || true; fi
    daemon_stop
    [ -z "$work" ] || rm -rf "$work"
    return "$status"
}

# All that bears our name on whoever's daemon; its build cache stays, and on our own the images too.
remove_ours() {
    "$docker" ps -aq --filter "name=^$name" | xargs -r "$docker" rm -fv
    "$docker" network ls -q --filter "name=^${name}_" | xargs -r "$docker" network rm
    "$docker" volume ls -q --filter "name=^${name}_" | xargs -r "$docker" volume rm
    [ -n "$daemon_pid" ] || "$docker" rmi "$image" "$null_image"
    "$docker" image prune -f --filter "label=$name"
    [ -z "$daemon_pid" ] || "$docker" builder prune -f --keep-storage 500MB
}

main "$@"
