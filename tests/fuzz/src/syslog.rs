//! Syslog: with and without a `<PRI>`, by port and by trying.

use netpoll::sink::decode::Listen;

/// The input is datagrams as [`decode`](super::decode) has them.
pub fn run(input: &[u8]) {
    let formats = [(514, Listen::Syslog), (1514, Listen::Syslog), (6514, Listen::Auto), (601, Listen::Raw)];
    super::decode::run(input, &formats);
}
