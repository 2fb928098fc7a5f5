//! Group commit: everything the agent asked to write while the disk was busy becomes durable in one go.

use lab_agent_core::StoreId;
use lab_agent_store::{Store, StoreError};
use lab_crdt_model::store::{Batch, StoreOp};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

/// Bytes that may wait for the disk. Beyond it the world is not listened to until the disk has caught up.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Which writes came to what.
pub(crate) struct Written {
    /// Those that became durable, or did not, together.
    pub(crate) ids: Vec<StoreId>,
    /// Why not.
    pub(crate) result: Result<(), StoreError>,
}

/// The store, and what waits for it.
pub(crate) struct StoreWriter {
    idle: Option<Store>,
    busy: Option<JoinHandle<(Store, Written)>>,
    ids: Vec<StoreId>,
    batches: Vec<Batch>,
    bytes: usize,
}

impl StoreWriter {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            idle: Some(store),
            busy: None,
            ids: Vec::new(),
            batches: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes a batch; it is written after those taken before.
    pub(crate) fn push(&mut self, id: StoreId, batch: Batch) {
        self.bytes += batch.iter().map(length).sum::<usize>();
        self.ids.push(id);
        self.batches.push(batch);
    }

    /// Whether so much waits that nothing more should be asked of the agent.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes > WAITING_BYTES_MAX
    }

    /// Whether everything taken was answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.busy.is_none() && self.ids.is_empty()
    }

    /// Waits for the next answer; for ever if nothing was asked. Nothing is lost if the wait is given up.
    pub(crate) async fn next(&mut self) -> Result<Written, JoinError> {
        self.start();
        let Some(busy) = &mut self.busy else {
            return std::future::pending().await;
        };
        let finished = busy.await;
        self.busy = None;
        let (store, written) = finished?;
        self.idle = Some(store);
        Ok(written)
    }

    /// Gives the store back, unless a write is under way.
    pub(crate) fn into_store(self) -> Option<Store> {
        self.idle
    }

    /// Begins to write what waits, if the disk is free.
    fn start(&mut self) {
        if self.ids.is_empty() {
            return;
        }
        let Some(mut store) = self.idle.take() else {
            return;
        };
        let ids = std::mem::take(&mut self.ids);
        let batches = std::mem::take(&mut self.batches);
        self.bytes = 0;
        self.busy = Some(spawn_blocking(move || {
            let result = store.commit(&batches);
            (store, Written { ids, result })
        }));
    }
}

const fn length(op: &StoreOp) -> usize {
    match op {
        StoreOp::Put { key, value, .. } => key.len() + value.len(),
        StoreOp::Delete { key, .. } => key.len(),
    }
}

#[cfg(test)]
mod tests {
    use lab_crdt_model::store::Table;

    use super::*;

    fn put(key: u8, length: usize) -> Batch {
        vec![StoreOp::Put {
            table: Table::Meta,
            key: vec![key],
            value: vec![key; length],
        }]
    }

    fn writer(dir: &tempfile::TempDir) -> StoreWriter {
        StoreWriter::new(Store::open(&dir.path().join("agent.redb")).unwrap().0)
    }

    #[tokio::test]
    async fn what_came_while_the_disk_was_busy_is_written_together_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(&dir);
        writer.push(StoreId(1), put(1, 1));
        let first = {
            let mut next = Box::pin(writer.next());
            tokio::select! { biased; written = &mut next => Some(written), () = async {} => None }
        };
        assert!(first.is_none(), "the disk takes its time");
        for id in 2..=9 {
            writer.push(StoreId(id), put(2, usize::try_from(id).unwrap()));
        }

        assert_eq!(writer.next().await.unwrap().ids, [StoreId(1)]);
        let together = writer.next().await.unwrap();

        assert_eq!(together.ids, (2..=9).map(StoreId).collect::<Vec<_>>());
        assert!(together.result.is_ok());
        assert!(writer.is_idle());
        let mut store = writer.into_store().unwrap();
        let records = store.load(Table::Meta).unwrap().records;
        assert_eq!(records, [(vec![1], vec![1]), (vec![2], vec![2; 9])]);
    }

    #[tokio::test]
    async fn a_failed_write_is_answered_and_the_next_one_works() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(&dir);
        writer.push(StoreId(1), put(1, lab_agent_store::VALUE_BYTES_MAX + 1));
        assert!(writer.is_full());

        let failed = writer.next().await.unwrap();
        assert!(failed.result.is_err());
        writer.push(StoreId(2), put(1, 1));
        assert!(!writer.is_full());

        assert!(writer.next().await.unwrap().result.is_ok());
    }
}
