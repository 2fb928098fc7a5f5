//! Which link stands: one per peer and channel, whoever dialled.
//!
//! Both ends must agree without talking, so only the accepting end decides, and the dialling end
//! calls its link up when the other one answers. An incoming link waits while our own dial to that
//! peer runs and ours has the lower id; it is refused if that dial succeeds. In every other case it
//! is taken and ends our own dial, and an older link, which the peer must have lost or it would not
//! have dialled.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lab_crdt_model::NodeId;
use lab_crdt_model::link::{Channel, Reason};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::lane::LaneSender;

/// For how long a link that we dialled wins against one that the peer dialled, if ours is the lower
/// id.
///
/// Longer than a dial may take, so that whatever the peer started before it saw ours has ended.
const YOUNG: Duration = Duration::from_secs(5);

/// Names a link or a dial; never used twice.
pub(crate) type Serial = u64;
/// What there is one of.
pub(crate) type Key = (NodeId, Channel);

/// Every link and dial of this node.
#[derive(Debug, Default)]
pub(crate) struct Table {
    links: BTreeMap<Key, Entry>,
    dials: BTreeMap<Key, (Serial, Arc<Notify>)>,
    last: Serial,
}

/// One link, as others see it.
#[derive(Debug)]
pub(crate) struct Entry {
    serial: Serial,
    is_ours: bool,
    /// Somebody here asked for a link and was promised an answer; only until it is up.
    is_wanted: bool,
    born: Instant,
    address: Option<IpAddr>,
    lanes: Option<[LaneSender; 2]>,
    close: Option<oneshot::Sender<Ending>>,
    rush: Arc<Notify>,
    gone: oneshot::Receiver<()>,
}

/// How a link is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ending {
    /// Told to the peer.
    pub(crate) reason: Reason,
    /// For how long what was queued may still be sent.
    pub(crate) drain: Duration,
}

/// What a link's task gets when it is entered.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) serial: Serial,
    /// Fires when somebody wants the link closed.
    pub(crate) close: oneshot::Receiver<Ending>,
    /// Fires when the link must not wait any longer for what was queued: another one takes its place.
    pub(crate) rush: Arc<Notify>,
    /// Dropped when the link is gone and said so.
    pub(crate) gone: oneshot::Sender<()>,
    /// Fires when the link that this one replaces is gone.
    pub(crate) previous: Option<oneshot::Receiver<()>>,
}

impl Entry {
    /// Asks the link's task to end; nothing is taken for sending from here on.
    pub(crate) fn close(&mut self, reason: Reason, drain: Duration) {
        self.lanes = None;
        if let Some(close) = self.close.take() {
            let _ = close.send(Ending { reason, drain });
        }
    }

    /// Asks the link's task to end at once, also if it was sending its last; what was queued is lost.
    pub(crate) fn cut(&mut self, reason: Reason) {
        self.close(reason, Duration::ZERO);
        self.rush.notify_one();
    }

    /// Whether we dialled it.
    pub(crate) const fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// The queues; `None` once the link is ending.
    pub(crate) const fn lanes(&self) -> Option<&[LaneSender; 2]> {
        self.lanes.as_ref()
    }
}

impl Table {
    /// Begins a dial. `None` if there is a link or a dial already, or `limit` are running.
    pub(crate) fn begin_dial(&mut self, key: Key, limit: usize) -> Option<(Serial, Arc<Notify>)> {
        if let Some(entry) = self
            .links
            .get_mut(&key)
            .filter(|entry| entry.lanes.is_some())
        {
            entry.is_wanted = true;
            return None;
        }
        if self.dials.contains_key(&key) || self.dials.len() >= limit {
            return None;
        }
        self.last += 1;
        let dial = (self.last, Arc::new(Notify::new()));
        self.dials.insert(key, dial.clone());
        Some(dial)
    }

    /// Ends a dial; says whether it was still wanted.
    pub(crate) fn end_dial(&mut self, key: Key, serial: Serial) -> bool {
        let is_wanted = self
            .dials
            .get(&key)
            .is_some_and(|(current, _)| *current == serial);
        if is_wanted {
            self.dials.remove(&key);
        }
        is_wanted
    }

    /// Whether an incoming link has to wait for our own dial.
    pub(crate) fn must_wait(&self, me: NodeId, key: Key) -> bool {
        me < key.0 && self.dials.contains_key(&key)
    }

    /// Enters a link that we dialled. `None` if nobody wants it any more.
    pub(crate) fn enter_dialled(
        &mut self,
        key: Key,
        dial: Serial,
        lanes: [LaneSender; 2],
        now: Instant,
    ) -> Option<Entered> {
        if !self.end_dial(key, dial) || self.is_up(key) {
            return None;
        }
        Some(self.enter(key, true, false, None, lanes, now))
    }

    /// Enters a link that the peer dialled. `None` if ours stands.
    pub(crate) fn enter_accepted(
        &mut self,
        me: NodeId,
        key: Key,
        address: Option<IpAddr>,
        lanes: [LaneSender; 2],
        now: Instant,
    ) -> Option<Entered> {
        let ours_stands = self.links.get(&key).is_some_and(|entry| {
            entry.is_ours
                && entry.lanes.is_some()
                && me < key.0
                && now.duration_since(entry.born) < YOUNG
        });
        if ours_stands {
            return None;
        }
        let cancelled = self.dials.remove(&key);
        if let Some((_, cancel)) = &cancelled {
            cancel.notify_one();
        }
        Some(self.enter(key, false, cancelled.is_some(), address, lanes, now))
    }

    fn enter(
        &mut self,
        key: Key,
        is_ours: bool,
        is_wanted: bool,
        address: Option<IpAddr>,
        lanes: [LaneSender; 2],
        now: Instant,
    ) -> Entered {
        self.last += 1;
        let (close, close_asked) = oneshot::channel();
        let (gone, is_gone) = oneshot::channel();
        let rush = Arc::new(Notify::new());
        let entry = Entry {
            serial: self.last,
            is_ours,
            is_wanted,
            born: now,
            address,
            lanes: Some(lanes),
            close: Some(close),
            rush: rush.clone(),
            gone: is_gone,
        };
        let previous = self.links.insert(key, entry).map(|mut old| {
            old.cut(Reason::Duplicate);
            old.gone
        });
        Entered {
            serial: self.last,
            close: close_asked,
            rush,
            gone,
            previous,
        }
    }

    /// Marks a link as ending, so that the peer can be dialled again.
    pub(crate) fn end(&mut self, key: Key, serial: Serial) {
        if let Some(entry) = self
            .links
            .get_mut(&key)
            .filter(|entry| entry.serial == serial)
        {
            entry.lanes = None;
            entry.close = None;
        }
    }

    /// Forgets a link that never came up; says whether somebody waits for an answer.
    pub(crate) fn give_up(&mut self, key: Key, serial: Serial) -> bool {
        let is_wanted = self
            .links
            .get(&key)
            .is_some_and(|entry| entry.serial == serial && entry.is_wanted);
        self.remove(key, serial);
        is_wanted
    }

    /// Forgets a link whose end was told.
    pub(crate) fn remove(&mut self, key: Key, serial: Serial) {
        if self
            .links
            .get(&key)
            .is_some_and(|entry| entry.serial == serial)
        {
            self.links.remove(&key);
        }
    }

    pub(crate) fn entry(&mut self, key: Key) -> Option<&mut Entry> {
        self.links.get_mut(&key)
    }

    pub(crate) fn is_up(&self, key: Key) -> bool {
        self.links
            .get(&key)
            .is_some_and(|entry| entry.lanes.is_some())
    }

    /// Cuts every link for which `reason` gives one.
    pub(crate) fn cut_where(&mut self, reason: impl Fn(Key) -> Option<Reason>) {
        for (key, entry) in &mut self.links {
            if let Some(reason) = reason(*key) {
                entry.cut(reason);
            }
        }
    }

    /// Closes every link.
    pub(crate) fn close_all(&mut self, reason: Reason, drain: Duration) {
        for entry in self.links.values_mut() {
            entry.close(reason, drain);
        }
    }

    /// Links that are up on a channel.
    pub(crate) fn link_count(&self, channel: Channel) -> usize {
        let of_channel = self.links.iter().filter(|((_, c), _)| *c == channel);
        of_channel
            .filter(|(_, entry)| entry.lanes.is_some())
            .count()
    }

    /// Join links that strangers hold, in all and from one address.
    pub(crate) fn stranger_counts(&self, address: Option<IpAddr>) -> (usize, usize) {
        let strangers = || {
            self.links
                .iter()
                .filter(|((_, c), entry)| *c == Channel::Join && !entry.is_ours)
        };
        (
            strangers().count(),
            strangers()
                .filter(|(_, entry)| entry.address == address)
                .count(),
        )
    }

    pub(crate) fn dial_count(&self) -> usize {
        self.dials.len()
    }
}

#[cfg(test)]
mod tests;
