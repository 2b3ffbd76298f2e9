//! A policy as its author wrote it: rules, conditions and the values they want, with their places.

use ipnet::IpNet;

use crate::error::Position;
use crate::fact::{Gate, Key, KeySet};
use crate::pattern::Pattern;
use crate::window::Window;

/// A policy file that reads well. [`Policy::compile`](crate::Policy::compile) makes it work.
#[derive(Clone, Debug)]
pub struct PolicySource {
    /// As given to [`PolicySource::parse`]; only for messages.
    pub file: String,
    pub rules: Vec<Rule>,
    pub default: DefaultAction,
}

/// What happens where no rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    Allow,
    Block,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub at: Position,
    /// All must hold. None at all means the rule always matches.
    pub conditions: Vec<Condition>,
    pub action: Action,
    /// Only `block` and `coach` have a choice; the others never match over an unobtainable fact.
    pub unobtainable: OnUnobtainable,
    /// What the page says to the user.
    pub message: Option<String>,
    /// `set_headers` only: names and values, in order.
    pub headers: Vec<(String, String)>,
    /// `redirect` only: an absolute URL.
    pub location: Option<String>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Allow,
    Block,
    Coach,
    Alert,
    SetHeaders,
    Redirect,
}

/// What a `block` or `coach` rule does where a fact it needs cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnUnobtainable {
    Block,
    Coach,
    Skip,
}

/// One key of a rule's `match`.
#[derive(Clone, Debug)]
pub struct Condition {
    pub key: Key,
    pub at: Position,
    /// `{not: [...]}`: holds where none of `tests` matches.
    pub negated: bool,
    /// Any may match. Never empty in a source that was parsed.
    pub tests: Vec<Test>,
}

/// One value of a condition.
#[derive(Clone, Debug)]
pub struct Test {
    pub at: Position,
    /// As the author wrote it.
    pub written: String,
    pub want: Want,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    Text(Pattern),
    /// Both ends included.
    Number {
        low: u64,
        high: u64,
    },
    Network(IpNet),
    Window(Window),
}

impl Rule {
    /// The gate at which it is decided at the latest.
    #[must_use]
    pub fn gate(&self) -> Gate {
        self.conditions.iter().map(|condition| condition.key.gate()).max().unwrap_or(Gate::Connect)
    }

    /// The keys it matches on.
    #[must_use]
    pub fn keys(&self) -> KeySet {
        self.conditions.iter().map(|condition| condition.key).collect()
    }
}

impl Action {
    pub const ALL: [Self; 6] =
        [Self::Allow, Self::Block, Self::Coach, Self::Alert, Self::SetHeaders, Self::Redirect];

    /// The name in a policy and in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Coach => "coach",
            Self::Alert => "alert",
            Self::SetHeaders => "set_headers",
            Self::Redirect => "redirect",
        }
    }

    /// Whether a match ends the evaluation.
    #[must_use]
    pub const fn decides(self) -> bool {
        !matches!(self, Self::Alert | Self::SetHeaders)
    }
}

impl OnUnobtainable {
    pub const ALL: [Self; 3] = [Self::Block, Self::Coach, Self::Skip];

    /// The name in a policy.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Coach => "coach",
            Self::Skip => "skip",
        }
    }
}
