//! `lab token`: lets machines and laptops in.

use std::net::SocketAddr;

use lab_agent_api::ViewMask;
use lab_crdt_log::{Body, Confirm, Invite, Revoke, Rights, TokenKeys, WitnessRule, token_id};
use lab_crdt_model::limit::TOKEN_MS_MAX;
use lab_crdt_model::token::{Seed, Ticket, print_typed};
use lab_crdt_model::view::{MemberState, MemberView, Role};
use lab_crdt_model::{Binding, Mac, NodeId, Wall, hardware, words};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::{Value as Json, json};

use super::apply::duration;
use super::{Context, label, node, operator, revoke};
use crate::args::{RoleArg, TokenCreateArgs, TokenResolveArgs, TokenVerb};
use crate::entropy;
use crate::error::{CommandError, Exit};
use crate::print::token::TokenList;
use crate::print::{Report, Style, hex};
use crate::session::Session;
use crate::view::picture::Picture;
use crate::view::token::{find, tokens};

/// Stands for the MAC address with which a machine is declared.
const DECLARED: &str = "declared";
/// Most addresses that a pasted token carries.
const ADDRESSES_MAX: usize = 4;

/// Runs the verb.
pub(super) async fn run(context: Context<'_>, verb: TokenVerb) -> Result<Exit, CommandError> {
    match verb {
        TokenVerb::Create(args) => create(context, args).await,
        TokenVerb::List => {
            let session = Session::open(context.global, context.ui).await?;
            let picture = session.picture().await?;
            let list = TokenList(tokens(&picture));
            Ok(context.finish(&list, picture.envelope(None), Exit::Done))
        }
        TokenVerb::Revoke(args) => revoke::ticket(context, &args.id).await,
        TokenVerb::Resolve(args) => resolve(context, &args).await,
    }
}

/// Ends a double use: some of those who joined are confirmed, the others revoked.
async fn resolve(context: Context<'_>, args: &TokenResolveArgs) -> Result<Exit, CommandError> {
    let ui = context.ui;
    let session = Session::open(context.global, ui).await?;
    let picture = session.picture().await?;
    let invite = find(&picture, &args.id)?;
    let joined: Vec<&MemberView> = picture
        .view
        .members
        .iter()
        .filter(|m| invite.used_by.contains(&m.node) && m.state != MemberState::Revoked)
        .collect();
    if !joined.iter().any(|m| m.state == MemberState::Suspended) {
        let what = format!("token {} was not used more often than it may", invite.token);
        return Err(CommandError::new(Exit::Refused, "M034", what).hint("lab token list"));
    }
    ui.insist(&format!(
        "{} joined with token {}:",
        joined.len(),
        invite.token
    ));
    for member in &joined {
        let key_words = words::of_node(&member.node);
        ui.insist(&format!("  {}  {key_words}", member.name));
    }
    let mut kept = args.keep.clone();
    if kept.is_empty() && !args.keep_none {
        let typed = ui.ask("Whose console shows its words? Its name, or none:")?;
        kept.extend(Some(typed.trim().to_owned()).filter(|name| name != "none"));
    }
    let is_called = |m: &MemberView, name: &String| m.name == *name || m.node.to_string() == *name;
    if let Some(name) = kept
        .iter()
        .find(|name| !joined.iter().any(|m| is_called(m, name)))
    {
        let what = format!("`{name}` did not join with token {}", invite.token);
        return Err(CommandError::new(Exit::NoMatch, "M035", what));
    }
    if kept.len() > usize::try_from(invite.uses_max).unwrap_or(usize::MAX) {
        let what = format!("the token was for {}", invite.uses_max);
        return Err(CommandError::new(Exit::Refused, "M035", what));
    }
    let (stay, go): (Vec<&MemberView>, Vec<&MemberView>) = joined
        .into_iter()
        .partition(|m| kept.iter().any(|name| is_called(m, name)));
    let signer = session.signer(&picture.view)?;
    signer.admin_only()?;
    let names = |list: &[&MemberView]| {
        let names: Vec<&str> = list.iter().map(|m| m.name.as_str()).collect();
        if names.is_empty() {
            "nobody".to_owned()
        } else {
            names.join(", ")
        }
    };
    if !ui.confirm(&format!("{} stays, {} goes?", names(&stay), names(&go)))? {
        return Ok(Exit::Refused);
    }
    let mut bodies: Vec<Body> = Vec::new();
    for member in &go {
        bodies.push(Body::Revoke(Revoke {
            key: member.node.author(),
            head: revoke::newest(&session, member.node.author()).await?,
            reason: format!("token {} was used twice", invite.token),
        }));
    }
    let confirm = |m: &&MemberView| Body::Confirm(Confirm { join: m.join });
    bodies.extend(stay.iter().map(confirm));
    session.submit(&signer, bodies).await?;
    let tick = ui.paint().green("✓");
    ui.say(&format!(
        "{tick} {} stays, {} is revoked",
        names(&stay),
        names(&go)
    ));
    Ok(Exit::Done)
}

async fn create(context: Context<'_>, args: TokenCreateArgs) -> Result<Exit, CommandError> {
    let mut invite = invite(&args)?;
    let session = Session::open(context.global, context.ui).await?;
    let picture = Picture::new(session.view(ViewMask::ALL).await?);
    let info = session
        .client
        .info()
        .await
        .map_err(|e| crate::session::client_error(&e))?;
    let signer = session.signer(&picture.view)?;
    signer.allow("invite", &[])?;
    if let Some(taken) = invite
        .name
        .as_ref()
        .filter(|name| picture.machine(name).is_some_and(|m| m.member.is_some()))
    {
        let message = format!("a machine is called {taken} already");
        return Err(CommandError::new(Exit::Refused, "M026", message)
            .hint(format!("lab node rm {taken}, or another name")));
    }

    if args.mac.as_deref() == Some(DECLARED) {
        let mac = Some(declared_mac(&picture, args.name.as_deref())?);
        invite
            .binding
            .get_or_insert(Binding { mac, serial: None })
            .mac = mac;
    }
    let seed = if args.typed {
        Seed::Typed(entropy::bytes()?)
    } else {
        Seed::Long(entropy::bytes()?)
    };
    let keys = TokenKeys::derive(&seed);
    invite.witness = witness(&picture, &args.witness)?;
    invite.not_after = Wall(picture.view.at.0.saturating_add(ttl_ms(&args.ttl)?));
    invite.token_key = keys.public();
    invite.mesh_mac = keys.mesh_mac(&picture.view.mesh);
    let not_after = invite.not_after;
    let binding = invite.binding.as_ref().map(ToString::to_string);
    let labels: Vec<_> = invite.labels.iter().map(ToString::to_string).collect();
    let bytes = session.sign_one(&signer, Body::Invite(invite)).await?;
    let ids = session.client.submit(bytes.clone()).await;
    ids.map_err(|error| crate::session::client_error(&error))?;

    let ticket = Ticket {
        seed: seed.clone(),
        mesh: picture.view.mesh,
        not_after_s: u32::try_from(not_after.0 / 1000).unwrap_or(u32::MAX),
        addresses: addresses(&picture, &info.addresses),
        invite: bytes.last().map(|b| b.to_vec()).unwrap_or_default(),
    };
    let text = match &seed {
        Seed::Typed(seed) => print_typed(seed),
        Seed::Long(_) => ticket.print().unwrap_or_default(),
    };
    let report = NewToken {
        id: hex(&token_id(&keys.public()), 8),
        qr: if args.qr { Some(qr(&text)?) } else { None },
        token: text,
        expires: not_after,
        uses: args.uses,
        is_strict: args.witness != "any",
        labels,
        binding,
        mesh_words: words::of_mesh(&picture.view.mesh),
    };
    context.ui.say(&report.advice(&args));
    Ok(context.finish(&report, picture.envelope(None), Exit::Done))
}

/// What the flags say, without what only the mesh and the token know.
fn invite(args: &TokenCreateArgs) -> Result<Invite, CommandError> {
    if let Some(name) = &args.name {
        operator::name(name)?;
        if args.uses != 1 {
            let message = "a token with a name has one use (--uses)";
            return Err(CommandError::usage(message)
                .hint("leave the name out, or make one token per machine"));
        }
    }
    let uses_max = u16::try_from(args.uses)
        .ok()
        .filter(|n| (1..=100).contains(n));
    let uses_max = uses_max.ok_or_else(|| {
        CommandError::usage(format!("--uses is 1 to 100, not {}", args.uses))
            .hint("make several tokens: lab token create")
    })?;
    let is_laptop = args.role == RoleArg::Laptop;
    if !is_laptop && (!args.rights.is_empty() || !args.scopes.is_empty()) {
        return Err(
            CommandError::usage("--right and --scope go with --role laptop")
                .hint("lab token create NAME --role laptop --right labels"),
        );
    }
    let rights = match (is_laptop, args.rights.as_slice()) {
        (false, _) => Rights::default(),
        (true, []) => Rights::LABELS.and(Rights::CONFIG),
        (true, names) => operator::rights(names)?,
    };
    let scope = match (is_laptop, args.scopes.as_slice()) {
        (false, _) => Vec::new(),
        (true, []) => vec![String::new()],
        (true, scopes) => scopes.to_vec(),
    };
    let lease = duration("--lease", &args.lease)?.as_millis();
    let labels = args
        .labels
        .iter()
        .map(|l| label::parse(l))
        .collect::<Result<Vec<_>, _>>()?;
    if labels.len() > 64 {
        return Err(CommandError::usage("a token gives at most 64 labels")
            .hint("add more later: lab label add LABEL -t NODE"));
    }
    ttl_ms(&args.ttl)?;
    let mac = args.mac.as_deref().filter(|text| *text != DECLARED);
    let mac = mac.map(|text| {
        text.parse::<Mac>()
            .map_err(|error| CommandError::usage(format!("--mac {text}: {error}")))
    });
    let binding = Binding {
        mac: mac.transpose()?,
        serial: args.serial.as_ref().map(|s| s.trim().to_owned()),
    };
    if binding
        .serial
        .as_deref()
        .is_some_and(|s| !hardware::is_serial(s))
    {
        let message = "a serial number is 1 to 64 letters, digits and signs of ASCII";
        return Err(
            CommandError::usage(message).hint("it stands in /sys/class/dmi/id/product_serial")
        );
    }
    let is_bound = binding.is_within_limits();
    if (is_bound || args.mac.is_some()) && args.uses != 1 {
        let message = "a token for one machine has one use (--uses)";
        return Err(CommandError::usage(message).hint("make one token per machine"));
    }
    Ok(Invite {
        token_key: [0; 32],
        uses_max,
        not_after: Wall(0),
        role: if is_laptop { Role::Laptop } else { Role::Node },
        name: args.name.clone(),
        labels,
        rights,
        scope,
        lease_ms: if is_laptop {
            u64::try_from(lease).unwrap_or(u64::MAX)
        } else {
            0
        },
        witness: WitnessRule::Any,
        confirm: args.confirm,
        mesh_mac: [0; 32],
        binding: Some(binding).filter(|_| is_bound),
    })
}

/// The MAC address with which a machine is declared.
fn declared_mac(picture: &Picture, name: Option<&str>) -> Result<Mac, CommandError> {
    let name = name.ok_or_else(|| {
        CommandError::usage("--mac declared goes with the name of a declared machine")
            .hint("lab token create NAME --mac declared")
    })?;
    let mac = node::find(picture, name)?.declared.get("mac");
    mac.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let message = format!("{name} is declared without a MAC address");
        CommandError::new(Exit::NoMatch, "M038", message).hint("lab token create NAME --mac MAC")
    })
}

fn ttl_ms(text: &str) -> Result<u64, CommandError> {
    let ms = u64::try_from(duration("--ttl", text)?.as_millis()).unwrap_or(u64::MAX);
    if (1..=TOKEN_MS_MAX).contains(&ms) {
        return Ok(ms);
    }
    Err(
        CommandError::usage(format!("a token lasts at most 7d, not {text}"))
            .hint("write it like 30m, 12h or 7d; make a new one when it has expired"),
    )
}

fn witness(picture: &Picture, text: &str) -> Result<WitnessRule, CommandError> {
    match text.split_once('=') {
        None if text == "any" => Ok(WitnessRule::Any),
        None if text == "quorum" => Ok(WitnessRule::Quorum),
        None if text == "one" => Ok(WitnessRule::One(picture.view.me)),
        Some(("one", name)) => match &node::find(picture, name)?.member {
            Some(member) => Ok(WitnessRule::One(member.node)),
            None => {
                let message = format!("{name} is declared and never joined: it can see no join");
                Err(CommandError::new(Exit::Refused, "M022", message))
            }
        },
        None | Some(_) => Err(CommandError::usage(format!(
            "--witness is any, one, one=NODE or quorum, not `{text}`"
        ))
        .hint("any: works in any partition; one=NODE: at most one use, and that node must be up")
        .hint("quorum: at most one use, and most registrars must be up")),
    }
}

/// Where the joiner can ask: this machine first, then others that were heard lately.
fn addresses(picture: &Picture, own: &[SocketAddr]) -> Vec<(NodeId, SocketAddr)> {
    let me = picture.view.me;
    let own = own.iter().take(2).map(|address| (me, *address));
    let others = picture
        .machines
        .iter()
        .filter(|m| m.is_node() && !m.is_me && m.is_heard());
    let others = others.filter_map(|m| {
        let member = m.member.as_ref()?;
        Some((member.node, *m.beacon.as_ref()?.addresses.first()?))
    });
    own.chain(others).take(ADDRESSES_MAX).collect()
}

fn qr(text: &str) -> Result<String, CommandError> {
    // Upper case is a denser alphabet of QR codes; bech32 and typed tokens read the same in it.
    let code = QrCode::new(text.to_uppercase()).map_err(|error| {
        CommandError::new(Exit::Failed, "C022", "draw the QR code").because(&error)
    })?;
    Ok(code.render::<Dense1x2>().quiet_zone(true).build())
}

struct NewToken {
    id: String,
    token: String,
    qr: Option<String>,
    expires: Wall,
    uses: u32,
    is_strict: bool,
    labels: Vec<String>,
    binding: Option<String>,
    mesh_words: String,
}

impl NewToken {
    fn advice(&self, args: &TokenCreateArgs) -> String {
        let uses = if self.uses == 1 {
            "once".to_owned()
        } else {
            format!("{} times", self.uses)
        };
        let honest = if self.is_strict {
            ""
        } else {
            " (per partition)"
        };
        let join = if args.typed {
            format!("lab join {}", self.token)
        } else {
            "lab join TOKEN".to_owned()
        };
        let only = match &self.binding {
            Some(binding) => format!(", only for the machine with {binding}"),
            None => String::new(),
        };
        format!(
            "good {uses}{honest}{only}, until {}; id {}\non the new machine: {join}\nit will show: {}",
            self.expires, self.id, self.mesh_words
        )
    }
}

impl Report for NewToken {
    fn schema(&self) -> &'static str {
        "lab.token/v1"
    }

    fn data(&self) -> Json {
        json!({
            "id": self.id,
            "token": self.token,
            "max_uses": self.uses,
            "strict": self.is_strict,
            "expires": self.expires.to_string(),
            "labels": self.labels,
            "binding": self.binding,
            "mesh_words": self.mesh_words,
        })
    }

    fn names(&self) -> Vec<String> {
        vec![self.id.clone()]
    }

    fn text(&self, _style: &Style) -> String {
        match &self.qr {
            Some(qr) => format!("{}\n{qr}\n", self.token),
            None => format!("{}\n", self.token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    #[test]
    fn a_witness_is_any_or_one_machine() {
        let picture = sample::fleet().set_true("node/new1").picture();
        assert_eq!(witness(&picture, "any").unwrap(), WitnessRule::Any);
        assert_eq!(
            witness(&picture, "one").unwrap(),
            WitnessRule::One(sample::node("a"))
        );
        assert_eq!(
            witness(&picture, "one=b").unwrap(),
            WitnessRule::One(sample::node("b"))
        );
        assert_eq!(witness(&picture, "one=zz").unwrap_err().exit, Exit::NoMatch);
        assert_eq!(
            witness(&picture, "one=new1").unwrap_err().exit,
            Exit::Refused
        );
        assert_eq!(witness(&picture, "two").unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_declared_machine_says_which_mac_its_token_is_for() {
        let picture = sample::fleet()
            .set_true("node/new1")
            .set("node/new2/mac", "52:54:00:12:34:56")
            .set_true("node/new2")
            .picture();
        let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(declared_mac(&picture, Some("new2")).unwrap(), mac);
        assert_eq!(
            declared_mac(&picture, Some("new1")).unwrap_err().code,
            "M038"
        );
        assert_eq!(
            declared_mac(&picture, Some("zz")).unwrap_err().exit,
            Exit::NoMatch
        );
        assert_eq!(declared_mac(&picture, None).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_token_lasts_a_week_at_most() {
        assert_eq!(ttl_ms("30m").unwrap(), 1_800_000);
        assert!(ttl_ms("8d").is_err() && ttl_ms("0s").is_err() && ttl_ms("soon").is_err());
    }

    #[test]
    fn silent_machines_are_no_help_to_a_joiner() {
        let picture = sample::fleet().silent("b", 400_000).picture();
        let given = addresses(&picture, &["10.0.0.9:1".parse().unwrap()]);
        let nodes: Vec<_> = given.iter().map(|(node, _)| *node).collect();
        assert_eq!(nodes, ["a", "c", "d"].map(sample::node));
    }
}
