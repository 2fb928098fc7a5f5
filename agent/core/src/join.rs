//! The join conversation, both sides: a token is redeemed, a join is witnessed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use lab_crdt_log::{
    Act, Body, Draft, Invite, Join, SignedRoot, Statement, TokenKeys, Witness, WitnessRule, open,
    seal, token_id,
};
use lab_crdt_model::token::Token;
use lab_crdt_model::view::{MemberState, Role};
use lab_crdt_model::{
    AuthorId, Hardware, Hlc, MeshId, Mono, NodeId, Now, StatementId, Wall, mutant, reached,
    sometimes,
};
use lab_mesh_proto::join::{JoinFrame, JoinReply, JoinRequest, Offer, Prologue, refusal};

use crate::boot::NodeKeys;
use crate::replica::Replica;

const RETRY_MIN_MS: u64 = 1_000;
const RETRY_MAX_MS: u64 = 10_000;
/// How long a sponsor waits for another node's witness before it tells the joiner to ask again, milliseconds.
const WITNESS_WAIT_MS: u64 = 15_000;
/// Time between asking one sponsor and asking the next one as well, milliseconds.
const STAGGER_MS: u64 = 1_500;
const SPONSORED_MAX: usize = 256;

/// A machine that holds a token.
pub(crate) struct Joiner {
    keys: TokenKeys,
    token: Token,
    operator_key: Option<AuthorId>,
    hardware: Hardware,
    sponsors: BTreeMap<NodeId, Sponsor>,
    nonce: [u8; 16],
    next_start: Mono,
}

#[derive(Default)]
struct Sponsor {
    addresses: Vec<SocketAddr>,
    next_dial: Mono,
    failures: u32,
    is_busy: bool,
    /// Named by the token or by the person, not merely found on the network.
    is_named: bool,
    /// It showed that the token was made by its mesh.
    is_proved: bool,
    /// The mesh that it was asked to let us into.
    asked: Option<MeshId>,
}

/// What a joiner wants.
pub(crate) enum JoinerWish {
    Dial(NodeId, Vec<SocketAddr>),
    Send(NodeId, Bytes),
    /// Admitted: the root record, and whom to talk to first.
    Enter {
        root: SignedRoot,
        members: Vec<(NodeId, Vec<SocketAddr>)>,
    },
    Refused {
        why: String,
        is_final: bool,
        from: NodeId,
    },
}

impl Joiner {
    pub(crate) fn new(
        token: Token,
        via: Vec<(NodeId, SocketAddr)>,
        operator_key: Option<AuthorId>,
        hardware: Hardware,
        nonce: [u8; 16],
    ) -> Self {
        let keys = TokenKeys::derive(token.seed());
        let mut sponsors: BTreeMap<NodeId, Sponsor> = BTreeMap::new();
        let named = if let Token::Ticket(ticket) = &token {
            ticket.addresses.clone()
        } else {
            Vec::new()
        };
        for (node, address) in via.into_iter().chain(named) {
            let sponsor = sponsors.entry(node).or_default();
            sponsor.addresses.push(address);
            sponsor.is_named = true;
        }
        Self {
            keys,
            token,
            operator_key,
            hardware,
            sponsors,
            nonce,
            next_start: Mono::default(),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Mono> {
        let next = self
            .sponsors
            .values()
            .filter(|s| !s.is_busy)
            .map(|s| s.next_dial)
            .min()?;
        Some(next.max(self.next_start))
    }

    /// Asks the next sponsor. One at a time, so that one join is witnessed once; the next one gets its turn while
    /// an earlier one has not answered.
    pub(crate) fn wake(&mut self, now: Mono) -> Vec<JoinerWish> {
        if now < self.next_start {
            return Vec::new();
        }
        let due = self
            .sponsors
            .iter_mut()
            .filter(|(_, s)| !s.is_busy && s.next_dial <= now);
        let Some((node, sponsor)) = due.min_by_key(|(_, s)| (s.failures, s.next_dial)) else {
            return Vec::new();
        };
        sponsor.is_busy = true;
        self.next_start = now.plus_ms(STAGGER_MS);
        vec![JoinerWish::Dial(*node, sponsor.addresses.clone())]
    }

    pub(crate) fn found(&mut self, node: NodeId, addresses: Vec<SocketAddr>) {
        if self.sponsors.len() < 64 || self.sponsors.contains_key(&node) {
            self.sponsors.entry(node).or_default().addresses = addresses;
        }
    }

    pub(crate) fn lost(&mut self, node: &NodeId, now: Mono) {
        if let Some(sponsor) = self.sponsors.get_mut(node) {
            sponsor.is_busy = false;
            sponsor.failures += 1;
            let wait = RETRY_MIN_MS << sponsor.failures.min(4);
            sponsor.next_dial = now.plus_ms(wait.min(RETRY_MAX_MS));
        }
    }

    pub(crate) fn linked(&mut self, node: NodeId, keys: &NodeKeys) -> Vec<JoinerWish> {
        // Whoever made the token may have told us the mesh and the invite; otherwise the sponsor has to.
        if let Token::Ticket(ticket) = &self.token
            && !ticket.invite.is_empty()
        {
            let (mesh, invite) = (ticket.mesh, Bytes::from(ticket.invite.clone()));
            return self.request(node, mesh, &invite, false, keys);
        }
        let prologue = Prologue {
            token_id: token_id(&self.keys.public()),
            nonce: self.nonce,
        };
        send(node, JoinFrame::Prologue(prologue))
    }

    pub(crate) fn frame(
        &mut self,
        from: NodeId,
        bytes: &Bytes,
        keys: &NodeKeys,
    ) -> Vec<JoinerWish> {
        let mut wishes = self.answer(from, bytes, keys);
        // Whoever announces itself on the network may claim anything: it cannot end the attempt for the others.
        let is_trusted = self
            .sponsors
            .get(&from)
            .is_some_and(|s| s.is_named || s.is_proved);
        for wish in &mut wishes {
            if let JoinerWish::Refused { is_final, .. } = wish {
                *is_final &= is_trusted;
            }
        }
        wishes
    }

    fn answer(&mut self, from: NodeId, bytes: &Bytes, keys: &NodeKeys) -> Vec<JoinerWish> {
        match JoinFrame::decode(bytes) {
            Ok(JoinFrame::Offer(offer)) if offer.nonce == self.nonce => {
                if offer.invite.is_empty() {
                    return refused(from, "this node has not heard of the token", false);
                }
                self.request(from, offer.mesh, &offer.invite, true, keys)
            }
            Ok(JoinFrame::Reply(JoinReply::Refused { why, is_final, .. })) => {
                refused(from, &why, is_final)
            }
            Ok(JoinFrame::Reply(JoinReply::Welcome { root, members, .. })) => {
                self.enter(from, &root, members)
            }
            Ok(JoinFrame::Prologue(_) | JoinFrame::Offer(_) | JoinFrame::Request(_)) => Vec::new(),
            Err(error) => refused(from, &format!("the answer cannot be read: {error}"), false),
        }
    }

    fn request(
        &mut self,
        to: NodeId,
        mesh: MeshId,
        invite: &Bytes,
        is_from_sponsor: bool,
        keys: &NodeKeys,
    ) -> Vec<JoinerWish> {
        if let Token::Ticket(ticket) = &self.token
            && ticket.mesh != mesh
        {
            return refused(to, "this node belongs to another mesh than the token", true);
        }
        let statement = match open(&mesh, invite) {
            Ok(statement) => statement,
            Err(error) => {
                return refused(
                    to,
                    &format!("the token's invite is not valid: {error}"),
                    false,
                );
            }
        };
        let Body::Invite(body) = &statement.body else {
            return refused(to, "the token's invite is not valid", false);
        };
        if body.token_key != self.keys.public() || body.mesh_mac != self.keys.mesh_mac(&mesh) {
            return refused(
                to,
                "this node could not show that it belongs to the mesh that made the token",
                false,
            );
        }
        if let Some(sponsor) = self.sponsors.get_mut(&to) {
            sponsor.asked = Some(mesh);
            sponsor.is_proved |= is_from_sponsor;
        }
        if (body.role == Role::Laptop) != self.operator_key.is_some() {
            let what = if body.role == Role::Laptop {
                "a laptop: join with --laptop"
            } else {
                "a machine, not for a laptop"
            };
            return refused(to, &format!("this token is for {what}"), true);
        }
        // Whoever decides about this machine by what it is made of has to hear it; nobody else.
        let is_asked = body.binding.is_some() || body.confirm;
        let hardware = is_asked.then(|| self.hardware.clone());
        let join = self.sign(mesh, &statement, hardware, keys);
        send(
            to,
            JoinFrame::Request(JoinRequest {
                version: lab_mesh_proto::join::JOIN_VERSION,
                invite: invite.clone(),
                join,
            }),
        )
    }

    fn sign(
        &self,
        mesh: MeshId,
        invite: &Statement,
        hardware: Option<Hardware>,
        keys: &NodeKeys,
    ) -> Bytes {
        let (node, seal_key) = (keys.node(), keys.seal_key());
        let operator = self.operator_key;
        let token_signature = self
            .keys
            .sign_join(&mesh, &node, &seal_key, operator.as_ref());
        let join = Join {
            invite: invite.id,
            seal_key,
            operator_key: operator,
            token_signature,
            hardware,
        };
        // The stamp follows from the invite, so that asking twice gives the same statement, not a fork.
        let hlc = Hlc(invite.hlc.0.saturating_add(1));
        let draft = Draft {
            seq: 0,
            prev: StatementId::ZERO,
            under: invite.id,
            hlc,
            refs: vec![],
            body: Body::Join(join),
        };
        seal(&mesh, &keys.signing, &draft).expect("a join is far below every limit")
    }

    fn enter(
        &self,
        from: NodeId,
        root: &Bytes,
        members: Vec<(NodeId, Vec<SocketAddr>)>,
    ) -> Vec<JoinerWish> {
        let root = match SignedRoot::decode(root).and_then(|root| root.verify().map(|_| root)) {
            Ok(root) => root,
            Err(error) => {
                return refused(
                    from,
                    &format!("the root record is not valid: {error}"),
                    false,
                );
            }
        };
        // Only who was asked may let us in. Nobody is asked who did not show to belong to the mesh that made the
        // token, or whose mesh is not the one that the token names.
        let asked = self.sponsors.get(&from).and_then(|s| s.asked);
        let is_other = asked != Some(root.mesh());
        if is_other {
            return refused(
                from,
                "this node belongs to another mesh than the token",
                true,
            );
        }
        let mut members = members;
        if !members.iter().any(|(node, _)| *node == from) {
            let addresses = self
                .sponsors
                .get(&from)
                .map(|s| s.addresses.clone())
                .unwrap_or_default();
            members.push((from, addresses));
        }
        vec![JoinerWish::Enter { root, members }]
    }
}

fn send(to: NodeId, frame: JoinFrame) -> Vec<JoinerWish> {
    frame
        .encode()
        .map(|bytes| JoinerWish::Send(to, bytes))
        .into_iter()
        .collect()
}

fn refused(from: NodeId, why: &str, is_final: bool) -> Vec<JoinerWish> {
    vec![JoinerWish::Refused {
        why: why.to_owned(),
        is_final,
        from,
    }]
}

/// Joins that this node was asked to sponsor and that are not decided yet.
#[derive(Default)]
pub(crate) struct Sponsoring {
    waiting: BTreeMap<NodeId, (StatementId, Mono)>,
}

/// What a sponsor says, and whether it may be said before what was stored in this turn is durable.
pub(crate) struct Word {
    pub(crate) to: NodeId,
    pub(crate) frame: Bytes,
    /// The conversation is over: the link is closed after a while by the joiner.
    pub(crate) is_after_store: bool,
    /// It is a refusal: its code and words.
    pub(crate) refused: Option<(u16, String)>,
}

fn word(to: NodeId, frame: &JoinFrame, is_after_store: bool) -> Vec<Word> {
    frame
        .encode()
        .map(|frame| Word {
            to,
            frame,
            is_after_store,
            refused: None,
        })
        .into_iter()
        .collect()
}

fn refuse(to: NodeId, code: u16, why: &str, is_final: bool) -> Vec<Word> {
    let mut words = word(to, &JoinFrame::Reply(refusal(code, why, is_final)), false);
    for word in &mut words {
        word.refused = Some((code, why.to_owned()));
    }
    words
}

impl Sponsoring {
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.waiting.values().map(|(_, at)| *at).min()
    }

    pub(crate) fn frame(
        &mut self,
        replica: &mut Replica,
        keys: &NodeKeys,
        from: NodeId,
        bytes: &Bytes,
        now: Now,
    ) -> Vec<Word> {
        match JoinFrame::decode(bytes) {
            Ok(JoinFrame::Prologue(prologue)) => {
                let invites = &replica.log.authority().roster.invites;
                let found = invites
                    .iter()
                    .find(|(_, i)| token_id(&i.invite.token_key) == prologue.token_id)
                    .map(|(id, _)| *id);
                let invite = found
                    .and_then(|id| replica.log.envelope(&id))
                    .unwrap_or_default();
                let offer = Offer {
                    mesh: replica.log.mesh(),
                    nonce: prologue.nonce,
                    invite,
                };
                word(from, &JoinFrame::Offer(offer), false)
            }
            Ok(JoinFrame::Request(request)) => self.request(replica, keys, from, &request, now),
            Ok(JoinFrame::Offer(_) | JoinFrame::Reply(_)) => Vec::new(),
            Err(error) => refuse(
                from,
                400,
                &format!("your message cannot be read here: {error}"),
                false,
            ),
        }
    }

    fn request(
        &mut self,
        replica: &mut Replica,
        keys: &NodeKeys,
        from: NodeId,
        request: &JoinRequest,
        now: Now,
    ) -> Vec<Word> {
        if self.waiting.len() >= SPONSORED_MAX {
            return refuse(
                from,
                429,
                "too many machines are joining here, try again",
                false,
            );
        }
        if let Some(why) = replica.held_back {
            reached!("a node that must not sign sent a newcomer on");
            return refuse(from, 503, why, false);
        }
        let mesh = replica.log.mesh();
        if !request.invite.is_empty() {
            // It may wait for its predecessor; then this sponsor learns of it a little later.
            let _outcome = replica.take_statement(&request.invite, Some(from), now);
        }
        let join = match open(&mesh, &request.join) {
            Ok(join) if join.author.node() == from => join,
            Ok(_) => {
                return refuse(
                    from,
                    403,
                    "the join is signed by another key than the link",
                    true,
                );
            }
            Err(error) => {
                return refuse(from, 400, &format!("the join is not valid: {error}"), true);
            }
        };
        let Body::Join(body) = &join.body else {
            return refuse(from, 400, "the join is not valid", true);
        };
        if !replica.log.contains(&body.invite) {
            reached!("a sponsor has not heard of the token yet");
            return refuse(
                from,
                404,
                "this node has not heard of the token yet, try again",
                false,
            );
        }
        if let Some(why) = judge(replica, &join, body, now.wall) {
            return refuse(from, 403, &why, true);
        }
        if let Err(refusal) = replica.take_statement(&request.join, Some(from), now) {
            return refuse(from, 403, &format!("the join was refused: {refusal}"), true);
        }
        witness(replica, keys, &join, body, now);
        self.waiting
            .insert(from, (join.id, now.mono.plus_ms(WITNESS_WAIT_MS)));
        Vec::new()
    }

    /// Answers joins that are decided by now, or that have waited long enough.
    pub(crate) fn settle(
        &mut self,
        replica: &mut Replica,
        now: Now,
        members: impl Fn() -> Vec<(NodeId, Vec<SocketAddr>)>,
    ) -> Vec<Word> {
        let mut out = Vec::new();
        let mut done = BTreeSet::new();
        for (node, (join, until)) in &self.waiting {
            let roster = &replica.log.authority().roster;
            let state = roster
                .members
                .get(node)
                .filter(|m| m.join == *join)
                .map(|m| m.state);
            match state {
                Some(
                    state @ (MemberState::Member | MemberState::Suspended | MemberState::Probation),
                ) => {
                    sometimes!(
                        state == MemberState::Probation,
                        "a newcomer is let in on probation"
                    );
                    sometimes!(
                        state == MemberState::Suspended,
                        "a newcomer is suspended: its token was used twice"
                    );
                    let root = Bytes::from(replica.log.signed_root().encode());
                    let mut members = members();
                    members.truncate(lab_mesh_proto::join::WELCOME_MEMBERS_MAX);
                    let welcome = JoinReply::Welcome {
                        root,
                        statements: vec![],
                        last: true,
                        members,
                    };
                    out.extend(word(*node, &JoinFrame::Reply(welcome), true));
                }
                Some(MemberState::Revoked) => {
                    out.extend(refuse(*node, 410, "this machine was revoked", true));
                }
                _ if now.mono < *until => continue,
                _ => {
                    reached!("a join was not witnessed in time");
                    let why = "who must witness this join cannot be reached";
                    out.extend(refuse(*node, 503, why, false));
                }
            }
            done.insert(*node);
        }
        self.waiting.retain(|node, _| !done.contains(node));
        out
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn lost(&mut self, node: &NodeId) {
        self.waiting.remove(node);
    }
}

/// Why a join cannot count, for the joiner to read; `None` if it may.
fn judge(replica: &mut Replica, join: &Statement, body: &Join, now: Wall) -> Option<String> {
    let roster = &replica.log.authority().roster;
    let node = join.author.node();
    if let Some(member) = roster.members.get(&node) {
        return match member.state {
            MemberState::Revoked => {
                Some("this machine was revoked; join with a new key".to_owned())
            }
            _ if member.join == join.id => None,
            _ => Some("this machine is a member already".to_owned()),
        };
    }
    let Some(state) = roster.invites.get(&body.invite) else {
        return Some("the token was made by someone who may not make tokens".to_owned());
    };
    if !state.is_effective {
        return Some("the token was made by someone who may not make such tokens".to_owned());
    }
    if state.is_revoked {
        reached!("someone came with a token that was revoked");
        return Some("the token was revoked".to_owned());
    }
    if let Some(binding) = &state.invite.binding
        && !body.hardware.as_ref().is_some_and(|h| binding.fits(h))
    {
        reached!("a machine came with a token that is for another one");
        let has = body.hardware.as_ref().map_or_else(
            || "does not say what it is made of".to_owned(),
            |hardware| format!("has {hardware}"),
        );
        return Some(format!(
            "this token is for the machine with {binding}; this one {has}"
        ));
    }
    if state.used_by.len() >= usize::from(state.invite.uses_max) {
        reached!("someone came with a token that was used already");
        let by: Vec<_> = state
            .used_by
            .iter()
            .filter_map(|n| roster.members.get(n))
            .map(|m| m.name.as_str())
            .collect();
        return Some(format!("the token was used already, by {}", by.join(", ")));
    }
    if now > state.invite.not_after && !mutant!("M11") {
        reached!("someone came with a token that is over");
        let ago = lab_crdt_model::time::age(now.0 - state.invite.not_after.0);
        return Some(format!(
            "the token expired {ago} ago (by this node's clock)"
        ));
    }
    None
}

/// Witnesses a join if this node may and nobody has.
pub(crate) fn witness(
    replica: &mut Replica,
    keys: &NodeKeys,
    join: &Statement,
    body: &Join,
    now: Now,
) -> bool {
    let me = keys.node();
    let registrars = replica.log.root().registrars.clone();
    let roster = &replica.log.authority().roster;
    let Some(state) = roster.invites.get(&body.invite) else {
        return false;
    };
    let is_asked = may_witness(&state.invite, &registrars, &me);
    let is_open = roster.members.get(&join.author.node()).is_some_and(|m| {
        m.join == join.id && matches!(m.state, MemberState::Seen | MemberState::Probation)
    });
    let is_unwitnessed = roster
        .joins
        .get(&join.id)
        .is_some_and(|j| !j.is_witnessed());
    let is_free = state.used_by.len() < usize::from(state.invite.uses_max);
    let am_member = roster
        .members
        .get(&me)
        .is_some_and(|m| m.state == MemberState::Member);
    if !(is_asked && is_open && is_unwitnessed && is_free && am_member)
        || (now.wall > state.invite.not_after && !mutant!("M11"))
        || state.is_revoked
    {
        return false;
    }
    let under = roster.members[&me].join;
    let uses_max = usize::from(state.invite.uses_max);
    let is_promised = state.invite.witness == WitnessRule::Quorum
        && replica.log.witness_count(&body.invite, &me.author()) >= uses_max;
    if is_promised || replica.log.is_witnessed_by(&join.id, &me.author()) {
        return false;
    }
    let witness = Body::Witness(Witness {
        join: join.id,
        seen_at: now.wall,
    });
    let is_taken = replica.speak(keys, under, Vec::new(), witness, now);
    if is_taken {
        let act = Act::Witnessed {
            node: join.author.node(),
            join: join.id,
            invite: body.invite,
        };
        replica.audit.note(None, act, now);
    }
    is_taken
}

fn may_witness(invite: &Invite, registrars: &[NodeId], me: &NodeId) -> bool {
    match invite.witness {
        WitnessRule::Any => registrars.is_empty() || registrars.contains(me),
        WitnessRule::One(node) => node == *me,
        WitnessRule::Quorum => registrars.contains(me),
    }
}

/// Joins that wait for this node to witness them and that reached it through the mesh.
pub(crate) fn witness_asked(replica: &mut Replica, keys: &NodeKeys, now: Now) -> bool {
    let me = keys.node();
    let registrars = replica.log.root().registrars.clone();
    let asked: Vec<StatementId> = replica.log.authority().roster.unwitnessed().collect();
    let mut has_witnessed = false;
    for id in asked {
        let Some(join) = replica.log.statement(&id) else {
            continue;
        };
        let Body::Join(body) = &join.body else {
            continue;
        };
        let roster = &replica.log.authority().roster;
        let is_mine = roster.invites.get(&body.invite).is_some_and(|i| {
            matches!(i.invite.witness, WitnessRule::One(_) | WitnessRule::Quorum)
                && may_witness(&i.invite, &registrars, &me)
        });
        if is_mine {
            reached!("a join reached its witness through the mesh");
            has_witnessed |= witness(replica, keys, &join, body, now);
        }
    }
    has_witnessed
}
