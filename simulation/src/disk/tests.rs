use lab_crdt_model::store::{StoreOp, Table};

use super::*;
use crate::seed::{self, Rng};

type World = BTreeMap<Place, Vec<u8>>;

const BOTH: [DriveKind; 2] = [DriveKind::Model, DriveKind::Real];

fn put(table: Table, key: u64, value: Vec<u8>) -> StoreOp {
    StoreOp::Put {
        table,
        key: key.to_be_bytes().to_vec(),
        value,
    }
}

/// A batch as an agent writes them: mostly small, some replaced or removed, a few large.
fn some_batch(rng: &mut Rng, n: u64) -> Batch {
    let tables = [Table::Statements, Table::Registers, Table::Addresses];
    let mut batch = vec![put(Table::Meta, 0, n.to_le_bytes().to_vec())];
    for _ in 0..rng.below(6) {
        let table = rng.pick(&tables).copied().expect("not empty");
        let key = rng.below(30);
        if rng.chance(200) {
            let key = key.to_be_bytes().to_vec();
            batch.push(StoreOp::Delete { table, key });
        } else {
            let length = if rng.chance(100) {
                9000
            } else {
                rng.below(300)
            };
            batch.push(put(table, key, vec![n as u8; length as usize]));
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

fn flat(tables: Tables) -> World {
    let rows = tables.into_iter().flat_map(|(table, records)| {
        let place = move |(key, value)| ((table, key), value);
        records.into_iter().map(place)
    });
    rows.collect()
}

fn assert_nothing_is_wrong(drive: &Drive, what: &str) {
    assert_eq!(drive.reports().lost, Places::default(), "{what}");
    assert_eq!(drive.reports().unknown, Places::default(), "{what}");
}

#[test]
fn a_drive_gives_back_what_was_written_after_a_crash() {
    for kind in BOTH {
        let mut drive = Drive::new(kind, 1);
        let mut now = Mono(0);
        assert!(drive.boot(now).unwrap().values().all(Vec::is_empty));
        for n in 0..20 {
            let written = drive.write(now, &vec![put(Table::Meta, n, vec![n as u8; 100])]);
            assert_eq!(written.result, Ok(()));
            assert!(written.takes_us > 0);
            now.0 += written.takes_us * 1000;
        }
        drive.crash(now);
        let tables = drive.boot(now).unwrap();
        assert_eq!(tables[&Table::Meta].len(), 20, "{kind:?}");
        assert_eq!(drive.acknowledged().len(), 20);
        assert_nothing_is_wrong(&drive, "after a crash");
    }
}

/// On an honest disk a finished write is there after any end, one under way whole or not at all;
/// and both kinds of drive agree on everything that was finished.
#[test]
fn model_and_real_store_hold_the_same_after_every_start() {
    for seed in 0..12 {
        let mut rng = seed::rng(seed, "differential", 0);
        let mut drives = BOTH.map(|kind| Drive::new(kind, seed));
        let mut worlds = [World::new(), World::new()];
        let mut now = Mono(0);
        for n in 0..80 {
            let batch = some_batch(&mut rng, n);
            let (ending, is_cut_short) = (rng.below(12), rng.chance(500));
            for (drive, world) in drives.iter_mut().zip(&mut worlds) {
                let before = world.clone();
                let written = drive.write(now, &batch);
                assert_eq!(written.result, Ok(()));
                carry_out(world, &batch);
                let mut at = Mono(now.0 + 10_000_000);
                if ending < 2 && is_cut_short {
                    at = Mono(now.0 + written.takes_us * 500);
                }
                match ending {
                    0 => drive.crash(at),
                    1 => drive.kill(at),
                    2 => drive.stop(),
                    _ => continue,
                }
                let found = flat(drive.boot(at).unwrap());
                let what = format!("seed {seed}, batch {n}, {:?}", drive.kind());
                assert!(
                    found == *world || is_cut_short && found == before,
                    "{what}: half a batch, or less"
                );
                *world = found;
                assert_nothing_is_wrong(drive, &what);
            }
            if worlds[0] != worlds[1] {
                // One kept what was cut short and the other did not: both write it again.
                for (drive, world) in drives.iter_mut().zip(&mut worlds) {
                    let written = drive.write(Mono(now.0 + 20_000_000), &batch);
                    assert_eq!(written.result, Ok(()));
                    carry_out(world, &batch);
                }
            }
            assert!(worlds[0] == worlds[1], "seed {seed}, batch {n}");
            now.0 += 100_000_000;
        }
    }
}

#[test]
fn a_full_disk_refuses_whole_batches_and_works_again() {
    for kind in BOTH {
        for seed in 0..6 {
            let mut rng = seed::rng(seed, "full", 0);
            let mut drive = Drive::new(kind, seed);
            let (mut world, mut now, mut refused_count) = (World::new(), Mono(0), 0);
            for n in 0..60 {
                if n % 20 == 10 {
                    let bytes = 60_000 + rng.below(120_000);
                    drive.apply(now, &DiskFault::Full { bytes });
                }
                if n % 20 == 0 {
                    drive.apply(now, &DiskFault::Heal);
                }
                let mut batch = some_batch(&mut rng, n);
                batch.push(put(Table::Statements, 1000 + n, vec![1; 4000]));
                let written = drive.write(now, &batch);
                let before = world.clone();
                carry_out(&mut world, &batch);
                now.0 += 100_000_000;
                if written.result.is_err() {
                    refused_count += 1;
                    drive.crash(now);
                    match drive.boot(now) {
                        Ok(tables) => {
                            let found = flat(tables);
                            assert!(found == before || found == world, "{kind:?} {seed} {n}");
                            world = found;
                        }
                        Err(_) => {
                            // Not even the repair has room. It must have, once there is room.
                            drive.apply(now, &DiskFault::Heal);
                            let found = flat(drive.boot(now).unwrap());
                            assert!(found == before || found == world, "{kind:?} {seed} {n}");
                            world = found;
                        }
                    }
                }
            }
            assert!(refused_count > 0, "{kind:?} {seed}");
            drive.apply(now, &DiskFault::Heal);
            assert_eq!(drive.write(now, &some_batch(&mut rng, 99)).result, Ok(()));
            assert_nothing_is_wrong(&drive, "full");
        }
    }
}

/// Whatever happens: nothing that nobody wrote, and no loss without an excuse.
#[test]
fn under_every_fault_nothing_is_made_up() {
    let mut seen = Reports::default();
    for seed in 0..60 {
        for kind in BOTH {
            let mut rng = seed::rng(seed, "faults", 0);
            let mut drive = Drive::new(kind, seed);
            let mut now = Mono(0);
            for n in 0..60 {
                if rng.chance(150) {
                    drive.apply(now, &some_fault(&mut rng));
                }
                let written = drive.write(now, &some_batch(&mut rng, n));
                now.0 += rng.below(2 * written.takes_us * 1000 + 2);
                match rng.below(12) {
                    0 => drive.crash(now),
                    1 => drive.kill(now),
                    2 => drive.stop(),
                    _ => continue,
                }
                if drive.boot(now).is_err() && rng.chance(500) {
                    drive.apply(now, &DiskFault::Heal);
                }
                assert_nothing_is_wrong(&drive, &format!("seed {seed}, {kind:?}, batch {n}"));
            }
            drive.apply(now, &DiskFault::Heal);
            drive.crash(now);
            drive.boot(now).unwrap();
            assert_nothing_is_wrong(&drive, &format!("seed {seed}, {kind:?}, end"));
            let reports = drive.reports();
            seen.refused_boot_count += reports.refused_boot_count;
            seen.failed_write_count += reports.failed_write_count;
            seen.salvage_count += reports.salvage_count;
            seen.rollback_count += reports.rollback_count;
        }
    }
    assert!(
        seen.refused_boot_count > 0
            && seen.failed_write_count > 0
            && seen.salvage_count > 0
            && seen.rollback_count > 0,
        "{seen:?}"
    );
}

fn some_fault(rng: &mut Rng) -> DiskFault {
    let count = 1 + rng.below(3) as u32;
    match rng.below(14) {
        0 => DiskFault::Full {
            bytes: 40_000 + rng.below(100_000),
        },
        1 => DiskFault::LyingFsync {
            per_mille: 700,
            epochs: count,
        },
        2 => DiskFault::SyncError { is_cached: false },
        3 => DiskFault::SyncError { is_cached: true },
        4 => DiskFault::ReadError { count },
        5 => DiskFault::BitFlips { count },
        6 => DiskFault::Misdirected { count },
        7 => DiskFault::StaleRead { count },
        8 => DiskFault::ReadOnly,
        9 => DiskFault::Replace,
        10 | 11 => DiskFault::Snapshot {
            name: "image".to_owned(),
        },
        12 => DiskFault::Rollback {
            to: "image".to_owned(),
        },
        _ => DiskFault::Heal,
    }
}

#[test]
fn a_rollback_brings_back_the_image_and_a_replaced_disk_is_empty() {
    for kind in BOTH {
        let mut drive = Drive::new(kind, 3);
        let (now, name) = (Mono(1_000_000_000), "image".to_owned());
        let batch = |value: u8| vec![put(Table::Meta, 1, vec![value])];
        drive.write(Mono(0), &batch(1)).result.unwrap();
        drive.apply(now, &DiskFault::Snapshot { name: name.clone() });
        drive.write(now, &batch(2)).result.unwrap();

        drive.apply(now, &DiskFault::Rollback { to: name });
        drive.crash(now);
        let tables = drive.boot(now).unwrap();
        assert_eq!(tables[&Table::Meta][0].1, [1], "{kind:?}");

        let mut clone = Drive::new(kind, 4);
        clone.become_copy_of(&drive, now);
        assert_eq!(clone.boot(now).unwrap(), tables);

        drive.apply(now, &DiskFault::Replace);
        assert!(drive.boot(now).unwrap().values().all(Vec::is_empty));
        assert_eq!(drive.acknowledged().len(), 0);
        for drive in [drive, clone] {
            assert_nothing_is_wrong(&drive, "excused");
        }
    }
}

#[test]
fn a_lying_disk_loses_what_it_acknowledged_and_is_the_excuse() {
    for kind in BOTH {
        let mut loss_count = 0;
        for seed in 0..20 {
            let mut drive = Drive::new(kind, seed);
            let mut now = Mono(0);
            for n in 0..5 {
                if n == 2 {
                    drive.apply(
                        now,
                        &DiskFault::LyingFsync {
                            per_mille: 1000,
                            epochs: 50,
                        },
                    );
                }
                let written = drive.write(now, &vec![put(Table::Meta, n, vec![1])]);
                written.result.unwrap();
                now.0 += written.takes_us * 1000;
            }
            drive.crash(now);
            let tables = drive.boot(now).unwrap();
            loss_count += usize::from(tables[&Table::Meta].len() < 5);
            assert_nothing_is_wrong(&drive, "a lie is an excuse");
        }
        assert!(loss_count > 3, "{kind:?}");
    }
}

#[test]
fn slow_and_queued_writes_take_their_time() {
    for kind in BOTH {
        let mut drive = Drive::new(kind, 1);
        let batch = vec![put(Table::Meta, 1, vec![1])];
        let fast = drive.write(Mono(0), &batch).takes_us;
        let queued = drive.write(Mono(0), &batch).takes_us;
        assert!(queued > fast, "the second waits for the first");
        drive.apply(Mono(0), &DiskFault::Slow { us: 30_000_000 });
        let slow = drive.write(Mono(1_000_000_000), &batch).takes_us;
        assert!(slow > 30_000_000 && slow < 31_000_000);
    }
}

#[test]
fn equal_seeds_give_equal_drives() {
    let run = || {
        let mut rng = seed::rng(5, "equal", 0);
        let mut drive = Drive::new(DriveKind::Real, 5);
        let (mut now, mut out) = (Mono(0), Vec::new());
        for n in 0..60 {
            if rng.chance(100) {
                drive.apply(now, &some_fault(&mut rng));
            }
            let written = drive.write(now, &some_batch(&mut rng, n));
            now.0 += rng.below(2 * written.takes_us * 1000 + 1);
            if rng.chance(100) {
                drive.crash(now);
                out.push(drive.boot(now));
            }
        }
        (out, drive.reports().clone())
    };
    assert_eq!(run(), run());
}
