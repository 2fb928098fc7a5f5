//! Stories of single paths.

mod boxes;
mod faults;
mod heal;
mod pace;

use super::*;

fn at_ms(ms: u64) -> Mono {
    Mono(1_000_000_000).plus_ms(ms)
}

fn network(config: Config, count: usize) -> Network {
    let mut network = Network::new(7, config.clone());
    for index in 0..count {
        network.add_host(Host::of(&config, index, 7));
    }
    network
}

fn lan(count: usize) -> Network {
    network(Config::default(), count)
}

/// The arrival of a small frame on connection 1, lane 0.
fn arrival(network: &mut Network, now: Mono, from: usize, to: usize) -> Mono {
    match network.send(now, from, to, 1, 0, 100) {
        Fate::Arrives(at) => at,
        fate => panic!("{from} to {to}: {fate:?}"),
    }
}

/// The delays of frames sent far apart, sorted, in microseconds.
fn delays_us(network: &mut Network, from: usize, to: usize) -> Vec<u64> {
    let mut delays: Vec<u64> = (1..20_000)
        .map(|nth| {
            let now = at_ms(nth * 10_000);
            (arrival(network, now, from, to).0 - now.0) / 1_000
        })
        .collect();
    delays.sort_unstable();
    delays
}

#[test]
fn delays_of_each_profile_are_the_documented_ones() {
    for (profile, p50, p99) in [
        (Profile::Lan, 200..260, 600..1_000),
        (Profile::Wifi, 4_000..5_200, 30_000..60_000),
        (Profile::Metro, 3_000..3_600, 8_500..10_500),
        (Profile::Lte, 55_000..66_000, 120_000..350_000),
        (Profile::Satellite, 570_000..620_000, 700_000..3_000_000),
    ] {
        let mut n = network(Config::new(profile), 2);
        let delays = delays_us(&mut n, 0, 1);
        let at = |per_mille: usize| delays[delays.len() * per_mille / 1000];
        assert!(p50.contains(&at(500)), "{profile:?} p50 {}", at(500));
        assert!(p99.contains(&at(990)), "{profile:?} p99 {}", at(990));
    }
}

#[test]
fn delays_across_regions_follow_the_distance() {
    for other in 1..19 {
        let mut n = network(Config::new(Profile::Geography), 19);
        let delays = delays_us(&mut n, 0, other);
        let least_us = Region::ALL[0].one_way_ns(Region::ALL[other]) / 1_000;
        let p50 = delays[delays.len() / 2];
        assert!(p50 > least_us && p50 < least_us + 1_000, "{other}: {p50}");
    }
}

#[test]
fn a_host_reaches_itself_at_once() {
    let mut n = lan(1);
    n.apply(at_ms(0), &Fault::Isolate { hosts: Scope::All });
    assert!(arrival(&mut n, at_ms(0), 0, 0) < at_ms(1));
    assert!(n.is_open(at_ms(0), 0, 0));
}

#[test]
fn frames_of_a_lane_keep_their_order_whatever_is_lost() {
    let config = Config {
        loss_per_mille: 300,
        ..Config::new(Profile::Wifi)
    };
    let mut n = network(config, 2);
    let mut last = [Mono(0); 2];
    let mut is_overtaken = false;
    for nth in 0..2_000 {
        for lane in 0..2 {
            let Fate::Arrives(at) = n.send(at_ms(nth), 0, 1, 1, lane as u8, 5_000) else {
                panic!("the path is open");
            };
            assert!(at > last[lane], "frame {nth} overtakes");
            is_overtaken |= at < last[1 - lane];
            last[lane] = at;
        }
    }
    assert!(is_overtaken, "lanes do not wait for each other");
}

#[test]
fn losses_cost_time_as_often_as_they_happen() {
    let config = Config {
        loss_per_mille: 100,
        ..Config::default()
    };
    let mut n = network(config, 2);
    for nth in 0..10_000 {
        n.send(at_ms(nth * 100_000), 0, 1, 1, 0, 1_000);
    }
    let one_packet = n.counts().resent;
    assert!((900..1_100).contains(&one_packet), "{one_packet}");
    for nth in 10_000..20_000 {
        n.send(at_ms(nth * 100_000), 0, 1, 1, 0, 4 * 1_200);
    }
    // 1 - 0.9^5
    let five_packets = n.counts().resent - one_packet;
    assert!((3_950..4_250).contains(&five_packets), "{five_packets}");
}

#[test]
fn what_is_sent_into_a_cut_does_not_arrive_until_it_is_sent_again() {
    let mut n = lan(2);
    let before = arrival(&mut n, at_ms(0), 0, 1);
    n.apply(at_ms(0), &Fault::Isolate { hosts: [1].into() });
    assert!(
        !n.carries(before, 0, 1, 1),
        "what was on its way finds the path closed"
    );
    for nth in 0..100 {
        assert_eq!(n.send(at_ms(nth), 0, 1, 1, 0, 100), Fate::Stalls);
    }
    assert_eq!((n.counts().frames, n.counts().stalled), (1, 100));
    n.apply(at_ms(1_000), &Fault::heal_all());
    assert!(n.carries(at_ms(1_000), 0, 1, 1));
    assert!(arrival(&mut n, at_ms(1_000), 0, 1) > at_ms(1_000));
}

#[test]
fn a_frame_fares_the_same_whatever_else_happens() {
    let config = Config {
        loss_per_mille: 50,
        ..Config::new(Profile::Mixed)
    };
    let run = |is_busy: bool, connection: u64| -> Vec<Fate> {
        let mut n = network(config.clone(), 40);
        let mut fates = Vec::new();
        for nth in 0..500 {
            let now = at_ms(nth * 50);
            if is_busy {
                for other in 2..40 {
                    n.send(now, other, (other + 7) % 38 + 2, nth, 0, 50);
                }
                n.dial(now, 5, 9);
                n.apply(
                    now,
                    &Fault::Isolate {
                        hosts: [nth as usize % 30 + 5].into(),
                    },
                );
            }
            fates.push(n.send(now, 0, 1, connection, 0, 200));
            fates.push(n.send(now, 1, 0, connection, 1, 200));
        }
        fates
    };
    let quiet = run(false, 1);
    assert_eq!(quiet, run(false, 1));
    assert_eq!(quiet, run(true, 1));
    assert_eq!(quiet, run(false, 99), "the name of a connection is no draw");
}

#[test]
fn another_seed_is_another_fate() {
    let arrivals = |seed| {
        let mut n = Network::new(seed, Config::default());
        n.add_host(Host::default());
        n.add_host(Host::default());
        (0..10)
            .map(|nth| arrival(&mut n, at_ms(nth), 0, 1))
            .collect::<Vec<_>>()
    };
    assert_ne!(arrivals(1), arrivals(2));
    assert_eq!(arrivals(1), arrivals(1));
}

#[test]
fn closed_connections_are_forgotten() {
    let mut n = lan(3);
    for connection in 0..1_000 {
        n.send(at_ms(0), 0, 1, connection, 0, 1);
        n.close(1, 0, connection);
        n.close(1, 0, connection);
    }
    assert_eq!(n.connections(), 0);
    assert!(n.is_alive(0, 1, 5));
}

#[test]
fn a_dial_takes_a_round_trip_or_its_time_out() {
    let mut n = network(Config::new(Profile::Geography), 19);
    let (london, sydney) = (7, 16);
    let Dialled::Answers { at, is_relayed } = n.dial(at_ms(0), london, sydney) else {
        panic!("nothing is in the way");
    };
    assert!((230..290).contains(&at.ms_since(at_ms(0))) && !is_relayed);
    n.apply(
        at_ms(0),
        &Fault::OneWay {
            from: [sydney].into(),
            to: [london].into(),
        },
    );
    let Dialled::Fails { at, .. } = n.dial(at_ms(0), london, sydney) else {
        panic!("the answer cannot come back");
    };
    assert_eq!(at, at_ms(4_000));
}

#[test]
fn a_dial_is_tried_again_until_the_path_opens() {
    let mut n = lan(2);
    n.apply(
        at_ms(0),
        &Fault::Isolate { hosts: [0].into() }.lasting(2_500),
    );
    let Dialled::Answers { at, .. } = n.dial(at_ms(0), 0, 1) else {
        panic!("it opens in time");
    };
    assert!(at >= at_ms(3_000) && at < at_ms(3_100));
}

#[test]
fn heavy_loss_kills_connections_and_bearable_loss_does_not() {
    for (per_mille, dies) in [(150, false), (400, false), (990, true)] {
        let mut n = lan(2);
        let paths = Paths::Of([0].into());
        n.apply(at_ms(0), &Fault::Loss { paths, per_mille });
        for nth in 0..2_000 {
            n.send(at_ms(nth * 1_000), 0, 1, 1, 0, 500);
        }
        assert_eq!(n.is_alive(0, 1, 1), !dies, "{per_mille}");
    }
}
