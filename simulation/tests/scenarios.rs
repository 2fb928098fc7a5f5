//! Every answer to "what happens when …" is what people would want to hear, and is measured.

use lab_simulation::scenario::Scenario;

/// Plays a scenario and wants every claim to be true.
fn holds(name: &str, seed: u64) {
    let scenario = Scenario::named(name).expect("a scenario of this name");
    let played = scenario.play(seed);
    let mut seen = String::new();
    for line in &played.story {
        seen += &format!("{:>10} {}\n", line.at_ms, line.text);
    }
    for claim in &played.claims {
        seen += &format!("{} {}\n", if claim.is_true { "✓" } else { "✗" }, claim.text);
    }
    assert!(played.claims.len() >= 3);
    assert!(
        played.is_well(),
        "{name}, seed {seed}: not as it should be\n{seen}"
    );
}

macro_rules! scenarios {
    ($($test:ident: $name:literal;)*) => {$(
        #[test]
        fn $test() {
            holds($name, 1);
        }
    )*

        #[test]
        fn every_scenario_has_a_test() {
            let tested = [$($name),*];
            for scenario in lab_simulation::scenario::ALL {
                assert!(tested.contains(&scenario.name), "{}", scenario.name);
            }
        }
    };
}

scenarios! {
    a_power_cut_loses_nothing: "power-cut";
    wifi_that_flaps_costs_little: "wifi-flaps";
    a_dead_file_server_is_replaced: "nas-dies";
    a_laptop_comes_home_after_a_month: "laptop-away";
    wrong_clocks_change_nothing: "wrong-clock";
    a_rotten_card_is_never_believed: "card-rots";
    a_full_disk_confirms_nothing: "disk-full";
    a_house_in_two_halves_grows_together: "house-cut";
    a_leaked_token_lets_one_in: "token-leaked";
    a_stolen_key_is_undone: "key-stolen";
    an_old_snapshot_catches_up: "old-snapshot";
}

#[test]
fn whatever_a_card_loses_comes_back_or_is_told() {
    for seed in 2..=10 {
        holds("card-rots", seed);
    }
}
