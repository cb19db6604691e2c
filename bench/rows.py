"""The rows of the table: who is compared with whom, by what, and what is to be reached.

`parties`: the first is what the others are compared with. `by`: "cpu" = frames per CPU second of the measured lcore's
thread, "wall" = per second by the clock. `bound`: the least ratio, or with `more_ns` the most nanoseconds a frame on top.
`show`: values of a slice that are printed beside.
"""


def testpmd(mode, *devices, **more):
    return {"mode": mode, "devices": devices, **more}


def side(*words):
    return {"side": words}


ROWS = [
    {"name": "receive + free, net_null 64 B", "by": "cpu", "bound": 1.3, "parties": {
        "testpmd rxonly": testpmd("rxonly", "net_null0,size=64"),
        "netpoll": side("free", "device=net_null0,size=64")}},
    {"name": "receive + filter + hook, net_null 64 B, checksum verdicts present", "by": "cpu", "bound": 0.65, "parties": {
        "testpmd rxonly": testpmd("rxonly", "net_null0,size=64"),
        "netpoll": side("verified", "device=net_null0,size=64")}},
    *[{"name": f"receive + filter + hook, net_null {size} B, UDP checksum in software", "by": "cpu", "bound": bound,
       "parties": {
           "testpmd rxonly": testpmd("rxonly", f"net_null0,size={size}"),
           "netpoll": side("receive", f"device=net_null0,size={size}", f"size={size}")}}
      for size, bound in ((64, 0.45), (1024, 0.20))],
    *[{"name": f"receive + filter + hook, net_pcap {size} B, UDP checksum in software", "by": "cpu", "bound": 0.60,
       "parties": {
           "testpmd rxonly": testpmd("rxonly", f"net_pcap0,rx_pcap={{scratch}}/{size}.pcap,infinite_rx=1"),
           "netpoll": side("receive", f"device=net_pcap0,rx_pcap={{scratch}}/{size}.pcap,infinite_rx=1",
                           f"size={size}")}}
      for size in (64, 256, 1024)],
    *[{"name": f"receive + filter + hook, net_pcap {size} B, spread in software: the slower of receiver and worker", "by": "cpu",
       "show": ["receiver_ns", "worker_ns"], "parties": {
           "one lcore": side("receive", f"device=net_pcap0,rx_pcap={{scratch}}/{size}.pcap,infinite_rx=1", f"size={size}"),
           "netpoll": side("spread", f"device=net_pcap0,rx_pcap={{scratch}}/{size}.pcap,infinite_rx=1")}}
      for size in (64, 1024)],
    {"name": "net_ring loopback, filter + hook, no UDP sum to check", "by": "cpu", "more_ns": 6, "parties": {
        "without filter": side("forward", "checksum=none"),
        "netpoll": side("loopback", "checksum=none")}},
    {"name": "net_ring loopback, filter + hook, UDP checksum in software", "by": "cpu", "parties": {
        "without filter": side("forward"),
        "netpoll": side("loopback")}},
    {"name": "echo, net_null x2 64 B", "by": "cpu", "bound": 0.9, "parties": {
        "testpmd 5tswap": testpmd("5tswap", "net_null0,size=64", "net_null1,size=64", first="txonly", count="TX"),
        "netpoll": side("echo", "checksum=none")}},
    *[{"name": f"send, one client through its ring, client and loop on one core, {size} B", "by": "cpu",
       "bound": bound, "parties": {
           "testpmd txonly": testpmd("txonly", "net_null0,no-rx=1", size=size, count="TX"),
           "netpoll": side("send", f"size={size}")}}
      for size, bound in ((64, 0.6), (256, 0.5), (1024, 0.4))],
    {"name": "send, the same frame by frame, 64 B", "by": "cpu", "parties": {
        "testpmd txonly": testpmd("txonly", "net_null0,no-rx=1", count="TX"),
        "netpoll": side("send", "by=frame")}},
    *[{"name": f"send, one client through its ring, client on a core of its own, {size} B", "by": "wall",
       "parties": {
           "testpmd txonly": testpmd("txonly", "net_null0,no-rx=1", size=size, count="TX"),
           "netpoll": side("stream", f"size={size}", "ring=512")}}
      for size in (64, 256, 1024)],
    {"name": "registered clients, one of them sending", "by": "cpu", "bound": 0.95, "parties": {
        "1": side("send", "silent=yes", "mbufs=16384"),
        **{f"{count}": side("send", f"clients={count}", "silent=yes", "mbufs=16384") for count in (8, 64, 1000, 10000)}}},
    {"name": "64 clients on 2 threads, one core, and the loop on another", "by": "wall", "bound": 0.8,
     "show": ["fairness"], "at_least": {"fairness": 0.95}, "parties": {
         "one client": side("stream", "mbufs=16384"),
         "netpoll": side("stream", "clients=64", "threads=2", "mbufs=16384")}},
    {"name": "ARP request to reply, net_ring, one core: idle port", "by": "cpu",
     "show": ["p50_ns", "p99_ns", "p999_ns", "most_polls"], "parties": {"netpoll": side("arp")}},
    {"name": "ARP request to reply, net_ring, one core: behind a full ring of two bursts", "by": "cpu",
     "show": ["p50_ns", "p99_ns", "p999_ns", "burst_ns", "most_polls"], "at_most": {"most_polls": 2}, "parties": {
         "netpoll": side("arp", "flood=62")}},
    *[{"name": f"client submit to tx_burst, frame by frame, client on a core of its own, at {share} % of the most", "by": "wall",
       "show": ["most_mpps", "p50_ns", "p99_ns", "p999_ns"], "at_most": {"p99_ns": 10_000} if share == 50 else {},
       "parties": {"netpoll": side("latency", f"share={share}", "ring=512")}}
      for share in (10, 50, 90)],
    {"name": "sink: datagram to spool, net_pcap infinite_rx, lines of 160 B, the slower of lcore and writer", "by": "cpu",
     "bound": 0.5, "show": ["lcore_ns", "writer_ns", "mb_per_s"], "parties": {
         "write(2) of 256 KiB": side("write", "dir={scratch}/plain"),
         "netpoll": side("spool", "device=net_pcap0,rx_pcap={scratch}/line.pcap,infinite_rx=1", "dir={scratch}/spool")}},
]
