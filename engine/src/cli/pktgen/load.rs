//! How much is sent a second: the intended load.

use std::{fmt, str::FromStr};

/// Frames or bits a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// As much as goes.
    Max,
    /// Frames a second.
    Frames(u64),
    /// Bits a second on the wire, preamble and gap counted: what a link of that speed carries.
    Bits(u64),
}

/// A terabit: more than there is, and safe to calculate with.
const MOST_BITS: f64 = 1e12;
const MOST_FRAMES: f64 = 1e9;

impl Load {
    /// How much a second, in the load's unit. `None`: no bound.
    pub(super) fn per_second(self) -> Option<u64> {
        match self {
            Load::Max => None,
            Load::Frames(rate) | Load::Bits(rate) => Some(rate),
        }
    }

    /// The same unit, so much a second.
    pub(super) fn with(self, per_second: u64) -> Load {
        match self {
            Load::Max | Load::Frames(_) => Load::Frames(per_second),
            Load::Bits(_) => Load::Bits(per_second),
        }
    }

    /// What `frames` frames of `bits` bits on the wire in all come to, in the load's unit.
    #[inline]
    pub(super) fn units(self, frames: u64, bits: impl FnOnce() -> u64) -> u64 {
        match self {
            Load::Max | Load::Frames(_) => frames,
            Load::Bits(_) => bits(),
        }
    }
}

impl FromStr for Load {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Load, Self::Err> {
        const EXPECTED: &str = "expected frames a second like `100000`, `1.5M` or `20kpps`, bits a second on the wire like \
                                `10Gbit` or `250Mbit/s`, or `max`; at most 1Gpps or 1Tbit/s";
        if text == "max" {
            return Ok(Load::Max);
        }
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        // Of f64's own grammar only plain decimals: `1`, `1.5`.
        let plain = number.starts_with(|c: char| c.is_ascii_digit()) && !number.ends_with('.');
        let number: f64 = number.parse().ok().filter(|_| plain).ok_or(EXPECTED)?;
        let (factor, unit) = match unit.as_bytes() {
            [b'k', ..] => (1e3, &unit[1..]),
            [b'M', ..] => (1e6, &unit[1..]),
            [b'G', ..] => (1e9, &unit[1..]),
            [b'T', ..] => (1e12, &unit[1..]),
            _ => (1.0, unit),
        };
        let rate = (number * factor).round();
        match unit {
            "" | "pps" if (1.0..=MOST_FRAMES).contains(&rate) => Ok(Load::Frames(rate as u64)),
            "bit" | "bit/s" | "bps" if (1.0..=MOST_BITS).contains(&rate) => Ok(Load::Bits(rate as u64)),
            _ => Err(EXPECTED),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Max => f.write_str("as fast as it goes"),
            Load::Frames(rate) => write!(f, "{rate} frames/s"),
            Load::Bits(rate) => write!(f, "{}", bits(*rate as f64)),
        }
    }
}

/// Bits a second as people say them.
pub(super) fn bits(per_second: f64) -> String {
    let (number, unit) = match per_second {
        rate if rate >= 1e9 => (rate / 1e9, "Gbit/s"),
        rate if rate >= 1e6 => (rate / 1e6, "Mbit/s"),
        rate if rate >= 1e3 => (rate / 1e3, "kbit/s"),
        rate => (rate, "bit/s"),
    };
    let text = format!("{number:.3}");
    format!("{} {unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_strict() {
        let good = [
            ("max", Load::Max),
            ("100000", Load::Frames(100_000)),
            ("1.5M", Load::Frames(1_500_000)),
            ("20kpps", Load::Frames(20_000)),
            ("10Gbit", Load::Bits(10_000_000_000)),
            ("2.5Gbit/s", Load::Bits(2_500_000_000)),
            ("64kbps", Load::Bits(64_000)),
            ("1Tbit", Load::Bits(1_000_000_000_000)),
        ];
        for (text, load) in good {
            assert_eq!(text.parse(), Ok(load), "{text}");
        }
        for bad in
            ["", "0", "-1", "+1", "1e6", "1.", ".5M", "1..5", "Max", "2Gpps", "2Tbit", "1m", "1 k", "inf", "10Gbyte"]
        {
            assert!(bad.parse::<Load>().is_err(), "{bad:?}");
        }
        assert_eq!(Load::Bits(2_500_000_000).to_string(), "2.5 Gbit/s");
        assert_eq!(Load::Bits(900).to_string(), "900 bit/s");
    }
}
