//! Reading a table of the file, key by key, where every mistake is noted and none ends the reading.
//!
//! Not serde's derive: that stops at the first mistake, and does not know the place of a key that is
//! missing. Here a key is known because somebody asked for it, so the list of known keys (for "did you
//! mean") cannot drift from the code that reads them.

use super::error::{Note, printable};
use std::{
    cell::{Cell, RefCell},
    fmt::{self, Write},
    ops::{Range, RangeInclusive},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Longest found value that a message repeats.
const FOUND_CHARS: usize = 40;

/// Most mistakes that are put into words: a hostile file of nothing else must not take for ever.
const MAX_NOTES: usize = 1000;

/// Where the mistakes of one file are gathered.
#[derive(Default)]
pub(super) struct Report {
    notes: RefCell<Vec<Note>>,
    uncounted: Cell<usize>,
}

impl Report {
    /// Notes a mistake at the bytes `span`.
    pub fn mistake(&self, span: Range<usize>, key: impl Into<String>, message: impl fmt::Display) {
        if self.has_room() {
            let note = Note { span, key: key.into(), message: message.to_string() };
            self.notes.borrow_mut().push(note);
        }
    }

    /// Whether one more mistake is put into words; if not, it is only counted, by this call.
    fn has_room(&self) -> bool {
        let room = self.notes.borrow().len() < MAX_NOTES;
        if !room {
            self.uncounted.set(self.uncounted.get() + 1);
        }
        room
    }

    /// What was noted, and how many mistakes were not.
    pub fn into_notes(self) -> (Vec<Note>, usize) {
        (self.notes.into_inner(), self.uncounted.get())
    }
}

/// A value, and where it stood: checks that compare keys point there.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub key: String,
    pub span: Range<usize>,
}

impl<T> At<T> {
    /// Notes that this value is wrong.
    pub fn wrong(&self, report: &Report, message: impl fmt::Display) {
        report.mistake(self.span.clone(), self.key.as_str(), message);
    }
}

/// One table while it is read.
pub(super) struct Section<'a> {
    name: String,
    /// `None`: the file does not have it, every key takes its default.
    table: Option<&'a DeTable<'a>>,
    /// The header, such as `[[port]]`: where a missing key is reported.
    pub span: Range<usize>,
    asked: Vec<&'static str>,
    pub report: &'a Report,
}

impl<'a> Section<'a> {
    pub fn new(name: &str, table: &'a DeTable<'a>, span: Range<usize>, report: &'a Report) -> Self {
        Section { name: name.to_owned(), table: Some(table), span, asked: Vec::new(), report }
    }

    /// `key` with its section's name before it.
    pub fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// The value of `key`, if it is there.
    pub fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        let value = self.table?.get(key)?;
        Some(Value { key: self.path(key), value, report: self.report })
    }

    /// The value of `key`; it is a mistake that it is missing.
    pub fn require(&mut self, key: &'static str, expected: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.report.mistake(self.span.clone(), self.path(key), format_args!("missing, expected {expected}"));
        }
        value
    }

    /// A whole number in `range`, or `default`.
    pub fn number<T: TryFrom<u64>>(&mut self, key: &'static str, range: RangeInclusive<u64>, default: T) -> T {
        self.get(key).and_then(|v| v.number(range)).map_or(default, |at| at.value)
    }

    /// `true`, `false`, or `default`.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.get(key).and_then(|v| v.flag()).unwrap_or(default)
    }

    /// The section `key`; one without a key if the file does not have it.
    pub fn section(&mut self, key: &'static str) -> Section<'a> {
        let value = self.get(key);
        if let Some(section) = value.as_ref().and_then(Value::as_section) {
            return section;
        }
        if let Some(value) = value {
            value.expected(&format!("a section [{}]", value.key));
        }
        Section { name: self.path(key), table: None, span: 0..0, asked: Vec::new(), report: self.report }
    }

    /// The sections `[[key]]`, at most `most`.
    pub fn sections(&mut self, key: &'static str, most: usize) -> Vec<Section<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let sections = value.as_array().and_then(|items| items.iter().map(Value::as_section).collect());
        let mut sections: Vec<Section<'a>> = sections.unwrap_or_else(|| {
            value.expected(&format!("[[{}]], as there may be several", value.key));
            Vec::new()
        });
        if let Some(beyond) = sections.get(most) {
            let message = format_args!("found {} of these sections, expected at most {most}", sections.len());
            self.report.mistake(beyond.span.clone(), value.key, message);
        }
        sections.truncate(most);
        sections
    }

    /// Whether `key` is there, readable or not.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Ends the reading: keys that nobody asked for are mistakes.
    pub fn finish(self) {
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let name = key.get_ref().as_ref();
            if self.asked.contains(&name) || !self.report.has_room() {
                continue;
            }
            let shown: String = name.chars().take(FOUND_CHARS).map(printable).collect();
            let message = match closest(name, &self.asked) {
                Some(known) => format!("unknown key, did you mean `{known}`?"),
                None => format!("unknown key, expected one of {}", self.asked.join(", ")),
            };
            self.report.mistake(key.span(), self.path(&shown), message);
        }
    }
}

/// The one of `known` that somebody who wrote `name` may have meant.
pub(super) fn closest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    // Longer input is no typing error, and the distance costs the product of the lengths.
    if name.len() > 64 {
        return None;
    }
    let typed = name.replace('-', "_").to_lowercase();
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(&typed, k), *k)).min()?;
    if near.0 <= (near.1.len() / 3).max(1) {
        return Some(near.1);
    }
    // `burst` for `burst_frames`: the unit was forgotten.
    known.iter().copied().find(|k| typed.len() >= 3 && k.starts_with(&typed))
}

/// One value while it is read.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub key: String,
    value: &'a Spanned<DeValue<'a>>,
    report: &'a Report,
}

impl<'a> Value<'a> {
    pub fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// Notes that something else was expected here.
    pub fn expected(&self, expected: &str) {
        self.wrong(format_args!("found {}, expected {expected}", found(self.value.get_ref())));
    }

    /// Notes that this value is wrong.
    pub fn wrong(&self, message: impl fmt::Display) {
        self.report.mistake(self.span(), self.key.as_str(), message);
    }

    /// Notes that the `len` bytes at `at` of this string, `text`, are wrong.
    pub fn wrong_within(&self, text: &str, at: usize, len: usize, message: impl fmt::Display) {
        let span = self.span();
        // Only without escapes (then two quotes are all that is added) is a place in the string one in the file.
        let plain = span.len() == text.len() + 2;
        let start = span.start + 1 + at;
        let place = if plain { start..start + len } else { span };
        self.report.mistake(place, self.key.as_str(), message);
    }

    /// `value` with the place of this one.
    pub fn at<T>(&self, value: T) -> At<T> {
        At { value, key: self.key.clone(), span: self.span() }
    }

    /// A whole number in `range`.
    pub fn number<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<At<T>> {
        let number = match self.value.get_ref() {
            DeValue::Integer(n) => u64::from_str_radix(n.as_str(), n.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|n| range.contains(n)).and_then(|n| T::try_from(n).ok());
        if number.is_none() {
            self.expected(&format!("a whole number from {} to {}", range.start(), range.end()));
        }
        number.map(|n| self.at(n))
    }

    /// `true` or `false`.
    pub fn flag(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(b) => Some(*b),
            _ => {
                self.expected("true or false");
                None
            }
        }
    }

    /// A string that `parse` understands; `expected` says what that is.
    pub fn text<T>(&self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<At<T>> {
        let parsed = self.as_str().and_then(parse);
        if parsed.is_none() {
            self.expected(expected);
        }
        parsed.map(|t| self.at(t))
    }

    /// One of several words.
    pub fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<At<T>> {
        let text = self.as_str().unwrap_or_default();
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(self.at(*meaning));
        }
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        self.expected(&one_of(&names));
        None
    }

    /// The string, if it is one. Notes nothing.
    pub fn as_str(&self) -> Option<&'a str> {
        match self.value.get_ref() {
            DeValue::String(s) => Some(s.as_ref()),
            _ => None,
        }
    }

    /// The number, if it is one that fits. Notes nothing.
    pub fn as_number(&self) -> Option<u64> {
        match self.value.get_ref() {
            DeValue::Integer(n) => u64::from_str_radix(n.as_str(), n.radix()).ok(),
            _ => None,
        }
    }

    /// The elements, if it is an array. Notes nothing.
    pub fn as_array(&self) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(items) = self.value.get_ref() else { return None };
        Some(items.iter().map(|value| Value { key: self.key.clone(), value, report: self.report }).collect())
    }

    /// The section that an inline table is, if it is one. Notes nothing.
    pub fn as_section(&self) -> Option<Section<'a>> {
        let DeValue::Table(table) = self.value.get_ref() else { return None };
        Some(Section::new(&self.key, table, self.span(), self.report))
    }

    /// An array of at most `most` elements, each read by `read` (which notes its own mistakes).
    pub fn list<T>(
        &self,
        expected: &str,
        most: usize,
        read: impl FnMut(&Value<'a>) -> Option<At<T>>,
    ) -> Option<Vec<At<T>>> {
        let Some(items) = self.as_array() else {
            self.expected(expected);
            return None;
        };
        if items.is_empty() || items.len() > most {
            self.wrong(format_args!("found {} elements, expected 1 to {most}", items.len()));
            return None;
        }
        items.iter().map(read).collect::<Vec<_>>().into_iter().collect()
    }
}

/// `"a", "b" or "c"`.
pub(super) fn one_of(words: &[&str]) -> String {
    let mut out = String::new();
    for (i, word) in words.iter().enumerate() {
        let before = if i == 0 {
            ""
        } else if i + 1 == words.len() {
            " or "
        } else {
            ", "
        };
        // Writing to a String does not fail.
        let _ = write!(out, "{before}\"{word}\"");
    }
    out
}

/// A value as a message repeats it: short, and fit for a terminal.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(s) => quoted(s),
        DeValue::Integer(n) => n.to_string().chars().take(FOUND_CHARS).collect(),
        DeValue::Float(n) => n.to_string().chars().take(FOUND_CHARS).collect(),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A string as a message repeats it: in quotes, short, fit for a terminal.
pub(super) fn quoted(text: &str) -> String {
    let mut out: String = text.chars().take(FOUND_CHARS).map(printable).collect();
    if text.chars().nth(FOUND_CHARS).is_some() {
        out.push_str("...");
    }
    format!("\"{out}\"")
}
