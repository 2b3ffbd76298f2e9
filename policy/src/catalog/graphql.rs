//! The root fields of a GraphQL document: what it really asks for, whatever it calls itself.

use smallvec::SmallVec;

/// Root fields that are told apart; one more than can become operations, so that a cut shows.
const FIELDS_MAX: usize = super::OPERATIONS_MAX + 1;

/// Nesting that is followed. Servers refuse far less.
const DEPTH_MAX: usize = 256;

/// Whether a root field reads or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Query,
    Mutation,
    Subscription,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
            Self::Subscription => "subscription",
        }
    }
}

/// The root fields of all operations and of the fragments on root types, aliases resolved.
/// One pass; what is not GraphQL gives nothing.
pub(super) fn root_fields(document: &str) -> SmallVec<[(Kind, &str); 4]> {
    let mut reader = Reader { rest: document };
    let mut state = State::default();
    while let Some(token) = reader.next() {
        if state.fields.len() >= FIELDS_MAX || state.levels.len() > DEPTH_MAX {
            break;
        }
        state.take(token);
    }
    state.fields
}

enum Token<'t> {
    Name(&'t str),
    Mark(char),
    Spread,
}

struct State<'t> {
    fields: SmallVec<[(Kind, &'t str); 4]>,
    /// For each open brace, whether names right inside it are root fields.
    levels: SmallVec<[bool; 16]>,
    parentheses: usize,
    kind: Kind,
    /// Outside braces: whether the next selection is one of a root type.
    root: bool,
    in_fragment: bool,
    after_on: bool,
    /// Inside a selection: after `...`, until a name that is not `on` or a brace.
    spread: Spread,
    directive: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Spread {
    No,
    Begun,
    OnType,
    Inline,
}

impl Default for State<'_> {
    fn default() -> Self {
        Self {
            fields: SmallVec::new(),
            levels: SmallVec::new(),
            parentheses: 0,
            kind: Kind::Query,
            root: true,
            in_fragment: false,
            after_on: false,
            spread: Spread::No,
            directive: false,
        }
    }
}

impl<'t> State<'t> {
    fn take(&mut self, token: Token<'t>) {
        match token {
            Token::Mark('(') => self.parentheses += 1,
            Token::Mark(')') => self.parentheses = self.parentheses.saturating_sub(1),
            _ if self.parentheses > 0 => {}
            Token::Mark('{') => self.open(),
            Token::Mark('}') => self.close(),
            Token::Mark('@') => self.directive = true,
            // what came before was an alias
            Token::Mark(':') => {
                if self.levels.last() == Some(&true) {
                    self.fields.pop();
                }
            }
            Token::Mark(_) => {}
            Token::Spread => self.spread = Spread::Begun,
            Token::Name(_) if self.directive => self.directive = false,
            Token::Name(name) if self.levels.is_empty() => self.define(name),
            Token::Name(name) => self.select(name),
        }
    }

    fn open(&mut self) {
        let root = match self.levels.last() {
            None => self.root,
            Some(root) => *root && self.spread != Spread::No,
        };
        self.levels.push(root);
        self.spread = Spread::No;
    }

    fn close(&mut self) {
        self.levels.pop();
        self.spread = Spread::No;
        if self.levels.is_empty() {
            self.kind = Kind::Query;
            self.root = true;
            self.in_fragment = false;
        }
    }

    fn define(&mut self, name: &str) {
        if self.after_on {
            self.after_on = false;
            let lower = name.to_ascii_lowercase();
            self.root = true;
            if lower.contains("mutation") {
                self.kind = Kind::Mutation;
            } else if lower.contains("subscription") {
                self.kind = Kind::Subscription;
            } else {
                self.root = lower.contains("query");
            }
            return;
        }
        match name {
            "on" if self.in_fragment => self.after_on = true,
            "fragment" => self.in_fragment = true,
            "mutation" => self.kind = Kind::Mutation,
            "subscription" => self.kind = Kind::Subscription,
            _ => {}
        }
    }

    fn select(&mut self, name: &'t str) {
        match (self.spread, name) {
            (Spread::Begun, "on") => self.spread = Spread::OnType,
            (Spread::Begun, _) => self.spread = Spread::No,
            (Spread::OnType, _) => self.spread = Spread::Inline,
            (Spread::No | Spread::Inline, _) => {
                self.spread = Spread::No;
                if self.levels.last() == Some(&true) {
                    self.fields.push((self.kind, name));
                }
            }
        }
    }
}

struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Option<Token<'t>> {
        loop {
            let first = self.rest.chars().next()?;
            match first {
                '#' => {
                    let end = self.rest.find(['\n', '\r']).unwrap_or(self.rest.len());
                    self.skip(end);
                }
                '"' => self.skip_string(),
                'a'..='z' | 'A'..='Z' | '_' => {
                    let end = self
                        .rest
                        .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                        .unwrap_or(self.rest.len());
                    return self.skip(end).map(Token::Name);
                }
                '.' if self.rest.starts_with("...") => {
                    self.skip(3);
                    return Some(Token::Spread);
                }
                _ => {
                    self.skip(first.len_utf8());
                    if matches!(first, '{' | '}' | '(' | ')' | ':' | '@') {
                        return Some(Token::Mark(first));
                    }
                }
            }
        }
    }

    fn skip(&mut self, bytes: usize) -> Option<&'t str> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn skip_string(&mut self) {
        if let Some(block) = self.rest.strip_prefix("\"\"\"") {
            let mut from = block;
            while let Some((before, after)) = from.split_once("\"\"\"") {
                from = after;
                if !before.ends_with('\\') {
                    self.rest = from;
                    return;
                }
            }
            self.rest = "";
            return;
        }
        let mut escaped = false;
        let inner = self.rest.get(1..).unwrap_or_default();
        let end = inner.bytes().position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        });
        self.rest = end.and_then(|end| inner.get(end + 1..)).unwrap_or_default();
    }
}
