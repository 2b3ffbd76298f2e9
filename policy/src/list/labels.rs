//! The categories that a tenant gives to hosts beside the catalog: its lists and its own names.

use std::sync::Arc;

use smallvec::SmallVec;

use super::name::{canonical, category};
use super::{Builder, DomainList, ListError};

/// Categories of one host: few, in the order of the lists.
pub type Found<'l> = SmallVec<[&'l str; 4]>;

/// Everything one tenant says of hosts.
#[derive(Debug, Default)]
pub struct Labels {
    lists: Vec<(Option<Box<str>>, Arc<DomainList>)>,
}

impl Labels {
    /// Adds a list. Its names are in the category given here and in those its file gives them.
    pub fn add_list(&mut self, category: Option<&str>, list: Arc<DomainList>) {
        self.lists.push((category.map(Into::into), list));
    }

    /// Adds names of the tenant's own: `(name, category)`, each name as in a plain list. Returns
    /// those that are no names.
    ///
    /// # Errors
    /// Where there are too many.
    pub fn add_own<'n>(
        &mut self,
        names: impl IntoIterator<Item = (&'n str, &'n str)>,
    ) -> Result<Vec<&'n str>, ListError> {
        let mut builder = Builder::new();
        let mut buffer = String::new();
        let mut refused = Vec::new();
        for (written, named) in names {
            let Some((name, covers)) = canonical(written, &mut buffer) else {
                refused.push(written);
                continue;
            };
            let set = builder.sets.id(category(named).into_iter().collect())?;
            builder.add(name, covers, set)?;
        }
        let list = builder.finish()?;
        if !list.is_empty() {
            self.lists.push((None, Arc::new(list)));
        }
        Ok(refused)
    }

    /// The categories of a host (lower-case A-labels, no trailing dot), each once.
    pub fn find<'l>(&'l self, host: &str, found: &mut Found<'l>) {
        for (category, list) in &self.lists {
            let Some(given) = list.find(host) else { continue };
            let own = category.iter().map(|category| &**category);
            for category in own.chain(given.iter().map(|category| &**category)) {
                if !found.contains(&category) {
                    found.push(category);
                }
            }
        }
    }

    /// Every category that a host can get here; one may come more than once.
    pub fn categories(&self) -> impl Iterator<Item = &str> {
        let own = self.lists.iter().filter_map(|(category, _)| category.as_deref());
        own.chain(self.lists.iter().flat_map(|(_, list)| list.categories()))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }
}

/// A category's name as rules and lists write it: lower case, words joined by hyphens.
#[must_use]
pub fn category_name(written: &str) -> Option<Box<str>> {
    category(written)
}
