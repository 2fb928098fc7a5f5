//! What people say: bodies of statements, signed.

use bytes::Bytes;
use lab_agent_core::{Command, Prepared, Reply, ViewMask};
use lab_crdt_log::{
    Body, Confirm, Edit, Grant, Invite, Revoke, RevokeInvite, Rights, TokenKeys, WitnessRule,
};
use lab_crdt_model::token::{Seed, Ticket as Pasted, Token};
use lab_crdt_model::view::Role;
use lab_crdt_model::{AuthorId, Field, Label, Op, Path, StatementId, Value, Wall};

use super::cast::{Cast, LAPTOPS, Ticket};
use crate::plan::{Act, Action, Right, Witnesses};
use crate::seed;
use crate::world::World;

/// Edits of one statement; a larger edit is several statements, as the command line makes them.
const OPS: usize = 500;
/// Longer values are not said: a statement has to hold them.
const VALUE_BYTES: usize = 16_384;

const NO_LABEL: &str = "that is no label";
const NO_PATH: &str = "that is no path";
const NO_TOKEN: &str = "there is no such token";
const NO_MACHINE: &str = "there is no such machine";

/// A field before an edit.
#[derive(Debug)]
pub(super) struct Before {
    path: Path,
    value: Option<Value>,
}

fn id(bytes: &Bytes) -> StatementId {
    StatementId(*blake3::hash(&bytes[..bytes.len().saturating_sub(64)]).as_bytes())
}

impl Cast<'_> {
    /// Signs what an action says, on top of what a node knows.
    pub(super) fn sign(
        &mut self,
        world: &mut World,
        node: usize,
        who: u8,
        action: &Action,
        prepared: &Prepared,
    ) -> Result<Vec<Bytes>, &'static str> {
        let bodies = self.bodies(world, node, who, action)?;
        let wall = world.wall(node);
        if (LAPTOPS..LAPTOPS + 100).contains(&who)
            && let Some(join) = join_of(world, node, node)
        {
            self.actor(who).person.under = join;
        }
        let person = &self.actor(who).person;
        let mut prepared = prepared.clone();
        let mut statements = Vec::new();
        for body in bodies {
            let signed = person.sign(&prepared, wall, body);
            for bytes in &signed {
                prepared.hlc = prepared.hlc.next(wall);
                prepared.prev = id(bytes);
                prepared.seq += 1;
            }
            prepared.refs.clear();
            statements.extend(signed);
        }
        self.remember(world, node, action, statements.last());
        Ok(statements)
    }

    /// What follows for the plan from something said, whether it is accepted or not.
    fn remember(&mut self, world: &World, node: usize, action: &Action, said: Option<&Bytes>) {
        let Some(said) = said else {
            return;
        };
        match &action.what {
            Act::Grant { to, .. } => self.actor(*to).person.under = id(said),
            Act::Token {
                token,
                lease_ms,
                ends_ms,
                ..
            } => {
                let pasted = Pasted {
                    seed: secret(world, *token),
                    mesh: world.mesh(),
                    not_after_s: (world.wall(node).0.saturating_add(*ends_ms) / 1000) as u32,
                    addresses: vec![(world.id(node), world.address(node))],
                    invite: said.to_vec(),
                };
                let ticket = Ticket {
                    token: Token::Ticket(pasted),
                    invite: id(said),
                    is_laptop: *lease_ms > 0,
                };
                self.tickets.insert(*token, ticket);
            }
            _ => {}
        }
    }

    fn bodies(
        &mut self,
        world: &mut World,
        node: usize,
        who: u8,
        action: &Action,
    ) -> Result<Vec<Body>, &'static str> {
        let body = match &action.what {
            Act::Label { of, label, is_set } => {
                let label: Label = label.parse().map_err(|_why| NO_LABEL)?;
                let path = Path::label(&format!("n{of}"), &label);
                let edits = vec![(path, Some(Value::Bool(*is_set)))];
                return self.edit(world, node, who, &edits);
            }
            Act::Set { path, value } => {
                let path = path.parse().map_err(|_why| NO_PATH)?;
                return self.edit(world, node, who, &[(path, Some(value.clone()))]);
            }
            Act::Unset { path } => {
                let path = path.parse().map_err(|_why| NO_PATH)?;
                return self.edit(world, node, who, &[(path, None)]);
            }
            Act::File { on, path, text } => {
                let path =
                    Path::new(["on", on, "files", path, "template"]).map_err(|_why| NO_PATH)?;
                return self.edit(world, node, who, &[(path, Some(Value::text(text)))]);
            }
            Act::Bulk {
                prefix,
                count,
                value,
            } => {
                let edits: Result<Vec<_>, &'static str> = (0..(*count).min(4_096))
                    .map(|n| {
                        let path = format!("{prefix}{n}").parse().map_err(|_why| NO_PATH)?;
                        Ok((path, Some(value.clone())))
                    })
                    .collect();
                return self.edit(world, node, who, &edits?);
            }
            Act::Undo => {
                let before = self.actor(who).edits.pop();
                let before = before.ok_or("there is nothing to undo")?;
                self.body(who, &[(before.path, before.value)])
            }
            Act::Token { .. } => self.invite(world, node, action)?,
            Act::RevokeToken { token } => Body::RevokeInvite(RevokeInvite {
                invite: self.tickets.get(token).ok_or(NO_TOKEN)?.invite,
            }),
            Act::Confirm { of } => {
                let of = self.place(*of).ok_or(NO_MACHINE)?;
                let join = join_of(world, node, of).ok_or("the join is not known there")?;
                Body::Confirm(Confirm { join })
            }
            Act::Decommission { of } => {
                let key = AuthorId(world.id(self.place(*of).ok_or(NO_MACHINE)?).0);
                let head = newest(world, node, key)?;
                revocation(key, head)
            }
            Act::Grant {
                to,
                rights,
                scope,
                ends_ms,
            } => Body::Grant(Grant {
                subject: self.author(*to),
                name: format!("p{to}"),
                rights: rights
                    .iter()
                    .fold(Rights::default(), |all, one| all.and(right(*one))),
                scope: scope.clone(),
                not_after: ends_ms.map(|ms| Wall(world.wall(node).0.saturating_add(ms))),
            }),
            Act::RevokeOperator { of, is_cut } => {
                let key = self.author(*of);
                let head = if *is_cut {
                    None
                } else {
                    newest(world, node, key)?
                };
                revocation(key, head)
            }
            Act::Join { .. }
            | Act::Away
            | Act::Return
            | Act::Read(_)
            | Act::Repeat
            | Act::Garbage { .. }
            | Act::Adversary { .. } => return Err("that is no statement"),
        };
        Ok(vec![body])
    }

    fn edit(
        &mut self,
        world: &mut World,
        node: usize,
        who: u8,
        edits: &[(Path, Option<Value>)],
    ) -> Result<Vec<Body>, &'static str> {
        let is_long = |v: &Value| !v.is_within_limits() || v.to_string().len() > VALUE_BYTES;
        if edits.iter().any(|(_, v)| v.as_ref().is_some_and(is_long)) {
            return Err("the value is too long");
        }
        if let [(path, _)] = edits {
            let value = value_at(world, node, path);
            let path = path.clone();
            self.actor(who).edits.push(Before { path, value });
        }
        Ok(edits.chunks(OPS).map(|c| self.body(who, c)).collect())
    }

    fn body(&mut self, who: u8, edits: &[(Path, Option<Value>)]) -> Body {
        let owner = format!("person:{}", self.actor(who).person.name);
        let op = |(path, value): &(Path, Option<Value>)| match value.clone() {
            Some(value) => Op::Set {
                path: path.clone(),
                field: Field::new(value, owner.clone()),
            },
            None => Op::Unset { path: path.clone() },
        };
        Body::Edit(Edit {
            message: String::new(),
            ops: edits.iter().map(op).collect(),
        })
    }

    fn invite(&self, world: &World, node: usize, action: &Action) -> Result<Body, &'static str> {
        let Act::Token {
            token,
            lease_ms,
            uses,
            ends_ms,
            labels,
            witness,
            is_confirmed,
        } = &action.what
        else {
            return Err(NO_TOKEN);
        };
        let keys = TokenKeys::derive(&secret(world, *token));
        let is_laptop = *lease_ms > 0;
        let labels: Result<Vec<Label>, _> = labels.iter().map(|l| l.parse()).collect();
        let witness = match witness {
            Witnesses::Any => WitnessRule::Any,
            Witnesses::One(n) => WitnessRule::One(world.id(self.place(*n).ok_or(NO_MACHINE)?)),
        };
        // A token is made for a machine; which one, the plan knows.
        let joins = self.plan.actions.iter().find_map(|a| match a.what {
            Act::Join { token: used } if used == *token => Some(a.node),
            _ => None,
        });
        let (rights, scope) = if is_laptop {
            (Rights::ALL, vec![String::new()])
        } else {
            (Rights::default(), Vec::new())
        };
        Ok(Body::Invite(Invite {
            token_key: keys.public(),
            uses_max: (*uses).clamp(1, 100),
            not_after: Wall(world.wall(node).0.saturating_add(*ends_ms)),
            role: if is_laptop { Role::Laptop } else { Role::Node },
            name: joins.filter(|_| *uses == 1).map(|n| format!("n{n}")),
            labels: labels.map_err(|_why| NO_LABEL)?,
            rights,
            scope,
            lease_ms: *lease_ms,
            witness,
            confirm: *is_confirmed,
            mesh_mac: keys.mesh_mac(&world.mesh()),
            binding: None,
        }))
    }
}

fn secret(world: &World, token: u32) -> Seed {
    let random = seed::bytes(world.options().seed, "plan token", u64::from(token));
    Seed::Long(std::array::from_fn(|i| random[i]))
}

const fn right(right: Right) -> Rights {
    match right {
        Right::Labels => Rights::LABELS,
        Right::Config => Rights::CONFIG,
        Right::Invite => Rights::INVITE,
        Right::Confirm => Rights::CONFIRM,
    }
}

fn revocation(key: AuthorId, head: Option<StatementId>) -> Body {
    Body::Revoke(Revoke {
        key,
        head,
        reason: "plan".into(),
    })
}

/// The newest statement of a key that a node knows: what was said so far still counts.
fn newest(
    world: &mut World,
    node: usize,
    key: AuthorId,
) -> Result<Option<StatementId>, &'static str> {
    let command = world.send_command(node, Command::Prepare { author: key });
    match world.take_reply(command) {
        Some(Reply::Prepared(tail)) => Ok((tail.seq > 0).then_some(tail.prev)),
        _ => Err("the machine is busy"),
    }
}

/// The join of a machine, as a node knows it.
fn join_of(world: &mut World, node: usize, of: usize) -> Option<StatementId> {
    let id = world.id(of);
    let mask = ViewMask {
        roster: true,
        ..ViewMask::default()
    };
    let view = world.agent_view(node, mask)?;
    view.members.iter().find(|m| m.node == id).map(|m| m.join)
}

fn value_at(world: &mut World, node: usize, path: &Path) -> Option<Value> {
    let mask = ViewMask {
        fields: true,
        ..ViewMask::default()
    };
    let view = world.agent_view(node, mask)?;
    let field = view.fields.iter().find(|f| f.path == *path)?;
    Some(field.candidates.first()?.field.value.clone())
}
