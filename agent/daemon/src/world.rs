//! The real world, as the agent's contract sees it: outputs are carried out, and what happens becomes inputs.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lab_agent_core::{
    Command, CommandId, Deadline, Effect, EffectId, EffectResult, Event, Input, LinkState, Output,
    Reply,
};
use lab_agent_store::Store;
use lab_crdt_model::{Mono, Now};
use lab_mesh_net::{Net, NetEvent, NetEvents};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::clock;
use crate::effect::Effects;
use crate::error::WorldError;
use crate::serve::{Ask, Devices};
use crate::store_writer::{StoreWriter, Written};

/// Longest nap. It bounds how late a laptop notices that it slept, and feeds the watchdogs.
const NAP_MAX: Duration = Duration::from_secs(5);
/// What happened goes before what is due, for so long and then for so many inputs more: an agent that has work for many
/// turns answers meanwhile, also if each of them takes longer than that.
const LATE_MAX_MS: u64 = 10;
const AHEAD_MAX: u32 = 32;
/// How often the tasks of this thread, and what they wait for, have a turn between two turns of an agent that is late. An
/// answer over a socket takes some of them.
const LOOKS: u32 = 8;
/// Most questions that wait for the agent's answer; further ones wait on their channel.
const REPLIES_MAX: usize = 256;

/// Everything an agent is wired to.
pub(crate) struct World {
    net: Net,
    events: NetEvents,
    store: StoreWriter,
    effects: EffectRunner,
    asks: mpsc::Receiver<Ask>,
    replies: BTreeMap<CommandId, oneshot::Sender<Reply>>,
    next_command: u64,
    addresses: watch::Sender<Vec<SocketAddr>>,
    devices: watch::Sender<Devices>,
    /// What happened and is not yet told to the agent.
    ready: VecDeque<Input>,
    /// What the agent told and nobody took yet. Taken once a turn.
    told: Vec<Told>,
    nap_max: Duration,
    turns: Turns,
}

/// Whose turn it is when something is due and something else happened.
#[derive(Debug, Default)]
struct Turns {
    /// Inputs that went before a wake that is late.
    ahead: u32,
}

impl Turns {
    /// Whether a wake that is due `at` some time must not wait for anything any more.
    fn is_overdue(&mut self, at: Option<Mono>, now: Mono) -> bool {
        if at.is_none_or(|at| now < at.plus_ms(LATE_MAX_MS)) {
            self.ahead = 0;
        }
        let is_overdue = self.ahead >= AHEAD_MAX;
        if is_overdue {
            self.ahead = 0;
        }
        is_overdue
    }

    fn happened(&mut self) {
        self.ahead = self.ahead.saturating_add(1);
    }

    fn woken(&mut self) {
        self.ahead = 0;
    }
}

/// What may interest whoever drives the loop.
#[derive(Debug)]
pub(crate) enum Told {
    /// In the agent's words.
    Event(Event),
    /// A link is being opened.
    Dialling {
        /// To whom.
        peer: lab_crdt_model::NodeId,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// A link could not be opened.
    DialFailed {
        /// To whom.
        peer: lab_crdt_model::NodeId,
        /// Why.
        why: String,
    },
}

impl World {
    pub(crate) fn new(
        (net, events): (Net, NetEvents),
        store: Store,
        effects: Effects,
        asks: mpsc::Receiver<Ask>,
    ) -> Self {
        let (addresses, _) = watch::channel(net.addresses());
        Self {
            net,
            events,
            store: StoreWriter::new(store),
            effects: EffectRunner::new(effects),
            asks,
            replies: BTreeMap::new(),
            next_command: 1,
            addresses,
            devices: watch::channel(Devices::default()).0,
            ready: VecDeque::new(),
            told: Vec::new(),
            nap_max: NAP_MAX,
            turns: Turns::default(),
        }
    }

    /// Never naps longer than this.
    pub(crate) fn nap_at_most(&mut self, most: Duration) {
        self.nap_max = most.min(NAP_MAX);
    }

    /// Where the agent can be dialled, as it changes.
    pub(crate) fn addresses(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.addresses.subscribe()
    }

    /// Whose devices may ask over the remote API, as it changes.
    pub(crate) fn devices(&self) -> watch::Receiver<Devices> {
        self.devices.subscribe()
    }

    /// Takes what was told since the last call.
    pub(crate) fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// Whether everything the agent wanted to keep is durable, or was answered otherwise.
    pub(crate) fn is_durable(&self) -> bool {
        self.store.is_idle() && self.ready.is_empty()
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        clock::now()
    }

    /// Puts a question to the agent at its next turn.
    pub(crate) fn ask(&mut self, command: Command) -> oneshot::Receiver<Reply> {
        let (reply, answer) = oneshot::channel();
        let input = self.take_ask(Ask { command, reply });
        self.ready.push_back(input);
        answer
    }

    /// Does what the agent asks.
    pub(crate) fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send {
                to,
                channel,
                lane,
                bytes,
            } => self.net.send(to, channel, lane, bytes),
            Output::Dial {
                peer,
                channel,
                addresses,
            } => {
                self.told.push(Told::Dialling {
                    peer,
                    addresses: addresses.clone(),
                });
                self.net.dial(peer, channel, addresses);
            }
            Output::Hangup { peer, channel, why } => self.net.hangup(peer, channel, why),
            Output::Admit(members) => self.net.admit(Arc::unwrap_or_clone(members)),
            Output::AdmitDevices(devices) => {
                self.net.admit_devices(devices.keys().copied().collect());
                self.devices.send_replace(devices);
            }
            Output::Store { id, batch } => self.store.push(id, batch),
            Output::Run { id, effect } => self.effects.push(id, effect),
            Output::Reply { id, reply } => {
                if let Some(waiting) = self.replies.remove(&id) {
                    // Whoever asked may have given up.
                    let _unheard = waiting.send(reply);
                }
            }
            Output::Tell(event) => self.told.push(Told::Event(event)),
        }
    }

    /// Waits for what happens next; `None` if nothing did within a nap.
    pub(crate) async fn next(
        &mut self,
        deadline: Option<Deadline>,
    ) -> Result<Option<Input>, WorldError> {
        if let Some(input) = self.ready.pop_front() {
            return Ok(Some(input));
        }
        let (at, now) = (deadline.map(|deadline| deadline.at), clock::mono());
        if self.turns.is_overdue(at, now) {
            tokio::task::yield_now().await;
            return Ok(Some(Input::Wake));
        }
        let nap = clock::nap_until(at, now, self.nap_max);
        let is_open = !self.store.is_full();
        let happens = async {
            tokio::select! {
                written = self.store.next() => {
                    let written = written.map_err(|e| WorldError::Panicked { what: "the store", source: e })?;
                    Ok(Happened::Written(written))
                }
                done = self.effects.next() => {
                    let done = done.map_err(|e| WorldError::Panicked { what: "an effect", source: e })?;
                    Ok(Happened::Done(done))
                }
                event = self.events.recv(), if is_open => {
                    event.ok_or(WorldError::NetEnded).map(Happened::Event)
                }
                Some(ask) = self.asks.recv(), if is_open && self.replies.len() < REPLIES_MAX => {
                    Ok(Happened::Asked(ask))
                }
                else => std::future::pending().await,
            }
        };
        let is_due = async {
            if nap.is_zero() {
                for _ in 0..LOOKS {
                    tokio::task::yield_now().await;
                }
            } else {
                tokio::time::sleep(nap).await;
            }
        };
        let happened = tokio::select! {
            biased;
            happened = happens => happened?,
            () = is_due => {
                self.turns.woken();
                return Ok(at.is_some_and(|at| clock::mono() >= at).then_some(Input::Wake));
            }
        };
        self.turns.happened();
        match happened {
            Happened::Written(written) => {
                let result = written.result.map_err(|e| crate::error::chain(&e));
                let of = |id| Input::Stored {
                    id,
                    result: result.clone(),
                };
                self.ready.extend(written.ids.into_iter().map(of));
                Ok(self.ready.pop_front())
            }
            Happened::Done((id, result)) => Ok(Some(Input::Done { id, result })),
            Happened::Event(event) => Ok(Some(self.happened(event))),
            Happened::Asked(ask) => Ok(Some(self.take_ask(ask))),
        }
    }

    /// Closes what is open: every link, then the store. What is not durable yet is given up.
    pub(crate) async fn close(self) {
        drop(self.asks);
        self.net.close().await;
        if let Some(store) = self.store.into_store() {
            let closed = spawn_blocking(move || store.close()).await;
            if let Ok(Err(error)) = closed {
                tracing::warn!(
                    why = crate::error::chain(&error),
                    "the store was not closed cleanly"
                );
            }
        }
    }

    fn happened(&mut self, event: NetEvent) -> Input {
        match event {
            NetEvent::Up {
                peer,
                channel,
                address,
            } => Input::Link {
                peer,
                channel,
                state: LinkState::Up { address },
            },
            NetEvent::Down { peer, channel, why } => Input::Link {
                peer,
                channel,
                state: LinkState::Down { why },
            },
            NetEvent::DialFailed { peer, channel, why } => {
                self.told.push(Told::DialFailed {
                    peer,
                    why: why.clone(),
                });
                Input::Link {
                    peer,
                    channel,
                    state: LinkState::DialFailed { why },
                }
            }
            NetEvent::Frame {
                from,
                channel,
                lane,
                bytes,
            } => Input::Frame {
                from,
                channel,
                lane,
                bytes,
            },
            NetEvent::Found { peer, addresses } => Input::Found { peer, addresses },
            NetEvent::Addresses(addresses) => {
                self.addresses.send_replace(addresses.clone());
                Input::Addresses(addresses)
            }
        }
    }

    fn take_ask(&mut self, ask: Ask) -> Input {
        let id = CommandId(self.next_command);
        self.next_command += 1;
        if let Command::Block { peers } = &ask.command {
            // The agent stops dialling them; the driver closes what is open and takes no more.
            self.net.block(peers.iter().copied().collect());
        }
        self.replies.retain(|_, waiting| !waiting.is_closed());
        self.replies.insert(id, ask.reply);
        Input::Command {
            id,
            command: ask.command,
        }
    }
}

/// What may happen to a world.
enum Happened {
    Written(Written),
    Done((EffectId, EffectResult)),
    Event(NetEvent),
    Asked(Ask),
}

/// Runs effects on a blocking thread, one at a time, in order. The agent asks for few at once.
struct EffectRunner {
    effects: Arc<Effects>,
    waiting: VecDeque<(EffectId, Effect)>,
    busy: Option<JoinHandle<(EffectId, EffectResult)>>,
}

impl EffectRunner {
    fn new(effects: Effects) -> Self {
        Self {
            effects: Arc::new(effects),
            waiting: VecDeque::new(),
            busy: None,
        }
    }

    fn push(&mut self, id: EffectId, effect: Effect) {
        self.waiting.push_back((id, effect));
    }

    /// Waits for the next result; for ever if there is none to come. Nothing is lost if the wait is given up.
    async fn next(&mut self) -> Result<(EffectId, EffectResult), tokio::task::JoinError> {
        if self.busy.is_none()
            && let Some((id, effect)) = self.waiting.pop_front()
        {
            let effects = Arc::clone(&self.effects);
            self.busy = Some(spawn_blocking(move || (id, effects.run(effect))));
        }
        let Some(busy) = &mut self.busy else {
            return std::future::pending().await;
        };
        let done = busy.await;
        self.busy = None;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_always_late_answers_between_its_turns_and_still_has_them() {
        // Each turn takes longer than lateness is borne, and ends with work for the next one; something always happens.
        let (mut turns, mut now, mut order) = (Turns::default(), Mono(0), Vec::new());
        let mut at = now;
        for _ in 0..200 {
            let is_wake = turns.is_overdue(Some(at), now);
            if is_wake {
                at = now;
                now = now.plus_ms(3 * LATE_MAX_MS);
            } else {
                turns.happened();
                now = now.plus_ms(1);
            }
            order.push(is_wake);
        }
        assert!(order.windows(2).all(|two| two != [true, true]), "{order:?}");
        let longest = order.split(|is_wake| *is_wake).map(<[bool]>::len).max();
        assert!(longest <= Some(AHEAD_MAX as usize + LATE_MAX_MS as usize));
    }
}
