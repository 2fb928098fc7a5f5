//! The command line: every command, flag and help text.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::remote::Open;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

/// One program on every machine: what you want, what is, and the way from one to the other
#[derive(Parser, Debug)]
#[command(
    name = "lab",
    version,
    propagate_version = true,
    disable_help_subcommand = false
)]
#[command(after_help = "\
Examples:
  lab init --name home               make a mesh on this machine
  lab token create --label role=web  a one-time token for the next machine
  lab join lab1…                     join with it
  lab label add canary -t nuc2       change what a machine is
  lab plan -f lab.yaml               what these declarations would change
  lab apply -f lab.yaml              make it so, and watch
  lab status                         how every machine stands")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags that every command takes.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Data directory of the agent [env: LAB_DATA]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Socket of the agent [env: LAB_SOCKET]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Ask this machine instead, with your key: NODE or NODEID@IP:PORT [env: LAB_AT]
    #[arg(long, global = true, value_name = "NODE")]
    pub(crate) at: Option<String>,
    /// Key file that signs changes [env: LAB_KEY]
    #[arg(id = "key-file", long = "key", global = true, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Form of the result on standard output
    #[arg(short, long, global = true, value_enum, value_name = "FORM", default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// When to colour
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorWhen::Auto)]
    pub(crate) color: ColorWhen,
    /// Never ask; a question without -y is refused with exit code 6
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
    /// Answer yes to questions
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    /// What is open at the other machine.
    #[arg(skip)]
    pub(crate) open: Open,
}

/// The form of a result.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// Columns for people
    Table,
    /// More columns
    Wide,
    /// One JSON envelope
    Json,
    /// The same envelope as YAML
    Yaml,
    /// One JSON object per line
    Ndjson,
    /// Only names
    Name,
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

/// The verbs.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Make a mesh on this machine
    #[command(after_help = "\
Examples:
  sudo lab init --name home
  lab init --name test --data ./n1 --words-file ./root.words -y   without questions")]
    Init(InitArgs),
    /// Join a mesh with a token
    #[command(after_help = "\
Examples:
  sudo lab join lab1q…            a pasted token
  sudo lab join LAB1-9ZK4X-…      a typed token; the mesh is found on the local network
  lab join --token-file -         the token from standard input, out of sight of `ps`")]
    Join(JoinArgs),
    /// Make, list and revoke join tokens
    #[command(subcommand)]
    Token(TokenVerb),
    /// Show machines, take one out of the mesh
    #[command(subcommand)]
    Node(NodeVerb),
    /// Show and change who may change things
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// Show and change the admins; changes take the root words
    #[command(subcommand)]
    Admin(AdminVerb),
    /// The root keys, and the records that they sign
    #[command(subcommand)]
    Root(RootVerb),
    /// The mesh that this machine trusts, and the end of that trust
    #[command(subcommand)]
    Trust(TrustVerb),
    /// Show and change labels of machines
    #[command(subcommand)]
    Label(LabelVerb),
    /// Show which machines a query selects, and why
    #[command(
        visible_alias = "show",
        after_help = "\
Examples:
  lab target role=web and site=home
  lab target '@prod except @canary' --why
  lab target nuc1,nuc2 -o name"
    )]
    Target(TargetArgs),
    /// Show what declarations would change, or what is still on its way
    #[command(after_help = "\
Examples:
  lab plan -f lab.yaml           what these declarations would change
  lab plan -f lab/ -t role=web   only what touches these machines
  lab plan                       what the mesh knows and machines have not done yet
  lab plan -f lab/ --exit-code   exit 2 when there is something to do")]
    Plan(PlanArgs),
    /// Make declarations effective and watch the machines take them on
    #[command(after_help = "\
Examples:
  lab apply -f lab.yaml
  lab apply -f lab/ -y --timeout 2m    in scripts; exit 4 when machines stay silent
  lab apply                            only watch what is still on its way")]
    Apply(ApplyArgs),
    /// Show the effective config of a machine and where each value comes from
    #[command(after_help = "\
Examples:
  lab explain nuc1
  lab explain nuc1 nginx::worker_processes")]
    Explain(ExplainArgs),
    /// Show how every machine stands
    #[command(after_help = "\
Examples:
  lab status
  lab status role=web and not @canary
  lab status -a -o wide           every machine, with agent, clock and labels
  lab status --exit-code -q       for monitoring: exit 2 when something is not ok")]
    Status(StatusArgs),
    /// Show who changed what and when
    #[command(after_help = "\
Examples:
  lab history -n 5
  lab history nuc1                changes that touch a name, path or label")]
    History(HistoryArgs),
    /// Show what machines recorded of what happened, and verify it
    #[command(after_help = "\
Examples:
  lab audit --since 2h                 what is kept here
  lab audit --node nuc1 --what change  changes that were handed in on nuc1
  lab audit -o ndjson > audit.ndjson   an export
  lab audit verify                     are the chains that are kept here whole?
  lab audit verify -f audit.ndjson     is this export?")]
    Audit(AuditArgs),
    /// Take a change back: write again what stood before it
    #[command(after_help = "\
Examples:
  lab undo                        your own last change
  lab undo k3f7… --dry-run        what would stand again")]
    Undo(UndoArgs),
    /// Check this machine and its replica
    Doctor(DoctorArgs),
    /// Run the agent of this machine
    #[command(subcommand)]
    Agent(AgentVerb),
    /// Take away what was given: a machine, an operator or a token
    #[command(after_help = "\
Examples:
  lab revoke pi1
  lab revoke bob
  lab revoke bob --since k3f7… --dry-run   what would be undone from that change on
  lab revoke 4f2a91c07be3d815              a token")]
    Revoke(RevokeArgs),
    /// Agree with the other admins on what the history is
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "\
Examples:
  lab checkpoint                 name all that is known here, and sign it
  lab checkpoint list            which ones hold, and which wait for more admins
  lab checkpoint sign 3f2a…      another admin stands behind it too"
    )]
    Checkpoint(CheckpointArgs),
    /// Run a mesh of agents on this machine and watch it work
    #[command(after_help = "\
Examples:
  lab demo                 watch, then try things yourself; Ctrl-C removes everything
  lab demo --once          for scripts: exit 0 when everything was seen to happen
  lab demo --keep ./demo   keep folders and logs")]
    Demo(DemoArgs),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  lab completion bash > /etc/bash_completion.d/lab
  lab completion zsh > ~/.zfunc/_lab")]
    Completion(CompletionArgs),
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Name of the mesh
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Name of this machine; its host name if left out
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Who you are: the name of the first admin; your login name if left out
    #[arg(long, value_name = "NAME")]
    pub(crate) admin: Option<String>,
    /// Label of this machine; repeat for more
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// Write the 24 words of the root key to this new file instead of showing them
    #[arg(long, value_name = "FILE")]
    pub(crate) words_file: Option<PathBuf>,
    /// Keep the admin key without a passphrase
    #[arg(long)]
    pub(crate) no_passphrase: bool,
}

#[derive(Args, Debug)]
pub(crate) struct JoinArgs {
    /// The token; `-` reads it from standard input
    #[arg(value_name = "TOKEN", required_unless_present = "token_file")]
    pub(crate) token: Option<String>,
    /// Read the token from a file; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// Join as a person's laptop, when a typed token does not say it
    #[arg(long)]
    pub(crate) laptop: bool,
    /// With a laptop: keep its key without a passphrase
    #[arg(long)]
    pub(crate) no_passphrase: bool,
    /// Ask this member first, as node:ID@IP:PORT; repeat for more
    #[arg(long, value_name = "NODE@ADDRESS")]
    pub(crate) via: Vec<String>,
    /// Address to listen on
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) bind: Option<SocketAddr>,
    /// Where this machine's /sys and /proc are; tells its MAC addresses and serial number
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub(crate) root: PathBuf,
    /// Do not look for members on the local network
    #[arg(long)]
    pub(crate) no_lan: bool,
    /// Give up after this long
    #[arg(long, value_name = "TIME", default_value = "2m")]
    pub(crate) timeout: String,
}

#[derive(Subcommand, Debug)]
pub(crate) enum TokenVerb {
    /// Make a join token
    #[command(after_help = "\
Examples:
  lab token create --label role=web --label site=attic --ttl 30m
  lab token create nuc4 --typed          a short one to type on a console
  lab token create nuc3 --mac 52:54:00:12:34:56    for that machine only
  lab token create --role laptop --qr    for a person's laptop")]
    Create(TokenCreateArgs),
    /// List join tokens
    List,
    /// Make a token useless; who joined with it stays
    Revoke(TokenRevokeArgs),
    /// Say which of the machines that used one token are yours; the others lose their identity
    #[command(after_help = "\
Examples:
  lab token resolve 3f9a                 shows who used it, and asks
  lab token resolve 3f9a --keep nuc4     nuc4 stays, all others go
  lab token resolve 3f9a --keep-none     all go: the token was stolen")]
    Resolve(TokenResolveArgs),
}

#[derive(Args, Debug)]
pub(crate) struct TokenResolveArgs {
    /// The token's id as `lab token list` shows it; a beginning is enough if only one fits
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// A machine that stays, by name or id; repeat for more
    #[arg(long, value_name = "NODE", conflicts_with = "keep_none")]
    pub(crate) keep: Vec<String>,
    /// None stays
    #[arg(long)]
    pub(crate) keep_none: bool,
}

#[derive(Args, Debug)]
pub(crate) struct TokenCreateArgs {
    /// Name that the machine will have; one made from its key if left out
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Label that the machine will have; repeat for more
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// How long it can be used; at most 7d
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub(crate) ttl: String,
    /// What will join
    #[arg(long, value_enum, value_name = "ROLE", default_value_t = RoleArg::Node)]
    pub(crate) role: RoleArg,
    /// Who must see the join: `any` member, `one` (this machine, or one=NODE), or a `quorum` of registrars
    #[arg(long, value_name = "WHO", default_value = "any")]
    pub(crate) witness: String,
    /// How many may join with it
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) uses: u32,
    /// A person must confirm the join as well: lab node confirm
    #[arg(long)]
    pub(crate) confirm: bool,
    /// Only for the machine with this MAC address; `declared` is the one that NAME is declared with
    #[arg(long, value_name = "MAC")]
    pub(crate) mac: Option<String>,
    /// Only for the machine with this serial number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) serial: Option<String>,
    /// With --role laptop: what its user may do
    #[arg(long = "right", value_name = "RIGHT", value_delimiter = ',')]
    pub(crate) rights: Vec<String>,
    /// With --role laptop: only paths below this; repeat for more
    #[arg(long = "scope", value_name = "PATH")]
    pub(crate) scopes: Vec<String>,
    /// With --role laptop: how long it stays a member after joining
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub(crate) lease: String,
    /// A short token to type
    #[arg(long)]
    pub(crate) typed: bool,
    /// Also show it as a QR code
    #[arg(long)]
    pub(crate) qr: bool,
}

/// What joins.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RoleArg {
    /// A machine of the fleet
    Node,
    /// A person's device: a replica without config of its own
    Laptop,
}

#[derive(Args, Debug)]
pub(crate) struct TokenRevokeArgs {
    /// The token's id as `lab token list` shows it; a beginning is enough if only one fits
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Subcommand, Debug)]
pub(crate) enum NodeVerb {
    /// List machines
    List(QueryArgs),
    /// Show everything about one machine
    Show(NodeNameArgs),
    /// Confirm that a machine that joined may be a member
    #[command(after_help = "\
Examples:
  lab node confirm nuc4                            shows its words, and asks
  lab node confirm nuc4 --words 'ab cd ef gh'      the words that nuc4 shows on its screen")]
    Confirm(NodeConfirmArgs),
    /// Take a machine out of the mesh (the same as `lab revoke`)
    Rm(NodeNameArgs),
}

#[derive(Args, Debug)]
pub(crate) struct NodeConfirmArgs {
    /// Its name, or its id as node:…
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
    /// The four words that the machine itself shows; they are checked and nobody is asked
    #[arg(long, value_name = "WORDS")]
    pub(crate) words: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct NodeNameArgs {
    /// Its name, or its id as node:…
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
}

#[derive(Args, Debug)]
pub(crate) struct QueryArgs {
    /// Which machines; all if left out
    #[arg(value_name = "QUERY")]
    pub(crate) query: Vec<String>,
    /// Accept keys, groups and names that nobody has
    #[arg(long)]
    pub(crate) allow_unknown: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum OperatorVerb {
    /// List who may change things
    List,
    /// Make a key on this device and print its public half
    Key(OperatorKeyArgs),
    /// Allow a key to change things
    #[command(after_help = "\
Examples:
  lab operator key --name bob                        on bob's device
  lab operator add bob key:k3f7… --right labels,config
  lab operator add ci key:… --scope on/role=web --ttl 90d")]
    Add(OperatorAddArgs),
    /// Take an operator's rights away (the same as `lab revoke`)
    Rm(OperatorRmArgs),
    /// Decide over changes that came only after their lease or grant had ended
    #[command(after_help = "\
Examples:
  lab operator seal lap --dry-run       what came late
  lab operator seal lap                 all of it counts
  lab operator seal lap --until k3f7…   only what was said up to this change
  lab operator seal lap --none          nothing of it counts")]
    Seal(OperatorSealArgs),
}

#[derive(Subcommand, Debug)]
pub(crate) enum AdminVerb {
    /// List the admins
    List,
    /// Make a key an admin
    #[command(after_help = "\
Examples:
  lab operator key --name ben                      on ben's device: makes the key
  lab admin add ben key:k3f7…                      asks for the words of the root key
  lab admin add ben key:… --words-file ./one.words --out ben.json   when more keepers have to sign")]
    Add(AdminAddArgs),
    /// Take an admin out of the root record: also one that cannot be asked any more
    #[command(after_help = "\
Examples:
  lab admin rm ben                   what ben did so far stays
  lab admin rm ben --since k3f7…     what ben did from this change on is undone")]
    Rm(AdminRmArgs),
}

/// How a root record is signed.
#[derive(Args, Debug)]
pub(crate) struct CeremonyArgs {
    /// A file with the 24 words of a root key; repeat for more. Without it, they are asked for
    #[arg(long = "words-file", value_name = "FILE")]
    pub(crate) words_files: Vec<PathBuf>,
    /// Where to keep the record while signatures are missing
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct AdminAddArgs {
    /// The person or device
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Its public key, as key:…
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) ceremony: CeremonyArgs,
}

#[derive(Args, Debug)]
pub(crate) struct AdminRmArgs {
    /// Its name or key
    #[arg(value_name = "ADMIN")]
    pub(crate) name: String,
    /// Undo what it did from this change on; without it, everything so far stays
    #[arg(long, value_name = "CHANGE")]
    pub(crate) since: Option<String>,
    #[command(flatten)]
    pub(crate) ceremony: CeremonyArgs,
}

#[derive(Subcommand, Debug)]
pub(crate) enum RootVerb {
    /// Show the root record in force
    Show,
    /// Replace the root keys by new ones, whose words are shown once
    #[command(after_help = "\
Examples:
  lab root rotate --keys 2 --threshold 1     a second set of words, for another place
  lab root rotate --keys 3 --threshold 2     three keepers, any two of whom can act")]
    Rotate(RootRotateArgs),
    /// Name the machines that see joins, for `--witness any` and for a quorum
    #[command(after_help = "\
Examples:
  lab root registrars nas1 nuc1 nuc2
  lab root registrars --all           every member again")]
    Registrars(RootRegistrarsArgs),
    /// Type the words of a root key once, to know that they are still there and right
    #[command(after_help = "\
Examples:
  lab root try                       asks for the words; nothing is signed
  lab root try --words-file ./one.words")]
    Try(RootTryArgs),
    /// Sign a record that another keeper wrote; needs no agent and no network
    Sign(RootSignArgs),
    /// Hand in a record that enough keepers signed
    Publish(RootPublishArgs),
}

#[derive(Subcommand, Debug)]
pub(crate) enum TrustVerb {
    /// Show the six words of the mesh: two machines of one mesh show the same
    Words,
    /// Leave a mesh that was founded again, so that this machine can join the new one
    #[command(after_help = "\
Examples:
  sudo systemctl stop lab-agent
  sudo lab trust reset --mesh mesh:…    moves the old folder aside, and deletes nothing
  sudo lab join TOKEN")]
    Reset(TrustResetArgs),
}

#[derive(Args, Debug)]
pub(crate) struct TrustResetArgs {
    /// Id of the new mesh, as `lab trust words` shows it on a machine of that mesh
    #[arg(long, value_name = "ID")]
    pub(crate) mesh: String,
}

#[derive(Args, Debug)]
pub(crate) struct RootTryArgs {
    /// A file with the 24 words; without it, they are asked for
    #[arg(long, value_name = "FILE")]
    pub(crate) words_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct RootRotateArgs {
    /// How many root keys there are to be
    #[arg(long, value_name = "COUNT", default_value_t = 2,
        value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) keys: u8,
    /// How many of them sign a record; without it, more than half
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) threshold: Option<u8>,
    /// Write the words of a new key to this new file instead of showing them; once for each key
    #[arg(long = "new-words-file", value_name = "FILE")]
    pub(crate) new_words_files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) ceremony: CeremonyArgs,
}

#[derive(Args, Debug)]
pub(crate) struct RootRegistrarsArgs {
    /// Machines by name; at most 64
    #[arg(
        value_name = "NODE",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    pub(crate) nodes: Vec<String>,
    /// Every member sees joins
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) ceremony: CeremonyArgs,
}

#[derive(Args, Debug)]
pub(crate) struct RootSignArgs {
    /// The record, as another keeper wrote it
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A file with the 24 words of a root key; without it, they are asked for
    #[arg(long, value_name = "FILE")]
    pub(crate) words_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct RootPublishArgs {
    /// The record, signed by enough
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A file with the words of a root key, when no key of an admin or operator is at hand
    #[arg(long, value_name = "FILE")]
    pub(crate) words_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct OperatorKeyArgs {
    /// Who the key belongs to
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Id of the mesh, where no agent runs; `lab trust words` shows it
    #[arg(long, value_name = "ID")]
    pub(crate) mesh: Option<String>,
    /// Keep it without a passphrase
    #[arg(long)]
    pub(crate) no_passphrase: bool,
}

#[derive(Args, Debug)]
pub(crate) struct OperatorAddArgs {
    /// The person or device
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Its public key, as key:…
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// What it may do
    #[arg(
        long = "right",
        value_name = "RIGHT",
        value_delimiter = ',',
        default_value = "labels,config,invite"
    )]
    pub(crate) rights: Vec<String>,
    /// Only paths below this; repeat for more
    #[arg(long = "scope", value_name = "PATH")]
    pub(crate) scopes: Vec<String>,
    /// Until when: a length of time from now
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct OperatorRmArgs {
    /// Its name or key
    #[arg(value_name = "OPERATOR")]
    pub(crate) operator: String,
}

#[derive(Args, Debug)]
pub(crate) struct OperatorSealArgs {
    /// Its name or key
    #[arg(value_name = "OPERATOR")]
    pub(crate) operator: String,
    /// The last change that counts; without it, all of them do
    #[arg(long, value_name = "CHANGE", conflicts_with = "none")]
    pub(crate) until: Option<String>,
    /// None of them counts
    #[arg(long)]
    pub(crate) none: bool,
    /// Only show what came late
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum LabelVerb {
    /// List labels in use and what hangs on them
    List,
    /// Show one label: who has it and what it gives
    Show(LabelShowArgs),
    /// Put labels on machines
    #[command(after_help = "\
Examples:
  lab label add canary -t nuc2
  lab label add role=web site=attic -t 'nuc1,nuc2'")]
    Add(LabelChangeArgs),
    /// Take labels off machines
    #[command(after_help = "\
Examples:
  lab label rm canary -t @canary
  lab label rm role=web -t nuc1 --dry-run")]
    Rm(LabelChangeArgs),
}

#[derive(Args, Debug)]
pub(crate) struct LabelShowArgs {
    /// The label, or a key
    #[arg(value_name = "LABEL")]
    pub(crate) label: String,
}

#[derive(Args, Debug)]
pub(crate) struct LabelChangeArgs {
    /// The labels
    #[arg(value_name = "LABEL", required = true)]
    pub(crate) labels: Vec<String>,
    /// Which machines
    #[arg(short, long, value_name = "QUERY")]
    pub(crate) target: String,
    /// Only show what it would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take over labels that a declaration file owns
    #[arg(long)]
    pub(crate) take: bool,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TargetArgs {
    /// The query
    #[arg(value_name = "QUERY", required = true)]
    pub(crate) query: Vec<String>,
    /// Show which part of the query matched
    #[arg(long)]
    pub(crate) why: bool,
    /// Accept keys, groups and names that nobody has
    #[arg(long)]
    pub(crate) allow_unknown: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Exit 2 when there is something to do
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ScopeArgs {
    /// A declaration file, or a directory of .yaml files; repeat for more
    #[arg(short, long = "file", value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
    /// Which machines to look at; all if left out
    #[arg(short, long, value_name = "QUERY")]
    pub(crate) target: Option<String>,
    /// Take over fields below this path from their owner; repeat for more
    #[arg(long, value_name = "PATH")]
    pub(crate) take: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// How long to watch
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(crate) timeout: String,
    /// Do not watch
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The machine
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
    /// Only this key
    #[arg(value_name = "KEY")]
    pub(crate) key: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) query: QueryArgs,
    /// List machines that are ok too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Exit 2 when something is not ok
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    /// Only changes that touch this name, path or label
    #[arg(value_name = "WORD")]
    pub(crate) word: Option<String>,
    /// How many
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    pub(crate) count: u32,
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<AuditVerb>,
    /// Only records of this machine
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Only what a key, person or user had to do with
    #[arg(long, value_name = "KEY|NAME|UID")]
    pub(crate) who: Option<String>,
    /// Only one kind: change, refused, member, config, alarm, …
    #[arg(long, value_name = "KIND")]
    pub(crate) what: Option<String>,
    /// Only from then on, by the clock of each machine
    #[arg(long, value_name = "2h|TIME")]
    pub(crate) since: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum AuditVerb {
    /// Verify that records are whole chains; exit 1 if not
    Verify(AuditVerifyArgs),
}

#[derive(Args, Debug)]
pub(crate) struct AuditVerifyArgs {
    /// Only the chain of this machine
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// An export (`lab audit -o ndjson`) instead of what is kept here; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct UndoArgs {
    /// The change, as `lab history` shows it; without it, your own last one
    #[arg(value_name = "CHANGE")]
    pub(crate) change: Option<String>,
    /// Show what would stand again, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also where others have changed the same since
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Exit 2 on warnings and failures
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum AgentVerb {
    /// Run the agent in the foreground
    #[command(after_help = "\
Examples:
  sudo lab agent run
  lab agent run --data ./n1 --bind 127.0.0.1:7001 --root ./n1/root --no-lan")]
    Run(AgentRunArgs),
}

#[derive(Args, Debug)]
pub(crate) struct AgentRunArgs {
    /// Address to listen on; repeat for more
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) bind: Vec<SocketAddr>,
    /// Directory under which files are written
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Config file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Do not use the local network to find members
    #[arg(long)]
    pub(crate) no_lan: bool,
    /// What to log: error, warn, info, debug, or a filter
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// Do not let devices of admins and operators ask this machine with --at
    #[arg(long)]
    pub(crate) no_remote_api: bool,
    /// Accept simulated faults over the socket, for tests and the demo
    #[arg(long)]
    pub(crate) allow_faults: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RevokeArgs {
    /// A machine, an operator or a token
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Undo what an operator did from this change on; without it, everything so far stays
    #[arg(long, value_name = "CHANGE")]
    pub(crate) since: Option<String>,
    /// Show what would be undone, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How long to wait for the machines to hear of it
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(crate) timeout: String,
}

#[derive(Args, Debug)]
pub(crate) struct CheckpointArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<CheckpointVerb>,
    #[command(flatten)]
    pub(crate) create: CheckpointCreateArgs,
}

#[derive(Subcommand, Debug)]
pub(crate) enum CheckpointVerb {
    /// Name all that is known here as the history, and sign it
    Create(CheckpointCreateArgs),
    /// List checkpoints, and how many admins stand behind each
    List,
    /// Stand behind the checkpoint of another admin
    Sign(CheckpointSignArgs),
}

#[derive(Args, Debug, Default, Clone, Copy)]
pub(crate) struct CheckpointCreateArgs {
    /// Only show what it would cover
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CheckpointSignArgs {
    /// Which, as `lab checkpoint list` shows it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// End after the story instead of staying up
    #[arg(long)]
    pub(crate) once: bool,
    /// Play in this new directory and keep it
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// How many machines, besides the laptop
    #[arg(long, value_name = "COUNT", default_value_t = 5,
        value_parser = clap::value_parser!(u16).range(3..=50))]
    pub(crate) nodes: u16,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// The whole command line as clap sees it, with examples before the options everywhere.
pub(crate) fn command() -> clap::Command {
    examples_first(Cli::command())
}

fn examples_first(command: clap::Command) -> clap::Command {
    const TEMPLATE: &str =
        "{about-with-newline}\n{usage-heading} {usage}\n{after-help}\n\n{all-args}";
    command
        .help_template(TEMPLATE)
        .mut_subcommands(examples_first)
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        let matches = command().try_get_matches_from([&["lab"], words].concat())?;
        Cli::from_arg_matches(&matches)
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn trailing_words_of_a_read_are_one_query() {
        let cli = parse(&["status", "role=web", "and", "not", "@canary", "-o", "json"]).unwrap();
        let Verb::Status(args) = cli.verb else {
            panic!("status")
        };
        assert_eq!(args.query.query.join(" "), "role=web and not @canary");
        assert_eq!(cli.global.output, Format::Json);
    }

    #[test]
    fn a_change_of_labels_needs_a_target() {
        assert!(parse(&["label", "add", "canary"]).is_err());
        assert!(parse(&["label", "add", "-t", "nuc1"]).is_err());
        assert!(parse(&["label", "add", "canary", "role=web", "-t", "nuc1"]).is_ok());
    }

    #[test]
    fn every_help_text_fits_a_terminal_and_ends_without_a_full_stop() {
        fn walk(command: &clap::Command) {
            let about = command
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(!about.is_empty(), "{}", command.get_name());
            assert!(!about.ends_with('.') && about.len() < 90, "{about}");
            command.get_subcommands().for_each(walk);
        }
        walk(&command());
    }

    #[test]
    fn no_argument_of_a_command_hides_a_global_flag() {
        for words in [
            "init --name home --node n --admin a --label x --words-file f --no-passphrase",
            "join lab1x --laptop --via x --bind 127.0.0.1:1 --no-lan --timeout 1s",
            "join --token-file -",
            "token create nuc4 --label x --ttl 1h --role laptop --witness one --uses 2 --typed --qr",
            "token list",
            "token revoke ab",
            "node list role=web",
            "node show n",
            "node confirm n",
            "node rm n",
            "operator list",
            "operator key --name n",
            "operator add n key:x --right labels --scope on --ttl 1h",
            "operator rm n",
            "label list",
            "label show x",
            "label add x -t all --dry-run --take -m why",
            "label rm x -t all",
            "target all --why --allow-unknown",
            "show all",
            "plan -f x -t all --take on --exit-code",
            "apply -f x -t all --take on --timeout 1s --no-wait -m why",
            "explain n key",
            "status all -a --exit-code",
            "history word -n 3",
            "doctor --exit-code",
            "trust words",
            "trust reset --mesh m",
            "root try --words-file f",
            "agent run --bind 127.0.0.1:1 --root / --config c --no-lan --no-remote-api --log info --allow-faults",
            "revoke n -m why",
            "completion bash",
        ] {
            let globals =
                "--data d --socket s --at n --key k -o json -q --color never --no-input -y";
            let all: Vec<_> = words.split(' ').chain(globals.split(' ')).collect();
            let cli = parse(&all).unwrap_or_else(|error| panic!("{words}: {error}"));
            assert_eq!(cli.global.key, Some("k".into()), "{words}");
            assert!(
                cli.global.yes && cli.global.quiet && cli.global.no_input,
                "{words}"
            );
        }
    }
}
