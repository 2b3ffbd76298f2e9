//! Content profiles: what a text holds that a company does not want to go anywhere.
//!
//! A search takes time linear in the text: expressions are automata that never go back. One that looks far
//! beyond each of its hits (`a.*z|a`) takes that for each hit, of which so many are counted.

mod entity;
mod text;

use aho_corasick::AhoCorasick;
use regex_automata::meta::{Config, Regex};
use regex_automata::util::syntax;

use crate::error::nearest;
use entity::ENTITIES;
pub use text::Text;

/// Hits that are counted of one kind in one text; more say nothing new.
const HITS_MAX: u64 = 1_000;
/// Profiles of a tenant: people who write them lose sight of more.
pub const PROFILES_MAX: usize = 100;
/// Expressions of one profile: each is one more walk over the text.
pub const PATTERNS_MAX: usize = 100;
/// Terms of one profile, which are all looked for in one walk.
pub const TERMS_MAX: usize = 10_000;
/// Memory of one compiled expression.
const REGEX_BYTES_MAX: usize = 10 << 20;

/// A profile as it is configured.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProfileSource<'s> {
    pub name: &'s str,
    pub entities: &'s [String],
    pub terms: &'s [String],
    pub patterns: &'s [String],
    /// Fewest hits, over all its kinds, that count. `None` is one.
    pub min_count: Option<u32>,
}

/// What is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub profile: String,
    /// `entities`, `terms` or `patterns`, and the place in it; `None` is the profile as a whole.
    pub field: Option<(&'static str, usize)>,
    pub what: String,
    pub expected: String,
}

/// Profiles, ready to search with.
#[derive(Debug, Default)]
pub struct Profiles(Vec<Profile>);

#[derive(Debug)]
struct Profile {
    name: Box<str>,
    finders: Vec<Finder>,
    min_count: u64,
}

/// Finds one kind of content.
#[derive(Debug)]
struct Finder {
    /// The entity's name, `terms`, or `patterns[n]`: never what was found.
    label: Box<str>,
    by: By,
}

#[derive(Debug)]
enum By {
    /// And whether what the expression found is one.
    Regex(Regex, fn(&[u8]) -> bool),
    /// All terms at once, in small letters and with one blank between words.
    Terms(AhoCorasick),
}

/// How often one kind of a profile's content was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    pub profile: Box<str>,
    pub entity: Box<str>,
    /// At most 1,000.
    pub count: u64,
}

/// Everything that a profile may name in `entities`.
pub fn entities() -> impl Iterator<Item = &'static str> {
    ENTITIES.iter().map(|entity| entity.name)
}

impl Profiles {
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn compile<'s>(
        sources: impl IntoIterator<Item = ProfileSource<'s>>,
    ) -> Result<Self, Vec<Mistake>> {
        let (mut profiles, mut mistakes) = (Vec::new(), Vec::new());
        for source in sources {
            profiles.push(Profile::of(&source, &mut mistakes));
        }
        if let Some(source) = profiles.get(PROFILES_MAX) {
            let expected = format!("at most {PROFILES_MAX}");
            mistakes.push(whole(&source.name, "too many profiles", expected));
        }
        if mistakes.is_empty() { Ok(Self(profiles)) } else { Err(mistakes) }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What of the profiles is in a text, in their order; profiles below their `min_count` are not.
    #[must_use]
    pub fn search(&self, text: &Text<'_>) -> Vec<Hit> {
        self.0.iter().flat_map(|profile| profile.search(text)).collect()
    }
}

impl Profile {
    fn of(source: &ProfileSource<'_>, mistakes: &mut Vec<Mistake>) -> Self {
        let mut finders = Vec::new();
        let mut take = |field, at, found: Result<Finder, Wrong>| match found {
            Ok(finder) => finders.push(finder),
            Err(Wrong { what, expected }) => mistakes.push(Mistake {
                profile: source.name.to_owned(),
                field: Some((field, at)),
                what,
                expected,
            }),
        };
        for (at, name) in source.entities.iter().enumerate() {
            take("entities", at, Finder::entity(name));
        }
        if let Some(at) = source.terms.iter().position(|term| term.trim().is_empty()) {
            take("terms", at, wrong("an empty term", "a word or phrase"));
        } else if source.terms.len() > TERMS_MAX {
            take("terms", TERMS_MAX, wrong("too many terms", &format!("at most {TERMS_MAX}")));
        } else if !source.terms.is_empty() {
            take("terms", 0, Finder::terms(source.terms));
        }
        for (at, pattern) in source.patterns.iter().take(PATTERNS_MAX).enumerate() {
            take("patterns", at, Finder::pattern(at, pattern));
        }
        if source.patterns.len() > PATTERNS_MAX {
            let most = format!("at most {PATTERNS_MAX}");
            take("patterns", PATTERNS_MAX, wrong("too many patterns", &most));
        }
        if source.entities.is_empty() && source.terms.is_empty() && source.patterns.is_empty() {
            let expected = "`entities`, `terms` or `patterns`".to_owned();
            mistakes.push(whole(source.name, "a profile that looks for nothing", expected));
        }
        let min_count = source.min_count.unwrap_or(1).max(1).into();
        Self { name: source.name.into(), finders, min_count }
    }

    fn search(&self, text: &Text<'_>) -> Vec<Hit> {
        let found = self.finders.iter().map(|finder| (finder, finder.count(text)));
        let found: Vec<_> = found.filter(|(_, count)| *count > 0).collect();
        if found.iter().map(|(_, count)| count).sum::<u64>() < self.min_count {
            return Vec::new();
        }
        let hit = |(finder, count): (&Finder, u64)| Hit {
            profile: self.name.clone(),
            entity: finder.label.clone(),
            count,
        };
        found.into_iter().map(hit).collect()
    }
}

/// What is wrong with one item of a profile.
struct Wrong {
    what: String,
    expected: String,
}

fn wrong<T>(what: &str, expected: &str) -> Result<T, Wrong> {
    Err(Wrong { what: what.to_owned(), expected: expected.to_owned() })
}

impl Finder {
    fn entity(name: &str) -> Result<Self, Wrong> {
        let Some(entity) = ENTITIES.iter().find(|entity| entity.name == name) else {
            let names = ENTITIES.iter().map(|entity| entity.name);
            let near = nearest(name, names.clone()).map(|near| format!("perhaps `{near}`"));
            let all = || format!("one of {}", names.collect::<Vec<_>>().join(", "));
            return wrong(&format!("no entity is named `{name}`"), &near.unwrap_or_else(all));
        };
        // Classes and word boundaries of ASCII.
        let regex = regex(entity.pattern, syntax::Config::new().unicode(false))?;
        Ok(Self { label: entity.name.into(), by: By::Regex(regex, entity.is_one) })
    }

    fn terms(terms: &[String]) -> Result<Self, Wrong> {
        let terms = terms.iter().map(|term| folded(term.trim().as_bytes()));
        match AhoCorasick::new(terms) {
            Ok(terms) => Ok(Self { label: "terms".into(), by: By::Terms(terms) }),
            Err(error) => wrong(&error.to_string(), "fewer or shorter terms"),
        }
    }

    fn pattern(at: usize, pattern: &str) -> Result<Self, Wrong> {
        let regex = regex(pattern, syntax::Config::new())?;
        if regex.is_match("") {
            return wrong("it matches nothing at all", "one that needs a character at least");
        }
        Ok(Self { label: format!("patterns[{at}]").into(), by: By::Regex(regex, |_| true) })
    }

    /// Of the ways to read the text, the one that shows most counts.
    fn count(&self, text: &Text<'_>) -> u64 {
        text.readings().map(|reading| self.count_in(reading)).max().unwrap_or(0)
    }

    fn count_in(&self, reading: &[u8]) -> u64 {
        let most = usize::try_from(HITS_MAX).unwrap_or(usize::MAX);
        let count = match &self.by {
            By::Regex(regex, is_one) => {
                let is_one = |range| reading.get(range).is_some_and(is_one);
                regex.find_iter(reading).filter(|found| is_one(found.range())).take(most).count()
            }
            By::Terms(terms) => {
                let text = folded(reading);
                let found = terms.find_overlapping_iter(&text);
                let alone = found.filter(|found| stands_alone(&text, found.start(), found.end()));
                alone.take(most).count()
            }
        };
        u64::try_from(count).unwrap_or(HITS_MAX)
    }
}

/// Whether no letter or digit goes on before or behind.
fn stands_alone(text: &str, from: usize, to: usize) -> bool {
    let goes_on = |inside: Option<char>, outside: Option<char>| {
        inside.is_some_and(char::is_alphanumeric) && outside.is_some_and(char::is_alphanumeric)
    };
    let (Some(before), Some(found), Some(behind)) =
        (text.get(..from), text.get(from..to), text.get(to..))
    else {
        return false;
    };
    !goes_on(found.chars().next(), before.chars().next_back())
        && !goes_on(found.chars().next_back(), behind.chars().next())
}

/// In small letters, with one blank in place of several.
fn folded(text: &[u8]) -> String {
    let mut folded = String::with_capacity(text.len());
    for character in String::from_utf8_lossy(text).chars() {
        if !character.is_whitespace() {
            folded.extend(character.to_lowercase());
        } else if !folded.ends_with(' ') {
            folded.push(' ');
        }
    }
    folded
}

fn whole(profile: &str, what: &str, expected: String) -> Mistake {
    Mistake { profile: profile.to_owned(), field: None, what: what.to_owned(), expected }
}

/// What is searched need not be UTF-8.
fn regex(pattern: &str, syntax: syntax::Config) -> Result<Regex, Wrong> {
    let config = Config::new().utf8_empty(false).nfa_size_limit(Some(REGEX_BYTES_MAX));
    let built = Regex::builder().configure(config).syntax(syntax.utf8(false)).build(pattern);
    built.map_err(|error| {
        let what = match error.syntax_error() {
            // Its last line is what is wrong; the others draw the expression.
            Some(told) => told.to_string().lines().last().unwrap_or_default().trim().to_owned(),
            None if error.size_limit().is_some() => "larger than 10 MiB when compiled".to_owned(),
            None => error.to_string(),
        };
        let expected = "a regular expression without look-around and back-references".to_owned();
        Wrong { what, expected }
    })
}

#[cfg(test)]
mod tests;
