//! What the two operators of the demo declare.

/// The example fleet.
pub(super) const FLEET: &str = include_str!("../../../../tests/fixtures/fleet/lab.yaml");

/// The label that gives its machines [`CACHE_FILE`].
pub(super) const CACHE: &str = "role=cache";
/// Where the text about a machine stands, below its root folder.
pub(super) const MOTD_FILE: &str = "etc/motd";
/// A file of machines with the label [`CACHE`], below their root folder.
pub(super) const CACHE_FILE: &str = "etc/cache.conf";

/// A second set, with files; `motd` is the text of one of them.
pub(super) fn welcome(motd: &str) -> String {
    format!(
        r#"lab: 1
set: welcome                 # a second set: it owns only what it declares

labels:
  all:
    files:
      "/etc/motd": {{ template: "{motd}\n" }}
  role=web:
    files:
      "/etc/nginx/conf.d/lab.conf": {{ template: "worker_processes {{params.nginx::worker_processes}};\n" }}
  {CACHE}:
    files:
      "/{CACHE_FILE}": {{ template: "name = {{node.name}}\n", mode: "0640" }}

nodes:
  nuc1: {{ params: {{ "profile::base::swappiness": 10 }} }}     # settles role=web (10) against role=dns (1)
"#
    )
}

/// The text that everyone gets at first.
pub(super) const MOTD: &str = "This is {node.name}, one of ours in {site.zone}.";
/// What ana makes of it.
pub(super) const MOTD_ANA: &str = "This is {node.name}. Ana looks after it.";
/// What bob makes of it at the same time.
pub(super) const MOTD_BOB: &str = "This is {node.name}. Bob looks after it.";

#[cfg(test)]
mod tests {
    use lab_crdt_config::{Source, parse};

    use super::*;

    #[test]
    fn everything_that_is_declared_in_the_demo_is_sound() {
        for text in [MOTD, MOTD_ANA, MOTD_BOB]
            .map(welcome)
            .iter()
            .map(String::as_str)
            .chain([FLEET])
        {
            let name = "demo.yaml";
            let (declarations, found) = parse(&[Source { name, text }]);
            assert!(found.is_empty(), "{found:?}");
            assert!(declarations.is_usable());
        }
    }
}
