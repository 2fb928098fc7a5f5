//! Bytes that outlive a process: every format that was ever written is read for ever.
//!
//! The files below `tests/fixtures` were written once, from fixed keys. Each test builds the same things again,
//! compares them byte for byte with the file (the writer did not change), and reads the file (the reader still
//! understands it). A format that has to change gets a new `vN` folder; the old one stays, read only.
//!
//! `LAB_BLESS=1 cargo test -p lab-tests compat` writes the files of the newest version again. The difference in
//! version control then shows what changed.

use std::fmt::Write as _;
use std::fs;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_crdt_log::{
    Act, Admin, Admit, Alarm, Annul, AuditBody, AuditRecord, Body, Checkpoint, CoSign, Confirm,
    Draft, Edit, Grant, Invite, Join, Kind, Register, Revoke, RevokeGrant, RevokeInvite, Rights,
    RootRecord, SignedRoot, TokenKeys, Vouch, Witness, WitnessRule, open, seal, seal_audit,
    seal_register,
};
use lab_crdt_model::fact::{Disk, Gpu, Interface, Machine};
use lab_crdt_model::report::{
    AuditHead, Beacon, Facts, ResourceReport, ResourceState, Section, Status,
};
use lab_crdt_model::token::{Seed, Ticket, Token, print_typed};
use lab_crdt_model::view::{MemberState, Role};
use lab_crdt_model::{
    AuthorId, Binding, Caller, Field, Hardware, Hlc, Mac, MeshId, NodeId, Op, StatementId, Value,
    Wall,
};
use lab_mesh_proto::join::{
    JOIN_VERSION, JoinFrame, JoinReply, JoinRequest, Offer, Prologue, refusal,
};

use crate::source;

/// Compares `text` with a fixture, or writes the fixture when asked to.
fn golden(path: &str, text: &str) -> String {
    let file = source::root().join("tests/fixtures").join(path);
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch for people who change a format on purpose"
    )]
    let is_blessing = std::env::var("LAB_BLESS").is_ok();
    if is_blessing {
        fs::create_dir_all(file.parent().expect("a folder")).expect("make the folder of fixtures");
        fs::write(&file, text).expect("write a fixture");
    }
    let stored = fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{path}: {error}; LAB_BLESS=1 writes it"));
    assert_eq!(
        stored, text,
        "{path}: what this program writes has changed; see the head of compat.rs"
    );
    stored
}

/// Bytes as lines of 32, in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for line in bytes.chunks(32) {
        for byte in line {
            write!(out, "{byte:02x}").expect("writing to memory");
        }
        out.push('\n');
    }
    out
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| d as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect::<Vec<u8>>()
        .into()
}

/// A golden file of bytes; gives back what is stored.
fn golden_bytes(path: &str, bytes: &[u8]) -> Bytes {
    let stored = unhex(&golden(path, &hex(bytes)));
    assert_eq!(stored, bytes);
    stored
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn author(n: u8) -> AuthorId {
    AuthorId(key(n).verifying_key().to_bytes())
}

fn node(n: u8) -> NodeId {
    author(n).node()
}

fn root() -> (RootRecord, SignedRoot) {
    let mut root_keys = vec![author(100), author(101)];
    root_keys.sort_unstable();
    let record = RootRecord {
        name: "home".into(),
        nonce: [7; 16],
        root_keys,
        threshold: 2,
        admins: vec![
            Admin {
                key: author(1),
                name: "ana".into(),
            },
            Admin {
                key: author(2),
                name: "bob".into(),
            },
        ],
        registrars: vec![node(50)],
        min_proto: 1,
        ..RootRecord::default()
    };
    let signed = SignedRoot::sign(&record, &[&key(100), &key(101)]);
    (record, signed)
}

fn next_root() -> SignedRoot {
    let (last, signed) = root();
    let next = RootRecord {
        version: 1,
        prev: signed.mesh().0,
        admins: last.admins[..1].to_vec(),
        annul: vec![Annul {
            key: author(2),
            head: Some(id(9)),
        }],
        ..last
    };
    SignedRoot::sign(&next, &[&key(100), &key(101)])
}

fn mesh() -> MeshId {
    root().1.mesh()
}

fn id(n: u8) -> StatementId {
    StatementId([n; 32])
}

/// One body of every kind.
fn bodies() -> Vec<Body> {
    let path = |text: &str| text.parse().expect("a path");
    let field = Field {
        value: Value::Map(
            [
                (
                    "list".to_owned(),
                    Value::List(vec![Value::Null, Value::Bool(true), Value::Int(-3)]),
                ),
                ("text".to_owned(), Value::text("ünï")),
                ("number".to_owned(), Value::Decimal("1.50".into())),
            ]
            .into(),
        ),
        owners: vec!["person:ana".into(), "set:homelab".into()],
        source: Some("lab.yaml:67:75".into()),
    };
    let ops = vec![
        Op::Set {
            path: path("on/role=web/params/x"),
            field,
        },
        Op::Unset {
            path: path("label/nuc1/role=web"),
        },
    ];
    let tokens = TokenKeys::derive(&Seed::Long([9; 16]));
    let invite = Invite {
        token_key: tokens.public(),
        uses_max: 1,
        not_after: Wall(1_800_000_000_000),
        role: Role::Laptop,
        name: Some("ana-laptop".into()),
        labels: vec![
            "role=web".parse().expect("a label"),
            "canary".parse().expect("a label"),
        ],
        rights: Rights::LABELS.and(Rights::CONFIG),
        scope: vec!["on/role=web".into()],
        lease_ms: 86_400_000,
        witness: WitnessRule::One(node(50)),
        confirm: true,
        mesh_mac: tokens.mesh_mac(&mesh()),
        binding: None,
    };
    let token_signature = tokens.sign_join(&mesh(), &node(60), &[3; 32], Some(&author(61)));
    vec![
        Body::Edit(Edit {
            message: "apply lab.yaml".into(),
            ops,
        }),
        Body::Grant(Grant {
            subject: author(10),
            name: "bob".into(),
            rights: Rights::ALL,
            scope: vec![String::new(), "on/role=web".into()],
            not_after: Some(Wall(1_800_000_000_000)),
        }),
        Body::RevokeGrant(RevokeGrant {
            grant: id(5),
            head: Some(id(6)),
        }),
        Body::Revoke(Revoke {
            key: author(10),
            head: None,
            reason: "stolen".into(),
        }),
        Body::Invite(invite),
        Body::RevokeInvite(RevokeInvite { invite: id(7) }),
        Body::Join(Join {
            invite: id(7),
            seal_key: [3; 32],
            operator_key: Some(author(61)),
            token_signature,
            hardware: None,
        }),
        Body::Witness(Witness {
            join: id(8),
            seen_at: Wall(1_700_000_000_000),
        }),
        Body::Confirm(Confirm { join: id(8) }),
        Body::Admit(Admit {
            node: node(50),
            seal_key: [4; 32],
            name: "nas1".into(),
            role: Role::Node,
            labels: vec!["role=storage".parse().expect("a label")],
        }),
        Body::CoSign(CoSign { proposal: id(9) }),
        Body::Unknown(Kind(200), vec![1, 2, 3]),
        Body::Root(next_root()),
        Body::Vouch(Vouch {
            grant: id(10),
            heads: vec![id(11), id(12)],
            at: Wall(1_700_000_300_000),
        }),
    ]
}

/// Kinds that say more than an earlier one of the same word, and the names of their files; then kinds that came later.
fn later_bodies() -> [(&'static str, Body); 3] {
    let hardware = Hardware::new(
        [
            Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            Mac([2, 0, 0, 0, 0, 1]),
        ],
        Some("SN-1".into()),
    );
    let binding = Binding {
        mac: hardware.macs.last().copied(),
        serial: hardware.serial.clone(),
    };
    let more = |body| match body {
        Body::Invite(invite) => Some((
            "invite-bound",
            Body::Invite(Invite {
                binding: Some(binding.clone()),
                ..invite
            }),
        )),
        Body::Join(join) => Some((
            "join-hardware",
            Body::Join(Join {
                hardware: Some(hardware.clone()),
                ..join
            }),
        )),
        _ => None,
    };
    let checkpoint = Body::Checkpoint(Checkpoint {
        heads: vec![id(11), id(12), id(13)],
    });
    let mut all: Vec<_> = bodies().into_iter().filter_map(more).collect();
    all.push(("checkpoint", checkpoint));
    all.try_into().expect("an invite, a join and a checkpoint")
}

#[test]
fn a_statement_of_every_kind_is_written_and_read_as_in_version_1() {
    let named = bodies().into_iter().map(|body| (body.word(), body));
    for (at, (name, body)) in named.chain(later_bodies()).enumerate() {
        let seq = at as u64;
        let prev = if seq == 0 {
            StatementId::ZERO
        } else {
            id(at as u8)
        };
        let draft = Draft {
            seq,
            prev,
            under: StatementId(mesh().0),
            hlc: Hlc(0x0001_8bcf_e568_0007),
            refs: vec![id(0xee), id(0xdd)],
            body: body.clone(),
        };
        let bytes = seal(&mesh(), &key(1), &draft).expect("a sound draft");

        let stored = golden_bytes(&format!("envelope/v1/{name}.hex"), &bytes);

        let read = open(&mesh(), &stored).expect("a statement of version 1");
        assert_eq!(read.body, body);
        assert_eq!((read.author, read.seq, read.prev), (author(1), seq, prev));
        assert_eq!(read.refs, [id(0xdd), id(0xee)]);
        assert_eq!(read.hlc, draft.hlc);
    }
}

#[test]
fn every_kind_has_a_golden_statement() {
    let later = later_bodies().map(|(_, body)| body);
    let all = bodies().into_iter().chain(later);
    let kinds: Vec<u8> = all.map(|body| body.kind().0).collect();
    let known =
        (0..=255).filter(|n| !matches!(Body::decode(Kind(*n), &[]), Some(Body::Unknown(..))));
    for kind in known {
        assert!(
            kinds.contains(&kind),
            "kind {kind} has no golden statement: add it to `bodies`"
        );
    }
}

#[test]
fn the_founding_record_is_written_and_read_as_in_version_1() {
    let (record, signed) = root();

    let stored = golden_bytes("root/v1/two-of-two.hex", &signed.encode());

    let read = SignedRoot::decode(&stored).expect("a signed root record of version 1");
    assert_eq!(read.verify().expect("two signatures"), record);
    golden("root/v1/mesh-id.txt", &format!("{}\n", read.mesh()));
}

#[test]
fn a_later_root_record_is_written_and_read_as_in_version_1() {
    let (last, _) = root();
    let stored = golden_bytes("root/v1/second.hex", &next_root().encode());

    let read = SignedRoot::decode(&stored).expect("a signed root record of version 1");
    let listed = [author(1), author(2)].into();
    let (record, signers) = read.verify_after(&last, &listed).expect("signed by both");
    assert_eq!((record.version, signers.len()), (1, 2));
    assert_eq!(record.annul[0].head, Some(id(9)));
}

#[test]
fn registers_are_written_and_read_as_in_version_1() {
    let beacon = Beacon {
        incarnation: 77,
        wall: Wall(1_700_000_000_000),
        digest: [5; 32],
        addresses: vec![
            "10.0.0.1:4433".parse().expect("v4"),
            "[fd00::1]:4433".parse().expect("v6"),
        ],
        link_count: 3,
        version: "0.1.0".into(),
        audit: AuditHead {
            seq: 300,
            hash: [10; 32],
        },
    };
    let facts = Facts {
        hostname: "nuc1".into(),
        os_name: "debian".into(),
        os_version: "12".into(),
        kernel: "6.1.0-18-amd64".into(),
        arch: "amd64".into(),
        cpu_count: 4,
        memory_bytes: 8 << 30,
        machine: Machine {
            virtualization: "none".into(),
            vendor: "Intel(R) Client Systems".into(),
            product: "NUC8i5BEH".into(),
            firmware: "uefi".into(),
            cpu_vendor: "intel".into(),
            cpu_model: "Intel(R) Core(TM) i5-8259U CPU @ 2.30GHz".into(),
            core_count: 4,
            root_bytes: 249_856_000_000,
            disks: vec![Disk {
                name: "nvme0n1".into(),
                model: "Samsung SSD 970".into(),
                bytes: 250_059_350_016,
                is_rotational: Some(false),
            }],
            interfaces: vec![Interface {
                name: "eno1".into(),
                mac: "94:c6:91:00:00:01".into(),
                speed_mbit: 1000,
            }],
            gpus: vec![Gpu {
                vendor: "intel".into(),
                id: "8086:3ea5".into(),
            }],
        },
    };
    let resource = |name: &str, state, message: &str| ResourceReport {
        name: name.into(),
        state,
        message: message.into(),
    };
    let status = Status {
        digest: [6; 32],
        desired: [7; 32],
        applied: [8; 32],
        applied_at: Wall(1_700_000_000_001),
        resources: vec![
            resource("file:/etc/motd", ResourceState::Failed, "permission denied"),
            resource("params:x", ResourceState::Conflict, "labels disagree"),
            resource("file:/etc/issue", ResourceState::Changed, ""),
            resource("file:/etc/hosts", ResourceState::Ok, ""),
        ],
        resource_count: 4,
        ok_count: 2,
    };
    let encode = |body: Result<Vec<u8>, postcard::Error>| body.expect("a body");
    let sections = [
        (
            Section::Beacon,
            "beacon-with-audit-head",
            encode(postcard::to_stdvec(&beacon)),
        ),
        (
            Section::Facts,
            "facts-with-machine",
            encode(postcard::to_stdvec(&facts)),
        ),
        (
            Section::Status,
            "status",
            encode(postcard::to_stdvec(&status)),
        ),
    ];
    for (section, name, body) in sections {
        let bytes = seal_register(&mesh(), &key(50), section, 77, 4, &body);

        let stored = golden_bytes(&format!("register/v1/{name}.hex"), &bytes);

        let read = Register::open(&mesh(), &stored).expect("a register of version 1");
        assert_eq!(
            (read.node, read.section, read.incarnation, read.seq),
            (node(50), section, 77, 4)
        );
        match section {
            Section::Beacon => assert_eq!(
                postcard::from_bytes::<Beacon>(&read.body),
                Ok(beacon.clone())
            ),
            Section::Facts => {
                assert_eq!(postcard::from_bytes::<Facts>(&read.body), Ok(facts.clone()));
            }
            Section::Status => assert_eq!(
                postcard::from_bytes::<Status>(&read.body),
                Ok(status.clone())
            ),
        }
    }
}

#[test]
fn tokens_are_written_and_read_as_in_version_1() {
    let typed = golden(
        "token/v1/typed.txt",
        &format!("{}\n", print_typed(&[1, 2, 3, 250, 251, 0, 0, 9, 77, 255])),
    );
    assert_eq!(
        Token::parse(&typed),
        Ok(Token::Typed(Seed::Typed([
            1, 2, 3, 250, 251, 0, 0, 9, 77, 255
        ])))
    );

    let invite = bodies()
        .into_iter()
        .find(|body| body.kind() == Kind::INVITE)
        .expect("an invite");
    let under = StatementId(mesh().0);
    let draft = Draft {
        seq: 0,
        prev: StatementId::ZERO,
        under,
        hlc: Hlc(1),
        refs: vec![],
        body: invite,
    };
    let invite = seal(&mesh(), &key(1), &draft).expect("a sound draft");
    let whole = Ticket {
        seed: Seed::Long([9; 16]),
        mesh: mesh(),
        not_after_s: 1_800_000_000,
        addresses: vec![
            (node(50), "10.0.0.1:4433".parse().expect("v4")),
            (node(51), "[fe80::1]:9".parse().expect("v6")),
        ],
        invite: invite.to_vec(),
    };
    let bare = Ticket {
        addresses: vec![],
        invite: vec![],
        ..whole.clone()
    };
    for (name, ticket) in [("ticket", whole), ("ticket-bare", bare)] {
        let text = golden(
            &format!("token/v1/{name}.txt"),
            &format!("{}\n", ticket.print().expect("a long seed")),
        );
        assert_eq!(Token::parse(&text), Ok(Token::Ticket(ticket)));
    }
}

#[test]
fn the_keys_of_a_token_follow_from_its_seed_as_in_version_1() {
    let mut text = String::new();
    for (name, seed) in [
        ("typed", Seed::Typed([5; 10])),
        ("long", Seed::Long([5; 16])),
    ] {
        let keys = TokenKeys::derive(&seed);
        let mac = hex(&keys.mesh_mac(&mesh()));
        write!(
            text,
            "{name} public {}{name} mesh_mac {mac}",
            hex(&keys.public())
        )
        .expect("writing to memory");
    }
    golden("token/v1/keys.txt", &text);
}

#[test]
fn frames_of_the_join_conversation_are_written_and_read_as_in_version_1() {
    let frames = [
        (
            "prologue",
            JoinFrame::Prologue(Prologue {
                token_id: [1; 8],
                nonce: [2; 16],
            }),
        ),
        (
            "offer",
            JoinFrame::Offer(Offer {
                mesh: mesh(),
                nonce: [2; 16],
                invite: Bytes::from_static(b"invite"),
            }),
        ),
        (
            "request",
            JoinFrame::Request(JoinRequest {
                version: JOIN_VERSION,
                invite: Bytes::from_static(b"invite"),
                join: Bytes::from_static(b"join"),
            }),
        ),
        (
            "welcome",
            JoinFrame::Reply(JoinReply::Welcome {
                root: Bytes::from_static(b"root"),
                statements: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
                last: true,
                members: vec![(node(50), vec!["10.0.0.1:4433".parse().expect("an address")])],
            }),
        ),
        (
            "refused",
            JoinFrame::Reply(refusal(410, "the token was revoked", true)),
        ),
    ];
    for (name, frame) in frames {
        let stored = golden_bytes(
            &format!("join/v1/{name}.hex"),
            &frame.encode().expect("within limits"),
        );
        assert_eq!(JoinFrame::decode(&stored), Ok(frame), "{name}");
    }
}

#[test]
fn a_beacon_of_a_program_without_an_audit_chain_is_still_read() {
    let path = source::root().join("tests/fixtures/register/v1/beacon.hex");
    let stored = unhex(&fs::read_to_string(path).expect("a fixture"));

    let read = Register::open(&mesh(), &stored).expect("a register of version 1");

    let beacon: Beacon = postcard::from_bytes(&read.body).expect("a beacon");
    assert_eq!((beacon.incarnation, beacon.link_count), (77, 3));
    assert_eq!(beacon.audit, AuditHead::default());
}

#[test]
fn facts_of_a_program_that_did_not_look_at_the_machine_are_still_read() {
    let path = source::root().join("tests/fixtures/register/v1/facts.hex");
    let stored = unhex(&fs::read_to_string(path).expect("a fixture"));

    let read = Register::open(&mesh(), &stored).expect("a register of version 1");

    let facts: Facts = postcard::from_bytes(&read.body).expect("facts");
    assert_eq!((&*facts.hostname, facts.memory_bytes), ("nuc1", 8 << 30));
    assert_eq!(facts.machine, Machine::default());
}

#[test]
fn an_audit_record_of_every_kind_is_written_and_read_as_in_version_1() {
    let head = |seq| AuditHead {
        seq,
        hash: [seq as u8; 32],
    };
    let acts = [
        Act::Started {
            incarnation: 77,
            version: "0.1.0".into(),
        },
        Act::Lost {
            from: 3,
            through: 300,
        },
        Act::handed_in(author(1), &[(id(4), Kind::EDIT), (id(5), Kind::GRANT)]),
        Act::Refused {
            author: Some(author(1)),
            id: None,
            code: "M013".into(),
            why: "no".into(),
        },
        Act::Witnessed {
            node: node(50),
            join: id(6),
            invite: id(7),
        },
        Act::JoinRefused {
            node: node(50),
            code: 403,
            why: "the token was revoked".into(),
        },
        Act::MemberChanged {
            node: node(50),
            name: "nuc1".into(),
            state: MemberState::Revoked,
        },
        Act::Configured {
            hash: [8; 32],
            changed_count: 2,
            failed_count: 1,
            files: vec!["/etc/motd".into()],
        },
        Act::Alarm(Alarm::Forked { author: author(2) }),
        Act::Alarm(Alarm::WentBack {
            node: node(50),
            told: head(9),
            tells: head(3),
        }),
        Act::Alarm(Alarm::Diverged { peer: node(50) }),
        Act::Trimmed { end: head(12) },
        Act::Dropped {
            node: node(50),
            end: head(12),
        },
        Act::LeftOut { kind: 5, count: 70 },
    ];
    let callers = [
        Some(Caller::Local { uid: 1000 }),
        Some(Caller::Device(author(1))),
        None,
    ];
    let mut before = AuditHead::default();
    for (n, act) in acts.into_iter().enumerate() {
        let caller = callers[n % 3];
        let body = AuditBody { caller, act };
        let at = Wall(1_700_000_000_000 + n as u64);
        let record = seal_audit(&mesh(), &key(50), &before, at, &body);
        let path = format!("audit/v1/{n:02}-{}.hex", body.act.kind_word());

        let stored = golden_bytes(&path, &record.bytes);

        let read = AuditRecord::open(&mesh(), &stored).expect("a record of version 1");
        assert_eq!(read, record);
        assert_eq!(read.body(), Some(body));
        before = record.head();
    }
}
