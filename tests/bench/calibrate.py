#!/usr/bin/env python3
"""Measures real lab agents behind a router that delays packets, lets the simulator predict the same, and prints
both as a Markdown table.

Needs root, python3 (nothing but its standard library), `ip` (iproute2), and

    cargo build --profile sim -p lab-cli -p lab-tests -p lab-simulation \\
        --bin lab --bin lab-router --example watch_many --example edit_many --example predict

    sudo tests/bench/calibrate.py --bin target/sim --json calibrate.json

Every agent has a network namespace of its own; a namespace in the middle belongs to `lab-router` (tests/router).
Namespaces have no names and vanish with their last user. Every process is a child of this script, is ended by its
process id, and ends with the script in any case.
"""

import argparse
import json
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import mesh
from mesh import BenchError, Lab, Namespace, Processes, Site, drain, note, now_ns

import shutil
import tempfile

GATEWAY = "10.255.255.254"
WAIT_ROUND_S = 30
# One-way delay of every packet, uniform, microseconds; lost packets of a thousand.
PROFILES = {
    "far": {"from_us": 20_000, "to_us": 60_000, "loss": 0},
    "near": {"from_us": 1_000, "to_us": 5_000, "loss": 10},
}


class Routed:
    """Sites that reach each other only through the delay router."""

    def __init__(self, bench, size, profile, seed):
        self.hub = Namespace()
        self.sites = []
        ports = []
        for i in range(size):
            namespace, address = Namespace(), f"10.88.{i // 250}.{1 + i % 250}"
            namespace.ip(f"link add eth0 type veth peer name p{i} netns {self.hub.path}")
            namespace.ip(f"addr add {address}/32 dev eth0")
            namespace.ip("link set eth0 up")
            namespace.ip(f"route add default via {GATEWAY} dev eth0 onlink")
            self.sites.append(Site(namespace, address))
            ports.append(f"p{i}={address}")
        words = f"jitter={profile['from_us']}..{profile['to_us']} loss={profile['loss']}"
        command = [bench.router, "--seed", seed, "--profile", words, *ports]
        pipe, log = subprocess.PIPE, bench.root / "router.log"
        self.router = bench.processes.start(command, self.hub, stdin=pipe, stdout=pipe, log=log)
        # What a router does late would be measured as if the agents were slow.
        os.sched_setscheduler(self.router.pid, os.SCHED_FIFO, os.sched_param(20))
        self.answers = self.router.stdout
        if self.answers.readline().strip() != b"ready":
            raise BenchError(f"the router does not start: {log.read_text().strip()}")

    def tell(self, command):
        self.router.stdin.write(command.encode() + b"\n")
        self.router.stdin.flush()
        lines = []
        while True:
            line = self.answers.readline().decode().strip()
            if line == "ok":
                return lines
            if not line or line.startswith("error"):
                raise BenchError(f"the router: {line or 'it ended'}")
            lines.append(line)

    def stats(self):
        """Packets, bytes and losses of all pairs together, and how late the router was."""
        total = {}
        for line in self.tell("stats"):
            words = line.split()
            rest = words[1:] if words[0] == "router" else words[3:]
            for key, value in zip(rest[::2], rest[1::2]):
                total[key] = total.get(key, 0) + int(value)
        return total

    def close(self):
        for site in self.sites:
            site.namespace.close()
        self.hub.close()


class Editor:
    """Hands in signed edits as `lab` does, and knows to the microsecond when each was acknowledged."""

    def __init__(self, bench, lab):
        keys = list((lab.writers[0] / "lab/keys").iterdir())
        command = [bench.edit, keys[0], *(f"{a.name}={a.folder / 'lab.sock'}" for a in lab.agents)]
        pipe, self.log = subprocess.PIPE, lab.folder / "edit.log"
        self.process = bench.processes.start(command, stdin=pipe, stdout=pipe, log=self.log)

    def begin(self, agent, path):
        self.process.stdin.write(f"{agent.name} {path}\n".encode())
        self.process.stdin.flush()

    def end(self):
        words = self.process.stdout.readline().split()
        if len(words) != 6:
            raise BenchError(f"the edit was refused: {self.log.read_text().strip()}")
        return dict(zip(("begun", "prepared", "signed", "acked"), map(int, words[2:])))


class Bench:
    """Measures one profile; has what mesh.Lab wants of a bench."""

    def __init__(self, options):
        self.options = options
        self.lab, self.watch, self.router, self.edit = options.lab, options.watch, options.router, options.edit
        self.processes = Processes()
        self.root = Path(tempfile.mkdtemp(prefix="lab-calibrate-"))
        self.folder_count = 0

    def folder(self, word):
        self.folder_count += 1
        path = self.root / f"{word}{self.folder_count}"
        path.mkdir()
        return path

    def measure(self, name, profile):
        options = self.options
        # Children inherit it: whatever else the machine does comes after the agents, all of them alike.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        routed = Routed(self, options.agents, profile, options.seed)
        lab = None
        try:
            lab = Lab(self, routed.sites, options.agents)
            began = time.monotonic()
            lab.start()
            note(f"{name}: {options.agents} agents are up after {time.monotonic() - began:.1f} s")
            lab.prepare_writers()
            lab.observe()
            drain(lab, options.settle_seconds)
            out = {"quiet": self.quiet(lab, routed)}
            out["rounds"] = self.edits(lab, routed, name)
            out["cli"] = self.commands(lab, name)
            out["detect"] = self.detect(lab, name)
            out["heal"] = [self.heal(lab, routed, name) for _ in range(options.cuts)]
            out["router"] = routed.stats()
            return out
        finally:
            if lab is not None:
                self.processes.kill_all()
            routed.close()
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

    def quiet(self, lab, routed):
        """What the mesh costs when nobody edits, to be taken off what an edit costs."""
        begun, cpu, packets = now_ns(), cpu_ns(lab), routed.stats()["packets"]
        drain(lab, self.options.quiet_seconds)
        spent, span = (cpu_ns(lab) - cpu) / 1e6, (now_ns() - begun) / 1e9
        return {"seconds": span, "cpu_ms": spent, "packets": routed.stats()["packets"] - packets}

    def edits(self, lab, routed, name):
        """Edits at random agents: acknowledged → the last of the others has it."""
        chance, rounds = random.Random(self.options.seed), []
        editor = Editor(self, lab)
        for i in range(self.options.rounds):
            drain(lab, 0.5 + chance.random())
            origin = chance.choice(lab.agents)
            before, packets, cpu, opened = max(lab.count.values()), routed.stats(), cpu_ns(lab), now_ns()
            editor.begin(origin, f"label/n0/calibrate{i}")
            at, start = {}, now_ns()
            while len(at) < len(lab.agents) and now_ns() - start < WAIT_ROUND_S * 10**9:
                for seen in lab.poll(0.25):
                    if seen.what == "change" and seen.of > before:
                        at.setdefault(seen.by, seen.at)
            if len(at) < len(lab.agents):
                raise BenchError(f"{name}: edit {i} reached {len(at)} of {len(lab.agents)}")
            times = editor.end()
            others = sorted(t for by, t in at.items() if by != origin.name)
            drain(lab, 0.3)
            after = routed.stats()
            rounds.append(
                {
                    "acked_ms": (others[-1] - times["acked"]) / 1e6,
                    "begun_ms": (others[-1] - times["begun"]) / 1e6,
                    "half_ms": (others[len(others) // 2] - times["acked"]) / 1e6,
                    "first_ms": (others[0] - times["acked"]) / 1e6,
                    "prepare_ms": (times["prepared"] - times["begun"]) / 1e6,
                    "sign_ms": (times["signed"] - times["prepared"]) / 1e6,
                    "submit_ms": (times["acked"] - times["signed"]) / 1e6,
                    "packets": after["packets"] - packets["packets"],
                    "bytes": after["bytes"] - packets["bytes"],
                    "cpu_ms": (cpu_ns(lab) - cpu) / 1e6,
                    "window_s": (now_ns() - opened) / 1e9,
                    "others_ms": [(t - times["acked"]) / 1e6 for t in others],
                }
            )
        note(f"{name}: edits measured")
        self.processes.kill(editor.process)
        return rounds

    def commands(self, lab, name):
        """The same by the command line: started → the last of the others has it."""
        chance, rounds = random.Random(self.options.seed + 1), []
        for i in range(self.options.commands):
            drain(lab, 0.5 + chance.random())
            origin = chance.choice(lab.agents)
            start = now_ns()
            process, is_it = lab.change(origin)
            at, returned = {}, None
            while len(at) < len(lab.agents) and now_ns() - start < WAIT_ROUND_S * 10**9:
                for seen in lab.poll(0.002 if returned is None else 0.25):
                    if is_it(seen):
                        at.setdefault(seen.by, seen.at)
                if returned is None and process.poll() is not None:
                    returned = now_ns()
            lab.finish(process)
            if len(at) < len(lab.agents):
                raise BenchError(f"{name}: command {i} reached {len(at)} of {len(lab.agents)}")
            last = max(t for by, t in at.items() if by != origin.name)
            returned = returned or now_ns()
            rounds.append({"begun_ms": (last - start) / 1e6, "took_ms": (returned - start) / 1e6})
        note(f"{name}: commands measured")
        return rounds

    def detect(self, lab, name):
        chance, out = random.Random(self.options.seed), []
        for i in range(self.options.kills):
            drain(lab, 1 + chance.random() * 3)
            victim = lab.agents[1 + chance.randrange(len(lab.agents) - 1)]
            others = {agent.name for agent in lab.agents} - {victim.name}
            at, start = {}, now_ns()
            self.processes.kill(victim.process)
            while len(at) < len(others) and now_ns() - start < mesh.WAIT_DETECT_S * 10**9:
                for seen in lab.poll(0.25):
                    if seen.what == "down" and seen.by in others and seen.of == victim.name:
                        at.setdefault(seen.by, seen.at)
            if len(at) < len(others):
                raise BenchError(f"{name}: kill {i} was seen by {len(at)} of {len(others)}")
            out.append({"first_s": (min(at.values()) - start) / 1e9, "last_s": (max(at.values()) - start) / 1e9})
            lab.restart(victim)
            self.until_calm(lab)
        note(f"{name}: down-detection measured")
        return out

    def heal(self, lab, routed, name):
        """Two halves, cut apart; each says something. Healed → both have both, and nobody is called down."""
        size = len(lab.agents)
        halves = [range(0, size, 2), range(1, size, 2)]
        cut = now_ns()
        routed.tell("partition " + "/".join(",".join(map(str, half)) for half in halves))
        before, is_said = None, False
        while now_ns() - cut < self.options.cut_seconds * 10**9:
            lab.poll(0.25)
            if not is_said and now_ns() - cut > self.options.cut_seconds * 0.75e9:
                is_said, before = True, max(lab.count.values())
                lab.change_count += 1
                verb = "add" if lab.change_count % 2 else "rm"
                lab.ask(lab.agents[0], ["label", verb, "bench0", "-t", "n0"], 0)
                lab.ask(lab.agents[1], ["label", verb, "bench1", "-t", "n1"], 1)
        routed.tell("heal")
        start, data, members = now_ns(), None, None
        while (data is None or members is None) and now_ns() - start < mesh.WAIT_HEAL_S * 10**9:
            for seen in lab.poll(0.25):
                if data is None and all(n >= before + 2 for n in lab.count.values()):
                    data = (seen.at - start) / 1e9
                if members is None and "down" not in lab.liveness.values():
                    members = (seen.at - start) / 1e9
        if data is None or members is None:
            raise BenchError(f"{name}: the halves did not come together")
        self.until_calm(lab)
        note(f"{name}: heal measured")
        return {"data_s": data, "members_s": members}

    def until_calm(self, lab):
        """Until everyone is alive for everyone, and some time more."""
        deadline = time.monotonic() + 90
        pairs = len(lab.agents) * (len(lab.agents) - 1)
        while sum(word == "alive" for word in lab.liveness.values()) < pairs:
            lab.poll(0.5)
            if time.monotonic() > deadline:
                note("not everyone is called alive by everyone; measuring goes on")
                break
        drain(lab, 12)

    def close(self):
        self.processes.kill_all()
        if self.options.keep:
            note(f"kept: {self.root}")
        else:
            shutil.rmtree(self.root, ignore_errors=True)


def cpu_ns(lab):
    """Time that all threads of all agents were on a core."""
    total = 0
    for agent in lab.agents:
        for task in Path(f"/proc/{agent.process.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


def predict(options, name, profile):
    """What the simulator says about the same mesh on the same paths."""
    command = [options.predict, "--agents", options.agents, "--rounds", options.rounds]
    command += ["--latency-us", f"{profile['from_us']}..{profile['to_us']}", "--loss", profile["loss"]]
    command += ["--cut-seconds", options.cut_seconds, "--seeds", options.seeds]
    command += ["--kills", options.kills]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"the prediction failed: {done.stderr.strip()}")
    note(f"{name}: predicted")
    return json.loads(done.stdout)


def percentile(values, per_cent):
    values = sorted(values)
    return values[min(len(values) - 1, (len(values) * per_cent + 99) // 100 - 1)]


def rows(measured, predicted):
    """What is compared: a label, a unit, the measured value, the predicted one."""
    summaries = [("p50", statistics.median), ("mean", statistics.mean), ("p99", lambda v: percentile(v, 99))]

    def row(label, unit, ours, theirs, summary):
        ours, theirs = [v for v in ours if v is not None], [v for v in theirs if v is not None]
        if ours and theirs:
            yield (f"{label}, {summary[0]}", unit, summary[1](ours), summary[1](theirs), len(ours), len(theirs))

    def all_of(key, stage="rounds"):
        return [r[key] for r in measured[stage]], predicted[key]

    for summary in summaries:
        yield from row("edit acknowledged → last agent has it", "ms", *all_of("acked_ms"), summary)
    for summary in summaries:
        yield from row("edit begun → last agent has it", "ms", *all_of("begun_ms"), summary)
    for summary in summaries[:2]:
        yield from row("edit acknowledged → half of the agents have it", "ms", *all_of("half_ms"), summary)
        yield from row("edit handed in → acknowledged", "ms", *all_of("submit_ms"), summary)
    for summary in summaries[:2]:
        yield from row("`lab label add` started → last agent has it", "ms", [r["begun_ms"] for r in measured["cli"]], predicted["cli_ms"], summary)
    for summary in summaries[:2]:
        yield from row("killed → first of the others says down", "s", *all_of("first_s", "detect"), summary)
        yield from row("killed → last of the others says down", "s", *all_of("last_s", "detect"), summary)
    for summary in summaries[:2]:
        yield from row("healed → both halves' edits are everywhere", "s", *all_of("data_s", "heal"), summary)
        yield from row("healed → nobody is called down", "s", *all_of("members_s", "heal"), summary)


def table(results):
    yield "| delays | measure | measured | predicted | predicted / measured | samples |"
    yield "|---|---|---:|---:|---:|---:|"
    for name, result in results.items():
        if "predicted" not in result:
            continue
        for label, unit, ours, theirs, n, m in rows(result["measured"], result["predicted"]):
            yield f"| {name} | {label} | {ours:.2f} {unit} | {theirs:.2f} {unit} | {theirs / ours:.2f} | {n} / {m} |"


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parents[2]
    default = os.environ.get("LAB_BIN_DIR") or str(here / "target/sim")
    parser.add_argument("--bin", default=default, help="where the programs are (default: $LAB_BIN_DIR or %(default)s)")
    parser.add_argument("--lab", default=os.environ.get("LAB_BIN"), help="the agent (default: $LAB_BIN, or in --bin)")
    parser.add_argument("--agents", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=40, help="edits per profile (default: %(default)s)")
    parser.add_argument("--commands", type=int, default=20, help="edits by the command line (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=4, help="agents killed per profile (default: %(default)s)")
    parser.add_argument("--cuts", type=int, default=2, help="partitions per profile (default: %(default)s)")
    parser.add_argument("--cut-seconds", type=int, default=60, help="how long one lasts (default: %(default)s)")
    parser.add_argument("--settle-seconds", type=int, default=20, help="after the mesh is whole (default: %(default)s)")
    parser.add_argument("--quiet-seconds", type=int, default=10, help="measured without edits (default: %(default)s)")
    parser.add_argument("--profiles", default=",".join(PROFILES), help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="simulated meshes per profile (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the router, pauses and victims (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write every single figure here")
    parser.add_argument("--measured", metavar="FILE", help="take what was measured from such a file; only predict")
    parser.add_argument("--no-predict", action="store_true", help="only measure")
    parser.add_argument("--keep", action="store_true", help="keep logs and data of the agents")
    chosen = parser.parse_args()
    chosen.profiles = chosen.profiles.split(",")
    if unknown := set(chosen.profiles) - set(PROFILES):
        parser.error(f"no such profile: {', '.join(sorted(unknown))}")
    if not 4 <= chosen.agents <= 200:
        parser.error("4 to 200 agents")
    programs = Path(chosen.bin).resolve()
    chosen.lab = str(Path(chosen.lab or programs / "lab").resolve())
    chosen.router = str(programs / "lab-router")
    for name in ("watch_many", "edit_many", "predict"):
        setattr(chosen, name.split("_")[0], str(programs / "examples" / name))
    needed = [] if chosen.measured else ["ip", chosen.lab, chosen.router, chosen.watch, chosen.edit]
    needed += [] if chosen.no_predict else [chosen.predict]
    for program in needed:
        if shutil.which(program) is None:
            parser.error(f"{program} is missing: see the head of {Path(__file__).name}")
    if not chosen.measured and os.geteuid() != 0:
        parser.error("this needs root, for network namespaces of its own")
    return chosen


def main():
    chosen = options()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    results = json.loads(Path(chosen.measured).read_text())["results"] if chosen.measured else {}
    about = {"kernel": platform.release(), "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()}
    bench = Bench(chosen)
    try:
        for name in chosen.profiles:
            if not chosen.measured:
                results[name] = {"profile": PROFILES[name], "measured": bench.measure(name, PROFILES[name])}
            if not chosen.no_predict:
                results[name]["predicted"] = predict(chosen, name, PROFILES[name])
            if chosen.json:
                Path(chosen.json).write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")
    except BenchError as error:
        sys.exit(f"calibrate.py: {error}")
    finally:
        bench.close()
    load = ", ".join(f"{one:.1f}" for one in about["load"])
    print(f"{chosen.agents} agents · {about['cores']} cores, load {load} · Linux {about['kernel']}\n")
    print("\n".join(table(results)))
    note("done")


if __name__ == "__main__":
    main()
