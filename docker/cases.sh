# The tests. Sourced by test.sh, which has built $image.

# Everything that a container can be denied.
locked=(--read-only --cap-drop ALL --security-opt no-new-privileges --network none)

cases=(image net_null demo pktgen sink appliance)
case_pids=()

# All at once: they share nothing but the daemon, and none of them measures time.
run_cases() {
    local case pid
    # Process groups of their own, so that clean_up can end them with their children.
    set -m
    for case in "${cases[@]}"; do
        run_case "$case" >"$work/$case.said" 2>&1 9>&- &
        case_pids+=($!)
    done
    set +m
    for case in "${cases[@]}"; do
        pid=${case_pids[0]}
        wait "$pid" || failures=$((failures + 1))
        case_pids=("${case_pids[@]:1}")
        cat "$work/$case.said"
    done
}

run_case() {
    local begin=${EPOCHREALTIME/./}
    case=$1 note='' failed=0
    "case_$case"
    [ "$failed" -eq 0 ] || { echo "FAILED  $case"; return 1; }
    printf 'ok      %-10s %5d ms  %s\n' "$case" $(((${EPOCHREALTIME/./} - begin) / 1000)) "$note"
}

# expect WHAT COMMAND...: the case fails if the command does.
expect() {
    local what=$1
    shift
    "$@" >/dev/null 2>"$work/$case.expect" && return 0
    echo "        $what: not so ($*)"
    sed 's/^/            /' "$work/$case.expect"
    failed=1
}

show() { tail -n 40 "$@" | sed 's/^/        | /'; }

# Unprivileged, small, netpoll as entry point, health check.
case_image() {
    local bytes config
    bytes=$("$docker" image inspect --format '{{ .Size }}' "$image")
    config=$("$docker" image inspect --format '{{ json .Config }}' "$image")
    note="$((bytes / 1000000)) MB"
    expect 'image <= 100 MB' [ "$bytes" -le 100000000 ]
    expect 'config of the image' jq -e '.User == "10001:10001" and .Entrypoint == ["netpoll"] and .Healthcheck' <<<"$config"
    "$docker" run --rm --name "$name-version" "${locked[@]}" "$image" --version >"$work/version" 2>&1 || true
    expect 'netpoll --version' grep -Eq '^netpoll [0-9]' "$work/version"
    [ "$failed" -eq 0 ] || show "$work/version"
}

# The engine on net_null: clients send, the hook receives.
case_net_null() {
    local status=0 out=$work/null
    "$docker" run --rm --name "$name-null" "${locked[@]}" "$null_image" 2 >"$out" 2>&1 || status=$?
    expect 'exit code 0' [ "$status" -eq 0 ]
    expect 'the hook received' grep -Eq '^hook [1-9][0-9]* ' "$out"
    expect 'the clients sent' grep -Eq ' sent [1-9][0-9]* ' "$out"
    expect 'mbufs out = mbufs back' grep -q ' outstanding 0$' "$out"
    expect 'two balanced ledgers' [ "$(grep -c '  balanced$' "$out")" -eq 2 ]
    expect 'nothing else wrong' awk '/: NO$|NOT BALANCED/ { exit 1 }' "$out"
    note=$(tail -n 1 "$out")
    [ "$failed" -eq 0 ] || show "$out"
}

# What `netpoll` says in JSON, one object a line, is in $2: the jq expression $1 holds for its ledger.
ledger() { jq -es "map(select(.event? == \"ledger\")) | length == 1 and all($1)" "$2"; }
balanced='.balanced and ([.. | objects | select(has("balanced"))] | length > 3 and all(.balanced)) and .mbufs.outstanding == 0'

# `netpoll pktgen` in the image, as locked down: what it sends over rings arrives, each frame once; net_null takes all.
case_pktgen() {
    local out=$work/pktgen status=0
    "$docker" run --rm --name "$name-pktgen" "${locked[@]}" "$image" --log-format json pktgen --rate 20k --count 20000 \
        --size imix --clients 8 >"$out" 2>"$out.err" || status=$?
    expect 'exit code 0' [ "$status" -eq 0 ]
    expect 'a balanced ledger' ledger "$balanced" "$out"
    expect 'every frame received, none lost or twice' jq -es 'map(select(.event == "result"))[0].received |
        .frames == 20000 and .lost == 0 and .duplicates == 0 and .streams == 8 and .latency.count == 20000' "$out"
    status=0
    "$docker" run --rm --name "$name-pktgen-null" "${locked[@]}" "$image" --log-format json pktgen \
        --vdev net_null0,no-rx=1 --no-huge --rate max --count 100000 >"$out.null" 2>>"$out.err" || status=$?
    expect 'exit code 0 on net_null' [ "$status" -eq 0 ]
    expect 'a balanced ledger on net_null' ledger "$balanced" "$out.null"
    expect 'net_null took every frame' jq -es 'map(select(.event == "result"))[0].sent.frames == 100000' "$out.null"
    note='20000 frames over rings, 100000 into net_null'
    [ "$failed" -eq 0 ] || show "$out" "$out.null" "$out.err"
}

# The demo: clients, rings, sink, files in the only place that can be written.
case_demo() {
    local status=0 out=$work/demo
    "$docker" run --rm --name "$name-demo" "${locked[@]}" "$image" --log-format json demo --seconds 2 --rate 20000 \
        >"$out" 2>"$out.err" || status=$?
    expect 'exit code 0' [ "$status" -eq 0 ]
    expect 'a balanced ledger' ledger "$balanced" "$out"
    expect 'every line is stored' ledger '.clients.submitted == 40000 and .sink.stored == 40000' "$out"
    note=$(jq -sr 'map(select(.event == "ledger"))[0] | "\(.clients.submitted) lines"' "$out" 2>/dev/null || true)
    [ "$failed" -eq 0 ] || show "$out" "$out.err"
}

# wait_for WHAT COMMAND...: within 15 s.
wait_for() {
    local what=$1 tries=0
    shift
    until "$@" >/dev/null 2>&1; do
        [ $((tries += 1)) -le 150 ] || { expect "$what" "$@"; return 0; }
        sleep 0.1
    done
}

said() { "$docker" logs "$1" 2>&1 | grep -q -- "$2"; }
exited_well() { [ "$("$docker" inspect --format '{{ .State.Running }} {{ .State.ExitCode }}' "$1")" = 'false 0' ]; }

# The sink as a service, on net_null: healthy, then stuck, then stopped by SIGTERM.
case_sink() {
    local container=$name-sink out=$work/sink since
    # More than what a sink leaves free on its disk.
    "$docker" run --detach --name "$container" "${locked[@]}" --shm-size 512m "$image" --log-format json \
        sink --vdev net_null0 --ip 10.99.0.1/24 --listen 514 --out /dev/shm/logs --no-huge >/dev/null
    wait_for 'the sink is ready' said "$container" '"event":"ready"'
    expect 'the health check passes' "$docker" exec "$container" healthy
    "$docker" kill --signal STOP "$container" >/dev/null || true
    expect 'the health check fails when the process stands still' not "$docker" exec "$container" healthy
    "$docker" kill --signal CONT "$container" >/dev/null || true
    since=${EPOCHREALTIME/./}
    "$docker" stop --time 10 "$container" >/dev/null || true
    note="SIGTERM to exit: $(((${EPOCHREALTIME/./} - since) / 1000)) ms"
    "$docker" logs "$container" >"$out" 2>"$out.err"
    expect 'exit code 0 after SIGTERM' exited_well "$container"
    expect 'a balanced ledger' ledger "$balanced" "$out"
    expect 'frames were received' jq -es 'map(select(.event == "ledger"))[0] | [.. | .arrived? // empty] | add > 0' "$out"
    [ "$failed" -eq 0 ] || show "$out" "$out.err"
    "$docker" rm -f "$container" >/dev/null
}

not() { ! "$@"; }

compose() {
    env NETPOLL_IMAGE="$image" NETPOLL_SENDER_IMAGE="$base" NETPOLL_HEALTH_INTERVAL=1s NETPOLL_LINES_EACH="$lines_each" \
        "${compose[@]}" --project-name "$name" --file docker/compose.yaml "$@" 2>>"$work/compose"
}
lines_each=200

# compose.yaml as it is: the sink on net_af_packet, a plain container that logs to it, the lines in the volume.
case_appliance() {
    local status=0 out=$work/appliance sink lines
    compose up --no-build --detach sink >/dev/null || status=$?
    # Waits until the sink is healthy.
    compose run --rm -T sender >"$out.sender" 2>&1 || status=$?
    expect 'the sender had no error' [ "$status" -eq 0 ]
    sink=$("$docker" ps -aq --filter "label=com.docker.compose.project=$name" --filter label=com.docker.compose.service=sink)
    "$docker" stop --time 10 "$sink" >/dev/null || true
    expect 'exit code 0 after SIGTERM' exited_well "$sink"
    "$docker" logs "$sink" >"$out" 2>"$out.err" || true
    expect 'a balanced ledger' grep -q 'balanced: every frame is accounted for' "$out"
    # As anybody would read the volume: another container.
    "$docker" run --rm --network none --volume "${name}_data:/data:ro" "$base" \
        bash -c 'find /data -type f -name "*.log*" -exec cat {} +' >"$out.lines" || true
    for sort in syslog netconsole; do
        lines=$(grep -Eo "$sort line [0-9]+" "$out.lines" | sort -u | wc -l || true)
        expect "every $sort line is in the volume ($lines)" [ "$lines" -eq "$lines_each" ]
    done
    note="$((2 * lines_each)) lines in the volume"
    if "$docker" run --rm "${locked[@]}" "$image" logs --help >/dev/null 2>&1; then
        "$docker" run --rm "${locked[@]}" --volume "${name}_data:/data:ro" --user 0:10001 "$image" logs --dir /data \
            >"$out.logs" 2>"$out.err" || true
        lines=$(grep -Eo '(syslog|netconsole) line [0-9]+' "$out.logs" | sort -u | wc -l || true)
        expect "netpoll logs reads every line ($lines)" [ "$lines" -eq $((2 * lines_each)) ]
        note+=", read back by netpoll logs"
    fi
    [ "$failed" -eq 0 ] || show "$out" "$out.err" "$out.sender" "$work/compose"
}
