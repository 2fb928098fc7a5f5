//! `lab token list`.

use serde_json::{Value as Json, json};

use super::paint::Tone;
use super::table::{Cell, Table};
use super::{Report, Style};
use crate::view::token::TokenRow;

/// Join tokens.
pub(crate) struct TokenList(pub(crate) Vec<TokenRow>);

impl Report for TokenList {
    fn schema(&self) -> &'static str {
        "lab.tokens/v1"
    }

    fn data(&self) -> Json {
        json!(self.0)
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|row| row.id.clone()).collect()
    }

    fn text(&self, style: &Style) -> String {
        let mut table = Table::new([
            "ID", "MADE BY", "FOR", "USES", "EXPIRES", "SEEN BY", "LABELS", "STATE", "USED BY",
        ]);
        for row in &self.0 {
            let state = match row.state.as_str() {
                "open" => Tone::Good,
                "double use" => Tone::Bad,
                _ => Tone::Dim,
            };
            let mut kind = row.name.clone().unwrap_or_else(|| row.role.to_owned());
            if let Some(binding) = &row.binding {
                kind = format!("{kind}, {binding}");
            }
            table.row([
                row.id.as_str().into(),
                row.made_by.as_str().into(),
                kind.into(),
                format!("{}/{}", row.uses, row.max).into(),
                Cell::or_dash(row.left.as_ref()),
                row.witness.as_str().into(),
                row.labels.join(" ").into(),
                Cell::new(state, &row.state),
                row.used_by.join(" ").into(),
            ]);
        }
        table.render(style)
    }
}

#[cfg(test)]
mod tests {
    use lab_crdt_model::view::{InviteView, Role};
    use lab_crdt_model::{StatementId, Wall};

    use super::*;
    use crate::error::Exit;
    use crate::view::{sample, token};

    fn invite(id: &str, witness: &str, state: &str) -> InviteView {
        InviteView {
            id: StatementId([1; 32]),
            token: id.into(),
            author: sample::ana(),
            role: Role::Node,
            name: None,
            labels: vec!["role=web".into()],
            used_count: 0,
            uses_max: 1,
            not_after: Wall(sample::fleet().view.at.0 + 1_740_000),
            witness: witness.into(),
            state: state.into(),
            used_by: vec![],
        }
    }

    #[test]
    fn a_token_for_one_machine_says_which() {
        let mut fleet = sample::fleet();
        let mut bound = invite("aa11", "any", "open");
        bound.name = Some("nuc3".into());
        let binding = lab_crdt_model::Binding {
            mac: Some("52:54:00:12:34:56".parse().unwrap()),
            serial: None,
        };
        fleet.view.bindings.insert(bound.id, binding);
        fleet.view.invites = vec![bound];
        let text = TokenList(token::tokens(&fleet.picture())).text(&Style::plain());
        let line = text.lines().nth(1).unwrap();
        assert!(line.contains("nuc3, MAC 52:54:00:12:34:56"), "{line}");
    }

    #[test]
    fn open_tokens_come_first_and_say_how_long_they_last() {
        let mut fleet = sample::fleet();
        let one = format!("one {}", sample::node("a"));
        fleet.view.invites = vec![invite("aa11", "any", "used"), invite("aa22", &one, "open")];
        let picture = fleet.picture();
        let text = TokenList(token::tokens(&picture)).text(&Style::plain());
        assert_eq!(
            text.lines().nth(1).unwrap(),
            "aa22  ana      node  0/1   29m      a        role=web  open"
        );
        assert_eq!(token::find(&picture, "aa2").unwrap().token, "aa22");
        assert_eq!(token::find(&picture, "aa").unwrap_err().code, "M021");
        assert_eq!(token::find(&picture, "ff").unwrap_err().exit, Exit::NoMatch);
    }
}
