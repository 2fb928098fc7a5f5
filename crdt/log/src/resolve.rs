//! Authority as a pure function of the set of statements and the root record.
//!
//! Nothing here depends on the order of arrival or on a clock, but for what a replica notes when it takes something in:
//! that its grant had ended by then (see `quarantined`). Revocations of admins are weighed by how many
//! distinct admins signed them; those of equal weight count together, so two admins who revoke each other are
//! both out. A cut names the last statement of a key that still counts; everything of that key that is not an
//! ancestor of every cut is void.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::limit::VOUCHERS_MAX;
use lab_crdt_model::view::{MemberState, Role};
use lab_crdt_model::{
    AuthorId, Hlc, Label, NodeId, Op, Standing, StatementId, Wall, mutant, reached, sometimes,
};

use crate::body::{Admit, Body, Invite, Join, Rights, Witness, WitnessRule};
use crate::cover::{CheckpointState, Covered, Held, Signatures, weigh_checkpoints};
use crate::envelope::Statement;
use crate::roster::{InviteState, JoinState, Member, Roster};
use crate::state::{State, Supposed};

/// What an author may do under one grant, laptop join or the root record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantState {
    /// Whose.
    pub subject: AuthorId,
    /// The person or device.
    pub name: String,
    /// What.
    pub rights: Rights,
    /// Path prefixes.
    pub scope: Vec<String>,
    /// Statements stamped later do not count.
    pub not_after: Option<Wall>,
    /// Statements that still count after the grant was revoked; `None` = not revoked.
    pub(crate) allowed: Option<BTreeSet<StatementId>>,
}

impl GrantState {
    /// Statements that still count after it was revoked; `None` = it was not.
    pub const fn allowed(&self) -> Option<&BTreeSet<StatementId>> {
        self.allowed.as_ref()
    }

    /// Whether the grant was revoked.
    pub const fn is_revoked(&self) -> bool {
        self.allowed.is_some()
    }
}

/// Who may say what.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Authority {
    /// Admins of the root record that are not cut.
    pub admins: BTreeSet<AuthorId>,
    /// Grants and laptop joins, by statement.
    pub grants: BTreeMap<StatementId, GrantState>,
    /// Keys that were revoked. Their links are closed at once, even while the cut is not known here.
    pub revoked: BTreeSet<AuthorId>,
    /// Members and tokens.
    pub roster: Roster,
    /// Whoever is or was an admin, cut or not: what they said up to their cut still counts.
    listed: BTreeSet<AuthorId>,
    cuts: BTreeMap<AuthorId, BTreeSet<StatementId>>,
    /// Cuts that are not here yet; when one arrives, authority changes.
    pub(crate) awaited: BTreeSet<StatementId>,
    /// The same with the keys that they cut, while authority is being resolved.
    awaiting: Vec<(AuthorId, StatementId)>,
    /// Of authors whose grant has ended: what came here only afterwards, and of which nobody knows that it was said
    /// in time. It waits for an admin to say up to where it counts.
    pub(crate) quarantined: BTreeMap<AuthorId, BTreeSet<StatementId>>,
    /// By grant that has ended: who says what they had heard of its holder.
    vouches: Vouches,
    /// Revocations of admins, by statement.
    pub proposals: BTreeMap<StatementId, Proposal>,
    /// Checkpoints of admins, by statement.
    pub checkpoints: BTreeMap<StatementId, CheckpointState>,
    /// Of the ends of keys and grants: those that undo less than they name, because a checkpoint holds the rest.
    pub held: Vec<Held>,
    pub(crate) covered: Covered,
    /// Keys that the root keys or a majority of the admins ended.
    ended: BTreeSet<AuthorId>,
}

/// An admin wants another one out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// Whom.
    pub key: AuthorId,
    /// The last statement of theirs that would still count.
    pub head: Option<StatementId>,
    /// Admins who say so and are not cut themselves before they said it, by what outweighs this.
    pub signers: BTreeSet<AuthorId>,
}

/// By grant and node: the ends of what the node had heard of the holder.
type Vouches = BTreeMap<StatementId, BTreeMap<NodeId, BTreeSet<StatementId>>>;

impl Authority {
    /// Whether a statement of an author is on the right side of every cut.
    pub(crate) fn is_allowed(&self, author: &AuthorId, id: &StatementId) -> bool {
        self.cuts
            .get(author)
            .is_none_or(|allowed| allowed.contains(id))
    }

    /// Whether an admin says this, on the right side of every cut.
    pub(crate) fn is_by_admin(&self, root: StatementId, s: &Statement) -> bool {
        s.under == root && self.listed.contains(&s.author) && self.is_allowed(&s.author, &s.id)
    }

    /// The grant under which an author says this, if it gives the right.
    fn grant_of(&self, s: &Statement, right: Rights) -> Option<&GrantState> {
        self.grants.get(&s.under).filter(|grant| {
            grant.subject == s.author
                && grant.rights.has(right)
                && grant.allowed.as_ref().is_none_or(|a| a.contains(&s.id))
                && grant
                    .not_after
                    .is_none_or(|end| s.hlc < Hlc::from_wall(end))
                && self.is_allowed(&s.author, &s.id)
        })
    }

    /// Whether a confirmation counts.
    pub(crate) fn may_confirm(&self, root: StatementId, s: &Statement) -> bool {
        self.is_by_admin(root, s) || self.grant_of(s, Rights::CONFIRM).is_some()
    }

    /// Whether a grant is over by a clock.
    pub(crate) fn is_over(&self, grant: &StatementId, now: Wall) -> bool {
        self.grants
            .get(grant)
            .is_some_and(|g| g.not_after.is_some_and(|end| now >= end && !mutant!("M41")))
    }

    /// Whose devices may ask over the remote API at a time, and as what; and when that changes by time alone.
    ///
    /// Admins in force, and holders of a grant that counts, was not revoked and is not over. No key of a node.
    pub fn devices(&self, now: Wall) -> (BTreeMap<AuthorId, Standing>, Option<Wall>) {
        let standing = |grant: &&GrantState| {
            let is_revoked = grant.is_revoked() && !mutant!("R20");
            !is_revoked && (!self.revoked.contains(&grant.subject) || mutant!("R21"))
        };
        let holders = || self.grants.values().filter(standing);
        let is_over = |grant: &&GrantState| {
            grant
                .not_after
                .is_some_and(|end| now >= end && !mutant!("R22"))
        };
        let mut devices: BTreeMap<AuthorId, Standing> = holders()
            .filter(|grant| !is_over(grant))
            .map(|grant| (grant.subject, Standing::Operator))
            .collect();
        devices.extend(self.admins.iter().map(|admin| (*admin, Standing::Admin)));
        let ends = holders().filter_map(|grant| grant.not_after);
        (devices, ends.filter(|end| *end > now).min())
    }

    /// What of a cut author still counts; `None` if the author is not cut.
    pub(crate) fn allowed(&self, author: &AuthorId) -> Option<&BTreeSet<StatementId>> {
        self.cuts.get(author)
    }

    /// Whoever is or was an admin.
    pub(crate) const fn listed(&self) -> &BTreeSet<AuthorId> {
        &self.listed
    }

    /// Authors that are cut, and what of each still counts.
    pub fn cuts(&self) -> impl Iterator<Item = (&AuthorId, &BTreeSet<StatementId>)> {
        self.cuts.iter()
    }

    /// What waits for an admin because it came after the end of its grant, by author.
    pub fn quarantined(&self) -> impl Iterator<Item = (&AuthorId, &BTreeSet<StatementId>)> {
        self.quarantined.iter()
    }

    /// What of an author waits for an admin.
    pub(crate) fn waiting_of(&self, author: &AuthorId) -> Option<&BTreeSet<StatementId>> {
        self.quarantined.get(author)
    }

    /// Whether a node said what it had heard under a grant.
    pub(crate) fn is_vouched_by(&self, grant: &StatementId, node: &NodeId) -> bool {
        let by = self.vouches.get(grant);
        by.is_some_and(|by| by.contains_key(node))
    }

    fn is_quarantined(&self, author: &AuthorId, id: &StatementId) -> bool {
        self.quarantined.get(author).is_some_and(|q| q.contains(id)) && !mutant!("R17")
    }

    /// Authors that are cut.
    pub(crate) fn cut_authors(&self) -> impl Iterator<Item = &AuthorId> {
        self.cuts.keys()
    }

    /// What decides over the edits of every author that anything is known of; while an author's part is equal, so
    /// are the verdicts.
    pub(crate) fn slices(&self) -> BTreeMap<AuthorId, Slice<'_>> {
        let mut out: BTreeMap<AuthorId, Slice<'_>> = BTreeMap::new();
        for author in &self.listed {
            out.entry(*author).or_default().2 = true;
        }
        for (author, allowed) in &self.cuts {
            out.entry(*author).or_default().0 = Some(allowed);
        }
        for (id, grant) in &self.grants {
            out.entry(grant.subject).or_default().1.push((id, grant));
        }
        for (author, waiting) in &self.quarantined {
            out.entry(*author).or_default().3 = Some(waiting);
        }
        out
    }

    /// Why an edit does not count, or that it does.
    pub(crate) fn judge(
        &self,
        root: StatementId,
        statement: &Statement,
        ops: &[Op],
    ) -> Result<(), &'static str> {
        if !self.is_allowed(&statement.author, &statement.id) {
            reached!("an edit lies beyond the cut of its author");
            return Err("its key was revoked");
        }
        if mutant!("M08") {
            return Ok(());
        }
        if statement.under == root {
            return if self.listed.contains(&statement.author) {
                Ok(())
            } else {
                Err("its author is not an admin")
            };
        }
        let grant = self
            .grants
            .get(&statement.under)
            .ok_or("it relies on no grant")?;
        if grant.subject != statement.author {
            return Err("its grant belongs to another key");
        }
        if grant
            .allowed
            .as_ref()
            .is_some_and(|allowed| !allowed.contains(&statement.id) && !mutant!("R10"))
        {
            return Err("its grant was revoked");
        }
        if grant
            .not_after
            .is_some_and(|end| statement.hlc >= Hlc::from_wall(end) && !mutant!("M41"))
        {
            reached!("an edit is stamped after the end of its grant");
            return Err("its grant had expired");
        }
        if self.is_quarantined(&statement.author, &statement.id) {
            reached!("an edit came after its grant had ended");
            return Err("it came after its grant had ended, and waits for an admin");
        }
        for op in ops {
            let mut segments = op.path().segments();
            let is_label = segments.next().is_some_and(|s| s == "label");
            let need = if is_label {
                Rights::LABELS
            } else {
                Rights::CONFIG
            };
            if !grant.rights.has(need) {
                reached!("an edit lacks the right");
                return Err("its grant lacks the right");
            }
            if is_label
                && segments
                    .nth(1)
                    .is_some_and(|label| label.starts_with("lab.") && !mutant!("R11"))
            {
                return Err("labels below lab. are for admins");
            }
            let is_inside = |prefix: &String| {
                let is_loosely = mutant!("R09") && op.path().as_str().starts_with(prefix);
                op.path().is_below(prefix) || is_loosely
            };
            if !grant.scope.iter().any(is_inside) {
                reached!("an edit is outside the scope of its grant");
                return Err("it is outside the scope of its grant");
            }
        }
        Ok(())
    }
}

pub(crate) type Slice<'a> = (
    Option<&'a BTreeSet<StatementId>>,
    Vec<(&'a StatementId, &'a GrantState)>,
    bool,
    Option<&'a BTreeSet<StatementId>>,
);

/// Resolves authority from scratch.
pub(crate) fn resolve(log: &State) -> Authority {
    let root = StatementId(log.mesh().0);
    let in_force = log.root();
    let admins = &in_force.listed;
    let acts = || log.acts();
    let by_admin = |s: &Statement| admins.contains(&s.author) && s.under == root;

    let mut out = Authority {
        listed: admins.clone(),
        ..Authority::default()
    };

    let is_whole = |supposed: &&Supposed| !supposed.is_limited;
    let supposed = log.supposed().iter().filter(is_whole).map(|s| &s.end);
    for end in in_force.record.annul.iter().chain(supposed) {
        if mutant!("R02") {
            break;
        }
        reached!("the root keys ended a key");
        cut(log, &mut out, end.key, end.head, None);
    }

    // Admins against admins: by weight, heaviest first; equal weights are computed before any is applied. What a
    // majority says comes before checkpoints are looked at and is not held by them, the rest after it.
    let proposals: BTreeMap<StatementId, (AuthorId, Option<StatementId>)> = acts()
        .filter(|s| by_admin(s))
        .filter_map(|s| match &s.body {
            Body::Revoke(r) if admins.contains(&r.key) => Some((s.id, (r.key, r.head))),
            _ => None,
        })
        .collect();
    let signatures = Signatures::new(log, &in_force.record, &by_admin);
    let mut done = BTreeSet::new();
    for is_majority in [true, false] {
        for weight in (1..=admins.len()).rev() {
            let weight = if mutant!("R04") {
                admins.len() + 1 - weight
            } else {
                weight
            };
            let level: Vec<_> = proposals
                .iter()
                .filter(|(p, _)| !done.contains(*p))
                .filter(|(p, _)| {
                    let signed = signatures.all(p).iter();
                    let allowed = signed.filter(|(a, s)| out.is_allowed(a, s) || mutant!("R06"));
                    if mutant!("R03") {
                        return allowed.count() == weight;
                    }
                    allowed.map(|(a, _)| a).collect::<BTreeSet<_>>().len() == weight
                })
                .map(|(p, target)| (*p, *target, signatures.allowed(&out, p)))
                .filter(|(_, _, by)| !is_majority || signatures.is_majority(by))
                .take(if mutant!("R05") { 1 } else { usize::MAX })
                .collect();
            for (p, (key, head), signers) in level {
                done.insert(p);
                let by = (!is_majority).then(|| (Some(p), signatures.in_force(&signers)));
                let proposal = Proposal { key, head, signers };
                out.proposals.insert(p, proposal);
                cut(log, &mut out, key, head, by);
            }
        }
        if is_majority {
            weigh_checkpoints(log, &signatures, &mut out);
        }
    }
    for supposed in log.supposed().iter().filter(|s| s.is_limited) {
        let by = Some((None, BTreeSet::new()));
        cut(log, &mut out, supposed.end.key, supposed.end.head, by);
    }
    let current = in_force.record.admins.iter().map(|a| a.key);
    out.admins = current.filter(|a| !out.revoked.contains(a)).collect();

    // Grants, revocations of other keys and of grants.
    let counts = |out: &Authority, s: &Statement| {
        (by_admin(s) || mutant!("R07")) && out.is_allowed(&s.author, &s.id)
    };
    for s in acts().filter(|s| counts(&out, s)).collect::<Vec<_>>() {
        match &s.body {
            Body::Grant(g) => {
                out.grants.insert(
                    s.id,
                    GrantState {
                        subject: g.subject,
                        name: g.name.clone(),
                        rights: g.rights,
                        scope: g.scope.clone(),
                        not_after: g.not_after,
                        allowed: None,
                    },
                );
            }
            Body::Revoke(r) if mutant!("R07") && !by_admin(s) => {
                cut(log, &mut out, r.key, r.head, None);
            }
            _ => {}
        }
    }
    // These count as long as anyone who signed them does, and without limit when a majority did.
    for s in acts().filter(|s| by_admin(s)) {
        let Body::Revoke(r) = &s.body else { continue };
        let by = signatures.allowed(&out, &s.id);
        if !admins.contains(&r.key) && !by.is_empty() {
            let limit = limit(&signatures, s.id, &by);
            cut(log, &mut out, r.key, r.head, limit);
        }
    }
    let ends = revoked_grants(log, &out, &signatures);
    for end in &ends {
        end_grant(log, &mut out, end);
    }

    // Tokens and members; tokens made by laptops need the laptops first.
    let mut invites = BTreeMap::new();
    let mut full: BTreeMap<StatementId, GrantState> = BTreeMap::new();
    let mut agreed: BTreeMap<StatementId, GrantState> = BTreeMap::new();
    for pass in 0..2 {
        for s in acts() {
            if let Body::Invite(invite) = &s.body {
                let may = may_invite(&out, root, s, invite, pass);
                let state = invites.entry(s.id).or_insert_with(|| InviteState {
                    invite: invite.clone(),
                    author: s.author,
                    is_effective: false,
                    is_revoked: false,
                    used_by: Vec::new(),
                });
                state.is_effective |= may;
            }
        }
        let (members, joins) = members(log, &out, &invites, false);
        for (join, grant) in laptops(log, &out, &invites, &members, &out.revoked) {
            full.entry(join).or_insert(grant);
        }
        // A join that a checkpoint covers, as it stands by covered statements alone, keeps what was said under it.
        if !out.covered.is_empty() {
            let (members, _) = self::members(log, &out, &invites, true);
            for (join, grant) in laptops(log, &out, &invites, &members, &out.ended) {
                agreed.entry(join).or_insert(grant);
            }
        }
        let all: BTreeSet<StatementId> = full.keys().chain(agreed.keys()).copied().collect();
        for join in all {
            let Some(mut grant) = agreed.get(&join).or_else(|| full.get(&join)).cloned() else {
                continue;
            };
            if let Some(full) = full.get(&join) {
                grant.name.clone_from(&full.name);
            } else {
                reached!("a laptop is out, and a checkpoint holds what it said");
                grant.allowed = Some(out.covered.of(log, &grant.subject));
            }
            out.grants.insert(join, grant);
            for end in ends.iter().filter(|end| end.grant == join) {
                end_grant(log, &mut out, end);
            }
        }
        out.roster.members = members
            .into_iter()
            .map(|(node, m)| (node, m.into_member()))
            .collect();
        out.roster.joins = joins;
    }
    for s in acts() {
        if let Body::RevokeInvite(r) = &s.body
            && let Some(state) = invites.get_mut(&r.invite)
            && (counts(&out, s) || (s.author == state.author && out.is_allowed(&s.author, &s.id)))
        {
            state.is_revoked = true;
        }
    }
    for m in out.roster.members.values() {
        let join = out.roster.joins.get(&m.join);
        if let Some(state) = log.join_invite(&m.join).and_then(|i| invites.get_mut(&i))
            && join.is_none_or(JoinState::is_witnessed)
        {
            state.used_by.push(m.node);
        }
    }
    out.roster.invites = invites;
    let members = out.roster.members.values();
    out.roster.lease_ends = members
        .filter(|m| matches!(m.state, MemberState::Member | MemberState::Probation))
        .filter_map(|m| m.not_after)
        .collect();
    out.roster.lease_ends.sort_unstable();
    // Of a key of which nothing counts nobody tells anything, and nothing more can be cut.
    for (key, head) in std::mem::take(&mut out.awaiting) {
        if out.cuts.get(&key).is_none_or(|allowed| !allowed.is_empty()) {
            out.awaited.insert(head);
        }
    }
    finish_held(&mut out);
    out.vouches = vouches(log, &out);
    out.quarantined = quarantined(log, &out);
    out
}

/// Who vouches for what was said in time under a grant: the registrars, or else a few nodes that were members before
/// it ended and that nobody could choose.
pub(crate) fn vouchers(log: &State, out: &Authority, grant: &StatementId) -> BTreeSet<NodeId> {
    let registrars = &log.root().record.registrars;
    let end = out.grants.get(grant).and_then(|g| g.not_after);
    let nodes = out
        .roster
        .members
        .values()
        .filter(|m| m.role == Role::Node && m.state == MemberState::Member)
        .filter(|m| registrars.is_empty() || registrars.contains(&m.node))
        .filter(|m| m.since.is_some_and(|at| end.is_none_or(|end| at < end)))
        .map(|m| m.node);
    if !registrars.is_empty() {
        return nodes.collect();
    }
    let rank = |node: &NodeId| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"lab/vouch/1\0").update(&grant.0);
        *hasher.update(&node.0).finalize().as_bytes()
    };
    let ranked: BTreeMap<[u8; 32], NodeId> = nodes.map(|node| (rank(&node), node)).collect();
    ranked.into_values().take(VOUCHERS_MAX).collect()
}

fn vouches(log: &State, out: &Authority) -> Vouches {
    let mut all = Vouches::new();
    for s in log.acts() {
        if let Body::Vouch(vouch) = &s.body
            && out.is_allowed(&s.author, &s.id)
        {
            let by = all.entry(vouch.grant).or_default();
            let heads = vouch.heads.iter().filter(|h| s.refs.contains(h));
            by.entry(s.author.node()).or_default().extend(heads);
        }
    }
    all
}

/// Of what came here after the end of its grant, what neither an admin nor half of those who vouch take for said in
/// time.
fn quarantined(log: &State, out: &Authority) -> BTreeMap<AuthorId, BTreeSet<StatementId>> {
    let mut waiting: BTreeMap<StatementId, BTreeSet<StatementId>> = BTreeMap::new();
    for (id, (author, under)) in log.late() {
        if out.covered.has(log, author, id) {
            reached!("what came late is in the history that the admins agreed on");
            continue;
        }
        let grant = out.grants.get(under).filter(|g| g.subject == *author);
        // An admin who ended the grant has said up to where it counts.
        if grant.is_some_and(|g| g.not_after.is_some() && g.allowed.is_none()) {
            waiting.entry(*under).or_default().insert(*id);
        }
    }
    let mut all: BTreeMap<AuthorId, BTreeSet<StatementId>> = BTreeMap::new();
    for (grant, ids) in waiting {
        let subject = out.grants[&grant].subject;
        let vouchers = vouchers(log, out, &grant);
        let need = match vouchers.len().div_ceil(2) {
            _ if mutant!("R18") => 1,
            need => need.max(1),
        };
        let by = out.vouches.get(&grant).into_iter().flatten();
        let heard: Vec<BTreeSet<StatementId>> = by
            .filter(|(node, _)| vouchers.contains(node) || mutant!("R19"))
            .map(|(_, heads)| {
                let heard = heads.iter().filter_map(|h| log.ancestors(&subject, h));
                heard.flatten().collect()
            })
            .collect();
        for id in ids {
            if heard.iter().filter(|heard| heard.contains(&id)).count() >= need {
                reached!("what came late was said in time, as others know");
            } else {
                all.entry(subject).or_default().insert(id);
            }
        }
    }
    all
}

/// The end of a grant.
struct GrantEnd {
    grant: StatementId,
    head: Option<StatementId>,
    by: Limit,
}

/// Who ends something with too little weight to undo what checkpoints cover, and by which statement; `None` for a
/// majority of the admins and for the root keys.
type Limit = Option<(Option<StatementId>, BTreeSet<AuthorId>)>;

fn limit(signatures: &Signatures<'_>, id: StatementId, by: &BTreeSet<AuthorId>) -> Limit {
    let is_majority = signatures.is_majority(by) && !mutant!("R26");
    (!is_majority).then(|| (Some(id), signatures.in_force(by)))
}

fn revoked_grants(log: &State, out: &Authority, signatures: &Signatures<'_>) -> Vec<GrantEnd> {
    log.acts()
        .filter_map(|s| match &s.body {
            Body::RevokeGrant(r) => {
                let by = signatures.allowed(out, &s.id);
                (!by.is_empty()).then(|| GrantEnd {
                    grant: r.grant,
                    head: r.head,
                    by: limit(signatures, s.id, &by),
                })
            }
            _ => None,
        })
        .collect()
}

fn cut(log: &State, out: &mut Authority, key: AuthorId, head: Option<StatementId>, by: Limit) {
    // An admin who could end a root key could keep the next root record from the mesh.
    if log.root().root_keys.contains(&key) && !out.listed.contains(&key) {
        reached!("somebody wanted to revoke a root key");
        return;
    }
    out.revoked.insert(key);
    if by.is_none() {
        out.ended.insert(key);
    }
    if mutant!("M42") {
        return;
    }
    let Some(allowed) = kept(log, out, (key, None), head, by) else {
        return;
    };
    match out.cuts.get_mut(&key) {
        Some(standing) => {
            reached!("a key was cut twice");
            standing.retain(|id| allowed.contains(id) || mutant!("R08"));
        }
        None => {
            out.cuts.insert(key, allowed);
        }
    }
}

fn end_grant(log: &State, out: &mut Authority, end: &GrantEnd) {
    let Some(subject) = out.grants.get(&end.grant).map(|g| g.subject) else {
        return;
    };
    let by = end.by.clone().filter(|_| !mutant!("R25"));
    let of = (subject, Some(end.grant));
    let Some(allowed) = kept(log, out, of, end.head, by) else {
        return;
    };
    if let Some(state) = out.grants.get_mut(&end.grant) {
        match &mut state.allowed {
            Some(standing) => standing.retain(|id| allowed.contains(id)),
            None => state.allowed = Some(allowed),
        }
    }
}

/// What of a key goes on counting once it or a grant of it ends at `head`. `None` while that is not here: the key is dead
/// for links, its history stays until we can tell.
fn kept(
    log: &State,
    out: &mut Authority,
    (key, grant): (AuthorId, Option<StatementId>),
    head: Option<StatementId>,
    by: Limit,
) -> Option<BTreeSet<StatementId>> {
    let mut kept = match head {
        None => BTreeSet::new(),
        Some(at) => match log.ancestors(&key, &at) {
            Some(ancestors) => ancestors,
            None => {
                reached!("a revocation arrived before the statement at which it cuts");
                out.awaiting.push((key, at));
                return None;
            }
        },
    };
    let Some((revocation, signers)) = by else {
        return Some(kept);
    };
    let covered = out.covered.of(log, &key);
    let statements: BTreeSet<StatementId> = covered.difference(&kept).copied().collect();
    if !statements.is_empty() {
        reached!("a checkpoint holds what too few admins would undo");
        kept.extend(&statements);
        out.held.push(Held {
            revocation,
            key,
            grant,
            head,
            signers,
            statements,
        });
    }
    Some(kept)
}

/// Leaves out what others undo with more weight.
fn finish_held(out: &mut Authority) {
    let mut held = std::mem::take(&mut out.held);
    for of in &mut held {
        let grant = of.grant.and_then(|g| out.grants.get(&g));
        let standing = grant.and_then(|g| g.allowed.as_ref());
        of.statements.retain(|id| {
            out.is_allowed(&of.key, id) && standing.is_none_or(|allowed| allowed.contains(id))
        });
    }
    held.retain(|of| !of.statements.is_empty());
    held.sort_by_key(|of| (of.revocation, of.key, of.grant));
    held.dedup();
    out.held = held;
}

/// The grants that laptops have by their joins. `ended` says whose keys are at an end.
fn laptops(
    log: &State,
    out: &Authority,
    invites: &BTreeMap<StatementId, InviteState>,
    members: &BTreeMap<NodeId, Candidate>,
    ended: &BTreeSet<AuthorId>,
) -> BTreeMap<StatementId, GrantState> {
    let mut all = BTreeMap::new();
    for m in members.values() {
        let (Some(key), Some(state)) = (m.operator_key, m.invite.and_then(|i| invites.get(&i)))
        else {
            continue;
        };
        // A laptop that was revoked together with its operator key: the cut of that key says what still counts.
        let was_revoked = m.is_revoked_member && ended.contains(&key);
        if m.state != MemberState::Member && !was_revoked {
            continue;
        }
        // A laptop does not outlive the grant of the operator who let it in.
        let issuer = m.invite.and_then(|i| out.grants.get(&log.acts_under(&i)?));
        let ends = [m.not_after, issuer.and_then(|g| g.not_after)];
        let grant = GrantState {
            subject: key,
            name: m.name.clone(),
            rights: state.invite.rights,
            scope: state.invite.scope.clone(),
            not_after: ends.into_iter().flatten().min(),
            allowed: None,
        };
        all.insert(m.join, grant);
    }
    all
}

fn is_admin_only(label: &Label) -> bool {
    label.key.starts_with("lab.")
}

fn may_invite(
    out: &Authority,
    root: StatementId,
    s: &Statement,
    invite: &Invite,
    pass: u8,
) -> bool {
    if s.under == root {
        return out.is_by_admin(root, s);
    }
    let Some(grant) = out.grant_of(s, Rights::INVITE) else {
        return false;
    };
    let in_scope = |prefix: &String| {
        grant.scope.iter().any(|mine| {
            mine.is_empty()
                || prefix == mine
                || prefix
                    .strip_prefix(mine.trim_end_matches('/'))
                    .is_some_and(|r| r.starts_with('/'))
        })
    };
    !invite.labels.iter().any(is_admin_only)
        && (invite.labels.is_empty()
            || grant.rights.has(Rights::LABELS) && in_scope(&"label".to_owned()))
        && match invite.role {
            Role::Node => true,
            Role::Laptop => {
                pass == 0
                    && invite.lease_ms > 0
                    && grant.rights.has(invite.rights)
                    && invite.scope.iter().all(in_scope)
            }
        }
}

/// Why a token would not count, or that it would.
pub(crate) fn judge_invite(
    out: &Authority,
    root: StatementId,
    s: &Statement,
    invite: &Invite,
) -> Result<(), &'static str> {
    if (0..2).any(|pass| may_invite(out, root, s, invite, pass)) {
        Ok(())
    } else {
        Err("its author may not make such a token")
    }
}

struct Candidate {
    node: NodeId,
    name: String,
    role: Role,
    state: MemberState,
    /// It was a full member when it was revoked.
    is_revoked_member: bool,
    labels: Vec<Label>,
    join: StatementId,
    joined_at: Hlc,
    since: Option<Wall>,
    not_after: Option<Wall>,
    operator_key: Option<AuthorId>,
    seal_key: [u8; 32],
    invite: Option<StatementId>,
}

impl Candidate {
    fn into_member(self) -> Member {
        Member {
            node: self.node,
            name: self.name,
            role: self.role,
            state: self.state,
            labels: self.labels,
            join: self.join,
            joined_at: self.joined_at,
            since: self.since,
            not_after: self.not_after,
            operator_key: self.operator_key,
            seal_key: self.seal_key,
        }
    }
}

fn members(
    log: &State,
    out: &Authority,
    invites: &BTreeMap<StatementId, InviteState>,
    is_covered_only: bool,
) -> (
    BTreeMap<NodeId, Candidate>,
    BTreeMap<StatementId, JoinState>,
) {
    let root = StatementId(log.mesh().0);
    let mut all: BTreeMap<NodeId, Candidate> = BTreeMap::new();
    let mut joins: BTreeMap<StatementId, (&Statement, &Join, &Invite)> = BTreeMap::new();
    let mut witnesses: BTreeMap<StatementId, Vec<(&Statement, &Witness)>> = BTreeMap::new();
    let mut confirmed: BTreeSet<StatementId> = BTreeSet::new();
    let is_asked_for = |s: &&Statement| {
        out.is_allowed(&s.author, &s.id)
            && (!is_covered_only || out.covered.has(log, &s.author, &s.id))
    };
    for s in log.acts().filter(is_asked_for) {
        match &s.body {
            Body::Admit(admit) if out.is_by_admin(root, s) => {
                all.entry(admit.node).or_insert_with(|| admitted(s, admit));
            }
            Body::Join(join) => {
                if let Some(state) = invites.get(&join.invite).filter(|i| i.is_effective)
                    && is_machine_meant(&state.invite, join)
                {
                    joins.insert(s.id, (s, join, &state.invite));
                }
            }
            Body::Witness(w) => witnesses.entry(w.join).or_default().push((s, w)),
            Body::Confirm(c) if out.may_confirm(root, s) => {
                confirmed.insert(c.join);
            }
            _ => {}
        }
    }

    // A witness counts when its author is a member; members follow from witnesses. Each join is looked at again
    // only when one of its witnesses has become a member.
    let registrars = &log.root().record.registrars;
    let is_asked = |by: NodeId, invite: &Invite, w: &Witness| {
        (w.seen_at <= invite.not_after || mutant!("M11"))
            && match invite.witness {
                WitnessRule::Any => registrars.is_empty() || registrars.contains(&by),
                WitnessRule::One(node) => node == by,
                WitnessRule::Quorum => registrars.contains(&by),
            }
    };
    let need = |invite: &Invite| match invite.witness {
        WitnessRule::Quorum if mutant!("R15") => 1,
        rule => rule.need(registrars.len()),
    };
    let mut by_witness: BTreeMap<NodeId, Vec<StatementId>> = BTreeMap::new();
    for (id, (join, _, invite)) in &joins {
        for (s, w) in witnesses.get(id).into_iter().flatten() {
            if s.author != join.author && is_asked(s.author.node(), invite, w) {
                by_witness.entry(s.author.node()).or_default().push(*id);
            }
        }
    }
    let mut registering: BTreeSet<NodeId> = all.keys().copied().collect();
    let mut queue: Vec<NodeId> = registering.iter().copied().collect();
    let mut seen_by: BTreeMap<StatementId, BTreeSet<NodeId>> = BTreeMap::new();
    while let Some(node) = queue.pop() {
        for id in by_witness.get(&node).into_iter().flatten() {
            let (join, _, invite) = &joins[id];
            let seen_by = seen_by.entry(*id).or_default();
            seen_by.insert(node);
            if seen_by.len() < need(invite) {
                continue;
            }
            // Whoever waits for a person's word may not vouch for others.
            let may_register = !invite.confirm || confirmed.contains(id) || mutant!("R23");
            if may_register && registering.insert(join.author.node()) {
                queue.push(join.author.node());
            }
        }
    }
    let mut witnessed: BTreeMap<StatementId, Wall> = BTreeMap::new();
    let mut seen: BTreeMap<StatementId, BTreeMap<NodeId, Wall>> = BTreeMap::new();
    for (id, (join, _, invite)) in &joins {
        let words = witnesses.get(id).into_iter().flatten().filter(|(s, w)| {
            s.author != join.author
                && registering.contains(&s.author.node())
                && is_asked(s.author.node(), invite, w)
        });
        // Of each registrar the first word, and of these the one that made them enough.
        let mut first: BTreeMap<NodeId, Wall> = BTreeMap::new();
        for (s, w) in words {
            let at = first.entry(s.author.node()).or_insert(w.seen_at);
            *at = w.seen_at.min(*at);
        }
        let mut times: Vec<Wall> = first.values().copied().collect();
        times.sort_unstable();
        if let Some(at) = times.get(need(invite) - 1) {
            witnessed.insert(*id, *at);
        }
        seen.insert(*id, first);
    }

    let mut unsettled: BTreeMap<StatementId, JoinState> = BTreeMap::new();
    let mut uses: BTreeMap<StatementId, usize> = BTreeMap::new();
    for id in witnessed.keys() {
        *uses.entry(joins[id].1.invite).or_default() += 1;
    }
    for (id, (s, join, invite)) in &joins {
        let is_over_used = uses
            .get(&join.invite)
            .is_some_and(|n| *n > usize::from(invite.uses_max));
        sometimes!(is_over_used, "a token let in more than it may");
        let is_over_used = is_over_used && !mutant!("M10");
        let seen_at = witnessed.get(id);
        let witnesses = seen.remove(id).unwrap_or_default();
        let is_confirm_due = invite.confirm && !confirmed.contains(id);
        let state = match seen_at {
            None if witnesses.is_empty() => MemberState::Seen,
            None => {
                reached!("a join waits for more registrars");
                MemberState::Probation
            }
            Some(_) if is_over_used && !confirmed.contains(id) => MemberState::Suspended,
            Some(_) if is_confirm_due && !mutant!("M54") => {
                reached!("a join waits for a person to confirm it");
                MemberState::Probation
            }
            Some(_) => MemberState::Member,
        };
        if state != MemberState::Member {
            let join = JoinState {
                witnesses,
                needed: need(invite),
                is_confirm_due,
                hardware: join.hardware.clone(),
            };
            unsettled.insert(*id, join);
        }
        let node = s.author.node();
        all.entry(node).or_insert_with(|| Candidate {
            node,
            name: invite
                .name
                .clone()
                .unwrap_or_else(|| format!("n-{}", node.short())),
            role: invite.role,
            state,
            is_revoked_member: false,
            labels: invite.labels.clone(),
            join: *id,
            joined_at: s.hlc,
            since: seen_at.copied(),
            not_after: seen_at
                .filter(|_| invite.lease_ms > 0)
                .map(|at| Wall(at.0.saturating_add(invite.lease_ms))),
            operator_key: join.operator_key.filter(|_| invite.role == Role::Laptop),
            seal_key: join.seal_key,
            invite: Some(join.invite),
        });
    }
    let ended = if is_covered_only {
        &out.ended
    } else {
        &out.revoked
    };
    for (node, m) in &mut all {
        if ended.contains(&node.author()) {
            reached!("a member was revoked");
            m.is_revoked_member = m.state == MemberState::Member;
            m.state = MemberState::Revoked;
        }
    }

    // Names are unique among live members: of equals, the one whose statement has the lowest id keeps it.
    // What an admin named comes first: a token of an operator cannot take a name over, and the labels with it.
    let by_operator = |m: &Candidate| {
        m.invite
            .and_then(|i| invites.get(&i))
            .is_some_and(|i| !out.listed.contains(&i.author))
    };
    let mut order: Vec<(u8, bool, bool, StatementId, NodeId)> = all
        .values()
        .filter(|m| m.state != MemberState::Revoked)
        .map(|m| {
            let is_full = m.state == MemberState::Member;
            let rank = match m.state {
                MemberState::Seen => 2,
                MemberState::Probation => 1,
                _ => 0,
            };
            (rank, by_operator(m), !is_full, m.join, m.node)
        })
        .collect();
    order.sort_unstable();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut next: BTreeMap<String, u32> = BTreeMap::new();
    for (.., node) in &order {
        let Some(m) = all.get_mut(node) else { continue };
        if taken.insert(m.name.clone()) {
            continue;
        }
        reached!("two members wanted one name");
        let n = next.entry(m.name.clone()).or_insert(2);
        m.name = loop {
            let name = format!("{}-{n}", m.name);
            *n += 1;
            if taken.insert(name.clone()) {
                break name;
            }
        };
    }
    (all, unsettled)
}

/// Whether a newcomer says that it is the machine that a token is for.
pub(crate) fn is_machine_meant(invite: &Invite, join: &Join) -> bool {
    let Some(binding) = &invite.binding else {
        return true;
    };
    let is_meant = join.hardware.as_ref().is_some_and(|h| binding.fits(h));
    sometimes!(
        !is_meant,
        "a token came with another machine than it is for"
    );
    is_meant || mutant!("R16")
}

fn admitted(s: &Statement, admit: &Admit) -> Candidate {
    Candidate {
        node: admit.node,
        name: admit.name.clone(),
        role: admit.role,
        state: MemberState::Member,
        is_revoked_member: false,
        labels: admit.labels.clone(),
        join: s.id,
        joined_at: s.hlc,
        since: Some(s.hlc.wall()),
        not_after: None,
        operator_key: None,
        seal_key: admit.seal_key,
        invite: None,
    }
}
