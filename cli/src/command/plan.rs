//! `lab plan`: what declarations would change, or what is still on its way.

use std::path::{Path, PathBuf};

use lab_crdt_config::{Comparison, Declarations, Source, compare, parse};
use lab_crdt_model::Severity;
use lab_crdt_model::limit::DECLARATION_BYTES_MAX;
use lab_crdt_selector::Trust;

use super::Context;
use crate::args::{PlanArgs, ScopeArgs};
use crate::error::{CommandError, Exit};
use crate::session::Session;
use crate::view::picture::{Picture, Selection};
use crate::view::plan::Plan;

/// Shows the plan.
pub(super) async fn run(context: Context<'_>, args: PlanArgs) -> Result<Exit, CommandError> {
    let declared = read(context, &args.scope.files)?;
    let session = Session::open(context.global, context.ui).await?;
    let made = make(context, session.picture().await?, declared, &args.scope)?;
    let mut exit = exit_of(&made.plan);
    if args.exit_code && !made.plan.is_empty() {
        exit = exit.worst(Exit::Differs);
    }
    let envelope = made.picture.envelope(made.selection.as_ref());
    if !context.ui.is_machine() && !made.plan.intent.is_empty() {
        let files = args
            .scope
            .files
            .iter()
            .map(|f| format!(" -f {}", f.display()));
        let target = args.scope.target.iter().map(|t| format!(" -t '{t}'"));
        let take = args.scope.take.iter().map(|t| format!(" --take {t}"));
        let words: String = files.chain(target).chain(take).collect();
        let command = format!("lab apply{words}");
        let paint = context.ui.paint();
        let exit = context.finish(&made.plan, envelope, exit);
        context.ui.say(&format!("Apply: {}", paint.cyan(&command)));
        return Ok(exit);
    }
    Ok(context.finish(&made.plan, envelope, exit))
}

/// A plan with what it was made from.
pub(super) struct Made {
    /// The replica before.
    pub(super) picture: Picture,
    /// The replica as it will be.
    pub(super) after: Picture,
    /// What is declared against what stands.
    pub(super) comparison: Option<Comparison>,
    /// The machines in scope, if it was narrowed.
    pub(super) selection: Option<Selection>,
    /// The plan.
    pub(super) plan: Plan,
}

/// How a plan ends: 7 in conflict, 4 with machines that cannot be reached.
pub(super) fn exit_of(plan: &Plan) -> Exit {
    let conflict = if plan.has_conflict() {
        Exit::Conflict
    } else {
        Exit::Done
    };
    let partial = if plan.deferred_count() > 0 {
        Exit::Partial
    } else {
        Exit::Done
    };
    conflict.worst(partial)
}

/// Makes the plan.
pub(super) fn make(
    context: Context<'_>,
    picture: Picture,
    declared: Option<Declared>,
    scope: &ScopeArgs,
) -> Result<Made, CommandError> {
    let comparison = declared
        .as_ref()
        .map(|d| compare(&d.declarations, &picture.standing(), &scope.take));
    let ops = comparison.as_ref().map(Comparison::ops).unwrap_or_default();
    let after = picture.with_ops(&ops);
    if let Some(declared) = &declared {
        check_queries(context, &after, declared)?;
    }
    let selection = match &scope.target {
        Some(query) => Some(after.select(query, false)?),
        None => None,
    };
    if let Some(empty) = selection.as_ref().filter(|s| s.names.is_empty()) {
        let message = format!("`{}` matches no machine", empty.line.normal);
        return Err(CommandError::new(Exit::NoMatch, "Q050", message));
    }
    let named = declared.as_ref().zip(comparison.as_ref());
    let plan = Plan::new(
        &picture,
        &after,
        named.map(|(d, c)| (d.declarations.set(), c)),
        selection.as_ref().map(|s| &s.names),
    );
    Ok(Made {
        picture,
        after,
        comparison,
        selection,
        plan,
    })
}

/// Declarations with the texts they were read from.
pub(super) struct Declared {
    declarations: Declarations,
    texts: Vec<(String, String)>,
}

/// Reads declaration files; `None` if none are named. Mistakes are shown with the place they are in.
pub(super) fn read(
    context: Context<'_>,
    paths: &[PathBuf],
) -> Result<Option<Declared>, CommandError> {
    if paths.is_empty() {
        return Ok(None);
    }
    let mut texts = Vec::new();
    for path in paths
        .iter()
        .map(|p| files_of(p))
        .collect::<Result<Vec<_>, _>>()?
        .concat()
    {
        texts.push((path.display().to_string(), read_file(&path)?));
    }
    let sources: Vec<_> = texts
        .iter()
        .map(|(name, text)| Source { name, text })
        .collect();
    let (declarations, diagnostics) = parse(&sources);
    let mut errors = Vec::new();
    for diagnostic in &diagnostics {
        let text = texts
            .iter()
            .find(|(name, _)| *name == diagnostic.source)
            .map(|(_, t)| t);
        let shown = diagnostic
            .error
            .render(&diagnostic.source, text.map_or("", String::as_str));
        match diagnostic.severity {
            Severity::Error => errors.push((diagnostic.error.clone(), shown)),
            Severity::Warning | Severity::Info => {
                context
                    .ui
                    .say(shown.replacen("error[", "warning[", 1).trim_end());
            }
        }
    }
    match mistakes(&errors) {
        Some(error) => Err(error),
        None => Ok(Some(Declared {
            declarations,
            texts,
        })),
    }
}

fn mistakes(errors: &[(lab_crdt_model::SpanError, String)]) -> Option<CommandError> {
    let (first, _) = errors.first()?;
    let mut error = CommandError::new(Exit::Input, first.code, first.message.clone());
    error.snippet = Some(errors.iter().map(|(_, shown)| shown.as_str()).collect());
    let count = crate::print::count(errors.len(), "mistake");
    Some(error.hint(format!("{count}: nothing was changed")))
}

/// Checks the queries inside declarations against the machines and groups there would be.
fn check_queries(
    context: Context<'_>,
    after: &Picture,
    declared: &Declared,
) -> Result<(), CommandError> {
    let mut errors = Vec::new();
    for query in declared.declarations.queries() {
        let trust = if query.is_trusted {
            Trust::Trusted
        } else {
            Trust::Any
        };
        let Err(error) = after.check(&query.expr, trust) else {
            continue;
        };
        // A word that nobody has yet is no mistake in a declaration: the machine may join tomorrow.
        let is_unknown = matches!(error.code, "Q030" | "Q033");
        let severity = if is_unknown {
            Severity::Warning
        } else {
            Severity::Error
        };
        let diagnostic = query.locate(severity, error);
        let text = declared
            .texts
            .iter()
            .find(|(name, _)| *name == diagnostic.source);
        let text = text.map_or("", |(_, text)| text.as_str());
        let shown = diagnostic.error.render(&diagnostic.source, text);
        if is_unknown {
            context
                .ui
                .say(shown.replacen("error[", "warning[", 1).trim_end());
        } else {
            errors.push((diagnostic.error, shown));
        }
    }
    mistakes(&errors).map_or(Ok(()), Err)
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, CommandError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    let is_declaration = |path: &PathBuf| {
        path.extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
            && path.is_file()
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_declaration)
        .collect();
    files.sort();
    if files.is_empty() {
        let message = format!("{} holds no .yaml, .yml or .json file", path.display());
        return Err(CommandError::new(Exit::Input, "C021", message)
            .hint("name a file: lab plan -f lab.yaml"));
    }
    Ok(files)
}

fn read_file(path: &Path) -> Result<String, CommandError> {
    use std::io::Read as _;
    let mut text = String::new();
    let limit = u64::try_from(DECLARATION_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    read.map_err(|error| unreadable(path, &error))?;
    Ok(text)
}

fn unreadable(path: &Path, error: &std::io::Error) -> CommandError {
    let exit = match error.kind() {
        std::io::ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::Input,
    };
    CommandError::new(exit, "C021", format!("read {}", path.display()))
        .because(error)
        .hint("name a file or a folder of .yaml files: lab plan -f lab.yaml")
}
