//! The join conversation: what a stranger and its sponsor say to each other on the join channel.
//!
//! ```text
//! joiner                                   sponsor
//!   Prologue{token_id, nonce}        →              only with a typed token, which names no mesh
//!                                    ←  Offer{mesh, invite}      the joiner verifies the invite's mesh_mac
//!   JoinRequest{invite, join}        →
//!                                    ←  Welcome{…, last: false}…, Welcome{…, last: true}
//!                                       or Refused{code, why, is_final}
//! ```
//!
//! Every frame is at most [`JOIN_FRAME_BYTES_MAX`]. The envelopes inside are opaque here; the agent judges
//! them. What does not fit into the welcome is pulled over a mesh link afterwards.

use std::net::SocketAddr;

use bytes::Bytes;
use lab_crdt_model::limit::{AUTHORITY_BYTES_MAX, JOIN_FRAME_BYTES_MAX};
use lab_crdt_model::{MeshId, NodeId};
use serde::{Deserialize, Serialize};

use crate::error::FrameError;
use crate::frame::{open, read, write};

/// The version of the conversation that this program speaks.
pub const JOIN_VERSION: u16 = 1;
/// Most members named in one frame of a welcome.
pub const WELCOME_MEMBERS_MAX: usize = 256;
/// Most addresses per member in a welcome.
pub const WELCOME_ADDRESSES_MAX: usize = 8;
/// Most statements in one frame of a welcome.
pub const WELCOME_STATEMENTS_MAX: usize = 1024;
/// Longest reason of a refusal, bytes.
pub const REFUSAL_BYTES_MAX: usize = 512;

const PROLOGUE: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const REPLY: u8 = 4;

/// What the holder of a typed token says first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Prologue {
    /// The public name of the token.
    pub token_id: [u8; 8],
    /// Fresh, so that an offer cannot be replayed into another conversation.
    pub nonce: [u8; 16],
}

/// The sponsor's answer: which mesh it is, and the invite that proves it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Offer {
    /// The mesh.
    pub mesh: MeshId,
    /// The nonce of the prologue.
    pub nonce: [u8; 16],
    /// The invite's envelope; empty when the sponsor has not heard of the token.
    pub invite: Bytes,
}

/// Asks for admission.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The newest version that the joiner speaks.
    pub version: u16,
    /// The invite's envelope, for a sponsor that has not heard of it; may be empty.
    pub invite: Bytes,
    /// The joiner's signed join statement.
    pub join: Bytes,
}

/// The sponsor's decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum JoinReply {
    /// Admitted. Comes in one or more frames.
    Welcome {
        /// The signed root record; in the first frame, empty in later ones.
        root: Bytes,
        /// Statement envelopes, in an order in which each can be checked with those before it.
        statements: Vec<Bytes>,
        /// Whether this is the last frame.
        last: bool,
        /// Members and where they may be dialled.
        members: Vec<(NodeId, Vec<SocketAddr>)>,
    },
    /// Not admitted.
    Refused {
        /// For programs.
        code: u16,
        /// For people.
        why: String,
        /// Trying again cannot help.
        is_final: bool,
    },
}

/// A frame of the join channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinFrame {
    /// From the joiner.
    Prologue(Prologue),
    /// From the sponsor.
    Offer(Offer),
    /// From the joiner.
    Request(JoinRequest),
    /// From the sponsor.
    Reply(JoinReply),
}

impl JoinFrame {
    /// The frame's bytes.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] or [`FrameError::TooMany`] when the other side would refuse it.
    pub fn encode(&self) -> Result<Bytes, FrameError> {
        self.check()?;
        let bytes = match self {
            Self::Prologue(it) => write(PROLOGUE, it),
            Self::Offer(it) => write(OFFER, it),
            Self::Request(it) => write(REQUEST, it),
            Self::Reply(it) => write(REPLY, it),
        };
        if bytes.len() > JOIN_FRAME_BYTES_MAX {
            return Err(FrameError::TooLong {
                len: bytes.len(),
                max: JOIN_FRAME_BYTES_MAX,
            });
        }
        Ok(bytes)
    }

    /// Reads a frame of a stranger. Bounded by the frame's length; never panics.
    ///
    /// # Errors
    /// Any [`FrameError`]; [`FrameError::Version`] and [`FrameError::Kind`] mean a newer program.
    pub fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let (kind, body) = open(bytes, JOIN_FRAME_BYTES_MAX)?;
        let frame = match kind {
            PROLOGUE => Self::Prologue(read(&body)?),
            OFFER => Self::Offer(read(&body)?),
            REQUEST => Self::Request(read(&body)?),
            REPLY => Self::Reply(read(&body)?),
            other => return Err(FrameError::Kind(other)),
        };
        frame.check()?;
        Ok(frame)
    }

    fn check(&self) -> Result<(), FrameError> {
        let bytes =
            |bytes: &Bytes| at_most("bytes of an envelope", bytes.len(), AUTHORITY_BYTES_MAX);
        match self {
            Self::Prologue(_) => Ok(()),
            Self::Offer(offer) => bytes(&offer.invite),
            Self::Request(request) => bytes(&request.invite).and_then(|()| bytes(&request.join)),
            Self::Reply(JoinReply::Refused { why, .. }) => {
                at_most("bytes of a reason", why.len(), REFUSAL_BYTES_MAX)
            }
            Self::Reply(JoinReply::Welcome {
                statements,
                members,
                ..
            }) => {
                at_most("statements", statements.len(), WELCOME_STATEMENTS_MAX)?;
                at_most("members", members.len(), WELCOME_MEMBERS_MAX)?;
                members.iter().try_for_each(|(_, addresses)| {
                    at_most("addresses", addresses.len(), WELCOME_ADDRESSES_MAX)
                })
            }
        }
    }
}

fn at_most(what: &'static str, len: usize, max: usize) -> Result<(), FrameError> {
    if len > max {
        Err(FrameError::TooMany { what, max })
    } else {
        Ok(())
    }
}

/// A refusal; `why` is cut to [`REFUSAL_BYTES_MAX`].
pub fn refusal(code: u16, why: &str, is_final: bool) -> JoinReply {
    let mut end = why.len().min(REFUSAL_BYTES_MAX);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    JoinReply::Refused {
        code,
        why: why[..end].to_owned(),
        is_final,
    }
}

/// Splits a welcome into frames that fit, the last one marked.
///
/// Of each member at most [`WELCOME_ADDRESSES_MAX`] addresses are told. A statement too long for a frame is
/// left out: the new member pulls it over a mesh link.
pub fn welcome(
    root: Bytes,
    statements: impl IntoIterator<Item = Bytes>,
    members: impl IntoIterator<Item = (NodeId, Vec<SocketAddr>)>,
) -> Vec<JoinReply> {
    // Room for the header, the counts and the flag.
    const ROOM: usize = JOIN_FRAME_BYTES_MAX - 64;
    // Node id, count, and per address tag, sixteen bytes and port.
    const MEMBER_BYTES: usize = 32 + 1 + WELCOME_ADDRESSES_MAX * 20;
    const LENGTH_BYTES: usize = 3;

    let mut frames = vec![(root, Vec::new(), Vec::new())];
    let mut used = frames[0].0.len();
    for statement in statements {
        let len = statement.len() + LENGTH_BYTES;
        if len > ROOM {
            continue;
        }
        let is_full = frames
            .last()
            .is_none_or(|it| it.1.len() == WELCOME_STATEMENTS_MAX);
        if is_full || used + len > ROOM {
            frames.push(Default::default());
            used = 0;
        }
        used += len;
        if let Some(frame) = frames.last_mut() {
            frame.1.push(statement);
        }
    }
    for (node, mut addresses) in members {
        addresses.truncate(WELCOME_ADDRESSES_MAX);
        let is_full = frames
            .last()
            .is_none_or(|it| it.2.len() == WELCOME_MEMBERS_MAX);
        if is_full || used + MEMBER_BYTES > ROOM {
            frames.push(Default::default());
            used = 0;
        }
        used += MEMBER_BYTES;
        if let Some(frame) = frames.last_mut() {
            frame.2.push((node, addresses));
        }
    }
    let end = frames.len() - 1;
    let reply = |(i, (root, statements, members))| JoinReply::Welcome {
        root,
        statements,
        last: i == end,
        members,
    };
    frames.into_iter().enumerate().map(reply).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_frame_reads_back() {
        for frame in [
            JoinFrame::Prologue(Prologue {
                token_id: [1; 8],
                nonce: [2; 16],
            }),
            JoinFrame::Offer(Offer {
                mesh: MeshId([3; 32]),
                nonce: [2; 16],
                invite: Bytes::from_static(b"invite"),
            }),
            JoinFrame::Request(JoinRequest {
                version: JOIN_VERSION,
                invite: Bytes::new(),
                join: Bytes::from_static(b"join"),
            }),
            JoinFrame::Reply(refusal(410, "the token was revoked", true)),
        ] {
            assert_eq!(JoinFrame::decode(&frame.encode().unwrap()).unwrap(), frame);
        }
    }

    #[test]
    fn a_long_welcome_is_split_into_frames_that_fit_and_loses_nothing() {
        let statements: Vec<Bytes> = (0..500u32).map(|i| vec![i as u8; 700].into()).collect();
        let members: Vec<_> = (0..700u32)
            .map(|i| {
                let mut id = [0; 32];
                id[..4].copy_from_slice(&i.to_be_bytes());
                (NodeId(id), vec!["[2001:db8::1]:1".parse().unwrap(); 8])
            })
            .collect();
        let root = Bytes::from(vec![9; 4000]);
        let frames = welcome(root.clone(), statements.clone(), members.clone());
        let (mut got, mut told) = (Vec::new(), Vec::new());
        for (i, reply) in frames.iter().enumerate() {
            let bytes = JoinFrame::Reply(reply.clone()).encode().unwrap();
            let JoinFrame::Reply(JoinReply::Welcome {
                root: r,
                statements,
                last,
                members,
            }) = JoinFrame::decode(&bytes).unwrap()
            else {
                panic!("not a welcome")
            };
            assert_eq!(r, if i == 0 { root.clone() } else { Bytes::new() });
            assert_eq!(last, i == frames.len() - 1);
            got.extend(statements);
            told.extend(members);
        }
        assert_eq!(got, statements);
        assert_eq!(told, members);
    }

    #[test]
    fn a_statement_longer_than_a_frame_is_left_out() {
        let frames = welcome(Bytes::new(), [vec![0; JOIN_FRAME_BYTES_MAX].into()], []);
        assert!(
            matches!(&frames[..], [JoinReply::Welcome { statements, last: true, .. }] if statements.is_empty())
        );
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_is_read() {
        let bytes = Bytes::from(vec![1; JOIN_FRAME_BYTES_MAX + 1]);
        assert!(matches!(
            JoinFrame::decode(&bytes),
            Err(FrameError::TooLong { .. })
        ));
    }

    #[test]
    fn an_unknown_kind_and_version_are_told_apart_from_damage() {
        assert_eq!(
            JoinFrame::decode(&Bytes::from_static(&[1, 99])),
            Err(FrameError::Kind(99))
        );
        assert_eq!(
            JoinFrame::decode(&Bytes::from_static(&[2, 1])),
            Err(FrameError::Version(2))
        );
        assert_eq!(
            JoinFrame::decode(&Bytes::from_static(&[1, 1])),
            Err(FrameError::Malformed)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_stranger_panic(
            kind in 0u8..6,
            body in proptest::collection::vec(any::<u8>(), 0..512),
        ) {
            let mut bytes = vec![1, kind];
            bytes.extend(body);
            if let Ok(frame) = JoinFrame::decode(&bytes.into()) {
                prop_assert!(frame.encode().is_ok());
            }
        }

        #[test]
        fn a_refusal_is_cut_at_a_character(why in "\\PC{0,400}") {
            let frame = JoinFrame::Reply(refusal(1, &why, false));
            prop_assert!(frame.encode().is_ok());
        }
    }
}
