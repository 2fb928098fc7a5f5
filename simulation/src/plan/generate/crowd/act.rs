//! One action of the crowd at a time.

use lab_crdt_model::Value;

use super::super::Choose;
use super::{Crowd, LABELS, Ticket};
use crate::plan::{Act, Lens, Witnesses};

impl Crowd<'_> {
    /// Whoever feels like it does something.
    pub(super) fn act(&mut self, at: u64) {
        match self.dice.below(100) {
            0..=19 => self.label(at),
            20..=26 => self.group(at),
            27..=30 => self.profile(at),
            31..=43 => self.declare(at),
            44..=50 => self.file(at),
            51..=53 => self.bulk(at),
            54..=57 => self.say(at, Act::Undo),
            58..=65 => self.both(at),
            66..=69 => self.token(at, false),
            70..=74 => self.join(at),
            75 => self.revoke_token(at),
            76..=78 => self.token(at, true),
            79..=82 => self.travel(at),
            83 => self.decommission(at),
            84..=85 => self.grant(at, true),
            86 => self.revoke_operator(at),
            87..=94 => self.read(at),
            95..=96 => self.say(at, Act::Repeat),
            97 => {
                let bytes = self.dice.range(0..300) as u32;
                self.say(at, Act::Garbage { bytes });
            }
            _ => self.nonsense(at),
        }
    }

    fn group(&mut self, at: u64) {
        let name = *self
            .dice
            .choose(&["front", "back", "all-but-one", "nested"]);
        let (field, value) = match self.dice.below(5) {
            0 => {
                let of = self.subject();
                (format!("members/n{of}"), Value::Bool(true))
            }
            1 => ("exclude".to_owned(), Value::text("canary")),
            2 => ("params/size".to_owned(), self.value()),
            3 => ("include".to_owned(), Value::text("group:front or gpu")),
            _ => {
                let label = *self.dice.choose(&LABELS);
                ("include".to_owned(), Value::text(label))
            }
        };
        let path = format!("group/{name}/{field}");
        self.paths.push(path.clone());
        self.say(at, Act::Set { path, value });
    }

    fn profile(&mut self, at: u64) {
        let name = *self.dice.choose(&["small", "large"]);
        let field = *self.dice.choose(&["cpus", "memory", "disk"]);
        let value = Value::Int(1 << self.dice.below(10));
        let path = format!("profile/{name}/{field}");
        self.say(at, Act::Set { path, value });
    }

    fn anchor(&mut self) -> &'static str {
        if self.dice.chance(300) {
            return "all";
        }
        let label: &&str = self.dice.choose(&LABELS);
        label
    }

    fn declare(&mut self, at: u64) {
        if self.dice.chance(150) && !self.paths.is_empty() {
            let path = self.dice.choose(&self.paths).clone();
            return self.say(at, Act::Unset { path });
        }
        let anchor = self.anchor();
        let number = self.dice.below(8);
        let (tail, value) = match self.dice.below(6) {
            0 => (format!("classes/c{number}"), Value::Bool(true)),
            1 => (format!("packages/p{number}"), Value::Bool(true)),
            2 => (format!("vars/v{number}"), self.value()),
            3 => (format!("alerts/a{number}/for"), Value::text("5m")),
            4 => (format!("dns/d{number}/ttl"), Value::Int(300)),
            _ => (format!("params/k{number}"), self.value()),
        };
        let path = format!("on/{anchor}/{tail}");
        self.paths.push(path.clone());
        self.say(at, Act::Set { path, value });
    }

    fn file(&mut self, at: u64) {
        let on = self.anchor().to_owned();
        let path = format!("/etc/lab/f{}", self.dice.below(5));
        self.next_value += 1;
        let text = format!("{} of {{node.name}}\n", self.next_value);
        self.say(at, Act::File { on, path, text });
    }

    fn bulk(&mut self, at: u64) {
        let count = if self.dice.chance(100) {
            1_000
        } else {
            self.dice.range(5..200)
        };
        let prefix = format!("on/all/params/b{}-", self.dice.below(3));
        let value = self.value();
        let count = count as u32;
        self.say(
            at,
            Act::Bulk {
                prefix,
                count,
                value,
            },
        );
    }

    /// Two people edit one field at two nodes before either can have heard of the other.
    fn both(&mut self, at: u64) {
        let path = format!("on/all/params/both{}", self.dice.below(3));
        for _ in 0..2 {
            let when = at + self.dice.below(20);
            let (path, value) = (path.clone(), self.value());
            self.say(when, Act::Set { path, value });
        }
    }

    fn token(&mut self, at: u64, is_laptop: bool) {
        let token = self.next_token;
        self.next_token += 1;
        let ends_ms = match self.dice.below(4) {
            0 => self.dice.range(500..10_000),
            1 => self.dice.range(10_000..60_000),
            _ => 3_600_000,
        };
        let witness = if self.dice.chance(150) {
            Witnesses::One(self.place(at))
        } else {
            Witnesses::Any
        };
        let labels = if self.dice.chance(500) {
            vec![(*self.dice.choose(&LABELS)).to_owned()]
        } else {
            vec![]
        };
        let lease_ms = match (is_laptop, self.dice.chance(500)) {
            (false, _) => 0,
            (true, false) => 86_400_000,
            // Ends while the plan runs.
            (true, true) => self.dice.range(20_000..120_000),
        };
        let is_confirmed = self.dice.chance(100);
        let uses = if self.dice.chance(100) { 3 } else { 1 };
        self.say(
            at,
            Act::Token {
                token,
                lease_ms,
                uses,
                ends_ms,
                labels,
                witness,
                is_confirmed,
            },
        );
        self.tickets.push(Ticket {
            token,
            ends_at: at + ends_ms,
            is_used: false,
            is_laptop,
        });
        // Some are used at once, some just around their end, others later.
        let joined = match self.dice.below(3) {
            0 => {
                let when = at + self.dice.range(50..2_000);
                self.use_token(when, self.tickets.len() - 1)
            }
            1 if ends_ms < 60_000 => {
                let when = at + ends_ms + self.dice.below(4) - 2;
                self.use_token(when, self.tickets.len() - 1)
            }
            _ => None,
        };
        if let Some(of) = joined.filter(|_| is_confirmed) {
            let when = at + 5_000;
            self.say(when, Act::Confirm { of });
        }
    }

    fn use_token(&mut self, at: u64, ticket: usize) -> Option<usize> {
        if self.next_node >= self.plan.options.nodes + 12 {
            return None;
        }
        let ticket = &mut self.tickets[ticket];
        let (token, is_laptop) = (ticket.token, ticket.is_laptop);
        let is_good = !ticket.is_used && at < ticket.ends_at;
        ticket.is_used = true;
        let node = self.next_node;
        self.next_node += 1;
        self.push(at, 0, node, Act::Join { token });
        if is_good && is_laptop {
            self.laptops.insert(node);
        } else if is_good {
            self.members.insert(node);
        }
        Some(node)
    }

    /// A new machine joins, now and then with a token that is used or over.
    fn join(&mut self, at: u64) {
        let is_careless = self.dice.chance(300);
        let able: Vec<usize> = (0..self.tickets.len())
            .filter(|t| is_careless || (!self.tickets[*t].is_used && at < self.tickets[*t].ends_at))
            .collect();
        if able.is_empty() {
            return self.token(at, false);
        }
        let ticket = *self.dice.choose(&able);
        self.use_token(at, ticket);
    }

    fn revoke_token(&mut self, at: u64) {
        if self.tickets.is_empty() {
            return;
        }
        let token = self.dice.choose(&self.tickets).token;
        self.say(at, Act::RevokeToken { token });
    }

    /// A laptop goes or comes.
    fn travel(&mut self, at: u64) {
        let all: Vec<usize> = self.laptops.iter().copied().collect();
        if all.is_empty() {
            return self.token(at, true);
        }
        let node = *self.dice.choose(&all);
        let what = if self.away.remove(&node) {
            Act::Return
        } else {
            self.away.insert(node);
            Act::Away
        };
        self.push(at, 0, node, what);
    }

    fn decommission(&mut self, at: u64) {
        let most = self.plan.options.nodes / 5;
        let able: Vec<usize> = self.members.iter().copied().filter(|n| *n != 0).collect();
        if self.decommissioned.len() >= most || able.len() < 3 {
            return;
        }
        let of = *self.dice.choose(&able);
        self.members.remove(&of);
        self.decommissioned.insert(of);
        self.order(at, Act::Decommission { of });
    }

    fn revoke_operator(&mut self, at: u64) {
        // One operator with all rights stays, so that there is always someone besides the admin.
        let Some(last) = self.operators.len().checked_sub(1).filter(|n| *n > 0) else {
            return;
        };
        let victim = self.dice.range(1..last as u64 + 1) as usize;
        let of = self.operators.remove(victim).who;
        self.revoked.push(of);
        let is_cut = self.dice.chance(400);
        self.order(at, Act::RevokeOperator { of, is_cut });
        // They do not know yet, and go on.
        let (path, value) = (format!("on/all/params/late{of}"), self.value());
        let (when, node) = (at + self.dice.below(2_000), self.place(at));
        self.push(when, of, node, Act::Set { path, value });
    }

    fn read(&mut self, at: u64) {
        let bits = self.dice.below(16);
        let lens = Lens {
            roster: bits & 1 > 0,
            fields: bits & 2 > 0,
            reports: bits & 4 > 0,
            history: if bits & 8 > 0 {
                self.dice.range(1..200) as u32
            } else {
                0
            },
        };
        self.say(at, Act::Read(lens));
    }

    fn nonsense(&mut self, at: u64) {
        let path = |text: &str| text.to_owned();
        let what = match self.dice.below(6) {
            0 => Act::Set {
                path: path("nowhere/at/all"),
                value: Value::Null,
            },
            1 => Act::Set {
                path: path("group/nested/include"),
                value: Value::text("group:nested"),
            },
            2 => Act::Label {
                of: self.next_node + 90,
                label: "role=ghost".to_owned(),
                is_set: true,
            },
            3 => Act::Set {
                path: path("on/role=web/params/long"),
                value: Value::text("x".repeat(2_000)),
            },
            4 => Act::Unset {
                path: path("on/all/params/never"),
            },
            // A person whom nobody granted anything.
            _ => {
                let node = self.place(at);
                let value = self.value();
                let what = Act::Set {
                    path: path("on/all/params/stranger"),
                    value,
                };
                return self.push(at, 99, node, what);
            }
        };
        self.say(at, what);
    }
}
