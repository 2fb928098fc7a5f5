//! What somebody says next: mostly what fits, now and then anything.

use std::collections::BTreeSet;

use lab_crdt_log::{
    Admin, Admit, Annul, Body, Checkpoint, CoSign, Confirm, Edit, Grant, Invite, Join, Kind,
    Revoke, RevokeGrant, RevokeInvite, Rights, RootRecord, SignedRoot, Vouch, Witness, WitnessRule,
};
use lab_crdt_model::view::Role;
use lab_crdt_model::{Binding, Field, Hardware, Op, StatementId, Value, Wall};

use super::{
    History, INVITES, JOINS, LAPTOP_KEYS, LAPTOPS, NEW_ADMINS, NODES, OPERATORS, ROOTS, STRANGER,
    TOKENS, ascending, author, hardware, key, token,
};
use crate::reference::envelope;

impl History {
    /// A statement of these kinds, now and then any statement or one that nobody made.
    pub(super) fn some(&mut self, kinds: &[u8]) -> StatementId {
        let fitting = self.of_kind(kinds);
        match self.rng.below(30) {
            0 => StatementId([7; 32]),
            1 => self.said[self.rng.below(self.said.len())].id,
            _ => self.rng.maybe(&fitting).unwrap_or(StatementId([8; 32])),
        }
    }

    fn someone(&mut self) -> u8 {
        let all = [
            &self.admins[..],
            &OPERATORS,
            &NODES,
            &LAPTOPS,
            &LAPTOP_KEYS,
            &[STRANGER],
        ]
        .concat();
        self.rng.of(&all)
    }

    /// One of these, mostly one that anybody listens to.
    fn speaker(&mut self, of: &[u8]) -> u8 {
        let heard: Vec<u8> = of
            .iter()
            .filter(|n| self.standing.contains(n))
            .copied()
            .collect();
        if heard.is_empty() || self.rng.percent(4) {
            self.rng.of(of)
        } else {
            self.rng.of(&heard)
        }
    }

    /// The last of someone's statements that should count.
    fn head_of(&mut self, who: u8) -> Option<StatementId> {
        let theirs: Vec<StatementId> = self
            .said
            .iter()
            .filter(|s| s.author == who)
            .map(|s| s.id)
            .collect();
        match self.rng.below(20) {
            0 => Some(StatementId([9; 32])),
            1 => Some(self.said[self.rng.below(self.said.len())].id),
            2 => None,
            // Mostly one of the last: a thief is noticed soon.
            _ => self.rng.maybe(&theirs[theirs.len().saturating_sub(3)..]),
        }
    }

    /// What a checkpoint names: mostly the last of everyone's statements, now and then anything.
    fn heads(&mut self) -> Vec<StatementId> {
        let everyone = [&self.admins[..], &OPERATORS, &NODES, &LAPTOPS, &LAPTOP_KEYS].concat();
        let mut heads: Vec<StatementId> = Vec::new();
        for who in everyone {
            let mut theirs = self.said.iter().filter(|s| s.author == who && s.is_sound);
            let last = theirs.next_back().map(|s| s.id);
            heads.extend(last.filter(|_| self.rng.percent(90)));
        }
        if self.rng.percent(20) {
            heads.push(self.some(&[1, 2, 7, 16]));
        }
        heads.sort_unstable();
        heads.dedup();
        heads
    }

    /// An admin says what the history is, and most others agree.
    fn agree_on(&mut self, admins: &[u8]) {
        let heads = self.heads();
        let by = self.rng.of(admins);
        let root = StatementId(self.mesh().0);
        let place = self.place(by, false);
        let body = Body::Checkpoint(Checkpoint { heads });
        let Some(proposal) = self.put_with(by, place, root, body, None) else {
            return;
        };
        self.co_sign(admins, by, proposal);
    }

    /// Most of the present admins agree on every end of every chain, of what a replica holds. `None` when there are no
    /// others.
    pub(super) fn agree_on_all(
        &mut self,
        held: &BTreeSet<StatementId>,
    ) -> Option<(StatementId, Vec<u8>)> {
        let held = self.said.iter().filter(|s| held.contains(&s.id));
        let inner: BTreeSet<StatementId> = held.clone().map(|s| s.prev).collect();
        let ends = held.map(|s| s.id).filter(|id| !inner.contains(id));
        let mut heads: Vec<StatementId> = ends.collect();
        heads.sort_unstable();
        let admins = self.admins.clone();
        let (most, others) = admins.split_at(admins.len() / 2 + 1);
        if others.is_empty() {
            return None;
        }
        let root = StatementId(self.mesh().0);
        let body = Body::Checkpoint(Checkpoint { heads });
        let place = self.end_of(most[0]);
        let proposal = self.put_with(most[0], place, root, body, None)?;
        for admin in &most[1..] {
            let place = self.end_of(*admin);
            let body = Body::CoSign(CoSign { proposal });
            self.put_with(*admin, place, root, body, None);
        }
        Some((proposal, others.to_vec()))
    }

    /// The end of someone's chain.
    fn end_of(&self, who: u8) -> (u64, StatementId) {
        let sound = self.said.iter().filter(|s| s.author == who && s.is_sound);
        let last = sound.max_by_key(|s| s.seq);
        last.map_or((0, StatementId::ZERO), |s| (s.seq + 1, s.id))
    }

    /// One of these admins says anything at all, or someone whom they let in; but agrees with nothing that others began.
    pub(super) fn rob(&mut self, thieves: &[u8]) {
        let root = StatementId(self.mesh().0);
        let by = self.rng.of(thieves);
        let whom = self.someone();
        let theirs = |s: &&super::Entry| thieves.contains(&s.author) && s.is_sound;
        let own = self.said.iter().filter(theirs).map(|s| s.id);
        let own: Vec<StatementId> = own.collect();
        let head = self.head_of(whom);
        let body = match self.rng.below(10) {
            0..4 => Body::Revoke(Revoke {
                key: author(whom),
                head,
                reason: String::new(),
            }),
            4 => {
                let grant = self.some(&[2, 7, 16]);
                Body::RevokeGrant(RevokeGrant { grant, head })
            }
            5 => match self.rng.maybe(&own) {
                Some(proposal) => Body::CoSign(CoSign { proposal }),
                None => return,
            },
            6 => {
                let heads = self.heads();
                Body::Checkpoint(Checkpoint { heads })
            }
            7 => {
                let node = self.rng.of(&[&NODES[..], &LAPTOPS, &[STRANGER]].concat());
                Body::Admit(self.admit(node))
            }
            8 => {
                let invite = self.some(&INVITES);
                Body::RevokeInvite(RevokeInvite { invite })
            }
            _ => {
                // A machine of the thief says that it saw a join, long ago, or joins with a token that got about.
                let place = self.end_of(STRANGER);
                let body = if place.0 == 0 && self.rng.percent(50) {
                    let invite = self.some(&INVITES);
                    Body::Join(self.join(STRANGER, invite))
                } else {
                    let join = self.some(&JOINS);
                    let seen_at = Wall(0);
                    Body::Witness(Witness { join, seen_at })
                };
                self.put_with(STRANGER, place, root, body, None);
                return;
            }
        };
        let place = self.place(by, false);
        self.put_with(by, place, root, body, None);
    }

    fn co_sign(&mut self, admins: &[u8], by: u8, proposal: StatementId) {
        let root = StatementId(self.mesh().0);
        for admin in admins.iter().filter(|a| **a != by) {
            if self.rng.percent(75) {
                let place = self.place(*admin, false);
                let body = Body::CoSign(CoSign { proposal });
                self.put_with(*admin, place, root, body, None);
            }
        }
    }

    fn path(&mut self) -> String {
        self.rng
            .of(&[
                "label/n1/role=web",
                "label/n1/lab.admin",
                "on/all/params/a",
                "on/role=web/params/b",
                "on/role=web2/params/b",
                "node/n1/params/c",
            ])
            .to_owned()
    }

    fn scope(&mut self) -> Vec<String> {
        let all = [
            "",
            "label",
            "label/n1",
            "on",
            "on/all/",
            "on/role=web",
            "on/role=web",
        ];
        (0..self.rng.below(3))
            .map(|_| self.rng.of(&all).to_owned())
            .collect()
    }

    fn wall(&mut self) -> Wall {
        let now = self.clock;
        let far = now + 10_000;
        Wall(
            self.rng
                .of(&[0, now - 20, now + 20, now + 50, far, far, far, far]),
        )
    }

    /// A node says what it heard of the holder of a grant: true or not, and perhaps of what it does not refer to.
    pub(super) fn vouch(&mut self) {
        let who = self.speaker(&NODES);
        let grant = self.some(&[2, 7]);
        let names = self.said.iter().find(|s| s.id == grant);
        let subject = names.and_then(|s| s.names).unwrap_or(STRANGER);
        let named = self.head_of(subject);
        let mut heads: Vec<StatementId> = named.into_iter().collect();
        if self.rng.percent(20) {
            heads.extend(self.head_of(subject));
        }
        heads.sort_unstable();
        heads.dedup();
        if heads.is_empty() {
            return;
        }
        let at = Wall(self.clock);
        let body = Body::Vouch(Vouch { grant, heads, at });
        let place = self.place(who, false);
        let under = self.some(&[7, 10]);
        let refs = named.filter(|_| self.rng.percent(90));
        self.put_with(who, place, under, body, refs);
    }

    pub(super) fn admit(&mut self, node: u8) -> Admit {
        Admit {
            node: author(node).node(),
            seal_key: [0; 32],
            name: self.rng.of(&["n", "n-2", "web"]).to_owned(),
            role: self.rng.of(&[Role::Node, Role::Node, Role::Laptop]),
            labels: vec!["role=web".parse().expect("a label")],
        }
    }

    fn invite(&mut self) -> Invite {
        let token = token(self.rng.below(TOKENS));
        let uses_max = self.rng.of(&[1, 1, 2]);
        let labels: &[&str] = self.rng.of(&[&[][..], &["role=web"], &["lab.admin"]]);
        let witness = if self.rng.percent(70) {
            WitnessRule::Any
        } else if self.rng.percent(40) {
            WitnessRule::Quorum
        } else {
            WitnessRule::One(author(self.rng.of(&NODES)).node())
        };
        let named = self.rng.percent(50) && uses_max == 1;
        Invite {
            token_key: token.public(),
            uses_max,
            not_after: self.wall(),
            role: self.rng.of(&[Role::Node, Role::Laptop]),
            name: named.then(|| self.rng.of(&["n", "web"]).to_owned()),
            labels: labels.iter().map(|l| l.parse().expect("a label")).collect(),
            rights: Rights(self.rng.of(&[0, 3, 4, 15])),
            scope: self.scope(),
            lease_ms: self.rng.of(&[0, 50, 100_000]),
            witness,
            confirm: self.rng.percent(15),
            mesh_mac: token.mesh_mac(&self.mesh()),
            binding: self.binding().filter(|_| uses_max == 1),
        }
    }

    /// The machine that a token is for, if it is for one.
    fn binding(&mut self) -> Option<Binding> {
        if !self.rng.percent(35) {
            return None;
        }
        let meant = hardware(self.rng.of(&[&NODES[..], &LAPTOPS].concat()));
        let mac = self.rng.maybe(&meant.macs);
        let is_both = self.rng.percent(30);
        let mac = mac.filter(|_| is_both || meant.serial.is_none() || self.rng.percent(60));
        let serial = meant.serial.filter(|_| is_both || mac.is_none());
        Some(Binding { mac, serial })
    }

    /// What somebody says they are made of: mostly the truth, if at all.
    fn claim(&mut self, who: u8, terms: Option<&Invite>) -> Option<Hardware> {
        let is_asked = terms.is_some_and(|t| t.binding.is_some());
        if !self.rng.percent(if is_asked { 95 } else { 10 }) {
            return None;
        }
        let by_fit = (0..=u8::MAX)
            .map(hardware)
            .find(|h| terms.is_some_and(|t| t.binding.as_ref().is_some_and(|b| b.fits(h))));
        match self.rng.below(10) {
            0..4 => by_fit.or_else(|| Some(hardware(who))),
            4 => Some(Hardware::default()),
            _ => Some(hardware(who)),
        }
    }

    /// What an invite says.
    fn terms(&self, invite: StatementId) -> Option<Invite> {
        let at = self.said.iter().position(|s| s.id == invite)?;
        match envelope::read(&self.bytes[at])?.body {
            Body::Invite(invite) => Some(invite),
            _ => None,
        }
    }

    fn join(&mut self, who: u8, invite: StatementId) -> Join {
        let operator_key = if LAPTOPS.contains(&who) || self.rng.percent(10) {
            Some(author(self.rng.of(&LAPTOP_KEYS)))
        } else {
            None
        };
        // Whoever joins holds the token; a thief holds another one.
        let terms = self.terms(invite);
        let hardware = self.claim(who, terms.as_ref());
        let held =
            terms.and_then(|terms| (0..TOKENS).find(|t| token(*t).public() == terms.token_key));
        let keys = token(held.filter(|_| self.rng.percent(95)).unwrap_or(0));
        let node = author(who).node();
        Join {
            invite,
            seal_key: [5; 32],
            operator_key,
            token_signature: keys.sign_join(&self.mesh(), &node, &[5; 32], operator_key.as_ref()),
            hardware,
        }
    }

    /// A root record after one of those that there are, mostly the last: mostly signed by enough.
    fn replace_root(&mut self) {
        let at = if self.rng.percent(60) {
            self.records.len() - 1
        } else {
            self.rng.below(self.records.len())
        };
        let (last, carrier) = self.records[at].clone();
        let mut record = RootRecord {
            version: last.version + 1,
            prev: last.hash(),
            ..last.clone()
        };
        self.change_root(&mut record);
        if self.rng.percent(4) {
            record.version += 1;
        }
        let is_of = |of: &RootRecord, n: &u8| of.root_keys.contains(&author(*n));
        let mut by: Vec<u8> = ROOTS
            .into_iter()
            .filter(|n| is_of(&last, n) || is_of(&record, n))
            .collect();
        while by.len() > 1 && self.rng.percent(12) {
            by.remove(self.rng.below(by.len()));
        }
        let mut signed = SignedRoot::sign(&record, &[]);
        by.iter().for_each(|n| signed.add(&key(*n)));
        if self.rng.percent(4) {
            signed.signatures.iter_mut().for_each(|(_, a, _)| a[0] ^= 1);
        }
        let who = if self.rng.percent(80) {
            self.rng.of(&ROOTS)
        } else {
            self.someone()
        };
        let place = self.place(who, false);
        let root = StatementId(self.mesh().0);
        let refs = carrier.filter(|_| self.rng.percent(95));
        self.clock += 1;
        let id = self.put_with(who, place, root, Body::Root(signed), refs);
        for n in NEW_ADMINS {
            let is_listed = record.admins.iter().any(|a| a.key == author(n));
            if is_listed && !self.admins.contains(&n) {
                self.admins.push(n);
                self.standing.insert(n);
            }
        }
        self.records.push((record, id));
    }

    fn change_root(&mut self, record: &mut RootRecord) {
        if self.rng.percent(40) {
            let new = Admin {
                key: author(self.rng.of(&NEW_ADMINS)),
                name: String::new(),
            };
            if !record.admins.contains(&new) {
                record.annul.retain(|a| a.key != new.key);
                record.admins.push(new);
            }
        }
        if self.rng.percent(40) {
            let whom = self.someone();
            let head = self.head_of(whom);
            let key = author(whom);
            record.annul.retain(|a| a.key != key);
            record.annul.push(Annul { key, head });
            record.annul.sort_unstable();
            if self.rng.percent(80) && record.admins.len() > 1 {
                record.admins.retain(|a| a.key != key);
            }
        }
        if self.rng.percent(3) {
            record.annul.clear();
        }
        if self.rng.percent(3) && record.admins.len() > 1 {
            record.admins.remove(0);
        }
        if self.rng.percent(25) {
            let count = 1 + self.rng.below(3);
            let from = self.rng.below(2);
            record.root_keys = ascending(&ROOTS[from..from + count]);
            record.threshold = 1 + self.rng.below(count) as u8;
        }
        if self.rng.percent(10) {
            record.registrars = vec![author(self.rng.of(&NODES)).node()];
        }
    }

    pub(super) fn step(&mut self) {
        let admins = self.admins.clone();
        let writers = [&admins[..], &OPERATORS, &LAPTOP_KEYS].concat();
        let joiners = [&NODES[..], &LAPTOPS].concat();
        if self.rng.percent(self.root_percent) {
            return self.replace_root();
        }
        if self.rng.percent(self.agree_percent) {
            return self.agree_on(&admins);
        }
        if self.agree_percent > 0 && self.rng.percent(4) {
            let proposal = self.some(&[3, 4]);
            return self.co_sign(&admins, 0, proposal);
        }
        let (mut who, body) = match self.rng.below(100) {
            0..20 => {
                let path = self.path().parse().expect("a path");
                let op = if self.rng.percent(75) {
                    let field = Field::new(Value::Int(self.clock as i64), "person:x");
                    Op::Set { path, field }
                } else {
                    Op::Unset { path }
                };
                let edit = Edit {
                    message: String::new(),
                    ops: vec![op],
                };
                (self.speaker(&writers), Body::Edit(edit))
            }
            20..30 => {
                let subject = if self.rng.percent(85) {
                    self.rng.of(&OPERATORS)
                } else {
                    self.someone()
                };
                let until = self.wall();
                let grant = Grant {
                    subject: author(subject),
                    name: String::new(),
                    rights: Rights(self.rng.of(&[15, 15, 15, 3, 4, 8, 1])),
                    scope: self.rng.of(&[vec![String::new()], self.clone().scope()]),
                    not_after: self.rng.percent(25).then_some(until),
                };
                (self.rng.of(&admins), Body::Grant(grant))
            }
            30..34 => {
                let grant = self.some(&[2, 7, 16]);
                let names = self.said.iter().find(|s| s.id == grant);
                let subject = names.and_then(|s| s.names).unwrap_or(STRANGER);
                let head = self.head_of(subject);
                let body = Body::RevokeGrant(RevokeGrant { grant, head });
                (self.rng.of(&admins), body)
            }
            34..39 => {
                let everyone = [
                    &admins[..],
                    &OPERATORS,
                    &OPERATORS,
                    &NODES,
                    &LAPTOPS,
                    &LAPTOP_KEYS,
                    &ROOTS[..1],
                ];
                let whom = self.speaker(&everyone.concat());
                let revoke = Revoke {
                    key: author(whom),
                    head: self.head_of(whom),
                    reason: String::new(),
                };
                (self.rng.of(&admins), Body::Revoke(revoke))
            }
            39..43 => {
                let proposal = self.some(&[4, 4, 14, 3]);
                (self.rng.of(&admins), Body::CoSign(CoSign { proposal }))
            }
            43..58 => {
                let invite = self.invite();
                (self.speaker(&writers), Body::Invite(invite))
            }
            58..74 => {
                let invite = self.some(&INVITES);
                let who = match self.terms(invite) {
                    Some(terms) if terms.role == Role::Laptop && self.rng.percent(80) => {
                        self.rng.of(&LAPTOPS)
                    }
                    _ => self.rng.of(&joiners),
                };
                let join = self.join(who, invite);
                (who, Body::Join(join))
            }
            74..89 => {
                let witness = Witness {
                    join: self.some(&JOINS),
                    seen_at: Wall(self.clock),
                };
                let nodes = [&NODES[..], &[NODES[0]; 6], &LAPTOPS].concat();
                (self.speaker(&nodes), Body::Witness(witness))
            }
            89..91 => {
                let join = self.some(&JOINS);
                (self.speaker(&writers), Body::Confirm(Confirm { join }))
            }
            91..94 => {
                let node = self.rng.of(&joiners);
                let admit = self.admit(node);
                (self.rng.of(&admins), Body::Admit(admit))
            }
            94..95 => {
                let heads = self.heads();
                (self.rng.of(&admins), Body::Checkpoint(Checkpoint { heads }))
            }
            95..98 => {
                let invite = self.some(&INVITES);
                let body = Body::RevokeInvite(RevokeInvite { invite });
                (self.speaker(&writers), body)
            }
            _ => {
                let kind = Kind(100 + self.rng.below(3) as u8);
                (self.someone(), Body::Unknown(kind, vec![1, 2, 3]))
            }
        };
        if self.rng.percent(3) {
            who = self.someone();
        }
        self.say(who, body);
    }
}
