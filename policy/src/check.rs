//! Finds rules that read well and do not do what they say.

use crate::error::Problems;
use crate::rule::{Action, PolicySource, Rule};

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
