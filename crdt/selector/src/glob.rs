//! Globs: `* ? [abc] [!abc] [a-z] {a,b} {01..12}`, matched in time linear in the text.
//!
//! A pattern becomes a small machine whose states are followed side by side, so no pattern
//! backtracks. Up to 64 states fit into one word. Inside `[…]` every character but a leading `!` or
//! `^` and a `-` between two is plain; braces nest. `{3..1}` is an empty range and matches nothing.

/// Most states of all globs of one query.
pub(crate) const GLOB_STATES_MAX: usize = 8192;
/// Deepest nesting of braces.
const BRACE_DEPTH_MAX: usize = 8;

/// A compiled glob.
#[derive(Clone, Debug)]
pub(crate) struct Glob {
    states: Vec<State>,
    /// For machines of at most 64 states: what is reached from each without reading.
    closures: Vec<u64>,
    /// What every match starts with.
    prefix: String,
    /// What every match ends with.
    suffix: String,
}

#[derive(Clone, Debug)]
enum State {
    One(char),
    Any,
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
    Star,
    Split(Vec<usize>),
    Jump(usize),
    Accept,
}

/// Why a pattern cannot be used; the text says what is too large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooLarge(pub(crate) &'static str);

/// Whether `text` has a character that means something in a glob.
pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

impl Glob {
    /// Compiles `pattern` with at most `budget` states.
    pub(crate) fn new(pattern: &str, budget: usize) -> Result<Self, TooLarge> {
        let chars: Vec<char> = pattern.chars().collect();
        let closing = closing_braces(&chars);
        let mut build = Build {
            chars: &chars,
            closing: &closing,
            states: Vec::new(),
            budget,
        };
        build.sequence(0, chars.len(), 0)?;
        build.push(State::Accept)?;
        let states = build.states;
        let one = |state: &State| {
            if let State::One(c) = state {
                Some(*c)
            } else {
                None
            }
        };
        let prefix = states.iter().map_while(one).collect();
        // No jump lands inside the last run of characters, so every match ends with all of it.
        let last: Vec<char> = states.iter().rev().skip(1).map_while(one).collect();
        let suffix = last.iter().rev().collect();
        let mut glob = Self {
            states,
            closures: Vec::new(),
            prefix,
            suffix,
        };
        if glob.states.len() <= 64 {
            glob.closures = (0..glob.states.len()).map(|at| glob.closure(at)).collect();
        }
        Ok(glob)
    }

    /// How many states it has.
    pub(crate) const fn size(&self) -> usize {
        self.states.len()
    }

    /// What every match starts with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether the whole of `text` matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        if !text.starts_with(self.prefix.as_str()) || !text.ends_with(self.suffix.as_str()) {
            return false;
        }
        if self.closures.is_empty() {
            self.matches_large(text)
        } else {
            self.matches_small(text)
        }
    }

    fn matches_small(&self, text: &str) -> bool {
        let mut live = self.closures[0];
        for c in text.chars() {
            let mut next = 0;
            while live != 0 {
                let at = live.trailing_zeros() as usize;
                live &= live - 1;
                if let Some(to) = self.step(at, c) {
                    next |= self.closures[to];
                }
            }
            if next == 0 {
                return false;
            }
            live = next;
        }
        live >> (self.states.len() - 1) & 1 == 1
    }

    fn matches_large(&self, text: &str) -> bool {
        let mut live = Vec::new();
        let mut seen = vec![0usize; self.states.len()];
        self.reach(0, 1, &mut seen, &mut live);
        for (i, c) in text.chars().enumerate() {
            let mut next = Vec::new();
            for at in live {
                if let Some(to) = self.step(at, c) {
                    self.reach(to, i + 2, &mut seen, &mut next);
                }
            }
            if next.is_empty() {
                return false;
            }
            live = next;
        }
        live.contains(&(self.states.len() - 1))
    }

    /// The state after reading `c` in state `at`, if it can be read there.
    fn step(&self, at: usize, c: char) -> Option<usize> {
        match &self.states[at] {
            State::One(want) => (*want == c).then_some(at + 1),
            State::Any => Some(at + 1),
            State::Class { is_negated, ranges } => {
                let is_in = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                (is_in != *is_negated).then_some(at + 1)
            }
            State::Star => Some(at),
            State::Split(_) | State::Jump(_) | State::Accept => None,
        }
    }

    fn closure(&self, at: usize) -> u64 {
        let mut out = Vec::new();
        self.reach(at, 1, &mut vec![0; self.states.len()], &mut out);
        out.iter().fold(0, |set, at| set | 1 << at)
    }

    /// Pushes every reading or accepting state reached from `at` without reading; `round` marks
    /// what was seen.
    fn reach(&self, at: usize, round: usize, seen: &mut [usize], out: &mut Vec<usize>) {
        let mut open = vec![at];
        while let Some(at) = open.pop() {
            if seen[at] == round {
                continue;
            }
            seen[at] = round;
            match &self.states[at] {
                State::Split(to) => open.extend(to),
                State::Jump(to) => open.push(*to),
                State::Star => {
                    out.push(at);
                    open.push(at + 1);
                }
                State::One(_) | State::Any | State::Class { .. } | State::Accept => out.push(at),
            }
        }
    }
}

/// For each `{`, where its `}` is; an unclosed one is plain text.
fn closing_braces(chars: &[char]) -> Vec<Option<usize>> {
    let mut closing = vec![None; chars.len()];
    let mut open = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '[' => at = class_end(chars, at).unwrap_or(at),
            '{' => open.push(at),
            '}' => {
                if let Some(start) = open.pop() {
                    closing[start] = Some(at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    closing
}

/// Where the `]` of the class that opens at `start` is; a `]` that comes first belongs to the
/// class.
fn class_end(chars: &[char], start: usize) -> Option<usize> {
    let negation = usize::from(matches!(chars.get(start + 1), Some('!' | '^')));
    let first = start + 1 + negation;
    (first + 1..chars.len()).find(|i| chars[*i] == ']')
}

struct Build<'a> {
    chars: &'a [char],
    closing: &'a [Option<usize>],
    states: Vec<State>,
    budget: usize,
}

impl Build<'_> {
    fn push(&mut self, state: State) -> Result<usize, TooLarge> {
        if self.states.len() >= self.budget {
            return Err(TooLarge("too many alternatives"));
        }
        self.states.push(state);
        Ok(self.states.len() - 1)
    }

    fn sequence(&mut self, start: usize, end: usize, depth: usize) -> Result<(), TooLarge> {
        let mut at = start;
        while at < end {
            match self.chars[at] {
                '*' => {
                    self.push(State::Star)?;
                }
                '?' => {
                    self.push(State::Any)?;
                }
                '[' => match class_end(self.chars, at).filter(|close| *close < end) {
                    Some(close) => {
                        let class = class(&self.chars[at + 1..close]);
                        self.push(class)?;
                        at = close;
                    }
                    None => {
                        self.push(State::One('['))?;
                    }
                },
                '{' => match self.closing[at].filter(|close| *close < end) {
                    Some(close) => {
                        self.braces(at + 1, close, depth)?;
                        at = close;
                    }
                    None => {
                        self.push(State::One('{'))?;
                    }
                },
                c => {
                    self.push(State::One(c))?;
                }
            }
            at += 1;
        }
        Ok(())
    }

    /// The alternatives between two braces.
    fn braces(&mut self, start: usize, end: usize, depth: usize) -> Result<(), TooLarge> {
        if depth == BRACE_DEPTH_MAX {
            return Err(TooLarge("braces are nested too deeply"));
        }
        let body: String = self.chars[start..end].iter().collect();
        let split = self.push(State::Split(Vec::new()))?;
        let (mut starts, mut jumps) = (Vec::new(), Vec::new());
        if let Some((from, to)) = range(&body) {
            let width = if from.starts_with('0') { from.len() } else { 0 };
            let number = |text: &str| {
                text.parse::<u64>()
                    .ok()
                    .ok_or(TooLarge("the range is too large"))
            };
            let (from, to) = (number(from)?, number(to)?);
            if to.saturating_sub(from) >= self.budget as u64 {
                return Err(TooLarge("the range is too large"));
            }
            for number in from..=to {
                starts.push(self.states.len());
                for digit in format!("{number:0width$}").chars() {
                    self.push(State::One(digit))?;
                }
                jumps.push(self.push(State::Jump(0))?);
            }
        } else {
            let mut from = start;
            for comma in self.commas(start, end).into_iter().chain([end]) {
                starts.push(self.states.len());
                self.sequence(from, comma, depth + 1)?;
                jumps.push(self.push(State::Jump(0))?);
                from = comma + 1;
            }
        }
        let after = self.states.len();
        for jump in jumps {
            self.states[jump] = State::Jump(after);
        }
        self.states[split] = State::Split(starts);
        Ok(())
    }

    /// The commas between `start` and `end` that are in no inner braces or class.
    fn commas(&self, start: usize, end: usize) -> Vec<usize> {
        let mut commas = Vec::new();
        let mut at = start;
        while at < end {
            match self.chars[at] {
                '[' => at = skip(class_end(self.chars, at), at, end),
                '{' => at = skip(self.closing[at], at, end),
                ',' => commas.push(at),
                _ => {}
            }
            at += 1;
        }
        commas
    }
}

/// Where to go on after a class or braces that close before `end`; otherwise the sign at `at` is
/// plain text.
fn skip(close: Option<usize>, at: usize, end: usize) -> usize {
    close.filter(|close| *close < end).unwrap_or(at)
}

/// The two numbers of `1..12`.
fn range(body: &str) -> Option<(&str, &str)> {
    let (from, to) = body.split_once("..")?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(from) && is_number(to)).then_some((from, to))
}

fn class(body: &[char]) -> State {
    let is_negated = matches!(body.first(), Some('!' | '^'));
    let body = &body[usize::from(is_negated)..];
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < body.len() {
        if at + 2 < body.len() && body[at + 1] == '-' {
            ranges.push((body[at], body[at + 2]));
            at += 3;
        } else {
            ranges.push((body[at], body[at]));
            at += 1;
        }
    }
    State::Class { is_negated, ranges }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::new(pattern, GLOB_STATES_MAX).unwrap();
        for text in yes {
            assert!(glob.matches(text), "{pattern} matches {text}");
            assert!(
                glob.matches_large(text),
                "{pattern} matches {text} in the large machine"
            );
        }
        for text in no {
            assert!(!glob.matches(text), "{pattern} does not match {text}");
            assert!(
                !glob.matches_large(text),
                "{pattern} does not match {text} in the large machine"
            );
        }
    }

    #[test]
    fn globs_match_whole_texts() {
        check("nuc*", &["nuc", "nuc1", "nuc12"], &["nu", "xnuc1"]);
        check("*1*", &["1", "nuc1", "nuc12"], &["nuc2", ""]);
        check("nuc?", &["nuc1", "nucä"], &["nuc", "nuc12"]);
        check("nuc[13]", &["nuc1", "nuc3"], &["nuc2"]);
        check("nuc[!13]", &["nuc2"], &["nuc1", "nuc"]);
        check("nuc[^1-3]", &["nuc4"], &["nuc2"]);
        check("[]a]", &["]", "a"], &["b"]);
        check("[]", &["[]"], &["["]);
        check("{}", &[""], &["x"]);
    }

    #[test]
    fn braces_expand_as_in_a_shell() {
        check("web{1,2}", &["web1", "web2"], &["web3", "web"]);
        check(
            "web{01..12}",
            &["web01", "web09", "web12"],
            &["web1", "web13"],
        );
        check("web{8..11}", &["web8", "web10"], &["web08", "web12"]);
        check("{a,b}77", &["a77", "b77"], &["77", "ab77", "a7"]);
        check("{a,}7{7,}", &["a77", "7"], &["a", "77a"]);
        check("{a,{b,c}x}*", &["a", "bx", "cxy"], &["b", "x"]);
        check("x{3..1}", &[], &["x", "x1", "x3"]);
        check("{nuc[1,2],pi}", &["nuc1", "nuc2", "nuc,", "pi"], &["nuc3"]);
    }

    #[test]
    fn hostile_patterns_stay_small_and_fast() {
        assert!(Glob::new("{1..999999999}", GLOB_STATES_MAX).is_err());
        assert!(Glob::new("{1..99999999999999999999}", GLOB_STATES_MAX).is_err());
        assert!(
            Glob::new(
                &"{".repeat(20)
                    .chars()
                    .chain("}".repeat(20).chars())
                    .collect::<String>(),
                99
            )
            .is_err()
        );
        let stars = "*a".repeat(500);
        check(&stars, &[], &[&"a".repeat(499), &"b".repeat(2000)]);
        let doubling = "{a,b}".repeat(400);
        check(&doubling, &[&"ab".repeat(200)], &[&"a".repeat(399)]);
    }
}
