//! Looks into request bodies: held ones before the verdict, others beside their transfer for `alert` rules.

use bytes::{Bytes, BytesMut};
use gateway_proto::fields::Fields;
use policy::fact::{Gate, Key};

use super::judge::Asking;
use super::transaction::Transaction;
use crate::event::{App, DlpHit};
use crate::exchange::Frame;
use crate::limit::hold::{HoldBudget, HoldShare};
use crate::snapshot::Tenant;
use crate::verdict::{BodyFacts, Held, file_type};

/// Bodies larger than this are searched aside, so that other connections of the worker go on: one kind of
/// content takes 0.05 ms in this much, the slowest a millisecond (docs/performance.md).
const AT_ONCE_BYTES_MAX: usize = 128 << 10;

/// Looks for what the tenant's profiles describe, where a rule asks for it.
pub(super) fn search(tenant: &Tenant, fields: &Fields, held: &mut Held) {
    if !tenant.policy.keys().contains(Key::Dlp) {
        return;
    }
    let bound = usize::try_from(tenant.config.limits.hold_bytes.bytes()).unwrap_or(usize::MAX);
    let large = held.bytes.len() > AT_ONCE_BYTES_MAX;
    let mut search = || held.search(fields, &tenant.profiles, bound);
    if large { tokio::task::block_in_place(search) } else { search() }
}

fn digest(held: &Held) -> Option<String> {
    let large = held.bytes.len() > AT_ONCE_BYTES_MAX;
    if large { tokio::task::block_in_place(|| held.sha256()) } else { held.sha256() }
}

/// A copy of a body on its way, up to a bound: beyond it the rules that wanted it do not match.
pub(super) struct Watch {
    share: HoldShare,
    bytes: BytesMut,
    bytes_max: usize,
    whole: bool,
}

impl Watch {
    pub(super) fn new(budget: &HoldBudget, tenant: &Tenant) -> Self {
        let bound = tenant.config.limits.hold_bytes.bytes();
        Self {
            share: budget.share(),
            bytes: BytesMut::new(),
            bytes_max: usize::try_from(bound).unwrap_or(usize::MAX),
            whole: true,
        }
    }

    pub(super) fn note(&mut self, frame: &Frame) {
        let Frame::Data(data) = frame else { return };
        if !self.whole {
            return;
        }
        let fits = self.bytes.len() + data.len() <= self.bytes_max;
        self.whole = fits && self.share.grow(data.len());
        if self.whole {
            self.bytes.extend_from_slice(data);
        } else {
            self.bytes = BytesMut::new();
        }
    }

    /// The body is sent once more, from its beginning.
    pub(super) fn restart(&mut self) {
        self.bytes.clear();
    }

    fn into_body(self) -> Option<Bytes> {
        self.whole.then(|| self.bytes.freeze())
    }
}

impl Asking<'_> {
    /// Judges a body that has gone by, for `alert` rules alone: what is sent is sent.
    pub(super) fn judge_watched(&self, watch: Watch, transaction: &mut Transaction) {
        let fields = &self.request.fields;
        let content_type = fields.first("content-type").map_or(b"".as_slice(), |it| it);
        let held = watch.into_body().map(|body| Held::of(content_type, body));
        let Some(Ok(mut held)) = held else { return };
        search(self.tenant, fields, &mut held);
        let ruling = self.judge(BodyFacts::Held(&held), Gate::RequestBody, None);
        transaction.held(&held, &ruling.app, fields);
        transaction.alerted(&ruling);
    }
}

/// For the record: what a body showed.
impl Transaction {
    pub(super) fn held(&mut self, held: &Held, app: &App, fields: &Fields) {
        let content = &mut self.record.content;
        let content_type = fields.text("content-type");
        (content.file_name, content.file_type) = file_type::held_file(held, app, content_type);
        content.file_size = held.file_size;
        // What has no name is seldom a file, and a digest has its price.
        content.sha256 =
            content.file_name.is_some().then(|| digest(held)).flatten().map(Into::into);
        let Some(searched) = &held.searched else { return };
        content.inspection = Some(held.inspection());
        match searched {
            Ok(searched) => {
                content.inspection_reason = (!searched.is_text).then(|| "not_text".into());
                content.dlp = searched.hits.iter().map(DlpHit::from).collect();
            }
            Err(why) => content.inspection_reason = Some(why.label().into()),
        }
    }
}
