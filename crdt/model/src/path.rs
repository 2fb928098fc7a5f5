//! Where a field of intent lives: a slash-separated path.
//!
//! The first segment is the kind of thing; `%` and `/` inside a segment are written `%25` and `%2F`, control
//! characters are not allowed. The layout, version 1:
//!
//! ```text
//! label/NODE/KEY[=VALUE]                a label on a node                        true
//! node/NODE                             the node is declared                     true
//! node/NODE/ATTR                        provider, profile, mac, host, …          value
//! node/NODE/params/KEY                  a parameter settled for one node         value
//! on/LABEL                              something is attached to LABEL (or all)  true
//! on/LABEL/classes/NAME, packages/NAME  keyed collections                        true
//! on/LABEL/params/KEY, vars/KEY         parameters, variables                    value
//! on/LABEL/files/PATH/FIELD             content, template, mode, owner, …        value
//! on/LABEL/alerts/NAME/FIELD            alert rules                              value
//! on/LABEL/dns/NAME/FIELD               records                                  value
//! on/LABEL/rollout/KEY, protect, over   the rest                                 value
//! on/LABEL/without/SECTION/ITEM         what equal or lower tiers add is removed true
//! group/NAME/include, exclude           queries                                  text
//! group/NAME/members/NODE               members                                  true
//! group/NAME/params/KEY                 parameters                               value
//! profile|provider|secret|cluster|stack|manifest/NAME[/FIELD…]                   value
//! dns/zones/ZONE/FIELD                  zones                                    value
//! vocabulary                            label keys by strength                   list
//! set/NAME                              a declaration set and where it came from map
//! ```

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::label::Label;
use crate::limit::PATH_BYTES_MAX;

/// A path; at most 256 bytes of text, at least one segment, no empty segment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Path(String);

/// Why a text is not a path. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Longer than 256 bytes.
    #[error("path of {0} bytes is longer than {PATH_BYTES_MAX}")]
    TooLong(usize),
    /// An empty segment, a control character or a `%` that is not `%25` or `%2F`.
    #[error("`{0}` is not a path")]
    Malformed(String),
}

impl Path {
    /// Builds a path from raw segments, escaping what needs it.
    pub fn new<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Result<Self, PathError> {
        let escaped: Vec<_> = segments
            .into_iter()
            .map(|s| escape(s.as_ref()).into_owned())
            .collect();
        escaped.join("/").parse()
    }

    /// `label/NODE/LABEL`. Node names and labels are short by their own limits, so this never fails.
    pub fn label(node: &str, label: &Label) -> Self {
        Self(format!(
            "label/{}/{}",
            escape(node),
            escape(&label.to_string())
        ))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The raw segments, unescaped.
    pub fn segments(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.0.split('/').map(unescape)
    }

    /// Whether this path is `prefix` or lies below it; `prefix` is text such as `on/role=web` (`""` covers all).
    pub fn is_below(&self, prefix: &str) -> bool {
        let prefix = prefix.trim_end_matches('/');
        prefix.is_empty()
            || self
                .0
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn escape(segment: &str) -> Cow<'_, str> {
    if segment.contains(['%', '/']) {
        Cow::Owned(segment.replace('%', "%25").replace('/', "%2F"))
    } else {
        Cow::Borrowed(segment)
    }
}

fn unescape(segment: &str) -> Cow<'_, str> {
    if segment.contains('%') {
        Cow::Owned(segment.replace("%2F", "/").replace("%25", "%"))
    } else {
        Cow::Borrowed(segment)
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Path {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        if text.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong(text.len()));
        }
        let sound = text.split('/').all(|s| {
            !s.is_empty()
                && !s.chars().any(char::is_control)
                && s.split('%')
                    .skip(1)
                    .all(|t| t.starts_with("25") || t.starts_with("2F"))
        });
        if sound {
            Ok(Self(text))
        } else {
            Err(PathError::Malformed(text))
        }
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_survive_slashes_and_percent_signs() {
        let raw = ["on", "all", "files", "/etc/100%/a%2Fb", "content"];
        let path = Path::new(raw).unwrap();
        assert_eq!(path.segments().collect::<Vec<_>>(), raw);
        assert_eq!(path.as_str().parse::<Path>().unwrap(), path);
    }

    #[test]
    fn a_prefix_covers_whole_segments_only() {
        let path: Path = "on/role=web/params/x".parse().unwrap();
        assert!(path.is_below("on/role=web"));
        assert!(path.is_below("on/role=web/"));
        assert!(path.is_below(""));
        assert!(!path.is_below("on/role=we"));
        assert!(!path.is_below("on/role=web/params/x/y"));
    }

    #[test]
    fn damaged_paths_are_refused() {
        for text in [
            "",
            "a//b",
            "/a",
            "a/",
            "a/%zz",
            "a/%2",
            "a/\u{7}",
            &"x".repeat(257),
        ] {
            assert!(text.parse::<Path>().is_err(), "{text}");
        }
    }
}
