//! Everything there is to say of a configuration directory, warnings included.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use policy::catalog::Catalog;
use policy::decrypt::DecryptSource;
use policy::fact::{Fact, Facts, Key, Value};
use policy::list::Found;
use policy::rule::Want;
use policy::yaml::{Node, Tree};
use policy::{Form, Pattern, Problem, Severity, Vocabulary};

use super::lists::Lists;
use super::source::{Source, TEXT_BYTES_MAX};
use super::{Tenant, gateway, tenant};
use crate::config::{FIRST, Layout, problem, read_text, sort};
use crate::ident::TenantName;

/// Loads everything, changes nothing, and returns every mistake and warning in order of file and
/// place.
///
/// # Errors
/// Where the tenants' folder cannot be read.
pub fn check(dir: &Path) -> io::Result<Vec<Problem>> {
    let layout = Layout::new(dir);
    let (gateway, mut problems) = gateway::load(&layout, Source::Live);
    let catalog = Catalog::builtin().ok();
    let lists = Lists::default();
    let apps: Vec<&str> = catalog.iter().flat_map(Catalog::app_ids).collect();
    let categories = catalog.as_ref().map(Catalog::categories).unwrap_or_default();
    for name in layout.tenant_names()? {
        let (built, found) = tenant::load(&layout, &lists, &name, Source::Live);
        problems.extend(found);
        let dlp: Option<Vec<&str>> = built
            .as_ref()
            .map(|tenant| tenant.config.content.profiles.keys().map(String::as_str).collect());
        let own = built.iter().flat_map(|tenant| tenant.labels.categories());
        let own: BTreeSet<&str> = own.collect();
        let own: Vec<&str> = own.into_iter().collect();
        let categories: Vec<&str> = categories.iter().chain(&own).copied().collect();
        let known = Vocabulary {
            apps: &apps,
            categories: &categories,
            dlp: dlp.as_deref(),
            own_categories: &own,
            countries: gateway.as_ref().map(|gateway| gateway.places.names_countries()),
            catalog: catalog.as_ref(),
        };
        if let (Some(tenant), Some(catalog)) = (&built, &catalog) {
            problems.extend(unread_restrictions(&layout, tenant, catalog));
        }
        problems.extend(warnings(&layout, &name, known));
    }
    sort(&mut problems);
    Ok(problems)
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
    found.retain(|problem| problem.severity == Severity::Warning);
    found
}

/// Vendors' restrictions are headers: on a flow that is carried unread they never arrive, and users
/// sign in to any tenant there.
fn unread_restrictions(layout: &Layout, tenant: &Tenant, catalog: &Catalog) -> Vec<Problem> {
    let path = layout.tenant(&tenant.name).join("tenant.yaml");
    let file = layout.shown(&path);
    let mut found: Vec<Problem> = Vec::new();
    let restrict = &tenant.config.restrict;
    let named: Vec<String> =
        NAMED_BELOW.iter().map(|&name| name.to_owned()).chain(named(tenant)).collect();
    let named =
        named.iter().flat_map(|host| restrict.on(host).map(|vendor| (vendor, host.clone())));
    let listed = restrict.hosts().count();
    for (place, (vendor, host)) in restrict.hosts().chain(named).enumerate() {
        let site = catalog.site(&host);
        let mut own = Found::new();
        tenant.labels.find(&host, &mut own);
        let categories: Vec<&str> = site.categories.iter().copied().chain(own).collect();
        let mut facts = Facts::new();
        let text = |value| Fact::Known(Value::Text(value));
        facts.set(Key::Domain, text(&host));
        facts.set(Key::App, site.app.map_or(Fact::Inapplicable, text));
        facts.set(Key::AppTag, Fact::Known(Value::Texts(site.tags)));
        facts.set(Key::Category, Fact::Known(Value::Texts(&categories)));
        let risk = site.risk.map_or(Fact::Inapplicable, |it| Fact::Known(Value::Number(it.into())));
        facts.set(Key::Risk, risk);
        let Some(rule) = tenant.decrypt.may_bypass(&facts) else { continue };
        let (at, by) = rule.map_or((FIRST, "default"), |rule| (rule.at, rule.name.as_str()));
        let of_vendor = format!("`restrict.{vendor}`");
        let what = format!("`{by}` carries {host} unread, so {of_vendor} has no effect");
        // Of a vendor's further hosts one is enough to say which rule it is.
        let told = |it: &Problem| {
            let same = (it.line, it.column) == (at.line, at.column);
            it.what == what || (place >= listed && same && it.what.contains(&of_vendor))
        };
        if !found.iter().any(told) {
            found.push(problem(&file, at, what, "that host decrypted, or no restriction"));
        }
    }
    found
}

/// Hosts below a vendor's name where people sign in and work: apps of their own to the catalog.
const NAMED_BELOW: [&str; 4] =
    ["accounts.google.com", "mail.google.com", "drive.google.com", "docs.google.com"];

/// Hosts that the tenant's own decrypt rules and categories name; one below a pattern's.
fn named(tenant: &Tenant) -> impl Iterator<Item = String> {
    let conditions = tenant.decrypt.rules().iter().flat_map(|rule| &rule.conditions);
    let domains = conditions.filter(|it| it.key == Key::Domain).flat_map(|it| &it.tests);
    let domains = domains.filter_map(|test| match &test.want {
        Want::Text(Pattern { form: Form::Exact, text, .. }) => Some(text.clone()),
        Want::Text(Pattern { form: Form::Suffix, text, .. }) => Some(format!("www{text}")),
        _ => None,
    });
    let own =
        tenant.config.categories.values().flatten().map(|name| name.as_str().replace('*', "www"));
    domains.chain(own)
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
