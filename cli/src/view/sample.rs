//! A small hand-made replica for tests: machines a (this one), b, c and d; ana is the admin.

use std::collections::BTreeMap;

use lab_crdt_model::report::{Beacon, Status};
use lab_crdt_model::view::{
    CandidateView, FieldView, Liveness, MemberState, MemberView, OperatorView, PeerView,
    ReplicaView, ReportView, Role,
};
use lab_crdt_model::{AuthorId, Field, Hlc, MeshId, NodeId, Path, StatementId, Value, Wall};

use super::picture::Picture;

/// A replica being put together.
pub(crate) struct Sample {
    pub(crate) view: ReplicaView,
}

/// Four machines that are members and were heard five seconds ago.
pub(crate) fn fleet() -> Sample {
    let names = ["a", "b", "c", "d"];
    let at = Wall(1_795_442_531_000);
    let view = ReplicaView {
        mesh: MeshId([7; 32]),
        mesh_name: "home".into(),
        me: node("a"),
        at,
        uptime_ms: 60_000,
        version: "0.1.0".into(),
        digest: [3; 32],
        register_digest: [4; 32],
        heads: vec![[5; 32]],
        statement_count: 9,
        pending_count: 0,
        members: names.map(member).into(),
        operators: vec![OperatorView {
            key: ana(),
            name: "ana".into(),
            is_admin: true,
            rights: vec![
                "labels".into(),
                "config".into(),
                "invite".into(),
                "confirm".into(),
            ],
            scope: vec![String::new()],
            not_after: None,
            is_revoked: false,
            under: StatementId([7; 32]),
            proposals: vec![],
            late: None,
        }],
        invites: vec![],
        fields: vec![],
        reports: names.map(|n| report(n, at)).into(),
        peers: names.iter().skip(1).map(|n| peer(n)).collect(),
        history: vec![],
        refused: vec![],
        issues: vec![],
        bindings: BTreeMap::new(),
        joins: vec![],
        checkpoints: vec![],
        held: vec![],
        chains: vec![],
    };
    Sample { view }
}

/// The admin's key.
pub(crate) fn ana() -> AuthorId {
    AuthorId([200; 32])
}

/// The id of a machine of the sample.
pub(crate) fn node(name: &str) -> NodeId {
    NodeId([name.as_bytes()[0]; 32])
}

impl Sample {
    /// Puts a text (or whole number) at a path.
    pub(crate) fn set(mut self, path: &str, value: &str) -> Self {
        let value = value
            .parse()
            .map_or_else(|_| Value::text(value), Value::Int);
        self.put(path, value, "set:homelab");
        self
    }

    /// Puts `true` at a path.
    pub(crate) fn set_true(mut self, path: &str) -> Self {
        self.put(path, Value::Bool(true), "set:homelab");
        self
    }

    /// Puts a value of an owner at a path.
    pub(crate) fn put(&mut self, path: &str, value: Value, owner: &str) {
        let path: Path = path.parse().unwrap();
        let candidate = CandidateView {
            field: Field::new(value, owner),
            statement: StatementId([8; 32]),
            author: ana(),
            at: Hlc::from_wall(Wall(self.view.at.0 - 1000)),
        };
        self.view.fields.retain(|f| f.path != path);
        self.view.fields.push(FieldView {
            path,
            candidates: vec![candidate],
        });
        self.view.fields.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// Gives a machine a label at birth.
    pub(crate) fn born(mut self, name: &str, label: &str) -> Self {
        let member = self
            .view
            .members
            .iter_mut()
            .find(|m| m.name == name)
            .unwrap();
        member.labels.push(label.to_owned());
        self
    }

    /// Lets a machine run what is wanted now.
    pub(crate) fn in_sync(mut self, name: &str) -> Self {
        let picture = Picture::new(self.view.clone());
        let hash = picture.effective(picture.machine(name).unwrap()).hash();
        let status = Status {
            desired: hash,
            applied: hash,
            ..Status::default()
        };
        let at = self.view.at;
        let report = self
            .view
            .reports
            .iter_mut()
            .find(|r| r.node == node(name))
            .unwrap();
        report.status = Some((status, at));
        self
    }

    /// Lets a machine be silent for some milliseconds.
    pub(crate) fn silent(mut self, name: &str, ms: u64) -> Self {
        let at = Wall(self.view.at.0 - ms);
        for report in self
            .view
            .reports
            .iter_mut()
            .filter(|r| r.node == node(name))
        {
            report.beacon.as_mut().unwrap().1 = at;
        }
        for peer in self.view.peers.iter_mut().filter(|p| p.node == node(name)) {
            peer.liveness = Liveness::Down;
            peer.since_ms = ms;
            peer.heard_ms = Some(ms);
            peer.is_linked = false;
        }
        self
    }

    /// The replica, understood.
    pub(crate) fn picture(&self) -> Picture {
        Picture::new(self.view.clone())
    }
}

fn member(name: &str) -> MemberView {
    MemberView {
        node: node(name),
        name: name.to_owned(),
        role: Role::Node,
        state: MemberState::Member,
        labels: vec![],
        join: StatementId([1; 32]),
        joined_at: Hlc::from_wall(Wall(1_795_000_000_000)),
        not_after: None,
    }
}

fn report(name: &str, at: Wall) -> ReportView {
    let beacon = Beacon {
        incarnation: 1,
        wall: at,
        digest: [3; 32],
        addresses: vec!["10.0.0.1:7001".parse().unwrap()],
        link_count: 3,
        version: "0.1.0".into(),
        audit: lab_crdt_model::report::AuditHead::default(),
    };
    let heard = Wall(at.0 - 5000);
    ReportView {
        node: node(name),
        beacon: Some((beacon, heard)),
        facts: None,
        status: None,
    }
}

fn peer(name: &str) -> PeerView {
    PeerView {
        node: node(name),
        liveness: Liveness::Alive,
        since_ms: 50_000,
        heard_ms: Some(5000),
        is_linked: true,
        rtt_us: Some(300),
        is_equal: Some(true),
        address: None,
        clock_ms: Some(-360_400),
    }
}
