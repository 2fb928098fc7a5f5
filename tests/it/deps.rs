//! The purity line as a crate line: who may depend on whom, and what a core may not touch.
//!
//! The first half looks at the graph of crates as `cargo metadata` gives it, the second one at the text of the
//! cores. Each rule has its reason in its message.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::source;

/// Crates that no core may have below it, in normal dependencies, at any depth.
const NEVER_BELOW_THE_LINE: &[(&str, &str)] = &[
    (
        "tokio",
        "a core has no runtime: it is handed inputs and hands out outputs",
    ),
    ("mio", "a core has no sockets"),
    ("iroh", "only mesh/net knows the transport"),
    ("quinn", "only mesh/net knows the transport"),
    ("redb", "only agent/store knows the disk"),
    (
        "reqwest",
        "a core asks for an effect, the shell speaks HTTP",
    ),
    ("hyper", "a core asks for an effect, the shell speaks HTTP"),
    ("tonic", "only agent/api knows how the agent is asked"),
    ("clap", "only the cli knows its command line"),
    ("chrono", "time comes as `Now`"),
    ("rustix", "a core makes no system call"),
    ("n0-future", "a core has no runtime"),
];

/// Crates that no core may ask for by itself. Others may bring them along unused.
const NEVER_ASKED_FOR: &[(&str, &str)] = &[
    (
        "getrandom",
        "randomness comes as a seed; entropy.rs is the only source",
    ),
    (
        "rand",
        "randomness comes as a seeded ChaCha12Rng; this one brings its own sources",
    ),
    ("tempfile", "a core has no disk"),
    ("libc", "a core makes no system call"),
    ("time", "time comes as `Now`"),
    ("uuid", "ids are keys and hashes"),
];

/// Ways that are not followed: named exceptions, with what makes them harmless.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Which lab crates a core or word may depend on: downwards only, no sideways.
const BELOW: &[(&str, &[&str])] = &[
    ("lab-crdt-model", &[]),
    ("lab-crdt-selector", &["lab-crdt-model"]),
    ("lab-crdt-log", &["lab-crdt-model"]),
    ("lab-crdt-doc", &["lab-crdt-model"]),
    ("lab-crdt-config", &["lab-crdt-model", "lab-crdt-selector"]),
    ("lab-mesh-proto", &["lab-crdt-model"]),
    (
        "lab-agent-core",
        &[
            "lab-crdt-model",
            "lab-crdt-selector",
            "lab-crdt-log",
            "lab-crdt-doc",
            "lab-crdt-config",
            "lab-mesh-proto",
        ],
    ),
];

/// The one shell that wires the others together.
const WIRING: &str = "lab-agent-daemon";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Class {
    Word,
    Core,
    Face,
    Shell,
    Edge,
    Proof,
}

impl Class {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "word" => Self::Word,
            "core" => Self::Core,
            "face" => Self::Face,
            "shell" => Self::Shell,
            "edge" => Self::Edge,
            "proof" => Self::Proof,
            _ => return None,
        })
    }

    const fn is_below_the_line(self) -> bool {
        matches!(self, Self::Word | Self::Core)
    }
}

/// Crates and their normal dependencies, by name.
#[derive(Clone, Debug, Default)]
struct Graph {
    ours: BTreeMap<String, Option<Class>>,
    needs: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of_this_workspace() -> Self {
        let metadata = MetadataCommand::new()
            .manifest_path(source::root().join("Cargo.toml"))
            .other_options(["--offline".to_owned()])
            .exec()
            .expect("cargo metadata of this workspace");
        let names: BTreeMap<_, _> = metadata
            .packages
            .iter()
            .map(|p| (&p.id, p.name.to_string()))
            .collect();
        let mut graph = Self::default();
        for package in metadata.workspace_packages() {
            let class = package.metadata["lab"]["class"]
                .as_str()
                .and_then(Class::named);
            graph.ours.insert(package.name.to_string(), class);
        }
        let resolve = metadata
            .resolve
            .as_ref()
            .expect("the graph of dependencies");
        for node in &resolve.nodes {
            let normal = node.deps.iter().filter(|dep| {
                dep.dep_kinds
                    .iter()
                    .any(|kind| kind.kind == DependencyKind::Normal)
            });
            // Two versions of one crate count as one.
            let needs = graph.needs.entry(names[&node.id].clone()).or_default();
            needs.extend(normal.map(|dep| names[&dep.pkg].clone()));
        }
        graph
    }

    fn needs(&self, name: &str) -> impl Iterator<Item = &str> {
        self.needs
            .get(name)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    fn class(&self, name: &str) -> Option<Class> {
        self.ours.get(name).copied().flatten()
    }

    /// Everything below a crate, each with the way to it; exceptions are not followed.
    fn below(&self, name: &str) -> BTreeMap<String, String> {
        let mut ways = BTreeMap::new();
        let mut queue = vec![(name.to_owned(), name.to_owned())];
        while let Some((at, way)) = queue.pop() {
            for next in self.needs(&at) {
                let is_excepted = EXCEPTIONS
                    .iter()
                    .any(|(from, to, _)| *from == at && *to == next);
                if is_excepted || ways.contains_key(next) {
                    continue;
                }
                let way = format!("{way} → {next}");
                ways.insert(next.to_owned(), way.clone());
                queue.push((next.to_owned(), way));
            }
        }
        ways
    }

    /// Every broken rule, as a sentence that says what to do.
    fn broken(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (name, class) in &self.ours {
            let Some(class) = class else {
                out.push(format!(
                    "{name} has no class: put `class = \"…\"` (word, core, face, shell, edge or proof) below [package.metadata.lab]"
                ));
                continue;
            };
            if class.is_below_the_line() {
                self.check_core(name, &mut out);
            }
            for need in self.needs(name) {
                if let Some(why) = self.forbidden(name, *class, need) {
                    out.push(format!("{name} ({class:?}) depends on {need}: {why}"));
                }
            }
        }
        out
    }

    fn check_core(&self, name: &str, out: &mut Vec<String>) {
        let below = self.below(name);
        for (never, why) in NEVER_BELOW_THE_LINE {
            if let Some(way) = below.get(*never) {
                out.push(format!("{never} is below the purity line: {why} ({way})"));
            }
        }
        for (never, why) in NEVER_ASKED_FOR {
            if self.needs(name).any(|need| need == *never) {
                out.push(format!("{name} depends on {never}: {why}"));
            }
        }
        let Some((_, allowed)) = BELOW.iter().find(|(n, _)| *n == name) else {
            out.push(format!(
                "{name} is new below the purity line: give it a row in `BELOW` of tests/it/deps.rs"
            ));
            return;
        };
        for need in self.needs(name).filter(|n| self.ours.contains_key(*n)) {
            if !allowed.contains(&need) {
                out.push(format!("{name} depends on {need}: siblings do not see each other; see `BELOW` of tests/it/deps.rs"));
            }
        }
    }

    fn forbidden(&self, name: &str, class: Class, need: &str) -> Option<&'static str> {
        if class == Class::Edge && ["redb", "iroh", "quinn"].contains(&need) {
            return Some("the cli asks the agent, it opens neither store nor link");
        }
        if class == Class::Face && ["redb", "iroh"].contains(&need) {
            return Some("the face says what can be asked, not how it is answered");
        }
        if !self.ours.contains_key(need) {
            return None;
        }
        match (class, self.class(need)?) {
            // The proofs may build on each other, nothing else may build on them.
            (Class::Proof, Class::Proof) => None,
            (_, Class::Proof) => Some("nothing depends on tests and simulation"),
            (_, Class::Edge) => Some("nothing depends on the cli"),
            (Class::Proof | Class::Edge, _) => None,
            (Class::Word, _) => Some("the vocabulary depends on no other crate of ours"),
            (Class::Core, Class::Face | Class::Shell) => Some("a core does not know who drives it"),
            (Class::Face, Class::Core | Class::Shell) => {
                Some("the face speaks in the words of crdt/model alone")
            }
            (Class::Shell, Class::Shell | Class::Face) if name != WIRING => {
                Some("shells do not know each other; agent/daemon wires them together")
            }
            (Class::Core, Class::Word | Class::Core)
            | (Class::Face, Class::Word | Class::Face)
            | (Class::Shell, _) => None,
        }
    }
}

#[test]
fn every_crate_stays_on_its_side_of_the_purity_line() {
    let broken = Graph::of_this_workspace().broken();

    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn named_exceptions_still_exist() {
    let graph = Graph::of_this_workspace();
    for (from, to, why) in EXCEPTIONS {
        assert!(
            graph.needs(from).any(|n| n == *to),
            "{from} → {to} ({why}) is no longer needed: remove it"
        );
    }
}

/// A checker that finds nothing proves nothing: each planted mistake has to be found.
#[test]
fn planted_dependencies_are_found() {
    let sound = Graph::of_this_workspace();
    let plants: &[(&str, &[&str], &str)] = &[
        ("lab-agent-core", &["tokio"], "no runtime"),
        (
            "lab-crdt-log",
            &["innocent", "redb"],
            "lab-crdt-log → innocent → redb",
        ),
        (
            "lab-crdt-doc",
            &["n0-future"],
            "n0-future is below the purity line",
        ),
        ("lab-crdt-model", &["getrandom"], "comes as a seed"),
        ("lab-crdt-doc", &["lab-crdt-log"], "siblings"),
        ("lab-mesh-proto", &["lab-crdt-log"], "siblings"),
        ("lab-crdt-model", &["lab-crdt-log"], "vocabulary"),
        ("lab-agent-core", &["lab-agent-store"], "who drives it"),
        ("lab-mesh-net", &["lab-agent-store"], "wires them together"),
        ("lab-agent-api", &["lab-agent-core"], "alone"),
        (
            "lab-agent-daemon",
            &["lab-cli"],
            "nothing depends on the cli",
        ),
        (
            "lab-cli",
            &["lab-simulation"],
            "nothing depends on tests and simulation",
        ),
        ("lab-cli", &["redb"], "asks the agent"),
    ];
    for (from, way, want) in plants {
        let mut graph = sound.clone();
        let mut at = (*from).to_owned();
        for next in *way {
            graph
                .needs
                .entry(at)
                .or_default()
                .insert((*next).to_owned());
            at = (*next).to_owned();
        }
        let broken = graph.broken();
        assert!(
            broken.iter().any(|b| b.contains(want)),
            "{from} → {way:?} was not found: {broken:?}"
        );
    }

    let mut graph = sound;
    graph.ours.insert("lab-new".to_owned(), Some(Class::Core));
    assert!(graph.broken().iter().any(|b| b.contains("lab-new is new")));
    graph.ours.insert("lab-new".to_owned(), None);
    assert!(
        graph
            .broken()
            .iter()
            .any(|b| b.contains("lab-new has no class"))
    );
}

/// What a core may not name, and why.
const NEVER_NAMED: &[(&str, &str)] = &[
    (
        "std::fs",
        "a core has no disk: ask with `Output::Store` or an effect",
    ),
    ("std::process", "a core starts nothing: ask with an effect"),
    ("std::thread", "a core is one value with one owner"),
    (
        "std::env",
        "libraries do not read the environment; the cli does",
    ),
    ("std::net::TcpStream", "a core has no sockets"),
    ("std::net::TcpListener", "a core has no sockets"),
    ("std::net::UdpSocket", "a core has no sockets"),
    (
        "std::net::ToSocketAddrs",
        "asking a name server is the shell's",
    ),
    ("std::os", "a core makes no system call"),
    ("SystemTime", "time comes as `Now`"),
    ("Instant::now", "time comes as `Now`"),
    ("HashMap", "its order differs between runs: use BTreeMap"),
    ("HashSet", "its order differs between runs: use BTreeSet"),
    ("RandomState", "its order differs between runs"),
    ("OsRng", "randomness comes as a seed"),
    ("thread_rng", "randomness comes as a seed"),
    ("getrandom", "randomness comes as a seed"),
    ("Mutex", "a core is one value with one owner: no lock"),
    ("RwLock", "a core is one value with one owner: no lock"),
];

/// `(file, name, what makes it harmless)`.
const NAMED_EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "crdt/log/src/memo.rs",
    "Mutex",
    "results of pure steps, shared by the agents of a simulator: it changes speed and nothing else, a daemon has none",
)];

/// What a text names that a core may not, as `(line, name, why)`.
fn named(text: &str) -> Vec<(usize, &'static str, &'static str)> {
    let mut out = Vec::new();
    for (name, why) in NEVER_NAMED {
        for line in source::lines_where(text, |line| source::has_word(line, name)) {
            out.push((line, *name, *why));
        }
    }
    for (at, group) in groups_of_std(text) {
        let line = text[..at].matches('\n').count() + 1;
        for (name, why) in NEVER_NAMED {
            let is_in = name
                .strip_prefix("std::")
                .is_some_and(|tail| group.iter().any(|g| g == tail));
            if is_in {
                out.push((line, *name, *why));
            }
        }
    }
    out.sort_unstable();
    out
}

/// The paths in every `std::{…}` and `std::net::{…}`, without the leading `std::`, with where the group begins.
fn groups_of_std(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut out = Vec::new();
    for (prefix, inner) in [("std::{", ""), ("std::net::{", "net::")] {
        for (at, _) in text.match_indices(prefix) {
            let body = &text[at + prefix.len()..];
            let (mut depth, mut end) = (1, 0);
            for (i, c) in body.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    end = i;
                    break;
                }
            }
            out.push((at, spread(&body[..end], inner)));
        }
    }
    out
}

/// The paths of a group, `a::{b, c}` as `a`, `a::b` and `a::c`.
fn spread(body: &str, prefix: &str) -> Vec<String> {
    let (mut out, mut depth, mut from) = (Vec::new(), 0, 0);
    let mut items = Vec::new();
    for (i, c) in body.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&body[from..i]);
                from = i + 1;
            }
            _ => {}
        }
    }
    items.push(&body[from..]);
    for item in items.iter().map(|i| i.trim()) {
        match item.split_once("::{") {
            Some((head, tail)) => {
                out.push(format!("{prefix}{head}"));
                out.extend(spread(
                    tail.trim_end_matches('}'),
                    &format!("{prefix}{head}::"),
                ));
            }
            None => {
                let mut path = String::new();
                for segment in item.split("::") {
                    path += segment;
                    out.push(format!("{prefix}{path}"));
                    path += "::";
                }
            }
        }
    }
    out
}

#[test]
fn cores_name_no_clock_disk_socket_thread_environment_or_hash_order() {
    let mut broken = Vec::new();
    let mut used = BTreeSet::new();
    let below = source::crates().into_iter().filter(|c| {
        source::class(&c.manifest)
            .and_then(Class::named)
            .is_some_and(Class::is_below_the_line)
    });
    for krate in below {
        for code in source::product(&krate.folder) {
            for (line, name, why) in named(&code.text) {
                match NAMED_EXCEPTIONS
                    .iter()
                    .find(|(file, n, _)| *file == code.path && *n == name)
                {
                    Some(exception) => {
                        used.insert(exception);
                    }
                    None => broken.push(format!("{}:{line}: {name}: {why}", code.path)),
                }
            }
        }
    }

    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    for exception in NAMED_EXCEPTIONS {
        assert!(
            used.contains(exception),
            "{exception:?} is no longer needed: remove it"
        );
    }
}

#[test]
fn planted_names_are_found_and_innocent_ones_are_not() {
    for (text, want) in [
        ("use std::fs;", "std::fs"),
        ("let x = std::env::var(\"X\");", "std::env"),
        ("use std::{collections::BTreeMap, thread};", "std::thread"),
        (
            "use std::{\n    net::{IpAddr, UdpSocket},\n};",
            "std::net::UdpSocket",
        ),
        ("use std::net::{IpAddr, TcpStream};", "std::net::TcpStream"),
        ("use std::{fs::File, fmt};", "std::fs"),
        ("let t = Instant::now();", "Instant::now"),
        ("for x in HashMap::new() {}", "HashMap"),
    ] {
        let found = named(&source::blank(text));
        assert!(
            found.iter().any(|(_, name, _)| *name == want),
            "{text}: {found:?}"
        );
    }
    for text in [
        "use std::net::{IpAddr, SocketAddr};",
        "use std::{fmt, net::IpAddr};",
        "// std::fs\nlet s = \"HashMap\";",
        "use std::collections::BTreeMap; let fs = 1;",
    ] {
        assert_eq!(named(&source::blank(text)), [], "{text}");
    }
}
