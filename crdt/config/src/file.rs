//! The files of a node: resolved, then rendered.

use lab_crdt_model::limit::VALUE_BYTES_MAX;
use lab_crdt_model::{Field, Issue, Value};

use crate::effective::{Claim, Effective, ItemClaims, NodeFacts, Resolved, Resolver};
use crate::template::expand;

/// Longest path of a file, bytes.
pub const FILE_PATH_BYTES_MAX: usize = 4096;

/// One file and how its parts came about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FileResolved {
    /// What it contains: a map with either `content` (as it is) or `template` (filled in). Both compete as one
    /// value, so a stronger label may replace a template by a fixed text.
    pub body: Resolved,
    /// Permission bits as octal text.
    pub mode: Option<Resolved>,
    /// `user` or `user:group`.
    pub owner: Option<Resolved>,
}

impl FileResolved {
    pub(crate) fn new(resolver: &Resolver<'_>, mut claims: ItemClaims) -> Self {
        let mut bodies = Vec::new();
        for kind in ["content", "template"] {
            bodies.extend(claims.remove(kind).into_iter().flatten().map(|claim| {
                let value = Value::Map([(kind.to_owned(), claim.field.value)].into());
                Claim {
                    field: Field {
                        value,
                        ..claim.field
                    },
                    ..claim
                }
            }));
        }
        let mut settle = |name| claims.remove(name).map(|claims| resolver.settle(claims));
        Self {
            mode: settle("mode"),
            owner: settle("owner"),
            body: resolver.settle(bodies),
        }
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &Resolved)> {
        [
            ("body", Some(&self.body)),
            ("mode", self.mode.as_ref()),
            ("owner", self.owner.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, resolved)| Some((name, resolved?)))
    }
}

/// A file as it should be on one node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RenderedFile {
    /// Absolute, without `.` and `..`.
    pub path: String,
    /// At most 32 KiB.
    pub content: Vec<u8>,
    /// Permission bits, at most `0o777`; `0o644` when nothing else is said.
    pub mode: u32,
    /// `user` or `user:group`.
    pub owner: Option<String>,
}

/// Renders the files of a node, by path.
///
/// A file that cannot be rendered (labels disagree, a placeholder has no value, a path that may not be) is left
/// out and reported, the others are rendered. It is still a key of [`Effective::files`]: what lies on the disk
/// stays, it must not be taken for a file that is no longer declared.
pub fn files(effective: &Effective, node: &NodeFacts<'_>) -> (Vec<RenderedFile>, Vec<Issue>) {
    let (mut out, mut issues) = (Vec::new(), Vec::new());
    for (path, file) in &effective.files {
        match render(path, file, effective, node) {
            Ok(file) => out.push(file),
            Err((code, why)) => {
                let issue = Issue::error(code, format!("{} {path}", node.name), why);
                issues.push(issue.with_help(format!("lab explain {} {path}", node.name)));
            }
        }
    }
    (out, issues)
}

fn render(
    path: &str,
    file: &FileResolved,
    effective: &Effective,
    node: &NodeFacts<'_>,
) -> Result<RenderedFile, (&'static str, String)> {
    let torn = |what| {
        (
            "D021",
            format!("labels disagree about the {what}: the file is left as it is"),
        )
    };
    let path_error = |why| ("D019", format!("`{path}` cannot be written: {why}"));
    check_path(path).map_err(path_error)?;
    if !file.body.conflict.is_empty() {
        return Err(torn("content"));
    }
    let body = file.body.value.as_ref().and_then(Value::as_map);
    let text = |key| body.and_then(|body| body.get(key)).and_then(Value::as_text);
    let content = match (text("content"), text("template")) {
        (Some(content), _) => content.to_owned(),
        (None, Some(template)) => {
            expand(template, effective, node).map_err(|e| ("D024", e.to_string()))?
        }
        (None, None) => {
            return Err((
                "D025",
                "the file has neither content nor template".to_owned(),
            ));
        }
    };
    if content.len() > VALUE_BYTES_MAX {
        return Err((
            "D020",
            format!("the file has {} bytes, more than 32 KiB", content.len()),
        ));
    }
    let part = |resolved: &Option<Resolved>, what| match resolved {
        None => Ok(None),
        Some(resolved) if !resolved.conflict.is_empty() => Err(torn(what)),
        Some(resolved) => {
            let value = resolved.value.as_ref().and_then(Value::as_text);
            value
                .map(|v| Some(v.to_owned()))
                .ok_or(("D005", format!("the {what} is not text")))
        }
    };
    let mode = match part(&file.mode, "mode")? {
        None => 0o644,
        Some(text) => parse_mode(&text).ok_or(("D019", format!("`{text}` is not a mode")))?,
    };
    let owner = part(&file.owner, "owner")?;
    if let Some(owner) = owner.as_deref().filter(|owner| !is_owner(owner)) {
        return Err(("D019", format!("`{owner}` is not an owner")));
    }
    Ok(RenderedFile {
        path: path.to_owned(),
        content: content.into_bytes(),
        mode,
        owner,
    })
}

/// Whether a file may be written at `path`.
///
/// # Errors
/// Why not, as a fragment.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > FILE_PATH_BYTES_MAX {
        Err("it is longer than 4096 bytes")
    } else if !path.starts_with('/') {
        Err("it is not absolute")
    } else if path.chars().any(char::is_control) {
        Err("it has a control character")
    } else if path[1..]
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        Err("it has an empty part, `.` or `..`")
    } else {
        Ok(())
    }
}

/// Permission bits of `0644` or `644`.
pub(crate) fn parse_mode(text: &str) -> Option<u32> {
    let is_octal =
        (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = is_octal
        .then(|| u32::from_str_radix(text, 8).ok())
        .flatten()?;
    (mode <= 0o777).then_some(mode)
}

/// Whether `text` is `user` or `user:group`.
pub(crate) fn is_owner(text: &str) -> bool {
    let is_part = |part: &str| {
        (1..=32).contains(&part.len())
            && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    let (user, group) = text
        .split_once(':')
        .map_or((text, None), |(u, g)| (u, Some(g)));
    is_part(user) && group.is_none_or(is_part)
}
