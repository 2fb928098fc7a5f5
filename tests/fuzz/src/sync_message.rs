//! Messages of a pull exchange.

use bytes::Bytes;
use lab_crdt_log::sync;
use lab_crdt_model::Mono;

use crate::World;

/// Most messages that may answer one.
const ANSWERS_MAX: usize = 64;

/// A message of an exchange, sent to a replica that has heard half of what was said.
pub fn sync_message(data: &[u8]) {
    let world = World::get();
    let (half, all) = (world.statements().len() / 2, world.statements().len());
    let (mut log, mut registers) = (world.replica(half), world.reports());
    let Ok(answer) = sync::answer(&log, &registers, data) else {
        return;
    };

    assert!(answer.messages.len() <= ANSWERS_MAX);
    // A replica that has everything understands whatever this one answers.
    let full = world.replica(all);
    for message in answer.messages.iter().chain(&answer.ask) {
        let back = sync::answer(&full, &registers, message).expect("our own messages are sound");
        assert!(back.messages.len() <= ANSWERS_MAX);
    }
    for statement in &answer.statements {
        let _outcome = log.ingest(statement, Mono(0));
    }
    for register in &answer.registers {
        let _outcome = registers.ingest(&world.mesh(), register, |_| true);
    }
    log.authority();
    if let Some(place) = answer.resume {
        let again: Bytes = sync::resume(&log, &registers, place);
        sync::answer(&full, &registers, &again).expect("our own messages are sound");
    }
}
