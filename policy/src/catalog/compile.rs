//! From catalog files to a catalog: every name checked, every pattern parsed, every problem told.

use super::domains::Domains;
use super::extract::{Pointer, Source};
use super::file::{OneOrMany, RawActivity, RawApp, RawFile, RawSignal};
use super::glob::Glob;
use super::names;
use super::path::PathPattern;
use super::signature::{AppEntry, Condition, Each, Methods, Place, Signal, Signature};
use super::{Catalog, Problem};

pub(super) fn catalog(files: &[(&str, &str)]) -> Result<Catalog, Vec<Problem>> {
    let mut apps = Vec::new();
    let mut domains = Domains::default();
    let mut problems = Vec::new();
    for (file, yaml) in files {
        let mut report = |place: &str, what: String| {
            problems.push(Problem { file: (*file).to_owned(), place: place.to_owned(), what });
        };
        let raw = match parse(yaml) {
            Ok(raw) => raw,
            Err(what) => {
                report("file", what);
                continue;
            }
        };
        for app in &raw.apps {
            let mut tell = |what: String| report(&app.id, what);
            let index = apps.len();
            if apps.iter().any(|known: &AppEntry| *known.id == *app.id) {
                tell("this id is taken".to_owned());
            }
            for domain in &app.domains {
                if let Err(what) = domains.add(domain, index) {
                    tell(what);
                }
            }
            apps.push(entry(&raw.category, app, &mut tell));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let ids = apps.iter().enumerate().map(|(place, app)| (app.id.clone(), place)).collect();
    Ok(Catalog { apps, ids, domains })
}

/// Reads one file.
pub(super) fn parse(yaml: &str) -> Result<RawFile, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

fn entry(category: &str, raw: &RawApp, tell: &mut dyn FnMut(String)) -> AppEntry {
    if raw.risk > 100 {
        tell(format!("risk {} is above 100", raw.risk));
    }
    if raw.domains.is_empty() {
        tell("has no domains".to_owned());
    }
    let id = raw.id.as_str();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        tell(format!("`{id}` is not an id of letters, digits and hyphens"));
    }
    let categories = std::iter::once(category).chain(raw.also.iter().map(String::as_str));
    let categories = closed("category", names::CATEGORIES, categories, tell);
    let tags = closed("tag", names::TAGS, raw.tags.iter().map(String::as_str), tell);
    AppEntry {
        id: raw.id.as_str().into(),
        name: raw.name.as_str().into(),
        categories,
        tags,
        risk: raw.risk,
        pinned: raw.pinned,
        signals: raw
            .instance
            .iter()
            .filter_map(|raw| signal(raw).map_err(&mut *tell).ok())
            .collect(),
        signatures: raw
            .activities
            .iter()
            .filter_map(|activity| signature(raw, activity).map_err(&mut *tell).ok())
            .collect(),
    }
}

fn closed<'n>(
    kind: &str,
    list: &'static [&'static str],
    given: impl Iterator<Item = &'n str>,
    tell: &mut dyn FnMut(String),
) -> Box<[&'static str]> {
    given
        .filter_map(|name| {
            let known = names::find(list, name);
            if known.is_none() {
                tell(format!("`{name}` is not a known {kind}"));
            }
            known
        })
        .collect()
}

fn signal(raw: &RawSignal) -> Result<Signal, String> {
    let constant = raw
        .is
        .as_deref()
        .map(|is| {
            names::find(names::INSTANCES, is).ok_or_else(|| format!("`{is}` is not an instance"))
        })
        .transpose()?;
    if raw.on.is_none() && raw.from.is_none() {
        return Err("an instance signal says neither `on` nor `from`".to_owned());
    }
    Ok(Signal {
        place: raw.on.as_deref().map(place).transpose()?,
        from: raw.from.as_deref().map(Source::parse).transpose()?,
        like: raw.like.as_deref().map(Glob::parse).transpose()?,
        constant,
        except: raw.except.iter().map(|except| except.as_str().into()).collect(),
    })
}

fn signature(app: &RawApp, raw: &RawActivity) -> Result<Signature, String> {
    let name = raw.activity.as_str();
    let context = |what: String| format!("activity `{name}`: {what}");
    let activity = names::find(names::ACTIVITIES, name)
        .ok_or_else(|| context("is not a known activity".to_owned()))?;
    if raw.examples.is_empty() {
        return Err(context("has no example".to_owned()));
    }
    if raw.doc.is_none() && app.doc.is_none() {
        return Err(context("does not say where it is documented".to_owned()));
    }
    let object_type = raw
        .object_type
        .as_deref()
        .map(|given| {
            names::find(names::OBJECT_TYPES, given)
                .ok_or_else(|| context(format!("`{given}` is not a known object type")))
        })
        .transpose()?;
    let places = raw.on.as_slice().iter().map(|on| place(on)).collect::<Result<_, _>>();
    let conditions = raw.when.iter().map(|(source, patterns)| condition(source, patterns.as_ref()));
    Ok(Signature {
        places: places.map_err(context)?,
        conditions: conditions.collect::<Result<_, _>>().map_err(context)?,
        each: raw.each.as_deref().map(each).transpose().map_err(context)?,
        activity,
        object_type,
        object: sources(raw.object.as_ref()).map_err(context)?,
        instance: sources(raw.instance.as_ref()).map_err(context)?,
        from_user: sources(raw.from_user.as_ref()).map_err(context)?,
        to_user: sources(raw.to_user.as_ref()).map_err(context)?,
    })
}

/// `METHOD,METHOD host/path`; the host `*` is any of the app's.
fn place(on: &str) -> Result<Place, String> {
    let (methods, target) =
        on.split_once(' ').ok_or_else(|| format!("`{on}` is not `METHODS host/path`"))?;
    let slash = target.find('/').ok_or_else(|| format!("`{on}` has no path"))?;
    let (host, path) = target.split_at_checked(slash).unwrap_or((target, "/"));
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("`{host}` is not lower-case"));
    }
    Ok(Place {
        methods: Methods::parse(methods)?,
        host: (host != "*").then(|| Glob::parse(host)).transpose()?,
        path: PathPattern::parse(path)?,
    })
}

fn condition(source: &str, patterns: Option<&OneOrMany>) -> Result<Condition, String> {
    let source = Source::parse(source)?;
    let patterns = patterns
        .map(|patterns| patterns.as_slice().iter().map(|one| Glob::parse(one)).collect())
        .transpose()?;
    Ok(Condition { source, patterns })
}

fn each(each: &str) -> Result<Each, String> {
    Ok(match each.split_once(':').unwrap_or((each, "")) {
        ("json", pointer) => Each::Json(Pointer::parse(pointer)?),
        ("xml", tag) if !tag.is_empty() => Each::Element(tag.into()),
        ("graphql", "") => Each::Graphql,
        ("requests", "") => Each::Requests,
        _ => return Err(format!("`{each}` is not a way to carry several operations")),
    })
}

fn sources(given: Option<&OneOrMany>) -> Result<Box<[Source]>, String> {
    given.map_or(&[][..], OneOrMany::as_slice).iter().map(|source| Source::parse(source)).collect()
}
