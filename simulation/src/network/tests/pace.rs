//! Bandwidth and queues.

use super::*;

const SECOND_NS: u64 = 1_000_000_000;

/// Sends more than fits, as fast as it is told; tells how many bytes arrived per second.
fn throughput(network: &mut Network, talks: &[(usize, usize)], seconds: u64) -> u64 {
    let (mut arrived, mut nth) = (0, 0);
    let start = at_ms(0);
    let end = start.plus_ms(seconds * 1_000);
    while nth < seconds * 20_000 {
        let now = Mono(start.0 + nth * 50_000);
        let (from, to) = talks[nth as usize % talks.len()];
        if let Fate::Arrives(at) = network.send(now, from, to, 1, 0, 1_000)
            && at <= end
        {
            arrived += 1_000;
        }
        nth += 1;
    }
    arrived / seconds
}

fn is_within_a_percent(got: u64, wanted: u64) -> bool {
    got.abs_diff(wanted) * 100 <= wanted
}

#[test]
fn uplink_downlink_and_path_carry_what_they_say() {
    // All are asked for 20 MB/s.
    for (bandwidth, path, talks) in [
        (
            Bandwidth {
                up: 1_000_000,
                down: 0,
            },
            0,
            vec![(0, 1), (0, 2)],
        ),
        (
            Bandwidth {
                up: 0,
                down: 1_000_000,
            },
            0,
            vec![(1, 0), (2, 0)],
        ),
        (
            Bandwidth {
                up: 9_000_000,
                down: 0,
            },
            1_000_000,
            vec![(0, 1)],
        ),
    ] {
        let config = Config {
            bandwidth: Some(bandwidth),
            path_bytes_per_s: path,
            queue_ms: 100_000,
            ..Config::default()
        };
        let mut n = network(config, 3);
        let got = throughput(&mut n, &talks, 5);
        assert!(
            is_within_a_percent(got, 1_000_000),
            "{bandwidth:?} {path}: {got}"
        );
    }
}

#[test]
fn a_small_queue_overflows_into_retransmissions_and_still_carries_all() {
    let config = Config {
        bandwidth: Some(Bandwidth {
            up: 1_000_000,
            down: 0,
        }),
        queue_ms: 20,
        ..Config::default()
    };
    let mut n = network(config, 2);
    let got = throughput(&mut n, &[(0, 1)], 5);
    assert!(is_within_a_percent(got, 1_000_000), "{got}");
    assert!(n.counts().overflowed > 5_000);
}

#[test]
fn one_slow_sender_does_not_hold_up_others_before_a_common_receiver() {
    let config = Config::default();
    let mut n = Network::new(7, config);
    let slow = Host {
        bandwidth: Some(Bandwidth { up: 1_000, down: 0 }),
        ..Host::default()
    };
    let slow = n.add_host(slow);
    let (other, receiver) = (n.add_host(Host::default()), n.add_host(Host::default()));
    let Fate::Arrives(at) = n.send(at_ms(0), slow, receiver, 1, 0, 100_000) else {
        panic!("the path is open");
    };
    assert!(at.0 > at_ms(0).0 + 99 * SECOND_NS);
    assert!(arrival(&mut n, at_ms(1), other, receiver) < at_ms(5));
}

#[test]
fn an_idle_wire_adds_no_delay_to_small_frames() {
    let config = Config {
        bandwidth: Some(Bandwidth {
            up: 100_000,
            down: 100_000,
        }),
        ..Config::default()
    };
    let (mut narrow, mut wide) = (network(config, 2), lan(2));
    for nth in 0..100 {
        let now = at_ms(nth * 1_000);
        assert_eq!(
            arrival(&mut narrow, now, 0, 1),
            arrival(&mut wide, now, 0, 1)
        );
    }
}

/// Sends frames of these sizes as a patient sender does; tells when the last arrives.
fn sends_all(network: &mut Network, mut now: Mono, frames: &[usize]) -> Mono {
    let mut last = now;
    for bytes in frames {
        loop {
            match network.send(now, 0, 1, 1, 1, *bytes) {
                Fate::Arrives(at) => {
                    last = at;
                    break;
                }
                Fate::Stalls => {
                    now = network.next_change().expect("there will be room");
                    network.tick(now);
                }
                Fate::Lost => panic!("nothing kills it"),
            }
        }
    }
    last
}

fn grey(bytes_per_s: u64) -> (Network, Fault) {
    let fault = Fault::Grey {
        paths: Paths::Of([0].into()),
        bytes_per_s,
        loss_per_mille: 0,
    };
    (lan(2), fault)
}

#[test]
fn a_patient_sender_gets_what_a_slow_path_carries() {
    for frames in [vec![100; 1_000], vec![100_000], vec![30_000, 10, 69_990]] {
        let (mut n, fault) = grey(1_000);
        n.apply(at_ms(0), &fault);
        let ms = sends_all(&mut n, at_ms(0), &frames).ms_since(at_ms(0));
        assert!(is_within_a_percent(ms, 100_000), "{}: {ms}", frames.len());
    }
}

#[test]
fn small_frames_pass_a_large_one_that_waits_and_do_not_starve_it() {
    let (mut n, fault) = grey(1_000);
    n.apply(at_ms(0), &fault);
    assert_eq!(n.send(at_ms(0), 0, 1, 1, 1, 50_000), Fate::Stalls);
    let mut ms = 0;
    let arrives = loop {
        ms += 1_000;
        let Fate::Arrives(at) = n.send(at_ms(ms), 0, 1, 1, 0, 100) else {
            panic!("a small one has room");
        };
        assert!(at < at_ms(ms + 500));
        if let Fate::Arrives(at) = n.send(at_ms(ms), 0, 1, 1, 1, 50_000) {
            break at.ms_since(at_ms(0));
        }
    };
    // A tenth goes to the small ones.
    assert!((54_000..57_000).contains(&arrives), "{arrives}");
}

#[test]
fn healing_a_slow_path_frees_what_waits() {
    let (mut n, fault) = grey(1_000);
    n.apply(at_ms(0), &fault);
    for _ in 0..100 {
        n.send(at_ms(0), 0, 1, 1, 0, 1_000);
    }
    assert_eq!(n.send(at_ms(0), 0, 1, 1, 1, 1_000_000), Fate::Stalls);
    n.apply(at_ms(3_000), &Fault::heal_all());
    let Fate::Arrives(at) = n.send(at_ms(3_000), 0, 1, 1, 1, 1_000_000) else {
        panic!("the path is free");
    };
    assert!(at < at_ms(3_100));
}
