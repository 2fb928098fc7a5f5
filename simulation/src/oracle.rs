//! What must hold, judged by code that does not share the agent's logic.
//!
//! An [`Oracle`] looks at a world through [`Seen`] and says at most one thing: a [`Violation`]. A [`Panel`] holds
//! all of them and knows in which [`Phase`] a run is: what must always hold is judged all the time, what must come
//! true is judged once the links of a core of nodes are healed. Where an oracle has to know what *should* be, it
//! asks the slow models below [`crate::reference`], which read statements byte by byte by themselves.
//!
//! [`pairs`] compares whole runs that have to end alike.

mod evidence;
mod limits;
pub mod pairs;
mod panel;
mod seen;
mod watched;

#[cfg(test)]
mod fake;

mod a_refused_change_is_never_half_there;
mod acknowledged_changes_survive;
mod an_edit_costs_at_most_so_many_messages;
mod audit_chains_are_whole;
mod copied_keys_are_noticed;
mod corruption_is_never_silent;
mod dead_nodes_are_noticed;
mod effective_config_matches_the_reference;
mod expired_members_stay_out;
mod healthy_nodes_are_not_accused;
mod idle_traffic_stays_in_budget;
mod local_reads_are_always_answered;
mod local_writes_are_taken_while_the_disk_works;
mod memory_stays_bounded;
mod no_livelock;
mod no_panic;
mod nodes_are_heard_at_their_pace;
mod only_authorised_intent_counts;
mod queues_stay_bounded;
mod reconnecting_costs_what_changed;
mod replicas_converge_when_links_heal;
mod restart_equals_no_crash;
mod revoked_keys_change_nothing;
mod stuck_states_name_a_cause;
mod synced_means_equal;
mod tokens_admit_once;
mod unknown_kinds_survive;
mod views_never_go_back;
mod what_comes_late_waits;

use lab_crdt_model::Mono;
use lab_crdt_model::id::base32;

pub use limits::Limits;
pub use panel::Panel;
pub use seen::{Ask, Audit, Counters, Digests, Harm, Note, Phase, Seen, What};

/// Something that must hold and did not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The oracle that says so.
    pub oracle: &'static str,
    /// When it was seen, by the clock of the world.
    pub at: Mono,
    /// On which node; `None` when it concerns the mesh as a whole.
    pub node: Option<usize>,
    /// What was expected, and what was seen.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {} ms", self.oracle, self.at.0 / 1_000_000)?;
        if let Some(node) = self.node {
            write!(f, " on node {node}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Whether all is well.
pub type Verdict = Result<(), Violation>;

/// One thing that must hold.
pub trait Oracle: std::fmt::Debug {
    /// A sentence in snake case.
    fn name(&self) -> &'static str;

    /// The run enters a phase.
    fn phase(&mut self, seen: &mut dyn Seen, phase: &Phase) {
        let _ = (seen, phase);
    }

    /// Something happened.
    ///
    /// # Errors
    /// What must hold does not.
    fn note(&mut self, seen: &mut dyn Seen, note: &Note) -> Verdict {
        let _ = (seen, note);
        Ok(())
    }

    /// Looks around; called every few hundred virtual milliseconds, between inputs.
    ///
    /// # Errors
    /// What must hold does not.
    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let _ = seen;
        Ok(())
    }

    /// Looks around for the last time; everything is healed, and nobody has asked for anything for a while.
    ///
    /// # Errors
    /// What must hold does not.
    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        let _ = seen;
        Ok(())
    }

    /// A violation by this oracle, now.
    fn broken(&self, seen: &dyn Seen, node: Option<usize>, what: String) -> Verdict {
        Err(Violation {
            oracle: self.name(),
            at: seen.now(),
            node,
            what,
        })
    }
}

/// Every oracle, with these bounds.
pub fn all(limits: &Limits) -> Vec<Box<dyn Oracle>> {
    vec![
        Box::new(no_panic::NoPanic),
        Box::new(replicas_converge_when_links_heal::Convergence::new(limits)),
        Box::new(only_authorised_intent_counts::Authorised::new(limits)),
        Box::new(acknowledged_changes_survive::Acknowledged::new(limits)),
        Box::new(a_refused_change_is_never_half_there::Refusals::new(limits)),
        Box::new(views_never_go_back::Watermarks::default()),
        Box::new(restart_equals_no_crash::Rebuilds::default()),
        Box::new(corruption_is_never_silent::Corruption::default()),
        Box::new(tokens_admit_once::Tokens::default()),
        Box::new(revoked_keys_change_nothing::Revocations::new(limits)),
        Box::new(unknown_kinds_survive::UnknownKinds::new(limits)),
        Box::new(effective_config_matches_the_reference::ConfigFiles::new(
            limits,
        )),
        Box::new(synced_means_equal::FalseEqual::new(limits)),
        Box::new(stuck_states_name_a_cause::Causes::new(limits)),
        Box::new(dead_nodes_are_noticed::Deaths::new(limits)),
        Box::new(healthy_nodes_are_not_accused::Accusations::new(limits)),
        Box::new(local_reads_are_always_answered::Reads::new(limits)),
        Box::new(local_writes_are_taken_while_the_disk_works::Writes::new(
            limits,
        )),
        Box::new(memory_stays_bounded::Memory::new(limits)),
        Box::new(queues_stay_bounded::Queues::new(limits)),
        Box::new(idle_traffic_stays_in_budget::IdleTraffic::new(limits)),
        Box::new(an_edit_costs_at_most_so_many_messages::EditCost::new(
            limits,
        )),
        Box::new(reconnecting_costs_what_changed::ReconnectCost::new(limits)),
        Box::new(no_livelock::Livelock::new(limits)),
        Box::new(nodes_are_heard_at_their_pace::Pace::new(limits)),
        Box::new(expired_members_stay_out::Leases::default()),
        Box::new(copied_keys_are_noticed::Copies::default()),
        Box::new(what_comes_late_waits::Latecomers::default()),
        Box::new(audit_chains_are_whole::AuditChains::default()),
    ]
}

/// The first eight characters of a digest, as people see ids.
pub(crate) fn short(digest: &[u8; 32]) -> String {
    base32(&digest[..5])
}
