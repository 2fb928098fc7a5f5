//! Starts of agents whose store lost records: whom they ask, and what they say.

use ed25519_dalek::SigningKey;
use lab_crdt_log::{Admin, Admit, Body, Draft, Revoke, RootRecord, seal};
use lab_crdt_model::store::Tables;
use lab_crdt_model::view::Role;
use lab_crdt_model::{Severity, StatementId};

use super::*;

const ME: u8 = 1;
const PEER: u8 = 2;
const OTHER: u8 = 3;

fn keys(n: u8) -> NodeKeys {
    NodeKeys::new(&[n; 32])
}

fn admit(n: u8) -> Body {
    Body::Admit(Admit {
        node: keys(n).node(),
        seal_key: [0; 32],
        name: format!("n{n}"),
        role: Role::Node,
        labels: vec![],
    })
}

fn revoke(n: u8) -> Body {
    Body::Revoke(Revoke {
        key: keys(n).node().author(),
        head: None,
        reason: "gone".into(),
    })
}

/// A mesh in which one admin has said all this.
fn mesh(said: Vec<Body>) -> (SignedRoot, Vec<Bytes>) {
    let key = SigningKey::from_bytes(&[200; 32]);
    let ana = AuthorId(key.verifying_key().to_bytes());
    let record = RootRecord {
        name: "home".into(),
        nonce: [1; 16],
        root_keys: vec![ana],
        threshold: 1,
        admins: vec![Admin {
            key: ana,
            name: "ana".into(),
        }],
        min_proto: 1,
        ..RootRecord::default()
    };
    let root = SignedRoot::sign(&record, &[&key]);
    let mut prev = StatementId::ZERO;
    let sign = |(seq, body)| {
        let draft = Draft {
            seq,
            prev,
            under: StatementId(root.mesh().0),
            hlc: Hlc(seq + 1),
            refs: vec![],
            body,
        };
        let bytes = seal(&root.mesh(), &key, &draft).expect("within limits");
        prev = StatementId(*blake3::hash(&bytes[..bytes.len() - 64]).as_bytes());
        bytes
    };
    let statements = (0..).zip(said).map(sign).collect();
    (root, statements)
}

fn now(s: u64) -> Now {
    Now {
        mono: Mono::default().plus_ms(s * 1_000),
        wall: Wall(1_800_000_000_000 + s * 1_000),
    }
}

/// Starts a node from what its store still holds: some statements, and an address book.
fn start(node: u8, root: &SignedRoot, statements: &[Bytes], book: &[u8]) -> Agent {
    let mut tables = Tables::new();
    for op in Boot::founding(&root.encode(), statements) {
        if let StoreOp::Put { table, key, value } = op {
            tables.entry(table).or_default().push((key, value));
        }
    }
    let address: SocketAddr = ([10, 0, 0, 1], 4747).into();
    let value = postcard::to_stdvec(&vec![address]).expect("addresses");
    let known = book
        .iter()
        .map(|n| (keys(*n).node().0.to_vec(), value.clone()));
    tables.insert(Table::Addresses, known.collect());
    let boot = Boot::Stored { tables };
    Agent::new(Config::homelab("1"), keys(node), boot, [node; 32], now(1)).expect("it holds a mesh")
}

/// What an agent asks for; writes succeed.
fn drain(agent: &mut Agent, at: Now) -> Vec<Output> {
    let mut out = Vec::new();
    while let Some(output) = agent.poll() {
        if let Output::Store { id, .. } = output {
            agent.handle(at, Input::Stored { id, result: Ok(()) });
        }
        out.push(output);
    }
    out
}

/// Who holds a link to a node by its own word, and whom it dials within a minute.
fn admitted_and_dialled(agent: &mut Agent) -> (Vec<NodeId>, Vec<NodeId>) {
    let (mut admitted, mut dialled) = (Vec::new(), Vec::new());
    for s in 1..60 {
        agent.handle(now(s), Input::Wake);
        for output in drain(agent, now(s)) {
            match output {
                Output::Admit(all) => admitted = all.iter().copied().collect(),
                Output::Dial { peer, .. } => dialled.push(peer),
                _ => {}
            }
        }
    }
    (admitted, dialled)
}

fn issue(agent: &mut Agent) -> Option<Issue> {
    let view = agent.view(ViewMask::default()).expect("it has a mesh");
    view.issues.into_iter().find(|i| i.code == "M040")
}

fn is_member(agent: &mut Agent) -> bool {
    let mask = ViewMask {
        roster: true,
        ..ViewMask::default()
    };
    let view = agent.view(mask).expect("it has a mesh");
    view.members.iter().any(|m| m.node == view.me)
}

#[test]
fn a_node_that_lost_its_own_admission_asks_whom_it_knew() {
    let (root, all) = mesh(vec![admit(ME), admit(PEER)]);
    for held in [&all[1..], &all[..1], &all[..0]] {
        let mut agent = start(ME, &root, held, &[PEER]);
        let (admitted, dialled) = admitted_and_dialled(&mut agent);
        assert!(admitted.contains(&keys(PEER).node()));
        assert!(dialled.contains(&keys(PEER).node()));
        let severity = issue(&mut agent).map(|i| i.severity);
        assert_eq!(severity, Some(Severity::Warning));
    }
}

#[test]
fn who_has_to_stay_out_is_not_asked_for_lost_records() {
    let (root, all) = mesh(vec![admit(PEER), admit(OTHER), revoke(PEER), admit(ME)]);
    let mut agent = start(ME, &root, &all[..3], &[PEER, OTHER]);
    let (admitted, dialled) = admitted_and_dialled(&mut agent);
    assert_eq!(admitted, [keys(OTHER).node()]);
    assert!(!dialled.contains(&keys(PEER).node()));
}

#[test]
fn a_node_that_knows_nobody_any_more_says_that_it_has_to_join_again() {
    let (root, _) = mesh(vec![]);
    let mut agent = start(ME, &root, &[], &[]);
    assert_eq!(admitted_and_dialled(&mut agent), (vec![], vec![]));
    let issue = issue(&mut agent).expect("it says so");
    assert_eq!(issue.severity, Severity::Error);
    assert!(issue.help.contains("lab join"), "{issue:?}");
}

#[test]
fn a_whole_store_has_no_losses_and_its_address_book_forgets_who_has_to_stay_out() {
    let (root, all) = mesh(vec![admit(ME), admit(PEER), admit(OTHER), revoke(OTHER)]);
    let mut agent = start(ME, &root, &all, &[PEER, OTHER]);
    assert_eq!(issue(&mut agent), None);
    let mut forgotten = Vec::new();
    for output in drain(&mut agent, now(1)) {
        if let Output::Store { batch, .. } = output {
            forgotten.extend(batch.into_iter().filter_map(|op| match op {
                StoreOp::Delete {
                    table: Table::Addresses,
                    key,
                } => Some(key),
                _ => None,
            }));
        }
    }
    assert_eq!(forgotten, [keys(OTHER).node().0.to_vec()]);
}

#[test]
fn a_replica_without_its_own_admission_gets_everything_back_from_a_former_peer() {
    let (root, all) = mesh(vec![admit(ME), admit(PEER), admit(OTHER)]);
    for held in [&all[1..], &all[2..], &all[..0]] {
        let mut agents = [
            start(ME, &root, held, &[PEER]),
            start(PEER, &root, &all, &[ME]),
        ];
        let ids = [keys(ME).node(), keys(PEER).node()];
        assert!(!is_member(&mut agents[0]));
        let mut frames = VecDeque::new();
        for s in 1..60 {
            for n in 0..2 {
                if s == 2 {
                    let link = Input::Link {
                        peer: ids[1 - n],
                        channel: Channel::Mesh,
                        state: LinkState::Up { address: None },
                    };
                    agents[n].handle(now(s), link);
                }
                agents[n].handle(now(s), Input::Wake);
            }
            loop {
                for n in 0..2 {
                    let sent = drain(&mut agents[n], now(s));
                    frames.extend(sent.into_iter().filter_map(|output| match output {
                        Output::Send {
                            to, lane, bytes, ..
                        } if to == ids[1 - n] => Some((1 - n, lane, bytes)),
                        _ => None,
                    }));
                }
                let Some((to, lane, bytes)) = frames.pop_front() else {
                    break;
                };
                let frame = Input::Frame {
                    from: ids[1 - to],
                    channel: Channel::Mesh,
                    lane,
                    bytes,
                };
                agents[to].handle(now(s), frame);
            }
        }
        assert!(is_member(&mut agents[0]));
        assert_eq!(issue(&mut agents[0]), None, "it is whole again");
        let [a, b] = agents.map(|agent| agent.digests().map(|d| d.statements));
        assert_eq!(a, b);
    }
}
