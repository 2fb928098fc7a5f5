//! `lab doctor`: is this machine, and the replica it holds, well?

use super::Context;
use super::root::{self, InForce};
use crate::args::DoctorArgs;
use crate::error::{CommandError, Exit};
use crate::key::KeyFile;
use crate::print::doctor::Checkup;
use crate::session::Session;
use crate::view::doctor::{Check, Verdict, checks};
use crate::view::picture::Picture;

/// Shows it.
pub(super) async fn run(context: Context<'_>, args: DoctorArgs) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let mut checks = checks(&picture, env!("CARGO_PKG_VERSION"));
    checks.push(key(&session, &picture));
    checks.push(root_keys(&root::in_force(&session).await?));
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
