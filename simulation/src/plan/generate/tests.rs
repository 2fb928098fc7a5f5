//! Plans of many seeds.

use std::collections::BTreeMap;

use super::*;
use crate::plan::{Act, Trouble};

fn homelabs() -> impl Iterator<Item = Plan> {
    (0..300).map(|seed| generate(seed, Profile::Homelab))
}

#[test]
fn a_seed_gives_one_plan_and_every_plan_makes_sense() {
    for seed in 0..40 {
        for profile in [Profile::Homelab, Profile::Small] {
            let plan = generate(seed, profile);
            assert_eq!(plan, generate(seed, profile));
            assert_eq!(plan.check(), Ok(()), "seed {seed}");
            assert_eq!(Plan::read(&plan.write()).as_ref(), Ok(&plan));
        }
    }
    for profile in [Profile::Fleet, Profile::Region] {
        let plan = generate(1, profile);
        assert_eq!(Plan::read(&plan.write()), Ok(plan));
    }
}

#[test]
fn in_a_full_plan_everything_goes_wrong_on_real_disks() {
    for seed in 0..20 {
        let plan = generate_full(seed, Profile::Homelab, 10);
        assert_eq!(plan.check(), Ok(()), "seed {seed}");
        assert_eq!(plan.options.families, Family::ALL.into_iter().collect());
        assert_eq!((plan.options.nodes, plan.options.store), (10, Store::Real));
    }
}

#[test]
fn every_kind_of_action_and_fault_is_drawn_and_nothing_is_drawn_all_the_time() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = |text: String| {
        let word: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
        *kinds.entry(word).or_default() += 1;
    };
    let mut families: BTreeMap<Family, usize> = BTreeMap::new();
    for plan in homelabs() {
        for action in &plan.actions {
            count(format!("{:?}", action.what));
        }
        for family in &plan.options.families {
            *families.entry(*family).or_default() += 1;
        }
        for fault in &plan.faults {
            let in_chaos = plan.phases.chaos_at()..plan.phases.core_at();
            assert!(
                in_chaos.contains(&fault.at_ms)
                    || fault.plus_us > 0
                    || fault.at_ms < plan.phases.core_at() + 1_000
            );
        }
    }
    for word in [
        "Label",
        "Set",
        "Unset",
        "File",
        "Bulk",
        "Undo",
        "Token",
        "Join",
        "Confirm",
        "RevokeToken",
        "Decommission",
        "Grant",
        "RevokeOperator",
        "Away",
        "Return",
        "Read",
        "Repeat",
        "Garbage",
    ] {
        assert!(
            kinds.get(word).is_some_and(|n| *n >= 10),
            "{word}: {kinds:?}"
        );
    }
    for family in Family::ALL {
        let plans = families[&family];
        assert!(
            (60..240).contains(&plans),
            "{family:?} in {plans} of 300 plans"
        );
    }
}

#[test]
fn a_plan_keeps_a_copy_of_what_was_acknowledged_or_says_that_it_may_not() {
    let mut lossy = 0;
    for plan in homelabs() {
        let lies = plan
            .faults
            .iter()
            .any(|f| matches!(f.what, Trouble::Disk(_)));
        assert_eq!(plan.limits.is_loss_expected, loss_is_possible(&plan));
        assert!(lies || !plan.limits.is_loss_expected);
        lossy += usize::from(plan.limits.is_loss_expected);
    }
    assert!(
        (3..60).contains(&lossy),
        "{lossy} of 300 plans may lose something"
    );
}

#[test]
fn the_core_can_agree() {
    let mut plans = 0;
    for plan in homelabs() {
        let gone: Vec<usize> = plan
            .actions
            .iter()
            .filter_map(|a| match a.what {
                Act::Decommission { of } => Some(of),
                _ => None,
            })
            .collect();
        let core = &plan.phases.core;
        assert!(core.len() != 1 && core.len() <= 4);
        assert!(core.iter().all(|n| !gone.contains(n)), "{core:?} {gone:?}");
        plans += usize::from(!core.is_empty());
    }
    assert!(plans > 250, "{plans} of 300 plans have a core");
}

#[test]
fn dangerous_moments_come_with_what_makes_them_dangerous() {
    let mut hits = 0;
    for plan in homelabs().filter(|p| p.options.biases.contains(&Bias::PartitionAtEdit)) {
        hits += usize::from(plan.faults.iter().any(|f| {
            matches!(f.what, Trouble::Network(_))
                && plan
                    .actions
                    .iter()
                    .any(|a| a.is_statement() && (a.at_ms..a.at_ms + 6).contains(&f.at_ms))
        }));
    }
    assert!(hits > 20, "{hits}");
}

#[test]
fn what_hardly_comes_by_chance_comes_in_a_few_plans() {
    let mut hits: BTreeMap<&str, usize> = BTreeMap::new();
    for plan in homelabs() {
        let text = plan.write();
        for word in ["narrow", "twice-cut", "feast1-", "ShutDown"] {
            *hits.entry(word).or_default() += usize::from(text.contains(word));
        }
        let last = plan.phases.core_at();
        assert!(plan.actions.iter().all(|a| a.at_ms < last + 5_000));
    }
    assert_eq!(hits.len(), 4);
    assert!(
        hits.values().all(|n| (5..100).contains(n)),
        "plans of 300: {hits:?}"
    );
}
