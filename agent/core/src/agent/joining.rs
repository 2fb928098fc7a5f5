//! The join conversation: which of its wishes become outputs, and how a newcomer becomes a member.

use super::*;

impl Agent {
    pub(super) fn join_link(&mut self, peer: NodeId, state: &LinkState) {
        let now = self.now;
        match &mut self.stage {
            Stage::Joining(joining) => match state {
                LinkState::Up { .. } => {
                    let wishes = joining.joiner.linked(peer, &self.keys);
                    self.carry_out(wishes);
                }
                LinkState::Down { .. } | LinkState::DialFailed { .. } => {
                    reached!("a newcomer lost its sponsor");
                    joining.joiner.lost(&peer, now.mono);
                }
            },
            Stage::Member(m) => {
                if !matches!(state, LinkState::Up { .. }) {
                    reached!("a sponsor lost a newcomer");
                    m.sponsoring.lost(&peer);
                }
            }
        }
    }

    pub(super) fn join_frame(&mut self, from: NodeId, bytes: &Bytes) {
        let now = self.now;
        match &mut self.stage {
            Stage::Joining(joining) => {
                let wishes = joining.joiner.frame(from, bytes, &self.keys);
                self.carry_out(wishes);
            }
            Stage::Member(m) => {
                m.hold_back(&self.keys.node(), self.started, now.mono);
                let words = m
                    .sponsoring
                    .frame(&mut m.replica, &self.keys, from, bytes, now);
                self.say(words);
            }
        }
    }

    pub(super) fn say(&mut self, words: Vec<Word>) {
        for word in words {
            if let (Some((code, why)), Stage::Member(m)) = (word.refused, &mut self.stage) {
                let act = Act::JoinRefused {
                    node: word.to,
                    code,
                    why,
                };
                m.replica.audit.note_some(None, act, self.now);
            }
            let output = Output::Send {
                to: word.to,
                channel: Channel::Join,
                lane: Lane::Bulk,
                bytes: word.frame,
            };
            if !word.is_after_store {
                self.outbox.push_back(output);
                continue;
            }
            self.store_replica(Batch::new(), vec![After::Output(output)]);
        }
    }

    pub(super) fn carry_out(&mut self, wishes: Vec<JoinerWish>) {
        for wish in wishes {
            match wish {
                JoinerWish::Dial(peer, addresses) => {
                    self.outbox.push_back(Output::Dial {
                        peer,
                        channel: Channel::Join,
                        addresses,
                    });
                }
                JoinerWish::Send(to, bytes) => {
                    self.outbox.push_back(Output::Send {
                        to,
                        channel: Channel::Join,
                        lane: Lane::Bulk,
                        bytes,
                    });
                }
                JoinerWish::Refused {
                    why,
                    is_final,
                    from,
                } => {
                    self.outbox
                        .push_back(Output::Tell(Event::JoinRefused { why, is_final }));
                    self.outbox.push_back(Output::Hangup {
                        peer: from,
                        channel: Channel::Join,
                        why: Reason::Done,
                    });
                    if let Stage::Joining(joining) = &mut self.stage {
                        joining.joiner.lost(&from, self.now.mono);
                    }
                }
                JoinerWish::Enter { root, members } => self.enter(root, members),
            }
        }
    }

    /// The mesh let us in: from here on this is a member that has heard nothing yet.
    pub(super) fn enter(&mut self, root: SignedRoot, members: Vec<(NodeId, Vec<SocketAddr>)>) {
        let Stage::Joining(joining) = &mut self.stage else {
            return;
        };
        let (addresses, facts) = (std::mem::take(&mut joining.addresses), joining.facts.take());
        let me = self.keys.node();
        let sponsors: BTreeMap<_, _> = members
            .into_iter()
            .filter(|(node, _)| *node != me)
            .collect();
        let encoded = root.encode();
        let Ok(mut member) = self.member(root, &BTreeMap::new(), None, &mut Tables::new()) else {
            return;
        };
        member.reporter.addresses = addresses;
        member.reporter.set_facts(facts);
        member.observe(&self.config.version);
        member
            .replica
            .batch
            .push(put(Table::Meta, META_ROOT, encoded));
        let record = postcard::to_stdvec(&sponsors).unwrap_or_default();
        member
            .replica
            .batch
            .push(put(Table::Meta, META_SPONSORS, record));
        for peer in sponsors.keys() {
            self.outbox.push_back(Output::Hangup {
                peer: *peer,
                channel: Channel::Join,
                why: Reason::Done,
            });
        }
        member.sponsors = sponsors;
        // Its chain begins here.
        member.is_sure = true;
        member.note_start(&self.config.version, self.now);
        self.stage = Stage::Member(Box::new(member));
    }
}
