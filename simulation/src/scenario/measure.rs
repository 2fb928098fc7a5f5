//! How good the protocol is: figures with the bars they must meet.
//!
//! Each [`Measure`] forms a mesh of the given size on the given network, does one thing to it and counts. Times are
//! virtual; whoever runs it gets the same figures.

mod liveness;
mod recovery;
mod spread;

use serde::Serialize;

use crate::duration::words;
use crate::network::{Config, Profile};
use crate::note::Note;
use crate::{Options, StoreKind, World};

/// What is measured in which mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Setup {
    /// Nodes.
    pub nodes: usize,
    /// Paths.
    #[serde(serialize_with = "name_of")]
    pub network: Profile,
    /// Packets lost on top of what the paths lose, per mille.
    pub loss_per_mille: u32,
    /// The seed.
    pub seed: u64,
}

fn name_of<S: serde::Serializer>(profile: &Profile, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(network_name(*profile))
}

/// The networks, with their names on the command line.
pub const NETWORKS: [(&str, Profile); 7] = [
    ("lan", Profile::Lan),
    ("wifi", Profile::Wifi),
    ("metro", Profile::Metro),
    ("geography", Profile::Geography),
    ("lte", Profile::Lte),
    ("satellite", Profile::Satellite),
    ("mixed", Profile::Mixed),
];

/// What a network is called.
pub fn network_name(profile: Profile) -> &'static str {
    let entry = NETWORKS.iter().find(|(_, p)| *p == profile);
    entry.map_or("?", |(name, _)| name)
}

/// One figure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Figure {
    /// The heading of its column.
    pub name: &'static str,
    /// With its unit; `-` is "did not happen in time".
    pub text: String,
    /// As a number: milliseconds, bytes, a count, or per mille.
    pub value: Option<u64>,
    /// The bar, if there is one for this setup.
    pub bar: Option<Bar>,
}

/// What a figure must be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Bar {
    /// At most this.
    pub text: String,
    /// Whether it is.
    pub is_met: bool,
}

impl Figure {
    /// A time, milliseconds.
    fn time(name: &'static str, ms: Option<u64>) -> Self {
        let text = ms.map_or_else(|| "-".to_owned(), words);
        Self {
            name,
            text,
            value: ms,
            bar: None,
        }
    }

    /// A number with a unit.
    fn count(name: &'static str, n: u64, unit: &str) -> Self {
        let text = if unit.is_empty() {
            n.to_string()
        } else {
            format!("{n} {unit}")
        };
        Self {
            name,
            text,
            value: Some(n),
            bar: None,
        }
    }

    /// A ratio, given per mille.
    fn ratio(name: &'static str, per_mille: u64) -> Self {
        let text = format!("{}.{:02}", per_mille / 1_000, per_mille % 1_000 / 10);
        Self {
            name,
            text,
            value: Some(per_mille),
            bar: None,
        }
    }

    /// Must be at most `most`, in the unit of the value.
    fn at_most(self, most: u64, text: &str) -> Self {
        let is_met = self.value.is_some_and(|v| v <= most);
        let bar = Some(Bar {
            text: format!("{} ≤ {text}", self.name),
            is_met,
        });
        Self { bar, ..self }
    }

    /// The same if a condition holds; else there is no bar.
    fn at_most_if(self, is_asked: bool, most: u64, text: &str) -> Self {
        if is_asked {
            self.at_most(most, text)
        } else {
            self
        }
    }
}

/// Something that can be measured.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// How it is called on the command line.
    pub name: &'static str,
    /// What it says about the protocol.
    pub about: &'static str,
    run: fn(&Setup) -> Vec<Figure>,
}

impl Measure {
    /// Measures.
    pub fn run(&self, setup: &Setup) -> Vec<Figure> {
        (self.run)(setup)
    }

    /// The measure of a name.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|m| m.name == name).copied()
    }
}

/// All of them.
pub const ALL: &[Measure] = &[
    Measure {
        name: "propagation",
        about: "how long a change takes to reach everyone, and how often its bytes are sent",
        run: spread::propagation,
    },
    Measure {
        name: "idle",
        about: "what a mesh costs in which nothing happens",
        run: spread::idle,
    },
    Measure {
        name: "detection",
        about: "how soon everyone knows that a node died",
        run: liveness::detection,
    },
    Measure {
        name: "accusations",
        about: "how often healthy nodes are taken for dead while 16 of 100 stand still in turns (Lifeguard's set-up)",
        run: liveness::accusations,
    },
    Measure {
        name: "heal",
        about: "how long two halves take to agree after half an hour apart",
        run: recovery::heal,
    },
    Measure {
        name: "reboot",
        about: "what it costs when every node loses power at once and all come back",
        run: recovery::reboot,
    },
    Measure {
        name: "join",
        about: "how long newcomers take when many join at once",
        run: recovery::join,
    },
];

/// A mesh that has stood for a minute.
fn form(setup: &Setup) -> World {
    let store = if setup.nodes > 200 {
        StoreKind::Lean
    } else {
        StoreKind::Model
    };
    let network = Config {
        loss_per_mille: setup.loss_per_mille,
        ..Config::new(setup.network)
    };
    let options = Options {
        store,
        network,
        is_noted: true,
        ..Options::homelab(setup.seed)
    };
    let mut world = World::form(options, setup.nodes);
    let _is_settled = world.run_until(120_000, |w| {
        w.are_equal() && (0..w.len()).all(|n| w.is_up(n))
    });
    watch(&mut world, 90_000, |_| false);
    world
}

/// Lets time pass and looks at everything that happens, until `is_done` or at most `ms` milliseconds.
fn watch(world: &mut World, ms: u64, mut is_done: impl FnMut(&Note) -> bool) -> bool {
    let end = world.now_ms() + ms;
    while world.now_ms() < end {
        world.run_for((end - world.now_ms()).min(50));
        let notes = world.take_notes();
        let mut done = false;
        for note in &notes {
            done |= is_done(note);
        }
        if done {
            return true;
        }
    }
    false
}

/// The value below which so many of a hundred lie; `None` of nothing.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(nodes: usize) -> Setup {
        Setup {
            nodes,
            network: Profile::Lan,
            loss_per_mille: 0,
            seed: 1,
        }
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&values, 50), Some(50));
        assert_eq!(percentile(&values, 99), Some(99));
        assert_eq!(percentile(&values, 100), Some(100));
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn bars_are_met_or_missed() {
        let figure = Figure::time("p99", Some(900)).at_most(1_000, "1 s");
        assert_eq!(
            figure.bar,
            Some(Bar {
                text: "p99 ≤ 1 s".into(),
                is_met: true
            })
        );
        assert!(
            Figure::time("p99", None)
                .at_most(1_000, "1 s")
                .bar
                .is_some_and(|b| !b.is_met)
        );
        assert_eq!(Figure::ratio("copies", 1_234).text, "1.23");
    }

    #[test]
    fn every_measure_of_a_small_mesh_meets_its_bars() {
        for measure in ALL {
            let figures = measure.run(&setup(12));
            assert!(!figures.is_empty(), "{}", measure.name);
            for figure in figures {
                println!(
                    "{} {}: {} {:?}",
                    measure.name, figure.name, figure.text, figure.bar
                );
                assert!(
                    figure.bar.is_none_or(|b| b.is_met),
                    "{} {}: {}",
                    measure.name,
                    figure.name,
                    figure.text
                );
            }
        }
    }
}
