//! `lab-sim scenario`: questions and their answers.

use std::fmt::Write as _;

use super::args::ScenarioArgs;
use super::exit::{Exit, Failure, write};
use super::table;
use super::ui::{Paint, Ui};
use crate::duration::{moment, words};
use crate::scenario::{ALL, Played, Scenario};
use crate::svg;

/// Plays one, or lists all.
pub(crate) fn scenario(ui: &Ui, args: &ScenarioArgs) -> Result<Exit, Failure> {
    let name = args.name.as_deref().unwrap_or("list");
    if name == "list" {
        let rows: Vec<Vec<String>> = ALL
            .iter()
            .map(|s| vec![s.name.to_owned(), s.question.to_owned()])
            .collect();
        let hint = |_, column, text: &str| match column {
            0 => ui.paint.hint(text),
            _ => text.to_owned(),
        };
        ui.out(&table::render(&["name", "question"], &rows, hint));
        return Ok(Exit::Well);
    }
    let scenario = Scenario::named(name).ok_or_else(|| {
        Failure::usage(format!("there is no scenario `{name}`")).hint("lab-sim scenario list")
    })?;
    let played = scenario.play(args.seed);
    if let Some(path) = &args.svg {
        write(path, &svg::draw(&played.timeline))?;
    }
    if let Some(path) = &args.timeline {
        write(path, &played.timeline.text())?;
    }
    if ui.is_json() {
        ui.json(&played)?;
    } else {
        ui.out(&text(&played, ui.paint));
        if let Some(path) = &args.svg {
            ui.say(&format!("\nThe picture is in {}.", path.display()));
        }
    }
    Ok(Exit::of(played.is_well()))
}

fn text(played: &Played, paint: Paint) -> String {
    let mut out = format!("{}\n\n", paint.strong(played.question));
    for line in wrapped(played.plot, 96) {
        let _ = writeln!(out, "{line}");
    }
    out.push('\n');
    let wide = played
        .story
        .iter()
        .map(|l| moment(l.at_ms).len())
        .max()
        .unwrap_or(0);
    for line in &played.story {
        let at = format!("{:>wide$}", moment(line.at_ms));
        let _ = writeln!(out, "  {}  {}", paint.dim(&at), line.text);
    }
    out.push('\n');
    for claim in &played.claims {
        let sign = if claim.is_true {
            paint.good("✓")
        } else {
            paint.bad("✗")
        };
        for (n, line) in wrapped(&claim.text, 94).iter().enumerate() {
            let sign = if n == 0 { sign.as_str() } else { " " };
            let _ = writeln!(out, "{sign} {line}");
        }
    }
    out.push('\n');
    let end = if played.is_well() {
        format!("{} {}", paint.strong("What you do:"), played.advice)
    } else {
        paint.bad("This is not as it should be.")
    };
    for line in wrapped(&end, 96) {
        let _ = writeln!(out, "{line}");
    }
    let foot = format!(
        "{} of virtual time on {} machines, seed {}, digest {}",
        words(played.timeline.end_ms),
        played.timeline.names.len(),
        played.seed,
        played.digest
    );
    let _ = writeln!(out, "{}", paint.dim(&foot));
    out
}

/// Lines of at most `width` characters, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Claim, Line};

    fn played(is_true: bool) -> Played {
        Played {
            name: "x",
            question: "What happens when x?",
            plot: "X happens.",
            seed: 1,
            story: vec![Line {
                at_ms: 83_200,
                text: "x happens".into(),
            }],
            claims: vec![Claim {
                is_true,
                text: "All is well. ".repeat(10),
            }],
            advice: "Nothing.",
            digest: "00ff".into(),
            node_ms: 1,
            timeline: crate::timeline::Timeline::default(),
        }
    }

    #[test]
    fn an_answer_ends_with_what_to_do() {
        let text = text(&played(true), Paint::plain());
        assert!(text.contains("  00:01:23.200  x happens\n"), "{text}");
        assert!(text.contains("✓ All is well.") && text.contains("What you do: Nothing."));
        assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    }

    #[test]
    fn a_false_claim_is_no_advice() {
        let text = text(&played(false), Paint::plain());
        assert!(text.contains("✗ All is well.") && !text.contains("What you do"));
        assert!(text.contains("not as it should be"));
    }
}
