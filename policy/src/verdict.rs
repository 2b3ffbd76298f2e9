//! What an evaluation answers, and the permits only it can make.

use smallvec::SmallVec;

use crate::fact::KeySet;

/// Proof that the connect gate let this flow dial. Only an evaluation makes one.
#[derive(Debug)]
pub struct DialPermit(pub(crate) ());

/// Proof that this exchange may be sent. One per exchange; only an evaluation makes one.
#[derive(Debug)]
pub struct SendPermit(pub(crate) ());

/// A rule's place in its policy; resolve with `Policy::rule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIndex(pub u32);

/// The answer at one gate.
#[derive(Debug)]
pub struct Verdict<P> {
    pub outcome: Outcome<P>,
    /// Rules of action `alert` that match for certain.
    pub alerts: SmallVec<[RuleIndex; 4]>,
    /// Rules of action `set_headers` that match for certain and stand above the decision.
    pub set_headers: SmallVec<[RuleIndex; 4]>,
    /// Keys of later gates that could still change the outcome; empty means it is final.
    pub waits_for: KeySet,
}

/// What to do at this gate.
#[derive(Debug)]
pub enum Outcome<P> {
    /// Gather these facts and ask again before acting.
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
    Unobtainable(crate::fact::Key),
}

/// A coach rule decided: stop, or go on once the user has justified it.
#[derive(Debug)]
pub struct Coached {
    pub rule: RuleIndex,
}

impl Coached {
    /// The user justified this action (now or within the remembered time): it may be sent.
    #[must_use]
    pub fn proceed(self) -> SendPermit {
        SendPermit(())
    }
}
