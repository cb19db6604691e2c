//! A record's named values: one buffer, no allocation a field.

/// Most fields that a record keeps apart; what comes after goes to [`REST`] as `key=value` lines. It
/// bounds the search for a name that is already taken.
pub const MAX_FIELDS: usize = 128;

/// The field that collects what came after the first [`MAX_FIELDS`].
pub const REST: &str = "_rest";

/// Names and values in the order in which they came; no name twice (a second `k` becomes `k#2`), since
/// the readers of a Parquet map refuse that.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub struct Fields {
    /// Keys and values, end to end.
    text: String,
    /// Where each key and each value ends in `text`.
    ends: Vec<(usize, usize)>,
    /// The [`REST`] field's value.
    rest: String,
}

impl Fields {
    /// Adds one. An empty `key` is kept as such.
    pub fn push(&mut self, key: &str, value: &str) {
        if self.ends.len() >= MAX_FIELDS {
            self.rest.push_str(key);
            self.rest.push('=');
            self.rest.push_str(value);
            self.rest.push('\n');
            return;
        }
        self.text.push_str(key);
        if self.get(key).is_some() || key == REST {
            self.number(key);
        }
        let key_end = self.text.len();
        self.text.push_str(value);
        self.ends.push((key_end, self.text.len()));
    }

    /// Adds one whose name was made unique before.
    #[cfg(feature = "store")]
    pub(crate) fn push_unchanged(&mut self, key: &str, value: &str) {
        if key == REST {
            self.rest.push_str(value);
            return;
        }
        self.text.push_str(key);
        let key_end = self.text.len();
        self.text.push_str(value);
        self.ends.push((key_end, self.text.len()));
    }

    /// Makes the key that was just added a free one: `key#2`, `key#3`...
    #[cold]
    fn number(&mut self, key: &str) {
        let free = (2..).map(|number| format!("{key}#{number}")).find(|name| self.get(name).is_none());
        self.text.push_str(&free.unwrap_or_default()[key.len()..]);
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut from = 0;
        let apart = self.ends.iter().map(move |&(key_end, end)| {
            let pair = (&self.text[from..key_end], &self.text[key_end..end]);
            from = end;
            pair
        });
        apart.chain((!self.rest.is_empty()).then_some((REST, self.rest.as_str())))
    }

    /// The same names, with values that `change` makes of these.
    pub(crate) fn map_values(&self, change: impl Fn(&str) -> String) -> Fields {
        let mut changed = Fields { rest: change(&self.rest), ..Fields::default() };
        for (key, value) in self.iter().take(self.ends.len()) {
            changed.push(key, &change(value));
        }
        changed
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.ends.len() + usize::from(!self.rest.is_empty())
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all of them out, keeping their room.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.rest.clear();
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

impl<'a> FromIterator<(&'a str, &'a str)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let mut fields = Fields::default();
        for (key, value) in pairs {
            fields.push(key, value);
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let fields: Fields = [("a", "1"), ("b", ""), ("a", "2"), ("a", "3"), ("", "4")].into_iter().collect();
        assert_eq!(fields.iter().collect::<Vec<_>>(), [("a", "1"), ("b", ""), ("a#2", "2"), ("a#3", "3"), ("", "4")]);
        assert_eq!(fields.get("b"), Some(""));
        assert_eq!(fields.get("c"), None);
    }

    #[test]
    fn what_comes_after_the_limit_is_kept_together() {
        let names: Vec<String> = (0..MAX_FIELDS + 2).map(|at| at.to_string()).collect();
        let fields: Fields = names.iter().map(|name| (name.as_str(), "v")).collect();
        assert_eq!(fields.len(), MAX_FIELDS + 1);
        assert_eq!(fields.get(REST), Some("128=v\n129=v\n"));
    }
}
