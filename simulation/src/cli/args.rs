//! The command line: every command, flag and help text.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::duration;

/// Runs whole meshes of real agents in virtual time, breaks them, and tells what became of them
#[derive(Parser, Debug)]
#[command(name = "lab-sim", version, disable_help_subcommand = true)]
#[command(after_help = "\
Examples:
  lab-sim scenario power-cut --svg cut.svg   what happens when the power goes out
  lab-sim run --seed 4711                    a random run of seven machines, judged by all oracles
  lab-sim swarm --seeds 0..400 --jobs 2      many of them
  lab-sim replay bug-3f9a/shrunk.ron --step  a failure, one transition at a time
  lab-sim measure propagation --nodes 100    how long a change takes to reach everyone

Exit codes: 0 all is well, 1 a violation was found, 2 wrong usage, 3 internal error.")]
pub(crate) struct Cli {
    /// When to colour
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorWhen::Auto)]
    pub(crate) color: ColorWhen,
    /// Form of the result on standard output
    #[arg(long, global = true, value_enum, value_name = "FORM", default_value_t = Form::Text)]
    pub(crate) format: Form,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// When to colour.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The form of a result.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// For people
    Text,
    /// One JSON document
    Json,
}

/// The verbs.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Play a question such as "what happens when the power goes out?"
    #[command(after_help = "\
Examples:
  lab-sim scenario                            the list
  lab-sim scenario nas-dies                   the story and the answer
  lab-sim scenario nas-dies --svg nas.svg     with a picture")]
    Scenario(ScenarioArgs),
    /// Run one plan, made from a seed or read from a file
    #[command(after_help = "\
Examples:
  lab-sim run --seed 4711
  lab-sim run --seed 4711 --profile fleet --for 10m --store model
  lab-sim run --plan bug-3f9a/plan.ron --svg bug.svg")]
    Run(RunArgs),
    /// Run a plan again and look at it more closely
    Replay(ReplayArgs),
    /// Make a failing plan shorter while it fails the same way
    Shrink(ShrinkArgs),
    /// Run many seeds
    #[command(after_help = "\
Examples:
  lab-sim swarm --seeds 0..400                as many as a change is checked with
  lab-sim swarm --hours 8 --jobs 2 --out night")]
    Swarm(SwarmArgs),
    /// Which situations a swarm reached, and which never
    Cover(CoverArgs),
    /// Prove that the oracles can fail: every seeded bug must be found
    Mutants(MutantsArgs),
    /// Run a plan in two processes and compare every byte of what happened
    Meta(MetaArgs),
    /// Run a plan and tell its trace, for `meta`
    #[command(hide = true)]
    Tell(TellArgs),
    /// Cut the power of the store at random moments and open what is left
    Crash(CrashArgs),
    /// Compare the simulated network with a real one
    Calibrate,
    /// Measure how good the protocol is, beside the bars it must meet
    #[command(after_help = "\
Examples:
  lab-sim measure                             the list
  lab-sim measure propagation --nodes 25,100,1000 --network geography
  lab-sim measure accusations --nodes 100     as Lifeguard was measured: 16 of 100 paused in turns")]
    Measure(MeasureArgs),
    /// Measure how fast the simulator is
    Bench(BenchArgs),
}

/// Arguments of `scenario`.
#[derive(Args, Debug)]
pub(crate) struct ScenarioArgs {
    /// Which; `list` or nothing shows all
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The seed
    #[arg(long, value_name = "SEED", default_value = "1", value_parser = seed)]
    pub(crate) seed: u64,
    /// Draw what happened
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Write every transition, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) timeline: Option<PathBuf>,
}

/// What a world is made of.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct WorldArgs {
    /// Size of the mesh and what happens in it
    #[arg(long, value_name = "PROFILE", value_parser = ["homelab", "small", "fleet", "region"])]
    pub(crate) profile: Option<String>,
    /// How many nodes, in place of what the profile says
    #[arg(long, value_name = "COUNT")]
    pub(crate) nodes: Option<usize>,
    /// How long things may go wrong, for example 90s, 1h, 30d
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    pub(crate) for_ms: Option<u64>,
    /// Disks: real, model, lean, or mixed:K for K real ones
    #[arg(long, value_name = "KIND", value_parser = store)]
    pub(crate) store: Option<StoreWord>,
    /// Paths: lan, wifi, metro, geography, lte, satellite or mixed
    #[arg(long, value_name = "KIND", value_parser = ["lan", "wifi", "metro", "geography", "lte", "satellite", "mixed"])]
    pub(crate) network: Option<String>,
}

/// How disks are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StoreWord {
    /// Maps.
    Model,
    /// The store of the product on simulated sectors.
    Real,
    /// Maps that share what they have in common.
    Lean,
    /// So many real ones, the others model.
    Mixed(usize),
}

impl std::fmt::Display for StoreWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Model => f.write_str("model"),
            Self::Real => f.write_str("real"),
            Self::Lean => f.write_str("lean"),
            Self::Mixed(n) => write!(f, "mixed:{n}"),
        }
    }
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Make the plan from this seed: a number, or a commit hash
    #[arg(long, value_name = "SEED", value_parser = seed, required_unless_present = "plan", conflicts_with = "plan")]
    pub(crate) seed: Option<u64>,
    /// Read the plan from this file
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) world: WorldArgs,
    /// Draw what happened
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Write the report into a file as well
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Write every transition, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Where to put what is needed to look into a violation
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
}

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    /// The plan
    pub(crate) plan: PathBuf,
    /// Stop at this moment, for example 83.2s
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) until: Option<u64>,
    /// Show every transition as it happens
    #[arg(long)]
    pub(crate) step: bool,
    /// At the end, show what a node holds, as JSON: node=3
    #[arg(long, value_name = "node=N", value_parser = node)]
    pub(crate) dump: Option<usize>,
    /// Draw what happened
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// Arguments of `shrink`.
#[derive(Args, Debug)]
pub(crate) struct ShrinkArgs {
    /// The plan
    pub(crate) plan: PathBuf,
    /// Where to put the shorter one; beside the plan as shrunk.ron unless given
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Real time it may take
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration::parse)]
    pub(crate) budget: u64,
}

/// Arguments of `swarm`.
#[derive(Args, Debug)]
pub(crate) struct SwarmArgs {
    /// Which seeds: A..B, without B
    #[arg(long, value_name = "A..B", value_parser = range, conflicts_with = "hours")]
    pub(crate) seeds: Option<(u64, u64)>,
    /// Run new seeds for so many hours
    #[arg(long, value_name = "HOURS")]
    pub(crate) hours: Option<f64>,
    /// The first seed with --hours: a number, or a commit hash
    #[arg(long, value_name = "SEED", default_value = "0", value_parser = seed)]
    pub(crate) from: u64,
    /// Processes at once
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) jobs: usize,
    #[command(flatten)]
    pub(crate) world: WorldArgs,
    /// Where to put failures and what was reached
    #[arg(long, value_name = "DIR", default_value = "swarm")]
    pub(crate) out: PathBuf,
}

/// Arguments of `cover`.
#[derive(Args, Debug)]
pub(crate) struct CoverArgs {
    /// What a swarm left behind
    pub(crate) folder: PathBuf,
}

/// Arguments of `mutants`.
#[derive(Args, Debug)]
pub(crate) struct MutantsArgs {
    /// Which; all unless given
    pub(crate) names: Vec<String>,
    /// Processor time for each
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    pub(crate) budget: u64,
}

/// Arguments of `meta`.
#[derive(Args, Debug)]
pub(crate) struct MetaArgs {
    /// One seed
    #[arg(long, value_name = "SEED", value_parser = seed, conflicts_with = "seeds")]
    pub(crate) seed: Option<u64>,
    /// Several: A..B, without B
    #[arg(long, value_name = "A..B", value_parser = range)]
    pub(crate) seeds: Option<(u64, u64)>,
    #[command(flatten)]
    pub(crate) world: WorldArgs,
}

impl MetaArgs {
    /// The seeds to compare; the first four unless some were named.
    pub(crate) fn seeds(&self) -> std::ops::Range<u64> {
        match (self.seed, self.seeds) {
            (Some(seed), _) => seed..seed + 1,
            (None, Some((from, to))) => from..to,
            (None, None) => 0..4,
        }
    }
}

/// Arguments of `tell`.
#[derive(Args, Debug)]
pub(crate) struct TellArgs {
    /// The plan
    pub(crate) plan: PathBuf,
    /// Records to tell in full: A..B
    #[arg(long, value_name = "A..B", value_parser = range)]
    pub(crate) window: Option<(u64, u64)>,
}

/// Arguments of `crash`.
#[derive(Args, Debug)]
pub(crate) struct CrashArgs {
    /// How many images to try
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub(crate) images: u64,
    /// The seed
    #[arg(long, value_name = "SEED", default_value = "1", value_parser = seed)]
    pub(crate) seed: u64,
    /// Try an older redb, which must fail
    #[arg(long, value_name = "VERSION", value_parser = ["3.1"])]
    pub(crate) redb: Option<String>,
}

/// Arguments of `measure`.
#[derive(Args, Debug)]
pub(crate) struct MeasureArgs {
    /// What; `list` or nothing shows all, `all` runs all
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How many nodes; several, with commas, give a row each
    #[arg(
        long,
        value_name = "COUNT",
        value_delimiter = ',',
        default_value = "100"
    )]
    pub(crate) nodes: Vec<usize>,
    /// Paths: lan, wifi, metro, geography, lte, satellite or mixed
    #[arg(long, value_name = "KIND", default_value = "lan", value_parser = ["lan", "wifi", "metro", "geography", "lte", "satellite", "mixed"])]
    pub(crate) network: String,
    /// Packets lost, per mille, on top of what the paths lose
    #[arg(long, value_name = "PER_MILLE", default_value_t = 0)]
    pub(crate) loss: u32,
    /// The seed
    #[arg(long, value_name = "SEED", default_value = "1", value_parser = seed)]
    pub(crate) seed: u64,
}

/// Arguments of `bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// Fleets at rest of so many nodes; several, with commas, give a row each; 0 leaves them out
    #[arg(
        long,
        value_name = "COUNT",
        value_delimiter = ',',
        default_value = "100,1000"
    )]
    pub(crate) nodes: Vec<usize>,
    /// Meshes of so many nodes in which everything goes wrong, on real disks, under all oracles; 0 leaves them out
    #[arg(
        long,
        value_name = "COUNT",
        value_delimiter = ',',
        default_value = "10"
    )]
    pub(crate) chaos: Vec<usize>,
    /// The seeds of what goes wrong
    #[arg(long, value_name = "A..B", default_value = "11..16", value_parser = range)]
    pub(crate) seeds: (u64, u64),
    /// Virtual time after the start, with an edit every ten seconds
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    pub(crate) for_ms: u64,
    /// Disks of fleets at rest: real, model, lean, or mixed:K for K real ones; lean above 200 nodes
    #[arg(long, value_name = "KIND", value_parser = store)]
    pub(crate) store: Option<StoreWord>,
}

/// A seed: a number, in tens or with 0x, or a commit hash of 40 digits.
fn seed(text: &str) -> Result<u64, String> {
    let hex = |t: &str| u64::from_str_radix(t, 16).ok();
    let number = match text.strip_prefix("0x") {
        Some(digits) => hex(digits),
        None if text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit()) => hex(&text[..16]),
        None => text.parse().ok(),
    };
    number.ok_or_else(|| "write a number such as 4711 or 0x1f, or a commit hash".to_owned())
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text
        .split_once("..")
        .ok_or("write A..B, for example 0..400")?;
    let (from, to) = (seed(from)?, seed(to)?);
    if from < to {
        Ok((from, to))
    } else {
        Err("the first seed must be below the last".to_owned())
    }
}

fn node(text: &str) -> Result<usize, String> {
    let number = text.strip_prefix("node=").unwrap_or(text);
    number.parse().map_err(|_not| "write node=3".to_owned())
}

fn store(text: &str) -> Result<StoreWord, String> {
    match text {
        "model" => Ok(StoreWord::Model),
        "real" => Ok(StoreWord::Real),
        "lean" => Ok(StoreWord::Lean),
        _ => {
            let count = text.strip_prefix("mixed:").and_then(|n| n.parse().ok());
            count
                .map(StoreWord::Mixed)
                .ok_or_else(|| "write real, model, lean or mixed:256".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn seeds_are_numbers_or_commits() {
        assert_eq!(seed("4711"), Ok(4711));
        assert_eq!(seed("0x1f"), Ok(31));
        assert_eq!(seed("00000000000000ff000000000000000000000000"), Ok(255));
        assert!(seed("abc").is_err() && seed("").is_err() && seed("-1").is_err());
    }

    #[test]
    fn a_run_needs_a_seed_or_a_plan_and_not_both() {
        assert!(parse("lab-sim run").is_err());
        assert!(parse("lab-sim run --seed 1 --plan p.ron").is_err());
        let cli = parse("lab-sim run --seed 1 --for 1h --store mixed:3 --format json").unwrap();
        let Verb::Run(run) = cli.verb else { panic!() };
        assert_eq!(run.world.for_ms, Some(3_600_000));
        assert_eq!(run.world.store, Some(StoreWord::Mixed(3)));
        assert_eq!(cli.format, Form::Json);
    }

    #[test]
    fn moments_ranges_and_nodes_are_read() {
        let cli = parse("lab-sim replay p.ron --until 83.2s --dump node=3 --step").unwrap();
        let Verb::Replay(replay) = cli.verb else {
            panic!()
        };
        assert_eq!((replay.until, replay.dump), (Some(83_200), Some(3)));
        let cli = parse("lab-sim swarm --seeds 10..20 --jobs 2").unwrap();
        let Verb::Swarm(swarm) = cli.verb else {
            panic!()
        };
        assert_eq!(swarm.seeds, Some((10, 20)));
        assert!(parse("lab-sim swarm --seeds 20..10").is_err());
    }
}
