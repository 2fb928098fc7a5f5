//! A home with seven machines, and a notebook in which everything that happens is written down.

mod look;

use lab_agent_core::Reply;
use lab_crdt_log::{Body, Edit, Invite, Rights, TokenKeys, WitnessRule};
use lab_crdt_model::token::{Seed, Ticket, Token};
use lab_crdt_model::view::{Liveness, Role};
use lab_crdt_model::{Field, Op, Value, Wall};

use super::{Claim, Line, Played, Scenario};
use crate::note::What;
use crate::timeline::{MarkKind, State, Timeline};
use crate::{Options, Person, StoreKind, World};

/// A single-board computer with an SD card and no clock of its own; on Wi-Fi.
pub(super) const PI: usize = 0;
/// The file server.
pub(super) const NAS: usize = 1;
/// A small computer.
pub(super) const MINI1: usize = 2;
/// Another one.
pub(super) const MINI2: usize = 3;
/// A virtual machine on one of them.
pub(super) const VM1: usize = 4;
/// Another one.
pub(super) const VM2: usize = 5;
/// A person's laptop, on Wi-Fi; not always there.
pub(super) const LAPTOP: usize = 6;

const NAMES: [&str; 7] = ["pi", "nas", "mini1", "mini2", "vm1", "vm2", "laptop"];
/// Time between two looks at how equal the replicas are, milliseconds.
const LOOK_MS: u64 = 500;

/// Seven machines, their people, and what was seen.
#[derive(Debug)]
pub struct Home {
    /// The machines.
    pub world: World,
    /// Who founded the mesh.
    pub ana: Person,
    names: Vec<String>,
    timeline: Timeline,
    story: Vec<Line>,
    claims: Vec<Claim>,
    edited_at_ms: Option<u64>,
    next_look_ms: u64,
    /// Fields whose change was confirmed, with the value.
    confirmed: Vec<(String, i64)>,
    /// Machines that are gone for good.
    gone: Vec<usize>,
}

impl Home {
    /// Seven machines that are members and agree.
    pub(super) fn new(seed: u64, title: &str) -> Self {
        let options = Options {
            store: StoreKind::Real,
            is_noted: true,
            ..Options::homelab(seed)
        };
        let world = World::found_with(options);
        let mut home = Self {
            ana: world.admin.clone(),
            world,
            names: vec![NAMES[0].to_owned()],
            timeline: Timeline::new(title),
            story: Vec::new(),
            claims: Vec::new(),
            edited_at_ms: None,
            next_look_ms: 0,
            confirmed: Vec::new(),
            gone: Vec::new(),
        };
        for name in &NAMES[1..] {
            let role = if *name == "laptop" {
                Role::Laptop
            } else {
                Role::Node
            };
            home.add(name, role, &[]);
        }
        let is_whole = |w: &mut World| (0..w.len()).all(|n| w.is_member(n)) && w.are_equal();
        assert!(
            home.wait_until(120_000, is_whole).is_some(),
            "the mesh did not form"
        );
        home.wait(30_000);
        home.tell("all seven machines are up and agree");
        home
    }

    /// A further machine joins with a token of its own; returns its number at once.
    pub(super) fn add(&mut self, name: &str, role: Role, labels: &[&str]) -> usize {
        let at = self.up().first().copied().unwrap_or(0);
        let token = match role {
            Role::Node => self.world.token(at, name, role, labels, WitnessRule::Any),
            Role::Laptop => self.laptop_token(at, name),
        };
        // A laptop comes with a key of the person who carries it.
        let carrier = Person::new(20, self.ana.under, "carrier");
        let operator = (role == Role::Laptop).then(|| carrier.author());
        self.arrive(name, |world| world.join(token, operator))
    }

    /// A token for a laptop, which stays a member for 90 days as those of the program do.
    fn laptop_token(&mut self, at: usize, name: &str) -> Token {
        let seed = Seed::Long([6; 16]);
        let keys = TokenKeys::derive(&seed);
        let mesh = self.world.mesh();
        let not_after = Wall(self.world.wall(at).0 + 3_600_000);
        let invite = Invite {
            token_key: keys.public(),
            uses_max: 1,
            not_after,
            role: Role::Laptop,
            name: Some(name.to_owned()),
            labels: vec![],
            rights: Rights::ALL,
            scope: vec![String::new()],
            lease_ms: 90 * 86_400_000,
            witness: WitnessRule::Any,
            confirm: false,
            mesh_mac: keys.mesh_mac(&mesh),
            binding: None,
        };
        let ana = self.ana.clone();
        let (_, statements) = ana.say_with(&mut self.world, at, Body::Invite(invite));
        Token::Ticket(Ticket {
            seed,
            mesh,
            not_after_s: (not_after.0 / 1_000) as u32,
            addresses: vec![(self.world.id(at), self.world.address(at))],
            invite: statements.last().map(|b| b.to_vec()).unwrap_or_default(),
        })
    }

    /// Notes a machine that `join` starts.
    pub(super) fn arrive(&mut self, name: &str, join: impl FnOnce(&mut World) -> usize) -> usize {
        let node = join(&mut self.world);
        self.names.push(name.to_owned());
        let now = self.now();
        self.timeline.begin(0, node, State::Absent);
        self.timeline.end(now, node, State::Absent);
        self.timeline
            .mark(now, Some(node), MarkKind::Join, &format!("{name} joins"));
        node
    }

    /// Virtual milliseconds since the world began.
    pub(super) fn now(&self) -> u64 {
        self.world.now_ms()
    }

    /// A machine's name.
    pub(super) fn name(&self, node: usize) -> &str {
        self.names.get(node).map_or("?", String::as_str)
    }

    /// Machines that are up.
    pub(super) fn up(&self) -> Vec<usize> {
        (0..self.world.len())
            .filter(|n| self.world.is_up(*n))
            .collect()
    }

    /// Everyone but some.
    pub(super) fn all_but(&self, out: &[usize]) -> Vec<usize> {
        (0..self.world.len())
            .filter(|n| !out.contains(n) && !self.gone.contains(n))
            .collect()
    }

    /// Writes a line of the story.
    pub(super) fn tell(&mut self, text: &str) {
        let at_ms = self.now();
        self.story.push(Line {
            at_ms,
            text: text.to_owned(),
        });
        self.timeline.see(at_ms);
    }

    /// Writes a line of the story that goes into the picture as well.
    pub(super) fn fault(&mut self, node: Option<usize>, text: &str) {
        self.tell(text);
        let now = self.now();
        self.timeline.mark(now, node, MarkKind::Fault, text);
    }

    /// Writes something into the picture only.
    pub(super) fn mark(&mut self, node: usize, text: &str) {
        let now = self.now();
        self.timeline.mark(now, Some(node), MarkKind::Fault, text);
    }

    /// Part of the answer: `yes` if it is true, else `no`.
    pub(super) fn claim(&mut self, is_true: bool, yes: impl Into<String>, no: impl Into<String>) {
        let text = if is_true { yes.into() } else { no.into() };
        self.claims.push(Claim { is_true, text });
    }

    /// Begins or ends a state of some machines in the picture.
    pub(super) fn set_state(&mut self, nodes: &[usize], state: State, is_on: bool) {
        let now = self.now();
        for node in nodes {
            if is_on {
                self.timeline.begin(now, *node, state);
            } else {
                self.timeline.end(now, *node, state);
            }
        }
    }

    /// The power of a machine goes away.
    pub(super) fn kill(&mut self, node: usize) {
        self.world.kill(node);
        self.set_state(&[node], State::Down, true);
    }

    /// A machine that will never be back.
    pub(super) fn lose(&mut self, node: usize) {
        self.kill(node);
        self.gone.push(node);
    }

    /// A machine starts.
    pub(super) fn start(&mut self, node: usize) {
        self.world.start(node);
        self.set_state(&[node], State::Down, false);
    }

    /// Some machines and the others cannot reach each other.
    pub(super) fn cut(&mut self, some: &[usize]) {
        let others = self.all_but(some);
        self.world.partition(some, &others);
        self.set_state(some, State::Cut, true);
    }

    /// All machines reach each other.
    pub(super) fn mend(&mut self) {
        self.world.heal();
        let all: Vec<usize> = (0..self.world.len()).collect();
        self.set_state(&all, State::Cut, false);
    }

    /// Someone sets a field at a machine; true if the machine confirmed it.
    pub(super) fn set(&mut self, who: &Person, node: usize, path: &str, value: i64) -> bool {
        let reply = self.say(who, node, path, value);
        let is_done = matches!(reply, Reply::Submitted { .. });
        if is_done {
            self.confirmed.push((path.to_owned(), value));
        }
        is_done
    }

    /// The same, with the answer; not counted as something that must last.
    pub(super) fn say(&mut self, who: &Person, node: usize, path: &str, value: i64) -> Reply {
        let op = Op::Set {
            path: path.parse().expect("a path"),
            field: Field::new(Value::Int(value), format!("person:{}", who.name)),
        };
        let body = Body::Edit(Edit {
            message: format!("set {path}"),
            ops: vec![op],
        });
        self.sign(
            who,
            node,
            body,
            &format!("{} sets {}", who.name, last_part(path)),
            MarkKind::Edit,
        )
    }

    /// Someone says something at a machine.
    pub(super) fn sign(
        &mut self,
        who: &Person,
        node: usize,
        body: Body,
        what: &str,
        kind: MarkKind,
    ) -> Reply {
        let reply = who.say(&mut self.world, node, body);
        let now = self.now();
        if matches!(reply, Reply::Submitted { .. }) {
            self.timeline.mark(now, Some(node), kind, what);
            self.edited_at_ms.get_or_insert(now);
        } else {
            let text = format!("refused: {what}");
            self.timeline.mark(now, Some(node), MarkKind::Note, &text);
        }
        self.look();
        reply
    }

    /// Time passes.
    pub(super) fn wait(&mut self, ms: u64) {
        let _never = self.wait_until(ms, |_| false);
    }

    /// Time passes until something is true, at most `ms` milliseconds; how long it took.
    pub(super) fn wait_until(
        &mut self,
        ms: u64,
        mut done: impl FnMut(&mut World) -> bool,
    ) -> Option<u64> {
        let start = self.now();
        let end = start + ms;
        loop {
            let next = self
                .next_look_ms
                .clamp(self.now() + 1, end.max(self.now() + 1));
            let is_done = self.world.run_until(next - self.now(), &mut done);
            if self.now() >= self.next_look_ms {
                self.look();
                let _unread = self.world.take_notes();
                self.next_look_ms = self.now() + LOOK_MS;
            }
            if is_done {
                return Some(self.now() - start);
            }
            if self.now() >= end {
                return None;
            }
        }
    }

    /// Waits until all machines that are up are equal, at most `ms` milliseconds; how long it took.
    pub(super) fn wait_equal(&mut self, ms: u64) -> Option<u64> {
        let took = self.wait_until(ms, |w| w.are_equal());
        self.look();
        took
    }

    /// Waits until some machines are equal to all others that are up and taken for alive by them.
    pub(super) fn wait_back(&mut self, nodes: &[usize], ms: u64) -> Option<u64> {
        let up = self.up();
        let took = self.wait_until(ms, |w| {
            w.are_equal()
                && up.iter().all(|a| {
                    let is_heard = |b: &usize| a == b || w.opinion(*a, *b) == Some(Liveness::Alive);
                    nodes.iter().all(is_heard)
                })
        });
        self.look();
        took
    }

    /// Someone sets a field; how long it took from the moment it was handed in until all machines that are up hold it.
    pub(super) fn spread(
        &mut self,
        who: &Person,
        node: usize,
        path: &str,
        value: i64,
    ) -> Option<u64> {
        let start = self.now();
        let is_done = self.set(who, node, path, value);
        let took = self.wait_equal(60_000);
        took.filter(|_| is_done).map(|_| self.now() - start)
    }

    /// Quiet time in which nothing is simulated: all machines are asleep, only the calendar moves.
    pub(super) fn skip(&mut self, ms: u64) {
        let awake = self.up();
        for node in &awake {
            self.world.kill(*node);
        }
        self.world.run_for(ms);
        for node in &awake {
            self.world.start(*node);
        }
        self.next_look_ms = self.now();
        self.wait(60_000.min(ms));
    }

    /// A machine starts.
    ///
    /// # Errors
    /// Why its agent did not, in its own words: its disk holds nothing that can be used.
    pub(super) fn try_start(&mut self, node: usize) -> Result<(), String> {
        let _earlier = self.world.take_notes();
        self.start(node);
        if self.world.is_up(node) {
            return Ok(());
        }
        self.set_state(&[node], State::Down, true);
        let notes = self.world.take_notes();
        let why = notes.into_iter().find_map(|note| match note.what {
            What::NotStarted { why } if note.node == node => Some(why),
            _ => None,
        });
        Err(why.unwrap_or_default())
    }

    /// The end of the play.
    pub(super) fn close(mut self, scenario: &Scenario, seed: u64) -> Played {
        self.timeline.names = self.names;
        let digest = self.world.trace_hash();
        Played {
            name: scenario.name,
            question: scenario.question,
            plot: scenario.plot,
            seed,
            story: self.story,
            claims: self.claims,
            advice: scenario.advice,
            digest: digest[..8].iter().map(|b| format!("{b:02x}")).collect(),
            node_ms: self.world.now_ms() * self.world.len() as u64,
            timeline: self.timeline,
        }
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `a`, `b` and `c`.
pub(super) fn listed(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
