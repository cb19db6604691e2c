# A docker daemon of our own, for machines where none answers. Sourced by test.sh, as root.
#
# It lives in mount, pid and network namespaces of its own, so it can disturb no other daemon, interface or firewall
# rule, and whatever it started dies with it; it dies with the script (pdeathsig), however that ends. Only while the
# packages of an image are fetched it uses the machine's network. Images and build cache stay in $cache for the next run.

# $cache, $name, $docker are set by test.sh. The pid of unshare, the daemon's parent:
daemon_pid=
export DOCKER_HOST

# daemon_start isolated|networked: in a network namespace of its own or in the machine's. Restarts a running one.
daemon_start() {
    daemon_stop
    local run=$cache/run bridge=none namespaces=(--mount --pid --fork --kill-child=KILL --mount-proc)
    local begin=$SECONDS
    if [ "$1" = isolated ]; then
        namespaces+=(--net)
    else
        # `--bridge none` here would delete another daemon's docker0, so there is a bridge, ours, down. The address is
        # one that documentation has to itself (RFC 5737).
        bridge=npdocker0
        ip link show "$bridge" >/dev/null 2>&1 || ip link add "$bridge" type bridge
        ip address replace 198.51.100.1/30 dev "$bridge"
    fi
    # Leftovers of a daemon that was killed: sockets, pid files, networks, containers. None of it is needed.
    rm -rf --one-file-system "$run" "$cache/data/network" "$cache/data/containers"
    mkdir -p "$run" "$cache/data"
    echo '{}' >"$run/daemon.json"
    DOCKER_HOST=unix://$run/docker.sock
    # A containerd of the machine would be used if its socket were seen: a fresh tmpfs hides it.
    # A session of its own: Ctrl-C is for the script, which then ends the daemon in order.
    setsid setpriv --pdeathsig KILL unshare "${namespaces[@]}" /bin/bash -c '
        set -e
        mkdir -p /run/containerd
        mount -t tmpfs tmpfs /run/containerd
        ip link set lo up 2>/dev/null || true
        exec "$@"' - \
        /usr/sbin/dockerd --config-file "$run/daemon.json" --data-root "$cache/data" --exec-root "$run/exec" --pidfile "$run/pid" \
        --host "$DOCKER_HOST" --group root --bridge "$bridge" --iptables=false --ip6tables=false --ip-forward=false \
        --ip-masq=false --userland-proxy=false --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$name" --storage-driver overlay2 --log-level warn \
        >>"$cache/daemon.log" 2>&1 9>&- &
    daemon_pid=$!
    local tries=0
    until "$docker" version >/dev/null 2>&1; do
        if ! kill -0 "$daemon_pid" 2>/dev/null || [ $((tries += 1)) -gt 300 ]; then
            echo "the daemon does not start:" >&2
            tail -n 5 "$cache/daemon.log" >&2
            daemon_stop
            return 1
        fi
        sleep 0.1
    done
    echo "own daemon ($1), $((SECONDS - begin)) s"
}

daemon_stop() {
    [ -n "$daemon_pid" ] || return 0
    # The daemon is unshare's only child. Asked first, so that it leaves its store in order; then its namespace is ended.
    local child tries=0
    child=$(pgrep -P "$daemon_pid" || true)
    if [ -n "$child" ]; then
        kill -TERM $child 2>/dev/null || true
        while kill -0 "$daemon_pid" 2>/dev/null && [ $((tries += 1)) -le 100 ]; do sleep 0.1; done
    fi
    kill -KILL "$daemon_pid" 2>/dev/null || true
    wait "$daemon_pid" 2>/dev/null || true
    daemon_pid=
    ip link delete npdocker0 2>/dev/null || true
    find /sys/fs/cgroup -depth -maxdepth 4 -type d -path "*/$name*" -exec rmdir {} + 2>/dev/null || true
    rm -rf --one-file-system "$cache/run"
}
