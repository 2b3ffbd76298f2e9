//! Finds rules that read well and do not do what they say.

use crate::catalog::Catalog;
use crate::catalog::names::{ACTIVITIES, TAGS};
use crate::contradiction;
use crate::error::{Problem, Problems, nearest};
use crate::evaluate::Traits;
use crate::fact::{Gate, Key};
use crate::parse;
use crate::pattern::{Form, Pattern};
use crate::rule::{Action, Condition, DefaultAction, PolicySource, Rule, Want};

/// Rules above which no search for shadowed rules is made: it compares each with each.
const SHADOW_RULES_MAX: usize = 5_000;

/// How clients reach the gateway, as rules name it.
pub const ACCESS_METHODS: [&str; 5] = ["tls", "quic", "dtls", "openconnect", "explicit"];

/// How far content was inspected, as rules name it.
pub const INSPECTIONS: [&str; 3] = ["full", "partial", "none"];

/// Names that exist beside the policy. An empty slice means that nothing is known of that kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vocabulary<'n> {
    pub apps: &'n [&'n str],
    pub categories: &'n [&'n str],
    /// The tenant's content profiles, where they are known: an empty list means that there are none.
    pub dlp: Option<&'n [&'n str]>,
    /// Categories that the tenant gives to hosts by itself.
    pub own_categories: &'n [&'n str],
    /// Whether some address database names countries, where that is known.
    pub countries: Option<bool>,
    /// What apps are, for rules whose keys rule each other out.
    pub catalog: Option<&'n Catalog>,
}

/// Everything there is to say of a policy file: errors and warnings, in the order of the file.
#[must_use]
pub fn check(file: &str, text: &str, known: Vocabulary<'_>) -> Vec<Problem> {
    let mut problems = Problems::new(file);
    if let Some(source) = parse::read(file, text, &mut problems) {
        order(&source, &mut problems);
        for rule in &source.rules {
            names(&rule.conditions, known, &mut problems);
            overtaken_by_default(&source, rule, &mut problems);
        }
        contradiction::find(&source.rules, known, &mut problems);
        shadowed(&source.rules, &mut problems);
        overtaken(&source.rules, &mut problems);
    }
    problems.into_vec()
}

/// Refuses an `allow` that must wait above a rule that decides before it.
pub(crate) fn order(source: &PolicySource, problems: &mut Problems) {
    // The rule below that decides first, seen from the end.
    let mut earliest: Option<&Rule> = None;
    for rule in source.rules.iter().rev() {
        if let (Action::Allow, Some(below)) = (rule.action, earliest)
            && rule.gate() > below.gate()
        {
            let what = format!(
                "`{}` allows only at the {}, and `{}` (line {}) below it decides at the {}",
                rule.name,
                rule.gate().name(),
                below.name,
                below.at.line,
                below.gate().name()
            );
            problems.error(
                rule.at,
                what,
                "the rule that allows below it, or without its late keys",
            );
        }
        let decides = rule.action.decides() && rule.action != Action::Allow;
        if decides && earliest.is_none_or(|below| rule.gate() <= below.gate()) {
            earliest = Some(rule);
        }
    }
}

/// Warns of values that nothing bears.
pub(crate) fn names(conditions: &[Condition], known: Vocabulary<'_>, problems: &mut Problems) {
    for condition in conditions {
        let by_country = matches!(condition.key, Key::SourceCountry | Key::DestCountry);
        if by_country && known.countries == Some(false) {
            let what = format!(
                "`{}` cannot be had: no database of `events.geoip` names countries",
                condition.key.name()
            );
            problems.warning(condition.at, what, "such a database in gateway.yaml");
        }
        let names: &[&str] = match condition.key {
            Key::App => known.apps,
            Key::Category => known.categories,
            Key::AppTag => TAGS,
            Key::Dlp => known.dlp.unwrap_or_default(),
            Key::Activity => ACTIVITIES,
            Key::AccessMethod => &ACCESS_METHODS,
            Key::Inspection => &INSPECTIONS,
            _ => &[],
        };
        let no_profiles = condition.key == Key::Dlp && known.dlp.is_some_and(<[_]>::is_empty);
        if names.is_empty() && !no_profiles {
            continue;
        }
        for test in &condition.tests {
            let Want::Text(pattern) = &test.want else {
                continue;
            };
            let exact = |name: &&str| Pattern {
                form: Form::Exact,
                text: (*name).to_owned(),
                whole_url: false,
            };
            if names.iter().any(|name| pattern.covers(&exact(name))) {
                continue;
            }
            let expected = match nearest(&test.written, names.iter().copied()) {
                Some(near) => format!("perhaps `{near}`"),
                None if no_profiles => {
                    "a profile under `content.profiles` of tenant.yaml".to_owned()
                }
                None if names.len() <= ACTIVITIES.len() => format!("one of {}", names.join(", ")),
                None => "a name of the catalog".to_owned(),
            };
            let what = format!("no `{}` is named `{}`", condition.key.name(), test.written);
            problems.warning(test.at, what, expected);
        }
    }
}

/// Warns of rules that a rule above always keeps from deciding.
fn shadowed(rules: &[Rule], problems: &mut Problems) {
    if rules.len() > SHADOW_RULES_MAX {
        return;
    }
    for (place, rule) in rules.iter().enumerate() {
        let above = rules.iter().take(place).find(|above| shadows(above, rule));
        if let Some(above) = above {
            let what = format!(
                "`{}` can never match: `{}` (line {}) matches all of it before",
                rule.name, above.name, above.at.line
            );
            problems.warning(rule.at, what, "it above that rule, or narrower rules there");
        }
    }
    for rule in rules {
        for condition in rule.conditions.iter().filter(|condition| condition.negated) {
            if condition.tests.iter().any(|test| is_everything(&test.want)) {
                let what =
                    format!("`{}` excludes every value of `{}`", rule.name, condition.key.name());
                problems.warning(condition.at, what, "a value that it may have");
            }
        }
    }
}

fn shadows(above: &Rule, below: &Rule) -> bool {
    if !above.action.decides() {
        return false;
    }
    // Over a fact that cannot be had, a rule above may stand aside where the one below does not.
    let (upper, lower) = (Traits::of(above), Traits::of(below));
    let stands = upper.over_unobtainable || !lower.over_unobtainable || above.conditions.is_empty();
    stands
        && above.conditions.iter().all(|wide| {
            below.conditions.iter().any(|narrow| narrow.key == wide.key && covers(wide, narrow))
        })
}

/// Whether `wide` holds wherever `narrow` does, as far as can be told without solving anything.
fn covers(wide: &Condition, narrow: &Condition) -> bool {
    let all_in = |inner: &Condition, outer: &Condition| {
        inner
            .tests
            .iter()
            .all(|inner| outer.tests.iter().any(|outer| wants_all_of(&outer.want, &inner.want)))
    };
    match (wide.negated, narrow.negated) {
        (false, false) => all_in(narrow, wide),
        (true, true) => all_in(wide, narrow),
        (true, false) | (false, true) => false,
    }
}

fn wants_all_of(outer: &Want, inner: &Want) -> bool {
    match (outer, inner) {
        (Want::Text(outer), Want::Text(inner)) => outer.covers(inner),
        (Want::Number { low, high }, Want::Number { low: inner_low, high: inner_high }) => {
            low <= inner_low && inner_high <= high
        }
        (Want::Network(outer), Want::Network(inner)) => outer.contains(inner),
        (Want::Window(outer), Want::Window(inner)) => outer == inner,
        _ => false,
    }
}

fn is_everything(want: &Want) -> bool {
    matches!(want, Want::Text(pattern) if pattern.form == Form::Contains && pattern.text.is_empty())
}

/// Warns of a milder rule that waits above a stricter one that does not.
fn overtaken(rules: &[Rule], problems: &mut Problems) {
    let mut earliest_block: Option<&Rule> = None;
    for rule in rules.iter().rev() {
        if let (Action::Coach | Action::Redirect, Some(below)) = (rule.action, earliest_block)
            && rule.gate() > below.gate()
        {
            let what = format!(
                "`{}` waits for the {}, and `{}` (line {}) may block before",
                rule.name,
                rule.gate().name(),
                below.name,
                below.at.line
            );
            problems.warning(rule.at, what, "rules in the order in which they can be decided");
        }
        let earlier = earliest_block.is_none_or(|below| rule.gate() <= below.gate());
        if rule.action == Action::Block && earlier {
            earliest_block = Some(rule);
        }
    }
}

/// Warns of what must be sent before the rule that allows it is decided.
fn overtaken_by_default(source: &PolicySource, rule: &Rule, problems: &mut Problems) {
    let late = rule.action == Action::Allow && rule.gate() == Gate::Response;
    if late && source.default == DefaultAction::Block {
        let what = format!(
            "`{}` is decided after the request was sent, although the default is block",
            rule.name
        );
        problems.warning(rule.at, what, "keys known before the response");
    }
}
