//! Prints how long one verdict takes in each engine, over the same rules, and the ratios.
//!
//! The rules are of four shapes (app and activity and not a group; category and group; port;
//! domain) with the action block; the question is one that no rule blocks, so that each engine has
//! to rule out all of them, as most traffic makes it.

use std::fmt::Write as _;
use std::hint::black_box;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, RestrictedExpression,
};
use policy::Policy;
use policy::fact::{Fact, Facts, Gate, Key, Value};
use policy::verdict::Outcome;

/// Longest that one figure is measured.
const SPAN: Duration = Duration::from_millis(1_500);
/// Fewest runs of it, however long they take.
const RUNS_MIN: usize = 5;

/// One rule, in no engine's language.
enum Rule {
    App { app: String, not_group: String },
    Category { category: String, group: String },
    Port { port: u16, app: String },
    Domain { domain: String },
}

fn rules(count: usize) -> Vec<Rule> {
    let shape = |n: usize| match n % 4 {
        0 => Rule::App { app: format!("app-{}", n % 211), not_group: format!("group-{}", n % 97) },
        1 => Rule::Category { category: format!("cat-{n}"), group: format!("group-{}", n % 97) },
        2 => Rule::Port { port: 1024 + (n % 5000) as u16, app: format!("app-{}", n % 211) },
        _ => Rule::Domain { domain: format!("site{n}.test") },
    };
    (0..count).map(shape).collect()
}

/// What is asked: no rule blocks it.
const APP: &str = "app-999";
const ACTIVITY: &str = "upload";
const CATEGORY: &str = "cloud-storage";
const DOMAIN: &str = "files.example.test";
const PORT: u16 = 443;
const GROUPS: [&str; 4] = ["staff", "group-3", "group-17", "berlin"];

fn main() {
    println!(
        "{:>7} {:>14} {:>12} {:>10} {:>10} {:>9}",
        "rules", "engine", "per verdict", "x sluice", "load", "verdict"
    );
    for count in [100, 1_000, 10_000] {
        let rules = rules(count);
        let begun = Instant::now();
        let sluice = sluice(&rules);
        let loaded = begun.elapsed();
        let facts = facts();
        let ours = time(|| {
            let verdict = sluice.judge(Gate::RequestHead, black_box(&facts));
            matches!(verdict.outcome, Outcome::Allow { .. })
        });
        row(count, "sluice", ours, ours, loaded);
        let naive_time = time(|| naive(black_box(&rules)));
        row(count, "naive loop", naive_time, ours, Duration::ZERO);
        let reference = sluice.reference();
        let slow = time(|| {
            let verdict = reference.judge(Gate::RequestHead, black_box(&facts));
            matches!(verdict.outcome, Outcome::Allow { .. })
        });
        row(count, "our reference", slow, ours, Duration::ZERO);
        cedar(count, &rules, ours);
        rego(count, &rules, ours);
    }
}

fn row(rules: usize, engine: &str, took: Duration, ours: Duration, loaded: Duration) {
    let ratio = took.as_secs_f64() / ours.as_secs_f64();
    println!("{rules:>7} {engine:>14} {took:>12.2?} {ratio:>10.1} {loaded:>10.1?} {:>9}", "allow");
}

/// The median of the runs; each must answer that the request may go.
fn time(mut run: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < SPAN || times.len() < RUNS_MIN {
        let one = Instant::now();
        assert!(run(), "the engines disagree");
        times.push(one.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

fn sluice(rules: &[Rule]) -> Policy {
    let mut text = String::from("version: 1\nrules:\n");
    for (n, rule) in rules.iter().enumerate() {
        let keys = match rule {
            Rule::App { app, not_group } => {
                format!("app: {app}, activity: [upload, share], group: {{ not: [{not_group}] }}")
            }
            Rule::Category { category, group } => format!("category: {category}, group: {group}"),
            Rule::Port { port, app } => format!("dest_port: {port}, app: {app}"),
            Rule::Domain { domain } => format!("domain: {domain}"),
        };
        writeln!(text, "  - {{ name: r{n}, match: {{ {keys} }}, action: block }}").unwrap();
    }
    Policy::load("peers.yaml", &text).unwrap()
}

fn facts() -> Facts<'static> {
    let mut facts = Facts::new();
    for key in Key::ALL {
        facts.set(key, Fact::Inapplicable);
    }
    facts.set(Key::App, Fact::Known(Value::Text(APP)));
    facts.set(Key::Activity, Fact::Known(Value::Text(ACTIVITY)));
    facts.set(Key::Category, Fact::Known(Value::Text(CATEGORY)));
    facts.set(Key::Domain, Fact::Known(Value::Text(DOMAIN)));
    facts.set(Key::DestPort, Fact::Known(Value::Number(PORT.into())));
    facts.set(Key::Group, Fact::Known(Value::Texts(&GROUPS)));
    facts
}

/// As one would write it: every rule in turn, strings compared.
fn naive(rules: &[Rule]) -> bool {
    !rules.iter().any(|rule| match rule {
        Rule::App { app, not_group } => {
            app == APP
                && ["upload", "share"].contains(&ACTIVITY)
                && !GROUPS.contains(&not_group.as_str())
        }
        Rule::Category { category, group } => {
            category == CATEGORY && GROUPS.contains(&group.as_str())
        }
        Rule::Port { port, app } => *port == PORT && app == APP,
        Rule::Domain { domain } => domain == DOMAIN,
    })
}

fn cedar(count: usize, rules: &[Rule], ours: Duration) {
    let mut text = String::from("permit(principal, action, resource);\n");
    for rule in rules {
        let condition = match rule {
            Rule::App { app, not_group } => format!(
                "context.app == \"{app}\" && [\"upload\", \"share\"].contains(context.activity) && \
                 !context.groups.contains(\"{not_group}\")"
            ),
            Rule::Category { category, group } => format!(
                "context.category == \"{category}\" && context.groups.contains(\"{group}\")"
            ),
            Rule::Port { port, app } => {
                format!("context.port == {port} && context.app == \"{app}\"")
            }
            Rule::Domain { domain } => format!("context.domain == \"{domain}\""),
        };
        writeln!(text, "forbid(principal, action, resource) when {{ {condition} }};").unwrap();
    }
    let begun = Instant::now();
    let policies = PolicySet::from_str(&text).unwrap();
    let loaded = begun.elapsed();
    let entities = Entities::empty();
    let authorizer = Authorizer::new();
    let name = |text: &str| EntityUid::from_str(text).unwrap();
    let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
    let context = || {
        Context::from_pairs([
            ("app".to_owned(), text(APP)),
            ("activity".to_owned(), text(ACTIVITY)),
            ("category".to_owned(), text(CATEGORY)),
            ("domain".to_owned(), text(DOMAIN)),
            ("port".to_owned(), RestrictedExpression::new_long(PORT.into())),
            ("groups".to_owned(), RestrictedExpression::new_set(GROUPS.map(text))),
        ])
        .unwrap()
    };
    // Made once: only the decision is measured.
    let request = Request::new(
        name("User::\"alice\""),
        name("Action::\"send\""),
        name("Site::\"files\""),
        context(),
        None,
    )
    .unwrap();
    let took = time(|| {
        let response = authorizer.is_authorized(black_box(&request), &policies, &entities);
        response.decision() == Decision::Allow
    });
    row(count, "cedar-policy", took, ours, loaded);
}

fn rego(count: usize, rules: &[Rule], ours: Duration) {
    let mut text = String::from("package sluice\n\ndefault block := false\n\n");
    for rule in rules {
        let condition = match rule {
            Rule::App { app, not_group } => format!(
                "input.app == \"{app}\"; input.activity in {{\"upload\", \"share\"}}; \
                 not \"{not_group}\" in input.groups"
            ),
            Rule::Category { category, group } => {
                format!("input.category == \"{category}\"; \"{group}\" in input.groups")
            }
            Rule::Port { port, app } => format!("input.port == {port}; input.app == \"{app}\""),
            Rule::Domain { domain } => format!("input.domain == \"{domain}\""),
        };
        writeln!(text, "block if {{ {condition} }}").unwrap();
    }
    let begun = Instant::now();
    let mut engine = regorus::Engine::new();
    engine.add_policy("rules.rego".to_owned(), text).unwrap();
    let input = serde_json::json!({
        "app": APP, "activity": ACTIVITY, "category": CATEGORY, "domain": DOMAIN, "port": PORT,
        "groups": GROUPS,
    });
    engine.set_input(regorus::Value::from_json_str(&input.to_string()).unwrap());
    let blocked = |engine: &mut regorus::Engine| {
        engine.eval_rule("data.sluice.block".to_owned()).unwrap() == regorus::Value::from(true)
    };
    // The first evaluation prepares the rules.
    assert!(!blocked(&mut engine));
    let loaded = begun.elapsed();
    let took = time(|| !blocked(&mut engine));
    row(count, "regorus", took, ours, loaded);
}
