//! A tenant's own cases, `tenants/T/cases/*.yaml`: requests and the verdicts they must get. `check`
//! runs them, so that an edit which changes one is noticed before it is in force.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use policy::{Problem, Severity};
use serde::Deserialize;

use super::explain::own_addresses;
use super::output::Failure;
use crate::config::{FIRST, Layout, position, problem, read, read_text};
use crate::ident::TenantName;
use crate::serve;
use crate::snapshot::{Tenant, look};
use crate::verdict::explain::{Explanation, Setting, explain};
use crate::verdict::question::{self, NOBODY, Question, SOURCE};

/// Largest file of cases: thousands of them.
const CASES_BYTES_MAX: u64 = 8 << 20;

/// Whose an instance can be.
const INSTANCE_KINDS: [&str; 3] = ["corporate", "personal", "unknown"];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Cases {
    cases: Vec<Case>,
}

/// A request and what must come of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Case {
    name: String,
    /// `METHOD https://host/path?query`
    request: String,
    user: Option<String>,
    device: Option<String>,
    source_ip: Option<IpAddr>,
    dest_ip: Option<IpAddr>,
    /// When it is made (RFC 3339); now where it is not said.
    time: Option<String>,
    headers: BTreeMap<String, String>,
    body: Option<String>,
    expect: Expected,
}

/// What is said here must be so; what is not said is not looked at.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expected {
    action: Option<String>,
    /// `default` where no rule decides.
    rule: Option<String>,
    app: Option<String>,
    activity: Option<String>,
    instance: Option<String>,
    object: Option<String>,
    alerts: Option<Vec<String>>,
}

/// Runs the cases of every tenant that has some; what fails, with its place.
pub(super) fn run(layout: &Layout) -> Result<Vec<Problem>, Failure> {
    let names = layout.tenant_names().map_err(Failure::doing("reading the tenants"))?;
    let mut problems = Vec::new();
    let mut loaded = None;
    for name in names {
        let files = files(layout, &name).map_err(Failure::doing("reading a tenant's cases"))?;
        if files.is_empty() {
            continue;
        }
        let (unit, tenant) = look(layout, &name).map_err(Failure::Problems)?;
        let catalog = match &loaded {
            Some(catalog) => catalog,
            None => loaded.insert(super::explain::catalog()?),
        };
        let guard = serve::guard(&unit, own_addresses(&unit));
        let setting = Setting { tenant: &tenant, catalog, guard: &guard, places: &unit.places };
        for file in files {
            problems.extend(run_file(layout, &file, &setting));
        }
    }
    Ok(problems)
}

fn files(layout: &Layout, name: &TenantName) -> io::Result<Vec<PathBuf>> {
    let folder = layout.tenant(name).join("cases");
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "yaml" || it == "yml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn run_file(layout: &Layout, path: &std::path::Path, setting: &Setting<'_>) -> Vec<Problem> {
    let file = layout.shown(path);
    let text = match read_text(path, CASES_BYTES_MAX) {
        Ok(text) => text,
        Err(error) => return vec![problem(&file, FIRST, error.to_string(), "a readable file")],
    };
    let read = match read::<Cases>(&file, &text) {
        Ok(read) => read,
        Err(problems) => return problems,
    };
    let mut problems = Vec::new();
    for (index, case) in read.value.cases.iter().enumerate() {
        let at = position(&read.tree, &["cases", &index.to_string()]);
        let wrong = match question_of(case, setting.tenant) {
            Ok(_) if case.expect == Expected::default() => {
                vec!["`expect` says nothing, so nothing can fail".to_owned()]
            }
            Ok(question) => differences(&case.expect, &explain(setting, &question)),
            Err(what) => vec![what],
        };
        if !wrong.is_empty() {
            problems.push(Problem {
                file: file.clone(),
                line: at.line,
                column: at.column,
                what: format!("case `{}`: {}", case.name, wrong.join("; ")),
                expected: String::new(),
                severity: Severity::Error,
            });
        }
    }
    problems
}

fn question_of(case: &Case, tenant: &Tenant) -> Result<Question, String> {
    let (method, url) = case
        .request
        .split_once(' ')
        .ok_or_else(|| format!("`{}` is not `METHOD https://host/path`", case.request))?;
    let headers: Vec<_> =
        case.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let body = case.body.as_ref().map(|body| bytes::Bytes::copy_from_slice(body.as_bytes()));
    let request = question::request(url.trim(), Some(method), &headers, body.as_ref())
        .map_err(|error| error.to_string())?;
    let now = match &case.time {
        None => super::explain::now(),
        Some(time) => time
            .parse::<jiff::Timestamp>()
            .map_err(|_| format!("`{time}` is no time such as `2026-11-23T12:00:00Z`"))?
            .as_second(),
    };
    let user = case.user.as_deref().unwrap_or(NOBODY);
    Ok(Question {
        who: tenant.directory.who(user.into(), case.device.as_deref().map(Into::into)),
        source: case.source_ip.unwrap_or(SOURCE),
        address: case.dest_ip,
        now,
        request,
        body,
    })
}

fn differences(wanted: &Expected, got: &Explanation) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: &str, wanted: Option<&str>, got: Option<&str>| {
        let Some(wanted) = wanted else { return };
        let got = got.unwrap_or("none");
        if wanted != got {
            wrong.push(format!("{what} is `{got}`, not `{wanted}`"));
        }
    };
    compare("action", wanted.action.as_deref(), Some(got.action));
    compare("rule", wanted.rule.as_deref(), Some(got.rule.as_deref().unwrap_or("default")));
    compare("app", wanted.app.as_deref(), got.app.as_deref());
    compare("activity", wanted.activity.as_deref(), got.activity.as_deref());
    // As in rules: whose it is, or its own id.
    let kind = wanted.instance.as_deref().filter(|it| INSTANCE_KINDS.contains(it));
    let instance = if kind.is_some() { got.instance_kind } else { got.instance.as_deref() };
    compare("instance", wanted.instance.as_deref(), instance);
    compare("object", wanted.object.as_deref(), got.object.as_deref());
    if let Some(alerts) = &wanted.alerts
        && *alerts != got.alerts
    {
        wrong.push(format!("alerts are {:?}, not {alerts:?}", got.alerts));
    }
    wrong
}
