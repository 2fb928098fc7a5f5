//! Links between nodes over iroh: QUIC, dialled by key, proved by key.
//!
//! This crate carries out what the protocol asks for (send, dial, hang up, admit) and reports what
//! happened. It decides nothing about *whom* to talk to or *what* to say, and never opens a frame.
//! No relay, DNS, port mapper or other service of a third party is ever contacted; with
//! [`NetConfig::lan_discovery`] the local network is asked by multicast.
//!
//! ```text
//!             Net::dial ──┐                    ┌── accept
//!                         ▼                    ▼
//!            iroh handshake, then the gate: NotAMember (403) unless admitted
//!                         ▼                    ▼
//!            both ends open two one-way streams, each begins with one byte: its lane
//!                         └──► one link per (peer, channel) ◄──┘      see `table`
//!   Net::send ─► queue per lane ─► stream      stream ─► NetEvent::Frame ─► NetEvents::recv
//! ```
//!
//! # On the wire
//!
//! ALPN `lab/1` for members, `lab/join/1` for anyone, `lab/api/1` for devices that were admitted (see [`ApiStream`]: one
//! stream of bytes, and no frames). Each end opens one stream per
//! [`Lane`](lab_crdt_model::link::Lane); a stream is its lane's byte, then frames:
//!
//! ```text
//! ┌────────┬─────────────────┬─────────┬─────────────────┬───
//! │ lane 1 │ length 4 (BE)   │ frame … │ length 4 (BE)   │ …
//! └────────┴─────────────────┴─────────┴─────────────────┴───
//! ```
//!
//! # What is promised
//!
//! * Every [`NetEvent::Up`] is followed by exactly one [`NetEvent::Down`] of the same link, and its
//!   frames lie between. Every [`Net::dial`] ends in `Up` or [`NetEvent::DialFailed`] within
//!   [`NetConfig::dial_ms_max`], unless a link to that peer is up already or the peer's own dial
//!   wins.
//! * Frames of one lane arrive in order and whole, or the link goes down.
//! * **Two ends that dial each other at once get one link**, the one dialled by the lower id. A
//!   peer that dials while we still hold an old link has lost it, so the new one replaces it.
//! * A peer that may no longer be linked is cut off at once, by [`Net::admit`] and [`Net::block`]; a device that may no
//!   longer ask, by [`Net::admit_devices`].
//! * 0-RTT data is neither sent nor accepted: it could be replayed.
//!
//! # Limits
//!
//! | what | limit | beyond it |
//! |---|---|---|
//! | frame on a mesh link, or from the accepting end of a join link | `FRAME_BYTES_MAX` | the link closes with `Protocol` |
//! | frame from the dialling end of a join link | `JOIN_FRAME_BYTES_MAX` | the link closes with `Protocol` |
//! | frames waiting to be sent, per link and lane | [`NetConfig::control_queue_bytes_max`], [`NetConfig::bulk_queue_bytes_max`], 4096 frames | the link closes with `Overload` |
//! | frames received and not yet taken | 4 MiB, 256 events, all links together | reading stops; QUIC holds the peers back |
//! | join links we accepted | [`NetConfig::join_links_max`], half of them per address, for [`NetConfig::join_ms_max`] | closed with `Overload` |
//! | handshakes of one IPv4 address or IPv6 network of 64 bits | 64 at once, 5 per second; half of them without proving the address | refused unread |
//! | connections of devices | [`DEVICE_COUNT_MAX`], [`DEVICES_PER_KEY_MAX`] with one key | closed with `Overload` |
//! | silence on a device's connection | [`NetConfig::api_idle_ms`] | closed with `Done` |
//! | handshakes at once | 64; from 16 on, addresses are proved first | refused unread |
//!
//! ```no_run
//! # async fn example() -> Result<(), lab_mesh_net::NetError> {
//! use lab_mesh_net::{Net, NetConfig, NetEvent};
//!
//! let (net, mut events) = Net::start(NetConfig::new([7; 32])).await?;
//! net.admit([lab_crdt_model::NodeId([9; 32])].into());
//! while let Some(event) = events.recv().await {
//!     if let NetEvent::Frame { from, channel, lane, bytes } = event {
//!         net.send(from, channel, lane, bytes);
//!     }
//! }
//! net.close().await;
//! # Ok(())
//! # }
//! ```

mod api;
mod config;
mod dial;
mod driver;
mod error;
mod event;
mod gate;
mod knocks;
mod lane;
mod link;
mod net;
mod shared;
mod stats;
mod table;

pub use api::{ApiError, ApiStream, DEVICE_COUNT_MAX, DEVICES_PER_KEY_MAX, Remote};
pub use config::NetConfig;
pub use error::NetError;
pub use event::{NetEvent, NetEvents};
pub use net::Net;
pub use stats::NetStats;
