//! One machine as the replica knows it: who it is, what is said about it, what it last said itself.

use std::collections::BTreeMap;

use lab_crdt_config::{Intent, labels_of};
use lab_crdt_model::report::{Beacon, Facts, Status};
use lab_crdt_model::view::{
    Liveness, MemberState, MemberView, PeerView, ReplicaView, ReportView, Role,
};
use lab_crdt_model::{Issue, Label, Wall};

/// How long a machine may be silent before what it said counts as old: six missed beacons.
pub(crate) const STALE_MS: u64 = 180_000;
/// How long a machine that is expected to come and go may be silent.
pub(crate) const INTERMITTENT_MS: u64 = 14 * 86_400_000;

/// What it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A machine of the fleet, joined or declared.
    Node,
    /// A person's device.
    Laptop,
    /// A cluster of someone else's software, addressed like a machine.
    Cluster,
}

impl Kind {
    /// The word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Laptop => "laptop",
            Self::Cluster => "cluster",
        }
    }
}

/// A machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Its name.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// Its membership, if it ever joined.
    pub(crate) member: Option<MemberView>,
    /// Whether a declaration names it.
    pub(crate) is_declared: bool,
    /// Whether it is the machine whose replica this is.
    pub(crate) is_me: bool,
    /// Whether it is declared to come and go.
    pub(crate) is_intermittent: bool,
    /// Its labels, sorted.
    pub(crate) labels: Vec<Label>,
    /// Milliseconds since anything was heard of it.
    pub(crate) seen_ms: Option<u64>,
    /// This node's opinion of it, and how long it has held it, milliseconds.
    pub(crate) liveness: Liveness,
    /// Milliseconds since that opinion began.
    pub(crate) since_ms: u64,
    /// By how much its clock is ahead of that of the machine whose replica this is, milliseconds.
    pub(crate) clock_ms: Option<i64>,
    /// Its newest beacon.
    pub(crate) beacon: Option<Beacon>,
    /// What it is made of.
    pub(crate) facts: Option<Facts>,
    /// What it has taken on, and the age of that report, milliseconds.
    pub(crate) status: Option<(Status, u64)>,
    /// Declared attributes as text: provider, profile, host, …
    pub(crate) declared: BTreeMap<String, String>,
}

impl Machine {
    /// Every machine of the replica by name: live members, declared nodes, clusters; and what is wrong with labels.
    pub(crate) fn all(view: &ReplicaView, intent: &Intent) -> (Vec<Self>, Vec<Issue>) {
        let mut issues = Vec::new();
        let mut machines: BTreeMap<String, Self> = BTreeMap::new();
        let reports: BTreeMap<_, _> = view.reports.iter().map(|r| (r.node, r)).collect();
        let peers: BTreeMap<_, _> = view.peers.iter().map(|p| (p.node, p)).collect();
        let members = view
            .members
            .iter()
            .filter(|m| m.state != MemberState::Revoked);
        for member in members {
            let mut machine = Self::new(&member.name, Kind::of(member.role));
            let heard = (
                reports.get(&member.node).copied(),
                peers.get(&member.node).copied(),
            );
            machine.take_member(view, member, heard);
            machines.entry(member.name.clone()).or_insert(machine);
        }
        let declared = intent.nodes.iter().filter(|(_, node)| node.is_declared);
        for (name, _) in declared {
            machines
                .entry(name.clone())
                .or_insert_with(|| Self::new(name, Kind::Node))
                .is_declared = true;
        }
        for name in intent.clusters.keys() {
            let machine = machines
                .entry(name.clone())
                .or_insert_with(|| Self::new(name, Kind::Cluster));
            machine.is_declared = true;
        }
        for (name, machine) in &mut machines {
            let birth = machine.member.as_ref().map_or(&[][..], |m| &m.labels);
            let (labels, found) = labels_of(intent, name, birth);
            machine.labels = labels;
            issues.extend(found);
            let node = intent.nodes.get(name).map(|n| &n.attrs);
            let cluster = intent.clusters.get(name);
            for (key, entry) in node.or(cluster).into_iter().flatten() {
                machine.declared.insert(key.clone(), entry.shown());
            }
            machine.is_intermittent = machine
                .declared
                .get("expect")
                .is_some_and(|e| e == "intermittent");
        }
        (machines.into_values().collect(), issues)
    }

    /// Whether it is in the mesh as a machine that takes on config.
    pub(crate) fn is_node(&self) -> bool {
        self.kind == Kind::Node && self.member.is_some()
    }

    /// Whether queries are about it: everything but machines that joined and still have to be let in.
    pub(crate) fn is_target(&self) -> bool {
        self.is_declared || self.member.as_ref().is_none_or(|m| !is_waiting(m.state))
    }

    /// Whether config is for it: a machine that was admitted, and is not on probation.
    pub(crate) fn takes_config(&self) -> bool {
        self.kind == Kind::Node && self.member.as_ref().is_some_and(|m| !is_waiting(m.state))
    }

    /// Whether it was heard lately.
    pub(crate) fn is_heard(&self) -> bool {
        self.seen_ms.is_some_and(|ms| ms <= STALE_MS) && self.liveness != Liveness::Down
    }

    fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            member: None,
            is_declared: false,
            is_me: false,
            is_intermittent: false,
            labels: Vec::new(),
            seen_ms: None,
            liveness: Liveness::Unknown,
            since_ms: 0,
            clock_ms: None,
            beacon: None,
            facts: None,
            status: None,
            declared: BTreeMap::new(),
        }
    }

    fn take_member(
        &mut self,
        view: &ReplicaView,
        member: &MemberView,
        (report, peer): (Option<&ReportView>, Option<&PeerView>),
    ) {
        self.is_me = member.node == view.me;
        let age_of = |at: Wall| view.at.0.saturating_sub(at.0);
        if let Some(report) = report {
            self.seen_ms = report.beacon.as_ref().map(|(_, at)| age_of(*at));
            self.beacon = report.beacon.as_ref().map(|(beacon, _)| beacon.clone());
            self.facts.clone_from(&report.facts);
            self.status = report
                .status
                .as_ref()
                .map(|(s, at)| (s.clone(), age_of(*at)));
        }
        if let Some(peer) = peer {
            self.liveness = peer.liveness;
            self.since_ms = peer.since_ms;
            self.clock_ms = peer.clock_ms;
            self.seen_ms = peer.heard_ms.into_iter().chain(self.seen_ms).min();
        }
        if self.is_me {
            self.liveness = Liveness::Alive;
            self.since_ms = view.uptime_ms;
            self.seen_ms = Some(0);
        }
        self.member = Some(member.clone());
    }
}

/// Whether somebody who joined still has to be let in.
const fn is_waiting(state: MemberState) -> bool {
    matches!(state, MemberState::Seen | MemberState::Probation)
}

impl Kind {
    const fn of(role: Role) -> Self {
        match role {
            Role::Node => Self::Node,
            Role::Laptop => Self::Laptop,
        }
    }
}
