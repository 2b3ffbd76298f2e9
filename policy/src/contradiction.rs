//! Finds rules whose keys rule each other out, by what the catalog knows: they can never match.

use crate::catalog::{App, Catalog};
use crate::check::Vocabulary;
use crate::error::Problems;
use crate::fact::Key;
use crate::pattern::{Form, Pattern};
use crate::rule::{Condition, Rule, Want};

/// Warns of each key that no app (or name) of another key fits.
pub(crate) fn find(rules: &[Rule], known: Vocabulary<'_>, problems: &mut Problems) {
    let Some(catalog) = known.catalog else { return };
    for rule in rules {
        let Some(apps) = condition(rule, Key::App).and_then(|it| named(it, catalog)) else {
            continue;
        };
        for other in rule.conditions.iter().filter(|it| it.key != Key::App) {
            if apps.iter().any(|app| may_hold(other, app, catalog, known)) {
                continue;
            }
            let what = format!(
                "`{}` can never match: no `app` of it has such a `{}`",
                rule.name,
                other.key.name()
            );
            problems.warning(other.at, what, seen(other.key, &apps));
        }
    }
}

fn condition(rule: &Rule, key: Key) -> Option<&Condition> {
    rule.conditions.iter().find(|it| it.key == key && !it.negated)
}

/// The apps that a condition names; `None` where it names none, which is told elsewhere.
fn named<'c>(condition: &Condition, catalog: &'c Catalog) -> Option<Vec<App<'c>>> {
    let wanted = |id: &str| condition.tests.iter().any(|test| holds(&test.want, id));
    let apps: Vec<_> = catalog.apps().filter(|app| wanted(app.id)).collect();
    (!apps.is_empty()).then_some(apps)
}

/// Whether a condition may hold for a request of this app; `true` where that cannot be told.
fn may_hold(
    condition: &Condition,
    app: &App<'_>,
    catalog: &Catalog,
    known: Vocabulary<'_>,
) -> bool {
    let any = |values: &[&str]| {
        values.iter().any(|value| condition.tests.iter().any(|test| holds(&test.want, value)))
    };
    match condition.key {
        // A list of the tenant's own may put any host in its categories.
        Key::Category if !condition.negated => {
            any(app.site.categories) || any(known.own_categories)
        }
        Key::Category | Key::AppTag => {
            let values =
                if condition.key == Key::AppTag { app.site.tags } else { app.site.categories };
            any(values) != condition.negated
        }
        Key::Risk => {
            let risk = app.site.risk.map_or(0, u64::from);
            let any = condition.tests.iter().any(
                |test| matches!(test.want, Want::Number { low, high } if (low..=high).contains(&risk)),
            );
            any != condition.negated
        }
        Key::Domain if !condition.negated => condition.tests.iter().any(|test| {
            let Want::Text(Pattern { form: Form::Exact, text, .. }) = &test.want else {
                return true;
            };
            // A host that apps share by its paths may be this app's.
            catalog.settled_site(text).is_none_or(|site| site.app == Some(app.id))
        }),
        _ => true,
    }
}

fn holds(want: &Want, value: &str) -> bool {
    matches!(want, Want::Text(pattern) if pattern.matches(value))
}

/// What the apps do have, for the message.
fn seen(key: Key, apps: &[App<'_>]) -> String {
    /// Apps named in a message.
    const SHOWN: usize = 3;
    let one = |app: &App<'_>| match key {
        Key::Category => format!("{} is in {}", app.id, app.site.categories.join(", ")),
        Key::AppTag => format!("{} has {}", app.id, app.site.tags.join(", ")),
        Key::Risk => format!("{} has {}", app.id, app.site.risk.unwrap_or(0)),
        _ => format!("a name of {}", app.id),
    };
    apps.iter().take(SHOWN).map(one).collect::<Vec<_>>().join("; ")
}
