//! Places that readers have reached, kept on disk: a journal of `key value` lines, the last of a
//! key in force.
//!
//! A change costs one short write. A line that a crash cut short is skipped by its checksum: that
//! reader repeats what it had read since.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Lines of the journal beyond twice the keys there are; then it is written anew.
const STALE_LINES_MAX: usize = 4096;

/// The places of one reader, by key.
pub(super) struct Marks {
    path: PathBuf,
    kept: HashMap<String, String>,
    file: Option<File>,
    lines: usize,
}

impl Marks {
    /// Reads what is kept; empty where nothing is.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut marks = Self { path: path.to_owned(), kept: HashMap::new(), file: None, lines: 0 };
        for line in String::from_utf8_lossy(&text).lines() {
            marks.lines += 1;
            match parse(line) {
                Some((key, "")) => drop(marks.kept.remove(key)),
                Some((key, value)) => drop(marks.kept.insert(key.to_owned(), value.to_owned())),
                None => {}
            }
        }
        Ok(marks)
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.kept.get(key).map(String::as_str)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.kept.keys().map(String::as_str)
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Keeps the changes; an empty value forgets its key. In force even where the disk refuses:
    /// then they are kept with the next that it takes.
    pub(super) fn put(&mut self, changes: &[(String, String)]) -> io::Result<()> {
        let mut text = String::new();
        for (key, value) in changes {
            if self.kept.get(key).map_or("", String::as_str) == value {
                continue;
            }
            push(&mut text, key, value);
            self.lines += 1;
            if value.is_empty() {
                self.kept.remove(key);
            } else {
                self.kept.insert(key.clone(), value.clone());
            }
        }
        if text.is_empty() {
            return Ok(());
        }
        if self.lines > 2 * self.kept.len() + STALE_LINES_MAX {
            return self.rewrite();
        }
        let written = self.append(text.as_bytes());
        if written.is_err() {
            // What follows a half-written line would be lost with it.
            self.lines = usize::MAX / 2;
        }
        written
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                if let Some(folder) = self.path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                let opened = File::options().create(true).append(true).open(&self.path)?;
                // A torn last line must not swallow the first new one.
                let mut file = opened;
                file.write_all(b"\n")?;
                self.file.insert(file)
            }
        };
        file.write_all(text)
    }

    /// Replaces the journal by what is in force.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut text = String::new();
        for (key, value) in &self.kept {
            push(&mut text, key, value);
        }
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let scratch = self.path.with_extension("new");
        let mut file = File::create(&scratch)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(&scratch, &self.path)?;
        self.file = None;
        self.lines = self.kept.len();
        Ok(())
    }
}

fn push(text: &mut String, key: &str, value: &str) {
    let line = format!("{key} {value}");
    let sum = crc32fast::hash(line.as_bytes());
    text.push_str(&format!("{sum:08x} {line}\n"));
}

fn parse(line: &str) -> Option<(&str, &str)> {
    let (sum, rest) = line.split_once(' ')?;
    let known = u32::from_str_radix(sum, 16).ok()?;
    (sum.len() == 8 && crc32fast::hash(rest.as_bytes()) == known).then(|| rest.split_once(' '))?
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::{Marks, STALE_LINES_MAX};

    fn put(marks: &mut Marks, key: &str, value: &str) {
        marks.put(&[(key.to_owned(), value.to_owned())]).unwrap();
    }

    #[test]
    fn the_last_value_of_a_key_is_in_force_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below").join("marks");
        let mut marks = Marks::open(&path).unwrap();
        put(&mut marks, "acme", "1 a");
        put(&mut marks, "beta", "2");
        put(&mut marks, "acme", "3 b");
        put(&mut marks, "beta", "");
        let marks = Marks::open(&path).unwrap();
        assert_eq!((marks.get("acme"), marks.get("beta"), marks.len()), (Some("3 b"), None, 1));
    }

    #[test]
    fn a_torn_line_costs_its_own_value_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks");
        put(&mut Marks::open(&path).unwrap(), "acme", "1");
        put(&mut Marks::open(&path).unwrap(), "acme", "2");
        let mut text = std::fs::read(&path).unwrap();
        text.truncate(text.len() - 2);
        std::fs::write(&path, &text).unwrap();
        let mut marks = Marks::open(&path).unwrap();
        assert_eq!(marks.get("acme"), Some("1"));
        put(&mut marks, "acme", "4");
        assert_eq!(Marks::open(&path).unwrap().get("acme"), Some("4"));
    }

    #[test]
    fn the_journal_does_not_grow_with_the_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks");
        let mut marks = Marks::open(&path).unwrap();
        for number in 0..3 * STALE_LINES_MAX {
            put(&mut marks, "acme", &number.to_string());
        }
        assert!(std::fs::metadata(&path).unwrap().len() < 40 * STALE_LINES_MAX as u64);
        let last = (3 * STALE_LINES_MAX - 1).to_string();
        assert_eq!(Marks::open(&path).unwrap().get("acme"), Some(&*last));
    }
}
