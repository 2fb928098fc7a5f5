//! Join tokens.

use lab_crdt_model::time::age;
use lab_crdt_model::view::{InviteView, Role};
use serde::Serialize;

use super::picture::Picture;
use crate::error::{CommandError, Exit};

/// A token, as `lab token list` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct TokenRow {
    /// Its public name.
    pub(crate) id: String,
    /// Who made it.
    pub(crate) made_by: String,
    /// `node` or `laptop`.
    pub(crate) role: &'static str,
    /// The machine that it is for, by MAC address and serial number.
    pub(crate) binding: Option<String>,
    /// The name that its user will have.
    pub(crate) name: Option<String>,
    /// Uses so far.
    pub(crate) uses: u32,
    /// Uses allowed.
    pub(crate) max: u32,
    /// Whether "once" holds in every partition together: only if one node must see each join.
    pub(crate) is_strict: bool,
    /// Who must see the join.
    pub(crate) witness: String,
    /// When it ends; RFC 3339.
    pub(crate) expires: String,
    /// How long that is from now, if it is ahead.
    #[serde(skip)]
    pub(crate) left: Option<String>,
    /// Labels that its user will have.
    pub(crate) labels: Vec<String>,
    /// `open`, `used`, `expired`, `revoked` or `double use`.
    pub(crate) state: String,
    /// Who joined with it.
    pub(crate) used_by: Vec<String>,
}

/// The tokens of a mesh: open ones first, then by expiry.
pub(crate) fn tokens(picture: &Picture) -> Vec<TokenRow> {
    let now = picture.view.at.0;
    let mut rows: Vec<TokenRow> = picture
        .view
        .invites
        .iter()
        .map(|invite| TokenRow {
            id: invite.token.clone(),
            made_by: picture.author(&invite.author),
            role: match invite.role {
                Role::Node => "node",
                Role::Laptop => "laptop",
            },
            binding: picture
                .view
                .bindings
                .get(&invite.id)
                .map(ToString::to_string),
            name: invite.name.clone(),
            uses: invite.used_count,
            max: invite.uses_max,
            is_strict: invite.witness != "any",
            witness: witness_text(picture, &invite.witness),
            expires: invite.not_after.to_string(),
            left: invite.not_after.0.checked_sub(now).map(age),
            labels: invite.labels.clone(),
            state: invite.state.clone(),
            used_by: invite
                .used_by
                .iter()
                .map(|n| picture.author(&n.author()))
                .collect(),
        })
        .collect();
    rows.sort_by(|a, b| {
        (a.state != "open", &a.expires, &a.id).cmp(&(b.state != "open", &b.expires, &b.id))
    });
    rows
}

/// The token whose public name begins with `text`, if there is exactly one.
pub(crate) fn find<'a>(picture: &'a Picture, text: &str) -> Result<&'a InviteView, CommandError> {
    let text = text.to_ascii_lowercase();
    let fits: Vec<_> = picture
        .view
        .invites
        .iter()
        .filter(|i| i.token.starts_with(&text))
        .collect();
    match fits.as_slice() {
        [one] if !text.is_empty() => Ok(one),
        [] => Err(
            CommandError::new(Exit::NoMatch, "M020", format!("there is no token `{text}`"))
                .hint("lab token list"),
        ),
        _ => Err(CommandError::new(
            Exit::NoMatch,
            "M021",
            format!("{} tokens begin with `{text}`", fits.len()),
        )
        .hint("write more of its id")),
    }
}

fn witness_text(picture: &Picture, witness: &str) -> String {
    match witness
        .strip_prefix("one ")
        .and_then(|id| id.parse::<lab_crdt_model::NodeId>().ok())
    {
        Some(node) => picture.author(&node.author()),
        None => witness.to_owned(),
    }
}
