//! What can be asked of a running router, one line each.

use crate::profile::{Profile, number};

/// A line that was understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// `profile WORDS`: every pair is like this now.
    Profile(Profile),
    /// `pair FROM TO WORDS`: this directed pair is.
    Pair(usize, usize, Profile),
    /// `partition 0,1/2,3`: the groups do not reach each other.
    Partition(Vec<Vec<usize>>),
    /// `block FROM TO`, `unblock FROM TO`.
    Block(usize, usize, bool),
    /// `heal`: nothing is blocked any more.
    Heal,
    /// `stats`: a line per pair, and one about the router.
    Stats,
}

impl Command {
    /// Reads a line for a router of this many hosts.
    pub(crate) fn parse(line: &str, hosts: usize) -> Result<Self, String> {
        let host = |text: &str| -> Result<usize, String> {
            let most = (hosts as u64).saturating_sub(1);
            Ok(number(text, most)? as usize)
        };
        let (verb, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let two = || -> Result<(usize, usize, &str), String> {
            let mut words = rest.splitn(3, ' ');
            let mut next = || words.next().unwrap_or_default();
            Ok((host(next())?, host(next())?, next()))
        };
        match verb {
            "profile" => Ok(Self::Profile(rest.parse()?)),
            "pair" => {
                let (from, to, words) = two()?;
                Ok(Self::Pair(from, to, words.parse()?))
            }
            "partition" => {
                let group = |text: &str| text.split(',').map(|h| host(h.trim())).collect();
                let groups: Result<Vec<_>, String> = rest.split('/').map(group).collect();
                Ok(Self::Partition(groups?))
            }
            "block" | "unblock" => {
                let (from, to, _) = two()?;
                Ok(Self::Block(from, to, verb == "block"))
            }
            "heal" => Ok(Self::Heal),
            "stats" => Ok(Self::Stats),
            _ => Err(format!("{verb}: no such command")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_understood() {
        let parse = |line| Command::parse(line, 4).unwrap();
        assert_eq!(
            parse("partition 0,1/2, 3"),
            Command::Partition(vec![vec![0, 1], vec![2, 3]])
        );
        assert_eq!(parse("block 1 2"), Command::Block(1, 2, true));
        assert_eq!(parse("unblock 1 2"), Command::Block(1, 2, false));
        assert_eq!(parse("heal"), Command::Heal);
        assert_eq!(parse(" stats "), Command::Stats);
        let profile: Profile = "loss=5 jitter=1..2".parse().unwrap();
        assert_eq!(
            parse("profile loss=5 jitter=1..2"),
            Command::Profile(profile.clone())
        );
        assert_eq!(
            parse("pair 0 3 loss=5 jitter=1..2"),
            Command::Pair(0, 3, profile)
        );
    }

    #[test]
    fn hosts_that_do_not_exist_are_refused() {
        for bad in [
            "block 0 4",
            "partition 0/4",
            "pair 4 0 loss=1",
            "block 1",
            "dance",
            "",
        ] {
            assert!(Command::parse(bad, 4).is_err(), "{bad}");
        }
    }
}
