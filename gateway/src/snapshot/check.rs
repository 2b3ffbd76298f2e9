//! Everything there is to say of a configuration directory, warnings included.

use std::io;
use std::path::Path;

use policy::catalog::Catalog;
use policy::decrypt::DecryptSource;
use policy::yaml::{Node, Tree};
use policy::{Problem, Severity, Vocabulary};

use super::lists::Lists;
use super::source::{Source, TEXT_BYTES_MAX};
use super::{gateway, tenant};
use crate::config::{Layout, read_text, sort};
use crate::ident::TenantName;

/// Loads everything, changes nothing, and returns every mistake and warning in order of file and
/// place.
///
/// # Errors
/// Where the tenants' folder cannot be read.
pub fn check(dir: &Path) -> io::Result<Vec<Problem>> {
    let layout = Layout::new(dir);
    let (_, mut problems) = gateway::load(&layout, Source::Live);
    let catalog = Catalog::builtin().ok();
    let lists = Lists::default();
    let apps: Vec<&str> = catalog.iter().flat_map(Catalog::app_ids).collect();
    let categories = catalog.as_ref().map(Catalog::categories).unwrap_or_default();
    for name in layout.tenant_names()? {
        let (built, found) = tenant::load(&layout, &lists, &name, Source::Live);
        problems.extend(found);
        let dlp: Vec<&str> = built
            .iter()
            .flat_map(|tenant| tenant.config.content.profiles.keys().map(String::as_str))
            .collect();
        let own = built.iter().flat_map(|tenant| tenant.labels.categories());
        let mut categories: Vec<&str> = categories.iter().copied().chain(own).collect();
        categories.sort_unstable();
        categories.dedup();
        let known = Vocabulary { apps: &apps, categories: &categories, dlp: &dlp };
        problems.extend(warnings(&layout, &name, known));
    }
    sort(&mut problems);
    Ok(problems)
}

/// Settings that are read and checked, and that nothing acts on in this version.
fn without_effect(layout: &Layout, path: &Path, key: &[&str]) -> Option<Problem> {
    let file = layout.shown(path);
    let tree = Node::parse(&file, &read_text(path, TEXT_BYTES_MAX).ok()?).ok()?;
    let node = key.iter().try_fold(&tree, |node, step| node.child(step))?;
    let empty = match &node.value {
        Tree::Null => true,
        Tree::List(items) => items.is_empty(),
        Tree::Map(entries) => entries.is_empty(),
        Tree::Scalar(_) => false,
    };
    (!empty).then(|| Problem {
        file,
        line: node.at.line,
        column: node.at.column,
        what: format!("`{}` has no effect in this version", key.join(".")),
        expected: String::new(),
        severity: Severity::Warning,
    })
}

/// What loads and still does not do what its author wants. Errors are found by loading.
fn warnings(layout: &Layout, name: &TenantName, known: Vocabulary<'_>) -> Vec<Problem> {
    let folder = layout.tenant(name);
    let mut found = Vec::new();
    let path = folder.join("policy.yaml");
    if let Ok(text) = read_text(&path, TEXT_BYTES_MAX) {
        found.extend(policy::check(&layout.shown(&path), &text, known));
    }
    let path = folder.join("tenant.yaml");
    let file = layout.shown(&path);
    let tree =
        read_text(&path, TEXT_BYTES_MAX).ok().and_then(|text| Node::parse(&file, &text).ok());
    if let Some(tree) = tree {
        found.extend(DecryptSource::new(tree.child("decrypt").cloned()).check(&file, known));
        found.extend(unknown_apps(&file, &tree, known));
    }
    found.extend(without_effect(layout, &path, &["content", "profiles"]));
    found.retain(|problem| problem.severity == Severity::Warning);
    found
}

/// `instances` of an app that the catalog does not have match nothing.
fn unknown_apps(file: &str, tree: &Node, known: Vocabulary<'_>) -> Vec<Problem> {
    let Some(Tree::Map(entries)) = tree.child("instances").map(|node| &node.value) else {
        return Vec::new();
    };
    let unknown = entries.iter().filter_map(|(key, _)| {
        let app = key.text().filter(|app| !known.apps.contains(app))?;
        let nearest = policy::error::nearest(app, known.apps.iter().copied());
        Some(Problem {
            file: file.to_owned(),
            line: key.at.line,
            column: key.at.column,
            what: format!("unknown app `{app}`"),
            expected: nearest
                .map_or_else(|| "an app of the catalog".to_owned(), |app| format!("`{app}`")),
            severity: Severity::Warning,
        })
    });
    unknown.collect()
}
