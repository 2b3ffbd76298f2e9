//! A tenant's directory: groups and device facts per user, from a CSV file.

use std::collections::HashMap;
use std::sync::Arc;

use super::names::Who;

/// Largest file: some 500,000 users of 128 bytes.
pub const DIRECTORY_BYTES_MAX: u64 = 64 << 20;
/// Most groups of one user; more cannot be meant and would make every verdict slow.
const GROUPS_MAX: usize = 1_000;

/// What the directory knows of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    pub groups: Arc<[Arc<str>]>,
    pub device_class: Option<Arc<str>>,
    pub os: Option<Arc<str>>,
}

/// Users in lower case to what is known of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Directory {
    people: HashMap<Box<str>, Person>,
}

/// A mistake in the file: `line:column` count from 1, columns in fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryProblem {
    pub line: u32,
    pub column: u32,
    pub what: String,
    pub expected: String,
}

const COLUMNS: &[&str] = &["user", "groups", "device_class", "os"];

impl Directory {
    /// Reads the CSV: a header row naming `user` and any of `groups` (separated by `;`),
    /// `device_class`, `os`; other columns are passed over.
    ///
    /// # Errors
    /// Every mistake of the file, at most 100.
    pub fn parse(text: &str) -> Result<Self, Vec<DirectoryProblem>> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .flexible(true)
            .comment(Some(b'#'))
            .from_reader(text.trim_start_matches('\u{feff}').as_bytes());
        let columns = columns(&mut reader).map_err(|problem| vec![problem])?;
        let mut interned = HashMap::new();
        let mut people = HashMap::new();
        let mut problems = Vec::new();
        for record in reader.records() {
            match record.map_err(|error| malformed(&error)) {
                Ok(record) => match person(&record, &columns, &mut interned) {
                    Ok((user, person)) => {
                        if people.insert(user, person).is_some() {
                            problems.push(at(&record, 0, "user listed twice", "one row per user"));
                        }
                    }
                    Err(problem) => problems.push(problem),
                },
                Err(problem) => problems.push(problem),
            }
            if problems.len() >= 100 {
                break;
            }
        }
        if problems.is_empty() { Ok(Self { people }) } else { Err(problems) }
    }

    /// What is known of a user, whatever the case of its name.
    #[must_use]
    pub fn person(&self, user: &str) -> Option<&Person> {
        self.people.get(user.to_lowercase().as_str())
    }

    /// The user with all that is known of them.
    #[must_use]
    pub fn who(&self, user: Arc<str>, device: Option<Arc<str>>) -> Who {
        match self.person(&user) {
            Some(person) => Who {
                user,
                groups: Arc::clone(&person.groups),
                device,
                device_class: person.device_class.clone(),
                os: person.os.clone(),
            },
            None => Who { user, groups: Arc::from([]), device, device_class: None, os: None },
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.people.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }
}

/// Index of each of [`COLUMNS`] in a row.
type Columns = [Option<usize>; 4];

fn columns(reader: &mut csv::Reader<&[u8]>) -> Result<Columns, DirectoryProblem> {
    let header = reader.headers().map_err(|error| malformed(&error))?;
    let find = |name: &str| header.iter().position(|field| field.eq_ignore_ascii_case(name));
    let columns = [find("user"), find("groups"), find("device_class"), find("os")];
    if columns.first().copied().flatten().is_none() {
        let expected = format!("a header row such as `{}`", COLUMNS.join(","));
        let what = "no column `user`".to_owned();
        return Err(DirectoryProblem { line: 1, column: 1, what, expected });
    }
    Ok(columns)
}

fn person(
    record: &csv::StringRecord,
    [user, groups, device_class, os]: &Columns,
    interned: &mut HashMap<Box<str>, Arc<str>>,
) -> Result<(Box<str>, Person), DirectoryProblem> {
    let field = |index: &Option<usize>| index.and_then(|index| record.get(index)).unwrap_or("");
    let name = field(user);
    if !super::certificate::valid_user(name) {
        let column = user.unwrap_or(0);
        return Err(at(
            record,
            column,
            "no user's name",
            "a name of 1 to 254 bytes without blanks",
        ));
    }
    let mut shared = |text: &str| {
        let known = interned.entry(text.into()).or_insert_with(|| Arc::from(text));
        Arc::clone(known)
    };
    let names = field(groups).split(';').map(str::trim).filter(|group| !group.is_empty());
    let person = Person {
        groups: names.take(GROUPS_MAX + 1).map(&mut shared).collect(),
        device_class: Some(field(device_class)).filter(|text| !text.is_empty()).map(&mut shared),
        os: Some(field(os)).filter(|text| !text.is_empty()).map(&mut shared),
    };
    if person.groups.len() > GROUPS_MAX {
        let column = groups.unwrap_or(0);
        return Err(at(record, column, "too many groups", "at most 1000 groups per user"));
    }
    Ok((name.to_lowercase().into(), person))
}

fn at(record: &csv::StringRecord, field: usize, what: &str, expected: &str) -> DirectoryProblem {
    let line = record.position().map_or(1, |position| u32::try_from(position.line()).unwrap_or(0));
    DirectoryProblem {
        line,
        column: u32::try_from(field).unwrap_or(0).saturating_add(1),
        what: what.to_owned(),
        expected: expected.to_owned(),
    }
}

fn malformed(error: &csv::Error) -> DirectoryProblem {
    let line = error.position().map_or(1, |at| u32::try_from(at.line()).unwrap_or(0));
    let what = "not a row of CSV in UTF-8".to_owned();
    let expected = format!("fields such as `{}`", COLUMNS.join(","));
    DirectoryProblem { line, column: 1, what, expected }
}
