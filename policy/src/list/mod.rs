//! Lists of domains from files: which category a host is in, for millions of names.
//!
//! ```text
//! file ──► read (plain, hosts, Adblock, CSV) ──► Builder ──► DomainList ─┐
//!                                    tenant.yaml `categories` ──► Labels ─┴► categories of a host
//! ```

mod labels;
mod name;
mod read;
mod table;

#[cfg(test)]
mod tests;

use std::fmt;

use smallvec::SmallVec;

pub use labels::{Found, Labels, category_name};

use name::Covers;
use table::Table;

/// Most names of one list: the largest public ones hold a million or two.
pub const NAMES_MAX: usize = 5_000_000;

/// Most distinct sets of categories of one list; a set is named by 16 bits.
const SETS_MAX: usize = u16::MAX as usize;

/// Most categories of one name; what lies beyond is left out.
const CATEGORIES_MAX: usize = 8;

/// Lines without a name that are told one by one.
const MALFORMED_SHOWN_MAX: usize = 5;

/// How a list's file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListFormat {
    /// A name on each line; it covers itself and every name below it.
    Plain,
    /// `address name [name…]`, as in /etc/hosts; a name covers only itself.
    Hosts,
    /// `||name^`, and `@@||name^` for exceptions; other rules are passed over.
    Adblock,
    /// `name,category[,category…]`; covers as in [`ListFormat::Plain`].
    Csv,
}

impl ListFormat {
    pub const ALL: [Self; 4] = [Self::Plain, Self::Hosts, Self::Adblock, Self::Csv];

    /// The name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Hosts => "hosts",
            Self::Adblock => "adblock",
            Self::Csv => "csv",
        }
    }

    /// The format of this name, if it is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// Names and the categories that the file gives them. Never changes; tenants share one.
#[derive(Debug)]
pub struct DomainList {
    table: Table,
    /// Every set of categories that a name has; the first is empty.
    sets: Box<[Box<[Box<str>]>]>,
}

/// A list, and what of its file was not understood.
#[derive(Debug)]
pub struct ReadList {
    pub list: DomainList,
    pub format: ListFormat,
    /// Lines that are well-formed and say nothing of whole domains: cosmetic rules, rules with
    /// paths or conditions.
    pub passed_over: usize,
    /// Lines that are nothing of this format.
    pub malformed: usize,
    /// The first of them: line (from 1) and text.
    pub malformed_shown: Vec<(u32, String)>,
}

/// Why a file is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListError {
    /// It has lines, and no names.
    Empty(ListFormat),
    /// Most of its lines are not of this format.
    NotOfFormat(ListFormat),
    /// More than [`NAMES_MAX`] names.
    TooManyNames,
    /// More distinct sets of categories than can be told apart.
    TooManyCategories,
    /// The names were chosen to collide.
    Collisions,
}

impl fmt::Display for ListError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(format) => write!(out, "no names, read as `{}`", format.name()),
            Self::NotOfFormat(format) => {
                write!(out, "most lines are no names, read as `{}`", format.name())
            }
            Self::TooManyNames => write!(out, "more than {NAMES_MAX} names"),
            Self::TooManyCategories => {
                write!(out, "more than {SETS_MAX} different sets of categories")
            }
            Self::Collisions => out.write_str("names that were chosen to collide"),
        }
    }
}

impl std::error::Error for ListError {}

impl DomainList {
    /// Reads a file. Without a `format` its first lines tell which it is. Lines end with LF or
    /// CRLF; what is no UTF-8 is malformed.
    ///
    /// # Errors
    /// Where it is no list, or too large a one.
    pub fn read(text: &[u8], format: Option<ListFormat>) -> Result<ReadList, ListError> {
        read::list(text, format)
    }

    /// What the list says of a host (lower-case A-labels, no trailing dot): `None` where it does
    /// not cover it, else the categories that the file gives, which may be none. The longest
    /// name that covers the host decides. Takes time in the host's length alone; allocates
    /// nothing.
    #[must_use]
    pub fn find(&self, host: &str) -> Option<&[Box<str>]> {
        let set = self.table.find(host)?;
        Some(self.sets.get(usize::from(set)).map(|set| &**set).unwrap_or_default())
    }

    /// Names in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every category that the file names, in no order.
    pub fn categories(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().flat_map(|set| set.iter().map(|category| &**category))
    }

    /// Memory it takes, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text = |set: &[Box<str>]| set.iter().map(|it| it.len() + 16).sum::<usize>() + 16;
        self.table.bytes() + self.sets.iter().map(|set| text(set)).sum::<usize>()
    }
}

/// Gathers names.
struct Builder {
    table: Table,
    sets: Sets,
}

impl Builder {
    fn new() -> Self {
        Self { table: Table::new(), sets: Sets::new() }
    }

    /// Adds a canonical name. Categories add up over the lines that name it.
    fn add(&mut self, name: &str, covers: Covers, set: u16) -> Result<(), ListError> {
        let sets = &mut self.sets;
        self.table.add(name, covers, set, |before| sets.union(before, set))
    }

    fn finish(mut self) -> Result<DomainList, ListError> {
        self.table.finish()?;
        Ok(DomainList { table: self.table, sets: self.sets.sets.into() })
    }
}

/// The distinct sets of categories while a list is read.
struct Sets {
    sets: Vec<Box<[Box<str>]>>,
    ids: std::collections::HashMap<Box<[Box<str>]>, u16>,
}

impl Sets {
    fn new() -> Self {
        let empty: Box<[Box<str>]> = Box::default();
        let ids = std::iter::once((empty.clone(), 0)).collect();
        Self { sets: vec![empty], ids }
    }

    /// The id of a set of category names.
    fn id(&mut self, mut set: SmallVec<[Box<str>; 4]>) -> Result<u16, ListError> {
        set.sort_unstable();
        set.dedup();
        set.truncate(CATEGORIES_MAX);
        if let Some(&id) = self.ids.get(set.as_slice()) {
            return Ok(id);
        }
        let id = u16::try_from(self.sets.len()).map_err(|_| ListError::TooManyCategories)?;
        let set: Box<[Box<str>]> = set.into_iter().collect();
        self.sets.push(set.clone());
        self.ids.insert(set, id);
        Ok(id)
    }

    fn union(&mut self, one: u16, other: u16) -> Result<u16, ListError> {
        if one == other || other == 0 {
            return Ok(one);
        }
        if one == 0 {
            return Ok(other);
        }
        let of = |id: u16| self.sets.get(usize::from(id)).into_iter().flat_map(|set| set.iter());
        let both = of(one).chain(of(other)).cloned().collect();
        self.id(both)
    }
}
