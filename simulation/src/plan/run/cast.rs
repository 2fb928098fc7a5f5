//! Who takes part in a run, and what they wait for.

use std::collections::BTreeMap;

use bytes::Bytes;
use lab_agent_core::{Command, CommandId, Prepared, Reply, ViewMask};
use lab_crdt_model::token::Token;
use lab_crdt_model::{AuthorId, Caller, Mono, StatementId, sometimes};

use crate::person::Person;
use crate::plan::judge::Answer;
use crate::plan::{Act, Action, Plan};
use crate::world::World;

/// The number of the first operator's key.
const OPERATORS: u8 = 10;
/// From this number on people sit at laptops: `100 + n` at the one with number `n`.
pub(super) const LAPTOPS: u8 = 100;
/// An answer that did not come within this time never does, milliseconds.
const ANSWER_MS: u64 = 10_000;
/// An honest person who does not know what became of their last word says the next one elsewhere anyway, but only
/// this often: the branches of a chain that a mesh keeps are few.
const FORKS_MAX: u8 = 2;

/// A person and what they remember.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) person: Person,
    /// The number of the next statement, as far as they know.
    pub(super) next: u64,
    /// The same before what they said last.
    before: u64,
    /// Whether they do not know what became of their last word.
    is_unsure: bool,
    forks: u8,
    waits: Option<Wait>,
    /// What they handed in last.
    pub(super) said: Vec<Bytes>,
    /// What they edited, and what was there before.
    pub(super) edits: Vec<super::speak::Before>,
}

#[derive(Debug)]
struct Wait {
    command: CommandId,
    action: usize,
    node: usize,
    life: u32,
    until: Mono,
    is_preparing: bool,
}

/// A token of the plan.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) token: Token,
    pub(super) invite: StatementId,
    pub(super) is_laptop: bool,
}

#[derive(Debug)]
pub(super) struct Cast<'a> {
    pub(super) plan: &'a Plan,
    actors: BTreeMap<u8, Actor>,
    pub(super) tickets: BTreeMap<u32, Ticket>,
    /// Where a node of the plan is in the world.
    places: BTreeMap<usize, usize>,
    /// Reads under way: they keep nobody from doing something else.
    reads: Vec<Wait>,
    under: StatementId,
}

impl<'a> Cast<'a> {
    pub(super) fn new(plan: &'a Plan, world: &World) -> Self {
        let mut cast = Self {
            plan,
            actors: BTreeMap::new(),
            tickets: BTreeMap::new(),
            places: (0..world.len()).map(|n| (n, n)).collect(),
            reads: Vec::new(),
            under: world.admin.under,
        };
        cast.actor(0).person = world.admin.clone();
        cast
    }

    /// Where a node of the plan is in the world.
    pub(super) fn place(&self, node: usize) -> Option<usize> {
        self.places.get(&node).copied()
    }

    pub(super) fn actor(&mut self, who: u8) -> &mut Actor {
        let under = self.under;
        self.actors.entry(who).or_insert_with(|| Actor {
            person: Person::new(OPERATORS.wrapping_add(who), under, &format!("p{who}")),
            next: 0,
            before: 0,
            is_unsure: false,
            forks: 0,
            waits: None,
            said: Vec::new(),
            edits: Vec::new(),
        })
    }

    pub(super) fn author(&mut self, who: u8) -> AuthorId {
        self.actor(who).person.author()
    }

    /// Whether anybody waits for an answer.
    pub(super) fn is_waiting(&self) -> bool {
        !self.reads.is_empty() || self.actors.values().any(|a| a.waits.is_some())
    }

    /// Whether who acts still waits for the answer to what they said before.
    pub(super) fn is_busy(&self, action: &Action) -> bool {
        let is_asking = action.is_statement() || matches!(action.what, Act::Garbage { .. });
        let actor = self.actors.get(&action.who);
        is_asking && actor.is_some_and(|a| a.waits.is_some())
    }

    /// Someone does something; `None` when the answer is still to come.
    pub(super) fn act(&mut self, world: &mut World, index: usize) -> Option<Answer> {
        let plan = self.plan;
        let action = &plan.actions[index];
        if let Act::Join { token } = action.what {
            return Some(self.join(world, action.node, token));
        }
        let Some(node) = self.place(action.node) else {
            return Some(Answer::Left("there is no such machine"));
        };
        match &action.what {
            Act::Away => {
                world.kill(node);
                return Some(Answer::Done);
            }
            Act::Return => {
                world.start(node);
                return Some(Answer::Done);
            }
            _ if !world.is_up(node) => return Some(Answer::Left("the machine is off")),
            Act::Read(lens) => {
                let mask = ViewMask {
                    roster: lens.roster,
                    fields: lens.fields,
                    reports: lens.reports,
                    history_count: lens.history,
                    chains: false,
                };
                let command = world.send_command(node, Command::View(mask));
                self.reads
                    .push(Wait::new(world, command, index, node, false));
            }
            Act::Garbage { bytes } => {
                let statements = vec![Bytes::from(vec![0x5a; *bytes as usize])];
                let command = world.send_command(
                    node,
                    Command::Submit {
                        caller: Caller::Local { uid: 0 },
                        statements,
                    },
                );
                let wait = Wait::new(world, command, index, node, false);
                self.actor(action.who).waits = Some(wait);
            }
            _ => {
                let author = self.author(action.who);
                let command = world.send_command(node, Command::Prepare { author });
                let wait = Wait::new(world, command, index, node, true);
                self.actor(action.who).waits = Some(wait);
            }
        }
        None
    }

    /// The answers that are there by now, by number of the action.
    pub(super) fn answers(&mut self, world: &mut World) -> Vec<(usize, Answer)> {
        let mut out = Vec::new();
        self.reads.retain(|wait| {
            let reply = wait.answer(world);
            if let Some(reply) = &reply {
                out.push((wait.action, outcome(reply.as_ref())));
            }
            reply.is_none()
        });
        let everyone: Vec<u8> = self.actors.keys().copied().collect();
        for who in everyone {
            while let Some(wait) = self.actor(who).waits.take() {
                let Some(reply) = wait.answer(world) else {
                    self.actor(who).waits = Some(wait);
                    break;
                };
                if let Some(Reply::Prepared(prepared)) = &reply {
                    match self.speak(world, &wait, who, prepared) {
                        Ok(next) => self.actor(who).waits = Some(next),
                        Err(why) => out.push((wait.action, Answer::Left(why))),
                    }
                    continue;
                }
                let answer = outcome(reply.as_ref());
                let is_said = self.plan.actions[wait.action].is_statement();
                if is_said && !wait.is_preparing {
                    self.actor(who).heard(&answer);
                }
                out.push((wait.action, answer));
            }
        }
        out
    }

    /// Signs and hands in what an action says.
    fn speak(
        &mut self,
        world: &mut World,
        wait: &Wait,
        who: u8,
        prepared: &Prepared,
    ) -> Result<Wait, &'static str> {
        let plan = self.plan;
        let action = &plan.actions[wait.action];
        let actor = self.actor(who);
        let is_behind = prepared.seq < actor.next;
        if is_behind && !(actor.is_unsure && actor.forks < FORKS_MAX) {
            return Err("the machine has not heard what they said last");
        }
        let statements = if action.what == Act::Repeat {
            if actor.said.is_empty() {
                return Err("there is nothing to repeat");
            }
            actor.said.clone()
        } else {
            let statements = self.sign(world, wait.node, who, action, prepared)?;
            sometimes!(is_behind, "a person who heard no answer speaks elsewhere");
            let actor = self.actor(who);
            actor.forks += u8::from(is_behind);
            actor.before = actor.next;
            actor.next = prepared.seq + statements.len() as u64;
            actor.said.clone_from(&statements);
            statements
        };
        let command = world.send_command(
            wait.node,
            Command::Submit {
                caller: Caller::Local { uid: 0 },
                statements,
            },
        );
        Ok(Wait::new(world, command, wait.action, wait.node, false))
    }

    fn join(&mut self, world: &mut World, node: usize, token: u32) -> Answer {
        let Some(ticket) = self.tickets.get(&token) else {
            return Answer::Left("there is no such token");
        };
        if self.places.contains_key(&node) {
            return Answer::Left("the machine is in use");
        }
        let (token, is_laptop) = (ticket.token.clone(), ticket.is_laptop);
        let owner = LAPTOPS + (node % 100) as u8;
        let operator = is_laptop.then(|| self.author(owner));
        let place = world.join(token, operator);
        self.places.insert(node, place);
        Answer::Done
    }
}

impl Wait {
    fn new(
        world: &World,
        command: CommandId,
        action: usize,
        node: usize,
        is_preparing: bool,
    ) -> Self {
        Self {
            command,
            action,
            node,
            life: world.life(node),
            until: world.now().plus_ms(ANSWER_MS),
            is_preparing,
        }
    }

    /// The reply, or that there will be none; `None` while it may still come.
    #[expect(clippy::option_option, reason = "not yet, never, or this")]
    fn answer(&self, world: &mut World) -> Option<Option<Reply>> {
        if let Some(reply) = world.take_reply(self.command) {
            return Some(Some(reply));
        }
        let is_over = world.now() >= self.until || world.life(self.node) != self.life;
        is_over.then_some(None)
    }
}

fn outcome(reply: Option<&Reply>) -> Answer {
    match reply {
        None => Answer::Unknown,
        Some(Reply::Refused { code, why }) => Answer::Refused {
            code,
            why: why.clone(),
        },
        Some(_) => Answer::Done,
    }
}

impl Actor {
    /// What they learn from an answer to what they said.
    fn heard(&mut self, answer: &Answer) {
        self.is_unsure = *answer == Answer::Unknown;
        if matches!(answer, Answer::Refused { .. }) {
            // Nothing was changed.
            self.next = self.before;
        }
    }
}
