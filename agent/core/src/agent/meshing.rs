//! Between the mesh and the replica: what arrives is taken in, what is asked is answered.

use super::intake::Portion;
use super::*;

impl Agent {
    pub(super) fn mesh_input(&mut self, input: MeshInput) {
        match &mut self.stage {
            Stage::Member(m) => m.mesh.handle(self.now, input),
            Stage::Joining(joining) => {
                if matches!(input, MeshInput::Wake) {
                    let wishes = joining.joiner.wake(self.now.mono);
                    self.carry_out(wishes);
                }
            }
        }
    }

    pub(super) fn mesh_link(&mut self, peer: NodeId, state: LinkState) {
        if let (
            Stage::Member(m),
            LinkState::Up {
                address: Some(address),
            },
        ) = (&mut self.stage, &state)
            && m.admitted.contains(&peer)
        {
            // The address book outlives restarts and says where a member was really reached.
            let book = m.known_addresses.entry(peer).or_default();
            if book.first() != Some(address) {
                sometimes!(!book.is_empty(), "a peer was reached at another address");
                book.retain(|a| a != address);
                book.insert(0, *address);
                book.truncate(4);
                let value = postcard::to_stdvec(&*book).unwrap_or_default();
                m.replica.batch.push(put(Table::Addresses, &peer.0, value));
            }
        }
        if let (Stage::Member(m), LinkState::Down { .. }) = (&mut self.stage, &state) {
            m.fetch_ends(peer);
            m.intake.forget(&peer, self.now.mono);
        }
        self.mesh_input(match state {
            LinkState::Up { address } => MeshInput::LinkUp { peer, address },
            LinkState::Down { why } => MeshInput::LinkDown { peer, why },
            LinkState::DialFailed { why } => MeshInput::DialFailed { peer, why },
        });
    }

    pub(super) fn drain_mesh(&mut self) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        for payload in std::mem::take(&mut m.broadcasts) {
            m.mesh.handle(self.now, MeshInput::Broadcast { payload });
        }
        while let Stage::Member(m) = &mut self.stage
            && let Some(output) = m.mesh.poll()
        {
            self.mesh_output(output);
        }
    }

    pub(super) fn mesh_output(&mut self, output: MeshOutput) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        let now = self.now;
        match output {
            MeshOutput::Send { to, lane, bytes } => {
                self.outbox.push_back(Output::Send {
                    to,
                    channel: Channel::Mesh,
                    lane,
                    bytes,
                });
            }
            MeshOutput::Dial { peer, addresses } => {
                let addresses = m.addresses_of(&peer, &addresses);
                self.outbox.push_back(Output::Dial {
                    peer,
                    channel: Channel::Mesh,
                    addresses,
                });
            }
            MeshOutput::Hangup { peer, why } => {
                self.outbox.push_back(Output::Hangup {
                    peer,
                    channel: Channel::Mesh,
                    why,
                });
            }
            MeshOutput::Deliver { from, id, payload } => {
                let is_good = match payload.split_first() {
                    Some((&PUSH_STATEMENT, _)) => self.take_statement(&payload.slice(1..), from),
                    Some((&PUSH_REGISTER, _)) => {
                        self.take_register(&payload.slice(1..), from, true)
                    }
                    _ => false,
                };
                self.mesh_input(MeshInput::Judged { id, is_good });
            }
            MeshOutput::SyncOpen { peer } => {
                m.fetch_all(peer, now.mono);
                m.replica.log.forget_full();
                m.replica.mute_reports(now.mono);
                let mut messages = sync::open(&m.replica.log, &m.replica.registers);
                // The exchange itself mostly brings what waiting statements need. What an earlier one did not bring is
                // asked for by name.
                let wanted = m.replica.log.wanted(WANTED_MAX);
                if std::mem::replace(&mut m.was_wanting, !wanted.is_empty()) && !wanted.is_empty() {
                    reached!("an exchange asks for what waiting statements need");
                    messages.push(sync::want(wanted));
                }
                m.mesh
                    .handle(now, MeshInput::SyncReply { to: peer, messages });
            }
            MeshOutput::SyncMessage { from, bytes } => self.sync_message(from, &bytes),
            MeshOutput::RefuteSuspicion => {
                let soon = now.mono.max(m.last_beacon.plus_ms(BEACON_MS_MIN));
                m.beacon_at = m.beacon_at.min(soon);
            }
            MeshOutput::Liveness { node, state } => {
                self.outbox.push_back(Output::Tell(Event::PeerChanged {
                    node,
                    liveness: state,
                }));
            }
            MeshOutput::Learned { alive_count } => {
                self.outbox
                    .push_back(Output::Tell(Event::PeersLearned { alive_count }));
            }
            MeshOutput::Diverged { peer, ours, theirs } => {
                reached!("a live peer stayed unequal for a minute");
                let alarm = Act::Alarm(Alarm::Diverged { peer });
                m.replica.audit.note_some(None, alarm, now);
                self.outbox
                    .push_back(Output::Tell(Event::ReplicasDiverged { peer, ours, theirs }));
            }
        }
    }

    pub(super) fn sync_message(&mut self, from: NodeId, bytes: &Bytes) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        if !m.intake.has_room(&from, bytes.len()) {
            reached!("a message of an exchange was dropped while too much of its sender waits");
            return;
        }
        m.replica.mute_reports(self.now.mono);
        let Ok(answer) = sync::answer(&m.replica.log, &m.replica.registers, bytes) else {
            reached!("a message of an exchange was malformed");
            self.outbox.push_back(Output::Hangup {
                peer: from,
                channel: Channel::Mesh,
                why: Reason::Protocol,
            });
            return;
        };
        let mut messages = answer.messages;
        let now = self.now;
        if answer.has_all {
            m.fetch_ends(from);
        }
        if let Some(ask) = answer.ask.filter(|_| m.may_fetch(from, now.mono)) {
            messages.push(ask);
        }
        let portion = Portion::new(answer.statements, answer.registers, answer.resume);
        // What was asked is answered at once, whatever waits.
        if !messages.is_empty() {
            m.mesh
                .handle(now, MeshInput::SyncReply { to: from, messages });
        }
        // Registers alone wait for no statements, unless it is for those of the same peer.
        if portion.statements.is_empty() && !m.intake.is_waiting_of(&from) {
            self.end_portion(from, portion);
        } else {
            self.queue_portion(from, portion);
        }
    }

    /// Everything of a message was taken in, or not: takes in its reports, and asks for what follows.
    pub(super) fn end_portion(&mut self, from: NodeId, portion: Portion) {
        let now = self.now;
        if portion.has_statements
            && let Stage::Member(m) = &mut self.stage
        {
            // Reports of newcomers count only once their joins do.
            m.replica.log.authority();
        }
        for register in portion.registers.iter().filter(|_| !mutant!("M61")) {
            self.take_register(register, from, false);
        }
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        let mut messages = Vec::new();
        // An exchange goes on only while it leads to something: what is refused here would be sent for ever.
        let progress = m.replica.log.progress();
        let is_progress = portion.progress.is_some_and(|before| before != progress);
        if let Some(resume) = portion.resume.filter(|_| is_progress) {
            m.fetch_goes_on(from, now.mono);
            messages.push(sync::resume(&m.replica.log, &m.replica.registers, resume));
        } else if portion.has_statements {
            m.fetch_ends(from);
        }
        // What is still to come of an exchange may be just what is wanted.
        if is_progress && !m.is_fetching(now.mono) {
            let wanted = m.replica.log.wanted(WANTED_MAX);
            if !wanted.is_empty() {
                messages.push(sync::want(wanted));
            }
        }
        if !messages.is_empty() {
            m.mesh
                .handle(now, MeshInput::SyncReply { to: from, messages });
        }
    }

    /// Takes in a report. Returns whether it is news for others as well: it is the newest that is here.
    pub(super) fn take_register(&mut self, bytes: &Bytes, from: NodeId, is_pushed: bool) -> bool {
        let Stage::Member(m) = &mut self.stage else {
            return false;
        };
        m.replica.saw_own_beacon(&self.keys.node(), bytes, self.now);
        let Some(taken) = m.replica.take_register(bytes, Some(from), self.now) else {
            return m.replica.is_standing(bytes);
        };
        let (node, section, seq) = (taken.node, taken.section, taken.seq);
        m.has_odd_reports |= !m.admitted.contains(&node);
        if taken.is_clone_found {
            self.outbox
                .push_back(Output::Tell(Event::CloneFound { node }));
        }
        if node == self.keys.node() {
            if m.reporter.saw_own(seq) {
                reached!("a node heard a report of its own former life");
                // The other one may live: two that answer each other at once would never end.
                let soon = self.now.mono.max(m.last_beacon.plus_ms(BEACON_MS_MIN));
                if !m.is_cloned(&node, self.now.mono) {
                    m.beacon_at = m.beacon_at.min(soon);
                }
            }
            return true;
        }
        if let Some(WentBack {
            report,
            told,
            tells,
        }) = taken.went_back
        {
            m.replica.audit.note_went_back(node, told, tells, self.now);
            self.outbox
                .push_back(Output::Tell(Event::AuditWentBack { node, told, tells }));
            // It may not know that its store lost something.
            let messages = vec![sync::show(report)];
            let show = MeshInput::SyncReply { to: node, messages };
            m.mesh.handle(self.now, show);
        }
        if section == Section::Beacon
            && m.is_audit_node
            && let Some(said) = m.replica.beacon(&node)
        {
            m.held.told(&node, &said.audit, self.now.mono);
        }
        if section == Section::Beacon {
            // One that was pulled may be of any age.
            if is_pushed && let Some(beacon) = m.replica.beacon(&node) {
                m.clock.heard(node, beacon.wall, self.now.mono);
            }
            let input = MeshInput::Beacon {
                node,
                counter: seq,
                pulled_from: (!is_pushed).then_some(from),
            };
            m.mesh.handle(self.now, input);
            if taken.has_new_addresses {
                m.mesh.handle(self.now, MeshInput::Addresses { node });
            }
        }
        self.outbox
            .push_back(Output::Tell(Event::ReportArrived { node }));
        true
    }
}
