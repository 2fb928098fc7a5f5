//! The grammar, its normal form and its errors.

use super::*;

fn normal(text: &str) -> String {
    parse(text)
        .unwrap_or_else(|e| panic!("{}", e.render("query", text)))
        .to_string()
}

fn rendered(text: &str) -> String {
    parse(text).expect_err(text).render("query", text)
}

fn code(text: &str) -> &'static str {
    parse(text).map_or_else(|e| e.code, |_| "none")
}

#[test]
fn a_mixed_list_is_refused_with_its_place() {
    let want = "\
error[Q019]: a comma list is either all conditions or all names
  ╭─ query
  │ env=prod,nuc1
  ·          ─┬──
  ·           ╰─ this is a name, the items before it are conditions
  ╰─ help: use `and` / `or`, or write `name=nuc1`
";
    assert_eq!(rendered("env=prod,nuc1"), want);
}

#[test]
fn two_terms_need_a_connective() {
    let want = "\
error[Q012]: expected `and`, `or` or `except` here
  ╭─ query
  │ role=web site=home
  ·          ─┬──
  ·           ╰─ a second term starts here
  ╰─ help: join the two terms: `… and site=home`
";
    assert_eq!(rendered("role=web site=home"), want);
}

#[test]
fn a_tilde_expanded_by_the_shell_is_recognised() {
    for text in [
        "name=/root/^nuc/",
        "node.name=/home/me/^nuc/i",
        "role=/root/web/",
        "name!=/x",
    ] {
        assert_eq!(code(text), "Q041", "{text}");
    }
    for text in [
        "name=~/^nuc/",
        "role=/srv/web/",
        "role=/home/me/web",
        "name=\"/x\"",
    ] {
        assert_eq!(code(text), "none", "{text}");
    }
}

#[test]
fn the_loosest_connective_subtracts_last() {
    let expr = parse("role=web or role=dns except site=attic").unwrap();
    assert!(matches!(&expr.root, Node::Except(items) if matches!(items[0], Node::Or(_))));
    assert_eq!(
        expr.reads_as().as_deref(),
        Some("(role=web or role=dns) except site=attic")
    );
}

#[test]
fn mixed_connectives_are_echoed_with_parentheses() {
    let echo = |text| parse(text).unwrap().reads_as();
    assert_eq!(
        echo("role=web or role=dns and site=attic").as_deref(),
        Some("role=web or (role=dns and site=attic)")
    );
    assert_eq!(echo("role=web or role=dns or nuc1"), None);
    assert_eq!(echo("(role=web or role=dns) and nuc1"), None);
    assert_eq!(echo("nuc1 except nuc2"), None);
}

#[test]
fn the_normal_form_keeps_literals_literal() {
    assert_eq!(normal(r"role='a\*'"), r#"role="a\\*""#);
    assert_eq!(normal("'nuc{1, 2}'"), "\"nuc{1, 2}\"");
    assert_eq!(normal("nuc{1, 2}"), "nuc{1, 2}");
    assert_eq!(normal("'@web' nuc1"), "\"@web\",nuc1");
    assert_eq!(normal("role='in'"), "role=\"in\"");
    assert_eq!(normal("role='say \"x\"'"), r#"role="say \"x\"""#);
    assert_eq!(normal("name=~'a/b'"), r"name=~/a\/b/");
    assert_eq!(normal(r"name=~/a\/b/i"), r"name=~/a\/b/i");
    assert_eq!(normal("first(007, all)"), "first(7, all)");
}

#[test]
fn keys_and_groups_of_a_query_are_listed() {
    let expr = parse("role=web and not has canary or on(@web except fact.arch=arm64), @{a,b}");
    assert_eq!(expr.expect_err("a list after a call").code, "Q012");
    let expr =
        parse("role=web and not has canary or on(@web except fact.arch=arm64) or nuc1 @{a,b}")
            .unwrap();
    assert_eq!(
        expr.keys().into_iter().collect::<Vec<_>>(),
        ["canary", "fact.arch", "role"]
    );
    assert_eq!(
        expr.groups().into_iter().collect::<Vec<_>>(),
        ["web", "{a,b}"]
    );
}

#[test]
fn long_and_deep_queries_are_refused() {
    let nested = |n: usize| format!("{}all{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(code(&nested(QUERY_DEPTH_MAX)), "none");
    assert_eq!(code(&nested(QUERY_DEPTH_MAX + 1)), "Q006");
    assert_eq!(code(&nested(2000)), "Q006");
    assert_eq!(
        code(&format!("{}all", "not ".repeat(QUERY_DEPTH_MAX + 1))),
        "Q006"
    );
    assert_eq!(
        code(&format!("{}all{}", "on(".repeat(1000), ")".repeat(1000))),
        "Q006"
    );
    assert_eq!(code(&"n".repeat(QUERY_BYTES_MAX)), "none");
    assert_eq!(code(&"n".repeat(QUERY_BYTES_MAX + 1)), "Q005");
    let list = ["a=b"; 1000].join(",");
    assert!(list.len() < QUERY_BYTES_MAX);
    assert_eq!(code(&list), "Q005", "its normal form is too long");
    assert_eq!(code(&["a"; 1000].join(" or ")), "Q005");
    assert_eq!(code(&["a"; 800].join(" or ")), "none");
}

#[test]
fn large_patterns_are_refused() {
    assert_eq!(code("nuc{1..999}"), "none");
    assert_eq!(code("nuc{1..999999}"), "Q004");
    assert_eq!(code(&["nuc{1..999}"; 9].join(",")), "Q004");
    assert_eq!(code(r"name=~/(\w{200}){200}/"), "Q021");
    assert_eq!(
        code(&format!("name=~/{}{}/", "(".repeat(500), ")".repeat(500))),
        "Q021"
    );
    assert_eq!(code(&["name=~x"; 16].join(" or ")), "none");
    assert_eq!(code(&["name=~x"; 17].join(" or ")), "Q021");
}
