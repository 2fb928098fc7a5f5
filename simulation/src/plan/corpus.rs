//! Plans that are kept: regressions, each with its story, and the tests that replay them.

use crate::plan::Plan;

/// One line of `regressions.txt`: a plan that once failed, and must not again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Regression {
    /// The file, without folder.
    pub file: String,
    /// The oracle that failed.
    pub oracle: String,
    /// What was wrong.
    pub story: String,
}

/// The lines of `regressions.txt`: `FILE ORACLE STORY…`; empty lines and those that begin with `#` are skipped. The
/// error says which line is none.
pub fn regressions(text: &str) -> Result<Vec<Regression>, String> {
    let mut out = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.splitn(3, char::is_whitespace);
        let (Some(file), Some(oracle), Some(story)) = (words.next(), words.next(), words.next())
        else {
            return Err(format!("line {}: expected FILE ORACLE STORY", number + 1));
        };
        out.push(Regression {
            file: file.to_owned(),
            oracle: oracle.to_owned(),
            story: story.trim().to_owned(),
        });
    }
    Ok(out)
}

/// A name for a plan's file that follows from the plan, for example `homelab-5-3f6c01a2`.
pub fn name(plan: &Plan) -> String {
    let hash = blake3::hash(plan.write().as_bytes()).to_hex();
    let profile = plan.options.profile.name();
    format!("{profile}-{}-{}", plan.options.nodes, &hash[..8])
}

/// A regression test for a plan that fails an oracle, ready to be pasted.
pub fn repro(plan: &Plan, oracle: &str) -> String {
    let story: String = plan
        .story
        .lines()
        .map(|line| format!("/// {}\n", line.trim()))
        .collect();
    // As many marks as it takes so that the plan holds no such run itself.
    let mut fence = String::from("#");
    let text = plan.write();
    while text.contains(&format!("\"{fence}")) {
        fence.push('#');
    }
    format!(
        "use lab_simulation::plan::{{Plan, run}};\n\n\
         {story}#[test]\n\
         fn {}_holds_in_{}() {{\n    \
             let plan = Plan::read(\n        r{fence}\"{text}\"{fence},\n    )\n    \
             .expect(\"a plan\");\n\n    \
             let outcome = run(&plan, &mut ());\n\n    \
             assert!(!outcome.fails(\"{oracle}\"), \"{{:?}}\", outcome.violations);\n\
         }}\n",
        oracle.replace(|c: char| !c.is_ascii_alphanumeric(), "_"),
        name(plan).replace('-', "_"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Act, Action, Profile, generate};

    #[test]
    fn a_line_is_a_file_an_oracle_and_a_story() {
        let text = "# what once was wrong\n\na.ron no_panic it fell over\nb.ron x  y z \n";
        let lines = regressions(text).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].file, "a.ron");
        assert_eq!(lines[0].oracle, "no_panic");
        assert_eq!(lines[0].story, "it fell over");
        assert_eq!(lines[1].story, "y z");
        let error = regressions("a.ron no_panic fine\nb.ron").unwrap_err();
        assert!(error.starts_with("line 2"), "{error}");
    }

    #[test]
    fn the_source_of_a_test_holds_the_plan_whatever_it_says() {
        let mut plan = generate(1, Profile::Homelab);
        plan.story = "two lines\nof story".into();
        let value = lab_crdt_model::Value::text("\"# and \"##");
        plan.actions.push(Action {
            at_ms: plan.phases.core_at(),
            who: 0,
            node: 0,
            what: Act::Set {
                path: "on/all/params/x".into(),
                value,
            },
        });
        let source = repro(&plan, "replicas_converge");
        assert!(
            source.contains("/// two lines\n/// of story\n#[test]\nfn replicas_converge_holds")
        );
        let start = source.find("r#").unwrap();
        let fence = source[start + 1..].find('"').unwrap();
        let open = start + 1 + fence + 1;
        let close = format!("\"{}", "#".repeat(fence));
        let end = open + source[open..].find(&close).unwrap();
        assert_eq!(Plan::read(&source[open..end]), Ok(plan));
    }
}
