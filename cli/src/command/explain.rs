//! `lab explain`: the effective config of a machine and where each value comes from.

use lab_crdt_config::{Claim, Explanation, Line, LineState};
use lab_crdt_model::Path;
use serde_json::{Value as Json, json};

use super::Context;
use super::node::find;
use crate::args::ExplainArgs;
use crate::error::{CommandError, Exit};
use crate::print::{Report, Style, Warning, hex, safe};
use crate::session::Session;
use crate::view::picture::Picture;

/// Most lines of a file that are shown.
const LINES_MAX: usize = 20;

/// Shows it; ends with 7 if what was asked for is in conflict.
pub(super) async fn run(context: Context<'_>, args: ExplainArgs) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let machine = find(&picture, &args.node)?;
    let explanation = picture.explain(machine, args.key.as_deref());
    if let Some(key) = args.key.as_ref().filter(|_| explanation.lines.is_empty()) {
        let whole = picture.explain(machine, None);
        let items: Vec<_> = whole.lines.iter().map(|l| l.item.as_str()).collect();
        let near = lab_crdt_model::span::nearest(key, items.iter().copied());
        let message = format!("the config of {} has no `{key}`", machine.name);
        let error = CommandError::new(Exit::NoMatch, "D030", message);
        return Err(match near {
            Some(near) => error.hint(format!("lab explain {} {near}", machine.name)),
            None => error.hint(format!("lab explain {}", machine.name)),
        });
    }
    let exit = if explanation.conflict_count() > 0 {
        Exit::Conflict
    } else {
        Exit::Done
    };
    let status = machine.status.as_ref();
    let path = args.key.as_deref().filter(|key| key.starts_with('/'));
    let report = Explained {
        rendered: path.and_then(|path| picture.rendered(machine, path)),
        applied: status.map(|(s, _)| hex(&s.applied, 4)),
        explanation,
    };
    let mut envelope = picture.envelope(None);
    envelope.warnings = at_once(&picture, &report.explanation);
    Ok(context.finish(&report, envelope, exit))
}

/// Values that were written at the same time as one that counts here, until someone writes one of them once more.
fn at_once(picture: &Picture, explanation: &Explanation) -> Vec<Warning> {
    let is_about = |path: &Path| {
        let segments: Vec<_> = path.segments().collect();
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        explanation.lines.iter().any(|line| {
            let claims = [&line.chosen, &line.beaten, &line.conflict];
            claims.into_iter().flatten().any(|claim| {
                let place = match (claim.from.split_once(' '), claim.from.strip_prefix('@')) {
                    (Some(("node", node)), _) => ["node", node],
                    (_, Some(group)) => ["group", group],
                    _ => ["on", claim.from.as_str()],
                };
                segments.starts_with(&place) && segments.contains(&line.item.as_str())
            })
        })
    };
    let issues = picture.issues.iter().filter(|i| i.code == "D023");
    issues
        .filter(|issue| issue.subject.parse().is_ok_and(|path| is_about(&path)))
        .map(|i| {
            Warning::new(
                &i.code,
                safe(&format!("{}: {}; {}", i.subject, i.message, i.help)),
            )
        })
        .collect()
}

struct Explained {
    explanation: Explanation,
    applied: Option<String>,
    /// What the file that was asked for contains there, or why it is not written.
    rendered: Option<Result<String, String>>,
}

impl Report for Explained {
    fn schema(&self) -> &'static str {
        "lab.explain/v1"
    }

    fn data(&self) -> Json {
        let lines = self
            .explanation
            .lines
            .iter()
            .map(line_json)
            .collect::<Vec<_>>();
        json!({
            "node": self.explanation.node,
            "labels": self.explanation.labels.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "desired": hex(&self.explanation.desired, 32),
            "values": lines,
            "content": self.rendered.as_ref().and_then(|r| r.as_ref().ok()),
            "not_written": self.rendered.as_ref().and_then(|r| r.as_ref().err()),
        })
    }

    fn names(&self) -> Vec<String> {
        self.explanation.lines.iter().map(Line::name).collect()
    }

    fn text(&self, _style: &Style) -> String {
        let text = self.explanation.render();
        let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let lines = rest
            .lines()
            .map(|l| format!("{}\n", safe(l)))
            .collect::<String>();
        match &self.applied {
            Some(applied) if self.explanation.key.is_none() => {
                format!("{}  applied {applied}\n{lines}", safe(head))
            }
            _ => format!("{}\n{lines}{}", safe(head), self.content()),
        }
    }
}

impl Explained {
    /// The content of a file, as it is written there; ends in a newline.
    fn content(&self) -> String {
        match &self.rendered {
            None => String::new(),
            Some(Err(why)) => format!("  not written: {}\n", safe(why)),
            Some(Ok(content)) => {
                let lines = content.lines().take(LINES_MAX);
                let shown: String = lines.map(|l| format!("    {}\n", safe(l))).collect();
                let more = content.lines().count().saturating_sub(LINES_MAX);
                let more = if more > 0 {
                    format!("    … {more} more lines\n")
                } else {
                    String::new()
                };
                format!("  {} writes\n{shown}{more}", safe(&self.explanation.node))
            }
        }
    }
}

fn line_json(line: &Line) -> Json {
    let claims = |claims: &[Claim]| claims.iter().map(claim_json).collect::<Vec<_>>();
    json!({
        "section": line.section.as_str(),
        "key": line.item,
        "field": line.field,
        "value": line.value.as_ref().map(json_of),
        "state": match line.state {
            LineState::Ok => "ok",
            LineState::Conflict => "conflict",
            LineState::Removed => "removed",
        },
        "chosen": claims(&line.chosen),
        "beaten": claims(&line.beaten),
        "conflict": claims(&line.conflict),
    })
}

fn claim_json(claim: &Claim) -> Json {
    json!({
        "from": claim.from,
        "value": json_of(&claim.field.value),
        "owners": claim.field.owners,
        "source": claim.field.source,
    })
}

fn json_of(value: &lab_crdt_model::Value) -> Json {
    serde_json::from_str(&value.to_string()).unwrap_or(Json::Null)
}
