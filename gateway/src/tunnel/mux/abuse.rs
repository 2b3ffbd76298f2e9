//! What a peer may cost without moving data: resets, and frames that only ask for attention.

use gateway_proto::h2::{Code, Fault};
use tokio::time::Instant;

use crate::limit::bucket::Bucket;

/// Streams given up before an answer, or broken by a violation, in one burst (CVE-2023-44487,
/// CVE-2025-8671). A browser that closes a window full of tabs stays below.
pub(in crate::tunnel) const RESETS_BURST: u32 = 256;
/// Such streams per second in the long run.
pub(in crate::tunnel) const RESETS_PER_SECOND: u32 = 32;

/// Attention in one burst, in units of one WINDOW_UPDATE.
const CHATTER_BURST: u32 = 10_000;
/// Attention per second in the long run.
const CHATTER_PER_SECOND: u32 = 1_000;

/// What each frame costs in attention. At the long-run rate: 100 PINGs, 20 SETTINGS or empty
/// DATA, 200 priorities or unknown frames, or 1,000 DATA of a few bytes per second, each above
/// what any client has use for.
pub(super) const WINDOW_UPDATE_COST: u32 = 1;
pub(super) const THIN_DATA_COST: u32 = 1;
pub(super) const IGNORED_COST: u32 = 5;
pub(super) const PING_COST: u32 = 10;
pub(super) const LATE_COST: u32 = 10;
pub(super) const SETTINGS_COST: u32 = 50;
pub(super) const EMPTY_DATA_COST: u32 = 50;

/// Earned by each request: its own priority signals and window updates.
pub(super) const REQUEST_CREDIT: u32 = 8;
/// Earned by each DATA frame we send that the peer's window did not cut short: an update for the
/// stream and one for the connection.
pub(super) const DATA_CREDIT: u32 = 3;

/// DATA with this many bytes or fewer is thin: below any record of an inner protocol.
pub(super) const THIN_DATA_BYTES: u32 = 8;

/// Both budgets of one connection.
#[derive(Debug)]
pub(super) struct Patience {
    resets: Bucket,
    chatter: Bucket,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        let now = now.into_std();
        Self {
            resets: Bucket::new(RESETS_BURST, RESETS_PER_SECOND, now),
            chatter: Bucket::new(CHATTER_BURST, CHATTER_PER_SECOND, now),
        }
    }

    /// Pays for a stream that was work for nothing.
    pub(super) fn reset(&mut self, now: Instant) -> Result<(), Fault> {
        calm(self.resets.spend(1, now.into_std()), "too many streams given up")
    }

    /// Pays for a frame that moves nothing.
    pub(super) fn attend(&mut self, cost: u32, now: Instant) -> Result<(), Fault> {
        calm(self.chatter.spend(cost, now.into_std()), "too many frames that move nothing")
    }

    pub(super) fn credit(&mut self, tokens: u32) {
        self.chatter.credit(tokens);
    }
}

fn calm(paid: bool, why: &'static str) -> Result<(), Fault> {
    if paid { Ok(()) } else { Err(Fault::new(Code::ENHANCE_YOUR_CALM, why)) }
}
