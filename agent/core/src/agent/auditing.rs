//! What this node records of itself, and what it thinks of the chains of others.

use lab_crdt_model::{Label, Path};
use lab_mesh_proto::audit::{AUDIT_PORTION_BYTES_MAX, AuditFrame, AuditReply, AuditRequest};

use super::*;
use crate::audit::Audit;
use crate::held::Taken as Fetched;
use crate::input::FileOutcome;

/// Who holds the audit chains of all.
const AUDIT_LABEL: &str = "lab.role/audit";

/// Files that were changed or could not be, the latter first.
pub(super) fn files_of(outcomes: &[FileOutcome]) -> Vec<String> {
    let failed = outcomes.iter().filter(|o| o.error.is_some());
    let changed = outcomes
        .iter()
        .filter(|o| o.error.is_none() && o.is_changed);
    failed.chain(changed).map(|o| o.path.clone()).collect()
}

impl Member {
    /// Takes in what the store held of audit chains.
    pub(super) fn restore_audit(&mut self, me: &NodeId, stored: Vec<(Vec<u8>, Vec<u8>)>, now: Now) {
        let (own, others): (Vec<_>, Vec<_>) = stored
            .into_iter()
            .partition(|(key, _)| key.len() == 40 && key.starts_with(&me.0));
        let own = own.into_iter().map(|(_, value)| value.into()).collect();
        self.replica.audit = Audit::restore(me, own);
        self.held.restore(others);
        if let Some(said) = self.replica.beacon(me) {
            self.replica.audit.saw_own(me, said.audit, now);
        }
    }

    pub(super) fn note_start(&mut self, version: &str, now: Now) {
        let act = Act::Started {
            incarnation: self.reporter.incarnation,
            version: version.to_owned(),
        };
        self.replica.audit.note(None, act, now);
    }

    /// Records who was suspended or revoked, or is a member again.
    pub(super) fn note_changed_members(&mut self, now: Now) {
        let authority = Arc::clone(self.replica.log.shared_authority());
        if self
            .out
            .as_ref()
            .is_some_and(|(a, _)| Arc::ptr_eq(a, &authority))
        {
            return;
        }
        let name = self.replica.log.name().unwrap_or_default();
        let members = &authority.roster.members;
        let out = self.replica.log.memo().step(
            || step_key("out", &[&name]),
            || {
                let is_out = |s| matches!(s, MemberState::Suspended | MemberState::Revoked);
                let out = members.values().filter(|m| is_out(m.state));
                out.map(|m| (m.node, m.state)).collect()
            },
            |out: &BTreeMap<NodeId, MemberState>| 50 * out.len(),
            PartialEq::eq,
        );
        let before = self.out.replace((Arc::clone(&authority), Arc::clone(&out)));
        let Some((_, before)) = before.filter(|(_, before)| *before != out) else {
            return;
        };
        let nodes: BTreeSet<&NodeId> = before.keys().chain(out.keys()).collect();
        for node in nodes {
            if before.get(node) == out.get(node) {
                continue;
            }
            let member = members.get(node);
            let act = Act::MemberChanged {
                node: *node,
                name: member.map(|m| m.name.clone()).unwrap_or_default(),
                state: member.map_or(MemberState::Seen, |m| m.state),
            };
            self.replica.audit.note_some(None, act, now);
        }
    }

    /// Audit records that are kept here.
    pub(super) fn audit_records(&self, me: &NodeId, node: Option<NodeId>) -> Vec<Bytes> {
        let is_own = node.is_none_or(|node| node == *me);
        let own = self.replica.audit.records().filter(|_| is_own);
        let (held, evidence) = self.held.records(node);
        own.cloned().chain(held).chain(evidence).collect()
    }

    /// What people should know of audit chains.
    pub(super) fn audit_issues(&self, now: Now) -> Vec<Issue> {
        let members = &self.replica.log.authority_as_resolved().roster.members;
        let issue = |(node, told, tells): (NodeId, AuditHead, AuditHead)| {
            let name = members
                .get(&node)
                .map_or_else(|| node.short(), |m| m.name.clone());
            let other = if told.seq == tells.seq {
                "another "
            } else {
                ""
            };
            let what = format!(
                "the audit chain of {name} went back: it told of record {}, and then of {other}{}",
                told.seq, tells.seq
            );
            let help = "its store lost records, or it was restored from a copy, or someone rewrites what it did: \
                        lab audit verify";
            Issue::warning("M043", node.to_string(), what).with_help(help)
        };
        let mut issues: Vec<Issue> = self.replica.audit.went_back(now.wall).map(issue).collect();
        for (node, seq) in self.held.contradictions() {
            let name = members
                .get(node)
                .map_or_else(|| node.short(), |m| m.name.clone());
            let what =
                format!("the audit chain of {name} was written anew from record {seq} or before");
            issues.push(
                Issue::warning("M044", node.to_string(), what).with_help(format!(
                    "both are kept here: lab audit verify --node {name}"
                )),
            );
        }
        issues
    }
}

impl Member {
    /// Whether a member holds the audit chains of others: it has the label, which only admins can give.
    fn is_audit_node(&self, node: &NodeId) -> bool {
        let members = &self.replica.log.authority_as_resolved().roster.members;
        let Some(member) = members.get(node) else {
            return false;
        };
        let label = Label {
            key: AUDIT_LABEL.to_owned(),
            value: None,
        };
        let written = self
            .replica
            .document
            .get(&Path::label(&member.name, &label));
        match written.first() {
            Some(first) => first.field.value != lab_crdt_model::Value::Bool(false),
            None => member.labels.contains(&label),
        }
    }

    pub(super) fn look_for_audit_label(&mut self, me: &NodeId, now: Mono) {
        self.is_audit_node = self.is_audit_node(me);
        if self.is_audit_node {
            self.held.look_soon(now);
        }
    }

    fn told(&self, node: &NodeId) -> Option<AuditHead> {
        self.replica.beacon(node).map(|said| said.audit)
    }

    /// Whom to ask for the records of a node: itself, and after each time in vain another audit node.
    fn whom_to_ask(&self, me: &NodeId, node: NodeId, failures: u32) -> NodeId {
        if failures.is_multiple_of(2) {
            return node;
        }
        let is_other = |peer: &&NodeId| **peer != *me && **peer != node && self.is_audit_node(peer);
        let others: Vec<&NodeId> = self.admitted.iter().filter(is_other).collect();
        let nth = (failures / 2) as usize;
        others
            .get(nth % others.len().max(1))
            .map_or(node, |peer| **peer)
    }
}

impl Agent {
    /// Begins conversations about chains that went on, and gives up those that hang.
    pub(super) fn ask_for_audits(&mut self) {
        let (me, now) = (self.keys.node(), self.now.mono);
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        let is_due = m.held.deadline().is_some_and(|at| at <= now);
        if !is_due {
            return;
        }
        for peer in m.held.stuck(now) {
            reached!("a member did not answer for its audit records");
            m.held.end_talk(&peer, false, now);
            self.outbox.push_back(Output::Hangup {
                peer,
                channel: Channel::Audit,
                why: Reason::Done,
            });
        }
        if !m.is_audit_node {
            m.held.look_at = None;
            return;
        }
        let admitted = Arc::clone(&m.admitted);
        m.held.forget_strangers(|node| admitted.contains(node));
        let is_ahead = |node: &&NodeId| {
            **node != me
                && m.told(node)
                    .is_some_and(|told| m.held.is_behind(node, &told))
        };
        let ahead: Vec<NodeId> = admitted.iter().filter(is_ahead).copied().collect();
        for (node, failures) in m.held.due(&ahead, now) {
            let Stage::Member(m) = &mut self.stage else {
                return;
            };
            let peer = m.whom_to_ask(&me, node, failures);
            if !m.held.begin_talk(peer, node, now) {
                continue;
            }
            if m.held.linked.contains(&peer) {
                self.ask_for_audit(peer);
            } else {
                let addresses = m.addresses_of(&peer, &[]);
                self.outbox.push_back(Output::Dial {
                    peer,
                    channel: Channel::Audit,
                    addresses,
                });
            }
        }
    }

    fn ask_for_audit(&mut self, peer: NodeId) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        if let Some((node, after)) = m.held.request(&peer, |node| m.told(node)) {
            self.say_audit(peer, &AuditFrame::Request(AuditRequest { node, after }));
        }
    }

    fn say_audit(&mut self, to: NodeId, frame: &AuditFrame) {
        if let Ok(bytes) = frame.encode() {
            self.outbox.push_back(Output::Send {
                to,
                channel: Channel::Audit,
                lane: Lane::Bulk,
                bytes,
            });
        }
    }

    fn hang_up_audit(&mut self, peer: NodeId, why: Reason) {
        self.outbox.push_back(Output::Hangup {
            peer,
            channel: Channel::Audit,
            why,
        });
    }

    pub(super) fn audit_link(&mut self, peer: NodeId, state: &LinkState) {
        let now = self.now.mono;
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        if let LinkState::Up { .. } = state {
            m.held.linked.insert(peer);
            return self.ask_for_audit(peer);
        }
        m.held.unlinked(&peer);
        m.held.end_talk(&peer, false, now);
    }

    pub(super) fn audit_frame(&mut self, from: NodeId, bytes: &Bytes) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        let is_admitted = m.admitted.contains(&from);
        match AuditFrame::decode(bytes) {
            Ok(AuditFrame::Request(request)) if is_admitted && m.is_audit_node(&from) => {
                if !m.held.may_ask(from) {
                    return self.hang_up_audit(from, Reason::Overload);
                }
                let (node, after) = (request.node, request.after);
                let (records, is_last) = if node == self.keys.node() {
                    m.replica.audit.after(after, AUDIT_PORTION_BYTES_MAX)
                } else {
                    m.held.after(&node, after, AUDIT_PORTION_BYTES_MAX)
                };
                self.say_audit(
                    from,
                    &AuditFrame::Reply(AuditReply {
                        node,
                        records,
                        is_last,
                    }),
                );
            }
            Ok(AuditFrame::Request(_)) => {
                reached!("someone asked for audit records who must not");
                self.hang_up_audit(from, Reason::NotAMember);
            }
            Ok(AuditFrame::Reply(reply)) if m.held.is_asked(&from, &reply.node) => {
                self.take_audit(from, &reply);
            }
            Ok(AuditFrame::Reply(_)) => {}
            Err(_) => self.hang_up_audit(from, Reason::Protocol),
        }
    }

    fn take_audit(&mut self, from: NodeId, reply: &AuditReply) {
        let now = self.now;
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        let mesh = m.replica.log.mesh();
        let batch = &mut m.replica.batch;
        let Fetched {
            contradiction,
            dropped,
            is_progress,
        } = m.held.take(&mesh, &reply.node, &reply.records, batch);
        if let Some((told, tells)) = contradiction {
            let node = reply.node;
            m.replica.audit.note_went_back(node, told, tells, now);
            self.outbox
                .push_back(Output::Tell(Event::AuditWentBack { node, told, tells }));
        }
        if let Some(end) = dropped {
            let node = reply.node;
            m.replica.audit.note(None, Act::Dropped { node, end }, now);
        }
        if is_progress && !reply.is_last {
            m.held.goes_on(&from, now.mono);
            return self.ask_for_audit(from);
        }
        sometimes!(is_progress, "an audit node got records of another node");
        m.held.end_talk(&from, is_progress, now.mono);
        if !m.held.is_asking(&from) {
            self.hang_up_audit(from, Reason::Done);
        }
    }
}
