//! The lexer: text to tokens with byte spans.

use lab_crdt_model::{Span, SpanError};

/// One token and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Token<'a> {
    /// What it is.
    pub(crate) kind: Kind<'a>,
    /// Where it is.
    pub(crate) span: Span,
}

/// What a token is.
#[derive(Clone, Debug)]
pub(crate) enum Kind<'a> {
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// An operator sign.
    Op(Op),
    /// A bare word, as written.
    Word(&'a str),
    /// The content of a quoted string.
    Text(String),
    /// The content of `/…/` or `/…/i`, escapes as written.
    Regex {
        /// Between the slashes.
        pattern: &'a str,
        /// Followed by `i`.
        ignores_case: bool,
    },
    /// The end of the text.
    End,
}

/// An operator sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// `=` and `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Match,
    /// `!~`
    NoMatch,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `!`
    Not,
}

impl Op {
    /// Whether a word before it starts a condition.
    pub(crate) const fn compares(self) -> bool {
        !matches!(self, Self::And | Self::Or | Self::Not)
    }
}

/// Longest first, so that `!=` is not read as `!` and `=`.
const OPS: [(&str, Op); 12] = [
    ("!=", Op::NotEqual),
    ("!~", Op::NoMatch),
    ("=~", Op::Match),
    ("==", Op::Equal),
    ("<=", Op::LessEqual),
    (">=", Op::GreaterEqual),
    ("&&", Op::And),
    ("||", Op::Or),
    ("=", Op::Equal),
    ("<", Op::Less),
    (">", Op::Greater),
    ("!", Op::Not),
];

/// Whether `c` ends a bare word.
pub(crate) fn ends_word(c: char) -> bool {
    c.is_whitespace() || "(),'\"!=<>&|;`~".contains(c)
}

/// The tokens of `text`; the last one is always [`Kind::End`].
pub(crate) fn lex(text: &str) -> Result<Vec<Token<'_>>, SpanError> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let start = at;
        let kind = match c {
            '(' => Kind::Open,
            ')' => Kind::Close,
            ',' => Kind::Comma,
            '\'' | '"' => {
                let (content, end) = string(text, at, c)?;
                at = end;
                out.push(Token {
                    kind: Kind::Text(content),
                    span: Span::new(start, end),
                });
                continue;
            }
            _ => {
                if let Some((sign, op)) = OPS.iter().find(|(sign, _)| text[at..].starts_with(sign))
                {
                    at += sign.len();
                    out.push(Token {
                        kind: Kind::Op(*op),
                        span: Span::new(start, at),
                    });
                    if matches!(op, Op::Match | Op::NoMatch) {
                        at = regex(text, at, &mut out)?;
                    }
                    continue;
                }
                at = word(text, at, c)?;
                out.push(Token {
                    kind: Kind::Word(&text[start..at]),
                    span: Span::new(start, at),
                });
                continue;
            }
        };
        at += c.len_utf8();
        out.push(Token {
            kind,
            span: Span::new(start, at),
        });
    }
    out.push(Token {
        kind: Kind::End,
        span: Span::new(at, at),
    });
    Ok(out)
}

/// The content of the string whose quote is at `start`, and where it ends.
fn string(text: &str, start: usize, quote: char) -> Result<(String, usize), SpanError> {
    let mut content = String::new();
    let mut chars = text[start + 1..].char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        if c == quote {
            return Ok((content, start + 1 + i + 1));
        }
        let escaped = if quote == '"' && c == '\\' {
            chars.next()
        } else {
            None
        };
        content.push(escaped.map_or(c, |(_, c)| c));
    }
    Err(SpanError::new(
        "Q002",
        "unterminated string",
        Span::new(start, text.len()),
        "string starts here",
    )
    .with_help(format!("close it with {quote}")))
}

/// Pushes the regular expression that follows a match operator, if one does, and returns where to
/// go on.
fn regex<'a>(text: &'a str, at: usize, out: &mut Vec<Token<'a>>) -> Result<usize, SpanError> {
    let start = text.len() - text[at..].trim_start().len();
    let Some(body) = text[start..].strip_prefix('/') else {
        return Ok(at);
    };
    let mut is_escaped = false;
    for (i, c) in body.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == '/' {
            let ignores_case = body[i + 1..].starts_with('i');
            let end = start + 1 + i + 1 + usize::from(ignores_case);
            let kind = Kind::Regex {
                pattern: &body[..i],
                ignores_case,
            };
            out.push(Token {
                kind,
                span: Span::new(start, end),
            });
            return Ok(end);
        }
    }
    let span = Span::new(start, text.len());
    Err(SpanError::new(
        "Q003",
        "unterminated regular expression",
        span,
        "opened here",
    )
    .with_help("close it with `/`"))
}

/// Where the word that starts at `start` ends.
fn word(text: &str, start: usize, first: char) -> Result<usize, SpanError> {
    let at_first = Span::new(start, start + first.len_utf8());
    if ends_word(first) {
        let help = match first {
            '&' => "write `and` (or `&&`)",
            '|' => "write `or` (or `||`)",
            _ => "quote the value if this character belongs to it",
        };
        let label = if "&|".contains(first) {
            "not an operator"
        } else {
            "not allowed here"
        };
        let message = format!("unexpected `{first}`");
        return Err(SpanError::new("Q001", message, at_first, label).with_help(help));
    }
    let mut at = start;
    while let Some(c) = text[at..].chars().next().filter(|c| !ends_word(*c)) {
        let close = match c {
            '{' => "}",
            '[' => "]",
            _ => {
                at += c.len_utf8();
                continue;
            }
        };
        let Some(i) = text[at..].find(close) else {
            let help = if c == '{' {
                "write `{a,b}`"
            } else {
                "write `[abc]`"
            };
            let span = Span::new(at, text.len());
            let message = format!("unclosed `{c}` in glob");
            return Err(SpanError::new("Q004", message, span, "opened here").with_help(help));
        };
        at += i + 1;
    }
    Ok(at)
}
