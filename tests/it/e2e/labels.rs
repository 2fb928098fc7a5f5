//! From a label to files on a machine, and back.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{LATER, SOON, TestLab};

const WEB: &str = r#"
lab: 1
set: web
labels:
  role=web:
    params: { greeting: hello }
    files:
      /etc/motd: { template: "{params.greeting} from {node.name}\n", mode: "0640" }
      /srv/www/index.html: { content: "<p>it works</p>\n" }
"#;

#[test]
fn files_appear_under_the_root_and_go_when_the_label_goes() {
    let lab = TestLab::of(2);
    let root = &lab.agents[1].root;
    let (motd, index) = (root.join("etc/motd"), root.join("srv/www/index.html"));
    let read = |path: &std::path::Path| std::fs::read_to_string(path).ok();
    let file = lab.write("web.yaml", WEB);
    lab.cli(0, &["apply", "-f", &file, "-y"]).ok();
    assert_eq!(read(&motd), None);

    let ours = root.join("srv/www/ours.html");
    lab.cli(0, &["label", "add", "role=web", "-t", "n2"]).ok();
    lab.until("the files are there", SOON, || {
        read(&motd).is_some() && read(&index).is_some()
    });
    assert_eq!(read(&motd).unwrap(), "hello from n2\n");
    assert_eq!(
        motd.metadata().unwrap().permissions().mode() & 0o7777,
        0o640
    );
    assert!(!lab.agents[0].root.join("etc/motd").exists());
    lab.until("the founder knows that it is done", SOON, || {
        lab.cli(0, &["status", "n2", "--exit-code", "-q"]).code == 0
    });

    // What somebody changed or removed by hand is put back, without anybody asking for it.
    std::fs::write(&ours, "by hand").unwrap();
    std::fs::write(&motd, "changed by hand").unwrap();
    std::fs::remove_file(&index).unwrap();
    lab.until("the files are put back", LATER, || {
        read(&motd).as_deref() == Some("hello from n2\n") && read(&index).is_some()
    });

    // When the label goes, what we wrote goes, and what we did not write stays.
    lab.cli(0, &["label", "rm", "role=web", "-t", "n2"]).ok();
    lab.until("the files are gone", SOON, || {
        read(&motd).is_none() && read(&index).is_none()
    });
    assert_eq!(read(&ours).unwrap(), "by hand");
}

#[test]
fn a_file_says_what_the_machine_is() {
    let lab = TestLab::of(2);
    let release = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .unwrap_or_default();
    let line = release.lines().find_map(|line| line.strip_prefix("ID="));
    let system = line.unwrap_or("linux").trim_matches(['"', '\'']).to_owned();
    let declared = "
lab: 1
set: facts
labels:
  all:
    files:
      /etc/motd: { template: \"{node.name} {fact.os.name} {node.kind} {fact.cpu.cores} {node.provider}\\n\" }
      /etc/never: { template: \"{fact.nothing}\\n\" }
nodes:
  n2: { provider: home }
";
    let file = lab.write("facts.yaml", declared);
    lab.cli(0, &["apply", "-f", &file, "-y", "--no-wait"]);
    let motd = lab.agents[1].root.join("etc/motd");
    let read = || std::fs::read_to_string(&motd).unwrap_or_default();
    lab.until("the file is there", SOON, || !read().is_empty());
    let said = read();
    assert!(said.starts_with(&format!("n2 {system} node ")), "{said}");
    assert!(said.ends_with(" home\n") && !said.contains('{'), "{said}");
    assert!(!lab.agents[1].root.join("etc/never").exists());

    lab.until(
        "the founder knows what n2 is and says the same",
        SOON,
        || {
            let shown = lab.cli(0, &["explain", "n2", "/etc/motd"]);
            shown.out.contains(said.trim_end())
        },
    );
    let never = lab.cli(0, &["explain", "n2", "/etc/never"]).said();
    assert!(never.contains("no such value"), "{never}");
    // Not known for n1, which nobody declared.
    let other = lab.cli(0, &["explain", "n1", "/etc/motd"]).said();
    assert!(other.contains("{node.provider}"), "{other}");

    let query = format!("fact.os.name={system} and has fact.disk.count");
    lab.until("both are found by what they are", SOON, || {
        lab.cli(0, &["target", &query, "-o", "name"]).out == "n1\nn2\n"
    });
    let shown = lab.cli(0, &["node", "show", "n2", "-o", "json"]).json();
    let facts = &shown["data"]["facts"];
    assert_eq!(facts["os_name"], system.as_str(), "{shown}");
    assert!(facts["machine"]["disks"].is_array(), "{shown}");
}

#[test]
fn a_file_that_was_changed_since_we_wrote_it_is_not_removed() {
    let lab = TestLab::of(1);
    let motd = lab.agents[0].root.join("etc/motd");
    let read = || std::fs::read_to_string(&motd).ok();
    let file = lab.write("web.yaml", WEB);
    lab.cli(0, &["apply", "-f", &file, "-y"]).ok();
    lab.cli(0, &["label", "add", "role=web", "-t", "n1"]).ok();
    lab.until("the file is there", SOON, || read().is_some());
    let wanted = read();

    // Changed while the agent is away, and no longer wanted when it comes back: it is somebody's work now.
    lab.cli(0, &["label", "rm", "role=web", "-t", "n1", "--dry-run"])
        .ok();
    lab.kill(0);
    std::fs::write(&motd, "precious").unwrap();
    lab.start(0);
    lab.until("it is put back", SOON, || read() == wanted);
    std::fs::write(&motd, "precious").unwrap();
    lab.cli(0, &["label", "rm", "role=web", "-t", "n1"]).ok();
    lab.until("the other file is gone", SOON, || {
        !lab.agents[0].root.join("srv/www/index.html").exists()
    });
    assert_eq!(read().as_deref(), Some("precious"));
}

#[test]
fn a_changed_declaration_changes_the_file_on_every_machine_that_has_the_label() {
    let lab = TestLab::of(3);
    let motd = |at: usize| {
        std::fs::read_to_string(lab.agents[at].root.join("etc/motd")).unwrap_or_default()
    };
    let file = lab.write("web.yaml", WEB);
    lab.cli(0, &["label", "add", "role=web", "-t", "n1,n3"])
        .ok();
    lab.cli(0, &["apply", "-f", &file, "-y"]).ok();
    assert_eq!(
        (motd(0), motd(2)),
        ("hello from n1\n".to_owned(), "hello from n3\n".to_owned())
    );

    lab.write(
        "web.yaml",
        &WEB.replace("greeting: hello", "greeting: good day"),
    );
    let plan = lab
        .cli(1, &["plan", "-f", &file, "--exit-code"])
        .ends_with(2);
    assert!(
        plan.out.contains("good day") && !plan.out.contains("n2 "),
        "{}",
        plan.out
    );
    let ran = lab.cli(1, &["apply", "-f", &file, "-y", "-o", "json"]);
    let done = ran.clone().ends_with(0).json();
    assert_eq!(done["data"]["counts"]["done"], 2, "{}", ran.out);
    assert_eq!(
        (motd(0), motd(2)),
        (
            "good day from n1\n".to_owned(),
            "good day from n3\n".to_owned()
        )
    );
    assert_eq!(motd(1), "");

    let again = lab.cli(1, &["plan", "-f", &file, "--exit-code"]).ok();
    assert!(again.contains("nothing to do"), "{again}");
}

#[test]
fn a_change_is_taken_back_and_others_are_not_overwritten() {
    let lab = TestLab::of(2);
    let bob = lab.operator("bob", &[]);
    lab.cli(0, &["label", "add", "role=web", "site=attic", "-t", "n2"])
        .ok();
    lab.cli(0, &["label", "rm", "role=web", "-t", "n2"]).ok();
    lab.until_whole();
    assert!(!lab.has_label(1, "n2", "role=web"));

    let shown = lab.cli(0, &["undo", "--dry-run"]).said();
    assert!(
        shown.contains("label/n2/role=web") && shown.contains("comes back"),
        "{shown}"
    );
    assert_eq!(shown.matches("plan ").count(), 1, "{shown}");
    assert!(
        !lab.has_label(0, "n2", "role=web"),
        "nothing is changed by looking"
    );
    lab.cli(0, &["undo", "-y"]).ok();
    lab.until("it stands again", SOON, || {
        lab.has_label(1, "n2", "role=web")
    });
    assert!(lab.has_label(1, "n2", "site=attic"));

    // Of somebody else, by its name; and not over what a third one wrote since.
    lab.cli_as(&bob, 1, &["label", "add", "canary", "-t", "n1"])
        .ok();
    lab.until_whole();
    let change = lab.cli(0, &["history", "-n", "1", "-o", "name"]).ok();
    let change = change.trim();
    lab.cli(0, &["label", "rm", "canary", "-t", "n1"]).ok();
    lab.cli(0, &["label", "add", "canary", "-t", "n1"]).ok();
    let ran = lab.cli(0, &["undo", change, "-y"]).ends_with(7);
    assert!(
        ran.err.contains("error[M037]") && ran.err.contains("ana has changed"),
        "{}",
        ran.err
    );
    assert!(lab.has_label(0, "n1", "canary"));
    lab.cli(0, &["undo", change, "-y", "--force"]).ok();
    assert!(!lab.has_label(0, "n1", "canary"));
    for (args, code) in [
        (vec!["undo", "nosuch", "-y"], "M027"),
        (
            vec!["undo", change, "-y", "--no-input", "--key", "/nowhere"],
            "K002",
        ),
    ] {
        let ran = lab.cli(0, &args);
        assert!(ran.err.contains(&format!("error[{code}]")), "{}", ran.err);
    }
}
