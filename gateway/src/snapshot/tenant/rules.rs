//! What a tenant's rules are made of: policy, decrypt rules, content profiles, lists of names.

use std::path::Path;

use policy::content::{ProfileSource, Profiles};
use policy::decrypt::{DecryptRules, DecryptSource};
use policy::list::Labels;
use policy::yaml::Node;
use policy::{Policy, Problem, Severity};

use super::Build;
use crate::config::{TenantConfig, position};
use crate::snapshot::last_good;
use crate::snapshot::lists::Digest;
use crate::snapshot::source::Source;

impl Build<'_> {
    pub(super) fn policy(&mut self, text: &str) -> Option<Policy> {
        let file = self.layout.shown(&self.folder.join("policy.yaml"));
        Policy::load(&file, text).map_err(|problems| self.problems.extend(problems)).ok()
    }

    pub(super) fn decrypt(&mut self, tree: &Node) -> Option<DecryptRules> {
        let file = self.layout.shown(&self.folder.join("tenant.yaml"));
        let source = DecryptSource::new(tree.child("decrypt").cloned());
        source.compile(&file).map_err(|problems| self.problems.extend(problems)).ok()
    }

    pub(super) fn profiles(&mut self, config: &TenantConfig, tree: &Node) -> Option<Profiles> {
        let sources = config.content.profiles.iter().map(|(name, profile)| ProfileSource {
            name,
            entities: &profile.entities,
            terms: &profile.terms,
            patterns: &profile.patterns,
            min_count: profile.min_count,
        });
        match Profiles::compile(sources) {
            Ok(profiles) => Some(profiles),
            Err(mistakes) => {
                for mistake in mistakes {
                    let index = mistake.field.map(|(_, index)| index.to_string());
                    let mut path = vec!["content", "profiles", &mistake.profile];
                    path.extend(mistake.field.map(|(field, _)| field));
                    path.extend(index.as_deref());
                    self.report(
                        "tenant.yaml",
                        position(tree, &path),
                        &mistake.what,
                        &mistake.expected,
                    );
                }
                None
            }
        }
    }

    /// The tenant's lists, and its own names. A last good copy stands in for a file as it was.
    pub(super) fn labels(
        &mut self,
        config: &TenantConfig,
        tree: &Node,
    ) -> Option<(Labels, Vec<Digest>)> {
        let mut labels = Labels::default();
        let mut digests = Vec::new();
        let kept = match self.source {
            Source::Live => Vec::new(),
            Source::LastGood => last_good::list_files(self.layout, &self.copies),
        };
        let mut sound = true;
        for (index, named) in config.lists.iter().enumerate() {
            let file = kept.get(index).unwrap_or(&named.file);
            match self.lists.load(file, named.format.map(Into::into)) {
                Ok(loaded) => {
                    self.note_malformed(&named.file, &loaded.malformed);
                    digests.push(loaded.digest);
                    labels.add_list(named.category.as_deref(), loaded.list);
                }
                Err(error) => {
                    let at = position(tree, &["lists", &index.to_string(), "file"]);
                    let what = format!("`{}`: {error}", self.layout.shown(&named.file));
                    self.report("tenant.yaml", at, &what, "a list of domains");
                    sound = false;
                }
            }
        }
        let own = config.categories.iter().flat_map(|(category, names)| {
            names.iter().map(|name| (name.as_str(), category.as_str()))
        });
        match labels.add_own(own) {
            Ok(refused) => {
                for name in refused {
                    let at = position(tree, &["categories"]);
                    let what = format!("`{name}` is no name");
                    self.report("tenant.yaml", at, &what, "`example.com` or `*.example.com`");
                    sound = false;
                }
            }
            Err(error) => {
                let at = position(tree, &["categories"]);
                self.report("tenant.yaml", at, &error.to_string(), "fewer names");
                sound = false;
            }
        }
        sound.then_some((labels, digests))
    }

    /// Lines that were not understood are worth a look; the list is used all the same.
    pub(super) fn note_malformed(&mut self, file: &Path, malformed: &(usize, Vec<(u32, String)>)) {
        let shown = self.layout.shown(file);
        let (count, lines) = malformed;
        for (line, text) in lines {
            self.problems.push(Problem {
                file: shown.clone(),
                line: *line,
                column: 1,
                what: format!("`{}` is no name ({count} such lines)", text.escape_debug()),
                expected: "a line of the list's format".to_owned(),
                severity: Severity::Warning,
            });
        }
    }
}
