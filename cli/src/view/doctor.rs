//! Is this machine, and the replica it holds, well?

use lab_crdt_model::Severity;
use lab_crdt_model::time::age;
use lab_crdt_model::view::{Liveness, MemberState};
use lab_crdt_model::words;
use serde::Serialize;

use super::picture::Picture;
use crate::print::count;

/// Clocks that differ by more than this are worth a look, milliseconds.
const SKEW_WARN_MS: u64 = 5_000;
/// Clocks that differ by more than this break expiry, milliseconds.
const SKEW_FAIL_MS: u64 = 60_000;

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Well.
    Ok,
    /// Worth a look.
    Warn,
    /// Wrong.
    Fail,
}

impl Verdict {
    /// The word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) check: &'static str,
    /// How it is.
    pub(crate) state: Verdict,
    /// What was seen.
    pub(crate) detail: String,
    /// What to do or type; empty if nothing.
    pub(crate) fix: String,
}

impl Check {
    /// A check.
    pub(crate) fn new(check: &'static str, state: Verdict, detail: impl Into<String>) -> Self {
        Self {
            check,
            state,
            detail: detail.into(),
            fix: String::new(),
        }
    }

    /// The same check with what to do about it.
    #[must_use]
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }
}

/// What the replica tells about the machine that holds it. `program` is this program's version.
pub(crate) fn checks(picture: &Picture, program: &str) -> Vec<Check> {
    let mut out = vec![
        agent(picture, program),
        membership(picture),
        replica(picture),
    ];
    out.push(links(picture));
    out.push(equality(picture));
    out.extend(clock(picture));
    out.push(refused(picture));
    out.push(config(picture));
    out.push(issues(picture));
    out.push(admins(picture));
    out
}

fn agent(picture: &Picture, program: &str) -> Check {
    let view = &picture.view;
    let detail = format!("version {}, up {}", view.version, age(view.uptime_ms));
    if view.version == program {
        return Check::new("agent", Verdict::Ok, detail);
    }
    Check::new(
        "agent",
        Verdict::Warn,
        format!("{detail}; this program is {program}"),
    )
    .fix("systemctl restart lab-agent")
}

fn membership(picture: &Picture) -> Check {
    let me = picture
        .view
        .members
        .iter()
        .find(|m| m.node == picture.view.me);
    let Some(me) = me else {
        return Check::new("membership", Verdict::Fail, "this machine is not a member")
            .fix("lab join TOKEN");
    };
    match me.state {
        MemberState::Member => {
            Check::new("membership", Verdict::Ok, format!("member as {}", me.name))
        }
        MemberState::Seen => Check::new("membership", Verdict::Warn, "joined, no witness yet")
            .fix("wait, or start another member"),
        MemberState::Probation => Check::new(
            "membership",
            Verdict::Warn,
            format!(
                "on probation; this machine shows: {}",
                words::of_node(&me.node)
            ),
        )
        .fix(format!(
            "compare the words and confirm it on a member: lab node confirm {}",
            me.name
        )),
        MemberState::Suspended => Check::new(
            "membership",
            Verdict::Fail,
            "suspended: its token was used twice",
        )
        .fix("an admin says whose machine it is: lab token resolve ID"),
        MemberState::Expired => {
            Check::new("membership", Verdict::Fail, "its lease is over").fix("lab join TOKEN")
        }
        MemberState::Revoked => Check::new("membership", Verdict::Fail, "revoked"),
    }
}

fn replica(picture: &Picture) -> Check {
    let view = &picture.view;
    let detail = format!(
        "{}, {}",
        count(view.statement_count as usize, "statement"),
        count(view.fields.len(), "field")
    );
    if view.pending_count == 0 {
        return Check::new("replica", Verdict::Ok, detail);
    }
    let waiting = format!(
        "{detail}; {} wait for what they refer to",
        view.pending_count
    );
    Check::new("replica", Verdict::Warn, waiting)
}

fn links(picture: &Picture) -> Check {
    let peers = &picture.view.peers;
    let linked = peers.iter().filter(|p| p.is_linked).count();
    let alive = peers
        .iter()
        .filter(|p| p.liveness == Liveness::Alive)
        .count();
    let detail = format!("{linked} links, {alive} of {} peers alive", peers.len());
    if peers.is_empty() || linked > 0 {
        return Check::new("links", Verdict::Ok, detail);
    }
    Check::new("links", Verdict::Fail, detail).fix("check the network and the firewall (UDP)")
}

fn equality(picture: &Picture) -> Check {
    let linked = || picture.view.peers.iter().filter(|p| p.is_linked);
    let unequal: Vec<_> = linked()
        .filter(|p| p.is_equal == Some(false))
        .map(|p| picture.author(&p.node.author()))
        .collect();
    if unequal.is_empty() {
        let equal = linked().filter(|p| p.is_equal == Some(true)).count();
        return Check::new(
            "sync",
            Verdict::Ok,
            format!("same digest as {equal} linked peers"),
        );
    }
    Check::new(
        "sync",
        Verdict::Warn,
        format!("other digest than {}", unequal.join(", ")),
    )
    .fix("normal for seconds after a change; if it stays: lab doctor there")
}

/// The median difference to the clocks of peers whose beacon came in lately.
fn clock(picture: &Picture) -> Option<Check> {
    let me = picture.view.me;
    let mut skews: Vec<i64> = picture
        .view
        .reports
        .iter()
        .filter(|r| r.node != me)
        .filter_map(|r| r.beacon.as_ref())
        .filter(|(_, at)| picture.view.at.0.saturating_sub(at.0) < super::machine::STALE_MS)
        .map(|(beacon, at)| at.0.cast_signed().wrapping_sub(beacon.wall.0.cast_signed()))
        .collect();
    skews.sort_unstable();
    let middle = *skews.get(skews.len() / 2)?;
    let ms = middle.unsigned_abs();
    let side = if middle > 0 { "ahead of" } else { "behind" };
    let detail = format!("{} {side} {} peers", age(ms), skews.len());
    let state = match ms {
        ms if ms > SKEW_FAIL_MS => Verdict::Fail,
        ms if ms > SKEW_WARN_MS => Verdict::Warn,
        _ => return Some(Check::new("clock", Verdict::Ok, "agrees with peers")),
    };
    Some(Check::new("clock", state, detail).fix("timedatectl set-ntp true"))
}

fn refused(picture: &Picture) -> Check {
    let hour = 3_600_000;
    let recent = |at: u64| picture.view.at.0.saturating_sub(at) < hour;
    let lately: Vec<_> = picture
        .view
        .refused
        .iter()
        .filter(|r| recent(r.at.0))
        .collect();
    match lately.first() {
        None => Check::new(
            "refused",
            Verdict::Ok,
            "no statement was refused within an hour",
        ),
        Some(last) => {
            let from = last.from.map_or("the local socket".to_owned(), |n| {
                picture.author(&n.author())
            });
            let detail = format!(
                "{} within an hour, the last from {from}: {}",
                lately.len(),
                last.why
            );
            Check::new("refused", Verdict::Warn, detail)
        }
    }
}

fn config(picture: &Picture) -> Check {
    let Some(machine) = picture.machines.iter().find(|m| m.is_me && m.is_node()) else {
        return Check::new("config", Verdict::Ok, "this device takes on no config");
    };
    let pillar = picture.sync(machine);
    let detail = [vec![pillar.word.to_owned()], pillar.detail.clone()]
        .concat()
        .join(": ");
    let state = match pillar.grade {
        super::status::Grade::None | super::status::Grade::Ok | super::status::Grade::Info => {
            Verdict::Ok
        }
        super::status::Grade::Warn | super::status::Grade::Unknown => Verdict::Warn,
        super::status::Grade::Bad | super::status::Grade::Worst => Verdict::Fail,
    };
    let check = Check::new("config", state, detail);
    if state == Verdict::Ok {
        check
    } else {
        check.fix(format!("lab explain {}", machine.name))
    }
}

fn issues(picture: &Picture) -> Check {
    let worth: Vec<_> = picture
        .issues
        .iter()
        .filter(|i| i.severity > Severity::Info)
        .collect();
    match worth.first() {
        None => Check::new("data", Verdict::Ok, "nothing in the replica is amiss"),
        Some(first) => {
            let more = match worth.len() - 1 {
                0 => String::new(),
                n => format!(" (and {n} more)"),
            };
            let detail = format!("{} {}: {}{more}", first.code, first.subject, first.message);
            Check::new("data", Verdict::Warn, detail).fix(first.help.clone())
        }
    }
}

fn admins(picture: &Picture) -> Check {
    let count = picture
        .view
        .operators
        .iter()
        .filter(|o| o.is_admin && !o.is_revoked)
        .count();
    match count {
        0 => Check::new("admins", Verdict::Fail, "no admin is left")
            .fix("lab operator key, then with the root words: lab admin add NAME KEY"),
        n => Check::new("admins", Verdict::Ok, crate::print::count(n, "admin key")),
    }
}

#[cfg(test)]
mod tests {
    use lab_crdt_model::Wall;

    use super::*;
    use crate::view::sample;

    fn state(checks: &[Check], name: &str) -> Verdict {
        checks.iter().find(|c| c.check == name).unwrap().state
    }

    #[test]
    fn a_healthy_machine_has_nothing_to_fix() {
        let picture = sample::fleet().in_sync("a").picture();
        let checks = checks(&picture, "0.1.0");
        let bad: Vec<_> = checks
            .iter()
            .filter(|c| c.state != Verdict::Ok || !c.fix.is_empty())
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
    }

    #[test]
    fn a_wrong_clock_is_noticed_by_the_beacons_of_others() {
        let mut fleet = sample::fleet();
        for report in &mut fleet.view.reports {
            report.beacon.as_mut().unwrap().0.wall = Wall(fleet.view.at.0 + 120_000);
        }
        let checks = checks(&fleet.picture(), "0.1.0");
        assert_eq!(state(&checks, "clock"), Verdict::Fail);
    }

    #[test]
    fn a_machine_without_links_and_with_another_version_is_told() {
        let mut fleet = sample::fleet();
        fleet
            .view
            .peers
            .iter_mut()
            .for_each(|p| p.is_linked = false);
        let checks = checks(&fleet.picture(), "9.9.9");
        assert_eq!(state(&checks, "links"), Verdict::Fail);
        assert_eq!(state(&checks, "agent"), Verdict::Warn);
    }
}
