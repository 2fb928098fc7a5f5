//! All oracles as judges of a plan.

use crate::note::{self, What};
use crate::oracle::{self, Limits, Note, Panel};
use crate::plan::judge::{Judges, Violation};
use crate::plan::{Act, Action, Phase, Plan};
use crate::world::World;

impl Plan {
    /// All oracles, with the figures of this plan.
    pub fn panel(&self) -> Panel {
        let mut panel = Panel::new(&Limits {
            idle_bytes_per_s: self.limits.idle_bytes,
            death_ms: self.limits.detect_ms,
            ..Limits::default()
        });
        if self.limits.is_loss_expected {
            panel.without(&["acknowledged_changes_survive", "views_never_go_back"]);
        }
        let is_spoilt = |a: &Action| matches!(a.what, Act::Adversary { .. });
        if self.actions.iter().any(is_spoilt) {
            // What adversaries and later versions send is nobody's cost.
            panel.without(&[
                "idle_traffic_stays_in_budget",
                "an_edit_costs_at_most_so_many_messages",
                "reconnecting_costs_what_changed",
            ]);
        }
        panel
    }
}

impl Judges for Panel {
    fn phase(&mut self, world: &mut World, phase: Phase, healed: &[usize]) {
        let phase = match phase {
            Phase::WarmUp => oracle::Phase::WarmUp,
            Phase::Chaos => oracle::Phase::Chaos,
            Phase::Core => oracle::Phase::Core(healed.iter().copied().collect()),
            Phase::Heal => oracle::Phase::Healed,
        };
        Self::phase(self, world, &phase);
    }

    fn note(&mut self, world: &mut World, note: &note::Note) {
        let is_about_the_machine = matches!(
            note.what,
            What::Started { .. } | What::Killed | What::Paused | What::Resumed | What::Fault(_)
        );
        if world.is_corrupt(note.node) && !is_about_the_machine {
            return;
        }
        if let Some(note) = Note::of(note) {
            Self::note(self, world, &note);
        }
    }

    fn sample(&mut self, world: &mut World) {
        Self::sample(self, world);
    }

    fn end(&mut self, world: &mut World) {
        Self::end(self, world);
    }

    fn take(&mut self) -> Vec<Violation> {
        Self::take(self)
    }
}
