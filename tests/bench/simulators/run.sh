#!/usr/bin/env bash
# Prints how many node-seconds per second simulators do: turmoil and madsim with hosts that ping each other once a
# second and do nothing else, and lab-sim with whole agents, on the same machine one after the other.
#
#   tests/bench/simulators/run.sh
#
# LAB_SIM is the program to compare with (default: target/sim/lab-sim); it is left out if it is not there.
# LAB_SIM_BENCH are the words after `bench`. WALL_SECONDS bounds each single run (default: 10).
# What is built goes to CARGO_TARGET_DIR, by default outside the clone.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"

lab_sim="${LAB_SIM:-../../../target/sim/lab-sim}"
[[ -x $lab_sim ]] && lab_sim="$(readlink -f "$lab_sim")"
wall="${WALL_SECONDS:-10}"
export CARGO_TARGET_DIR="${SIMULATORS_TARGET_DIR:-$HOME/.cache/lab-simulators-target}"

cargo build --quiet --release --locked --bin bench-turmoil
turmoil="$CARGO_TARGET_DIR/release/bench-turmoil"
RUSTFLAGS="--cfg madsim" cargo build --quiet --release --locked --bin bench-madsim --target-dir "$CARGO_TARGET_DIR/madsim"
madsim="$CARGO_TARGET_DIR/madsim/release/bench-madsim"

printf '%s cores, load %s\n\n' "$(nproc)" "$(cut -d' ' -f1-3 /proc/loadavg)"
printf '| simulator | hosts | virtual s | wall s | node-seconds per second |\n|---|---:|---:|---:|---:|\n'
row() { while read -r name hosts virtual wall speed; do printf '| %s | %s | %s | %s | %s |\n' "$name" "$hosts" "$virtual" "$wall" "$speed"; done; }
"$turmoil" "$wall" 10 100 500 | row
"$madsim" "$wall" 10 100 500 1000 10000 | row
if [[ -x $lab_sim ]]; then
    printf '\n'
    # shellcheck disable=SC2086
    "$lab_sim" bench ${LAB_SIM_BENCH:-}
else
    printf '\n%s is not there: whole agents are left out\n' "$lab_sim"
fi
