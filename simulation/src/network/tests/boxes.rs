//! Address translation, relays and blocked UDP.

use super::*;

const BOXES: [Nat; 6] = [
    Nat::None,
    Nat::FullCone,
    Nat::AddressRestricted,
    Nat::PortRestricted,
    Nat::Carrier,
    Nat::Symmetric,
];

/// Two hosts of different cities behind these boxes.
fn behind(a: Nat, b: Nat, relays: &[Region]) -> Network {
    let config = Config {
        relays: relays.to_vec(),
        ..Config::default()
    };
    let mut n = Network::new(7, config);
    for (nat, region) in [(a, Region::Paris), (b, Region::Tokyo)] {
        n.add_host(Host {
            site: Site {
                region,
                building: 1,
            },
            nat,
            ..Host::default()
        });
    }
    n
}

/// Direct, relayed, or in vain.
fn outcome(dialled: Dialled) -> char {
    match dialled {
        Dialled::Answers {
            is_relayed: false, ..
        } => 'd',
        Dialled::Answers {
            is_relayed: true, ..
        } => 'r',
        Dialled::Fails { .. } => '-',
    }
}

fn outcomes(relays: &[Region], prepare: impl Fn(&mut Network)) -> [String; 6] {
    BOXES.map(|a| {
        let row = BOXES.map(|b| {
            let mut n = behind(a, b, relays);
            prepare(&mut n);
            let is_open = n.is_open(at_ms(0), 0, 1);
            let outcome = outcome(n.dial(at_ms(0), 0, 1));
            assert!(is_open || outcome == '-', "{a:?} {b:?}");
            outcome
        });
        row.into_iter().collect()
    })
}

#[test]
fn with_a_relay_only_symmetric_boxes_are_relayed() {
    // Caller by row, callee by column, in the order of `BOXES`.
    assert_eq!(
        outcomes(&[Region::Frankfurt], |_| {}),
        ["dddddd", "dddddd", "dddddd", "dddddr", "dddddr", "dddrrr"]
    );
}

#[test]
fn without_a_relay_strangers_are_not_let_in() {
    // A full cone lets in only as long as its owner has sent something lately.
    assert_eq!(outcomes(&[], |_| {}), ["d-----"; 6]);
    assert_eq!(
        outcomes(&[], |n| {
            n.places[1].last_out = Some(at_ms(0));
        }),
        ["dd----"; 6]
    );
}

#[test]
fn without_a_relay_two_who_dial_each_other_meet() {
    assert_eq!(
        outcomes(&[], |n| {
            n.dial(at_ms(0), 1, 0);
        }),
        ["dddddd", "dddddd", "dddddd", "ddddd-", "ddddd-", "ddd---"]
    );
}

#[test]
fn a_hole_closes_when_the_box_has_heard_nothing_for_long() {
    let dial_after = |ms| {
        let mut n = behind(Nat::PortRestricted, Nat::PortRestricted, &[]);
        assert_eq!(outcome(n.dial(at_ms(0), 1, 0)), '-');
        outcome(n.dial(at_ms(ms), 0, 1))
    };
    assert_eq!((dial_after(100_000), dial_after(130_000)), ('d', '-'));
}

#[test]
fn a_silent_mapping_times_out_unless_it_is_kept_alive() {
    for (keep_alive_ms, fate_is_lost) in [(0, true), (200_000, true), (10_000, false)] {
        let mut n = behind(Nat::PortRestricted, Nat::None, &[]);
        n.config.keep_alive_ms = keep_alive_ms;
        arrival(&mut n, at_ms(0), 0, 1);
        arrival(&mut n, at_ms(119_000), 1, 0);
        let fate = n.send(at_ms(240_000), 0, 1, 1, 0, 1);
        assert_eq!(fate == Fate::Lost, fate_is_lost, "{keep_alive_ms}");
        assert_eq!(n.is_alive(0, 1, 1), !fate_is_lost);
        assert!(matches!(
            n.send(at_ms(240_000), 0, 1, 2, 0, 1),
            Fate::Arrives(_)
        ));
        n.close(0, 1, 1);
        n.close(0, 1, 2);
    }
}

#[test]
fn hosts_of_one_building_need_no_box_unless_they_are_kept_apart() {
    for (nat, is_isolated, expected) in [
        (Nat::Symmetric, false, 'd'),
        (Nat::PortRestricted, true, 'd'),
        (Nat::Symmetric, true, 'r'),
        (Nat::Carrier, true, 'r'),
    ] {
        let mut n = Network::new(
            7,
            Config {
                relays: vec![Region::Paris],
                ..Config::default()
            },
        );
        for _ in 0..2 {
            n.add_host(Host {
                nat,
                is_isolated,
                ..Host::default()
            });
        }
        assert_eq!(
            outcome(n.dial(at_ms(0), 0, 1)),
            expected,
            "{nat:?} {is_isolated}"
        );
    }
}

#[test]
fn hosts_of_one_carrier_are_relayed_because_it_does_not_hairpin() {
    let mut n = network(Config::new(Profile::Lte), 2);
    assert_eq!(outcome(n.dial(at_ms(0), 0, 1)), 'r');
    arrival(&mut n, at_ms(500), 0, 1);
    assert!(n.is_relayed(0, 1, 1));
}

#[test]
fn a_relay_adds_the_way_to_it() {
    let mut direct = behind(Nat::None, Nat::None, &[Region::SaoPaulo]);
    let mut relayed = behind(Nat::Symmetric, Nat::Symmetric, &[Region::SaoPaulo]);
    let p50 = |n: &mut Network| {
        let delays = delays_us(n, 0, 1);
        delays[delays.len() / 2]
    };
    let way =
        Region::Paris.one_way_ns(Region::SaoPaulo) + Region::SaoPaulo.one_way_ns(Region::Tokyo);
    let detour_us = (way - Region::Paris.one_way_ns(Region::Tokyo)) / 1_000;
    let added = p50(&mut relayed) - p50(&mut direct);
    assert!(
        (detour_us..detour_us + 2_000).contains(&added),
        "{added} µs"
    );
}

#[test]
fn the_relay_next_to_the_callee_is_taken_then_the_next() {
    let mut n = behind(
        Nat::Symmetric,
        Nat::Symmetric,
        &[Region::Paris, Region::Tokyo],
    );
    assert_eq!(outcome(n.dial(at_ms(0), 0, 1)), 'r');
    arrival(&mut n, at_ms(1_000), 0, 1);
    n.apply(at_ms(1_000), &Fault::RelayDown { relays: vec![1] });
    assert_eq!(n.send(at_ms(1_000), 0, 1, 1, 0, 1), Fate::Stalls);
    assert!(!n.carries(at_ms(1_000), 0, 1, 1));
    assert!(n.is_open(at_ms(1_000), 0, 1), "the other relay is there");
    assert_eq!(outcome(n.dial(at_ms(1_000), 0, 1)), 'r');
    assert!(matches!(
        n.send(at_ms(2_000), 0, 1, 2, 0, 1),
        Fate::Arrives(_)
    ));
    n.apply(at_ms(2_000), &Fault::RelayDown { relays: vec![] });
    assert!(!n.is_open(at_ms(2_000), 0, 1));
    assert_eq!(outcome(n.dial(at_ms(2_000), 0, 1)), '-');
    n.apply(at_ms(3_000), &Fault::heal_all());
    assert!(n.carries(at_ms(3_000), 0, 1, 1) && n.carries(at_ms(3_000), 0, 1, 2));
}

#[test]
fn blocked_udp_stalls_what_is_direct_and_sends_the_rest_through_a_relay() {
    let mut n = behind(Nat::None, Nat::None, &[Region::Paris]);
    arrival(&mut n, at_ms(0), 0, 1);
    n.apply(at_ms(0), &Fault::UdpBlocked { hosts: [0].into() });
    assert_eq!(n.send(at_ms(1), 0, 1, 1, 0, 1), Fate::Stalls);
    assert!(!n.carries(at_ms(1), 1, 0, 1) && n.is_open(at_ms(1), 1, 0));
    assert_eq!(outcome(n.dial(at_ms(1), 1, 0)), 'r');
    let mut n = behind(Nat::None, Nat::None, &[]);
    n.apply(at_ms(0), &Fault::UdpBlocked { hosts: [1].into() });
    assert!(!n.is_open(at_ms(0), 0, 1));
    assert_eq!(outcome(n.dial(at_ms(0), 0, 1)), '-');
}

#[test]
fn a_rebinding_kills_what_goes_through_the_box_and_nothing_else() {
    let mut n = Network::new(7, Config::default());
    let boxed = |building| Host {
        site: Site {
            region: Region::Paris,
            building,
        },
        nat: Nat::FullCone,
        ..Host::default()
    };
    // Two beside each other, one elsewhere, one without a box.
    for host in [boxed(1), boxed(1), boxed(2), Host::default()] {
        n.add_host(host);
    }
    for (from, to, connection) in [(0, 1, 10), (2, 0, 11), (0, 3, 12), (2, 3, 13), (3, 2, 14)] {
        assert!(matches!(
            n.send(at_ms(0), from, to, connection, 0, 1),
            Fate::Arrives(_)
        ));
    }
    let killed = n.apply(
        at_ms(1),
        &Fault::NatRebind {
            hosts: [0, 3].into(),
        },
    );
    let killed: Vec<u64> = killed.iter().map(|k| k.connection).collect();
    assert_eq!(killed, [11, 12]);
    assert_eq!(n.send(at_ms(2), 0, 2, 11, 0, 1), Fate::Lost);
    assert!(!n.carries(at_ms(2), 2, 0, 11) && !n.is_alive(0, 2, 11));
    assert!(n.is_open(at_ms(2), 2, 0), "a new connection would live");
    for (from, to, connection) in [(0, 1, 10), (2, 3, 13), (2, 0, 21)] {
        assert!(matches!(
            n.send(at_ms(2), from, to, connection, 0, 1),
            Fate::Arrives(_)
        ));
    }
}

#[test]
fn a_captive_portal_kills_and_fails_dials_at_once() {
    let mut n = lan(3);
    n.send(at_ms(0), 0, 1, 5, 0, 1);
    n.send(at_ms(0), 1, 2, 6, 0, 1);
    let killed = n.apply(at_ms(0), &Fault::CaptivePortal { hosts: [0].into() });
    assert_eq!(
        killed,
        [Killed {
            low: 0,
            high: 1,
            connection: 5
        }]
    );
    assert_eq!(n.send(at_ms(1), 1, 0, 5, 0, 1), Fate::Lost);
    let Dialled::Fails { at, why } = n.dial(at_ms(1), 0, 2) else {
        panic!("a login page answers");
    };
    assert_eq!((at, why), (at_ms(201), "a login page answers"));
    n.apply(at_ms(10), &Fault::heal_all());
    assert_eq!(
        n.send(at_ms(11), 1, 0, 5, 0, 1),
        Fate::Lost,
        "dead stays dead"
    );
    assert_eq!(outcome(n.dial(at_ms(11), 0, 2)), 'd');
}
