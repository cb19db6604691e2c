//! MAC addresses.

use std::{fmt, str::FromStr};

/// A 48-bit Ethernet address, in wire order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`, netconsole's default destination.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// Whether the group bit is set (multicast or broadcast).
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

/// Why a string is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a MAC address, six pairs of hex digits separated by ':' like 02:00:00:00:00:01")]
pub struct MacParseError;

impl FromStr for MacAddr {
    type Err = MacParseError;

    /// Strict: exactly six pairs of hex digits separated by `:`.
    fn from_str(s: &str) -> Result<Self, MacParseError> {
        let mut bytes = [0; 6];
        let mut pairs = s.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().ok_or(MacParseError)?;
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacParseError);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| MacParseError)?;
        }
        if pairs.next().is_some() { Err(MacParseError) } else { Ok(MacAddr(bytes)) }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_parsed(bytes in proptest::array::uniform6(0..=u8::MAX)) {
            proptest::prop_assert_eq!(MacAddr(bytes).to_string().parse(), Ok(MacAddr(bytes)));
        }
    }

    #[test]
    fn text_round_trip_and_strictness() {
        let mac = MacAddr([0x02, 0xab, 0, 1, 2, 0xff]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for bad in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:00:00:00:00:01",
            "02-00-00-00-00-01",
            "+2:00:00:00:00:01",
            " 02:00:00:00:00:01",
        ] {
            assert_eq!(bad.parse::<MacAddr>(), Err(MacParseError), "{bad:?}");
        }
    }
}
