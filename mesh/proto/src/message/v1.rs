//! Version 1.
//!
//! This file is the wire format. Every list is checked against its limit here, before anything else sees it.

use bytes::Bytes;
use lab_crdt_model::NodeId;
use lab_crdt_model::limit::{FRAME_BYTES_MAX, PUSH_BYTES_MAX};
use serde::{Deserialize, Serialize};

use crate::error::FrameError;
use crate::frame::{open, read, seal, write};

/// Most nodes named as down in a greeting.
pub(crate) const DOWN_MAX: usize = 256;
/// Most nodes named in an overlay message.
pub(crate) const NODES_MAX: usize = 64;
/// Most ids announced in one overlay message.
pub(crate) const IDS_MAX: usize = 256;
/// Longest walk or route of an overlay message, hops.
pub(crate) const HOPS_MAX: u16 = 64;
/// Longest content of a push: the largest payload and a tag.
pub(crate) const CONTENT_BYTES_MAX: usize = PUSH_BYTES_MAX + 64;

const HELLO: u8 = 1;
const PING: u8 = 2;
const PONG: u8 = 3;
const ANNOUNCE: u8 = 4;
const OVERLAY: u8 = 5;
const SYNC: u8 = 6;
const GOODBYE: u8 = 7;
const ASK_VIEW: u8 = 8;
const VIEW: u8 = 9;

/// One digest per plane; equal exactly when the sets are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Digests {
    /// Of the statements.
    pub(crate) statements: [u8; 32],
    /// Of the registers.
    pub(crate) registers: [u8; 32],
}

/// A message on a mesh link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// First on every link, both ways.
    Hello(Hello),
    /// Asks for a pong.
    Ping(Ping),
    /// Answers a ping.
    Pong(Ping),
    /// Our digests changed.
    Announce(Announce),
    /// Of the overlay: views and push.
    Overlay(Overlay),
    /// Of a sync exchange; opaque.
    Sync(Bytes),
    /// The sender stops.
    Goodbye,
    /// Asks for a view.
    AskView,
    /// Who lives, in the sender's opinion.
    View(View),
}

/// Opinions of all members, one bit each in the order of their ids.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct View {
    /// Equal for equal rosters; the bits mean nothing to others.
    pub(crate) roster: u64,
    /// Who is alive.
    pub(crate) alive: Bytes,
    /// Who is down.
    pub(crate) down: Bytes,
}

/// The greeting.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Bits for what the sender can do; none are defined yet, unknown ones are ignored.
    pub(crate) capabilities: u64,
    /// What the sender holds.
    pub(crate) digests: Digests,
    /// Whom the sender believes down, with the newest beacon it knows of each; at most [`DOWN_MAX`].
    pub(crate) down: Vec<(NodeId, u64)>,
}

/// Ping and pong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ping {
    /// Repeated in the pong.
    pub(crate) seq: u32,
    /// What the sender holds, if that changed since it was last told on this link.
    pub(crate) digests: Option<Digests>,
}

/// News of digests.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Announce {
    /// What the sender holds.
    pub(crate) digests: Digests,
    /// What is new was not pushed to everyone, so there is nothing to wait for before pulling.
    pub(crate) is_pull: bool,
}

/// A message of the overlay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Overlay {
    /// Of the views.
    Swarm(Swarm),
    /// Of the broadcast tree.
    Push(Push),
}

/// A node and data about it, which we never use.
pub(crate) type Info = (NodeId, Option<Bytes>);

/// Keeping the views.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Swarm {
    /// Be my neighbour, if you have room.
    Join(Option<Bytes>),
    /// Someone joined; a random walk. No longer sent, and ignored.
    ForwardJoin { peer: Info, ttl: u16 },
    /// Whom I know; a random walk. No longer sent, and ignored.
    Shuffle {
        origin: NodeId,
        nodes: Vec<Info>,
        ttl: u16,
    },
    /// Whom I know, in return. No longer sent, and ignored.
    ShuffleReply { nodes: Vec<Info> },
    /// Of high priority: be my neighbour, even if you have to drop another. Of low priority: yes, I am yours.
    Neighbor {
        priority: Priority,
        data: Option<Bytes>,
    },
    /// You are no longer my neighbour, or not to be.
    Disconnect { alive: bool, respond: bool },
}

/// What a neighbour message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Priority {
    /// A request that may not be refused.
    High,
    /// Agreement.
    Low,
}

/// Broadcast.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Push {
    /// A payload; `id` is the BLAKE3 of its content.
    Payload {
        id: [u8; 32],
        content: Bytes,
        scope: Scope,
    },
    /// Send me ids only.
    Prune,
    /// Send me payloads again, and this one.
    Graft { id: Option<[u8; 32]>, round: u16 },
    /// I have these.
    IHave(Vec<([u8; 32], u16)>),
}

/// How far a payload goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Scope {
    /// Everywhere; hops so far.
    Swarm(u16),
    /// To neighbours only.
    Neighbors,
}

/// What a pushed content is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Content {
    /// For the replica.
    Payload(Bytes),
    /// `by` no longer hears `node`, whose newest known beacon is `counter`; a newer one refutes it.
    Suspect {
        node: NodeId,
        counter: u64,
        by: NodeId,
        seq: u64,
    },
    /// Nobody refuted it in time.
    Down {
        node: NodeId,
        counter: u64,
        by: NodeId,
        seq: u64,
    },
}

impl Message {
    /// The frame's bytes.
    pub(crate) fn encode(&self) -> Bytes {
        match self {
            Self::Hello(it) => write(HELLO, it),
            Self::Ping(it) => write(PING, it),
            Self::Pong(it) => write(PONG, it),
            Self::Announce(it) => write(ANNOUNCE, it),
            Self::Overlay(it) => write(OVERLAY, it),
            Self::Sync(bytes) => seal(SYNC, bytes),
            Self::Goodbye => seal(GOODBYE, &[]),
            Self::AskView => seal(ASK_VIEW, &[]),
            Self::View(it) => write(VIEW, it),
        }
    }

    /// Reads a frame. Work and memory are bounded by its length; never panics.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let (kind, body) = open(bytes, FRAME_BYTES_MAX)?;
        Ok(match kind {
            HELLO => {
                let hello: Hello = read(&body)?;
                at_most("down nodes", hello.down.len(), DOWN_MAX)?;
                Self::Hello(hello)
            }
            PING => Self::Ping(read(&body)?),
            PONG => Self::Pong(read(&body)?),
            ANNOUNCE => Self::Announce(read(&body)?),
            OVERLAY => {
                let overlay: Overlay = read(&body)?;
                overlay.check()?;
                Self::Overlay(overlay)
            }
            SYNC => Self::Sync(body),
            GOODBYE => Self::Goodbye,
            ASK_VIEW => Self::AskView,
            VIEW => Self::View(read(&body)?),
            other => return Err(FrameError::Kind(other)),
        })
    }
}

impl Overlay {
    /// Refuses hop counts near overflow, long lists, and data about peers, of which there is none.
    pub(crate) fn check(&self) -> Result<(), FrameError> {
        let no_data =
            |data: &Option<Bytes>| at_most("data of a peer", usize::from(data.is_some()), 0);
        let hops = |n: u16| at_most("hops", usize::from(n), usize::from(HOPS_MAX));
        let nodes = |nodes: &[Info]| {
            at_most("nodes", nodes.len(), NODES_MAX)?;
            nodes.iter().try_for_each(|(_, data)| no_data(data))
        };
        match self {
            Self::Swarm(swarm) => match swarm {
                Swarm::Join(data) | Swarm::Neighbor { data, .. } => no_data(data),
                Swarm::ForwardJoin { peer, ttl } => no_data(&peer.1).and_then(|()| hops(*ttl)),
                Swarm::Shuffle {
                    nodes: list, ttl, ..
                } => nodes(list).and_then(|()| hops(*ttl)),
                Swarm::ShuffleReply { nodes: list } => nodes(list),
                Swarm::Disconnect { .. } => Ok(()),
            },
            Self::Push(push) => match push {
                Push::Payload { content, scope, .. } => {
                    at_most("bytes of content", content.len(), CONTENT_BYTES_MAX)?;
                    if let Scope::Swarm(round) = scope {
                        hops(*round)
                    } else {
                        Ok(())
                    }
                }
                Push::Prune => Ok(()),
                Push::Graft { round, .. } => hops(*round),
                Push::IHave(ids) => {
                    at_most("ids", ids.len(), IDS_MAX)?;
                    ids.iter().try_for_each(|(_, round)| hops(*round))
                }
            },
        }
    }
}

impl Content {
    /// As postcard.
    pub(crate) fn encode(&self) -> Bytes {
        postcard::to_stdvec(self)
            .expect("invariant: writing plain values to memory cannot fail")
            .into()
    }

    /// Reads the content of a push.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        read(bytes)
    }
}

fn at_most(what: &'static str, len: usize, max: usize) -> Result<(), FrameError> {
    if len > max {
        Err(FrameError::TooMany { what, max })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples() -> Vec<(&'static str, Message)> {
        let node = |n| NodeId([n; 32]);
        let digests = Digests {
            statements: [1; 32],
            registers: [2; 32],
        };
        let swarm = |it| Message::Overlay(Overlay::Swarm(it));
        let push = |it| Message::Overlay(Overlay::Push(it));
        vec![
            (
                "hello",
                Message::Hello(Hello {
                    capabilities: 5,
                    digests,
                    down: vec![(node(9), 7)],
                }),
            ),
            (
                "ping",
                Message::Ping(Ping {
                    seq: 300,
                    digests: Some(digests),
                }),
            ),
            (
                "pong",
                Message::Pong(Ping {
                    seq: 300,
                    digests: None,
                }),
            ),
            (
                "announce",
                Message::Announce(Announce {
                    digests,
                    is_pull: true,
                }),
            ),
            ("join", swarm(Swarm::Join(None))),
            (
                "forward-join",
                swarm(Swarm::ForwardJoin {
                    peer: (node(3), None),
                    ttl: 6,
                }),
            ),
            (
                "shuffle",
                swarm(Swarm::Shuffle {
                    origin: node(3),
                    nodes: vec![(node(4), None)],
                    ttl: 6,
                }),
            ),
            (
                "shuffle-reply",
                swarm(Swarm::ShuffleReply {
                    nodes: vec![(node(4), None)],
                }),
            ),
            (
                "neighbor",
                swarm(Swarm::Neighbor {
                    priority: Priority::Low,
                    data: None,
                }),
            ),
            (
                "disconnect",
                swarm(Swarm::Disconnect {
                    alive: true,
                    respond: false,
                }),
            ),
            (
                "gossip",
                push(Push::Payload {
                    id: [8; 32],
                    content: Content::Suspect {
                        node: node(5),
                        counter: 6,
                        by: node(7),
                        seq: 8,
                    }
                    .encode(),
                    scope: Scope::Swarm(3),
                }),
            ),
            ("prune", push(Push::Prune)),
            (
                "graft",
                push(Push::Graft {
                    id: Some([8; 32]),
                    round: 2,
                }),
            ),
            ("ihave", push(Push::IHave(vec![([8; 32], 2)]))),
            ("sync", Message::Sync(Bytes::from_static(b"opaque"))),
            ("goodbye", Message::Goodbye),
            ("ask-view", Message::AskView),
            (
                "view",
                Message::View(View {
                    roster: 77,
                    alive: Bytes::from_static(&[5, 1]),
                    down: Bytes::from_static(&[2, 0]),
                }),
            ),
        ]
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn every_message_reads_back() {
        for (name, message) in samples() {
            assert_eq!(Message::decode(&message.encode()), Ok(message), "{name}");
        }
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let golden = include_str!("../../tests/fixtures/message/v1.txt");
        let written: String = samples()
            .iter()
            .map(|(name, message)| format!("{name} {}\n", hex(&message.encode())))
            .collect();
        assert_eq!(written, golden, "\n{written}");
    }

    #[test]
    fn lists_and_hops_over_the_limit_are_refused() {
        let node = NodeId([1; 32]);
        for overlay in [
            Overlay::Push(Push::Payload {
                id: [0; 32],
                content: Bytes::new(),
                scope: Scope::Swarm(u16::MAX),
            }),
            Overlay::Push(Push::IHave(vec![([0; 32], 0); IDS_MAX + 1])),
            Overlay::Push(Push::Payload {
                id: [0; 32],
                content: vec![0; CONTENT_BYTES_MAX + 1].into(),
                scope: Scope::Neighbors,
            }),
            Overlay::Swarm(Swarm::ShuffleReply {
                nodes: vec![(node, None); NODES_MAX + 1],
            }),
            Overlay::Swarm(Swarm::Join(Some(Bytes::from_static(b"data")))),
        ] {
            let frame = Message::Overlay(overlay).encode();
            assert!(matches!(
                Message::decode(&frame),
                Err(FrameError::TooMany { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_peer_panic(
            version in 0u8..3,
            kind in 0u8..10,
            body in proptest::collection::vec(any::<u8>(), 0..512),
        ) {
            let mut bytes = vec![version, kind];
            bytes.extend(body);
            if let Ok(message) = Message::decode(&bytes.into()) {
                prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
            }
        }
    }
}
