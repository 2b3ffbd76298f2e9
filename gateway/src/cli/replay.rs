//! `sluice replay`: what another policy would have decided about recorded events.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash as _, Hasher};
use std::path::{Path, PathBuf};

use policy::Policy;
use policy::catalog::Catalog;
use serde_json::json;

use super::explain::catalog;
use super::lanes;
use super::output::{Failure, say, warn};
use super::recorded::{Recorded, Rejudged};
use super::recorded_line;
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
/// Ids remembered, so that a record that was kept twice counts once: those lie near each other.
/// 16 bytes each, some 40 MiB in all with what finds them.
const IDS_MAX: usize = 1 << 20;
/// Lines that are no events and are told one by one.
const MALFORMED_SHOWN_MAX: usize = 10;

/// What the other policy changes, by what was and would be, then by user and app.
#[derive(Default)]
pub(super) struct Changes {
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
    known: HashSet<u128, BuildHasherDefault<IdHasher>>,
    order: VecDeque<u128>,
}

/// Ids are random already: those of the gateway are, and nobody else writes its log.
#[derive(Default)]
struct IdHasher(u64);

impl IdHasher {
    /// An odd number with bits all over it: what differs below is spread upwards.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.chunks(8).for_each(|chunk| {
            let number = chunk.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            self.0 = (self.0 ^ number).wrapping_mul(Self::SPREAD);
        });
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
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
pub(super) enum Line {
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
pub(super) struct Change {
    undecidable: bool,
    /// What it was and would be.
    group: String,
    /// User and app.
    who: (String, String),
    json: Option<String>,
}

pub(super) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let file = args.policy.display().to_string();
    let text = read_text(&args.policy, POLICY_BYTES_MAX)
        .map_err(Failure::doing(&format!("reading {file}")))?;
    let policy = Policy::load(&file, &text).map_err(Failure::Problems)?;
    let judge = Judge { policy: &policy, catalog: &catalog()?, json: args.json };
    let mut changes = Changes::default();
    for path in &args.events {
        replay_file(path, &judge, &mut changes)?;
    }
    if args.json {
        // Beside the output, of which each line is one change.
        warn(&changes.totals());
    } else {
        changes.print()?;
    }
    if changes.malformed > 0 { Err(Failure::Found) } else { Ok(()) }
}

fn replay_file(path: &Path, judge: &Judge<'_>, changes: &mut Changes) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let file = File::open(path).map_err(Failure::doing(&format!("reading {shown}")))?;
    let mut number = 0_u64;
    lanes::work(
        &shown,
        file,
        |piece| judge.all(piece),
        |made: Vec<Line>| {
            for line in made {
                number += 1;
                if matches!(line, Line::Malformed) && changes.malformed < MALFORMED_SHOWN_MAX {
                    let what = "not an event, expected one JSON object per line";
                    warn(&format!("{shown}:{number}:1: {what}"));
                }
                if let Some(change) = changes.take(line) {
                    say(&change)?;
                }
            }
            Ok(())
        },
    )
}

/// What records are judged by.
pub(super) struct Judge<'j> {
    pub(super) policy: &'j Policy,
    pub(super) catalog: &'j Catalog,
    /// Each change is told as JSON.
    pub(super) json: bool,
}

impl Judge<'_> {
    fn all(&self, piece: &[u8]) -> Vec<Line> {
        lanes::lines(piece).map(|line| self.line(line)).collect()
    }

    /// Judges one line anew.
    pub(super) fn line(&self, line: &[u8]) -> Line {
        let text = std::str::from_utf8(line).unwrap_or_default();
        let mut recorded = Recorded::default();
        if recorded_line::read(text, &mut recorded).is_err() {
            let blank = line.trim_ascii().is_empty();
            return if blank { Line::Nothing } else { Line::Malformed };
        }
        if !recorded.counts() {
            return Line::Nothing;
        }
        let id = id_of(&recorded.id);
        if !recorded.by_policy() {
            return Line::Refused(id);
        }
        let was = recorded.action.as_deref().unwrap_or("allow");
        let (undecidable, becomes, detail) = match recorded.judge(self.policy, self.catalog) {
            Rejudged::Decided { action, rule } => {
                let rule = rule.and_then(|rule| self.policy.rule(rule));
                let rule = rule.map(|rule| rule.name.as_str());
                if action == was {
                    let by_another_rule = rule != recorded.rule.as_deref();
                    return Line::Same { id, by_another_rule };
                }
                let by = rule.map_or_else(|| "default".to_owned(), |rule| format!("rule `{rule}`"));
                let now = || ("now", json!({ "action": action, "rule": rule }));
                (false, format!("{by}: {action}"), self.json.then(now))
            }
            Rejudged::Undecidable(keys) => {
                let keys: Vec<&str> = keys.iter().map(policy::fact::Key::name).collect();
                let what = format!("undecidable: {}", keys.join(", "));
                (true, what, self.json.then(|| ("undecidable", json!(keys))))
            }
        };
        let json = detail.map(|detail| told(&recorded, was, detail));
        Line::Changed(id, Box::new(change(&recorded, undecidable, &becomes, was, json)))
    }
}

/// A change for programs.
fn told(recorded: &Recorded<'_>, was: &str, detail: (&str, serde_json::Value)) -> String {
    let mut json = json!({
        "id": recorded.id, "user": recorded.user, "app": recorded.app,
        "host": recorded.host, "url": recorded.url,
        "was": { "action": was, "rule": recorded.rule },
    });
    if let Some(fields) = json.as_object_mut() {
        fields.insert(detail.0.to_owned(), detail.1);
    }
    json.to_string()
}

fn change(
    recorded: &Recorded<'_>,
    undecidable: bool,
    becomes: &str,
    was: &str,
    json: Option<String>,
) -> Change {
    let before = recorded.rule.as_deref().map_or(String::new(), |rule| format!(" by `{rule}`"));
    let who = recorded.user.as_deref().unwrap_or("-").to_owned();
    let app = recorded.app.as_deref().or(recorded.host.as_deref()).unwrap_or("-").to_owned();
    let group = format!("{becomes}, was {was}{before}");
    Change { undecidable, group, who: (who, app), json }
}

impl Changes {
    /// Counts a line; the change as JSON, where there is one and it is asked for.
    pub(super) fn take(&mut self, line: Line) -> Option<String> {
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
                return change.json;
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
