//! The end of a turn: everything that follows from what came in.

use lab_crdt_model::view::MemberState;

use super::*;

impl Agent {
    /// Ends a turn: works off what the inputs started until nothing more follows from it.
    pub(super) fn settle(&mut self, is_wake: bool) {
        if is_wake {
            self.wake();
        }
        // Each round can only be caused by something new in the replica or the mesh; the bound is a safety net.
        for _round in 0..64 {
            self.drain_mesh();
            if !self.fold() {
                break;
            }
        }
        self.speak();
        self.drain_mesh();
        self.converge();
        self.ask_for_audits();
        self.flush();
    }

    pub(super) fn wake(&mut self) {
        let now = self.now.mono;
        if self.stores.retry_at.is_some_and(|at| at <= now) {
            self.write_again();
        }
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        let is_grant_over = m.grant_at.is_some_and(|at| at <= now);
        if m.tidy_at <= now {
            m.tidy_at = now.plus_ms(TIDY_MS);
            m.replica.log.expire_waiting(now);
            m.replica.tidy_paces(now);
            m.tell_clock(&self.keys.node());
            // The clock of the wall may have been set.
            self.admit_devices();
        } else if is_grant_over {
            self.admit_devices();
        }
        self.take_piece();
    }

    /// Says whose devices may ask over the remote API, when that changed.
    fn admit_devices(&mut self) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        let devices = m.device_gate(self.now);
        if *m.devices != devices {
            sometimes!(
                m.devices.keys().any(|key| !devices.contains_key(key)),
                "a device lost its place at the remote API"
            );
            m.devices = Arc::new(devices);
            let devices = Arc::clone(&m.devices);
            self.outbox.push_back(Output::AdmitDevices(devices));
        }
    }

    /// Brings everything that follows from the replica up to date. Returns whether anything changed.
    pub(super) fn fold(&mut self) -> bool {
        let (me, now) = (self.keys.node(), self.now);
        let Stage::Member(m) = &mut self.stage else {
            return false;
        };
        let is_lease_over = m.lease_at.is_some_and(|at| at <= now.mono);
        let is_first = m.admitted.is_empty() && !m.joined_told;
        let is_mended = m.is_mended(&me, now);
        if is_mended {
            reached!("a store that had lost statements has them again");
            (m.loss, m.gate_of) = (None, None);
        }
        let is_sure_now = m.hold_back(&me, self.started, now.mono);
        let is_idle = !m.replica.has_new_statements() && m.sponsoring.len() == 0;
        let is_vouch_due = m.vouch_at().is_some_and(|at| at <= now.mono);
        let is_due = is_lease_over || is_vouch_due || is_sure_now;
        if is_idle && !is_due && !is_first && !is_mended {
            m.tell_digests(now);
            return false;
        }
        let mut folded = m.replica.fold();
        let may_ask = folded.has_new_statements || is_sure_now;
        let has_witnessed = may_ask && witness_asked(&mut m.replica, &self.keys, now);
        // Who lost records does not know what it had heard.
        let has_vouched = m.loss.is_none() && m.vouching.settle(&mut m.replica, &self.keys, now);
        if has_witnessed || has_vouched {
            let more = m.replica.fold();
            folded.has_new_statements |= more.has_new_statements;
            folded.touched = folded
                .touched
                .zip(more.touched)
                .map(|(a, b)| [a, b].concat());
        }
        let words = m.sponsoring.settle(&mut m.replica, now, || {
            m.mesh
                .peers(now)
                .iter()
                .filter(|p| p.is_linked)
                .map(|p| (p.node, p.address.into_iter().collect()))
                .collect()
        });
        let has_words = !words.is_empty();
        if folded.has_new_statements || is_first || is_lease_over || is_mended {
            let digest = m.replica.log.digest();
            let admit = m.gate(&me, now);
            let is_other = !Arc::ptr_eq(&admit, &m.admitted) && admit != m.admitted;
            let is_less = admit.len() < m.admitted.len();
            sometimes!(is_less, "someone lost their place in the mesh");
            sometimes!(is_lease_over, "the lease of a laptop ended");
            sometimes!(!admit.contains(&me), "this node has no place in the mesh");
            let is_other = is_other && !(is_less && mutant!("M47"));
            if is_other {
                m.admitted = Arc::clone(&admit);
                m.clock.retain(|node| admit.contains(node));
                self.outbox.push_back(Output::Admit(Arc::clone(&admit)));
                m.mesh.handle(now, MeshInput::Roster { members: admit });
            }
            m.has_odd_reports |= is_other || is_first || is_mended;
            // Whose admission was lost is no stranger.
            if m.has_odd_reports && !m.has_former() {
                m.has_odd_reports = false;
                for (node, section) in m.replica.drop_reports_of_strangers(now.wall) {
                    m.replica.batch.push(StoreOp::Delete {
                        table: Table::Registers,
                        key: register_key(&node, section),
                    });
                }
            }
            m.converge
                .refresh(&me, &mut m.replica, folded.touched.as_deref(), now.wall);
            if let Some(desired) = m.converge.desired() {
                m.reporter.status.desired = desired;
            }
            let member = m
                .replica
                .log
                .authority_as_resolved()
                .roster
                .members
                .get(&me);
            let was_on_probation = m.was_joined && !m.joined_told;
            m.was_joined = member.is_some_and(|s| s.is_admitted_at(now.wall));
            let is_on_probation = member.is_some_and(|s| s.state == MemberState::Probation);
            // From here on the roster says whom to talk to.
            if m.was_joined && !m.sponsors.is_empty() {
                reached!("a newcomer finds itself in the roster");
                m.sponsors.clear();
                m.replica.batch.push(StoreOp::Delete {
                    table: Table::Meta,
                    key: META_SPONSORS.to_vec(),
                });
            }
            if m.was_joined && !is_on_probation && !m.joined_told {
                sometimes!(was_on_probation, "a probation ended well");
                m.joined_told = true;
                let name = member.map(|s| s.name.clone()).unwrap_or_default();
                // Told once the replica that says so is durable.
                self.store_replica(
                    Batch::new(),
                    vec![After::Output(Output::Tell(Event::NodeJoined {
                        node: me,
                        name,
                    }))],
                );
            }
            self.admit_devices();
            self.outbox
                .push_back(Output::Tell(Event::IntentChanged { digest }));
            let Stage::Member(m) = &mut self.stage else {
                return false;
            };
            if is_other {
                m.forget_addresses();
            }
            m.note_changed_members(now);
            m.look_for_audit_label(&me, now.mono);
            let forked = m.replica.log.forked();
            if forked.len() > m.fork_count {
                reached!("a fork was told to people");
                m.fork_count = forked.len();
                for author in forked {
                    m.replica.audit.note_fork(author, now);
                    self.outbox
                        .push_back(Output::Tell(Event::ForkFound { author }));
                }
            }
        }
        self.say(words);
        let Stage::Member(m) = &mut self.stage else {
            return false;
        };
        m.tell_digests(now);
        folded.has_new_statements || has_words
    }

    /// Says what is new about this node.
    pub(super) fn speak(&mut self) {
        let (me, now) = (self.keys.node(), self.now);
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        if let Some(op) = m.reporter.reserve() {
            self.store_replica(vec![op], vec![After::Reserved]);
        }
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        if !m.was_joined || !m.reporter.can_speak() {
            return;
        }
        let mesh = m.replica.log.mesh();
        let mut sealed = Vec::new();
        if m.reporter.has_news() {
            // What one edit changes on every node is told spread out, or all would speak at the same moment; and what
            // is wanted and what was done about it is told together.
            let nodes = m.member_count(&me);
            let spread = (nodes * NEWS_MS_PER_NODE).min(NEWS_MS_MAX);
            let at = *m.news_at.get_or_insert_with(|| {
                now.mono
                    .plus_ms(NEWS_MS_MIN + self.rng.next_u64() % (spread + 1))
            });
            if at <= now.mono {
                sealed = m.reporter.news(&mesh, &self.keys, now.mono);
                m.news_at = m.reporter.news_at();
            }
        } else {
            m.news_at = None;
        }
        if m.beacon_at <= now.mono {
            let nodes = m.member_count(&me);
            let period = beacon_period(self.config.beacon_ms, nodes);
            let period = if mutant!("M56") { 1_000 } else { period };
            let jitter = self.rng.next_u64() % (period / 5 + 1);
            m.beacon_at = now.mono.plus_ms(period + jitter);
            m.last_beacon = now.mono;
            let beacon = Beacon {
                incarnation: m.reporter.incarnation,
                wall: self.wall,
                digest: m.replica.log.digest(),
                addresses: m.reporter.told_addresses().to_vec(),
                link_count: m.mesh.link_count() as u16,
                version: self.config.version.clone(),
                audit: m.replica.audit.durable(),
            };
            sealed.extend(m.reporter.beacon(&mesh, &self.keys, beacon));
        }
        for bytes in sealed {
            m.replica.take_register(&bytes, None, now);
            m.broadcasts.push(push(PUSH_REGISTER, &bytes));
        }
        m.tell_digests(now);
    }

    pub(super) fn converge(&mut self) {
        let now = self.now;
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        if !m.was_joined {
            return;
        }
        let digest = m.replica.log.digest();
        if let Some((effect, batch)) = m.converge.start(digest, now.mono) {
            if batch.is_empty() {
                self.after(After::Files(effect));
            } else {
                self.store(batch, vec![After::Files(effect)]);
            }
            if self.facts_effect.is_none() && self.facts_at <= now.mono {
                self.read_facts();
            }
        }
    }

    pub(super) fn flush(&mut self) {
        self.store_replica(Batch::new(), Vec::new());
    }
}
