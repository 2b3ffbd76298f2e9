//! Keeps the table of docs/catalog.md equal to the catalog; `SLUICE_UPDATE_DOCS=1` rewrites it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::file::RawApp;
use super::{builtin, compile};

const BEGIN: &str = "<!-- coverage: generated from policy/catalog -->\n";

/// Whether a page of the vendor's documents an activity, or only its web client shows it.
#[derive(Default)]
struct Evidence {
    documented: Vec<String>,
    observed: Vec<String>,
    rules: Cited,
    examples: usize,
}

/// What rules cite: the endpoint's own page, the app's, or the web client alone.
#[derive(Clone, Copy, Default)]
struct Cited {
    endpoint: usize,
    app: usize,
    client: usize,
}

impl Cited {
    fn count(&mut self, app: Option<&str>, own: Option<&str>) {
        match own.or(app) {
            Some("web-client") | None => self.client += 1,
            _ if own.is_none() || own == app => self.app += 1,
            Some(_) => self.endpoint += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.endpoint += other.endpoint;
        self.app += other.app;
        self.client += other.client;
    }
}

fn evidence(app: &RawApp) -> Evidence {
    let mut found = Evidence::default();
    for activity in &app.activities {
        let doc = activity.doc.as_ref().or(app.doc.as_ref());
        let name = activity.activity.clone();
        found.examples += activity.examples.len();
        found.rules.count(app.doc.as_deref(), activity.doc.as_deref());
        let list = match doc.map(String::as_str) {
            Some("web-client") | None => &mut found.observed,
            Some(_) => &mut found.documented,
        };
        if !list.contains(&name) {
            list.push(name);
        }
    }
    found
}

fn coverage() -> String {
    let mut deep = String::new();
    let mut plain: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut apps, mut examples, mut cited) = (0, 0, Cited::default());
    for (_, yaml) in builtin::FILES {
        let raw = compile::parse(yaml).unwrap();
        for app in &raw.apps {
            apps += 1;
            if app.activities.is_empty() {
                plain.entry(raw.category.clone()).or_default().push(format!("`{}`", app.id));
                continue;
            }
            let found = evidence(app);
            examples += found.examples;
            cited.add(found.rules);
            writeln!(
                deep,
                "| `{}` | {} | {} | {} | {} / {} / {} | {} | {} |",
                app.id,
                raw.category,
                found.documented.join(" "),
                found.observed.join(" "),
                found.rules.endpoint,
                found.rules.app,
                found.rules.client,
                if app.instance.is_empty() { "" } else { "yes" },
                found.examples,
            )
            .unwrap();
        }
    }
    let Cited { endpoint, app, client } = cited;
    let rules = endpoint + app + client;
    let mut out = format!(
        "{apps} apps, {rules} rules, {examples} examples. {endpoint} rules cite the page of their \
         endpoint, {app} the page of their app, {client} the web client alone.\n\n"
    );
    out.push_str("| app | category | documented | web client | rules | instance | examples |\n");
    out.push_str("|---|---|---|---|---|---|---|\n");
    out.push_str(&deep);
    out.push_str(
        "\nKnown by name, category, tags and risk; activities by the universal rules:\n\n",
    );
    for (category, ids) in plain {
        writeln!(out, "- **{category}**: {}", ids.join(" ")).unwrap();
    }
    out
}

#[test]
fn the_coverage_table_is_the_catalogs() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/catalog.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (prose, table) = text.split_once(BEGIN).unwrap();
    let fresh = coverage();
    if std::env::var_os("SLUICE_UPDATE_DOCS").is_some() {
        std::fs::write(&file, format!("{prose}{BEGIN}\n{fresh}")).unwrap();
        return;
    }
    assert_eq!(table.trim(), fresh.trim(), "run with SLUICE_UPDATE_DOCS=1");
}
