//! Collects what a sink sends next, from as many tenants as have something.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use super::Heads;
use super::spec::Spec;
use super::stats::Counts;
use crate::event::marks::Marks;
use crate::event::read::{Bounds, ReadError, Reader};

/// Events of one tenant that are looked at before the next tenant has its turn.
const SEEN_MAX: usize = 20_000;

/// Events on their way, in the form in which the peer wants them.
#[derive(Default)]
pub(super) struct Batch {
    text: Vec<u8>,
    pub(super) items: Vec<Item>,
    /// The place after it, by tenant, with the number of the next event.
    pub(super) places: Vec<(String, String, u64)>,
    /// There is more to be had at once.
    pub(super) more: bool,
}

/// One event of a batch.
pub(super) struct Item {
    pub(super) tenant: Arc<str>,
    pub(super) record_type: &'static str,
    /// RFC 3339, as in the log.
    pub(super) time: String,
    /// The same for the same line, and for no other: the event's id, with the state where the
    /// event goes on.
    pub(super) id: String,
    range: Range<usize>,
}

/// What a line is about.
#[derive(Deserialize)]
struct Head<'l> {
    #[serde(borrow)]
    id: Cow<'l, str>,
    #[serde(borrow, rename = "type")]
    record_type: Cow<'l, str>,
    #[serde(borrow)]
    time: Cow<'l, str>,
    #[serde(borrow)]
    state: Cow<'l, str>,
}

impl Batch {
    pub(super) fn text(&self, item: &Item) -> &[u8] {
        self.text.get(item.range.clone()).unwrap_or_default()
    }

    /// All events, a newline after each.
    pub(super) fn lines(&self, items: &[Item]) -> Vec<u8> {
        let mut lines = Vec::with_capacity(self.text.len() + items.len());
        for item in items {
            lines.extend_from_slice(self.text(item));
            lines.push(b'\n');
        }
        lines
    }

    fn push(&mut self, tenant: &Arc<str>, line: &[u8], spec: &Spec) -> bool {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let Ok(head) = serde_json::from_slice::<Head<'_>>(line) else { return false };
        let start = self.text.len();
        if !spec.format.write(line, &mut self.text) {
            return false;
        }
        let id = match &*head.state {
            "close" => head.id.into_owned(),
            "open" => format!("{}/open", head.id),
            other => format!("{}/{other}/{}", head.id, head.time),
        };
        self.items.push(Item {
            tenant: Arc::clone(tenant),
            record_type: type_label(&head.record_type),
            time: head.time.into_owned(),
            id,
            range: start..self.text.len(),
        });
        true
    }

    fn is_full(&self, spec: &Spec, limit: usize) -> bool {
        self.items.len() >= limit || self.text.len() >= spec.bytes
    }
}

/// The closed set of types, so that a subject or a label is never a client's text.
fn type_label(record_type: &str) -> &'static str {
    ["session", "flow", "transaction", "alert"]
        .into_iter()
        .find(|known| *known == record_type)
        .unwrap_or("other")
}

/// The tenants of a sink, each having its turn.
pub(super) struct Gatherer {
    turns: VecDeque<Arc<str>>,
    /// Read to the end since the start, and not written to since as far as the splitter says.
    drained: HashSet<Arc<str>>,
}

impl Gatherer {
    pub(super) fn new() -> Self {
        Self { turns: VecDeque::new(), drained: HashSet::new() }
    }

    /// Takes up tenants that came, lets go of those whose events are gone.
    pub(super) fn follow(&mut self, known: Vec<String>, spec: &Spec) {
        let wanted: Vec<String> = known.into_iter().filter(|name| spec.has_tenant(name)).collect();
        let stays =
            |turn: &Arc<str>| wanted.binary_search_by(|name| name.as_str().cmp(turn)).is_ok();
        self.turns.retain(stays);
        self.drained.retain(stays);
        let known: HashSet<Arc<str>> = self.turns.iter().cloned().collect();
        for name in wanted {
            if !known.contains(name.as_str()) {
                self.turns.push_back(name.into());
            }
        }
    }

    /// Up to `limit` events, from where each tenant's mark is.
    pub(super) fn gather(
        &mut self,
        reader: &Reader,
        marks: &Marks,
        heads: &Heads,
        counts: &Counts,
        spec: &Spec,
        limit: usize,
    ) -> Result<Batch, ReadError> {
        let mut batch = Batch::default();
        let mut failed = None;
        for _ in 0..self.turns.len() {
            if batch.is_full(spec, limit) {
                batch.more = true;
                break;
            }
            let Some(tenant) = self.turns.pop_front() else { break };
            // What has not grown is not looked at: with thousands of tenants most have not.
            let reached = counts.reached.get(&*tenant).map(|next| *next);
            let head = heads.get(&*tenant).map(|next| *next);
            let drained = self.drained.contains(&tenant);
            if drained && reached.is_some() && (head.is_none() || head == reached) {
                self.turns.push_back(tenant);
                continue;
            }
            let taken = take(reader, marks, counts, spec, limit, &tenant, &mut batch);
            match taken {
                Ok(true) => drop(self.drained.insert(Arc::clone(&tenant))),
                Ok(false) | Err(_) => drop(self.drained.remove(&tenant)),
            }
            // What cannot be read of one tenant does not keep the others' events back.
            if let Err(error) = taken {
                tracing::warn!(%tenant, "events cannot be read for a sink: {error}");
                failed = Some(error);
            }
            self.turns.push_back(tenant);
        }
        match failed {
            Some(error) if batch.items.is_empty() && batch.places.is_empty() => Err(error),
            _ => Ok(batch),
        }
    }
}

/// Takes what a tenant has. `true` where there was nothing: what was taken may have to be sent again.
fn take(
    reader: &Reader,
    marks: &Marks,
    counts: &Counts,
    spec: &Spec,
    limit: usize,
    tenant: &Arc<str>,
    batch: &mut Batch,
) -> Result<bool, ReadError> {
    let bounds = Bounds {
        events: limit.saturating_sub(batch.items.len()),
        seen: SEEN_MAX,
        bytes: spec.bytes.saturating_sub(batch.text.len()),
        since: None,
    };
    let before = marks.get(tenant);
    let mut unreadable = 0;
    let page = reader.scan(tenant, before, &bounds, |line| {
        if !spec.filter.wants(line) {
            return false;
        }
        let pushed = batch.push(tenant, line, spec);
        unreadable += u64::from(!pushed);
        pushed
    })?;
    Counts::add(&counts.missed, page.missed);
    Counts::add(&counts.rejected, unreadable);
    batch.more |= page.is_full(&bounds);
    let nothing = page.seen == 0 && page.missed == 0;
    if nothing {
        counts.reached.insert((**tenant).into(), page.next);
    } else {
        batch.places.push((tenant.to_string(), page.cursor, page.next));
    }
    Ok(nothing)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::event::{EventLog, Options, Record, RecordType};

    #[tokio::test]
    async fn what_could_not_be_sent_is_gathered_again_and_one_tenant_stops_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::open(folder.path(), Options::default()).unwrap();
        for tenant in ["acme", "globex"] {
            let writer = log.writer(0);
            (0..3).for_each(|_| writer.append(tenant, &Record::now(RecordType::Transaction)));
        }
        log.settle().await;
        drop(log);
        let sink = serde_json::json!({"name": "a", "kind": "http", "to": "http://siem.test/"});
        let spec = Spec::new(&serde_json::from_value(sink).unwrap());
        let reader = Reader::open(folder.path());
        let mut marks = Marks::open(&folder.path().join("marks")).unwrap();
        // As after a restart: nothing has been written since.
        let (heads, counts) = (Heads::default(), Counts::default());
        let mut gatherer = Gatherer::new();
        gatherer.follow(vec!["acme".to_owned()], &spec);
        let mut gather = |marks: &Marks, limit| {
            gatherer.gather(&reader, marks, &heads, &counts, &spec, limit).unwrap()
        };
        let first = gather(&marks, 2);
        assert_eq!((first.items.len(), first.more), (2, true));
        let (tenant, cursor, next) = first.places.first().unwrap().clone();
        counts.reached.insert(tenant.as_str().into(), next);
        marks.put(&[(tenant, cursor)]).unwrap();
        for attempt in 0..3 {
            let last = gather(&marks, 2);
            assert_eq!((last.items.len(), last.more), (1, false), "attempt {attempt}");
        }
        // A place that no log has is one that cannot be read from.
        marks.put(&[("acme".to_owned(), "no place".to_owned())]).unwrap();
        gatherer.follow(vec!["acme".to_owned(), "globex".to_owned()], &spec);
        let others = gatherer.gather(&reader, &marks, &heads, &counts, &spec, 9).unwrap();
        assert_eq!(others.items.len(), 3, "globex has its turn");
        gatherer.follow(vec!["acme".to_owned()], &spec);
        assert!(gatherer.gather(&reader, &marks, &heads, &counts, &spec, 9).is_err());
    }
}
