//! Authority against the model in `tests/fixtures/authority/model.py`, on histories in which anyone may be a thief.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use lab_crdt_log::{Body, Log, Statement};
use lab_crdt_model::{AuthorId, Hlc, StatementId};
use lab_simulation::reference::history::History;
use serde_json::{Value as Json, json};

/// In each of two tests, which run side by side.
const HISTORIES: u64 = 5_000;
const AT_ONCE: u64 = 250;

fn id(id: &StatementId) -> Json {
    Json::from(id.to_string())
}

fn key(key: &AuthorId) -> Json {
    Json::from(key.to_string())
}

fn head(head: Option<&StatementId>) -> Json {
    head.map_or(Json::Null, id)
}

fn body(log: &Log, s: &Statement) -> Json {
    match &s.body {
        Body::Edit(edit) => json!(["set", edit.ops[0].path().as_str()]),
        Body::Grant(g) => {
            let end = g.not_after.map(|end| Hlc::from_wall(end).0);
            json!(["grant", key(&g.subject), g.rights.0, g.scope, end])
        }
        // Nobody can end a root key.
        Body::Revoke(r) if !log.root_state().root_keys.contains(&r.key) => {
            json!(["revoke", key(&r.key), head(r.head.as_ref())])
        }
        Body::Checkpoint(c) => {
            json!(["checkpoint", c.heads.iter().map(id).collect::<Vec<_>>()])
        }
        Body::CoSign(c) => json!(["co-sign", id(&c.proposal)]),
        Body::RevokeGrant(r) => json!(["revoke-grant", id(&r.grant), head(r.head.as_ref())]),
        _ => json!(["other"]),
    }
}

/// What a replica holds, as the model reads it.
fn question(log: &Log) -> Json {
    let root = StatementId(log.mesh().0);
    let statements: Vec<Json> = log
        .newest()
        .filter_map(|id| log.statement(&id))
        .map(|s| {
            let under = if s.under == root {
                Json::from("root")
            } else {
                id(&s.under)
            };
            let refs: Vec<Json> = s.refs.iter().map(id).collect();
            json!([
                id(&s.id),
                key(&s.author),
                s.seq,
                id(&s.prev),
                under,
                s.hlc.0,
                refs,
                body(log, &s)
            ])
        })
        .collect();
    let state = log.root_state();
    let annul = state
        .record
        .annul
        .iter()
        .filter(|end| !state.root_keys.contains(&end.key));
    json!({
        "admins": state.listed.iter().map(key).collect::<Vec<_>>(),
        "present": state.record.admins.iter().map(|a| key(&a.key)).collect::<Vec<_>>(),
        "annul": annul.map(|end| json!([key(&end.key), head(end.head.as_ref())])).collect::<Vec<_>>(),
        "statements": statements,
    })
}

/// What a replica makes of it: edits by admins and under grants of admins, those grants, and the cuts.
fn answer(log: &mut Log) -> Json {
    let root = StatementId(log.mesh().0);
    let edits = log.effective_edits();
    let is_grant = |log: &Log, id: &StatementId| {
        log.statement(id)
            .is_some_and(|s| matches!(s.body, Body::Grant(_)))
    };
    let mut effective: Vec<String> = edits
        .iter()
        .filter(|e| {
            let under = log.statement(&e.id).expect("stored").under;
            under == root || is_grant(log, &under)
        })
        .map(|e| e.id.to_string())
        .collect();
    effective.sort_unstable();
    let mut grants: Vec<StatementId> = log.authority().grants.keys().copied().collect();
    grants.retain(|id| is_grant(log, id));
    let mut grants: Vec<String> = grants.iter().map(ToString::to_string).collect();
    grants.sort_unstable();
    let cuts: serde_json::Map<String, Json> = log
        .authority()
        .cuts()
        .map(|(author, kept)| (author.to_string(), kept.len().into()))
        .collect();
    json!({ "effective": effective, "grants": grants, "cut": cuts })
}

#[test]
fn the_written_model_agrees_on_five_thousand_histories() {
    agree(20_000);
}

#[test]
fn the_written_model_agrees_on_five_thousand_more() {
    agree(20_000 + HISTORIES);
}

fn agree(first: u64) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/authority/model.py");
    let mut child = Command::new("python3")
        .arg(model)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut ask = child.stdin.take().expect("piped");
    let mut answers = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (mut effective, mut cut) = (0, 0);
    for from in (0..HISTORIES).step_by(AT_ONCE as usize) {
        let seeds = first + from..first + from + AT_ONCE;
        let mut logs: Vec<Log> = seeds
            .clone()
            .map(|seed| History::new(seed).replica())
            .collect();
        // Enough that both work at a time, little enough that no pipe is full in both directions.
        std::thread::scope(|scope| {
            let questions: Vec<String> = logs.iter().map(|log| question(log).to_string()).collect();
            let ask = &mut ask;
            scope.spawn(move || {
                for question in questions {
                    writeln!(ask, "{question}").expect("the model reads");
                }
                ask.flush().expect("the model reads");
            });
            for (seed, log) in seeds.zip(&mut logs) {
                let line = answers.next().expect("an answer").expect("text");
                let theirs: Json = serde_json::from_str(&line).expect("JSON");
                let ours = answer(log);
                assert_eq!(ours, theirs, "seed {seed}");
                effective += ours["effective"].as_array().map_or(0, Vec::len);
                cut += ours["cut"].as_object().map_or(0, serde_json::Map::len);
            }
        });
    }
    drop(ask);
    assert!(child.wait().expect("the model ends").success());
    assert!(
        effective > 10_000 && cut > 2_000,
        "{effective} edits, {cut} cuts"
    );
}
