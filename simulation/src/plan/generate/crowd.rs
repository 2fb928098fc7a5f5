//! A crowd of people and machines that act, most of the time, as if they knew what they do.
//!
//! Stateful: it knows which labels are set, which tokens are open, who may do what and which nodes run, so that most
//! actions are accepted. A share of them is nonsense on purpose: acting at dead nodes, with ended tokens, after a
//! revocation, on fields that nobody declared.

mod act;

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::Value;

use super::Choose;
use crate::plan::{Act, Action, Plan, Right, Trouble};
use crate::seed::Rng;

pub(super) const LABELS: [&str; 10] = [
    "role=web",
    "role=db",
    "role=storage",
    "role=router",
    "canary",
    "site=cellar",
    "site=attic",
    "arch=arm64",
    "gpu",
    "backup=daily",
];
const OPERATORS_MAX: u8 = 6;

/// What the crowd knows of a token.
#[derive(Clone, Debug)]
struct Ticket {
    token: u32,
    ends_at: u64,
    is_used: bool,
    is_laptop: bool,
}

/// What the crowd knows of a person.
#[derive(Clone, Debug)]
struct Operator {
    who: u8,
    is_narrow: bool,
    ends_at: Option<u64>,
}

pub(super) struct Crowd<'a> {
    dice: Rng,
    plan: &'a Plan,
    /// Where nobody speaks, so that no disk that forgets holds the only copy of anything.
    spared: &'a BTreeSet<usize>,
    out: Vec<Action>,
    /// Nodes that are up and members, as far as the crowd can know.
    members: BTreeSet<usize>,
    laptops: BTreeSet<usize>,
    /// Laptops that are away.
    away: BTreeSet<usize>,
    decommissioned: BTreeSet<usize>,
    labels: BTreeMap<usize, BTreeSet<&'static str>>,
    paths: Vec<String>,
    tickets: Vec<Ticket>,
    operators: Vec<Operator>,
    revoked: Vec<u8>,
    next_token: u32,
    next_node: usize,
    next_value: i64,
    next_operator: u8,
}

impl<'a> Crowd<'a> {
    pub(super) fn new(dice: Rng, plan: &'a Plan, spared: &'a BTreeSet<usize>) -> Self {
        let nodes = plan.options.nodes;
        Self {
            dice,
            plan,
            spared,
            out: Vec::new(),
            members: (0..nodes).collect(),
            laptops: BTreeSet::new(),
            away: BTreeSet::new(),
            decommissioned: BTreeSet::new(),
            labels: BTreeMap::new(),
            paths: Vec::new(),
            tickets: Vec::new(),
            operators: Vec::new(),
            revoked: Vec::new(),
            next_token: 0,
            next_node: nodes,
            next_value: 0,
            next_operator: 1,
        }
    }

    /// Everything that the crowd does, and which nodes are decommissioned by it.
    pub(super) fn play(mut self) -> (Vec<Action>, BTreeSet<usize>) {
        // Someone besides the admin has to be there before chaos begins.
        for at in [500, 900] {
            self.grant(at, false);
        }
        for at in [1_500, 1_600, 1_700] {
            self.label(at);
        }
        let (from, to) = (self.plan.phases.chaos_at(), self.plan.phases.core_at());
        let count = match self.plan.options.nodes {
            0..=10 => self.dice.range(20..90),
            11..=100 => self.dice.range(40..160),
            101..=2_000 => self.dice.range(100..300),
            _ => self.dice.range(100..400),
        };
        let mut moments: Vec<u64> = (0..count).map(|_| self.dice.range(from..to)).collect();
        // People come in bursts: a third of all actions follows another one closely.
        for at in 1..moments.len() {
            if self.dice.chance(333) {
                moments[at] = (moments[at - 1] + self.dice.below(50)).min(to - 1);
            }
        }
        moments.sort_unstable();
        for at in moments {
            self.act(at);
        }
        let to = self.plan.phases.core_at();
        self.out.retain(|a| a.at_ms < to);
        (self.out, self.decommissioned)
    }

    /// Nodes that do not run or cannot write at a moment.
    fn down(&self, at_ms: u64) -> BTreeSet<usize> {
        let at = at_ms * 1_000;
        let faults = self.plan.faults.iter().filter(|f| {
            matches!(f.what, Trouble::Process(_) | Trouble::Disk(_))
                && f.start() <= at
                && f.end().is_some_and(|end| at < end)
        });
        let nodes = faults.flat_map(|f| f.nodes.iter().copied());
        nodes.chain(self.away.iter().copied()).collect()
    }

    /// A node to speak at: up and a member, except now and then.
    fn place(&mut self, at: u64) -> usize {
        let is_careless = self.dice.chance(60);
        let down = if is_careless {
            BTreeSet::new()
        } else {
            self.down(at)
        };
        let able: Vec<usize> = self
            .members
            .iter()
            .copied()
            .filter(|n| !self.spared.contains(n) && !down.contains(n))
            .collect();
        if able.is_empty() {
            let open = (0..self.plan.options.nodes).find(|n| !self.spared.contains(n));
            return open.unwrap_or_default();
        }
        *self.dice.choose(&able)
    }

    /// Who speaks: the admin or an operator, now and then one who may not.
    fn speaker(&mut self, at: u64) -> u8 {
        if self.dice.chance(40) && !self.revoked.is_empty() {
            return *self.dice.choose(&self.revoked);
        }
        let able: Vec<u8> = self
            .operators
            .iter()
            .filter(|o| !o.is_narrow && o.ends_at.is_none_or(|end| at < end))
            .map(|o| o.who)
            .collect();
        if able.is_empty() || self.dice.chance(350) {
            0
        } else {
            *self.dice.choose(&able)
        }
    }

    fn say(&mut self, at: u64, what: Act) {
        let (who, node) = (self.speaker(at), self.place(at));
        self.push(at, who, node, what);
    }

    /// What only an admin may say.
    fn order(&mut self, at: u64, what: Act) {
        let who = if self.dice.chance(950) {
            0
        } else {
            self.speaker(at)
        };
        let node = self.place(at);
        self.push(at, who, node, what);
    }

    fn push(&mut self, at_ms: u64, who: u8, node: usize, what: Act) {
        self.out.push(Action {
            at_ms,
            who,
            node,
            what,
        });
    }

    /// A node that something is said about: a member, now and then one that never was.
    fn subject(&mut self) -> usize {
        if self.dice.chance(30) {
            return self.next_node + 7;
        }
        let all: Vec<usize> = self.members.iter().copied().collect();
        if all.is_empty() {
            0
        } else {
            *self.dice.choose(&all)
        }
    }

    fn value(&mut self) -> Value {
        self.next_value += 1;
        match self.dice.below(6) {
            0 => Value::Bool(self.dice.chance(500)),
            1 => Value::text(format!("v{}", self.next_value)),
            2 => Value::List(vec![Value::Int(self.next_value), Value::text("x")]),
            3 => Value::Decimal(format!("{}.5", self.next_value)),
            _ => Value::Int(self.next_value),
        }
    }

    fn grant(&mut self, at: u64, is_narrow: bool) {
        if self.next_operator > OPERATORS_MAX {
            return;
        }
        let to = self.next_operator;
        self.next_operator += 1;
        let ends_ms = (is_narrow && self.dice.chance(500)).then(|| self.dice.range(2_000..60_000));
        let what = if is_narrow {
            let scopes = ["on", "group", "label", "on/role=web"];
            Act::Grant {
                to,
                rights: vec![Right::Labels, Right::Config],
                scope: vec![(*self.dice.choose(&scopes)).to_owned()],
                ends_ms,
            }
        } else {
            Act::Grant {
                to,
                rights: vec![Right::Labels, Right::Config, Right::Invite, Right::Confirm],
                scope: vec![String::new()],
                ends_ms: None,
            }
        };
        let node = self.place(at);
        self.push(at, 0, node, what);
        self.operators.push(Operator {
            who: to,
            is_narrow,
            ends_at: ends_ms.map(|ms| at + ms),
        });
        if let Some(ms) = ends_ms {
            // Just before, at and just after its end.
            for edge in [at + ms - 1, at + ms, at + ms + 1] {
                let path = format!("on/role=web/params/edge{to}");
                let value = self.value();
                let node = self.place(edge);
                self.push(edge, to, node, Act::Set { path, value });
            }
        }
    }

    fn label(&mut self, at: u64) {
        let of = self.subject();
        let worn = self.labels.entry(of).or_default();
        let label = *self.dice.choose(&LABELS);
        // Taking away what is there, putting on what is not; now and then the other way round.
        let is_set = worn.contains(label) == self.dice.chance(50);
        if is_set {
            worn.insert(label);
        } else {
            worn.remove(label);
        }
        let label = label.to_owned();
        self.say(at, Act::Label { of, label, is_set });
    }
}
