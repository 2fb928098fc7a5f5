//! What peers send over a mesh link, with time passing and links coming and going.

use std::sync::Arc;

use bytes::Bytes;
use lab_crdt_model::limit::FRAME_BYTES_MAX;
use lab_crdt_model::link::Lane;
use lab_crdt_model::{Mono, NodeId, Now, Wall};
use lab_mesh_proto::{Config, Mesh, MeshInput, MeshOutput};

const PEERS: [NodeId; 3] = [NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32])];
/// Most outputs that one input may cause. A frame is at most 1 MiB; these inputs are far shorter.
const OUTPUTS_MAX: usize = 10_000;

/// A small program: each step is an operation, its argument, and for a frame its bytes.
pub fn frame(data: &[u8]) {
    let mut now = Now {
        mono: Mono(1_000_000_000),
        wall: Wall(1_700_000_000_000),
    };
    let mut mesh = Mesh::new(NodeId([9; 32]), Config::homelab(), [7; 32], now);
    let members = Arc::new(PEERS.into());
    turn(&mut mesh, now, MeshInput::Roster { members });
    for peer in PEERS {
        turn(
            &mut mesh,
            now,
            MeshInput::LinkUp {
                peer,
                address: None,
            },
        );
    }
    let mut rest = data;
    while let [operation, argument, tail @ ..] = rest {
        rest = tail;
        let peer = PEERS[usize::from(operation >> 4) % PEERS.len()];
        let input = match operation % 16 {
            0..=9 => {
                // A length of 255 takes all that is left, so that a plain frame is a case of its own.
                let length = if *argument == 255 {
                    rest.len()
                } else {
                    usize::from(*argument).min(rest.len())
                };
                let (bytes, tail) = rest.split_at(length);
                rest = tail;
                let lane = if operation % 2 == 0 {
                    Lane::Control
                } else {
                    Lane::Bulk
                };
                MeshInput::Frame {
                    from: peer,
                    lane,
                    bytes: Bytes::copy_from_slice(bytes),
                }
            }
            10 => MeshInput::LinkDown {
                peer,
                why: "fuzz".into(),
            },
            11 => MeshInput::LinkUp {
                peer,
                address: None,
            },
            12 => MeshInput::Digests {
                statements: [*argument; 32],
                registers: [*argument; 32],
            },
            13 => MeshInput::Broadcast {
                payload: Bytes::from(vec![*argument; usize::from(*argument) * 16]),
            },
            14 => MeshInput::Beacon {
                node: peer,
                counter: u64::from(*argument),
                pulled_from: (*argument % 2 == 1).then_some(peer),
            },
            _ => {
                now.mono = now.mono.plus_ms(u64::from(*argument) * 40);
                MeshInput::Wake
            }
        };
        turn(&mut mesh, now, input);
    }
    let _peers = mesh.peers(now);
}

fn turn(mesh: &mut Mesh, now: Now, input: MeshInput) {
    mesh.handle(now, input);
    let mut count = 0;
    while let Some(output) = mesh.poll() {
        count += 1;
        assert!(count <= OUTPUTS_MAX, "one input causes bounded work");
        if let MeshOutput::Send { bytes, .. } = &output {
            assert!(
                bytes.len() <= FRAME_BYTES_MAX,
                "a frame of {} bytes",
                bytes.len()
            );
        }
        if let MeshOutput::SyncOpen { peer } = output {
            mesh.handle(
                now,
                MeshInput::SyncReply {
                    to: peer,
                    messages: vec![Bytes::from_static(b"pull")],
                },
            );
        }
    }
}
