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
    fn insert(&mut self, id: &str) -> bool {
        let id = uuid::Uuid::parse_str(id).map_or_else(
            |_| {
                let mut hasher = DefaultHasher::new();
                id.hash(&mut hasher);
                u128::from(hasher.finish())
            },
            |id| id.as_u128(),
        );
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
    let mut line = String::new();
    for number in 1_u64.. {
        line.clear();
        let length = (&mut reader).take(LINE_BYTES_MAX).read_line(&mut line).map_err(reading())?;
        if length == 0 {
            break;
        }
        let malformed = changes.malformed;
        if let Some(change) = changes.judge(&line, policy)
            && json
        {
            say(&change.to_string())?;
        }
        if changes.malformed > malformed && changes.malformed <= MALFORMED_SHOWN_MAX {
            warn(&format!("{shown}:{number}:1: not an event, expected one JSON object per line"));
        }
    }
    Ok(())
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
    pub(super) fn judge(&mut self, line: &str, policy: &Policy) -> Option<serde_json::Value> {
        let Ok(recorded) = serde_json::from_str::<Recorded<'_>>(line) else {
            self.malformed += usize::from(!line.trim().is_empty());
            return None;
        };
        // Records are kept at least once: one id is one transaction.
        if !recorded.counts() || !self.ids.insert(&recorded.id) {
            return None;
        }
        if !recorded.by_policy() {
            self.refused += 1;
            return None;
        }
        self.judged += 1;
        let was = recorded.action.as_deref().unwrap_or("allow");
        let (becomes, detail) = match recorded.judge(policy, &self.catalog) {
            Rejudged::Decided { action, rule } => {
                let rule = rule.and_then(|rule| policy.rule(rule)).map(|rule| rule.name.as_str());
                if action == was {
                    self.by_another_rule += usize::from(rule != recorded.rule.as_deref());
                    return None;
                }
                self.changed += 1;
                let by = rule.map_or_else(|| "default".to_owned(), |rule| format!("rule `{rule}`"));
                (format!("{by}: {action}"), ("now", json!({ "action": action, "rule": rule })))
            }
            Rejudged::Undecidable(keys) => {
                let keys: Vec<&str> = keys.iter().map(policy::fact::Key::name).collect();
                self.undecidable += 1;
                (format!("undecidable: {}", keys.join(", ")), ("undecidable", json!(keys)))
            }
        };
        self.group(&recorded, &becomes, was);
        let mut change = json!({
            "id": recorded.id, "user": recorded.user, "app": recorded.app,
            "host": recorded.host, "url": recorded.url,
            "was": { "action": was, "rule": recorded.rule },
        });
        if let Some(fields) = change.as_object_mut() {
            fields.insert(detail.0.to_owned(), detail.1);
        }
        Some(change)
    }

    fn group(&mut self, recorded: &Recorded<'_>, becomes: &str, was: &str) {
        let before = recorded.rule.as_deref().map_or(String::new(), |rule| format!(" by `{rule}`"));
        let who = recorded.user.as_deref().unwrap_or("-").to_owned();
        let app = recorded.app.as_deref().or(recorded.host.as_deref()).unwrap_or("-").to_owned();
        let group = self.groups.entry(format!("{becomes}, was {was}{before}")).or_default();
        *group.entry((who, app)).or_default() += 1;
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
