//! `lab-sim measure`: figures beside their bars.

use serde_json::json;

use super::args::MeasureArgs;
use super::exit::{Exit, Failure};
use super::progress::timed;
use super::table;
use super::ui::Ui;
use crate::network::Profile;
use crate::scenario::measure::{ALL, Figure, Measure, NETWORKS, Setup, network_name};

/// Measures one, or all, or lists them.
pub(crate) fn measure(ui: &Ui, args: &MeasureArgs) -> Result<Exit, Failure> {
    let network = NETWORKS.iter().find(|(n, _)| *n == args.network);
    let network = network.map_or(Profile::Lan, |(_, p)| *p);
    let which: Vec<Measure> = match args.name.as_deref().unwrap_or("list") {
        "list" => {
            let rows: Vec<Vec<String>> = ALL
                .iter()
                .map(|m| vec![m.name.to_owned(), m.about.to_owned()])
                .collect();
            ui.out(&table::render(
                &["name", "what it tells"],
                &rows,
                |_, column, text| {
                    if column == 0 {
                        ui.paint.hint(text)
                    } else {
                        text.to_owned()
                    }
                },
            ));
            return Ok(Exit::Well);
        }
        "all" => ALL.to_vec(),
        name => vec![Measure::named(name).ok_or_else(|| {
            Failure::usage(format!("there is no measure `{name}`")).hint("lab-sim measure list")
        })?],
    };
    if let Some(few) = args.nodes.iter().find(|n| **n < 4) {
        return Err(Failure::usage(format!("--nodes {few}: at least 4")));
    }
    let mut is_well = true;
    let mut documents = Vec::new();
    for (n, measure) in which.iter().enumerate() {
        let mut rows = Vec::new();
        for nodes in &args.nodes {
            let setup = Setup {
                nodes: *nodes,
                network,
                loss_per_mille: args.loss,
                seed: args.seed,
            };
            let (figures, real) = timed(|| measure.run(&setup));
            is_well &= figures
                .iter()
                .all(|f| f.bar.as_ref().is_none_or(|b| b.is_met));
            documents.push(json!({ "measure": measure.name, "setup": setup, "figures": figures }));
            ui.say(&format!(
                "{} at {nodes}: {} ms real",
                measure.name,
                real.as_millis()
            ));
            rows.push((setup, figures));
        }
        if !ui.is_json() {
            let gap = if n == 0 { "" } else { "\n" };
            ui.out(&format!(
                "{gap}{}: {}\n",
                ui.paint.strong(measure.name),
                measure.about
            ));
            ui.out(&text(ui, &rows));
        }
    }
    if ui.is_json() {
        ui.json(&documents)?;
    }
    Ok(Exit::of(is_well))
}

/// One row per run: the setup, the figures, the bars.
fn text(ui: &Ui, rows: &[(Setup, Vec<Figure>)]) -> String {
    let mut head = vec!["nodes", "network", "loss"];
    if let Some((_, figures)) = rows.first() {
        head.extend(figures.iter().map(|f| f.name));
    }
    head.push("bars");
    let bars_at = head.len() - 1;
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|(setup, figures)| {
            let mut row = vec![
                setup.nodes.to_string(),
                network_name(setup.network).to_owned(),
                format!(
                    "{}.{} %",
                    setup.loss_per_mille / 10,
                    setup.loss_per_mille % 10
                ),
            ];
            row.extend(figures.iter().map(|f| f.text.clone()));
            row.push(bars(figures));
            row
        })
        .collect();
    table::render(&head, &cells, |row, column, text| {
        let figures = &rows[row].1;
        let is_missed = |f: &Figure| f.bar.as_ref().is_some_and(|b| !b.is_met);
        if column == bars_at {
            return if figures.iter().any(is_missed) {
                ui.paint.bad(text)
            } else {
                ui.paint.good(text)
            };
        }
        match column.checked_sub(3).and_then(|n| figures.get(n)) {
            Some(figure) if is_missed(figure) => ui.paint.bad(text),
            _ => text.to_owned(),
        }
    })
}

fn bars(figures: &[Figure]) -> String {
    let bars = figures.iter().filter_map(|f| f.bar.as_ref());
    let bars: Vec<String> = bars
        .map(|b| format!("{} {}", b.text, if b.is_met { "ok" } else { "MISS" }))
        .collect();
    bars.join(", ")
}
