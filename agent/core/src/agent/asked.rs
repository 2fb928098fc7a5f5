//! What people ask over the local socket.

use lab_crdt_log::{Act, Annul, AuditBody, Kind, Supposed, author_of, is_carried_by};
use lab_crdt_model::{Caller, StatementId};

use super::handed::{HANDED, counted};
use super::*;
use crate::command::Root;
use crate::replica::id_of;

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
                let ends: Vec<Supposed> = ends
                    .into_iter()
                    .map(|(key, head, is_limited)| Supposed {
                        end: Annul { key, head },
                        is_limited,
                    })
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
                    let why = "too many changes wait for the store of this node".to_owned();
                    if let Command::Submit { caller, statements } = &command {
                        self.note_refused(*caller, statements.first(), "M012", &why);
                    }
                    return self.refuse(id, "M012", why);
                }
                member.queued.push_back((id, command));
            }
            Command::Prepare { author } => {
                let tail = member.replica.tail(&author, self.now.mono);
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
            Command::Audit { node } => {
                let records = member.audit_records(&self.keys.node(), node);
                self.outbox.push_back(Output::Reply {
                    id,
                    reply: Reply::Audit(records),
                });
            }
            Command::Submit { caller, statements } => self.submit(id, caller, statements),
        }
    }

    /// Records that statements were refused.
    pub(super) fn note_refused(
        &mut self,
        caller: Caller,
        first: Option<&Bytes>,
        code: &str,
        why: &str,
    ) {
        let now = self.now;
        let Stage::Member(member) = &mut self.stage else {
            return;
        };
        let act = Act::Refused {
            author: first.and_then(|bytes| author_of(bytes)),
            id: first.and_then(id_of),
            code: code.to_owned(),
            why: why.to_owned(),
        };
        member.replica.audit.note_some(Some(caller), act, now);
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
            self.note_refused(caller, statements.first(), "M014", &why);
            return self.refuse(id, "M014", why);
        }
        // A look at the rate costs nothing, so it comes before the signatures.
        let counted = counted(&member.replica.log, &statements);
        if let Err(ready_at) = member.handed.look(&counted, self.now.mono) {
            reached!("an author handed in more than its rate");
            let seconds = ready_at.ms_since(self.now.mono).div_ceil(1_000).max(1);
            let why = format!(
                "this key has handed in more than {} statements a minute here: try again in {seconds} s",
                60_000 / HANDED.each_ms
            );
            self.note_refused(caller, statements.first(), "M014", &why);
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
                self.note_refused(caller, statements.first(), code, &why);
                return self.refuse(id, code, why);
            }
        };
        if self.stores.bytes > UNSTORED_BYTES_MAX {
            let why = "the store of this node refuses writes".to_owned();
            self.note_refused(caller, statements.first(), "M011", &why);
            return self.refuse(id, "M011", why);
        }
        member.handed.spend(&counted, self.now.mono);
        let mut batch: Batch = ids
            .iter()
            .zip(&statements)
            .map(|(id, bytes)| put(Table::Statements, &id.0, bytes.to_vec()))
            .collect();
        let (mesh, now) = (member.replica.log.mesh(), self.now);
        let mut bodies = bodies_of(caller, &ids, &statements);
        if ids.iter().all(|id| member.replica.log.contains(id)) {
            // Whoever holds the socket can do this as often as they like.
            for body in std::mem::take(&mut bodies) {
                let audit = &mut member.replica.audit;
                audit.note_some(body.caller, body.act, now);
            }
        }
        let audit = &mut member.replica.audit;
        let head = audit.seal_hand_in(&mesh, &self.keys.signing, bodies, &mut batch, now);
        if mutant!("M03") {
            self.store(batch, Vec::new());
            return self.submit_durable(id, head, &statements);
        }
        let batch = if mutant!("M53") { Batch::new() } else { batch };
        member.submitting = true;
        let after = After::Submit {
            id,
            caller,
            head,
            statements,
        };
        self.store(batch, vec![after]);
    }

    pub(super) fn submit_durable(&mut self, id: CommandId, head: AuditHead, statements: &[Bytes]) {
        let mut ids = Vec::new();
        if let Stage::Member(member) = &mut self.stage {
            member.replica.audit.handed_in(true);
            member.replica.audit.stored(head);
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

/// What is recorded of statements that were taken: for each author in a row, one record.
fn bodies_of(caller: Caller, ids: &[StatementId], statements: &[Bytes]) -> Vec<AuditBody> {
    let said: Vec<(AuthorId, (StatementId, Kind))> = ids
        .iter()
        .zip(statements)
        .filter_map(|(id, bytes)| Some((author_of(bytes)?, (*id, Kind(*bytes.get(1)?)))))
        .collect();
    said.chunk_by(|a, b| a.0 == b.0)
        .map(|run| {
            let statements: Vec<_> = run.iter().map(|(_, statement)| *statement).collect();
            AuditBody {
                caller: Some(caller),
                act: Act::handed_in(run[0].0, &statements),
            }
        })
        .collect()
}
