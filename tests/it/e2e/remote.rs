//! The remote API: a person with a key and no agent asks machines, and nobody else does.

use std::path::Path;

use lab_agent_api::{Client, ClientError, ViewMask};
use lab_crdt_model::view::ReplicaView;
use lab_crdt_model::{AuthorId, StatementId, Value};
use lab_mesh_net::Remote;
use tokio_stream::StreamExt as _;

use crate::support::{Ran, SOON, TestLab, field, read_key, run, say, set};

/// `NODEID@IP:PORT` of an agent.
fn spelled(lab: &TestLab, at: usize) -> String {
    format!("{}@{}", lab.view(at).me, lab.agents[at].seat.bind)
}

/// Runs a command on a device that has this key and nothing else.
fn on_device(lab: &TestLab, key: &Path, args: &[&str]) -> Ran {
    let mut command = lab.command(None, args);
    command.env("LAB_KEY", key);
    run(command)
}

fn fails_with(ran: Ran, code: &str, exit: i32) -> Ran {
    let ran = ran.ends_with(exit);
    assert!(ran.err.contains(&format!("error[{code}]")), "{}", ran.err);
    ran
}

#[test]
fn a_key_without_an_agent_reads_status_applies_and_finds_the_others_by_name() {
    let lab = TestLab::of(3);
    let bob = lab.operator("bob", &["--right", "labels,config"]);
    let n2 = spelled(&lab, 1);
    let file = lab.write(
        "lab.yaml",
        "lab: 1\nset: motd\nlabels:\n  all:\n    files: { /etc/motd: { content: remote } }\n",
    );

    // Nothing is known yet, so names mean nothing.
    let ran = on_device(&lab, &bob, &["status", "--at", "n1"]);
    let ran = fails_with(ran, "C050", 3);
    assert!(ran.err.contains("NODEID@IP:PORT"), "{}", ran.err);

    let ran = on_device(&lab, &bob, &["status", "--at", &n2, "-o", "json"]);
    assert_eq!(ran.ends_with(0).json()["replica"]["of"], 3);

    // From here on it is known who is where.
    let ran = on_device(&lab, &bob, &["apply", "-f", &file, "-y", "--at", "n3"]);
    say(&ran.said());
    ran.ok();
    for agent in &lab.agents {
        let motd = std::fs::read_to_string(agent.root.join("etc/motd")).unwrap_or_default();
        assert_eq!(motd, "remote", "{}", agent.name);
    }
    let mut command = lab.command(None, &["label", "add", "seen", "-t", "n1"]);
    command.env("LAB_KEY", &bob).env("LAB_AT", "n1");
    run(command).ok();
    lab.until("the label is everywhere", SOON, || {
        (0..3).all(|at| lab.has_label(at, "n1", "seen"))
    });

    // The founder's key is found in its usual place, and an agent here says where others are.
    let mut command = lab.command(None, &["node", "list", "-o", "name", "--at", &n2]);
    command.env_remove("LAB_KEY");
    assert_eq!(run(command).ok(), "n1\nn2\nn3\n");
    let ran = lab.cli_as(&bob, 0, &["status", "--at", "n2", "-o", "json"]);
    assert_eq!(ran.ends_with(0).json()["replica"]["of"], 3);

    // What is about this machine is refused, not done somewhere else.
    fails_with(
        on_device(&lab, &bob, &["init", "--name", "x", "--at", "n1"]),
        "C001",
        64,
    );
}

#[test]
fn strangers_expired_and_revoked_keys_get_nothing_and_are_told_why() {
    let lab = TestLab::of(2);
    let n2 = spelled(&lab, 1);
    let eve = lab.path("eve.key");
    let args = ["operator", "key", "--name", "eve", "--no-passphrase"];
    lab.cli_as(&eve, 0, &args).ok();
    let status = ["status", "--at", &n2];

    let ran = fails_with(on_device(&lab, &eve, &status), "C052", 77);
    assert!(
        ran.err.contains("holds no grant in that mesh"),
        "{}",
        ran.err
    );

    let brief = lab.operator("brief", &["--ttl", "3s"]);
    lab.until_whole();
    lab.until("the grant is over at n2", SOON, || {
        on_device(&lab, &brief, &status).err.contains("error[C052]")
    });

    let bob = lab.operator("bob", &[]);
    lab.until("bob is known at n2", SOON, || {
        on_device(&lab, &bob, &status).code == 0
    });
    lab.cli(0, &["revoke", "bob", "-y"]).ok();
    fails_with(on_device(&lab, &bob, &status), "C052", 77);

    // A machine that does not answer, and a key of another mesh.
    let gone = format!("{}@127.0.0.1:9", lab.view(1).me);
    fails_with(
        on_device(&lab, &eve, &["status", "--at", &gone]),
        "C051",
        69,
    );
    let wrong = format!("{}@{}", lab.view(0).me, lab.agents[1].seat.bind);
    fails_with(
        on_device(&lab, &eve, &["status", "--at", &wrong]),
        "C051",
        69,
    );
}

#[test]
fn a_key_of_two_meshes_is_told_when_the_mesh_is_the_wrong_one() {
    let (one, two) = (TestLab::of(1), TestLab::of(1));
    let key = one.operator("bob", &[]);
    let text = std::fs::read_to_string(&key).expect("a key file");
    let mesh = one.view(0).mesh.to_string();
    let public = AuthorId(read_key(&key).verifying_key().to_bytes());
    two.cli(0, &["operator", "add", "bob", &public.to_string(), "-y"])
        .ok();
    assert!(text.contains(&mesh));

    let at = spelled(&two, 0);
    let ran = on_device(&one, &key, &["status", "--at", &at]);

    let ran = fails_with(ran, "C053", 65);
    assert!(ran.err.contains(&mesh), "{}", ran.err);
}

#[test]
fn the_open_connection_of_a_key_that_is_revoked_is_closed_at_once() {
    let lab = TestLab::of(2);
    let bob = lab.operator("bob", &[]);
    let key = read_key(&bob);
    let (node, address) = (lab.view(1).me, lab.agents[1].seat.bind);
    let ended = lab.block_on(async {
        let remote = Remote::new(&key.to_bytes(), node, vec![address])
            .await
            .expect("an endpoint");
        let again = remote.clone();
        let dial = move || {
            let again = again.clone();
            async move { again.connect().await.map_err(std::io::Error::from) }
        };
        let stream = remote.connect().await.expect("a stream");
        let client = Client::over(stream, dial, "n2").await.expect("a client");
        let mut notices = client.watch().await.expect("notices");
        assert!(notices.next().await.expect("a notice").is_ok());

        lab.cli(0, &["revoke", "bob", "-y"]).ok();

        let ended = loop {
            match notices.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("it ended without a word"),
            }
        };
        let more = client.view(ViewMask::ALL).await;
        remote.close().await;
        (ended, more.map(drop))
    });

    let (ended, more): (ClientError, Result<(), ClientError>) = ended;
    assert!(
        matches!(&ended, ClientError::NotEntitled { why, .. } if why.contains("revoked")),
        "{ended:?}"
    );
    assert!(
        matches!(more, Err(ClientError::NotEntitled { .. })),
        "{more:?}"
    );
}

#[test]
fn a_device_hands_in_only_what_its_own_key_signed() {
    let lab = TestLab::of(1);
    let bob = lab.operator("bob", &[]);
    let (node, address) = (lab.view(0).me, lab.agents[0].seat.bind);
    let (theirs, admin) = (read_key(&bob), lab.admin_key());
    let body = set("on/all/params/x", Value::Int(1), "person:ana");

    // The founder's own word, carried by bob.
    let under = StatementId(lab.view(0).mesh.0);
    let statement = lab.sign(0, &admin, under, body).expect("signed");
    let refused = lab.block_on(async {
        let remote = Remote::new(&theirs.to_bytes(), node, vec![address])
            .await
            .expect("an endpoint");
        let stream = remote.connect().await.expect("a stream");
        let gone = || std::future::ready(Err(std::io::ErrorKind::NotConnected.into()));
        let client = Client::over(stream, gone, "n1").await.expect("a client");
        let refused = client.submit(vec![statement.clone()]).await;
        remote.close().await;
        refused
    });

    let code = match refused {
        Err(ClientError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code, "M014");
    let is_set = |view: &ReplicaView| field(view, "on/all/params/x").is_some();
    assert!(!is_set(&lab.view(0)));
    lab.submit_bytes(0, statement)
        .expect("at the socket anybody carries it");
    assert!(is_set(&lab.view(0)));
}

#[test]
fn an_agent_without_remote_api_is_asked_by_no_device() {
    let lab = TestLab::of_with(1, &["--no-remote-api"]);
    let bob = lab.operator("bob", &[]);
    let ran = on_device(&lab, &bob, &["status", "--at", &spelled(&lab, 0)]);

    let ran = fails_with(ran, "C051", 69);
    assert!(ran.err.contains("offers no remote API"), "{}", ran.err);
    lab.cli(0, &["status"]).ok();
}
