//! The options grammar: what parses is told back and parses to the same; what does not says where.

use netpoll::netpoll::options::{NetconsoleTarget, parse_targets};

/// The input is the option string.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    match parse_targets(text) {
        Ok(targets) => {
            assert_eq!(targets.len(), text.split(';').count());
            let shown: Vec<_> = targets.iter().map(NetconsoleTarget::to_string).collect();
            assert_eq!(parse_targets(&shown.join(";")).as_ref(), Ok(&targets), "{shown:?}");
            for (target, shown) in targets.iter().zip(&shown) {
                assert_eq!(shown.parse().as_ref(), Ok(target));
            }
        }
        Err(error) => {
            assert!(text.is_char_boundary(error.at), "{error:?}");
            assert!(text[error.at..].starts_with(&error.found), "{error:?}");
            assert!(error.caret <= error.excerpt.chars().count(), "{error:?}");
            assert!(!error.excerpt.contains(char::is_control), "{error:?}");
            // Message, target, caret; no input makes it long.
            let shown = error.to_string();
            assert_eq!(shown.lines().count(), 3, "{shown}");
            assert!(shown.chars().count() < 1500, "{shown}");
        }
    }
}
