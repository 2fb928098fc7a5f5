use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard};

use super::*;

type World = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

const SECTOR: usize = 512;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A disk that remembers what a power cut would leave.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Image>>);

#[derive(Clone, Debug, Default)]
struct Image {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync, in order.
    pending: Vec<Change>,
    /// Changes so far; the one at `full_at` fails for want of space.
    change_count: u64,
    full_at: Option<u64>,
    /// The change at the first number ends up at the second one, if it is a write.
    misdirected: Option<(u64, usize)>,
    is_dead: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Disk {
    fn image(&self) -> MutexGuard<'_, Image> {
        self.0.lock().unwrap()
    }

    fn open(&self) -> Result<(Store, OpenReport), StoreError> {
        let disk = self.clone();
        Store::open_with_backend(move || Ok(disk.clone()))
    }

    /// What lies on the disk after a power cut: synced bytes, and of every later write any of its
    /// sectors.
    fn after_power_cut(&self, dice: &mut Dice) -> Self {
        let image = self.image();
        let mut bytes = image.durable.clone();
        let mode = dice.roll(4);
        for change in &image.pending {
            match change {
                Change::Length(length) if mode != 3 || dice.roll(2) == 0 => {
                    bytes.resize(*length, 0);
                }
                Change::Length(_) => {}
                Change::Write(at, data) => {
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        let at = at + n * SECTOR;
                        let kept = match (mode, dice.roll(4)) {
                            (0, _) | (_, 0) => 0,
                            (1, _) => sector.len(),
                            (_, 1) => dice.roll(sector.len() as u64 + 1) as usize,
                            _ => sector.len(),
                        };
                        if kept > 0 {
                            bytes.resize(bytes.len().max(at + kept), 0);
                            bytes[at..at + kept].copy_from_slice(&sector[..kept]);
                        }
                    }
                }
            }
        }
        Self::holding(bytes)
    }

    fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Image {
            live: bytes.clone(),
            durable: bytes,
            ..Image::default()
        })))
    }
}

/// A disk that can be salvaged.
struct DiskMedium(Disk, Disk);

impl Medium for DiskMedium {
    type Backend = Disk;

    fn open(&mut self) -> io::Result<Disk> {
        Ok(self.0.clone())
    }

    fn spare(&mut self) -> io::Result<Self> {
        self.1 = Disk::default();
        Ok(Self(self.1.clone(), Disk::default()))
    }

    fn adopt_spare(&mut self) -> io::Result<String> {
        let spare = self.1.image().live.clone();
        let mut image = self.0.image();
        (image.live, image.durable) = (spare.clone(), spare);
        image.pending.clear();
        Ok("aside".to_owned())
    }
}

impl Image {
    fn change(&mut self) -> io::Result<()> {
        self.change_count += 1;
        if self.is_dead {
            return Err(io::Error::other("no power"));
        }
        if self.full_at == Some(self.change_count) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.image().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (image, offset) = (self.image(), offset as usize);
        let bytes = image.live.get(offset..offset + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut image = self.image();
        image.change()?;
        image.live.resize(length as usize, 0);
        image.pending.push(Change::Length(length as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut image = self.image();
        image.change()?;
        image.durable = image.live.clone();
        image.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut image, mut offset) = (self.image(), offset as usize);
        image.change()?;
        if let Some((at, elsewhere)) = image.misdirected
            && at == image.change_count
        {
            offset = elsewhere.min(image.live.len() - data.len());
        }
        image.live[offset..offset + data.len()].copy_from_slice(data);
        image.pending.push(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}

fn put(table: Table, key: &[u8], value: &[u8]) -> StoreOp {
    StoreOp::Put {
        table,
        key: key.to_vec(),
        value: value.to_vec(),
    }
}

fn delete(table: Table, key: &[u8]) -> StoreOp {
    StoreOp::Delete {
        table,
        key: key.to_vec(),
    }
}

/// A batch as the core writes them: mostly small records, sometimes large, some replaced or
/// removed.
fn some_batch(dice: &mut Dice, n: u64) -> Batch {
    let tables = [
        Table::Statements,
        Table::Registers,
        Table::Meta,
        Table::Addresses,
    ];
    let mut batch = vec![put(Table::Meta, b"last", &n.to_le_bytes())];
    for _ in 0..dice.roll(6) {
        let table = tables[dice.roll(4) as usize];
        let key = dice.roll(40).to_be_bytes();
        if dice.roll(5) == 0 {
            batch.push(delete(table, &key));
        } else {
            let length = if dice.roll(8) == 0 {
                9_000
            } else {
                dice.roll(300)
            };
            batch.push(put(table, &key, &vec![n as u8; length as usize]));
        }
    }
    batch
}

fn carry_out(world: &mut World, batch: &Batch) {
    for op in batch {
        match op {
            StoreOp::Put { table, key, value } => {
                world.insert((*table, key.clone()), value.clone());
            }
            StoreOp::Delete { table, key } => {
                world.remove(&(*table, key.clone()));
            }
        }
    }
}

fn everything(store: &mut Store) -> World {
    let mut world = World::new();
    for table in Table::ALL {
        let loaded = store.load(table).unwrap();
        assert_eq!(loaded.damaged_count, 0);
        world.extend(
            loaded
                .records
                .into_iter()
                .map(|(key, value)| ((table, key), value)),
        );
    }
    world
}

fn records(store: &mut Store, table: Table) -> Vec<Record> {
    store.load(table).unwrap().records
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.redb");
    let (mut store, report) = Store::open(&path).unwrap();
    assert_eq!(
        report,
        OpenReport {
            is_new: true,
            is_rolled_back: false
        }
    );

    store
        .commit(&[vec![
            put(Table::Meta, b"a", b"1"),
            put(Table::Meta, b"b", b"2"),
        ]])
        .unwrap();
    store
        .commit(&[
            vec![delete(Table::Meta, b"a")],
            vec![put(Table::Registers, b"c", b"")],
        ])
        .unwrap();
    store.close().unwrap();

    let (mut store, report) = Store::open(&path).unwrap();
    assert_eq!(
        report,
        OpenReport {
            is_new: false,
            is_rolled_back: false
        }
    );
    assert_eq!(
        records(&mut store, Table::Meta),
        [(b"b".to_vec(), b"2".to_vec())]
    );
    assert_eq!(
        records(&mut store, Table::Registers),
        [(b"c".to_vec(), Vec::new())]
    );
    assert_eq!(records(&mut store, Table::Statements), []);
}

#[test]
fn later_batches_see_earlier_ones() {
    let (mut store, _) = Disk::default().open().unwrap();
    store
        .commit(&[
            vec![
                put(Table::Meta, b"k", b"1"),
                delete(Table::Meta, b"k"),
                put(Table::Meta, b"k", b"2"),
            ],
            vec![delete(Table::Meta, b"other"), put(Table::Meta, b"k", b"3")],
        ])
        .unwrap();
    assert_eq!(
        records(&mut store, Table::Meta),
        [(b"k".to_vec(), b"3".to_vec())]
    );
}

#[test]
fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.redb");
    drop(Store::open(&path).unwrap());
    assert_eq!(
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_second_agent_is_told_that_one_is_running() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.redb");
    let _running = Store::open(&path).unwrap();

    let error = Store::open(&path).unwrap_err();

    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("another agent is running"));
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.redb");
    drop(Store::open(&path).unwrap());
    let database = Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    let newer = codec::seal(codec::FORMAT_TAG, codec::FORMAT_KEY, &2u32.to_le_bytes());
    write
        .open_table(codec::FORMAT)
        .unwrap()
        .insert(codec::FORMAT_KEY, newer.as_slice())
        .unwrap();
    write.commit().unwrap();
    drop(database);

    for _ in 0..2 {
        let error = Store::open(&path).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::NewerFormat {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn a_file_of_something_else_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.redb");
    let text = b"not a database, but long enough to be looked at closely. ".repeat(200);
    std::fs::write(&path, &text).unwrap();

    let error = Store::open(&path).unwrap_err();

    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(std::fs::read(&path).unwrap() == text);
}

#[test]
fn a_database_of_something_else_is_not_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.redb");
    let database = Database::create(&path).unwrap();
    let write = database.begin_write().unwrap();
    write
        .open_table(redb::TableDefinition::<u64, u64>::new("theirs"))
        .unwrap();
    write.commit().unwrap();
    drop(database);

    assert!(matches!(
        Store::open(&path).unwrap_err(),
        StoreError::Damaged { .. }
    ));
}

#[test]
fn a_missing_folder_is_the_machines_fault() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::open(&folder.path().join("no/agent.redb")).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
}

#[test]
fn too_long_records_are_refused_before_anything_is_written() {
    let disk = Disk::default();
    let (mut store, _) = disk.open().unwrap();
    let before = disk.image().change_count;

    let long_key = vec![
        put(Table::Meta, b"ok", b"1"),
        delete(Table::Meta, &[0; KEY_BYTES_MAX + 1]),
    ];
    let long_value = vec![put(Table::Meta, b"k", &vec![0; VALUE_BYTES_MAX + 1])];

    for batch in [long_key, long_value] {
        assert!(matches!(
            store.commit(&[batch]),
            Err(StoreError::TooLarge { .. })
        ));
    }
    assert_eq!(disk.image().change_count, before);
    assert_eq!(records(&mut store, Table::Meta), []);
}

#[test]
fn a_damaged_record_goes_to_quarantine_once() {
    let (mut store, _) = Disk::default().open().unwrap();
    store
        .commit(&[vec![
            put(Table::Statements, b"a", b"1"),
            put(Table::Statements, b"b", b"2"),
        ]])
        .unwrap();
    let rotten = [b"rotten".as_slice(); 5].concat();
    {
        let database = store.database.as_ref().unwrap();
        let write = database.begin_write().unwrap();
        let mut rows = write
            .open_table(codec::definition(Table::Statements))
            .unwrap();
        rows.insert(b"a".as_slice(), rotten.as_slice()).unwrap();
        drop(rows);
        write.commit().unwrap();
    }

    let loaded = store.load(Table::Statements).unwrap();
    assert_eq!(loaded.records, [(b"b".to_vec(), b"2".to_vec())]);
    assert_eq!(loaded.damaged_count, 1);
    assert_eq!(store.load(Table::Statements).unwrap().damaged_count, 0);
    assert_eq!(
        records(&mut store, Table::Quarantine),
        [(b"\x01a".to_vec(), rotten)]
    );
    assert_eq!(
        store.check().unwrap(),
        CheckReport {
            is_repaired: false,
            damaged_count: 0
        }
    );
}

#[test]
fn quarantine_is_bounded() {
    let (mut store, _) = Disk::default().open().unwrap();
    let damaged: Vec<Record> = (0..QUARANTINE_COUNT_MAX + 50)
        .map(|n| (n.to_be_bytes().to_vec(), vec![0; 3]))
        .collect();
    for _ in 0..2 {
        store.quarantine(Table::Statements, &damaged).unwrap();
    }
    assert_eq!(
        records(&mut store, Table::Quarantine).len() as u64,
        QUARANTINE_COUNT_MAX
    );
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let disk = Disk::default();
        let (mut store, _) = disk.open().unwrap();
        let mut acknowledged = World::new();
        for n in 0..60 {
            let batch = some_batch(&mut dice, n);
            let mut wanted = acknowledged.clone();
            carry_out(&mut wanted, &batch);

            // The same commit on a disk that dies in the middle of it, and a restart from what is
            // left.
            if n % 5 == 0 {
                for at in 1..10 {
                    let doomed = Disk(Arc::new(Mutex::new(disk.image().clone())));
                    die_during(&doomed, &batch, at);
                    let (mut again, _) = doomed.after_power_cut(&mut dice).open().unwrap();
                    let found = everything(&mut again);
                    assert!(
                        found == acknowledged || found == wanted,
                        "seed {seed}, commit {n}, change {at}"
                    );
                }
            }
            store.commit(&[batch]).unwrap();
            acknowledged = wanted;
            let (mut again, _) = disk.after_power_cut(&mut dice).open().unwrap();
            assert_eq!(
                everything(&mut again),
                acknowledged,
                "seed {seed}, after commit {n}"
            );
        }
    }
}

/// Opens what a process left behind, begins a commit, and has the power fail at its `at`th change.
fn die_during(disk: &Disk, batch: &Batch, at: u64) {
    let Ok((mut store, _)) = disk.open() else {
        panic!("opens before the cut")
    };
    let change_count = disk.image().change_count;
    disk.image().full_at = Some(change_count + at);
    let database = store.database.take().unwrap();
    let _ = guard(|| write(&database, batch.iter()));
    disk.image().is_dead = true;
    let _ = guard(|| drop(database));
}

#[test]
fn a_power_cut_during_the_very_first_open_leaves_a_usable_place() {
    let full = Disk::default();
    drop(full.open().unwrap());
    let change_count = full.image().change_count;

    for seed in 0..20 {
        for at in 1..=change_count {
            let disk = Disk::default();
            disk.image().full_at = Some(at);
            drop(disk.open());
            let left = disk.after_power_cut(&mut Dice(seed * 1000 + at));
            let first = left.open();
            let usable = match first {
                Ok((mut store, _)) => store.commit(&[vec![put(Table::Meta, b"k", b"v")]]).is_ok(),
                // Nothing was ever acknowledged: the founder is told, and starts over.
                Err(StoreError::Damaged { .. }) => true,
                Err(_) => false,
            };
            assert!(usable, "seed {seed}, change {at}");
        }
    }
}

#[test]
fn a_commit_that_was_torn_is_reported_as_rolled_back() {
    let mut dice = Dice(1);
    let disk = Disk::default();
    drop(disk.open().unwrap());
    let mut counts = (0, 0);
    for at in 1..40 {
        let doomed = Disk(Arc::new(Mutex::new(disk.image().clone())));
        die_during(&doomed, &vec![put(Table::Meta, b"k", &[1; 5000])], at);
        let (_, report) = doomed.after_power_cut(&mut dice).open().unwrap();
        if report.is_rolled_back {
            counts.0 += 1;
        } else {
            counts.1 += 1;
        }
    }
    assert!(counts.0 > 0 && counts.1 > 0, "{counts:?}");
}

#[test]
fn a_full_disk_at_any_moment_loses_nothing_acknowledged_and_is_survived() {
    let mut dice = Dice(5);
    let batches: Vec<Batch> = (0..25).map(|n| some_batch(&mut dice, n)).collect();
    let total = {
        let disk = Disk::default();
        let (mut store, _) = disk.open().unwrap();
        let opened = disk.image().change_count;
        for batch in &batches {
            store.commit(std::slice::from_ref(batch)).unwrap();
        }
        disk.image().change_count - opened
    };

    for at in 1..=total {
        let disk = Disk::default();
        let (mut store, _) = disk.open().unwrap();
        let opened = disk.image().change_count;
        disk.image().full_at = Some(opened + at);
        let (mut acknowledged, mut failed_count) = (World::new(), 0);
        for batch in &batches {
            let mut wanted = acknowledged.clone();
            carry_out(&mut wanted, batch);
            if let Err(error) = store.commit(std::slice::from_ref(batch)) {
                failed_count += 1;
                assert!(
                    matches!(error, StoreError::Commit { .. }),
                    "at {at}: {error}"
                );
                let found = everything(&mut store);
                assert!(found == acknowledged || found == wanted, "at {at}");
                // The agent writes it again.
                store.commit(std::slice::from_ref(batch)).unwrap();
            }
            acknowledged = wanted;
        }
        assert!(failed_count <= 1, "at {at}");
        assert_eq!(everything(&mut store), acknowledged, "at {at}");
        let (mut again, _) = disk.after_power_cut(&mut dice).open().unwrap();
        assert_eq!(everything(&mut again), acknowledged, "at {at}, restarted");
    }
}

#[test]
fn a_disk_that_stays_full_is_an_error_each_time_and_then_works_again() {
    let disk = Disk::default();
    let (mut store, _) = disk.open().unwrap();
    store.commit(&[vec![put(Table::Meta, b"a", b"1")]]).unwrap();

    disk.image().is_dead = true;
    for _ in 0..3 {
        assert!(store.commit(&[vec![put(Table::Meta, b"b", b"2")]]).is_err());
    }
    disk.image().is_dead = false;

    assert_eq!(
        records(&mut store, Table::Meta),
        [(b"a".to_vec(), b"1".to_vec())]
    );
    store.commit(&[vec![put(Table::Meta, b"b", b"2")]]).unwrap();
    assert_eq!(records(&mut store, Table::Meta).len(), 2);
}

#[test]
fn a_flipped_bit_is_never_returned_as_data() {
    let mut dice = Dice(11);
    let disk = Disk::default();
    let (mut store, _) = disk.open().unwrap();
    let mut world = World::new();
    for n in 0..40 {
        let batch = some_batch(&mut dice, n);
        carry_out(&mut world, &batch);
        store.commit(&[batch]).unwrap();
    }
    // What an earlier commit held may come back when the newest one is rotten; nothing else may.
    let mut ever: BTreeMap<(Table, Vec<u8>), Vec<Vec<u8>>> = BTreeMap::new();
    let mut dice_again = Dice(11);
    for n in 0..40 {
        for op in some_batch(&mut dice_again, n) {
            if let StoreOp::Put { table, key, value } = op {
                ever.entry((table, key)).or_default().push(value);
            }
        }
    }
    drop(store);
    let image = disk.image().live.clone();

    let (mut refused_count, mut intact_count) = (0, 0);
    for _ in 0..1500 {
        let mut rotten = image.clone();
        let bit = dice.roll(rotten.len() as u64 * 8) as usize;
        rotten[bit / 8] ^= 1 << (bit % 8);
        let rotten = Disk::holding(rotten);
        let Ok((mut store, _)) = rotten.open() else {
            refused_count += 1;
            continue;
        };
        let mut found = World::new();
        for table in Table::ALL
            .into_iter()
            .filter(|table| *table != Table::Quarantine)
        {
            let Ok(loaded) = store.load(table) else {
                continue;
            };
            for (key, value) in loaded.records {
                let known = ever
                    .get(&(table, key.clone()))
                    .is_some_and(|all| all.contains(&value));
                assert!(known, "bit {bit}: {table:?} {key:?} was never written so");
                found.insert((table, key), value);
            }
        }
        intact_count += u32::from(found == world);
    }
    assert!(refused_count > 0, "some flips hit pages in use");
    assert!(intact_count > 0, "some flips hit free pages");
}

/// Such a file may pass every check of redb and still panic when a record is read, written or moved
/// to quarantine. Nothing of that may end the process or keep it from starting.
#[test]
fn a_write_that_ended_up_elsewhere_stops_neither_the_process_nor_the_next_start() {
    let mut dice = Dice(21);
    let disk = Disk::default();
    let (mut store, _) = disk.open().unwrap();
    let mut ever = Vec::new();
    let mut commit = |store: &mut Store, dice: &mut Dice, n| {
        let batch = some_batch(dice, n);
        for op in &batch {
            if let StoreOp::Put { table, key, value } = op {
                ever.push((*table, key.clone(), value.clone()));
            }
        }
        store.commit(&[batch]).is_ok()
    };
    for n in 0..30 {
        assert!(commit(&mut store, &mut dice, n));
    }
    drop(store);
    let start = disk.image().clone();

    let (mut salvaged_count, mut ends) = (0, Vec::new());
    for round in 0..60 {
        let disk = Disk(Arc::new(Mutex::new(start.clone())));
        let (mut store, _) = disk.open().unwrap();
        {
            let mut image = disk.image();
            let elsewhere = dice.roll(image.live.len() as u64 / 4096) as usize * 4096;
            image.misdirected = Some((image.change_count + 1 + dice.roll(12), elsewhere));
        }
        for n in 0..6 {
            commit(&mut store, &mut dice, 1000 * round + n);
        }
        drop(store);
        let (_, start) = Store::open_and_load_on(DiskMedium(disk, Disk::default())).unwrap();
        salvaged_count += u32::from(start.salvaged.is_some());
        ends.push(start.tables);
    }
    let ever: std::collections::BTreeSet<_> = ever.into_iter().collect();
    for (table, records) in ends.into_iter().flatten() {
        for (key, value) in records {
            assert!(ever.contains(&(table, key, value)), "nobody wrote that");
        }
    }
    assert!(salvaged_count > 0);
}

#[test]
fn rot_under_a_running_agent_is_found_by_the_check() {
    let disk = Disk::default();
    let (mut store, _) = disk.open().unwrap();
    let value = [0xa5; 3000];
    store
        .commit(&[vec![put(Table::Statements, b"k", &value)]])
        .unwrap();
    let at = disk
        .image()
        .live
        .windows(value.len())
        .position(|bytes| bytes == value)
        .unwrap();
    disk.image().live[at + 1000] ^= 1;

    match store.check() {
        Err(StoreError::Damaged { .. }) => {}
        Ok(report) => assert!(report.is_repaired || report.damaged_count > 0, "{report:?}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_salvage_keeps_what_is_sound_and_sets_the_rest_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.redb");
    let (mut store, _) = Store::open(&path).unwrap();
    let values: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n; 2000]).collect();
    let batch = values
        .iter()
        .enumerate()
        .map(|(n, value)| put(Table::Statements, &[n as u8], value));
    store.commit(&[batch.collect()]).unwrap();
    store.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes
        .windows(2000)
        .position(|window| window == values[7])
        .unwrap();
    bytes[at + 5] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::Damaged { .. })
    ));

    let (mut store, report) = Store::salvage(&path).unwrap();

    assert_eq!((report.saved_count, report.damaged_count), (49, 1));
    assert!(
        report.set_aside.ends_with("damaged-1"),
        "{}",
        report.set_aside
    );
    assert!(std::fs::exists(&report.set_aside).unwrap());
    let kept = records(&mut store, Table::Statements);
    assert_eq!(kept.len(), 49);
    assert!(
        kept.iter()
            .all(|(key, value)| *value == values[usize::from(key[0])] && key[0] != 7)
    );
    drop(store);
    assert!(Store::open(&path).is_ok());
}

/// A repair gives up at the first damaged page, and is due after every power cut.
#[test]
fn a_salvage_keeps_what_is_sound_in_a_file_that_was_not_closed() {
    let disk = Disk::default();
    let (mut store, _) = disk.open().unwrap();
    let values: Vec<Vec<u8>> = (0..200u8).map(|n| vec![n; 500]).collect();
    let ops = (0u8..).zip(&values);
    let batch = ops.map(|(n, value)| put(Table::Statements, &[n], value));
    store.commit(&[batch.collect()]).unwrap();
    // With the newest commit alone damaged, the one before it would stand.
    for n in 0..2 {
        store.commit(&[vec![put(Table::Meta, b"n", &[n])]]).unwrap();
    }
    let bytes = disk.image().live.clone();

    for damaged in [0usize, 77, 199] {
        let mut bytes = bytes.clone();
        // Splits left other copies in free pages.
        while let Some(at) = (bytes.windows(500)).position(|bytes| bytes == values[damaged]) {
            bytes[at + 100] ^= 1;
        }
        let medium = DiskMedium(Disk::holding(bytes), Disk::default());

        let (_, start) = Store::open_and_load_on(medium).unwrap();

        let kept = &start.tables[&Table::Statements];
        assert_eq!(kept.len(), 199, "record {damaged}");
        assert!(
            start
                .salvaged
                .is_some_and(|report| report.damaged_count == 1)
        );
    }
}

/// A salvage that is cut short must not leave a machine that believes it is new.
#[test]
fn a_salvage_that_fails_leaves_the_damaged_file_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.redb");
    let garbage = b"garbage".repeat(5000);
    std::fs::write(&path, &garbage).unwrap();
    // A folder where the new file should be built, as a stand-in for a disk that is full.
    std::fs::create_dir(path.with_extension("salvage")).unwrap();

    let error = Store::salvage(&path).unwrap_err();

    assert!(matches!(error, StoreError::SetAside { .. }), "{error}");
    assert!(std::fs::read(&path).unwrap() == garbage);
    std::fs::remove_dir(path.with_extension("salvage")).unwrap();
    // What an earlier salvage left half-done is no obstacle.
    std::fs::write(path.with_extension("salvage"), b"half a file").unwrap();
    let (_, report) = Store::salvage(&path).unwrap();
    assert!(std::fs::read(report.set_aside).unwrap() == garbage);
    assert!(!path.with_extension("salvage").exists());
}

#[test]
fn a_salvage_of_garbage_gives_an_empty_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.redb");
    std::fs::write(&path, b"garbage".repeat(5000)).unwrap();

    let (mut store, report) = Store::salvage(&path).unwrap();

    assert_eq!(report.saved_count, 0);
    store.commit(&[vec![put(Table::Meta, b"k", b"v")]]).unwrap();
}

#[test]
fn writes_are_the_same_in_every_run() {
    let image = || {
        let disk = Disk::default();
        let (mut store, _) = disk.open().unwrap();
        let mut dice = Dice(3);
        for n in 0..30 {
            store.commit(&[some_batch(&mut dice, n)]).unwrap();
        }
        drop(store);
        disk.image().live.clone()
    };
    assert!(image() == image());
}

/// The file was written by the first version of the format and is never written again: every later
/// version has to read it.
#[test]
fn the_first_format_is_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.redb");
    std::fs::copy(golden_path(), &path).unwrap();

    let (mut store, report) = Store::open(&path).unwrap();

    assert!(!report.is_new);
    let mut world = World::new();
    carry_out(&mut world, &golden_batch());
    assert_eq!(everything(&mut store), world);
}

fn golden_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/store/v1/agent.redb")
}

fn golden_batch() -> Batch {
    vec![
        put(Table::Statements, &[1; 32], b"a statement"),
        put(Table::Statements, &[2; 32], &[0xee; 5000]),
        put(Table::Registers, b"node and section", b"a register"),
        put(Table::Meta, b"counter", &7u64.to_le_bytes()),
        put(Table::Addresses, &[3; 32], b""),
        put(Table::Quarantine, b"\x01key", b"rotten"),
    ]
}
