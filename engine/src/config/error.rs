//! What is wrong with a config file, in words that point at the place.
//!
//! One mistake looks like this; all of a file's mistakes are told in one go, in the order of the file:
//! ```text
//! netpoll.toml:9:10: port.queues: found 0, expected a whole number from 1 to 64
//!   9 | queues = 0
//!     |          ^
//! ```
//! Limits: columns count characters, so a caret under wide characters (CJK, emoji) is off to the left.

use std::{fmt, ops::Range, path::PathBuf};

/// Most mistakes that are shown; the rest are only counted.
const SHOWN: usize = 50;
/// Most characters of an offending line that are shown.
const LINE_CHARS: usize = 120;

/// Why there is no [`Plan`](super::Plan).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the config file: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is longer than any config: probably the wrong file.
    #[error("{}: longer than {limit_bytes} bytes, expected a config file", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Longest file that is read.
        limit_bytes: u64,
    },
    /// The file is not UTF-8 text.
    #[error("{}:{line}: not UTF-8 text, expected a TOML file", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The line of the first bad byte, from 1.
        line: usize,
    },
    /// Everything that is wrong in the file.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

/// The mistakes of one file: never empty, in the order of the file.
#[derive(Debug, thiserror::Error)]
pub struct Mistakes {
    file: String,
    list: Vec<Mistake>,
    hidden: usize,
}

impl Mistakes {
    /// The first of `notes` on `text`, and how many more there are: these and the `uncounted` ones.
    pub(super) fn new(file: &str, text: &str, mut notes: Vec<Note>, uncounted: usize) -> Self {
        notes.sort_by_key(|note| note.span.start);
        let hidden = notes.len().saturating_sub(SHOWN) + uncounted;
        let list = notes.into_iter().take(SHOWN).map(|note| Mistake::at(text, note)).collect();
        Mistakes { file: file.to_owned(), list, hidden }
    }

    /// Each mistake that is shown.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.list.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, m) in self.list.iter().enumerate() {
            let Mistake { line, column, key, message, quote, caret } = m;
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{line}:{column}: ", self.file)?;
            if !key.is_empty() {
                write!(f, "{key}: ")?;
            }
            let gutter = line.to_string().len().max(3);
            writeln!(f, "{message}\n{line:>gutter$} | {quote}")?;
            let (indent, carets) = (" ".repeat(caret.start), "^".repeat(caret.len()));
            write!(f, "{:gutter$} | {indent}{carets}", "")?;
        }
        match self.hidden {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more mistakes", self.file),
        }
    }
}

/// A mistake as noted, before its line is looked up.
pub(super) struct Note {
    /// Bytes of the text.
    pub span: Range<usize>,
    pub key: String,
    pub message: String,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, such as `port.queues`; empty where the text is not even TOML.
    pub key: String,
    /// What was found, and what was expected.
    pub message: String,
    /// The offending line, cut to the part that matters, fit for a terminal.
    pub quote: String,
    /// Which characters of `quote` are meant.
    pub caret: Range<usize>,
}

impl Mistake {
    /// What `note` says of `text`.
    fn at(text: &str, note: Note) -> Self {
        let Note { span, key, message } = note;
        let start = char_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_text = text[line_start..].lines().next().unwrap_or("");
        let line_end = line_start + line_text.len();
        // A place inside of the line's end (between CR and LF) is right behind the line.
        let start = start.min(line_end);
        // A place behind the last newline (end of file) has an empty line of its own.
        let end = char_boundary(text, span.end.clamp(start, line_end));
        let before = text[line_start..start].chars().count();
        let width = text[start..end].chars().count().max(1);

        // Show the part of a long line that has the caret in it.
        let cut = if before + width > LINE_CHARS { before.saturating_sub(LINE_CHARS / 3) } else { 0 };
        let quote: String = line_text.chars().skip(cut).take(LINE_CHARS).map(printable).collect();
        let from = before - cut;
        let caret = from..(from + width).min(LINE_CHARS.max(from + 1));
        let line = text[..start].matches('\n').count() + 1;
        Mistake { line, column: before + 1, key, message, quote, caret }
    }
}

/// The last boundary between characters at or before the byte `at`.
fn char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

/// A config file is shown on terminals: nothing in it may steer one.
pub(super) fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}
