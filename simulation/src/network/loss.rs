//! Losses, as what they are on a reliable stream: time.

use super::MS;
use super::draw::{STEP, is_below, mix};

/// Retransmission time-outs double up to this: what else gets through starts them anew.
const RTO_MAX_NS: u64 = 1_000 * MS;
pub(super) const PACKET_BYTES: u64 = 1_200;

/// Nanoseconds until the last of so many packets has got through: nothing if none is lost, a time-out that doubles
/// for each round in which one is. Stops counting beyond `limit_ns`.
pub(super) fn retransmission_ns(
    hash: u64,
    packets: u64,
    loss: u32,
    rto_ns: u64,
    limit_ns: u64,
) -> u64 {
    let (mut hash, mut packets, mut next_ns, mut wait) = (hash, packets, rto_ns.max(1), 0_u64);
    while wait <= limit_ns {
        hash = mix(hash.wrapping_add(STEP));
        if !is_any_lost(hash, packets, loss) {
            break;
        }
        wait = wait.saturating_add(next_ns);
        next_ns = next_ns.saturating_mul(2).min(RTO_MAX_NS.max(rto_ns));
        packets = (packets * u64::from(loss) / 1000).max(1);
    }
    wait
}

fn is_any_lost(hash: u64, packets: u64, loss: u32) -> bool {
    if loss == 0 || packets == 1 {
        return is_below(hash, loss);
    }
    // The chance that all get through, by repeated squaring, with 32 bits after the point.
    let (mut power, mut all, mut left) = (
        u64::from(1000 - loss) * (1 << 32) / 1000,
        1_u64 << 32,
        packets,
    );
    while left > 0 {
        if left % 2 == 1 {
            all = (all * power) >> 32;
        }
        power = (power * power) >> 32;
        left /= 2;
    }
    (hash >> 32) >= all
}
