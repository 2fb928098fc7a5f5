//! What a replica looks like to a person.

use std::collections::BTreeMap;

use lab_crdt_log::{Authority, Body, InviteState, Log, Register, Rights, WitnessRule, token_id};
use lab_crdt_model::report::{Beacon, Section};
use lab_crdt_model::view::{
    CandidateView, ChainView, ChangeView, CheckpointView, FieldView, HeldView, InviteView,
    JoinView, LateView, MemberState, MemberView, OperatorView, PeerView, ProposalView, ReplicaView,
    ReportView, Role,
};
use lab_crdt_model::{AuthorId, Binding, Issue, Label, NodeId, Now, StatementId, Wall};
use serde::de::DeserializeOwned;

use crate::command::ViewMask;
use crate::replica::Replica;

/// Statements that wait this long are told of, milliseconds: a pull has had its chance.
const WAITING_MS: u64 = 60_000;
/// Most changes that are named of those that wait for one grant to be sealed.
const LATE_SHOWN_MAX: usize = 100;
const ANCESTRY_STEPS_MAX: usize = 2_000;

pub(crate) struct Facts<'a> {
    pub(crate) me: NodeId,
    pub(crate) now: Now,
    pub(crate) uptime_ms: u64,
    pub(crate) version: &'a str,
    pub(crate) peers: Vec<PeerView>,
}

pub(crate) fn view(replica: &mut Replica, mask: ViewMask, facts: Facts<'_>) -> ReplicaView {
    let now = facts.now.wall;
    let mut issues: Vec<Issue> = replica.document_issue.iter().cloned().collect();
    for author in replica.log.forked() {
        let why = "its chain has two branches: its key was stolen, or its machine was restored from an old copy";
        issues.push(
            Issue::warning("M020", author.to_string(), why)
                .with_help(format!("if it was stolen: lab revoke {author}")),
        );
    }
    let waited_ms = replica
        .log
        .waiting_since()
        .map_or(0, |at| facts.now.mono.ms_since(at));
    if waited_ms >= WAITING_MS {
        let count = replica.log.waiting_len();
        let what = format!("{count} statements wait for others that no peer has sent yet");
        issues.push(
            Issue::warning("M042", "replica", what)
                .with_help("start the machines that may have them; lab history names forked keys"),
        );
    }
    if mask.roster {
        issues.extend(double_uses(&mut replica.log));
    }
    let late = late(&mut replica.log);
    for (grant, late) in &late {
        let grants = &replica.log.authority_as_resolved().grants;
        let name = grants.get(grant).map_or("?", |g| &g.name);
        let what = format!(
            "{} changes of {name} came after their lease or grant had ended, and do not count yet",
            late.count
        );
        issues.push(
            Issue::warning("M047", name.to_owned(), what).with_help(format!(
                "an admin looks at them and decides: lab operator seal {name}"
            )),
        );
    }
    let history = history(&mut replica.log, mask.history_count);
    let (members, operators, invites) = if mask.roster {
        roster(&mut replica.log, late, now)
    } else {
        Default::default()
    };
    let (bindings, joins) = if mask.roster {
        (bindings(&mut replica.log), joins(&mut replica.log))
    } else {
        Default::default()
    };
    let (checkpoints, held) = if mask.roster {
        (checkpoints(&mut replica.log), held(&mut replica.log))
    } else {
        Default::default()
    };
    let chains = if mask.chains {
        chains(&mut replica.log)
    } else {
        Vec::new()
    };
    let fields = if mask.fields {
        fields(replica)
    } else {
        Vec::new()
    };
    let reports = if mask.reports {
        reports(replica, &mut issues)
    } else {
        Vec::new()
    };
    ReplicaView {
        mesh: replica.log.mesh(),
        mesh_name: replica.log.root().name.clone(),
        me: facts.me,
        at: now,
        uptime_ms: facts.uptime_ms,
        version: facts.version.to_owned(),
        digest: replica.log.digest(),
        register_digest: replica.registers.digest(),
        heads: replica.document.heads(),
        statement_count: replica.log.len() as u64,
        pending_count: replica.log.waiting_len() as u64,
        members,
        operators,
        invites,
        fields,
        reports,
        peers: facts.peers,
        history,
        refused: replica.refused.iter().cloned().collect(),
        issues,
        bindings,
        joins,
        checkpoints,
        held,
        chains,
    }
}

fn fields(replica: &Replica) -> Vec<FieldView> {
    replica
        .document
        .fields()
        .map(|(path, candidates)| FieldView {
            path: path.clone(),
            candidates: candidates
                .iter()
                .map(|c| CandidateView {
                    field: c.field.clone(),
                    statement: c.statement,
                    author: c.author,
                    at: c.at,
                })
                .collect(),
        })
        .collect()
}

/// What waits for an admin, by grant.
fn late(log: &mut Log) -> BTreeMap<StatementId, LateView> {
    let all = log.waiting_for_seal();
    let grants = all.into_iter().filter_map(|(grant, mut changes)| {
        let (last, in_time) = log.ends_of(&grant)?;
        let count = changes.len() as u32;
        changes.truncate(LATE_SHOWN_MAX);
        let late = LateView {
            count,
            changes,
            last,
            in_time,
        };
        Some((grant, late))
    });
    grants.collect()
}

/// Who wants an admin out.
fn proposals(authority: &Authority, admin: &AuthorId) -> Vec<ProposalView> {
    let about = authority.proposals.iter().filter(|(_, p)| p.key == *admin);
    about
        .map(|(id, p)| ProposalView {
            id: *id,
            head: p.head,
            signers: p.signers.iter().copied().collect(),
        })
        .collect()
}

fn roster(
    log: &mut Log,
    mut late: BTreeMap<StatementId, LateView>,
    now: Wall,
) -> (Vec<MemberView>, Vec<OperatorView>, Vec<InviteView>) {
    let admins = log.root().admins.clone();
    let root = StatementId(log.mesh().0);
    let authority = log.authority();
    let mut members: Vec<_> = authority
        .roster
        .members
        .values()
        .map(|m| MemberView {
            node: m.node,
            name: m.name.clone(),
            role: m.role,
            state: m.state_at(now),
            labels: m.labels.iter().map(Label::to_string).collect(),
            join: m.join,
            joined_at: m.joined_at,
            not_after: m.not_after,
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let mut operators: Vec<_> = admins
        .iter()
        .map(|admin| OperatorView {
            key: admin.key,
            name: admin.name.clone(),
            is_admin: true,
            rights: Rights::ALL.names().into_iter().map(str::to_owned).collect(),
            scope: vec![String::new()],
            not_after: None,
            is_revoked: !authority.admins.contains(&admin.key),
            under: root,
            proposals: proposals(authority, &admin.key),
            late: None,
        })
        .collect();
    operators.extend(authority.grants.iter().map(|(under, grant)| {
        OperatorView {
            key: grant.subject,
            name: grant.name.clone(),
            is_admin: false,
            rights: grant
                .rights
                .names()
                .into_iter()
                .map(str::to_owned)
                .collect(),
            scope: grant.scope.clone(),
            not_after: grant.not_after,
            is_revoked: grant.is_revoked() || authority.revoked.contains(&grant.subject),
            under: *under,
            proposals: Vec::new(),
            late: late.remove(under),
        }
    }));
    let invites = authority
        .roster
        .invites
        .iter()
        .map(|(id, state)| InviteView {
            id: *id,
            token: hex(&token_id(&state.invite.token_key)),
            author: state.author,
            role: state.invite.role,
            name: state.invite.name.clone(),
            labels: state.invite.labels.iter().map(Label::to_string).collect(),
            used_count: state.used_by.len() as u32,
            uses_max: u32::from(state.invite.uses_max),
            not_after: state.invite.not_after,
            witness: match state.invite.witness {
                WitnessRule::Any => "any".to_owned(),
                WitnessRule::Quorum => "quorum".to_owned(),
                WitnessRule::One(node) => {
                    let name = authority.roster.members.get(&node).map(|m| m.name.clone());
                    format!("one {}", name.unwrap_or_else(|| node.short()))
                }
            },
            state: state.word_at(now).to_owned(),
            used_by: state.used_by.clone(),
        })
        .collect();
    (members, operators, invites)
}

/// Tokens that let in more than they may, as long as nobody has said whose machine is whose.
fn double_uses(log: &mut Log) -> Vec<Issue> {
    let roster = &log.authority().roster;
    let tell = |state: &InviteState| {
        let users: Vec<_> = state
            .used_by
            .iter()
            .filter_map(|node| roster.members.get(node))
            .collect();
        if !users.iter().any(|m| m.state == MemberState::Suspended) {
            return None;
        }
        let names: Vec<_> = users.iter().map(|m| m.name.as_str()).collect();
        let token = hex(&token_id(&state.invite.token_key));
        let what = format!(
            "it was used by {}, which is more than it may: who is not confirmed is suspended",
            names.join(", ")
        );
        let help = format!("say which machine is yours: lab token resolve {token}");
        Some(Issue::error("M048", format!("token {token}"), what).with_help(help))
    };
    roster.invites.values().filter_map(tell).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn joins(log: &mut Log) -> Vec<JoinView> {
    log.authority();
    let roster = &log.authority_as_resolved().roster;
    let open = roster.members.values().filter_map(|m| {
        let join = roster.joins.get(&m.join)?;
        Some(JoinView {
            node: m.node,
            invite: log.invite_of(&m.join)?,
            hardware: join.hardware.clone(),
            witnesses: join.witnesses.iter().map(|(n, at)| (*n, *at)).collect(),
            needed: join.needed as u32,
            is_confirm_due: join.is_confirm_due,
        })
    });
    open.collect()
}

fn checkpoints(log: &mut Log) -> Vec<CheckpointView> {
    log.authority();
    let all = log.authority_as_resolved().checkpoints.iter();
    let mut all: Vec<CheckpointView> = all
        .filter_map(|(id, state)| {
            let s = log.statement(id)?;
            let Body::Checkpoint(checkpoint) = &s.body else {
                return None;
            };
            let (missing, void) = log.doubts(&checkpoint.heads);
            Some(CheckpointView {
                id: *id,
                author: s.author,
                at: s.hlc,
                author_count: checkpoint.heads.len() as u32,
                missing_count: missing as u32,
                void_count: void as u32,
                signers: state.signers.iter().copied().collect(),
                is_effective: state.is_effective,
            })
        })
        .collect();
    all.sort_by_key(|c| (c.at, c.id));
    all
}

fn held(log: &mut Log) -> Vec<HeldView> {
    let all = log.authority().held.iter();
    all.map(|held| HeldView {
        revocation: held.revocation,
        key: held.key,
        grant: held.grant,
        head: held.head,
        signers: held.signers.iter().copied().collect(),
        count: held.statements.len() as u32,
    })
    .collect()
}

fn chains(log: &mut Log) -> Vec<ChainView> {
    let all = log.checkpoint_heads().into_iter();
    all.map(|(author, head, count)| ChainView {
        author,
        head,
        count,
    })
    .collect()
}

fn bindings(log: &mut Log) -> BTreeMap<StatementId, Binding> {
    let invites = log.authority().roster.invites.iter();
    invites
        .filter_map(|(id, state)| Some((*id, state.invite.binding.clone()?)))
        .collect()
}

fn reports(replica: &Replica, issues: &mut Vec<Issue>) -> Vec<ReportView> {
    replica
        .registers
        .each()
        .enumerate()
        .map(|(place, (node, registers))| {
            let [mut beacon, mut facts, mut status] = [None; 3];
            for register in registers {
                match register.section {
                    Section::Beacon => beacon = Some(register),
                    Section::Facts => facts = Some(register),
                    Section::Status => status = Some(register),
                }
            }
            let beacon: Option<Beacon> = beacon.and_then(|it| read(it, issues));
            // Taken in before this start: the node's own clock is the best guess of when it was said.
            let guess = beacon.as_ref().map_or(Wall(1), |b| b.wall);
            let seen = |section| match replica.heard_at(place, section) {
                at if at == Wall::default() => guess,
                at => at,
            };
            ReportView {
                node,
                facts: facts.and_then(|it| read(it, issues)),
                status: status
                    .and_then(|it| read(it, issues))
                    .map(|status| (status, seen(Section::Status))),
                beacon: beacon.map(|beacon| (beacon, seen(Section::Beacon))),
            }
        })
        .collect()
}

pub(crate) fn body<T: DeserializeOwned>(
    replica: &Replica,
    node: &NodeId,
    section: Section,
    issues: &mut Vec<Issue>,
) -> Option<T> {
    read(replica.registers.get(node, section)?, issues)
}

fn read<T: DeserializeOwned>(register: &Register, issues: &mut Vec<Issue>) -> Option<T> {
    match postcard::from_bytes(&register.body) {
        Ok(body) => Some(body),
        Err(_) => {
            let section = register.section;
            let what = format!("its report {section:?} cannot be read by this version");
            issues.push(
                Issue::warning("M021", register.node.to_string(), what)
                    .with_help("update the older of the two machines"),
            );
            None
        }
    }
}

fn history(log: &mut Log, count: u32) -> Vec<ChangeView> {
    log.authority();
    let ids: Vec<StatementId> = log.newest().take(count as usize).collect();
    let mut out: Vec<ChangeView> = Vec::new();
    let mut later: Option<(AuthorId, StatementId)> = None;
    for id in ids {
        let Some(s) = log.statement(&id) else {
            continue;
        };
        let why_not = log.why_not(&id).map(str::to_owned);
        let kind = s.body.word().to_owned();
        let (message, ops) = match s.body {
            Body::Edit(edit) => (edit.message, edit.ops),
            body => (summary(&body), Vec::new()),
        };
        let is_edit = kind == "edit";
        // Told on the later of two edits made without knowledge of each other.
        if is_edit {
            if let Some((author, later)) = later
                && author != s.author
                && !is_ancestor(log, &id, &later)
                && let Some(change) = out.iter_mut().find(|c| c.id == later)
            {
                change.is_concurrent = true;
            }
            later = Some((s.author, id));
        }
        out.push(ChangeView {
            id,
            author: s.author,
            at: s.hlc,
            kind,
            message,
            ops,
            is_effective: why_not.is_none(),
            why_not,
            is_concurrent: false,
        });
    }
    out
}

fn is_ancestor(log: &Log, earlier: &StatementId, later: &StatementId) -> bool {
    let mut queue = vec![*later];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(id) = queue.pop() {
        for parent in log.edit_parents(&id) {
            if parent == earlier {
                return true;
            }
            if seen.len() < ANCESTRY_STEPS_MAX && seen.insert(*parent) {
                queue.push(*parent);
            }
        }
    }
    false
}

fn summary(body: &Body) -> String {
    match body {
        Body::Edit(edit) => edit.message.clone(),
        Body::Grant(g) => format!(
            "{} may {} under {}",
            g.name,
            g.rights.names().join(", "),
            scope(&g.scope)
        ),
        Body::RevokeGrant(g) => format!("end grant {}", g.grant.short()),
        Body::Revoke(r) => format!("revoke {} {}", r.key.short(), r.reason),
        Body::Invite(i) => {
            let what = if i.role == Role::Laptop {
                "laptop"
            } else {
                "node"
            };
            let labels: Vec<_> = i.labels.iter().map(Label::to_string).collect();
            let which = i.binding.as_ref().map(|b| format!("with {b} "));
            format!(
                "token for {what} {} {}{}",
                i.name.as_deref().unwrap_or("(any name)"),
                which.unwrap_or_default(),
                labels.join(" ")
            )
        }
        Body::RevokeInvite(r) => format!("revoke token of {}", r.invite.short()),
        Body::Join(j) => format!("join with token of {}", j.invite.short()),
        Body::Witness(w) => format!("witness join {}", w.join.short()),
        Body::Confirm(c) => format!("confirm join {}", c.join.short()),
        Body::Admit(a) => format!("admit {}", a.name),
        Body::CoSign(c) => format!("co-sign {}", c.proposal.short()),
        Body::Root(signed) => match signed.read() {
            Ok(record) => {
                let admins: Vec<_> = record.admins.iter().map(|a| a.name.as_str()).collect();
                format!(
                    "root record {}, admins {}",
                    record.version,
                    admins.join(", ")
                )
            }
            Err(error) => error.to_string(),
        },
        Body::Vouch(v) => {
            let heads: Vec<_> = v.heads.iter().map(|h| h.short()).collect();
            format!("heard {} under grant {}", heads.join(", "), v.grant.short())
        }
        Body::Checkpoint(c) => format!("what {} authors said is the history", c.heads.len()),
        Body::Unknown(kind, _) => format!("kind {} of a later version", kind.0),
    }
    .trim()
    .to_owned()
}

fn scope(scope: &[String]) -> String {
    let named: Vec<_> = scope
        .iter()
        .map(|s| if s.is_empty() { "everything" } else { s })
        .collect();
    named.join(", ")
}
