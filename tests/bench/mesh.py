#!/usr/bin/env python3
"""Measures real lab agents beside real serf agents, in the same run, and prints a Markdown table.

Needs root, python3 (nothing but its standard library), `ip` (iproute2), `serf` (Debian: apt install serf), and

    cargo build --release -p lab-cli --bin lab
    cargo build --release -p lab-tests --example watch_many

    sudo tests/bench/mesh.py --sizes 5,25,50 --rounds 10 --json mesh.json

What is measured, and what is done to keep it fair, is in README.md beside this file. Everything happens in network
namespaces of this script's own, where only its agents speak: nothing of the machine is touched, and nothing of it is
counted. Every process is a child of this script, is ended by its process id, and ends with the script in any case.
"""

import argparse
import base64
import contextlib
import ctypes
import json
import os
import platform
import random
import re
import selectors
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = ("propagate", "detect", "idle", "heal")
WAIT_ROUND_S = 30  # longest wait for a change to reach everyone
WAIT_DETECT_S = 90  # longest wait until a killed agent is seen down by everyone
WAIT_BACK_S = 60  # longest wait until a restarted agent is seen alive by everyone
WAIT_HEAL_S = 180  # longest wait until a mesh is whole again
WAIT_READY_S = 120  # longest wait until a new mesh is whole
OPINION_S = 10  # longest wait for opinions about each other in a new mesh; what is missing then is said
SETTLE_S = 15  # between the last activity and the beginning of the idle minute
JOINS_AT_ONCE = 4
TICKS = os.sysconf("SC_CLK_TCK")
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1


class BenchError(Exception):
    """The measurement cannot be made; the text says why."""


def note(text):
    print(f"[{time.monotonic() - note.start:6.1f} s] {text}", file=sys.stderr, flush=True)


note.start = time.monotonic()


def now_ns():
    return time.monotonic_ns()


# --- Namespaces and processes ---------------------------------------------------------------------------------------


def libc(name, *arguments):
    if getattr(LIBC, name)(*arguments) != 0:
        error = ctypes.get_errno()
        raise BenchError(f"{name}: {os.strerror(error)} (this script needs root)")


class Namespace:
    """A network namespace without a name: it is gone when nobody uses it any more."""

    def __init__(self):
        with open("/proc/self/ns/net") as outside:
            libc("unshare", CLONE_NEWNET)
            self.file = open("/proc/self/ns/net")
            libc("setns", outside.fileno(), CLONE_NEWNET)
        self.ip("link set lo up")

    @contextlib.contextmanager
    def inside(self):
        """For sockets: they stay in the namespace they were made in."""
        with open("/proc/self/ns/net") as outside:
            libc("setns", self.file.fileno(), CLONE_NEWNET)
            try:
                yield
            finally:
                libc("setns", outside.fileno(), CLONE_NEWNET)

    def ip(self, words):
        with self.inside():
            done = subprocess.run(["ip", *words.split()], capture_output=True, text=True)
        if done.returncode != 0:
            raise BenchError(f"ip {words}: {done.stderr.strip()}")

    @property
    def path(self):
        return f"/proc/{os.getpid()}/fd/{self.file.fileno()}"

    def close(self):
        self.file.close()


class Processes:
    """Every process of this script. They are ended by their ids, and die with the script if it is killed."""

    def __init__(self):
        self.running = []

    def start(self, command, namespace=None, env=None, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, log=None):
        def in_child():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if namespace is not None:
                LIBC.setns(namespace.file.fileno(), CLONE_NEWNET)

        with open(log, "ab") if log else contextlib.nullcontext(subprocess.DEVNULL) as stderr:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=stdin,
                stdout=stderr if log and stdout == subprocess.DEVNULL else stdout,
                stderr=stderr,
                env=env,
                preexec_fn=in_child,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def kill(self, process):
        if process in self.running:
            self.running.remove(process)
        if process.poll() is None:
            process.kill()
        process.wait()

    def kill_all(self, processes=None):
        chosen = list(self.running if processes is None else processes)
        for process in chosen:
            if process.poll() is None:
                process.kill()
        for process in chosen:
            self.kill(process)


class Agent:
    """One agent of either kind."""

    def __init__(self, name, namespace, address, port, **more):
        self.name = name
        self.namespace = namespace
        self.address = address
        self.port = port
        self.process = None
        self.__dict__.update(more)


class Seen:
    """Something that an observer of an agent reported."""

    __slots__ = ("at", "by", "what", "of")

    def __init__(self, at, by, what, of=None):
        self.at, self.by, self.what, self.of = at, by, what, of


# --- serf -----------------------------------------------------------------------------------------------------------


class Incomplete(Exception):
    """More bytes are needed."""


def pack(value):
    """Encodes the few kinds of MessagePack that serf's RPC needs."""
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return struct.pack(">BI", 0xCE, value)
    if isinstance(value, (str, bytes)):
        raw = value.encode() if isinstance(value, str) else value
        return struct.pack(">BH", 0xDA, len(raw)) + raw
    if isinstance(value, dict):
        return struct.pack(">BH", 0xDE, len(value)) + b"".join(pack(k) + pack(v) for k, v in value.items())
    raise TypeError(type(value))


def unpack(data, at=0):
    """Decodes one value at an offset; gives it and the offset behind it."""

    def take(count):
        nonlocal at
        if at + count > len(data):
            raise Incomplete
        at += count
        return data[at - count : at]

    def number(form):
        return struct.unpack(form, take(struct.calcsize(form)))[0]

    def many(count):
        nonlocal at
        values = []
        for _ in range(count):
            value, at = unpack(data, at)
            values.append(value)
        return values

    def mapping(count):
        flat = many(2 * count)
        return {k.decode() if isinstance(k, bytes) else k: v for k, v in zip(flat[::2], flat[1::2])}

    tag = number(">B")
    if tag < 0x80:
        value = tag
    elif tag < 0x90:
        value = mapping(tag & 0x0F)
    elif tag < 0xA0:
        value = many(tag & 0x0F)
    elif tag < 0xC0:
        value = bytes(take(tag & 0x1F))
    elif tag >= 0xE0:
        value = tag - 0x100
    elif tag in (0xC0, 0xC2, 0xC3):
        value = {0xC0: None, 0xC2: False, 0xC3: True}[tag]
    elif tag in (0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB):
        form = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}[tag]
        value = bytes(take(number(form)))
    elif tag in (0xDC, 0xDD):
        value = many(number(">H" if tag == 0xDC else ">I"))
    elif tag in (0xDE, 0xDF):
        value = mapping(number(">H" if tag == 0xDE else ">I"))
    else:
        numbers = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}
        numbers |= {0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
        if tag not in numbers:
            raise BenchError(f"serf's RPC sent a byte that is not understood: {tag:#x}")
        value = number(numbers[tag])
    return value, at


class SerfRpc:
    """A connection to one serf agent: user events as they arrive, and its log lines, which name members at once
    (its event handlers hear of members only after a quiet second)."""

    EVENTS, LOG = 1000, 1001
    MEMBER = re.compile(rb"serf: EventMember(Failed|Join|Leave|Update): (\S+)")

    def __init__(self, agent):
        self.agent = agent
        self.buffer = b""
        self.seq = 0
        host, port = agent.rpc
        deadline = time.monotonic() + 10
        while True:
            with agent.namespace.inside():
                self.socket = socket.socket()
            try:
                self.socket.settimeout(10)
                self.socket.connect((host, port))
                break
            except OSError as error:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise BenchError(f"serf's agent {agent.name} does not answer: {error}") from error
                time.sleep(0.05)
        self.call("handshake", {"Version": 1})

    def call(self, command, body=None, has_answer=False, seq=None):
        if seq is None:
            self.seq += 1
            seq = self.seq
        request = pack({"Command": command, "Seq": seq}) + (pack(body) if body is not None else b"")
        self.socket.sendall(request)
        answer = self.read()
        if answer["Seq"] != seq or answer["Error"]:
            raise BenchError(f"serf refused {command}: {answer}")
        return self.read() if has_answer else None

    def read(self):
        while True:
            try:
                value, end = unpack(self.buffer)
                self.buffer = self.buffer[end:]
                return value
            except Incomplete:
                chunk = self.socket.recv(65536)
                if not chunk:
                    raise BenchError(f"serf's agent {self.agent.name} hung up") from None
                self.buffer += chunk

    def subscribe(self):
        self.call("stream", {"Type": "user:bench"}, seq=self.EVENTS)
        self.call("monitor", {"LogLevel": "INFO"}, seq=self.LOG)
        self.socket.setblocking(False)

    def take(self):
        """What has arrived; `None` when the agent is gone."""
        try:
            chunk = self.socket.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        at = now_ns()
        if not chunk:
            return None
        self.buffer += chunk
        seen, offset = [], 0
        while offset < len(self.buffer):
            try:
                head, end = unpack(self.buffer, offset)
                body, end = unpack(self.buffer, end)
            except Incomplete:
                break
            offset = end
            if head["Seq"] == self.EVENTS:
                seen.append(Seen(at, self.agent.name, "change", body["Payload"].decode()))
            elif match := self.MEMBER.search(body["Log"]):
                what = {b"Failed": "down", b"Join": "alive"}.get(match[1])
                if what:
                    seen.append(Seen(at, self.agent.name, what, match[2].decode()))
        self.buffer = self.buffer[offset:]
        return seen


class Serf:
    """A cluster of serf agents with the default (lan) profile."""

    title = "serf"

    def __init__(self, bench, sites, size):
        self.bench = bench
        self.folder = bench.folder("serf")
        self.key = bench.serf_key
        self.observers = {}
        self.selector = None
        self.change_count = 0
        self.agents = []
        for i in range(size):
            site = sites[i % len(sites)]
            address, port = site.address_of(i, 7946)
            rpc = (address, 7373) if site.is_loopback else ("127.0.0.1", 20000 + i)
            self.agents.append(Agent(f"n{i}", site.namespace, address, port, rpc=rpc))

    def run(self, agent):
        command = ["serf", "agent", f"-node={agent.name}", f"-bind={agent.address}:{agent.port}"]
        command += [f"-rpc-addr={agent.rpc[0]}:{agent.rpc[1]}"]
        first = self.agents[0]
        if agent is not first:
            command += [f"-retry-join={first.address}:{first.port}", "-retry-interval=1s"]
        if self.key:
            command += [f"-encrypt={self.key}"]
        log = self.folder / f"{agent.name}.log"
        agent.process = self.bench.processes.start(command, agent.namespace, log=log)

    def start(self):
        for agent in self.agents:
            self.run(agent)
            if agent is self.agents[0]:
                time.sleep(0.3)
        deadline = time.monotonic() + WAIT_READY_S
        for agent in self.agents:
            rpc = SerfRpc(agent)
            while True:
                members = rpc.call("members", has_answer=True)["Members"]
                if sum(m["Status"] == b"alive" for m in members) == len(self.agents):
                    break
                if time.monotonic() > deadline:
                    raise BenchError(f"serf's agent {agent.name} does not see every member")
                time.sleep(0.2)
            rpc.socket.close()

    def observe(self):
        self.selector = selectors.DefaultSelector()
        for agent in self.agents:
            self.attach(agent)
        # The log begins with what was logged before.
        self.poll(0.3)

    def attach(self, agent):
        rpc = SerfRpc(agent)
        rpc.subscribe()
        self.observers[agent.name] = rpc
        self.selector.register(rpc.socket, selectors.EVENT_READ, rpc)

    def detach(self, name):
        rpc = self.observers.pop(name)
        self.selector.unregister(rpc.socket)
        rpc.socket.close()

    def unobserve(self):
        for name in list(self.observers):
            self.detach(name)
        self.selector.close()

    def poll(self, seconds):
        seen = []
        deadline = time.monotonic() + seconds
        while True:
            for key, _ in self.selector.select(max(0, deadline - time.monotonic())):
                got = key.data.take()
                if got is None:
                    self.detach(key.data.agent.name)
                else:
                    seen += got
            if seen or time.monotonic() >= deadline:
                return seen

    def change(self, agent, by=0):
        """Starts a change at an agent; gives its process and a test for whether something seen is that change."""
        self.change_count += 1
        payload = f"{by}-{self.change_count}-" + "x" * 64
        command = ["serf", "event", f"-rpc-addr={agent.rpc[0]}:{agent.rpc[1]}", "-coalesce=false", "bench", payload]
        process = self.bench.processes.start(command, agent.namespace, log=self.folder / "event.log")
        return process, lambda seen: seen.what == "change" and seen.of == payload

    def restart(self, agent):
        self.run(agent)
        self.attach(agent)

    def prepare_writers(self):
        """Both sides of a split may speak: nothing is needed."""


# --- lab ------------------------------------------------------------------------------------------------------------


class Lab:
    """A mesh of lab agents with the default config."""

    title = "lab"

    def __init__(self, bench, sites, size):
        self.bench = bench
        self.folder = bench.folder("lab")
        self.observer = None
        self.buffer = b""
        self.change_count = 0
        self.count = {}  # statements that each agent holds
        self.digest = {}
        self.liveness = {}  # (observer, other) -> word
        self.names = {}  # node id -> name
        self.agents = []
        self.writers = [self.folder / "ana"]
        for i in range(size):
            site = sites[i % len(sites)]
            address, port = site.address_of(i, 4747)
            folder = self.folder / f"n{i}"
            self.agents.append(Agent(f"n{i}", site.namespace, address, port, folder=folder))

    def environment(self, writer=0):
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.writers[writer]),
            "NO_COLOR": "1",
        }

    def begin(self, agent, words, writer=0):
        command = [self.bench.lab, "--data", agent.folder, "--no-input", "-y", "-q", "-o", "json", *words]
        out = subprocess.PIPE
        log = self.folder / "cli.log"
        return self.bench.processes.start(command, agent.namespace, self.environment(writer), out, log=log)

    def finish(self, process):
        out, _ = process.communicate(timeout=150)
        self.bench.processes.kill(process)
        if process.returncode != 0:
            words = " ".join(process.args[process.args.index("json") + 1 :])
            raise BenchError(f"lab {words}: exit {process.returncode}\n{out.decode(errors='replace')}")
        return json.loads(out)["data"] if out.strip() else {}

    def ask(self, agent, words, writer=0):
        return self.finish(self.begin(agent, words, writer))

    def run(self, agent):
        command = [self.bench.lab, "--data", agent.folder, "agent", "run", "--no-lan", "--log", "warn"]
        command += ["--bind", f"{agent.address}:{agent.port}", "--root", agent.folder / "root"]
        log = self.folder / f"{agent.name}.log"
        agent.process = self.bench.processes.start(command, agent.namespace, self.environment(), log=log)

    def start(self):
        first = self.agents[0]
        words = ["init", "--name", "bench", "--node", "n0", "--admin", "ana"]
        made = self.ask(first, [*words, "--words-file", self.folder / "words", "--no-passphrase"])
        self.names[made["node"]] = first.name
        self.run(first)
        self.wait_for_socket(first)
        joining = []
        waiting = list(self.agents[1:])
        while joining or waiting:
            while waiting and len(joining) < JOINS_AT_ONCE:
                agent = waiting.pop(0)
                token = self.ask(first, ["token", "create", agent.name, "--ttl", "1h"])["token"]
                words = ["join", token, "--bind", f"{agent.address}:{agent.port}", "--no-lan"]
                joining.append((agent, self.begin(agent, words)))
            agent, process = joining.pop(0)
            made = self.finish(process)
            self.names[made["node"]] = agent.name
            self.run(agent)
        for agent in self.agents:
            self.wait_for_socket(agent)
        self.observe()
        self.wait_until_whole()
        self.unobserve()

    def wait_for_socket(self, agent):
        deadline = time.monotonic() + WAIT_READY_S
        while not (agent.folder / "lab.sock").exists():
            if agent.process.poll() is not None:
                raise BenchError(f"lab's agent {agent.name} ended: see {self.folder / agent.name}.log")
            if time.monotonic() > deadline:
                raise BenchError(f"lab's agent {agent.name} does not come up")
            time.sleep(0.05)

    def observe(self):
        self.count, self.digest, self.liveness, self.buffer = {}, {}, {}, b""
        command = [self.bench.watch, *(f"{a.name}={a.folder / 'lab.sock'}" for a in self.agents)]
        log = self.folder / "watch.log"
        pipe = subprocess.PIPE
        self.observer = self.bench.processes.start(command, stdout=pipe, stdin=pipe, log=log)
        deadline = time.monotonic() + WAIT_READY_S
        while len(self.digest) < len(self.agents):
            self.poll(0.5)
            if time.monotonic() > deadline:
                absent = sorted({a.name for a in self.agents} - set(self.digest))
                raise BenchError(f"lab's agents {', '.join(absent)} do not answer the observer")

    def unobserve(self):
        self.bench.processes.kill(self.observer)
        self.observer.stdout.close()
        self.observer.stdin.close()

    def poll(self, seconds):
        deadline = time.monotonic() + seconds
        selector = selectors.DefaultSelector()
        selector.register(self.observer.stdout, selectors.EVENT_READ)
        try:
            while True:
                if selector.select(max(0, deadline - time.monotonic())):
                    chunk = os.read(self.observer.stdout.fileno(), 65536)
                    if not chunk:
                        raise BenchError(f"the observer ended: see {self.folder / 'watch.log'}")
                    *lines, self.buffer = (self.buffer + chunk).split(b"\n")
                    seen = [s for line in lines if (s := self.understand(line.decode().split()))]
                    if seen:
                        return seen
                if time.monotonic() >= deadline:
                    return []
        finally:
            selector.close()

    def understand(self, words):
        what, by, at = words[0], words[1], int(words[2])
        if what == "intent":
            self.digest[by], self.count[by] = words[3], int(words[4])
            return Seen(at, by, "change", int(words[4]))
        if what == "peer":
            other = self.names.get(words[3], words[3])
            self.liveness[by, other] = words[4]
            return Seen(at, by, words[4], other)
        return None

    def wait_until_whole(self):
        """Until all hold the same statements, are calm, and mostly know each other to be alive."""
        deadline = time.monotonic() + WAIT_READY_S
        patience = time.monotonic() + OPINION_S
        pairs = len(self.agents) * (len(self.agents) - 1)
        calm = time.monotonic()
        while True:
            if self.poll(0.5):
                calm = time.monotonic()
            alive = sum(word == "alive" for word in self.liveness.values())
            is_equal = len(set(self.digest.values())) == 1
            is_calm = time.monotonic() - calm > 1
            if is_equal and (alive == pairs or time.monotonic() > patience) and is_calm:
                if alive < pairs:
                    note(f"lab: {pairs - alive} of {pairs} opinions about others are not `alive` yet")
                return
            if time.monotonic() > deadline:
                raise BenchError(f"lab's {len(self.agents)} agents hold {len(set(self.digest.values()))} digests")

    def change(self, agent, by=0):
        self.change_count += 1
        # A label moves to and fro on one machine: every change is one statement, and the document stays small.
        verb = "add" if self.change_count % 2 else "rm"
        if by:
            verb = "add"
        target = self.agents[by].name
        before = max(self.count.values())
        process = self.begin(agent, ["label", verb, f"bench{by}", "-t", target], by)
        return process, lambda seen: seen.what == "change" and seen.of > before

    def restart(self, agent):
        self.run(agent)

    def prepare_writers(self):
        """A second operator for the other side of a split: one key on both sides would be a fork of its chain."""
        self.writers.append(self.folder / "bob")
        key = self.ask(self.agents[1], ["operator", "key", "--name", "bob", "--no-passphrase"], 1)
        public = key.get("key") or key.get("public")
        self.ask(self.agents[0], ["operator", "add", "bob", public, "--right", "labels"])


# --- Where they run -------------------------------------------------------------------------------------------------


class Site:
    """A namespace, and the addresses of agents in it."""

    def __init__(self, namespace, address=None):
        self.namespace = namespace
        self.address = address
        self.is_loopback = address is None

    def address_of(self, i, port):
        if self.is_loopback:
            return f"127.0.{1 + i // 250}.{1 + i % 250}", port
        return self.address, port + i


class Split:
    """Two sites with a switch between them, which can be turned off: frames are dropped and nobody is told."""

    def __init__(self):
        self.switch = Namespace()
        self.sites = []
        self.switch.ip("link add switch type bridge")
        self.switch.ip("link set switch up")
        for i in range(2):
            namespace = Namespace()
            address = f"10.99.0.{i + 1}"
            namespace.ip(f"link add eth type veth peer name port{i} netns {self.switch.path}")
            namespace.ip(f"addr add {address}/24 dev eth")
            namespace.ip("link set eth up")
            self.sites.append(Site(namespace, address))
            self.switch.ip(f"link set port{i} up")
        self.heal()

    def cut(self):
        self.switch.ip("link set port1 nomaster")

    def heal(self):
        for i in range(2):
            self.switch.ip(f"link set port{i} master switch")

    def close(self):
        for site in self.sites:
            site.namespace.close()
        self.switch.close()


# --- Measurements ---------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, options):
        self.options = options
        self.lab = options.lab
        self.watch = options.watch
        self.serf_key = base64.b64encode(os.urandom(32 if options.serf_encrypt else 0)).decode()
        self.processes = Processes()
        self.root = Path(tempfile.mkdtemp(prefix="lab-bench-"))
        self.folder_count = 0
        self.kinds = [kind for kind in (Serf, Lab) if kind.title in options.peers]

    def chance(self, mesh):
        """The same pauses and victims for both."""
        return random.Random(self.options.seed * 1000 + len(mesh.agents))

    def folder(self, word):
        self.folder_count += 1
        path = self.root / f"{word}{self.folder_count}"
        path.mkdir()
        return path

    @contextlib.contextmanager
    def mesh(self, kind, size, sites=None):
        """A running mesh in a namespace of its own."""
        own = None if sites else Namespace()
        mesh = kind(self, sites or [Site(own)], size)
        began = time.monotonic()
        try:
            mesh.start()
            mesh.up_s = time.monotonic() - began
            note(f"{kind.title}: {size} agents are up after {mesh.up_s:.1f} s")
            yield mesh
        finally:
            self.processes.kill_all([a.process for a in mesh.agents if a.process])
            if own:
                own.close()
            if not self.options.keep:
                shutil.rmtree(mesh.folder, ignore_errors=True)

    # (a) how long a change takes to everyone

    def propagate(self, mesh):
        rounds, missed = [], 0
        chance = self.chance(mesh)
        everyone = {agent.name for agent in mesh.agents}
        for i in range(self.options.rounds):
            drain(mesh, 0.3 + chance.random())
            origin = mesh.agents[i % len(mesh.agents)]
            start = now_ns()
            process, is_it = mesh.change(origin)
            at, returned = {}, None
            while len(at) < len(everyone) and now_ns() - start < WAIT_ROUND_S * 10**9:
                for seen in mesh.poll(0.002 if returned is None else 0.25):
                    if is_it(seen):
                        at.setdefault(seen.by, seen.at)
                if returned is None and process.poll() is not None:
                    returned = now_ns()
            if process.poll() is None:
                process.wait(timeout=30)
            returned = returned or now_ns()
            finish_cli(self, mesh, process)
            if len(at) < len(everyone):
                missed += 1
                note(f"{mesh.title}: round {i} reached {len(at)} of {len(everyone)}")
                continue
            last = max(at.values())
            rounds.append(
                {
                    "command_ms": ms(last - start),
                    "return_ms": ms(last - returned),
                    "spread_ms": ms(last - min(at.values())),
                    "half_ms": ms(statistics.median(at.values()) - start),
                }
            )
        return {"rounds": rounds, "missed": missed}

    # (c) how long until everyone calls a killed agent down

    def detect(self, mesh):
        kills, wrong = [], 0
        chance = self.chance(mesh)
        for i in range(self.options.kills):
            drain(mesh, 1 + chance.random())
            victim = mesh.agents[1 + chance.randrange(len(mesh.agents) - 1)]
            others = {agent.name for agent in mesh.agents} - {victim.name}
            at, back = {}, set()
            start = now_ns()
            self.processes.kill(victim.process)
            while len(at) < len(others) and now_ns() - start < WAIT_DETECT_S * 10**9:
                for seen in mesh.poll(0.25):
                    if seen.what == "down" and seen.by in others:
                        if seen.of == victim.name:
                            at.setdefault(seen.by, seen.at)
                        else:
                            wrong += 1
            if len(at) < len(others):
                note(f"{mesh.title}: kill {i} was seen by {len(at)} of {len(others)}")
            kill = {"seen": len(at), "of": len(others)}
            if at:
                kill |= {"first_s": (min(at.values()) - start) / 1e9}
            if len(at) == len(others):
                kill |= {"last_s": (max(at.values()) - start) / 1e9}
            began = now_ns()
            mesh.restart(victim)
            while not others <= back and now_ns() - began < WAIT_BACK_S * 10**9:
                for seen in mesh.poll(0.25):
                    if seen.of == victim.name and seen.by in others:
                        (back.add if seen.what == "alive" else back.discard)(seen.by)
                    elif seen.what == "down" and seen.of != victim.name and seen.by in others:
                        wrong += 1
            if others <= back:
                kill["back_s"] = (now_ns() - began) / 1e9
            else:
                note(f"{mesh.title}: after its restart {victim.name} is alive for {len(back)} of {len(others)}")
            kills.append(kill)
        return {"kills": kills, "wrong": wrong}

    # (b) what a quiet minute costs

    def idle(self, meshes):
        seconds = self.options.idle_seconds
        time.sleep(SETTLE_S)
        before = [cost(mesh) for mesh in meshes]
        time.sleep(seconds)
        after = [cost(mesh) for mesh in meshes]
        results = []
        for mesh, old, new in zip(meshes, before, after):
            span = (new["at"] - old["at"]) / 1e9
            count = len(mesh.agents)
            cpu = [100 * (b - a) / TICKS / span for a, b in zip(old["ticks"], new["ticks"])]
            results.append(
                {
                    "seconds": span,
                    "bytes_per_s": (new["bytes"] - old["bytes"]) / span / count,
                    "packets_per_s": (new["packets"] - old["packets"]) / span / count,
                    "cpu_percent": statistics.mean(cpu),
                    "cpu_percent_max": max(cpu),
                    "rss_mb": statistics.mean(new["rss"]) / 1e6,
                    "rss_mb_max": max(new["rss"]) / 1e6,
                    "pss_mb": statistics.mean(new["pss"]) / 1e6,
                }
            )
        return results

    # (d) how long a mesh that was cut in two takes to be whole

    def heal(self, size):
        split = Split()
        try:
            with contextlib.ExitStack() as stack:
                meshes = [stack.enter_context(self.mesh(kind, size, split.sites)) for kind in self.kinds]
                for mesh in meshes:
                    mesh.prepare_writers()
                    mesh.observe()
                return self.heal_in(split, meshes)
        finally:
            split.close()

    def heal_in(self, split, meshes):
        for mesh in meshes:
            drain(mesh, 2)
        note(f"the two halves are cut apart for {self.options.cut_seconds} s")
        split.cut()
        cut = now_ns()
        states = [{"down": set(), "most": 0, "got": [{}, {}], "tests": []} for _ in meshes]
        while now_ns() - cut < self.options.cut_seconds * 10**9:
            for mesh, state in zip(meshes, states):
                watch_split(mesh, state, 0.1)
                # Each half says something that the other has to hear of.
                if not state["tests"] and now_ns() - cut > self.options.cut_seconds * 0.75e9:
                    before = dict(mesh.count) if isinstance(mesh, Lab) else {}
                    for half in range(2):
                        process, is_it = mesh.change(mesh.agents[half], half)
                        process.wait(timeout=30)
                        finish_cli(self, mesh, process)
                        state["tests"].append(is_it)
                    if isinstance(mesh, Lab):
                        # Two statements more than before the cut: those of both halves.
                        both = max(before.values()) + 2
                        state["tests"] = [lambda seen, both=both: seen.what == "change" and seen.of >= both] * 2
        for state in states:
            state["most"] = max(state["most"], len(state["down"]))
        split.heal()
        start = now_ns()
        note("the two halves can reach each other again")
        waiting = list(zip(meshes, states))
        while waiting and now_ns() - start < WAIT_HEAL_S * 10**9:
            for mesh, state in list(waiting):
                watch_split(mesh, state, 0.1)
                count = len(mesh.agents)
                if "members_s" not in state and not state["down"]:
                    state["members_s"] = (now_ns() - start) / 1e9
                if "data_s" not in state and all(len(got) == count for got in state["got"]):
                    state["data_s"] = max(0, max(max(got.values()) for got in state["got"]) - start) / 1e9
                if "members_s" in state and "data_s" in state:
                    waiting.remove((mesh, state))
        for mesh, state in zip(meshes, states):
            if state["down"]:
                note(f"{mesh.title}: {len(state['down'])} opinions are still `down`")
            mesh.unobserve()
        keys = ("members_s", "data_s")
        return [{"most_down": s["most"]} | {k: s[k] for k in keys if k in s} for s in states]

    # all of it

    def run(self):
        results = []
        stages = self.options.only
        for size in self.options.sizes:
            result = {"size": size}
            results.append(result)
            with contextlib.ExitStack() as stack:
                standing = {}
                for kind in self.kinds:
                    mine = result.setdefault(kind.title, {})
                    if not {"propagate", "detect"} & set(stages):
                        continue
                    with contextlib.ExitStack() as alone:
                        # The last one goes on into the quiet minute: founding a large mesh takes its time.
                        stays = "idle" in stages and kind is self.kinds[-1]
                        mesh = (stack if stays else alone).enter_context(self.mesh(kind, size))
                        mine["up_s"] = mesh.up_s
                        mesh.observe()
                        if "propagate" in stages:
                            mine["propagate"] = self.propagate(mesh)
                            note(f"{kind.title}: {size}: propagation measured")
                        if "detect" in stages:
                            mine["detect"] = self.detect(mesh)
                            note(f"{kind.title}: {size}: down-detection measured")
                        mesh.unobserve()
                        if stays:
                            standing[kind] = mesh
                if "idle" in stages:
                    for kind in self.kinds:
                        if kind not in standing:
                            standing[kind] = stack.enter_context(self.mesh(kind, size))
                    meshes = [standing[kind] for kind in self.kinds]
                    note(f"both: {size}: a quiet minute")
                    for kind, measured in zip(self.kinds, self.idle(meshes)):
                        result[kind.title]["idle"] = measured
            if "heal" in stages and size == self.options.heal_size:
                for kind, measured in zip(self.kinds, self.heal(size)):
                    result[kind.title]["heal"] = measured
            self.write(results)
        return results

    def write(self, results):
        if self.options.json:
            whole = {"about": about(self.options), "results": results}
            Path(self.options.json).write_text(json.dumps(whole, indent=1) + "\n")

    def close(self):
        self.processes.kill_all()
        if self.options.keep:
            note(f"kept: {self.root}")
        else:
            shutil.rmtree(self.root, ignore_errors=True)


def ms(ns):
    return ns / 1e6


def drain(mesh, seconds):
    """Lets what is under way arrive."""
    deadline = time.monotonic() + seconds
    while (rest := deadline - time.monotonic()) > 0:
        mesh.poll(rest)


def finish_cli(bench, mesh, process):
    if isinstance(mesh, Lab):
        mesh.finish(process)
        return
    bench.processes.kill(process)
    if process.returncode != 0:
        raise BenchError(f"serf event: exit {process.returncode}: see {mesh.folder / 'event.log'}")


def watch_split(mesh, state, seconds):
    for seen in mesh.poll(seconds):
        pair = (seen.by, seen.of)
        if seen.what == "down":
            state["down"].add(pair)
        elif seen.what == "alive":
            state["down"].discard(pair)
        for got, is_it in zip(state["got"], state["tests"]):
            if is_it(seen):
                got.setdefault(seen.by, seen.at)
    state["most"] = max(state["most"], len(state["down"]))


def cost(mesh):
    pids = [agent.process.pid for agent in mesh.agents]
    out = {"at": now_ns(), "ticks": [], "rss": [], "pss": []}
    for line in Path(f"/proc/{pids[0]}/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            numbers = [int(word) for word in rest.split()]
            # Everything that one agent sends, another receives: both directions are counted once each.
            out["bytes"], out["packets"] = numbers[0] + numbers[8], numbers[1] + numbers[9]
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{pid}/status").read_text()
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError as error:
            raise BenchError(f"{mesh.title}: an agent ended while it was measured: {error}") from error
        out["ticks"].append(int(words[11]) + int(words[12]))
        out["rss"].append(1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1]))
        out["pss"].append(1024 * int(re.search(r"Pss:\s+(\d+)", rollup)[1]))
    return out


# --- What is printed ------------------------------------------------------------------------------------------------


def about(options):
    def version(command):
        out = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        return out[0].strip() if out else "?"

    return {
        "serf": version(["serf", "version"]) + (", encrypted" if options.serf_encrypt else ""),
        "lab": f"{version([options.lab, '--version'])} ({'debug' if '/debug/' in options.lab else 'release'})",
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "rounds": options.rounds,
        "kills": options.kills,
        "seed": options.seed,
    }


def table(results):
    yield "| agents | measure | serf | lab | lab / serf |"
    yield "|---:|---|---:|---:|---:|"
    for result in results:
        for label, unit, digits, find in ROWS:
            values = []
            for title in ("serf", "lab"):
                try:
                    values.append(find(result[title]))
                except (KeyError, ValueError, statistics.StatisticsError):
                    values.append(None)
            if values == [None, None]:
                continue
            texts = ["–" if v is None else v if isinstance(v, str) else f"{v:.{digits}f}{unit}" for v in values]
            ratio = "–"
            if all(isinstance(v, float) for v in values) and values[0] > 0:
                ratio = f"{values[1] / values[0]:.2f}"
            yield f"| {result['size']} | {label} | {texts[0]} | {texts[1]} | {ratio} |"


def over_rounds(key, choose):
    return lambda side: float(choose([r[key] for r in side["propagate"]["rounds"]]))


def over_kills(key, choose):
    return lambda side: float(choose([k[key] for k in side["detect"]["kills"] if key in k]))


def missed(side):
    rounds = side["propagate"]
    return f"{rounds['missed']} of {rounds['missed'] + len(rounds['rounds'])}"


def unseen(side):
    kills = side["detect"]["kills"]
    return f"{sum('last_s' not in k for k in kills)} of {len(kills)}"


def healed(key):
    return lambda side: float(side["heal"][key]) if key in side["heal"] else f"not in {WAIT_HEAL_S} s"


ROWS = [
    ("command started → last agent has it, p50", " ms", 0, over_rounds("command_ms", statistics.median)),
    ("command started → last agent has it, max", " ms", 0, over_rounds("command_ms", max)),
    ("command returned → last agent has it, p50 (negative: before)", " ms", 0, over_rounds("return_ms", statistics.median)),
    ("command returned → last agent has it, max", " ms", 0, over_rounds("return_ms", max)),
    ("first agent has it → last agent has it, p50", " ms", 0, over_rounds("spread_ms", statistics.median)),
    ("first agent has it → last agent has it, max", " ms", 0, over_rounds("spread_ms", max)),
    ("rounds that did not reach everyone", "", 0, missed),
    ("killed → last of the others says down, p50", " s", 1, over_kills("last_s", statistics.median)),
    ("killed → last of the others says down, max", " s", 1, over_kills("last_s", max)),
    ("killed → first of the others says down, p50", " s", 1, over_kills("first_s", statistics.median)),
    ("restarted → alive again for all, p50", " s", 1, over_kills("back_s", statistics.median)),
    ("kills that not everyone saw", "", 0, unseen),
    ("false `down` about living agents", "", 0, lambda side: str(side["detect"]["wrong"])),
    ("idle: bytes per second per agent, sent + received", "", 0, lambda side: side["idle"]["bytes_per_s"]),
    ("idle: packets per second per agent, sent + received", "", 1, lambda side: side["idle"]["packets_per_s"]),
    ("idle: CPU per agent", " %", 3, lambda side: side["idle"]["cpu_percent"]),
    ("idle: RSS per agent, mean", " MB", 1, lambda side: side["idle"]["rss_mb"]),
    ("idle: PSS per agent, mean", " MB", 1, lambda side: side["idle"]["pss_mb"]),
    ("healed → nobody is called down", " s", 1, healed("members_s")),
    ("healed → both halves' changes are everywhere", " s", 1, healed("data_s")),
]


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parents[2]
    parser.add_argument("--sizes", default="5,25,50", help="numbers of agents (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="changes per size (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=4, help="agents killed per size (default: %(default)s)")
    parser.add_argument("--only", default=",".join(STAGES), help="stages (default: %(default)s)")
    parser.add_argument("--peers", default="serf,lab", help="whom to measure (default: %(default)s)")
    parser.add_argument("--idle-seconds", type=int, default=60, help="(default: %(default)s)")
    parser.add_argument("--cut-seconds", type=int, default=60, help="how long a mesh is cut (default: %(default)s)")
    parser.add_argument("--heal-size", type=int, help="the size that is cut (default: the largest up to 25)")
    parser.add_argument("--lab", default=str(here / "target/release/lab"), help="the program (default: %(default)s)")
    parser.add_argument("--watch", help="the observer (default: examples/watch_many beside the program)")
    parser.add_argument("--serf-encrypt", action="store_true", help="let serf encrypt its traffic, as lab always does")
    parser.add_argument("--seed", type=int, default=1, help="of pauses and victims (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write every single figure here")
    parser.add_argument("--keep", action="store_true", help="keep logs and data of the agents")
    chosen = parser.parse_args()
    chosen.sizes = [int(size) for size in chosen.sizes.split(",")]
    chosen.only = chosen.only.split(",")
    chosen.peers = chosen.peers.split(",")
    if unknown := set(chosen.only) - set(STAGES):
        parser.error(f"no such stage: {', '.join(sorted(unknown))}")
    if unknown := set(chosen.peers) - {"serf", "lab"}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    if min(chosen.sizes) < 3 or max(chosen.sizes) > 200:
        parser.error("sizes are 3 to 200")
    if chosen.heal_size is None:
        chosen.heal_size = max([size for size in chosen.sizes if size <= 25], default=min(chosen.sizes))
    elif chosen.heal_size not in chosen.sizes:
        parser.error("--heal-size must be one of --sizes")
    if os.geteuid() != 0:
        parser.error("this needs root, for network namespaces of its own")
    chosen.lab = str(Path(chosen.lab).resolve())
    chosen.watch = chosen.watch or str(Path(chosen.lab).parent / "examples/watch_many")
    needed = ["ip", *(["serf"] if "serf" in chosen.peers else [])]
    needed += [chosen.lab, chosen.watch] if "lab" in chosen.peers else []
    for program in needed:
        if shutil.which(program) is None:
            parser.error(f"{program} is missing: see the head of {Path(__file__).name}")
    return chosen


def main():
    chosen = options()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    bench = Bench(chosen)
    try:
        facts = about(chosen)
        results = bench.run()
    except BenchError as error:
        sys.exit(f"mesh.py: {error}")
    finally:
        bench.close()
    print(f"{facts['serf']}, default profile · {facts['lab']}, default config · {facts['cores']} cores, Linux", end=" ")
    print(f"{facts['kernel']} · {chosen.rounds} changes, {chosen.kills} kills per size\n")
    print("\n".join(table(results)))
    note("done")


if __name__ == "__main__":
    main()
