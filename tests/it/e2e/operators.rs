//! Who may change things: two at once, and those who may not.

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_api::ClientError;
use lab_crdt_log::{Admit, Body, Draft, Edit, Grant, Revoke, Rights, seal};
use lab_crdt_model::view::{ReplicaView, Role};
use lab_crdt_model::{AuthorId, MeshId, NodeId, Op, StatementId, Value};

use crate::support::{SOON, Seat, TestLab, author, field, read_key, set, wall};

fn declaration(greeting: &str) -> String {
    format!("lab: 1\nset: home\nlabels:\n  all:\n    params: {{ greeting: {greeting} }}\n")
}

/// Two agents, one for ana and one for bob, who cannot reach each other until the second value is called.
fn two_apart(lab: &TestLab) -> impl FnOnce() {
    let ids = [lab.view(0).me, lab.view(1).me];
    let block = |at: usize, peers: &[NodeId]| {
        let blocked = lab.ask(at, async |client| client.block(peers).await);
        blocked.expect("faults are allowed");
    };
    block(0, &ids[1..]);
    block(1, &ids[..1]);
    move || {
        block(0, &[]);
        block(1, &[]);
        lab.until_whole();
    }
}

#[test]
fn two_operators_edit_the_same_key() {
    let lab = TestLab::of_with(2, &["--allow-faults"]);
    let bob = lab.operator("bob", &[]);
    let heal = two_apart(&lab);
    let (mine, theirs) = (
        lab.write("ana.yaml", &declaration("hola")),
        lab.write("bob.yaml", &declaration("hei")),
    );
    lab.cli(0, &["apply", "-f", &mine, "-y", "--no-wait"]);
    lab.cli_as(&bob, 1, &["apply", "-f", &theirs, "-y", "--no-wait"]);
    let path = "on/all/params/greeting";
    assert_eq!(field(&lab.view(0), path), Some(&Value::text("hola")));
    assert_eq!(field(&lab.view(1), path), Some(&Value::text("hei")));
    heal();

    // Both values are kept and shown everywhere, with the one that counts; nobody's edit is lost.
    let winner = field(&lab.view(0), path).cloned();
    for at in 0..2 {
        let view = lab.view(at);
        assert_eq!(
            field(&view, path).cloned(),
            winner,
            "the same one counts everywhere"
        );
        let both = view
            .fields
            .iter()
            .find(|f| f.path.as_str() == path)
            .unwrap();
        assert_eq!(both.candidates.len(), 2, "{both:?}");
        for args in [
            vec!["explain", "n1", "greeting"],
            vec!["explain", "n1"],
            vec!["doctor"],
        ] {
            let said = lab.cli(at, &args).ends_with(0).said();
            assert!(
                said.contains("written at the same time"),
                "{args:?}: {said}"
            );
            assert!(
                said.contains("hola") && said.contains("hei"),
                "{args:?}: {said}"
            );
        }
        let history = lab.cli(at, &["history"]).ok();
        let marked: Vec<_> = history.lines().filter(|l| l.contains('⑂')).collect();
        assert!(
            !marked.is_empty() && history.contains("bob") && history.contains("ana"),
            "{history}"
        );
    }

    // Writing the wanted value once more settles it.
    let settled = lab.write("both.yaml", &declaration("salut"));
    lab.cli_as(&bob, 1, &["apply", "-f", &settled, "-y"]).ok();
    lab.until("it is settled", SOON, || {
        (0..2).all(|at| {
            !lab.cli(at, &["explain", "n1", "greeting"])
                .said()
                .contains("at the same time")
        })
    });
    assert_eq!(field(&lab.view(0), path), Some(&Value::text("salut")));
}

#[test]
fn two_operators_who_disagree_through_two_labels_make_a_conflict() {
    let lab = TestLab::of_with(2, &["--allow-faults"]);
    let bob = lab.operator("bob", &[]);
    lab.cli(0, &["label", "add", "role=web", "role=dns", "-t", "n2"])
        .ok();
    lab.until_whole();
    let heal = two_apart(&lab);
    let by_label = |set: &str, label: &str, content: &str| {
        let text = format!(
            "lab: 1\nset: {set}\nlabels:\n  {label}:\n    params: {{ workers: {content} }}\n    files: {{ /etc/workers: {{ content: \"{content}\" }} }}\n"
        );
        lab.write(&format!("{set}.yaml"), &text)
    };
    let (mine, theirs) = (
        by_label("ana", "role=web", "4"),
        by_label("bob", "role=dns", "2"),
    );
    lab.cli(0, &["apply", "-f", &mine, "-y", "--no-wait"]);
    lab.cli_as(&bob, 1, &["apply", "-f", &theirs, "-y"]).ok();
    let workers = lab.agents[1].root.join("etc/workers");
    assert_eq!(std::fs::read_to_string(&workers).unwrap(), "2");
    heal();

    for at in 0..2 {
        let explained = lab.cli(at, &["explain", "n2", "workers"]).ends_with(7);
        for word in ["role=web", "role=dns", "ana.yaml:5", "bob.yaml:5", "help: "] {
            assert!(explained.out.contains(word), "{word}: {}", explained.out);
        }
        lab.until("the plan has heard of it", SOON, || {
            lab.cli(at, &["plan"]).code == 7
        });
        let status = lab.cli(at, &["status"]).ok();
        assert!(status.contains("conflict"), "{status}");
    }
    lab.cli(0, &["apply", "-f", &mine, "-y", "--timeout", "20s"])
        .ends_with(7);
    // What was good last stays.
    assert_eq!(std::fs::read_to_string(&workers).unwrap(), "2");

    // Settled at the level of the machine.
    let settle = lab.write(
        "settle.yaml",
        "lab: 1\nset: settle\nnodes:\n  n2:\n    params: { workers: 3 }\n",
    );
    lab.cli(0, &["apply", "-f", &settle, "-y", "--no-wait"]);
    lab.until("the parameter is settled", SOON, || {
        lab.cli(1, &["explain", "n2", "workers"]).code == 0
    });
}

#[test]
fn two_values_of_a_one_of_key_from_both_sides_leave_one_and_are_reported() {
    let lab = TestLab::of_with(2, &["--allow-faults"]);
    let bob = lab.operator("bob", &[]);
    let file = lab.write(
        "v.yaml",
        "lab: 1\nset: v\nvocabulary:\n  - site: { one-of: [home, attic] }\n",
    );
    lab.cli(0, &["apply", "-f", &file, "-y", "--no-wait"]).ok();
    lab.until_whole();
    let heal = two_apart(&lab);
    lab.cli(0, &["label", "add", "site=home", "-t", "n2"]).ok();
    lab.cli_as(&bob, 1, &["label", "add", "site=attic", "-t", "n2"])
        .ok();
    heal();

    let chosen = lab.cli(0, &["target", "site=home", "-o", "name"]).out;
    for at in 0..2 {
        let homes = lab.cli(at, &["target", "site=home", "-o", "name"]).out;
        let attics = lab.cli(at, &["target", "site=attic", "-o", "name"]).out;
        assert_eq!(homes, chosen, "the same one everywhere");
        assert_eq!(format!("{homes}{attics}"), "n2\n", "exactly one of them");
        let doctor = lab.cli(at, &["doctor"]).ok();
        assert!(
            doctor.contains("site") && doctor.contains("home") && doctor.contains("attic"),
            "{doctor}"
        );
    }
    // What the doctor says to type settles it.
    let doctor = lab.cli(0, &["doctor", "-o", "json"]).json();
    let checks = doctor["data"].as_array().unwrap();
    let fix = checks.iter().find(|c| c["check"] == "data").unwrap()["fix"]
        .as_str()
        .unwrap();
    let words: Vec<_> = fix.strip_prefix("lab ").unwrap().split(' ').collect();
    lab.cli(0, &words).ok();
    for at in 0..2 {
        lab.until("it is settled", SOON, || {
            lab.cli(at, &["doctor"])
                .out
                .contains("nothing in the replica is amiss")
        });
        assert_eq!(
            lab.cli(at, &["target", "site=home", "-o", "name"]).out,
            chosen
        );
    }
}

/// What no refused statement may change.
fn standing(view: &ReplicaView) -> (u64, [u8; 32], Vec<[u8; 32]>, usize) {
    (
        view.statement_count,
        view.digest,
        view.heads.clone(),
        view.fields.len(),
    )
}

#[test]
fn refused_statements_change_nothing() {
    let lab = TestLab::of(2);
    let admin = lab.admin_key();
    let root = StatementId(lab.view(0).mesh.0);
    let key = |n: u8| SigningKey::from_bytes(&[n; 32]);
    let grant = |of: &SigningKey, name: &str, scope: &str| {
        let grant = Grant {
            subject: author(of),
            name: name.to_owned(),
            rights: Rights::ALL,
            scope: vec![scope.to_owned()],
            not_after: None,
        };
        lab.submit(0, &admin, root, Body::Grant(grant)).unwrap()
    };
    let (bob, gone, eve) = (key(10), key(11), key(66));
    let narrow = grant(&bob, "bob", "on/role=web");
    let over = grant(&gone, "gone", "");
    lab.submit(
        0,
        &gone,
        over,
        set("on/all/params/before", Value::Int(1), "person:gone"),
    )
    .unwrap();
    let revoke = |of: &SigningKey, head| Revoke {
        key: author(of),
        head,
        reason: "left".to_owned(),
    };
    let last = lab
        .ask(0, async |client| client.prepare(author(&gone)).await)
        .unwrap()
        .prev;
    lab.submit(0, &admin, root, Body::Revoke(revoke(&gone, Some(last))))
        .unwrap();
    lab.until_whole();
    let node = read_key(&lab.agents[0].data.join("node.key"));
    let node_join = lab
        .view(0)
        .members
        .iter()
        .find(|m| m.name == "n1")
        .unwrap()
        .join;
    assert_eq!(NodeId(author(&node).0), lab.view(0).me);

    let before = [standing(&lab.view(0)), standing(&lab.view(1))];
    let hijack = |owner: &str| set("on/all/params/x", Value::Int(666), owner);
    let more = || Grant {
        subject: author(&eve),
        name: "eve".to_owned(),
        rights: Rights::ALL,
        scope: vec![String::new()],
        not_after: None,
    };
    let admit = Admit {
        node: NodeId([9; 32]),
        seal_key: [8; 32],
        name: "trojan".to_owned(),
        role: Role::Node,
        labels: vec![],
    };
    let attempts: Vec<(&str, &SigningKey, StatementId, Body)> = vec![
        ("a node edits", &node, node_join, hijack("person:ana")),
        (
            "a node edits as if it were an admin",
            &node,
            root,
            hijack("person:ana"),
        ),
        (
            "a node admits another",
            &node,
            root,
            Body::Admit(admit.clone()),
        ),
        ("a stranger edits", &eve, root, hijack("person:eve")),
        (
            "a stranger edits with the grant of another",
            &eve,
            narrow,
            hijack("person:bob"),
        ),
        ("a stranger allows itself", &eve, root, Body::Grant(more())),
        (
            "a revoked operator edits",
            &gone,
            over,
            hijack("person:gone"),
        ),
        (
            "an operator writes outside its scope",
            &bob,
            narrow,
            hijack("person:bob"),
        ),
        (
            "an operator writes below a path that only begins like its scope",
            &bob,
            narrow,
            set("on/role=webcam/params/x", Value::Int(1), "person:bob"),
        ),
        (
            "an operator makes an operator",
            &bob,
            narrow,
            Body::Grant(more()),
        ),
        (
            "an operator revokes an admin",
            &bob,
            narrow,
            Body::Revoke(revoke(&admin, None)),
        ),
        (
            "an operator admits a machine",
            &bob,
            narrow,
            Body::Admit(admit),
        ),
    ];
    for (what, signer, under, body) in &attempts {
        for at in 0..2 {
            match lab.submit(at, signer, *under, body.clone()) {
                Err(ClientError::Refused { code, why }) => assert!(
                    code.starts_with('M') && !why.is_empty(),
                    "{what}: {code} {why}"
                ),
                other => panic!("{what}: {other:?}"),
            }
        }
    }

    // Signed by an admin, for another mesh; not signed at all; cut off; changed on the way.
    let draft = |seq, prev| Draft {
        seq,
        prev,
        under: root,
        hlc: lab_crdt_model::Hlc::default().next(wall()),
        refs: vec![],
        body: hijack("person:ana"),
    };
    let prepared = lab
        .ask(0, async |client| client.prepare(author(&admin)).await)
        .unwrap();
    let good = seal(&prepared.mesh, &admin, &draft(prepared.seq, prepared.prev)).unwrap();
    let mut changed = good.to_vec();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let replay = lab.view(0).history.first().map(|c| c.id);
    assert_eq!(replay, None, "the history was not asked for");
    for bytes in [
        seal(
            &MeshId([7; 32]),
            &admin,
            &draft(prepared.seq, prepared.prev),
        )
        .unwrap(),
        seal(
            &prepared.mesh,
            &admin,
            &draft(prepared.seq + 5, prepared.prev),
        )
        .unwrap(),
        seal(&prepared.mesh, &admin, &draft(0, StatementId::ZERO)).unwrap(),
        good.slice(..good.len() - 1),
        Bytes::from(changed),
        Bytes::from_static(b"not a statement"),
        Bytes::new(),
    ] {
        let answer = lab.submit_bytes(0, bytes.clone());
        assert!(
            matches!(answer, Err(ClientError::Refused { .. })),
            "{} bytes: {answer:?}",
            bytes.len()
        );
    }

    // Nothing changed, here or there, and it can be seen that somebody tried.
    let after = [standing(&lab.view(0)), standing(&lab.view(1))];
    assert_eq!(before, after);
    for at in 0..2 {
        let view = lab.view(at);
        for signer in [&node, &eve, &gone, &bob] {
            let tried = |author: AuthorId| {
                view.refused
                    .iter()
                    .any(|r| r.author == Some(author) && r.from.is_none())
            };
            assert!(tried(author(signer)), "{:?}", view.refused);
        }
        assert!(view.refused.len() <= 100);
        let doctor = lab.cli(at, &["doctor", "--exit-code"]).ends_with(2);
        let line = doctor
            .out
            .lines()
            .find(|l| l.contains("refused"))
            .unwrap_or_default();
        assert!(
            line.starts_with("warn") && line.contains("the local socket"),
            "{}",
            doctor.out
        );
        assert_eq!(field(&view, "on/all/params/x"), None);
        // What the revoked operator did in time stays.
        assert_eq!(field(&view, "on/all/params/before"), Some(&Value::Int(1)));
    }
    lab.submit_bytes(0, good)
        .expect("the same statement, unchanged, for this mesh, counts");
    lab.until("it arrives", SOON, || {
        field(&lab.view(1), "on/all/params/x") == Some(&Value::Int(666))
    });
}

#[test]
fn what_a_revoked_operator_said_behind_the_cut_is_shown_as_not_counting() {
    let lab = TestLab::of(2);
    let bob = lab.operator("bob", &[]);
    lab.cli_as(&bob, 1, &["label", "add", "early", "-t", "n1"])
        .ok();
    lab.until_whole();
    let (admin, root) = (lab.admin_key(), StatementId(lab.view(0).mesh.0));
    let key = author(&read_key(&bob));
    // Nothing of what bob said counts: the key was stolen from the start.
    let revoke = Revoke {
        key,
        head: None,
        reason: "stolen".to_owned(),
    };
    lab.submit(0, &admin, root, Body::Revoke(revoke)).unwrap();
    lab.until_whole();

    for at in 0..2 {
        assert!(!lab.has_label(at, "n1", "early"));
        let history = lab.cli(at, &["history"]).ok();
        let line = history
            .lines()
            .find(|l| l.contains("label add early"))
            .unwrap_or_default();
        assert!(line.contains("does not count"), "{history}");
        let row = lab
            .cli_as(&bob, at, &["label", "add", "late", "-t", "n1"])
            .ends_with(77);
        assert!(row.err.contains("error[K008]"), "{}", row.err);
    }
}

#[test]
fn the_program_refuses_an_operator_before_the_agent_has_to() {
    let lab = TestLab::of(1);
    let bob = lab.operator("bob", &["--right", "labels", "--scope", "label/n1"]);
    lab.cli_as(&bob, 0, &["label", "add", "role=web", "-t", "n1"])
        .ok();
    let digest = lab.view(0).digest;
    let file = lab.write("x.yaml", &declaration("hei"));
    for (args, code, words) in [
        (
            vec!["apply", "-f", &file, "-y"],
            "K010",
            "no right to change config",
        ),
        (
            vec![
                "operator",
                "add",
                "eve",
                &author(&SigningKey::from_bytes(&[3; 32])).to_string(),
                "-y",
            ],
            "K011",
            "only an admin",
        ),
        (vec!["node", "rm", "n1", "-y"], "K011", "only an admin"),
        (vec!["token", "create"], "K010", "no right to change invite"),
    ] {
        let ran = lab.cli_as(&bob, 0, &args).ends_with(77);
        assert!(
            ran.err.contains(&format!("error[{code}]")) && ran.err.contains(words),
            "{}",
            ran.err
        );
        assert!(ran.err.contains("hint: "), "{}", ran.err);
    }
    assert_eq!(lab.view(0).digest, digest);
}

#[test]
fn a_revoked_machine_hears_nothing_more() {
    let lab = TestLab::of(3);
    lab.cli(0, &["revoke", "n3", "-y", "-m", "sold"]).ok();
    lab.until("the others know", SOON, || lab.are_equal(&[0, 1]));
    lab.until("its links are gone", SOON, || {
        let (view, gone) = (lab.view(1), lab.view(2).me);
        !view.peers.iter().any(|p| p.node == gone && p.is_linked)
    });
    lab.cli(1, &["label", "add", "secret-plans", "-t", "n1"])
        .ok();
    lab.until("the others have it", SOON, || {
        lab.has_label(0, "n1", "secret-plans")
    });
    assert!(!lab.has_label(2, "n1", "secret-plans"));
    assert_eq!(lab.cli(0, &["node", "list", "-o", "name"]).ok(), "n1\nn2\n");
}

#[test]
fn a_laptop_joins_as_a_replica_with_an_operator_key_of_its_own() {
    let mut lab = TestLab::of(2);
    let token = lab.token(
        0,
        &["create", "lap", "--role", "laptop", "--right", "labels"],
    );
    let laptop = lab.agent("lap", Seat::loopback());
    let key = lab.path("lap.key");
    let mut join = lab.command(
        None,
        &[
            "join",
            &token,
            "-y",
            "--no-passphrase",
            "--no-lan",
            "-o",
            "json",
        ],
    );
    join.arg("--data").arg(&laptop.data).env("LAB_KEY", &key);
    join.args(["--bind", &laptop.seat.bind.to_string()]);
    let joined = crate::support::run(join).ends_with(0).json();
    assert_eq!(joined["data"]["node_name"], "lap");
    lab.agents.push(laptop);
    lab.start(2);
    lab.until_whole();

    lab.cli_as(&key, 2, &["label", "add", "role=web", "-t", "n2"])
        .ok();
    lab.until("the mesh has it", SOON, || {
        lab.has_label(0, "n2", "role=web")
    });
    let refused = lab.cli_as(&key, 2, &["token", "create"]).ends_with(77);
    assert!(refused.err.contains("error[K010]"), "{}", refused.err);
    // A laptop takes on no config.
    lab.cli(
        0,
        &[
            "apply",
            "-y",
            "-f",
            &lab.write(
                "x.yaml",
                "lab: 1\nset: x\nlabels:\n  all:\n    files: { /etc/motd: { content: hi } }\n",
            ),
        ],
    )
    .ok();
    lab.until_whole();
    assert!(
        lab.agents[1].root.join("etc/motd").exists()
            && !lab.agents[2].root.join("etc/motd").exists()
    );
}

/// A key is stolen: one command takes back what the thief did, and nothing that was done before.
#[test]
fn a_stolen_key_is_undone_from_a_change_on() {
    let lab = TestLab::of(2);
    let bob = lab.operator("bob", &[]);
    lab.cli_as(&bob, 1, &["label", "add", "role=web", "-t", "n2"])
        .ok();
    let stolen = lab
        .cli_as(&bob, 1, &["label", "rm", "role=web", "-t", "n2"])
        .said();
    assert!(!lab.has_label(1, "n2", "role=web"), "{stolen}");
    lab.cli_as(&bob, 1, &["label", "add", "evil", "-t", "n1"])
        .ok();
    lab.until_whole();
    let history = lab.cli(0, &["history", "-o", "name"]).ok();
    let change = history.lines().nth(1).unwrap_or_default().to_owned();

    let wrong = lab.cli(0, &["revoke", "bob", "-y", "--since", "nosuch"]);
    assert!(wrong.ends_with(3).err.contains("error[M027]"));
    lab.cli(0, &["revoke", "bob", "-y", "--since", &change])
        .ok();

    lab.until("what bob did before stands again everywhere", SOON, || {
        (0..2).all(|at| lab.has_label(at, "n2", "role=web") && !lab.has_label(at, "n1", "evil"))
    });
    lab.cli_as(&bob, 1, &["label", "add", "more", "-t", "n1"])
        .ends_with(77);
}

/// What every running agent has been told to be: the hash of its config, and the files that it made.
fn made(lab: &TestLab) -> Vec<(String, [u8; 32], Vec<String>)> {
    (0..lab.agents.len())
        .map(|at| {
            let (agent, view) = (&lab.agents[at], lab.view(at));
            let report = view.reports.iter().find(|r| r.node == view.me);
            let status = report.and_then(|r| r.status.as_ref()).expect("a report");
            let files = ["motd", "web.conf", "ntp.conf"].map(|name| {
                let path = agent.root.join("etc").join(name);
                std::fs::read_to_string(path).unwrap_or_default()
            });
            (agent.name.clone(), status.0.desired, files.to_vec())
        })
        .collect()
}

/// Everything within the scope of a stolen key is wiped on five machines; one command brings all of it back, byte for
/// byte, also on a machine that was away, and nothing outside of the scope ever moved.
#[test]
fn a_thief_who_unsets_everything_is_undone_with_one_command() {
    let lab = TestLab::of(5);
    let file = lab.write(
        "home.yaml",
        "lab: 1
set: home
vocabulary:
  - role: { many: true }
labels:
  all:
    files:
      /etc/motd: { template: \"{node.name}\\n\" }
      /etc/ntp.conf: { content: \"server pool\\n\" }
  role=web:
    files:
      /etc/web.conf: { content: \"listen 80\\n\" }
",
    );
    lab.cli(0, &["apply", "-f", &file, "-y"]).ok();
    lab.cli(0, &["label", "add", "role=web", "-t", "n1,n3,n5"])
        .ok();
    let bob = lab.operator("bob", &["--scope", "label", "--scope", "on/role=web"]);
    lab.cli_as(&bob, 1, &["label", "add", "role=web", "-t", "n2"])
        .ok();
    let is_settled = |lab: &TestLab| {
        lab.is_whole()
            && lab.view(0).reports.iter().all(|r| {
                let status = r.status.as_ref();
                status.is_some_and(|s| s.0.desired == s.0.applied)
            })
    };
    let web = |lab: &TestLab, at: usize| lab.agents[at].root.join("etc/web.conf").exists();
    lab.until("everyone has what they should", SOON, || {
        let hashes: Vec<_> = made(&lab).into_iter().map(|(_, hash, _)| hash).collect();
        let are_web = (0..5).all(|at| (hashes[at] == hashes[0]) == (at != 3));
        is_settled(&lab) && are_web && (0..5).all(|at| web(&lab, at) == (at != 3))
    });
    let before = made(&lab);
    let digests = |lab: &TestLab| lab.view(0).fields;
    let fields = digests(&lab);

    // The thief has the key, and takes away all that it reaches, in the name of the owners.
    let key = read_key(&bob);
    let grant = lab
        .view(0)
        .operators
        .iter()
        .find(|o| o.name == "bob")
        .map(|o| o.under);
    let ops: Vec<Op> = fields
        .iter()
        .map(|f| f.path.clone())
        .filter(|path| path.is_below("label") || path.is_below("on/role=web"))
        .map(|path| Op::Unset { path })
        .collect();
    assert!(ops.len() >= 5, "{ops:?}");
    let wipe = Body::Edit(Edit {
        message: "bye".to_owned(),
        ops,
    });
    let wiped = lab
        .submit(3, &key, grant.expect("a grant"), wipe)
        .expect("within its scope");
    lab.until("the mesh is wiped", SOON, || {
        is_settled(&lab) && (0..5).all(|at| !web(&lab, at))
    });
    let outside = |made: &[(String, [u8; 32], Vec<String>)]| -> Vec<[String; 2]> {
        made.iter()
            .map(|(_, _, files)| [files[0].clone(), files[2].clone()])
            .collect()
    };
    assert_eq!(
        outside(&made(&lab)),
        outside(&before),
        "nothing outside moved"
    );

    lab.kill(4);
    let wiped = wiped.to_string();
    let args = ["revoke", "bob", "--since", &wiped, "--dry-run"];
    let shown = lab.cli(0, &args).said();
    for line in ["label/n2/role=web", "on/role=web/files", "comes back", "n5"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert_eq!(shown.matches("plan ").count(), 1, "{shown}");
    assert!(
        !lab.has_label(0, "n1", "role=web"),
        "nothing is changed by looking"
    );
    let args = ["revoke", "bob", "--since", &wiped, "-y", "--timeout", "20s"];
    let said = lab.cli(0, &args).said();
    assert!(said.contains("4 of 5 have heard of it; not: n5"), "{said}");
    lab.start(4);
    lab.until("all is as it was", SOON, || made(&lab) == before);
    assert_eq!(digests(&lab), fields);
}

#[test]
fn what_comes_after_the_end_of_its_grant_waits_until_an_admin_seals_it() {
    let mut lab = TestLab::empty();
    let seat = Seat {
        clock: Some("-10m"),
        ..Seat::loopback()
    };
    lab.found("n1", seat);
    let bob = lab.operator("bob", &["--ttl", "1m"]);
    let eve = lab.operator("eve", &["--ttl", "1m"]);
    lab.cli_as(&bob, 0, &["label", "add", "kept", "-t", "n1", "-y"])
        .ok();
    lab.cli_as(&eve, 0, &["label", "add", "evil", "-t", "n1", "-y"])
        .ok();

    // For a machine with a right clock both grants have been over for long when it hears of them.
    lab.join("n2", Seat::loopback(), &[]);
    lab.until_whole();
    let has = |at, label| lab.has_label(at, "n1", label);
    assert_eq!((has(0, "kept"), has(0, "evil")), (true, true));
    assert_eq!((has(1, "kept"), has(1, "evil")), (false, false));
    let doctor = lab.cli(1, &["doctor"]).said();
    assert!(doctor.contains("M047"), "{doctor}");
    assert!(doctor.contains("lab operator seal bob"), "{doctor}");
    let late = lab.cli(1, &["operator", "seal", "bob", "--dry-run"]).ok();
    assert_eq!(late.lines().count(), 2, "{late}");
    let wrong = ["operator", "seal", "bob", "--until", "nothing", "-y"];
    assert!(lab.cli(1, &wrong).ends_with(3).said().contains("came late"));
    let not_an_admin = lab.cli_as(&bob, 1, &["operator", "seal", "bob", "-y"]);
    assert_ne!(not_an_admin.code, 0, "{not_an_admin:?}");

    lab.cli(1, &["operator", "seal", "bob", "-y"]).ok();
    lab.cli(1, &["operator", "seal", "eve", "--none", "-y"])
        .ok();
    lab.until("both say the same", SOON, || {
        (0..2).all(|at| has(at, "kept") && !has(at, "evil"))
    });
    let said = lab.cli(1, &["operator", "seal", "bob", "-y"]).said();
    assert!(said.contains("nothing of bob came late"), "{said}");
    lab.until("the clock of n1 is measured", 2 * SOON, || {
        let status = lab.cli(1, &["status", "-a", "-o", "wide"]).ok();
        status.contains("CLOCK") && status.contains("-10m")
    });
}
