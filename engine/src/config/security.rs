//! The section `[security]`: what the process keeps after start-up.

use super::{plan::SecurityPlan, section::Section};

/// Who to become, as it was written: `netpoll`, `netpoll:adm`, `1000:4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName {
    /// A name or a number.
    pub user: String,
    /// The group, if another than the user's own.
    pub group: Option<String>,
}

impl UserName {
    /// What a message says was expected.
    pub const EXPECTED: &str = "a user like `netpoll` or `1000`, or with its group like `netpoll:adm`";

    /// Whether there is such a user is for the machine that it runs on.
    pub fn parse(text: &str) -> Option<UserName> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$');
        let good = |name: &str| (1..=64).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(good);
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let fits = good(user) && group.is_none_or(good);
        fits.then(|| UserName { user: user.into(), group: group.map(Into::into) })
    }
}

pub(super) fn read(mut s: Section) -> SecurityPlan {
    let user = s.get("user").and_then(|v| v.text(UserName::EXPECTED, UserName::parse));
    let plan = SecurityPlan { user: user.map(|at| at.value), sandbox: s.flag("sandbox", true) };
    s.finish();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups() {
        let user = |text| UserName::parse(text).map(|name| (name.user, name.group));
        assert_eq!(user("netpoll"), Some(("netpoll".into(), None)));
        assert_eq!(user("1000:adm"), Some(("1000".into(), Some("adm".into()))));
        for bad in ["", ":", "a:", ":a", "a:b:c", "-1", "a b", "a/b"] {
            assert_eq!(user(bad), None, "{bad:?}");
        }
    }
}
