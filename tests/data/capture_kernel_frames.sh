#!/bin/sh
# Makes kernel_frames.pcap: what a Linux kernel itself sends to a peer on a veth pair, and what the peer's kernel answers.
# As root; needs iproute2, iputils, ethtool, tcpdump and python3. Leaves nothing behind but the file.
set -eu
out=${1:?usage: capture_kernel_frames.sh OUT.pcap}
us=npcap-us-$$ peer=npcap-peer-$$ dump=
rm -f "$out"
cleanup() { [ -z "$dump" ] || kill "$dump" 2>/dev/null || :; ip netns del "$us" 2>/dev/null || :; ip netns del "$peer" 2>/dev/null || :; }
trap cleanup EXIT INT TERM
for ns in "$us" "$peer"; do
    ip netns add "$ns"
    ip netns exec "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
done
ip -n "$us" link add us address 02:00:00:00:00:01 type veth peer name peer netns "$peer" address 02:00:00:00:00:02
ip -n "$us" addr add 10.0.0.1/24 dev us
ip -n "$peer" addr add 10.0.0.2/24 brd 10.0.0.255 dev peer
ip -n "$us" link set us up
ip netns exec "$us" tcpdump -q -U -n -i us --immediate-mode -w "$out" 'not (icmp and icmp[0] = 3)' 2>/dev/null &
dump=$!
while ! [ -s "$out" ]; do sleep 0.05; done
ip netns exec "$peer" sysctl -qw net.ipv4.conf.peer.arp_notify=1
ip -n "$peer" link set peer up # its gratuitous ARP
ip netns exec "$peer" ping -q -c 1 -s 24 -p 6e6574 10.0.0.1 >/dev/null # ARP request and reply, echo request and reply
ip -n "$us" neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev us
ip -n "$peer" neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev peer
send() {
    ip netns exec "$peer" python3 - "$@" <<'PY'
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, 10, 0)                              # IP_MTU_DISCOVER = IP_PMTUDISC_DONT: no DF, ids
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.SOL_SOCKET, 11, int("nocheck" in sys.argv))     # SO_NO_CHECK
s.bind(("10.0.0.2", 6665))
s.sendto(sys.argv[2].encode() * int(sys.argv[3]), (sys.argv[1], 6666))
PY
}
send 10.0.0.1 'checksum left to the NIC' 1
ip netns exec "$peer" ethtool -K peer tx off >/dev/null
send 10.0.0.1 'checksum computed by the kernel' 1
send 10.0.0.1 'odd' 1
send 10.0.0.1 'no checksum' 1 nocheck
send 10.0.0.255 'to everybody' 1
ip -n "$peer" neigh replace 10.0.0.1 lladdr ff:ff:ff:ff:ff:ff dev peer
send 10.0.0.1 'unicast IP, broadcast MAC' 1
ip -n "$peer" neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev peer
send 10.0.0.1 'fragmented' 200
sleep 0.3
kill -INT "$dump"
wait "$dump" || :
dump=
