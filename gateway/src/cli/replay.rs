//! `sluice replay`: what another policy would have decided about recorded events.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use policy::Policy;
use policy::catalog::Catalog;
use serde_json::json;

use super::explain::catalog;
use super::output::{Failure, say, warn};
use super::recorded::{Recorded, Rejudged};
use crate::config::read_text;
use crate::event::printable;

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// Recorded events, NDJSON
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    events: Vec<PathBuf>,
    /// The policy to try
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// One JSON object per transaction whose verdict would change
    #[arg(long)]
    json: bool,
}

/// Largest policy file.
const POLICY_BYTES_MAX: u64 = 8 << 20;
/// Longest event line. The gateway's own are below 64 KiB.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Lines judged together on all cores, and their bytes: what is in memory at once.
const BATCH_LINES: usize = 16_384;
const BATCH_BYTES: usize = 16 << 20;
/// Ids remembered, so that a record that was kept twice counts once: those lie near each other.
/// 16 bytes each, some 40 MiB in all with what finds them.
const IDS_MAX: usize = 1 << 20;
/// Lines that are no events and are told one by one.
const MALFORMED_SHOWN_MAX: usize = 10;

/// What the other policy changes, by what was and would be, then by user and app.
pub(super) struct Changes {
    catalog: Catalog,
    groups: BTreeMap<String, BTreeMap<(String, String), usize>>,
    ids: Ids,
    judged: usize,
    changed: usize,
    /// The same outcome, by another rule.
    by_another_rule: usize,
    undecidable: usize,
    /// Refused by the gateway itself, whatever the policy.
    refused: usize,
    malformed: usize,
}

/// The ids seen last.
#[derive(Default)]
struct Ids {
    known: HashSet<u128>,
    order: VecDeque<u128>,
}

impl Ids {
    /// Whether it is a new one.
    fn insert(&mut self, id: u128) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// A record's id, or a hash of what stands in its place.
fn id_of(id: &str) -> u128 {
    uuid::Uuid::parse_str(id).map_or_else(
        |_| {
            let mut hasher = DefaultHasher::new();
            id.hash(&mut hasher);
            u128::from(hasher.finish())
        },
        |id| id.as_u128(),
    )
}

/// What one line is under the other policy. The id is the transaction's.
enum Line {
    /// No record that counts.
    Nothing,
    Malformed,
    /// By the gateway itself, whatever the policy.
    Refused(u128),
    Same {
        id: u128,
        by_another_rule: bool,
    },
    Changed(u128, Box<Change>),
}

/// A verdict that would be another.
struct Change {
    undecidable: bool,
    /// What it was and would be.
    group: String,
    /// User and app.
    who: (String, String),
    json: serde_json::Value,
}

pub(super) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let file = args.policy.display().to_string();
    let text = read_text(&args.policy, POLICY_BYTES_MAX)
        .map_err(Failure::doing(&format!("reading {file}")))?;
    let policy = Policy::load(&file, &text).map_err(Failure::Problems)?;
    let mut changes = Changes::new(catalog()?);
    for path in &args.events {
        replay_file(path, &policy, &mut changes, args.json)?;
    }
    if args.json {
        // Beside the output, of which each line is one change.
        warn(&changes.totals());
    } else {
        changes.print()?;
    }
    if changes.malformed > 0 { Err(Failure::Found) } else { Ok(()) }
}

fn replay_file(
    path: &Path,
    policy: &Policy,
    changes: &mut Changes,
    json: bool,
) -> Result<(), Failure> {
    let shown = path.display();
    let reading = || Failure::doing(&format!("reading {shown}"));
    let mut reader = BufReader::new(File::open(path).map_err(reading())?);
    let mut number = 0_u64;
    loop {
        let mut batch: Vec<String> = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES && batch.len() < BATCH_LINES {
            let mut line = String::new();
            let length =
                (&mut reader).take(LINE_BYTES_MAX).read_line(&mut line).map_err(reading())?;
            if length == 0 {
                break;
            }
            bytes += length;
            batch.push(line);
        }
        if batch.is_empty() {
            return Ok(());
        }
        for line in judge_all(&batch, policy, &changes.catalog) {
            number += 1;
            let malformed = changes.malformed;
            if let Some(change) = changes.take(line)
                && json
            {
                say(&change.to_string())?;
            }
            if changes.malformed > malformed && changes.malformed <= MALFORMED_SHOWN_MAX {
                let what = "not an event, expected one JSON object per line";
                warn(&format!("{shown}:{number}:1: {what}"));
            }
        }
    }
}

/// Judges lines on all cores, and gives what they are in their order.
fn judge_all(batch: &[String], policy: &Policy, catalog: &Catalog) -> Vec<Line> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = batch.len().div_ceil(cores).max(1);
    let judge = |lines: &[String]| -> Vec<Line> {
        lines.iter().map(|line| judge_line(line, policy, catalog)).collect()
    };
    let mut shares = batch.chunks(share);
    let first = shares.next().unwrap_or_default();
    std::thread::scope(|scope| {
        let others: Vec<_> =
            shares.map(|lines| (lines.len(), scope.spawn(move || judge(lines)))).collect();
        let mut all = judge(first);
        for (lines, other) in others {
            // A judge that panicked is a defect; its lines count as malformed.
            let lost = || (0..lines).map(|_| Line::Malformed).collect();
            all.extend(other.join().unwrap_or_else(|_| lost()));
        }
        all
    })
}

/// Judges one line anew.
fn judge_line(line: &str, policy: &Policy, catalog: &Catalog) -> Line {
    let Ok(recorded) = serde_json::from_str::<Recorded<'_>>(line) else {
        return if line.trim().is_empty() { Line::Nothing } else { Line::Malformed };
    };
    if !recorded.counts() {
        return Line::Nothing;
    }
    let id = id_of(&recorded.id);
    if !recorded.by_policy() {
        return Line::Refused(id);
    }
    let was = recorded.action.as_deref().unwrap_or("allow");
    let (undecidable, becomes, detail) = match recorded.judge(policy, catalog) {
        Rejudged::Decided { action, rule } => {
            let rule = rule.and_then(|rule| policy.rule(rule)).map(|rule| rule.name.as_str());
            if action == was {
                let by_another_rule = rule != recorded.rule.as_deref();
                return Line::Same { id, by_another_rule };
            }
            let by = rule.map_or_else(|| "default".to_owned(), |rule| format!("rule `{rule}`"));
            (false, format!("{by}: {action}"), ("now", json!({ "action": action, "rule": rule })))
        }
        Rejudged::Undecidable(keys) => {
            let keys: Vec<&str> = keys.iter().map(policy::fact::Key::name).collect();
            (true, format!("undecidable: {}", keys.join(", ")), ("undecidable", json!(keys)))
        }
    };
    Line::Changed(id, Box::new(change(&recorded, undecidable, &becomes, was, detail)))
}

fn change(
    recorded: &Recorded<'_>,
    undecidable: bool,
    becomes: &str,
    was: &str,
    detail: (&str, serde_json::Value),
) -> Change {
    let mut json = json!({
        "id": recorded.id, "user": recorded.user, "app": recorded.app,
        "host": recorded.host, "url": recorded.url,
        "was": { "action": was, "rule": recorded.rule },
    });
    if let Some(fields) = json.as_object_mut() {
        fields.insert(detail.0.to_owned(), detail.1);
    }
    let before = recorded.rule.as_deref().map_or(String::new(), |rule| format!(" by `{rule}`"));
    let who = recorded.user.as_deref().unwrap_or("-").to_owned();
    let app = recorded.app.as_deref().or(recorded.host.as_deref()).unwrap_or("-").to_owned();
    let group = format!("{becomes}, was {was}{before}");
    Change { undecidable, group, who: (who, app), json }
}

impl Changes {
    pub(super) fn new(catalog: Catalog) -> Self {
        Self {
            catalog,
            groups: BTreeMap::new(),
            ids: Ids::default(),
            judged: 0,
            changed: 0,
            by_another_rule: 0,
            undecidable: 0,
            refused: 0,
            malformed: 0,
        }
    }

    /// Judges one line anew; the change as JSON, where there is one.
    #[cfg(test)]
    pub(super) fn judge(&mut self, line: &str, policy: &Policy) -> Option<serde_json::Value> {
        let line = judge_line(line, policy, &self.catalog);
        self.take(line)
    }

    /// Counts a line; the change as JSON, where there is one.
    fn take(&mut self, line: Line) -> Option<serde_json::Value> {
        // Records are kept at least once: one id is one transaction.
        match line {
            Line::Nothing => {}
            Line::Malformed => self.malformed += 1,
            Line::Refused(id) => self.refused += usize::from(self.ids.insert(id)),
            Line::Same { id, by_another_rule } if self.ids.insert(id) => {
                self.judged += 1;
                self.by_another_rule += usize::from(by_another_rule);
            }
            Line::Changed(id, change) if self.ids.insert(id) => {
                self.judged += 1;
                self.undecidable += usize::from(change.undecidable);
                self.changed += usize::from(!change.undecidable);
                *self.groups.entry(change.group).or_default().entry(change.who).or_default() += 1;
                return Some(change.json);
            }
            Line::Same { .. } | Line::Changed(..) => {}
        }
        None
    }

    fn print(&self) -> Result<(), Failure> {
        for (what, members) in &self.groups {
            let all: usize = members.values().sum();
            say(&printable(&format!("{what}: {all}")))?;
            for ((user, app), count) in members {
                say(&printable(&format!("    {count:>6}  {user}  {app}")))?;
            }
        }
        say(&self.totals())
    }

    fn totals(&self) -> String {
        let Self { changed, judged, undecidable, .. } = self;
        let mut text = format!("{changed} of {judged} would change, {undecidable} undecidable");
        for (count, what) in [
            (self.by_another_rule, "keep their outcome by another rule"),
            (self.refused, "were refused by the gateway itself"),
            (self.malformed, "lines were no events"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text
    }
}
