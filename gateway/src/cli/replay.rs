//! `sluice replay`: what another policy would have decided about recorded events.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use policy::Policy;
use serde_json::json;

use super::output::{Failure, say};
use super::recorded::{Recorded, Rejudged};
use crate::config::read_text;

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

/// What the other policy changes, by what was and would be, then by user and app.
#[derive(Default)]
pub(super) struct Changes {
    groups: BTreeMap<String, BTreeMap<(String, String), usize>>,
    seen: HashSet<String>,
    changed: usize,
    undecidable: usize,
    malformed: usize,
}

pub(super) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let file = args.policy.display().to_string();
    let text = read_text(&args.policy, POLICY_BYTES_MAX)
        .map_err(Failure::doing(&format!("reading {file}")))?;
    let policy = Policy::load(&file, &text).map_err(Failure::Problems)?;
    let mut changes = Changes::default();
    for path in &args.events {
        replay_file(path, &policy, &mut changes, args.json)?;
    }
    if args.json { Ok(()) } else { changes.print() }
}

fn replay_file(
    path: &Path,
    policy: &Policy,
    changes: &mut Changes,
    json: bool,
) -> Result<(), Failure> {
    let reading = || Failure::doing(&format!("reading {}", path.display()));
    let mut reader = BufReader::new(File::open(path).map_err(reading())?);
    let mut line = String::new();
    loop {
        line.clear();
        let length = (&mut reader).take(LINE_BYTES_MAX).read_line(&mut line).map_err(reading())?;
        if length == 0 {
            return Ok(());
        }
        let change = changes.judge(&line, policy);
        if let Some(change) = change.filter(|_| json) {
            say(&change.to_string())?;
        }
    }
}

impl Changes {
    /// Judges one line anew; the change as JSON, where there is one.
    pub(super) fn judge(&mut self, line: &str, policy: &Policy) -> Option<serde_json::Value> {
        let Ok(recorded) = serde_json::from_str::<Recorded<'_>>(line) else {
            self.malformed += usize::from(!line.trim().is_empty());
            return None;
        };
        // Records are kept at least once: one id is one transaction.
        if !recorded.counts() || !self.seen.insert(recorded.id.to_string()) {
            return None;
        }
        let was = recorded.action.as_deref().unwrap_or("allow");
        let mut change = json!({
            "id": recorded.id, "user": recorded.user, "app": recorded.app,
            "host": recorded.host, "url": recorded.url,
            "was": { "action": was, "rule": recorded.rule },
        });
        let (becomes, detail) = match recorded.judge(policy) {
            Rejudged::Decided { action, .. } if action == was => return None,
            Rejudged::Decided { action, rule } => {
                let rule = rule.and_then(|rule| policy.rule(rule)).map(|rule| rule.name.clone());
                let by = rule
                    .as_deref()
                    .map_or_else(|| "default".to_owned(), |rule| format!("rule `{rule}`"));
                self.changed += 1;
                (format!("{by}: {action}"), ("now", json!({ "action": action, "rule": rule })))
            }
            Rejudged::Undecidable(keys) => {
                let keys: Vec<&str> = keys.iter().map(policy::fact::Key::name).collect();
                self.undecidable += 1;
                (format!("undecidable: {}", keys.join(", ")), ("undecidable", json!(keys)))
            }
        };
        let before = recorded.rule.as_deref().map_or(String::new(), |rule| format!(" by `{rule}`"));
        let who = recorded.user.as_deref().unwrap_or("-").to_owned();
        let app = recorded.app.as_deref().or(recorded.host.as_deref()).unwrap_or("-").to_owned();
        let group = self.groups.entry(format!("{becomes}, was {was}{before}")).or_default();
        *group.entry((who, app)).or_default() += 1;
        if let Some(fields) = change.as_object_mut() {
            fields.insert(detail.0.to_owned(), detail.1);
        }
        Some(change)
    }

    fn print(&self) -> Result<(), Failure> {
        for (what, members) in &self.groups {
            let all: usize = members.values().sum();
            say(&format!("{what}: {all}"))?;
            for ((user, app), count) in members {
                say(&format!("    {count:>6}  {user}  {app}"))?;
            }
        }
        let Self { changed, undecidable, malformed, seen, .. } = self;
        let total = seen.len();
        say(&format!("{changed} of {total} would change, {undecidable} undecidable"))?;
        match malformed {
            0 => Ok(()),
            some => say(&format!("{some} lines were no events")),
        }
    }
}
