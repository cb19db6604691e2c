//! What was asked for: how long, and from which seed.

use std::env;

/// A run's length and seed.
pub struct Asked {
    pub seconds: u64,
    pub seed: u64,
}

impl Asked {
    /// From `SOAK_SECONDS` and `SOAK_SEED`, and told. `None`: this binary's test `name` is not to be run, as the usual
    /// harness would understand `cargo test other_name` and `--list`.
    pub fn of(name: &str, seconds: u64) -> Option<Asked> {
        let other = |argument: String| argument == "--list" || !argument.starts_with('-') && !name.contains(&argument);
        if env::args().skip(1).any(other) {
            return None;
        }
        let seconds = number("SOAK_SECONDS").unwrap_or(seconds);
        let seed = number("SOAK_SEED").unwrap_or(20_050_601);
        println!("{name}: {seconds} s, seed {seed}: again with `make soak SECONDS={seconds} SEED={seed}`");
        Some(Asked { seconds, seed })
    }
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a whole number")))
}
