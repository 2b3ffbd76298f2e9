//! Which app a host belongs to: one hash lookup per label, the longest known name first.

use std::collections::HashMap;

use super::glob::{Glob, Ranges};
use super::path::PathPattern;

/// Labels of a host that are looked up; a name has at most 127.
const LABELS_MAX: usize = 128;

/// All names of all apps.
#[derive(Debug, Default)]
pub(super) struct Domains {
    names: HashMap<Box<str>, Name>,
}

#[derive(Debug, Default)]
struct Name {
    /// This very name.
    exact: Owners,
    /// Every name below it.
    below: Owners,
}

/// Which apps share a name.
#[derive(Debug, Default)]
struct Owners {
    whole: Option<usize>,
    /// Names with a hole in the middle (`s3.*.amazonaws.com`), then paths: most exact first.
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    host: Option<Glob>,
    path: Option<PathPattern>,
    weight: usize,
    app: usize,
}

impl Domains {
    /// Adds `name`, `*.suffix`, `a.*.suffix`, each with or without `/path`.
    pub(super) fn add(&mut self, domain: &str, app: usize) -> Result<(), String> {
        let (host, path) = match domain.find('/').and_then(|at| domain.split_at_checked(at)) {
            Some((host, path)) => (host, Some(PathPattern::parse(path)?.into_prefix())),
            None => (domain, None),
        };
        // the labels after the last hole are what can be looked up
        let (suffix, glob) = match host.rfind('*').and_then(|at| host.split_at_checked(at)) {
            None => (host, None),
            Some((before, hole)) => {
                let suffix = hole.split_once('.').map_or("", |(_, suffix)| suffix);
                let whole_labels = before.is_empty() && hole.starts_with("*.");
                (suffix, (!whole_labels).then(|| Glob::parse(host)).transpose()?)
            }
        };
        let below = suffix.len() < host.len();
        check_name(suffix, below && glob.is_none())?;
        let name = self.names.entry(suffix.into()).or_default();
        let owners = if below { &mut name.below } else { &mut name.exact };
        if glob.is_none() && path.is_none() {
            if owners.whole.replace(app).is_some() {
                return Err(format!("`{domain}` belongs to two apps"));
            }
            return Ok(());
        }
        let twin = |part: &Part| part.host == glob && part.path == path;
        if owners.parts.iter().any(twin) {
            return Err(format!("`{domain}` belongs to two apps"));
        }
        let weight = host.len() + path.as_ref().map_or(0, |path| 100 * (1 + path.weight()));
        owners.parts.push(Part { host: glob, path, weight, app });
        owners.parts.sort_by_key(|part| std::cmp::Reverse(part.weight));
        Ok(())
    }

    /// The app that owns the host, whatever the path.
    pub(super) fn by_host(&self, host: &str) -> Option<usize> {
        self.find(host, |owners| owners.by_host(host))
    }

    /// The app that owns the host whatever the path, `Some(None)` where none does; `None` where
    /// some path of the host is another app's.
    pub(super) fn settled(&self, host: &str) -> Option<Option<usize>> {
        let by_path = |owners: &Owners| {
            owners.parts.iter().any(|part| part.path.is_some() && part.owns_host(host))
        };
        let found = self.find(host, |owners| {
            if by_path(owners) { Some(None) } else { owners.by_host(host).map(Some) }
        });
        match found {
            None => Some(None),
            Some(None) => None,
            Some(app) => Some(app),
        }
    }

    /// The app that owns this path of the host.
    pub(super) fn by_request(&self, host: &str, path: &str) -> Option<usize> {
        self.find(host, |owners| owners.by_request(host, path))
    }

    fn find<T>(&self, host: &str, pick: impl Fn(&Owners) -> Option<T>) -> Option<T> {
        if let Some(app) = self.names.get(host).and_then(|name| pick(&name.exact)) {
            return Some(app);
        }
        let mut rest = host;
        for _ in 0..LABELS_MAX {
            let (_, parent) = rest.split_once('.')?;
            if let Some(app) = self.names.get(parent).and_then(|name| pick(&name.below)) {
                return Some(app);
            }
            rest = parent;
        }
        None
    }
}

impl Owners {
    fn by_host(&self, host: &str) -> Option<usize> {
        let whole = |part: &&Part| part.path.is_none() && part.owns_host(host);
        self.parts.iter().find(whole).map(|part| part.app).or(self.whole)
    }

    fn by_request(&self, host: &str, path: &str) -> Option<usize> {
        let fits = |part: &&Part| part.owns_host(host) && part.owns_path(path);
        self.parts.iter().find(fits).map(|part| part.app).or(self.whole)
    }
}

impl Part {
    fn owns_host(&self, host: &str) -> bool {
        self.host.as_ref().is_none_or(|glob| glob.matches(host, 0, &mut Ranges::default()))
    }

    fn owns_path(&self, path: &str) -> bool {
        self.path.as_ref().is_none_or(|pattern| pattern.matches(path, &mut Ranges::default()))
    }
}

/// A lower-case name of two or more labels; one label will do for all names below it (`*.gov`).
fn check_name(name: &str, one_label: bool) -> Result<(), String> {
    let fine =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let labels = one_label || name.contains('.');
    if labels && !name.is_empty() && !name.starts_with('.') && name.bytes().all(fine) {
        return Ok(());
    }
    Err(format!("`{name}` is not a lower-case name of two or more labels"))
}
