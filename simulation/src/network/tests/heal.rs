//! Whatever went wrong: after the end of all faults every path is open that can be.

use proptest::prelude::*;

use super::*;

const HOSTS: usize = 8;

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::All),
        (0..HOSTS, 0..HOSTS).prop_map(|(first, count)| Scope::Span { first, count }),
        proptest::collection::btree_set(0..HOSTS, 0..HOSTS).prop_map(Scope::Only),
    ]
}

fn paths() -> impl Strategy<Value = Paths> {
    prop_oneof![
        scope().prop_map(Paths::Of),
        (scope(), scope()).prop_map(|(a, b)| Paths::Between(a, b)),
        (scope(), scope()).prop_map(|(a, b)| Paths::From(a, b)),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let bare = prop_oneof![
        proptest::collection::vec(scope(), 0..4).prop_map(|groups| Fault::Partition { groups }),
        (scope(), scope()).prop_map(|(from, to)| Fault::OneWay { from, to }),
        scope().prop_map(|hosts| Fault::Isolate { hosts }),
        (scope(), scope(), 0..HOSTS).prop_map(|(left, right, bridge)| Fault::Bridge {
            left,
            right,
            bridge
        }),
        scope().prop_map(|hosts| Fault::Ring { hosts }),
        proptest::collection::vec((0..HOSTS, 0..HOSTS), 0..5)
            .prop_map(|pairs| Fault::Cut { pairs }),
        (scope(), 0..2_000_u64, 0..2_000_u64).prop_map(|(hosts, down_ms, up_ms)| Fault::Flap {
            hosts,
            down_ms,
            up_ms
        }),
        (paths(), 0..=1000_u32, any::<u64>()).prop_map(|(paths, per_mille, seed)| Fault::Clog {
            paths,
            per_mille,
            seed
        }),
        (scope(), 0..=1000_u32, 0..500_u64, any::<u64>()).prop_map(
            |(hosts, per_mille, step_ms, seed)| Fault::Swizzle {
                hosts,
                per_mille,
                step_ms,
                seed
            }
        ),
        (paths(), 0..10_000_u64, 0..=1000_u32).prop_map(|(paths, bytes_per_s, loss_per_mille)| {
            Fault::Grey {
                paths,
                bytes_per_s,
                loss_per_mille,
            }
        }),
        (paths(), 0..2_000_u64, 0..2_000_u64).prop_map(|(paths, ms, jitter_ms)| {
            Fault::Latency {
                paths,
                ms,
                jitter_ms,
            }
        }),
        (paths(), 0..=1000_u32).prop_map(|(paths, per_mille)| Fault::Loss { paths, per_mille }),
        (scope(), 0..5_000_u64)
            .prop_map(|(hosts, queue_ms)| Fault::Bufferbloat { hosts, queue_ms }),
        scope().prop_map(|hosts| Fault::UdpBlocked { hosts }),
        scope().prop_map(|hosts| Fault::NatRebind { hosts }),
        proptest::collection::vec(0..3_usize, 0..3).prop_map(|relays| Fault::RelayDown { relays }),
        scope().prop_map(|hosts| Fault::CaptivePortal { hosts }),
        scope().prop_map(|hosts| Fault::Heal { hosts }),
    ];
    (bare, proptest::option::of(0..5_000_u64)).prop_map(|(fault, ms)| match ms {
        Some(ms) => fault.lasting(ms),
        None => fault,
    })
}

/// A step: wait so many milliseconds, then do something, then send and dial along one path.
type Step = (u64, Fault, usize, usize, u64);

fn step() -> impl Strategy<Value = Step> {
    (0..3_000_u64, fault(), 0..HOSTS, 0..HOSTS, 0..3_u64)
}

/// Runs the steps, as a world would; tells all that was answered.
fn run(network: &mut Network, steps: &[Step]) -> (Mono, Vec<String>) {
    let mut now = at_ms(0);
    let mut told = Vec::new();
    for (ms, fault, from, to, connection) in steps {
        let until = now.plus_ms(*ms);
        while let Some(at) = network.next_change().filter(|at| *at <= until) {
            assert!(at > now, "time goes on");
            now = at;
            network.tick(now);
        }
        now = until;
        let killed = network.apply(now, fault);
        let fate = network.send(now, *from, *to, *connection, 0, 500);
        if from != to {
            let is_carried = network.carries(now, *from, *to, *connection);
            assert!(is_carried || !matches!(fate, Fate::Arrives(_)), "{fate:?}");
            assert!(!is_carried || fate != Fate::Lost, "{fate:?}");
        }
        let dialled = network.dial(now, *from, *to);
        if connection % 3 == 2 {
            network.close(*from, *to, *connection);
        }
        told.push(format!("{killed:?} {fate:?} {dialled:?}"));
    }
    (now, told)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn after_the_end_of_all_faults_every_path_is_open(
        steps in proptest::collection::vec(step(), 0..25),
        is_mixed in any::<bool>(),
    ) {
        let profile = if is_mixed { Profile::Mixed } else { Profile::Lan };
        let mut n = network(Config::new(profile), HOSTS);
        let (now, _) = run(&mut n, &steps);
        n.apply(now, &Fault::heal_all());
        prop_assert_eq!(n.next_change(), None);
        let fresh = network(Config::new(profile), HOSTS);
        for from in 0..HOSTS {
            for to in 0..HOSTS {
                prop_assert!(n.is_open(now, from, to) && fresh.is_open(now, from, to));
                let answers = matches!(n.dial(now, from, to), Dialled::Answers { .. });
                prop_assert!(answers, "{} {}", from, to);
                let fate = n.send(now.plus_ms(10_000), from, to, 77, 0, 500);
                prop_assert!(matches!(fate, Fate::Arrives(_)), "{} {}: {:?}", from, to, fate);
            }
        }
    }

    #[test]
    fn the_same_steps_have_the_same_answers(
        steps in proptest::collection::vec(step(), 0..25),
    ) {
        let mut first = network(Config::new(Profile::Mixed), HOSTS);
        let mut second = network(Config::new(Profile::Mixed), HOSTS);
        prop_assert_eq!(run(&mut first, &steps), run(&mut second, &steps));
    }
}
