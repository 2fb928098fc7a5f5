//! What only the shell can do to this machine, done.
//!
//! Effects block and are run on a blocking thread, one at a time, in the order asked.

mod facts;
mod files;

use std::path::PathBuf;

use lab_agent_core::{Effect, FileOwned, FileWanted};
use lab_agent_core::{EffectResult, FileOutcome};

use crate::accounts::Accounts;

pub(crate) use facts::hardware;
pub(crate) use files::Files;

/// Carries out effects.
#[derive(Debug)]
pub(crate) struct Effects {
    files: Option<Files>,
}

impl Effects {
    /// Writes files below `root` only, and never into `data_dir`.
    pub(crate) fn new(root: PathBuf, data_dir: PathBuf) -> Self {
        Self {
            files: Some(Files::new(root, data_dir, Accounts::system())),
        }
    }

    /// Touches no file: for a machine that is not a node yet.
    pub(crate) const fn facts_only() -> Self {
        Self { files: None }
    }

    /// Does it. Never fails as a whole: each part reports its own outcome.
    pub(crate) fn run(&self, effect: Effect) -> EffectResult {
        match effect {
            Effect::Facts => EffectResult::Facts(Box::new(facts::read())),
            Effect::Files { wanted, release } => EffectResult::Files(match &self.files {
                Some(files) => files.carry_out(&wanted, &release),
                None => untouched(&wanted, &release),
            }),
        }
    }
}

fn untouched(wanted: &[FileWanted], release: &[FileOwned]) -> Vec<FileOutcome> {
    let paths = wanted
        .iter()
        .map(|f| &f.path)
        .chain(release.iter().map(|f| &f.path));
    let error = Some("this machine is still joining".to_owned());
    paths
        .map(|path| FileOutcome {
            path: path.clone(),
            is_changed: false,
            error: error.clone(),
        })
        .collect()
}
