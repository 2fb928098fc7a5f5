use super::*;

#[test]
fn the_store_survives_two_thousand_power_cuts() {
    let report = search::<AgentStore>(&Config::new(1, 2000));
    assert_eq!(report.failure_count(), 0, "{report:#?}");
    assert!(report.kept_underway_count > 50, "{report:?}");
    assert!(report.twice_cut_count > 100 && report.written_count > 50);
}

#[test]
fn the_redb_in_use_survives_without_the_store_around_it() {
    let report = search::<RawRedb>(&Config::new(2, 2000));
    assert_eq!(report.failure_count(), 0, "{report:#?}");
}

/// redb up to 4.1 trusts a header that says the file is longer than it is: a growth that was not
/// synced and got lost leaves a database that never opens again. The disk has to find that. So old a
/// redb does not write the same bytes in every run: the image differs from run to run.
#[test]
fn an_older_redb_is_found_out() {
    let config = Config {
        is_over_at_failure: true,
        images_per_run: 100,
        ..Config::new(3, 40_000)
    };
    let report = search::<RawRedb3>(&config);
    assert_eq!(report.failure_count(), 1, "{report:?}");
    let example = &report.examples[0];
    assert_eq!(example.failure, Failure::Panicked, "{example:?}");
    let disk = example.disk();
    for _ in 0..3 {
        assert!(try_open::<RawRedb3>(&disk).is_err(), "never again");
    }
}

/// What a power cut left of a database of redb 4.1.0, in which the growth of the file was lost.
#[test]
fn a_database_that_lost_its_growth_opens_again() {
    let bytes = include_bytes!("lost-growth.img");
    let disk = SimDisk::holding(sparse(bytes), 1);
    assert!(
        try_open::<RawRedb3>(&disk).is_err(),
        "the old redb gives up"
    );
    let disk = SimDisk::holding(sparse(bytes), 1);
    let tables = try_open::<RawRedb>(&disk).unwrap();
    assert!(!tables[&Table::Meta].is_empty());
}

/// A file without its pages of zeros: its length, then number and content of each page.
fn sparse(bytes: &[u8]) -> Pages {
    let (length, rest) = bytes.split_at(8);
    let mut pages = Pages::default();
    pages.set_length(u64::from_le_bytes(length.try_into().unwrap()));
    for page in rest.chunks(8 + 4096) {
        let (number, content) = page.split_at(8);
        let number = u64::from_le_bytes(number.try_into().unwrap());
        pages.write(number * 4096, content);
    }
    pages
}

#[test]
fn on_a_disk_that_does_not_sync_the_search_finds_losses() {
    let config = Config {
        is_lying: true,
        ..Config::new(5, 500)
    };
    let report = search::<AgentStore>(&config);
    assert!(
        report.lost_count > 50 && report.refused_count > 20,
        "{report:?}"
    );
    assert_eq!(
        (report.unknown_count, report.panicked_count),
        (0, 0),
        "{report:?}"
    );
}

#[test]
fn a_search_is_the_same_in_every_run() {
    let run = || search::<AgentStore>(&Config::new(4, 300));
    assert_eq!(run(), run());
}
