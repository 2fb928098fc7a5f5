//! All seeded bugs.

use super::{META, Mutant, plans};

const ACKNOWLEDGED: &str = "acknowledged_changes_survive";
const AUDIT: &str = "audit_chains_are_whole";
const AUTHORISED: &str = "only_authorised_intent_counts";
const CAUSES: &str = "stuck_states_name_a_cause";
const CONFIG: &str = "effective_config_matches_the_reference";
const CONVERGENCE: &str = "replicas_converge_when_links_heal";
const CORRUPTION: &str = "corruption_is_never_silent";
const EDIT_COST: &str = "an_edit_costs_at_most_so_many_messages";
const IDLE: &str = "idle_traffic_stays_in_budget";
const LATE: &str = "what_comes_late_waits";
const NO_PANIC: &str = "no_panic";
const REVOKED: &str = "revoked_keys_change_nothing";
const TOKENS: &str = "tokens_admit_once";
const VIEWS: &str = "views_never_go_back";
const WRITES: &str = "local_writes_are_taken_while_the_disk_works";

macro_rules! mutants {
    ($($name:literal $oracle:expr, $plan:ident, $story:literal $(, also $other:expr, $why:literal)* ;)*) => {
        /// All seeded bugs, by name.
        pub const MUTANTS: &[Mutant] = &[$(Mutant {
            name: $name,
            story: $story,
            oracle: $oracle,
            also: &[$(($other, $why)),*],
            plan: plans::$plan,
        }),*];
    };
}

mutants! {
    "M03" ACKNOWLEDGED, power_cut_at_write,
        "A change is acknowledged before it is durable.";
    "M04" ACKNOWLEDGED, refused_write,
        "What the disk refused counts as written.",
        also CAUSES, "the refusal is not told to people either";
    "M05" WRITES, refusing_disk,
        "The store is not opened again after a write failed.";
    "M06" CORRUPTION, rotten_disks,
        "The checksum of a stored record is not compared.";
    "M07" CORRUPTION, forgery,
        "Signatures of statements are not checked.",
        also AUTHORISED, "the reference keeps nothing that nobody signed";
    "M08" AUTHORISED, narrow_right,
        "Every edit of someone known counts, whatever their rights.";
    "M09" CONVERGENCE, late_arrival,
        "The end of a grant is judged by the clock of who receives, not by the stamp.",
        also ACKNOWLEDGED, "what one node refuses is not everywhere";
    "M10" TOKENS, shared_token,
        "A token that two machines use at once lets both in.",
        also AUTHORISED, "the reference suspends the second";
    "M11" TOKENS, token_over,
        "The end of a token is not checked.",
        also AUTHORISED, "the reference does not let the machine in";
    "M21" "queues_stay_bounded", hoard,
        "Statements that wait for others are kept without limit.";
    "M23" CONVERGENCE, partition,
        "A small mesh does not dial again whom it lost.";
    "M24" IDLE, idle_phones,
        "A ping has to be answered within a millisecond, however long the path.",
        also "healthy_nodes_are_not_accused", "suspicions that are not refuted in time";
    "M25" CONVERGENCE, large_partition,
        "In a large mesh nobody dials a member that is no neighbour.";
    "M26" VIEWS, restart,
        "The numbers of reports begin again after a restart.";
    "M27" VIEWS, anything,
        "A report that differs counts as newer.",
        also IDLE, "they are sent to and fro",
        also "no_livelock", "they are sent to and fro",
        also CONVERGENCE, "an old report is the last one";
    "M28" "unknown_kinds_survive", unknown_kind,
        "Statements of a kind that is unknown here are dropped.",
        also CONVERGENCE, "the others hold them";
    "M30" AUDIT, restart,
        "After a start the audit chain goes on with a gap.";
    "M31" "synced_means_equal", grey,
        "A peer counts as equal once an exchange with it began.";
    "M32" EDIT_COST, edit_at_rest,
        "What was pushed already is taken for new up to the third hop.";
    "M33" META, edit,
        "The hash of a hash map decides when an agent wakes.";
    "M35" NO_PANIC, edit,
        "An agent's step asks the machine for the time.";
    "M37" "a_refused_change_is_never_half_there", power_cut_at_large_edit,
        "A power cut leaves half of a batch on the disk.",
        also CORRUPTION, "the start reads what was never whole";
    "M39" CONVERGENCE, long_partition,
        "The wait between two dials grows without limit.";
    "M40" AUTHORISED, both,
        "Of two values at once only one is shown.";
    "M41" AUTHORISED, grant_over,
        "What is said after the end of a grant counts.";
    "M42" REVOKED, cut,
        "A revocation cuts nothing: all that its key says counts.",
        also AUTHORISED, "the reference cuts";
    "M43" CONVERGENCE, fork,
        "Of a forked chain only the branch is kept that came first.",
        also ACKNOWLEDGED, "the other branch was acknowledged";
    "M44" REVOKED, cut,
        "The document is not built again when something in it ceases to count.",
        also AUTHORISED, "the reference shows other values",
        also "restart_equals_no_crash", "others never had the edit in their document";
    "M45" CONFIG, file_undone,
        "Files that nothing asks for any more stay.";
    "M46" CAUSES, idle_after_edit,
        "A machine never says that it became what it should be.";
    "M47" REVOKED, decommissioned,
        "The mesh is not told who lost their place.";
    "M48" AUTHORISED, short_lease,
        "The lease of a laptop never ends.";
    "M49" NO_PANIC, garbage,
        "Bytes that are shorter than a signature are not expected.";
    "M50" NO_PANIC, long_dead,
        "The wait between two dials is kept in 32 bits.";
    "M51" "dead_nodes_are_noticed", dead,
        "Nobody suspects a silent peer.";
    "M52" CONVERGENCE, partition,
        "What is not pushed is never pulled.";
    "M53" ACKNOWLEDGED, restart_alone,
        "A change that was handed in is not written.",
        also VIEWS, "what was known is gone";
    "M54" TOKENS, unconfirmed,
        "A machine that a person has to confirm is a member at once.",
        also AUTHORISED, "the reference waits for the person";
    "M55" IDLE, idle,
        "Peers that are equal are pulled from all the same.",
        also "no_livelock", "many messages of pull while nothing is new";
    "M56" IDLE, idle,
        "A beacon is sent every second.";
    "M57" "reconnecting_costs_what_changed", comeback,
        "An exchange sends all that there is.";
    "M58" EDIT_COST, edit_at_rest,
        "Nobody asks a neighbour to send only ids.";
    "M59" "local_reads_are_always_answered", read_at_write,
        "A read waits for the disk.";
    "M60" WRITES, hasty,
        "After a refused write the next one waits for ever.";
    "M61" CONVERGENCE, unheard_report,
        "Reports are pushed, never pulled.";
    "M62" CONFIG, file_by_label,
        "A label of a machine is not looked at until something else changes.";
    "M63" ACKNOWLEDGED, restart_alone,
        "A start leaves out one of the edits on its disk.",
        also VIEWS, "the disk held it when the machine started";
    "M64" LATE, held_back,
        "What comes after the end of its grant counts all the same.";
    "M65" LATE, slept_through,
        "Nobody says what they heard under a grant by its end.";
    "M70" CONVERGENCE, unconfirmed,
        "A machine on probation gets no link, and hears nothing.";
    "M72" "expired_members_stay_out", clock_behind,
        "The own clock is believed, whatever others say.";
    "M71" "copied_keys_are_noticed", copied_key,
        "A former life that goes on is taken for a new one.";
    "M73" "nodes_are_heard_at_their_pace", shouting,
        "Reports are taken in and passed on however often they come.";
}

/// Seeded bugs of the resolution of authority. Not a plan finds them but the comparison of two judges on random
/// histories: see `reference::history`.
pub const RESOLVER: &[(&str, &str)] = &[
    (
        "R01",
        "Of two root records of one version, signatures do not decide.",
    ),
    ("R02", "The root keys cannot end a key."),
    ("R03", "An admin who co-signs twice counts twice."),
    (
        "R04",
        "The revocation with the fewest signatures comes first.",
    ),
    (
        "R05",
        "Of revocations of equal weight one counts, and the others are weighed after it.",
    ),
    ("R06", "An admin who is cut still co-signs."),
    ("R07", "Anybody may grant and revoke."),
    ("R08", "Of two cuts of a key, the first one counts."),
    ("R09", "A scope ends in the middle of a name."),
    ("R10", "A revoked grant still serves."),
    ("R11", "Whoever may write labels may write those below lab."),
    ("R12", "A root record need not be signed by its own keys."),
    ("R13", "A root record may skip versions."),
    (
        "R14",
        "A statement counts before what it refers to is here.",
    ),
    ("R15", "One registrar is a quorum."),
    ("R16", "A token for one machine lets in any other."),
    (
        "R17",
        "What comes after the end of its grant counts all the same.",
    ),
    ("R18", "One node's word says what was said in time."),
    ("R19", "Any node may say what was said in time."),
    (
        "R20",
        "Who held a grant that was revoked may ask over the remote API.",
    ),
    ("R21", "A revoked key may ask over the remote API."),
    (
        "R22",
        "Who held a grant that is over may ask over the remote API.",
    ),
    ("R23", "A machine on probation vouches for others."),
    ("R24", "One admin makes a checkpoint that holds."),
    (
        "R25",
        "One admin who ends a grant undoes what a checkpoint covers.",
    ),
    (
        "R26",
        "What a checkpoint covers is held against a majority as well.",
    ),
];
