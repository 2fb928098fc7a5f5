//! `lab doctor`: is this machine, and the replica it holds, well?

use super::Context;
use super::root::{self, InForce};
use crate::args::DoctorArgs;
use crate::clock;
use crate::error::{CommandError, Exit};
use crate::key::KeyFile;
use crate::print::doctor::Checkup;
use crate::session::Session;
use crate::tried::Tried;
use crate::view::doctor::{Check, Verdict, checks};
use crate::view::picture::Picture;
use lab_crdt_model::time::age;

/// Shows it.
pub(super) async fn run(context: Context<'_>, args: DoctorArgs) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let mut checks = checks(&picture, env!("CARGO_PKG_VERSION"));
    checks.push(key(&session, &picture));
    let root = root::in_force(&session).await?;
    checks.push(root_keys(&root));
    checks.extend(root_words(&session, &picture, &root));
    let checkup = Checkup(checks);
    let exit = match checkup.worst() {
        Verdict::Warn | Verdict::Fail if args.exit_code => Exit::Differs,
        Verdict::Ok | Verdict::Warn | Verdict::Fail => Exit::Done,
    };
    Ok(context.finish(&checkup, picture.envelope(None), exit))
}

fn root_keys(root: &InForce) -> Check {
    let (version, threshold) = (root.record.version, root.record.threshold);
    let count = root.record.root_keys.len();
    let detail = format!("root record {version}, {threshold} of {count} root keys sign");
    if root.is_disputed {
        let what = format!("{detail}; they signed two records of one version");
        return Check::new("root keys", Verdict::Fail, what).fix("lab root rotate");
    }
    let check = Check::new("root keys", Verdict::Ok, detail);
    if count > usize::from(threshold) {
        check
    } else {
        check.fix("lost words end this: lab root rotate --keys 2 --threshold 1")
    }
}

/// Whether the words of the root keys are known to be there, as far as an admin's device can tell.
fn root_words(session: &Session<'_>, picture: &Picture, root: &InForce) -> Option<Check> {
    let path = session.key_path(&picture.view.mesh);
    let file = KeyFile::read(&path).ok()?;
    if !root.record.admins.iter().any(|a| a.key == file.public) {
        return None;
    }
    let joined = picture.view.members.iter().map(|m| m.joined_at.wall());
    let founded = joined.min().unwrap_or(picture.view.at);
    let keys = &root.record.root_keys;
    let overdue = Tried::read(&path).overdue(keys, founded, clock::wall());
    if overdue.is_empty() {
        let detail = format!("of {} root keys, each was tried in half a year", keys.len());
        return Some(Check::new("root words", Verdict::Ok, detail));
    }
    let list = overdue
        .iter()
        .map(|(key, ms)| format!("{} not for {}", key.short(), age(*ms)));
    let list: Vec<String> = list.collect();
    let detail = format!("nobody tried the words of {}", list.join(", "));
    Some(Check::new("root words", Verdict::Warn, detail).fix("lab root try"))
}

fn key(session: &Session<'_>, picture: &Picture) -> Check {
    let path = session.key_path(&picture.view.mesh);
    if !path.exists() {
        let detail = format!(
            "no key here ({}): reading works, changing does not",
            path.display()
        );
        return Check::new("key", Verdict::Ok, detail);
    }
    let file = match KeyFile::read(&path) {
        Ok(file) => file,
        Err(error) => {
            let fix = error.hints.first().cloned().unwrap_or_default();
            return Check::new("key", Verdict::Fail, error.message.clone()).fix(fix);
        }
    };
    let sealed = if file.is_sealed() {
        "with a passphrase"
    } else {
        "without a passphrase"
    };
    match picture.view.operators.iter().find(|o| o.key == file.public) {
        None => Check::new(
            "key",
            Verdict::Warn,
            format!("the mesh does not know the key of {}", file.name),
        )
        .fix(format!(
            "an admin: lab operator add {} {}",
            file.name, file.public
        )),
        Some(o) if o.is_revoked => Check::new(
            "key",
            Verdict::Warn,
            format!("the rights of {} were revoked", o.name),
        ),
        Some(o) => Check::new("key", Verdict::Ok, format!("{} ({sealed})", o.name)),
    }
}
