//! Which machines are in touch with this one, and which fell silent together.

use serde::Serialize;

use super::machine::{Kind, Machine};

/// Machines lost within this time of each other are shown as one part, milliseconds.
const TOGETHER_MS: u64 = 20_000;

/// Machines that can be reached from here, or that fell silent together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Part {
    /// Whether it is the part of the machine that was asked.
    pub(crate) is_here: bool,
    /// Names, sorted.
    pub(crate) nodes: Vec<String>,
    /// How long it has been silent, seconds; `None` for the part that was asked, and if never heard.
    pub(crate) since_s: Option<u64>,
}

/// The parts of the mesh as seen from here: ours first, then the silent ones, latest loss first.
///
/// What silent machines can reach among themselves is not known here; that they fell silent together only
/// suggests it.
pub(crate) fn parts(machines: &[Machine]) -> Vec<Part> {
    let members = machines
        .iter()
        .filter(|m| m.kind != Kind::Cluster && m.member.is_some());
    let (here, silent): (Vec<_>, Vec<_>) = members.partition(|m| m.is_heard());
    let mut out = vec![Part {
        is_here: true,
        nodes: here.iter().map(|m| m.name.clone()).collect(),
        since_s: None,
    }];
    let mut silent: Vec<(Option<u64>, &str)> = silent
        .iter()
        .map(|m| (silent_ms(m), m.name.as_str()))
        .collect();
    silent.sort_by_key(|(ms, name)| (ms.unwrap_or(u64::MAX), *name));
    let mut last: Option<u64> = None;
    for (ms, name) in silent {
        let is_together = match (last, ms) {
            (Some(before), Some(ms)) => ms - before <= TOGETHER_MS,
            (None, None) => out.len() > 1,
            (None, Some(_)) | (Some(_), None) => false,
        };
        match out.last_mut() {
            Some(part) if is_together && !part.is_here => part.nodes.push(name.to_owned()),
            _ => out.push(Part {
                is_here: false,
                nodes: vec![name.to_owned()],
                since_s: ms.map(|ms| ms / 1000),
            }),
        }
        last = ms;
    }
    for part in &mut out {
        part.nodes.sort();
    }
    out
}

fn silent_ms(machine: &Machine) -> Option<u64> {
    machine.seen_ms
}

#[cfg(test)]
mod tests {
    use crate::view::sample;

    use super::*;

    #[test]
    fn machines_lost_together_are_one_part() {
        let picture = sample::fleet()
            .silent("b", 700_000)
            .silent("c", 705_000)
            .silent("d", 90_000_000)
            .picture();
        let parts = parts(&picture.machines);
        let nodes: Vec<_> = parts.iter().map(|p| p.nodes.join(" ")).collect();
        assert_eq!(nodes, ["a", "b c", "d"]);
        assert_eq!(parts[1].since_s, Some(700));
    }
}
