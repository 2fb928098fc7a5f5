//! When this node took in what others report, to the second: the one thing about reports that differs from node to
//! node, kept apart from them and small.

use lab_crdt_model::Wall;
use lab_crdt_model::report::Section;

/// Seconds since 1970 by the clock of this node, for beacon and status; 0: before this start.
type Row = [u32; 2];

/// One row for each node that has reported, in the order of their keys.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ages(Vec<Row>);

const fn column(section: Section) -> Option<usize> {
    match section {
        Section::Beacon => Some(0),
        Section::Status => Some(1),
        // Nobody asks since when a machine is what it is.
        Section::Facts => None,
    }
}

impl Ages {
    /// A report came in, of the node at `place` among the `count` that have reported by now; its first one, maybe.
    pub(crate) fn heard(
        &mut self,
        place: usize,
        count: usize,
        is_first: bool,
        section: Section,
        at: Wall,
    ) {
        if self.0.is_empty() {
            // As long as nothing was heard since the start there are no rows at all.
            self.0 = vec![Row::default(); count];
        } else if is_first {
            self.0.insert(place, Row::default());
        }
        if let (Some(row), Some(column)) = (self.0.get_mut(place), column(section)) {
            let seconds = u32::try_from(at.0 / 1000).unwrap_or(u32::MAX);
            row[column] = seconds.max(1);
        }
    }

    /// The nodes at these places are forgotten; ascending.
    pub(crate) fn forget(&mut self, places: &[usize]) {
        if self.0.is_empty() {
            return;
        }
        let mut at = 0;
        self.0.retain(|_| {
            at += 1;
            places.binary_search(&(at - 1)).is_err()
        });
    }

    /// When the report of a section of the node at `place` was taken in; zero if that was before this start.
    pub(crate) fn at(&self, place: usize, section: Section) -> Wall {
        let seconds = column(section).and_then(|column| self.0.get(place).map(|row| row[column]));
        Wall(u64::from(seconds.unwrap_or(0)) * 1000)
    }

    pub(crate) fn memory(&self) -> usize {
        self.0.capacity() * size_of::<Row>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_keeps_its_own_times_while_others_come_and_go() {
        let mut ages = Ages::default();
        ages.heard(1, 3, false, Section::Beacon, Wall(5_999));
        assert_eq!(ages.at(1, Section::Beacon), Wall(5_000));
        assert_eq!(ages.at(0, Section::Beacon), Wall(0));
        // One comes before it.
        ages.heard(0, 4, true, Section::Status, Wall(8_000));
        assert_eq!(ages.at(0, Section::Status), Wall(8_000));
        assert_eq!(ages.at(2, Section::Beacon), Wall(5_000));
        ages.forget(&[0, 1]);
        assert_eq!(ages.at(0, Section::Beacon), Wall(5_000));
        assert_eq!(ages.at(1, Section::Beacon), Wall(0));
        assert_eq!(ages.at(7, Section::Beacon), Wall(0));
    }
}
