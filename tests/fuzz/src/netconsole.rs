//! netconsole: extended with its fragments, basic with its joins, and both on one port.

use netpoll::sink::decode::Listen;

/// The input is datagrams as [`decode`](super::decode) has them.
pub fn run(input: &[u8]) {
    let formats = [
        (6666, Listen::NetconsoleExtended),
        (6667, Listen::NetconsoleBasic),
        (6668, Listen::Netconsole),
        (6669, Listen::Auto),
    ];
    super::decode::run(input, &formats);
}
