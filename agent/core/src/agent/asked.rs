//! What people ask over the local socket.

use lab_crdt_log::{Annul, is_carried_by};
use lab_crdt_model::Caller;

use super::*;
use crate::command::Root;

impl Agent {
    pub(super) fn refuse(&mut self, id: CommandId, code: &'static str, why: String) {
        self.outbox.push_back(Output::Reply {
            id,
            reply: Reply::Refused { code, why },
        });
    }

    pub(super) fn command(&mut self, id: CommandId, command: Command) {
        let Stage::Member(member) = &mut self.stage else {
            return self.refuse(
                id,
                "M001",
                "this machine has not joined its mesh yet".to_owned(),
            );
        };
        match command {
            Command::View(_) if mutant!("M59") && member.submitting => {
                member.queued.push_back((id, command));
            }
            Command::View(mask) => {
                if let Some(view) = self.view(mask) {
                    self.outbox.push_back(Output::Reply {
                        id,
                        reply: Reply::View(Box::new(view)),
                    });
                }
            }
            Command::Suppose { ends, mask } => {
                let ends: Vec<Annul> = ends
                    .into_iter()
                    .map(|(key, head)| Annul { key, head })
                    .collect();
                let supposed = member.replica.supposing(&ends);
                let present = std::mem::replace(&mut member.replica, supposed);
                let view = self.view(mask);
                if let Stage::Member(member) = &mut self.stage {
                    member.replica = present;
                }
                if let Some(view) = view {
                    self.outbox.push_back(Output::Reply {
                        id,
                        reply: Reply::View(Box::new(view)),
                    });
                }
            }
            Command::Block { peers } => {
                member
                    .mesh
                    .handle(self.now, MeshInput::Block(peers.into_iter().collect()));
                self.outbox.push_back(Output::Reply {
                    id,
                    reply: Reply::Ok,
                });
            }
            Command::Prepare { .. } | Command::Submit { .. } if member.submitting => {
                reached!("a change waits for the one before it to be durable");
                if member.queued.len() >= QUEUED_COMMANDS_MAX {
                    return self.refuse(
                        id,
                        "M012",
                        "too many changes wait for the store of this node".to_owned(),
                    );
                }
                member.queued.push_back((id, command));
            }
            Command::Prepare { author } => {
                let tail = member.replica.log.tail(&author);
                let mesh = member.replica.log.mesh();
                let prepared = Prepared {
                    mesh,
                    seq: tail.seq,
                    prev: tail.prev,
                    refs: tail.refs,
                    hlc: sane_stamp(tail.hlc, self.now.wall),
                };
                self.outbox.push_back(Output::Reply {
                    id,
                    reply: Reply::Prepared(prepared),
                });
            }
            Command::Root => {
                let log = &member.replica.log;
                let root = Root {
                    record: log.root().encode(),
                    carrier: log.root_carrier(),
                    is_disputed: log.root_state().is_disputed,
                };
                self.outbox.push_back(Output::Reply {
                    id,
                    reply: Reply::Root(root),
                });
            }
            Command::Submit { caller, statements } => self.submit(id, caller, statements),
        }
    }

    pub(super) fn submit(&mut self, id: CommandId, caller: Caller, statements: Vec<Bytes>) {
        let Stage::Member(member) = &mut self.stage else {
            return;
        };
        if let Caller::Device(key) = &caller
            && !statements.iter().all(|bytes| is_carried_by(bytes, key))
        {
            reached!("a device handed in what another key had signed");
            let why = "a device hands in only what its own key signed".to_owned();
            return self.refuse(id, "M014", why);
        }
        let ids = match member.replica.log.check(&statements, self.now.wall) {
            Ok(ids) => ids,
            Err(refusal) => {
                let why = refusal.to_string();
                if let Some(bytes) = statements.first() {
                    member
                        .replica
                        .note_refusal(bytes, None, why.clone(), self.now);
                }
                reached!("a change that was handed in was refused");
                let code = if matches!(refusal, lab_crdt_log::Refusal::Behind) {
                    "M013"
                } else {
                    "M010"
                };
                self.outbox.push_back(Output::Tell(Event::StatementRefused {
                    id: None,
                    why: why.clone(),
                }));
                return self.refuse(id, code, why);
            }
        };
        if self.stores.bytes > UNSTORED_BYTES_MAX {
            return self.refuse(
                id,
                "M011",
                "the store of this node refuses writes".to_owned(),
            );
        }
        let batch = ids
            .iter()
            .zip(&statements)
            .map(|(id, bytes)| put(Table::Statements, &id.0, bytes.to_vec()))
            .collect();
        if mutant!("M03") {
            self.store(batch, Vec::new());
            return self.submit_durable(id, &statements);
        }
        let batch = if mutant!("M53") { Batch::new() } else { batch };
        member.submitting = true;
        self.store(batch, vec![After::Submit { id, statements }]);
    }

    pub(super) fn submit_durable(&mut self, id: CommandId, statements: &[Bytes]) {
        let mut ids = Vec::new();
        if let Stage::Member(member) = &mut self.stage {
            for bytes in statements {
                match member.replica.take_statement(bytes, None, self.now) {
                    Ok(Outcome::Stored { ids: new }) => ids.extend(new.first()),
                    Ok(Outcome::Known(known)) => {
                        reached!("a change was handed in twice");
                        ids.push(known);
                    }
                    Ok(Outcome::Waiting { .. }) | Err(_) => {}
                }
                member.broadcasts.push(push(PUSH_STATEMENT, bytes));
            }
        }
        self.outbox.push_back(Output::Reply {
            id,
            reply: Reply::Submitted { ids },
        });
        self.submit_done();
    }

    pub(super) fn submit_done(&mut self) {
        let Stage::Member(member) = &mut self.stage else {
            return;
        };
        member.submitting = false;
        while let Stage::Member(member) = &mut self.stage
            && !member.submitting
            && let Some((id, command)) = member.queued.pop_front()
        {
            self.command(id, command);
        }
    }
}
