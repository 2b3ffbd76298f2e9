//! What an evaluation answers, and the permits only it can make.

use smallvec::SmallVec;

use crate::fact::{Key, KeySet};

/// Proof that the connect gate let this flow dial. Only an evaluation makes one.
///
/// ```compile_fail
/// let forged = policy::verdict::DialPermit(());
/// ```
#[derive(Debug)]
pub struct DialPermit(pub(crate) ());

/// Proof that this exchange may be sent. One per exchange; only an evaluation makes one.
///
/// ```compile_fail
/// let forged = policy::verdict::SendPermit(());
/// ```
#[derive(Debug)]
pub struct SendPermit(pub(crate) ());

/// Proof that the connect gate cannot decide without the destination's address: its name may be
/// resolved, not dialled.
///
/// ```compile_fail
/// let forged = policy::verdict::ResolvePermit(());
/// ```
#[derive(Debug)]
pub struct ResolvePermit(pub(crate) ());

/// A rule's place in its policy; resolve with `Policy::rule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIndex(pub u32);

/// The answer at one gate.
#[derive(Debug)]
pub struct Verdict<P> {
    pub outcome: Outcome<P>,
    /// Rules of action `alert` that match for certain and stand above the decision. A later gate
    /// answers with the whole list again, which replaces this one.
    pub alerts: SmallVec<[RuleIndex; 4]>,
    /// Rules of action `set_headers` that match for certain and stand above the decision.
    pub set_headers: SmallVec<[RuleIndex; 4]>,
    /// Keys of later gates that could still change the outcome; empty means it is final. Keys of
    /// the request body here mean that the body is held until it has been judged.
    pub waits_for: KeySet,
    /// Keys that `alert` rules still need: gather them beside the transfer, never hold it.
    pub alerts_wait_for: KeySet,
}

impl Verdict<DialPermit> {
    /// Lets the name be resolved where the connect gate waits for what only that can tell.
    #[must_use]
    pub fn resolve_permit(&self) -> Option<ResolvePermit> {
        match &self.outcome {
            Outcome::Pending(keys) => keys.by_address().then_some(ResolvePermit(())),
            Outcome::Allow { .. }
            | Outcome::Block { .. }
            | Outcome::Coach(_)
            | Outcome::Redirect { .. } => None,
        }
    }
}

/// What to do at this gate.
#[derive(Debug)]
pub enum Outcome<P> {
    /// Gather these facts and ask again before acting. Each is wanted by a rule that could still
    /// win; asking again after any of them has come may spare the rest.
    Pending(KeySet),
    /// Go on. `rule` is `None` where the default decided or no rule has yet.
    Allow {
        permit: P,
        rule: Option<RuleIndex>,
    },
    /// `rule` is `None` where the default decided.
    Block {
        rule: Option<RuleIndex>,
        reason: BlockReason,
    },
    Coach(Coached),
    Redirect {
        rule: RuleIndex,
    },
}

/// Why a block happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockReason {
    Rule,
    Default,
    /// The rule needs a fact that cannot be had, and says block for that.
    Unobtainable(Key),
}

/// A coach rule decided: stop, or go on once the user has justified it.
///
/// ```compile_fail
/// fn forge(rule: policy::verdict::RuleIndex) -> policy::verdict::Coached {
///     policy::verdict::Coached { rule }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Coached {
    pub rule: RuleIndex,
}

impl Coached {
    /// The user justified this action (now or within the remembered time): it may be sent.
    #[must_use]
    pub fn proceed(self) -> SendPermit {
        SendPermit(())
    }

    /// At the connect gate: lets the origin be dialled, so that its profile is known when the
    /// request head, which is judged again, answers with the page. Only for a flow that is
    /// decrypted; any other flow has no page to justify itself on and is refused.
    #[must_use]
    pub fn dial(&self) -> DialPermit {
        DialPermit(())
    }
}
