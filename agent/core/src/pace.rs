//! How often a node may report: what comes faster is left out here, and brought by an exchange when there is room again.
//!
//! Paces count bytes, so that a small status may change often and a large one may not. Everyone takes in twice of what
//! an honest node says at most ([`said`]), so none of its reports is ever left out, however many come at once.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_log::RegisterKey;
use lab_crdt_model::report::Section;
use lab_crdt_model::{Mono, NodeId};

use crate::rate::{Bucket, Rate};

/// Bytes that are counted as one.
const UNIT: usize = 1024;

/// What a node says at most of a section, in units.
pub(crate) const fn said(section: Section) -> Rate {
    match section {
        // One is smaller than a unit; on demand one a second, besides those in turn.
        Section::Beacon => Rate {
            burst: 30,
            each_ms: 1_000,
        },
        // The largest at once, and then again every minute.
        Section::Facts => Rate {
            burst: 256,
            each_ms: 234,
        },
        // Two of the largest at once, and then one every ten seconds; three small ones a second.
        Section::Status => Rate {
            burst: 64,
            each_ms: 312,
        },
    }
}

/// What is taken in of a node.
const fn heard(section: Section) -> Rate {
    let said = said(section);
    Rate {
        burst: 2 * said.burst,
        each_ms: said.each_ms / 2,
    }
}

/// What a report of so many bytes costs.
pub(crate) const fn cost(bytes: usize) -> u64 {
    bytes.div_ceil(UNIT) as u64
}

/// Of whom reports came of late. Whoever is not here may report at once.
#[derive(Debug, Default, Clone)]
pub(crate) struct Paces(BTreeMap<RegisterKey, Bucket>);

impl Paces {
    /// Whether a report may be taken in. One that is larger than what is left may: the debt is waited for.
    pub(crate) fn has_room(&self, node: &NodeId, section: Section, now: Mono) -> bool {
        let bucket = self.0.get(&(*node, section));
        bucket.is_none_or(|it| !it.is_empty(heard(section), now))
    }

    /// A report was taken in; only of those that their node has signed, or others could use up what is its.
    pub(crate) fn spend(&mut self, node: NodeId, section: Section, bytes: usize, now: Mono) {
        let bucket = self.0.entry((node, section)).or_default();
        bucket.spend(cost(bytes), heard(section), now);
    }

    /// Those of which no more is taken in now.
    pub(crate) fn full(&self, now: Mono) -> BTreeSet<RegisterKey> {
        let full = self
            .0
            .iter()
            .filter(|((_, section), it)| it.is_empty(heard(*section), now));
        full.map(|(key, _)| *key).collect()
    }

    /// Forgets those who may report as if they never had: there are never more than members have sections.
    pub(crate) fn tidy(&mut self, now: Mono) {
        self.0.retain(|_, it| !it.is_full(now));
    }

    pub(crate) fn memory(&self) -> usize {
        self.0.len() * size_of::<(RegisterKey, Bucket)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    fn at(ms: u64) -> Mono {
        Mono(0).plus_ms(ms)
    }

    /// How many of the reports that come every so many milliseconds are taken in within two minutes, and of how many.
    fn taken(section: Section, bytes: usize, every_ms: u64) -> (u64, u64) {
        let mut paces = Paces::default();
        let (mut taken, mut all) = (0, 0);
        for ms in (0..120_000).step_by(usize::try_from(every_ms).unwrap()) {
            all += 1;
            if paces.has_room(&NODE, section, at(ms)) {
                paces.spend(NODE, section, bytes, at(ms));
                taken += 1;
            }
        }
        (taken, all)
    }

    #[test]
    fn whoever_reports_as_often_as_it_may_is_never_left_out() {
        for section in Section::ALL {
            for bytes in [200, 5_000, section.bytes_max() + 118] {
                let (rate, mut own, mut paces) =
                    (said(section), Bucket::default(), Paces::default());
                for ms in 0..300_000 {
                    if !own.is_empty(rate, at(ms)) {
                        own.spend(cost(bytes), rate, at(ms));
                        assert!(
                            paces.has_room(&NODE, section, at(ms)),
                            "{section:?} {bytes}"
                        );
                        paces.spend(NODE, section, bytes, at(ms));
                    }
                }
            }
        }
    }

    #[test]
    fn whoever_reports_without_end_is_heard_at_its_pace() {
        let beacons = taken(Section::Beacon, 500, 10);
        assert!((60..=300).contains(&beacons.0), "{beacons:?}");
        // In two minutes: four of the largest at once, and one every five seconds.
        let large = taken(Section::Status, 32 * 1024, 10);
        assert!((24..=30).contains(&large.0), "{large:?}");
        let facts = taken(Section::Facts, 256 * 1024, 10);
        assert!((4..=7).contains(&facts.0), "{facts:?}");
    }

    #[test]
    fn a_minute_of_small_changes_twice_a_second_is_heard_whole() {
        let (taken, all) = taken(Section::Status, 900, 500);
        assert_eq!(taken, all);
    }

    #[test]
    fn one_who_reports_too_often_takes_nothing_from_others_or_other_sections() {
        let mut paces = Paces::default();
        while paces.has_room(&NODE, Section::Facts, at(0)) {
            paces.spend(NODE, Section::Facts, 100_000, at(0));
        }
        assert_eq!(paces.full(at(0)), BTreeSet::from([(NODE, Section::Facts)]));
        assert!(paces.has_room(&NODE, Section::Status, at(0)));
        assert!(paces.has_room(&NodeId([2; 32]), Section::Facts, at(0)));
        paces.tidy(at(60_000));
        assert_eq!(paces.memory() / size_of::<(RegisterKey, Bucket)>(), 1);
        paces.tidy(at(600_000));
        assert_eq!(paces.memory(), 0);
    }
}
