//! What is left of a run that failed: everything that is needed to look into it.

use std::path::{Path, PathBuf};

use super::engine;
use super::exit::{Failure, write};
use crate::report::{Report, sentence};
use crate::svg;
use crate::timeline::Timeline;

/// A run that failed.
#[derive(Debug)]
pub(crate) struct Bug<'a> {
    /// The plan.
    pub(crate) plan: &'a str,
    /// A shorter one that fails the same way, if one was found.
    pub(crate) shrunk: Option<&'a str>,
    /// What was reported.
    pub(crate) report: &'a Report,
    /// What happened.
    pub(crate) timeline: &'a Timeline,
}

impl Bug<'_> {
    /// Where it will be put.
    pub(crate) fn folder(&self, below: &Path) -> PathBuf {
        let digest = &self.report.digest;
        below.join(format!("bug-{}", &digest[..digest.len().min(12)]))
    }

    /// Writes everything into a folder of its own; returns the folder.
    pub(crate) fn write(&self, below: &Path) -> Result<PathBuf, Failure> {
        let folder = self.folder(below);
        std::fs::create_dir_all(&folder).map_err(|error| {
            Failure::internal(format!("make the folder {}: {error}", folder.display()))
        })?;
        write(&folder.join("plan.ron"), self.plan)?;
        if let Some(shrunk) = self.shrunk {
            write(&folder.join("shrunk.ron"), shrunk)?;
        }
        write(&folder.join("report.txt"), &self.report.text(&()))?;
        write(&folder.join("timeline.txt"), &self.timeline.text())?;
        write(&folder.join("timeline.svg"), &svg::draw(self.timeline))?;
        write(&folder.join("repro.rs"), &self.repro())?;
        Ok(folder)
    }

    /// A regression test, ready to be put beside the others.
    fn repro(&self) -> String {
        let first = self.report.objections.first();
        let oracle = first.map_or("all_is_well", |o| o.oracle.as_str());
        let what = first.map_or("", |o| o.what.as_str()).replace('\n', " ");
        let test = engine::repro(self.shrunk.unwrap_or(self.plan), oracle);
        format!(
            "//! Found by the simulator: it did not hold that {}.\n//! {what}\n\n{}",
            sentence(oracle),
            test.unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Profile, generate_sized};

    #[test]
    fn a_failure_leaves_plan_timeline_picture_and_test_behind() {
        let below = std::env::temp_dir().join(format!("lab-sim-bug-{}", std::process::id()));
        let report = crate::report::tests::sample();
        let timeline = crate::timeline::tests::sample();
        let plan = generate_sized(1, Profile::Homelab, 3).write();
        let bug = Bug {
            plan: &plan,
            shrunk: Some(&plan),
            report: &report,
            timeline: &timeline,
        };

        let folder = bug.write(&below).expect("it can be written");

        assert!(folder.ends_with("bug-3f9ab2"));
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
        assert!(read("timeline.svg").starts_with("<svg"));
        assert!(read("timeline.txt").contains("down from here"));
        assert!(read("report.txt").contains("It must hold that"));
        let test = read("repro.rs");
        assert!(
            test.contains("fn replicas_converge_when_links_heal_holds_in_homelab_3"),
            "{test}"
        );
        std::fs::remove_dir_all(&below).expect("it is ours");
    }
}
