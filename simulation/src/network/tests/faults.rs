//! Each fault: what it closes or slows down, when it starts and when it ends.

use super::*;

/// Which directed paths are open: a row for each sender.
fn map(network: &Network, now: Mono) -> Vec<String> {
    (0..network.len())
        .map(|from| {
            let row = (0..network.len()).map(|to| network.is_open(now, from, to));
            row.map(|is_open| if is_open { '1' } else { '.' }).collect()
        })
        .collect()
}

fn after(fault: &Fault, count: usize) -> Vec<String> {
    let mut n = lan(count);
    n.apply(at_ms(0), fault);
    map(&n, at_ms(0))
}

#[test]
fn groups_of_a_partition_do_not_reach_each_other() {
    let groups = vec![[0, 1].into(), Scope::Span { first: 2, count: 1 }];
    assert_eq!(
        after(&Fault::Partition { groups }, 5),
        ["11...", "11...", "..1..", "...11", "...11"]
    );
}

#[test]
fn one_way_is_one_way() {
    let fault = Fault::OneWay {
        from: [0].into(),
        to: [1, 2].into(),
    };
    assert_eq!(after(&fault, 3), ["1..", "111", "111"]);
}

#[test]
fn the_isolated_are_alone() {
    let fault = Fault::Isolate {
        hosts: [0, 2].into(),
    };
    assert_eq!(after(&fault, 4), ["1...", ".1.1", "..1.", ".1.1"]);
}

#[test]
fn only_the_bridge_sees_both_halves() {
    let fault = Fault::Bridge {
        left: [0, 1].into(),
        right: [2, 3, 4].into(),
        bridge: 2,
    };
    assert_eq!(
        after(&fault, 5),
        ["111..", "111..", "11111", "..111", "..111"]
    );
}

#[test]
fn each_host_of_a_ring_sees_another_majority() {
    assert_eq!(
        after(&Fault::Ring { hosts: Scope::All }, 5),
        ["11..1", "111..", ".111.", "..111", "1..11"]
    );
    for count in 1..40 {
        let rows = after(&Fault::Ring { hosts: Scope::All }, count);
        for row in &rows {
            let seen = row.matches('1').count();
            assert!(
                seen > count / 2 && (count <= 3 || seen < count),
                "{count}: {seen}"
            );
        }
        let distinct: std::collections::BTreeSet<&String> = rows.iter().collect();
        assert!(count <= 3 || distinct.len() == count);
    }
}

#[test]
fn cut_pairs_are_reached_by_others() {
    let fault = Fault::Cut {
        pairs: vec![(2, 0)],
    };
    assert_eq!(after(&fault, 3), ["11.", "111", ".11"]);
}

#[test]
fn a_clog_draws_directed_paths() {
    let clog = |per_mille, seed| {
        let paths = Paths::Of(Scope::Span {
            first: 0,
            count: 10,
        });
        let rows = after(
            &Fault::Clog {
                paths,
                per_mille,
                seed,
            },
            40,
        );
        let closed: usize = rows.iter().map(|row| row.matches('.').count()).sum();
        (closed, rows)
    };
    // 690 directed paths have an end among the ten.
    let (closed, rows) = clog(300, 1);
    assert!((150..260).contains(&closed), "{closed}");
    assert!((0..40).any(|a| (0..a).any(|b| rows[a][b..=b] != rows[b][a..=a])));
    assert_ne!(rows, clog(300, 2).1);
    assert_eq!((clog(0, 1).0, clog(1000, 1).0), (0, 690));
}

#[test]
fn flapping_paths_close_and_open_in_step() {
    let mut n = lan(3);
    let fault = Fault::Flap {
        hosts: [0].into(),
        down_ms: 100,
        up_ms: 400,
    };
    n.apply(at_ms(0), &fault.lasting(1_200));
    let mut seen = vec![];
    while let Some(at) = n.next_change() {
        seen.push((at.ms_since(at_ms(0)), n.is_open(at, 0, 1)));
        assert!(n.is_open(at, 1, 2));
        n.tick(at);
    }
    assert_eq!(
        seen,
        [
            (100, true),
            (500, false),
            (600, true),
            (1_000, false),
            (1_100, true),
            (1_200, true)
        ]
    );
    assert!(n.rules.is_empty());
}

#[test]
fn a_swizzle_takes_hosts_one_by_one_and_gives_them_back_in_another_order() {
    let mut n = lan(30);
    let fault = Fault::Swizzle {
        hosts: Scope::Span {
            first: 5,
            count: 20,
        },
        per_mille: 500,
        step_ms: 1_000,
        seed: 3,
    };
    n.apply(at_ms(0), &fault);
    let mut closed: Vec<Vec<usize>> = vec![];
    let mut now = at_ms(0);
    loop {
        closed.push((0..29).filter(|host| !n.is_open(now, *host, 29)).collect());
        let Some(next) = n.next_change() else { break };
        assert_eq!(next, now.plus_ms(1_000));
        now = next;
        n.tick(now);
    }
    let most = closed.iter().map(Vec::len).max().unwrap();
    assert!((6..15).contains(&most), "{most}");
    let sizes: Vec<usize> = closed.iter().map(Vec::len).collect();
    let expected: Vec<usize> = (1..=most).chain((0..=most).rev()).collect();
    assert_eq!(sizes, expected);
    assert!(closed.iter().flatten().all(|host| (5..25).contains(host)));
    // The first to go is not just the last to come back, nor the first: the orders differ.
    let went: Vec<Vec<usize>> = closed[..most].to_vec();
    let mut back: Vec<Vec<usize>> = closed[most..closed.len() - 1].to_vec();
    back.reverse();
    assert_ne!(went, back);
}

#[test]
fn a_grey_path_is_slow_and_the_way_back_is_not() {
    let mut n = lan(2);
    let paths = Paths::From([0].into(), [1].into());
    let fault = Fault::Grey {
        paths,
        bytes_per_s: 1_000,
        loss_per_mille: 0,
    };
    n.apply(at_ms(0), &fault);
    let mut last = at_ms(0);
    for _ in 0..15 {
        last = arrival(&mut n, at_ms(0), 0, 1);
    }
    let ms = last.ms_since(at_ms(0));
    assert!((1_450..1_550).contains(&ms), "{ms}");
    assert!(arrival(&mut n, at_ms(0), 1, 0) < at_ms(5));
    let lossy = Fault::Loss {
        paths: Paths::Of([0].into()),
        per_mille: 1_000,
    };
    n.apply(at_ms(20_000), &lossy);
    assert!(!n.is_open(at_ms(20_000), 0, 1), "what loses all is closed");
}

#[test]
fn latency_and_bufferbloat_add_what_they_say_and_end() {
    let delay = |n: &mut Network, from, to| {
        let now = at_ms(10_000);
        arrival(n, now, from, to).ms_since(now)
    };
    for _ in 0..50 {
        let mut n = lan(4);
        let paths = Paths::Between([0].into(), [1].into());
        let fault = Fault::Latency {
            paths,
            ms: 100,
            jitter_ms: 50,
        };
        n.apply(at_ms(0), &fault.lasting(20_000));
        assert!((100..155).contains(&delay(&mut n, 0, 1)));
        assert!((100..155).contains(&delay(&mut n, 1, 0)));
        assert!(delay(&mut n, 0, 2) < 5);
        let fault = Fault::Bufferbloat {
            hosts: [3].into(),
            queue_ms: 1_000,
        };
        n.apply(at_ms(0), &fault);
        assert!((500..1_005).contains(&delay(&mut n, 2, 3)));
        assert!((500..1_005).contains(&delay(&mut n, 3, 2)));
        assert_eq!(n.next_change(), Some(at_ms(20_000)));
        let now = at_ms(20_000);
        assert!(
            arrival(&mut n, now, 0, 1) < now.plus_ms(5),
            "ended, even unasked"
        );
    }
}

#[test]
fn faults_for_a_time_end_by_themselves_and_others_stand() {
    let everyone = || Scope::All;
    let faults = [
        Fault::Isolate { hosts: everyone() },
        Fault::Partition {
            groups: vec![[0].into()],
        },
        Fault::Ring { hosts: everyone() },
        Fault::UdpBlocked { hosts: everyone() },
        Fault::CaptivePortal { hosts: [0].into() },
        Fault::Cut {
            pairs: vec![(0, 2)],
        },
        Fault::OneWay {
            from: [0].into(),
            to: everyone(),
        },
    ];
    for fault in faults {
        let mut n = lan(5);
        n.apply(at_ms(0), &fault.clone().lasting(70));
        n.apply(at_ms(10), &fault.clone().lasting(20));
        assert!(!n.is_open(at_ms(50), 0, 2), "{fault:?}");
        assert_eq!(n.next_change(), Some(at_ms(30)));
        n.tick(at_ms(30));
        assert_eq!(n.next_change(), Some(at_ms(70)));
        assert!(!n.is_open(Mono(at_ms(70).0 - 1), 0, 2) && n.is_open(at_ms(70), 0, 2));
        n.tick(at_ms(70));
        assert_eq!((n.next_change(), n.rules.len()), (None, 0));
        n.apply(at_ms(80), &fault);
        assert!(!n.is_open(at_ms(1_000_000_000), 0, 2) && n.next_change().is_none());
    }
}

#[test]
fn a_core_is_healed_and_the_rest_is_not() {
    let mut n = lan(4);
    n.apply(at_ms(0), &Fault::Isolate { hosts: Scope::All });
    n.apply(
        at_ms(0),
        &Fault::Heal {
            hosts: [0, 1].into(),
        },
    );
    assert_eq!(map(&n, at_ms(0)), ["11..", "11..", "..1.", "...1"]);
    n.apply(
        at_ms(0),
        &Fault::Heal {
            hosts: [2, 3].into(),
        },
    );
    assert_eq!(map(&n, at_ms(0)), ["11..", "11..", "..11", "..11"]);
    n.apply(
        at_ms(0),
        &Fault::Cut {
            pairs: vec![(0, 1)],
        },
    );
    assert_eq!(map(&n, at_ms(0)), ["1...", ".1..", "..11", "..11"]);
    n.apply(at_ms(0), &Fault::heal_all());
    assert_eq!(map(&n, at_ms(0)), ["1111"; 4]);
}
