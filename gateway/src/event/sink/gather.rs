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
    let nothing = page.seen == 0 && page.missed == 0;
    if nothing {
        counts.reached.insert((**tenant).into(), page.next);
    } else {
        batch.places.push((tenant.to_string(), page.cursor, page.next));
    }
    Ok(nothing)
}
