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
    examples: usize,
}

fn evidence(app: &RawApp) -> Evidence {
    let mut found = Evidence::default();
    for activity in &app.activities {
        let doc = activity.doc.as_ref().or(app.doc.as_ref());
        let name = activity.activity.clone();
        found.examples += activity.examples.len();
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
    let (mut apps, mut signatures, mut examples) = (0, 0, 0);
    for (_, yaml) in builtin::FILES {
        let raw = compile::parse(yaml).unwrap();
        for app in &raw.apps {
            apps += 1;
            signatures += app.activities.len();
            if app.activities.is_empty() {
                plain.entry(raw.category.clone()).or_default().push(format!("`{}`", app.id));
                continue;
            }
            let found = evidence(app);
            examples += found.examples;
            writeln!(
                deep,
                "| `{}` | {} | {} | {} | {} | {} |",
                app.id,
                raw.category,
                found.documented.join(" "),
                found.observed.join(" "),
                if app.instance.is_empty() { "" } else { "yes" },
                found.examples,
            )
            .unwrap();
        }
    }
    let mut out = format!("{apps} apps, {signatures} signatures, {examples} examples.\n\n");
    out.push_str("| app | category | documented | web client | instance | examples |\n");
    out.push_str("|---|---|---|---|---|---|\n");
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
