//! Recursive descent over the tokens.

use lab_crdt_model::limit::{QUERY_BYTES_MAX, QUERY_DEPTH_MAX};
use lab_crdt_model::{Span, SpanError};
use regex::RegexBuilder;

use crate::ast::{
    Count, Expr, Key, Name, Node, Order, Pattern, Term, Test, is_expanded_tilde, is_keyword,
};
use crate::glob::{GLOB_STATES_MAX, Glob, is_glob};
use crate::token::{Kind, Op, Token, lex};

/// Most regular expressions in one query.
const REGEX_COUNT_MAX: usize = 16;
/// Largest compiled regular expression, bytes.
const REGEX_BYTES_MAX: usize = 256 * 1024;
/// Deepest nesting of a regular expression.
const REGEX_DEPTH_MAX: u32 = 32;

/// Reads a query.
///
/// Whether the names in it exist is not asked here; see [`Fleet::check`](crate::Fleet::check).
///
/// # Errors
/// The first mistake, Q001 to Q021 or Q041, with the bytes it is about.
pub fn parse(text: &str) -> Result<Expr, SpanError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(too_long(text));
    }
    let tokens = lex(text)?;
    let mut parser = Parser {
        text,
        tokens,
        at: 0,
        depth: 0,
        glob_budget: GLOB_STATES_MAX,
        regex_count: 0,
    };
    let root = parser.whole()?;
    let expr = Expr { root };
    if expr.to_string().len() > QUERY_BYTES_MAX {
        return Err(too_long(text));
    }
    Ok(expr)
}

fn too_long(text: &str) -> SpanError {
    let span = Span::new(0, text.len());
    let message = format!("the query is longer than {QUERY_BYTES_MAX} bytes");
    SpanError::new("Q005", message, span, "all of this").with_help("put parts of it into groups")
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: usize,
    glob_budget: usize,
    regex_count: usize,
}

impl<'a> Parser<'a> {
    fn whole(&mut self) -> Result<Node, SpanError> {
        if matches!(self.peek(0), Kind::End) {
            let span = Span::new(0, 1);
            return Err(
                SpanError::new("Q010", "empty query", span, "nothing selected")
                    .with_help("write `all` if you mean every node"),
            );
        }
        let query = self.query()?;
        match self.peek(0) {
            Kind::End => Ok(query),
            Kind::Close => {
                let label = "no `(` opens this";
                Err(SpanError::new("Q011", "unmatched `)`", self.span(0), label))
            }
            _ => Err(self.second_term()),
        }
    }

    fn second_term(&self) -> SpanError {
        let start = self.span(0).start;
        let last = if self.is_condition(0) && !matches!(self.peek(2), Kind::End) {
            2
        } else {
            0
        };
        let term = &self.text[start..self.span(last).end];
        let label = "a second term starts here";
        SpanError::new(
            "Q012",
            "expected `and`, `or` or `except` here",
            self.span(0),
            label,
        )
        .with_help(format!("join the two terms: `… and {term}`"))
    }

    fn query(&mut self) -> Result<Node, SpanError> {
        let mut left = self.disjunction()?;
        while self.is_word(0, "except") {
            self.at += 1;
            let right = self.disjunction()?;
            left = match left {
                Node::Except(mut items) => {
                    items.push(right);
                    Node::Except(items)
                }
                other => Node::Except(vec![other, right]),
            };
        }
        Ok(left)
    }

    fn disjunction(&mut self) -> Result<Node, SpanError> {
        let mut left = self.conjunction()?;
        while self.is_word(0, "or") || self.is_op(Op::Or) {
            self.at += 1;
            let right = self.conjunction()?;
            left = match left {
                Node::Or(mut items) => {
                    items.push(right);
                    Node::Or(items)
                }
                other => Node::Or(vec![other, right]),
            };
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Result<Node, SpanError> {
        let mut left = self.negation()?;
        while self.is_word(0, "and") || self.is_op(Op::And) {
            self.at += 1;
            let right = self.negation()?;
            left = and(left, right);
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Node, SpanError> {
        if self.is_word(0, "not") || self.is_op(Op::Not) {
            self.enter()?;
            self.at += 1;
            let inner = self.negation()?;
            self.depth -= 1;
            return Ok(Node::Not(Box::new(inner)));
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Node, SpanError> {
        match self.peek(0).clone() {
            Kind::Open => {
                self.enter()?;
                let open = self.span(0);
                self.at += 1;
                let query = self.query()?;
                self.close(open, "this `(` is never closed", "add `)`")?;
                self.depth -= 1;
                Ok(query)
            }
            Kind::End => {
                let end = self.span(0).start;
                let start = self.text[..end]
                    .char_indices()
                    .next_back()
                    .map_or(0, |(i, _)| i);
                let span = Span::new(start, end);
                Err(SpanError::new(
                    "Q013",
                    "the query ends too early",
                    span,
                    "something must follow",
                )
                .with_help("add a label, name, @group or `(`"))
            }
            Kind::Text(_) => self.names(),
            Kind::Word(word) => self.word(word),
            Kind::Close | Kind::Comma | Kind::Op(_) | Kind::Regex { .. } => {
                let message = format!("unexpected `{}`", self.source(0));
                let label = "expected a label, a name, @group or `(`";
                Err(SpanError::new("Q014", message, self.span(0), label))
            }
        }
    }

    fn word(&mut self, word: &'a str) -> Result<Node, SpanError> {
        let span = self.span(0);
        if is_keyword(word) {
            self.at += 1;
            return match word.to_ascii_lowercase().as_str() {
                "all" => Ok(Node::All),
                "none" => Ok(Node::Nothing),
                "has" => self.has(),
                _ => {
                    let message = format!("`{word}` needs something on its left");
                    let help =
                        format!("quote it if a node is really called {word}: name=\"{word}\"");
                    Err(
                        SpanError::new("Q016", message, span, "operator without a left side")
                            .with_help(help),
                    )
                }
            };
        }
        if self.is_call(0) {
            return self.call(word);
        }
        if self.is_condition(0) {
            self.conditions()
        } else {
            self.names()
        }
    }

    fn has(&mut self) -> Result<Node, SpanError> {
        let is_closed = matches!(self.peek(0), Kind::Open);
        self.at += usize::from(is_closed);
        let Kind::Word(key) = *self.peek(0) else {
            let label = "expected a key";
            return Err(SpanError::new(
                "Q015",
                "`has` needs a label key",
                self.wide_span(0),
                label,
            )
            .with_help("for example: has role"));
        };
        let key = Key {
            text: key.to_owned(),
            span: self.span(0),
        };
        self.at += 1;
        if is_closed {
            if !matches!(self.peek(0), Kind::Close) {
                return Err(SpanError::new(
                    "Q011",
                    "missing `)`",
                    self.wide_span(0),
                    "expected `)`",
                ));
            }
            self.at += 1;
        }
        Ok(Node::Has(key))
    }

    fn call(&mut self, word: &str) -> Result<Node, SpanError> {
        self.enter()?;
        let name = word.to_ascii_lowercase();
        let span = self.span(0);
        self.at += 2;
        let node = match name.as_str() {
            "uses" => match *self.peek(0) {
                Kind::Word(word) if word.contains('/') => Node::Uses(self.term()?, span),
                _ => {
                    let label = "expected e.g. secret/db-pass";
                    return Err(SpanError::new(
                        "Q017",
                        "`uses()` needs KIND/NAME",
                        self.wide_span(0),
                        label,
                    ));
                }
            },
            "on" => Node::On(Box::new(self.query()?), span),
            _ => {
                let count = self.count(&name)?;
                if !matches!(self.peek(0), Kind::Comma) {
                    let message = format!("`{name}()` takes two arguments");
                    let label = "expected `,` and a query";
                    return Err(SpanError::new("Q017", message, self.wide_span(0), label));
                }
                self.at += 1;
                let query = Box::new(self.query()?);
                if name == "first" {
                    Node::First(count, query)
                } else {
                    Node::Sample(count, query)
                }
            }
        };
        self.close(span, "this call is never closed", "")?;
        self.depth -= 1;
        Ok(node)
    }

    fn count(&mut self, name: &str) -> Result<Count, SpanError> {
        let count = match *self.peek(0) {
            Kind::Word(word) => {
                let digits = word.strip_suffix('%').unwrap_or(word);
                let is_number = digits.bytes().all(|b| b.is_ascii_digit());
                let amount = if is_number { digits.parse().ok() } else { None };
                amount.map(|amount| Count {
                    amount,
                    is_percent: word.ends_with('%'),
                })
            }
            _ => None,
        };
        let Some(count) = count else {
            let message = format!("`{name}()` needs a count or a percentage");
            return Err(SpanError::new(
                "Q017",
                message,
                self.wide_span(0),
                "expected e.g. 3 or 20%",
            ));
        };
        self.at += 1;
        Ok(count)
    }

    fn conditions(&mut self) -> Result<Node, SpanError> {
        let mut left = self.condition()?;
        if !matches!(self.peek(0), Kind::Comma) {
            return Ok(left);
        }
        self.enter()?; // The normal form may need parentheses for the list.
        while matches!(self.peek(0), Kind::Comma) {
            self.at += 1;
            if !self.is_condition(0) {
                return Err(self.not_a_condition());
            }
            let right = self.condition()?;
            left = and(left, right);
        }
        self.depth -= 1;
        Ok(left)
    }

    fn not_a_condition(&self) -> SpanError {
        if !matches!(self.peek(0), Kind::Word(_) | Kind::Text(_)) {
            let span = self.tokens[self.at - 1].span;
            return SpanError::new(
                "Q018",
                "missing condition after `,`",
                span,
                "no condition after this",
            );
        }
        let message = "a comma list is either all conditions or all names";
        let label = "this is a name, the items before it are conditions";
        let help = format!("use `and` / `or`, or write `name={}`", self.source(0));
        SpanError::new("Q019", message, self.span(0), label).with_help(help)
    }

    fn condition(&mut self) -> Result<Node, SpanError> {
        let key = Key {
            text: self.source(0).to_owned(),
            span: self.span(0),
        };
        self.at += 1;
        let operator = self.operator();
        let test = match operator {
            Operator::In { is_negated } => {
                let node = Node::Condition(key, Test::In(self.value_list()?));
                return Ok(if is_negated {
                    Node::Not(Box::new(node))
                } else {
                    node
                });
            }
            Operator::Sign(Op::Match | Op::NoMatch) => Test::Match(self.pattern()?),
            Operator::Sign(Op::Less) => Test::Order(Order::Less, self.value()?),
            Operator::Sign(Op::LessEqual) => Test::Order(Order::LessEqual, self.value()?),
            Operator::Sign(Op::Greater) => Test::Order(Order::Greater, self.value()?),
            Operator::Sign(Op::GreaterEqual) => Test::Order(Order::GreaterEqual, self.value()?),
            Operator::Sign(Op::Equal | Op::NotEqual | Op::And | Op::Or | Op::Not) => {
                let is_bare = matches!(self.peek(0), Kind::Word(_));
                let term = self.value()?;
                if is_bare && is_expanded_tilde(&key.text, &term.text) {
                    return Err(expanded_tilde(&key, &term));
                }
                Test::Equal(term)
            }
        };
        let node = Node::Condition(key, test);
        let is_negated = matches!(operator, Operator::Sign(Op::NotEqual | Op::NoMatch));
        Ok(if is_negated {
            Node::Not(Box::new(node))
        } else {
            node
        })
    }

    /// The operator of a condition, which [`Self::is_condition`] has seen.
    fn operator(&mut self) -> Operator {
        let kind = self.peek(0).clone();
        self.at += 1;
        match kind {
            Kind::Op(op) => Operator::Sign(op),
            Kind::Word(word) => match word.to_ascii_lowercase().as_str() {
                "lt" => Operator::Sign(Op::Less),
                "le" => Operator::Sign(Op::LessEqual),
                "gt" => Operator::Sign(Op::Greater),
                "ge" => Operator::Sign(Op::GreaterEqual),
                "not" => {
                    self.at += 1;
                    Operator::In { is_negated: true }
                }
                _ => Operator::In { is_negated: false },
            },
            _ => Operator::In { is_negated: false },
        }
    }

    fn value_list(&mut self) -> Result<Vec<Term>, SpanError> {
        let open = self.span(0);
        let is_closed = matches!(self.peek(0), Kind::Open);
        self.at += usize::from(is_closed);
        let mut terms = vec![self.value()?];
        while matches!(self.peek(0), Kind::Comma) {
            self.at += 1;
            if !is_closed && self.is_condition(0) {
                let message = "a bare `in` list cannot be followed by a condition";
                let label = "is this a value or a new condition?";
                return Err(SpanError::new("Q020", message, self.span(0), label)
                    .with_help("put the list in parentheses, or join with `and`"));
            }
            terms.push(self.value()?);
        }
        if is_closed {
            self.close(open, "this list is never closed", "")?;
        }
        Ok(terms)
    }

    fn value(&mut self) -> Result<Term, SpanError> {
        if let Kind::Word(word) = *self.peek(0)
            && ["and", "or", "except"]
                .iter()
                .any(|k| word.eq_ignore_ascii_case(k))
        {
            let label = format!("expected a value, found the keyword `{word}`");
            return Err(SpanError::new("Q018", "missing value", self.span(0), label)
                .with_help(format!("quote it if it is the value: \"{word}\"")));
        }
        if matches!(self.peek(0), Kind::Word(_) | Kind::Text(_)) {
            return self.term();
        }
        let span = self.tokens[self.at - 1].span;
        Err(
            SpanError::new("Q018", "missing value", span, "no value after this")
                .with_help("use \"\" for the empty value"),
        )
    }

    /// The word or string that is next; a word with glob signs is a glob.
    fn term(&mut self) -> Result<Term, SpanError> {
        let span = self.span(0);
        let (text, is_bare) = match self.peek(0) {
            Kind::Text(text) => (text.clone(), false),
            _ => (self.source(0).to_owned(), true),
        };
        self.at += 1;
        self.new_term(text, is_bare, span)
    }

    fn new_term(&mut self, text: String, is_bare: bool, span: Span) -> Result<Term, SpanError> {
        if !is_bare || !is_glob(&text) {
            return Ok(Term {
                text,
                glob: None,
                span,
            });
        }
        match Glob::new(&text, self.glob_budget) {
            Ok(glob) => {
                self.glob_budget -= glob.size();
                Ok(Term {
                    text,
                    glob: Some(glob),
                    span,
                })
            }
            Err(why) => Err(
                SpanError::new("Q004", "this glob is too large", span, why.0)
                    .with_help("use `*`, or quote it if it is not a glob"),
            ),
        }
    }

    fn pattern(&mut self) -> Result<Pattern, SpanError> {
        let span = self.span(0);
        let (text, ignores_case) = match self.peek(0) {
            Kind::Regex {
                pattern,
                ignores_case,
            } => {
                let found = ((*pattern).to_owned(), *ignores_case);
                self.at += 1;
                found
            }
            _ => {
                self.value()?;
                let text = match &self.tokens[self.at - 1].kind {
                    Kind::Text(text) => text.clone(),
                    _ => self.text[span.start..span.end].to_owned(),
                };
                (with_escaped_slashes(&text), false)
            }
        };
        self.regex_count += 1;
        if self.regex_count > REGEX_COUNT_MAX {
            let message = format!("more than {REGEX_COUNT_MAX} regular expressions");
            return Err(SpanError::new("Q021", message, span, "one too many"));
        }
        let regex = RegexBuilder::new(&text)
            .case_insensitive(ignores_case)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .nest_limit(REGEX_DEPTH_MAX)
            .build();
        match regex {
            Ok(regex) => Ok(Pattern {
                text,
                ignores_case,
                regex,
            }),
            Err(regex::Error::CompiledTooBig(_)) => Err(SpanError::new(
                "Q021",
                "the regular expression is too large",
                span,
                "too large",
            )),
            Err(error) => {
                let text = error.to_string();
                let why = text
                    .lines()
                    .last()
                    .unwrap_or("")
                    .trim_start_matches("error: ")
                    .to_owned();
                Err(SpanError::new(
                    "Q021",
                    format!("invalid regular expression: {why}"),
                    span,
                    "not understood",
                ))
            }
        }
    }

    fn names(&mut self) -> Result<Node, SpanError> {
        let mut names = Vec::new();
        loop {
            names.push(self.name()?);
            let has_comma = matches!(self.peek(0), Kind::Comma);
            self.at += usize::from(has_comma);
            if self.is_condition(0) {
                let span = Span::new(self.span(0).start, self.span(1).end);
                let label = "this is a condition, the items before it are names";
                return Err(SpanError::new(
                    "Q019",
                    "a list is either all names or all conditions",
                    span,
                    label,
                )
                .with_help("join them with `and` / `or`"));
            }
            let goes_on = match *self.peek(0) {
                Kind::Word(word) => !is_keyword(word) && !self.is_call(0),
                Kind::Text(_) => true,
                _ => false,
            };
            if !goes_on && has_comma {
                let label = "expected a name or @group";
                return Err(SpanError::new(
                    "Q018",
                    "missing name after `,`",
                    self.wide_span(0),
                    label,
                ));
            }
            if !goes_on {
                return Ok(Node::Names(names));
            }
        }
    }

    fn name(&mut self) -> Result<Name, SpanError> {
        if let Kind::Word(word) = *self.peek(0)
            && let Some(group) = word.strip_prefix('@')
        {
            let span = self.span(0);
            self.at += 1;
            return Ok(Name {
                is_group: true,
                term: self.new_term(group.to_owned(), true, span)?,
            });
        }
        Ok(Name {
            is_group: false,
            term: self.term()?,
        })
    }

    fn close(&mut self, open: Span, label: &str, help: &str) -> Result<(), SpanError> {
        if !matches!(self.peek(0), Kind::Close) {
            return Err(SpanError::new("Q011", "missing `)`", open, label).with_help(help));
        }
        self.at += 1;
        Ok(())
    }

    fn enter(&mut self) -> Result<(), SpanError> {
        self.depth += 1;
        if self.depth > QUERY_DEPTH_MAX {
            let message = format!("nested deeper than {QUERY_DEPTH_MAX}");
            return Err(
                SpanError::new("Q006", message, self.wide_span(0), "one level too deep")
                    .with_help("put the inner part into a group"),
            );
        }
        Ok(())
    }

    /// Whether a condition starts `ahead` tokens from here: a word followed by an operator.
    fn is_condition(&self, ahead: usize) -> bool {
        let Kind::Word(word) = *self.peek(ahead) else {
            return false;
        };
        if is_keyword(word) {
            return false;
        }
        match *self.peek(ahead + 1) {
            Kind::Op(op) => op.compares(),
            Kind::Word(next) => {
                ["in", "lt", "le", "gt", "ge"]
                    .iter()
                    .any(|k| next.eq_ignore_ascii_case(k))
                    || next.eq_ignore_ascii_case("not") && self.is_word(ahead + 2, "in")
            }
            _ => false,
        }
    }

    /// Whether a function name with `(` directly after it stands `ahead` tokens from here.
    fn is_call(&self, ahead: usize) -> bool {
        let Kind::Word(word) = *self.peek(ahead) else {
            return false;
        };
        ["first", "sample", "on", "uses"]
            .iter()
            .any(|k| word.eq_ignore_ascii_case(k))
            && matches!(self.peek(ahead + 1), Kind::Open)
            && self.span(ahead + 1).start == self.span(ahead).end
    }

    fn is_word(&self, ahead: usize, keyword: &str) -> bool {
        matches!(*self.peek(ahead), Kind::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn is_op(&self, op: Op) -> bool {
        matches!(*self.peek(0), Kind::Op(found) if found == op)
    }

    fn token(&self, ahead: usize) -> &Token<'a> {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)]
    }

    fn peek(&self, ahead: usize) -> &Kind<'a> {
        &self.token(ahead).kind
    }

    fn span(&self, ahead: usize) -> Span {
        self.token(ahead).span
    }

    /// The span, at least one byte wide so that the end of the text can be marked.
    fn wide_span(&self, ahead: usize) -> Span {
        let span = self.span(ahead);
        Span::new(span.start, span.end.max(span.start + 1))
    }

    fn source(&self, ahead: usize) -> &'a str {
        let span = self.span(ahead);
        &self.text[span.start..span.end]
    }
}

#[derive(Clone, Copy)]
enum Operator {
    Sign(Op),
    In { is_negated: bool },
}

fn and(left: Node, right: Node) -> Node {
    match left {
        Node::And(mut items) => {
            items.push(right);
            Node::And(items)
        }
        other => Node::And(vec![other, right]),
    }
}

/// The same pattern as it must stand between slashes.
fn with_escaped_slashes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_escaped = false;
    for c in text.chars() {
        if c == '/' && !is_escaped {
            out.push('\\');
        }
        is_escaped = c == '\\' && !is_escaped;
        out.push(c);
    }
    out
}

fn expanded_tilde(key: &Key, term: &Term) -> SpanError {
    let message = "your shell expanded `~` before the query was read";
    let label = "a path where a pattern was meant";
    SpanError::new("Q041", message, term.span, label).with_help(format!(
        "put the query in single quotes: '{}=~/…/'",
        key.text
    ))
}

#[cfg(test)]
mod tests;
