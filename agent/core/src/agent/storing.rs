//! What must be durable, in order, and what waits for it.

use super::*;

impl Agent {
    /// Makes durable what the replica has to write and what there is to record, with `more`.
    pub(super) fn store_replica(&mut self, more: Batch, mut after: Vec<After>) {
        let mut batch = Batch::new();
        if let Stage::Member(m) = &mut self.stage {
            batch = std::mem::take(&mut m.replica.batch);
            let mesh = m.replica.log.mesh();
            let audit = &mut m.replica.audit;
            if let Some(head) = audit.seal(&mesh, &self.keys.signing, &mut batch, self.now) {
                after.insert(0, After::Audited(head));
            }
        }
        batch.extend(more);
        if !batch.is_empty() || !after.is_empty() {
            self.store(batch, after);
        }
    }

    pub(super) fn store(&mut self, batch: Batch, after: Vec<After>) {
        self.next_id += 1;
        let id = StoreId(self.next_id);
        self.stores.bytes += batch_bytes(&batch);
        let pending = Pending { batch, after };
        if self.stores.retry.is_empty() {
            self.write(id, pending);
        } else {
            reached!("a write waits behind one that failed");
            // Behind what failed: an older value must never be written over a newer one.
            self.stores.retry.insert(id, pending);
        }
    }

    pub(super) fn write(&mut self, id: StoreId, pending: Pending) {
        self.outbox.push_back(Output::Store {
            id,
            batch: pending.batch.clone(),
        });
        self.stores.under_way.insert(id, pending);
    }

    pub(super) fn stored(&mut self, id: StoreId, result: Result<(), String>) {
        let Some(mut pending) = self.stores.under_way.remove(&id) else {
            return;
        };
        let result = if mutant!("M04") { Ok(()) } else { result };
        match result {
            Ok(()) => {
                self.stores.why = None;
                let after = std::mem::take(&mut pending.after);
                let has_earlier = self.stores.retry.range(..id).next().is_some();
                if has_earlier {
                    reached!("a write succeeded after one that had failed");
                    // What failed before it will be written again, and this again after that.
                    self.stores.retry.insert(id, pending);
                } else {
                    self.stores.bytes -= batch_bytes(&pending.batch);
                }
                for after in after {
                    self.after(after);
                }
            }
            Err(why) => {
                self.stores.why = Some(why.clone());
                self.outbox
                    .push_back(Output::Tell(Event::StoreFailed { why: why.clone() }));
                let is_submit = |after: &After| matches!(after, After::Submit { .. });
                // Nothing was taken in: whoever handed it in is told, and may try again.
                if let Some(at) = pending.after.iter().position(is_submit)
                    && let After::Submit {
                        id,
                        caller,
                        statements,
                        ..
                    } = pending.after.swap_remove(at)
                {
                    self.stores.bytes -= batch_bytes(&pending.batch);
                    reached!("the store refused a change that was handed in");
                    let why = format!("the store of this node refused the write: {why}");
                    if let Stage::Member(m) = &mut self.stage {
                        m.replica.audit.handed_in(false);
                    }
                    self.note_refused(caller, statements.first(), "M011", &why);
                    self.refuse(id, "M011", why);
                    if mutant!("M60") {
                        return;
                    }
                    return self.submit_done();
                }
                reached!("the store refused a write of the agent's own");
                self.stores.retry.insert(id, pending);
                let at = self.now.mono.plus_ms(STORE_RETRY_MS);
                self.stores.retry_at = Some(self.stores.retry_at.unwrap_or(at));
            }
        }
    }

    /// Writes again what failed, and after it what came later, as one batch: of each key the last value only, so
    /// that a store that fails for long costs no more memory than what it would hold.
    pub(super) fn write_again(&mut self) {
        self.stores.retry_at = None;
        let mut values: BTreeMap<(Table, Vec<u8>), StoreOp> = BTreeMap::new();
        let mut all = Pending {
            batch: Batch::new(),
            after: Vec::new(),
        };
        let mut submits = Vec::new();
        for (id, pending) in std::mem::take(&mut self.stores.retry) {
            if matches!(pending.after.first(), Some(After::Submit { .. })) {
                submits.push((id, pending));
                continue;
            }
            self.stores.bytes -= batch_bytes(&pending.batch);
            for op in pending.batch {
                let (StoreOp::Put { table, key, .. } | StoreOp::Delete { table, key }) = &op;
                values.insert((*table, key.clone()), op);
            }
            all.after.extend(pending.after);
        }
        all.batch = values.into_values().collect();
        self.stores.bytes += batch_bytes(&all.batch);
        self.next_id += 1;
        self.write(StoreId(self.next_id), all);
        for (_, pending) in submits {
            self.next_id += 1;
            self.write(StoreId(self.next_id), pending);
        }
    }

    pub(super) fn after(&mut self, after: After) {
        match after {
            After::Output(output) => self.outbox.push_back(output),
            After::Submit {
                id,
                head,
                statements,
                ..
            } => self.submit_durable(id, head, &statements),
            After::Audited(head) => {
                if let Stage::Member(m) = &mut self.stage {
                    m.replica.audit.stored(head);
                }
            }
            After::Reserved => {
                if let Stage::Member(m) = &mut self.stage {
                    m.reporter.reserved();
                }
            }
            After::Files(effect) => {
                let id = self.effect_id();
                self.files_effect = Some(id);
                self.outbox.push_back(Output::Run { id, effect });
            }
        }
    }
}
