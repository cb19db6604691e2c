#!/usr/bin/env bash
# Frames from the Linux kernel's generator, on another machine than the one that is tested.
#
#   bench/pktgen/kernel.sh -i eth1 -m 02:00:00:00:00:01 [-d 198.19.0.1] [-p 9] [-s 64] [-r PPS] [-n COUNT] [-t SECONDS]
#                          [-a FIRST-LAST] [-u FIRST-LAST] [-c CPU]
#   -i interface   -m the receiver's MAC   -d, -p its address and port   -s frame size with FCS, 64 to 1518
#   -r frames a second (as fast as it goes)   -n frames (0: -t decides)   -t seconds (10)
#   -a source addresses (198.18.0.1)   -u source ports (10000-19999)   -c the CPU whose thread sends (0)
#
# Prints what was sent. The frames are the kernel's own (a sequence number and a time that `netpoll pktgen --receive` does not
# read): it counts them as `unstamped`, and a log sink as lines. Needs root and CONFIG_NET_PKTGEN.
set -euo pipefail

usage() {
    sed -n '2,/^set/{/^#/p}' "$0" >&2
    [ $# -eq 0 ] || echo "kernel.sh: $1" >&2
    exit 2
}

iface='' mac='' dst=198.19.0.1 port=9 size=64 rate='' count=0 seconds=10 sources=198.18.0.1 ports=10000-19999 cpu=0
while getopts i:m:d:p:s:r:n:t:a:u:c:h option; do
    case $option in
    i) iface=$OPTARG ;;
    m) mac=$OPTARG ;;
    d) dst=$OPTARG ;;
    p) port=$OPTARG ;;
    s) size=$OPTARG ;;
    r) rate=$OPTARG ;;
    n) count=$OPTARG ;;
    t) seconds=$OPTARG ;;
    a) sources=$OPTARG ;;
    u) ports=$OPTARG ;;
    c) cpu=$OPTARG ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 0 ] || usage "unexpected: $*"

# number NAME VALUE LEAST MOST
number() {
    if ! [[ $2 =~ ^[0-9]{1,10}$ ]] || [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then
        usage "$1 is '$2', expected a number from $3 to $4"
    fi
}
[[ $iface =~ ^[A-Za-z0-9._-]{1,15}$ ]] || usage "-i is '$iface', expected an interface like eth1"
[[ $mac =~ ^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$ ]] || usage "-m is '$mac', expected a MAC address like 02:00:00:00:00:01"
[[ $dst =~ ^[0-9.]+$ ]] || usage "-d is '$dst', expected an IPv4 address"
[[ $sources =~ ^[0-9.]+(-[0-9.]+)?$ ]] || usage "-a is '$sources', expected addresses like 198.18.0.1-198.18.0.200"
[[ $ports =~ ^[0-9]+(-[0-9]+)?$ ]] || usage "-u is '$ports', expected ports like 10000-19999"
number -p "$port" 1 65535
number -s "$size" 64 1518
number -n "$count" 0 4000000000
number -t "$seconds" 1 86400
number -c "$cpu" 0 8191
[ -z "$rate" ] || number -r "$rate" 1 1000000000
number -u "${ports%-*}" 1 65535
number -u "${ports#*-}" "${ports%-*}" 65535

[ -e "/sys/class/net/$iface" ] || { echo "kernel.sh: there is no interface $iface here; see: ip link" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || { echo "kernel.sh: /proc/net/pktgen is root's; try sudo" >&2; exit 1; }
control=/proc/net/pktgen
if [ ! -e $control/pgctrl ] && ! modprobe pktgen; then
    echo "kernel.sh: no module pktgen for kernel $(uname -r): it takes CONFIG_NET_PKTGEN (Debian, Ubuntu: in linux-modules-extra or the ordinary kernel package)" >&2
    exit 1
fi
[ -e "$control/kpktgend_$cpu" ] || { echo "kernel.sh: no thread kpktgend_$cpu; choose a CPU that is online" >&2; exit 1; }

# set_in FILE COMMAND: what the kernel refuses it says in the file's Result line.
set_in() {
    if ! echo "$2" >"$control/$1" || ! grep -q 'Result: OK' "$control/$1"; then
        echo "kernel.sh: '$2' was refused: $(grep Result "$control/$1" || true)" >&2
        exit 1
    fi
}
device=$iface@$cpu
echo reset >$control/pgctrl
trap 'echo reset >$control/pgctrl' EXIT
set_in "kpktgend_$cpu" "add_device $device"
# The kernel's size is without FCS.
set_in "$device" "pkt_size $((size - 4))"
set_in "$device" "count $count"
set_in "$device" "delay 0"
set_in "$device" "dst_mac $mac"
set_in "$device" "dst_min $dst"
set_in "$device" "src_min ${sources%-*}"
set_in "$device" "src_max ${sources#*-}"
set_in "$device" "udp_dst_min $port"
set_in "$device" "udp_dst_max $port"
set_in "$device" "udp_src_min ${ports%-*}"
set_in "$device" "udp_src_max ${ports#*-}"
# The kernel leaves the UDP checksum out otherwise.
set_in "$device" "flag UDPCSUM"
[ -z "$rate" ] || set_in "$device" "ratep $rate"

# `start` returns when all have stopped.
if [ "$count" -eq 0 ]; then
    timeout --signal INT "$seconds" bash -c "echo start >$control/pgctrl" || true
else
    echo start >$control/pgctrl
fi
sed -n '/pkts-sofar/p; /Result/,$p' "$control/$device"
