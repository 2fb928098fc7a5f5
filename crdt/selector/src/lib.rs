//! The targeting language: text → tree → set of nodes.
//!
//! Every place of `lab` that says *which nodes* — a command's target, a group, a profile, the
//! readers of a secret — is written in this one language. The crate parses it ([`parse`]), prints
//! it in its normal form (`Expr`'s `Display`), checks it against what exists ([`Fleet::check`]) and
//! evaluates it ([`Fleet::select`]). It knows no clock, network or file; the same fleet and query
//! give the same answer on every node.
//!
//! # The language
//!
//! ```text
//! query      = or-expr , { "except" , or-expr } ;
//! or-expr    = and-expr , { ( "or" | "||" ) , and-expr } ;
//! and-expr   = not-expr , { ( "and" | "&&" ) , not-expr } ;
//! not-expr   = ( "not" | "!" ) , not-expr | primary ;
//! primary    = "(" , query , ")" | "all" | "none" | "has" , ( key | "(" , key , ")" )
//!            | call | cond-list | name-list ;
//! call       = ( "first" | "sample" ) , "(" , count , "," , query , ")"
//!            | "on" , "(" , query , ")" | "uses" , "(" , word , ")" ;  (* no space before "(" *)
//! cond-list  = cond , { "," , cond } ;                                (* all of them *)
//! cond       = key , op , value | key , ( "=~" | "!~" ) , ( regex | string | word )
//!            | key , [ "not" ] , "in" , value-list ;
//! value-list = "(" , value , { "," , value } , ")" | value , { "," , value } ;
//! op         = "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "lt" | "le" | "gt" | "ge" ;
//! name-list  = name , { [ "," ] , name } ;                            (* any of them *)
//! name       = "@" word | word | string ;
//! count      = digits , [ "%" ] ;
//! ```
//!
//! * A bare word is a **name**, `@word` a **group**, `key=value` a **label**, `has key` asks
//!   whether there is one.
//! * `and` binds tighter than `or`, `not` tighter than both; `except` is the loosest and subtracts
//!   last.
//! * `role!=web` is exactly `not role=web`: a node without the key matches, and
//!   [`Fleet::missing_key_matches`] says how many did for that reason only.
//! * Globs `* ? [abc] {a,b} {01..12}` work in words; a quoted string is literal. A regular
//!   expression stands after `=~` as `/…/` or `/…/i` and is not anchored.
//! * `node.`, `fact.` and `status.` are observed; `fact.mem.total >= 16GiB`, `node.seen > 1d`,
//!   `fact.os.version=12`, `node.ip in 10.0.20.0/24` compare by meaning. A missing fact makes a
//!   comparison false.
//! * `first(3, q)` sorts by name; `sample(20%, q)` sorts by a hash of the name, rounds up; `on(q)`
//!   are the guests of q; `uses(secret/x)` are the nodes that use it.
//!
//! # Trust
//!
//! Who may read a secret must not hang on what a machine says about itself. [`Fleet::check`] with
//! [`Trust::Trusted`] refuses such queries when they are declared, and [`Fleet::entitles`]
//! evaluates with three values: everything observed is *unknown*, and only what is true whatever
//! the unknown may be entitles.
//!
//! # Limits
//!
//! A query is at most `QUERY_BYTES_MAX` bytes, as written and in normal form, and `QUERY_DEPTH_MAX`
//! deep. Regular expressions and globs have a size budget. No text makes the crate panic or take
//! unbounded time.
//!
//! # Codes
//!
//! Q001 character · Q002 string · Q003 regular expression not closed · Q004 glob · Q005 too long ·
//! Q006 too deep · Q010 empty · Q011 parenthesis · Q012 missing connective · Q013 ends early ·
//! Q014, Q016 misplaced operator · Q015, Q017 function use · Q018 missing value · Q019 mixed list ·
//! Q020 ambiguous bare list · Q021 regular expression · Q030 unknown key · Q031 type · Q032 unknown
//! group · Q033 unknown name · Q034 groups in a circle · Q040 trust · Q041 `~` expanded by the
//! shell.
//!
//! ```
//! use std::collections::BTreeMap;
//! use lab_crdt_selector::{Fleet, OwnedTarget, Trust, parse};
//!
//! let node = |name: &str, labels: &[&str]| OwnedTarget {
//!     name: name.to_owned(),
//!     labels: labels.iter().map(|l| l.parse().expect("a label")).collect(),
//!     ..OwnedTarget::default()
//! };
//! let nuc1 = node("nuc1", &["role=web", "role=dns"]);
//! let pi1 = node("pi1", &["role=dns", "site=attic"]);
//! let fleet = Fleet::new(vec![nuc1, pi1], BTreeMap::new());
//!
//! let query = parse("role in web,dns and site!=attic").expect("a query");
//! assert_eq!(query.to_string(), "role in (web, dns) and site!=attic");
//! assert!(fleet.check(&query, Trust::Trusted, false).is_ok());
//! assert_eq!(fleet.select(&query).into_iter().collect::<Vec<_>>(), ["nuc1"]);
//!
//! let typo = parse("rol=web").expect("a query");
//! let error = fleet.check(&typo, Trust::Any, false).expect_err("no such key");
//! assert_eq!(error.code, "Q030");
//! ```

mod ast;
mod bits;
mod check;
mod eval;
mod explain;
mod fleet;
mod glob;
mod parse;
mod quantity;
mod token;

pub use ast::Expr;
pub use explain::Reasons;
pub use fleet::{Fleet, Group, OwnedTarget, Target, Trust};
pub use parse::parse;
