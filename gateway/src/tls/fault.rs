//! What can be wrong with an origin's certificate, and what a tenant lets pass.

use std::fmt;

/// A fault of an origin's certificate, each with its own setting in tenant.yaml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The chain ends at no root we trust, or the chain itself is not valid (RFC 5280 section 6).
    UntrustedRoot,
    /// The certificate vouches for itself.
    SelfSigned,
    /// A certificate of the chain, the root included, is past its time.
    Expired,
    /// A certificate of the chain is not valid yet.
    NotYetValid,
    /// No subject alternative name covers the name asked for (RFC 9525; the CN does not count).
    NameMismatch,
    /// A revocation list names a certificate of the chain.
    Revoked,
    /// The origin left out the certificate that links its own to a root.
    IncompleteChain,
    /// RSA below 2048 bits, a SHA-1 or MD5 signature, or nothing newer than TLS 1.1.
    Weak,
}

impl Fault {
    /// Every fault, in the order of their weight: the first of several names the event.
    pub const ALL: [Self; 8] = [
        Self::Revoked,
        Self::SelfSigned,
        Self::UntrustedRoot,
        Self::IncompleteChain,
        Self::Expired,
        Self::NotYetValid,
        Self::NameMismatch,
        Self::Weak,
    ];

    /// The name in tenant.yaml and in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UntrustedRoot => "untrusted_root",
            Self::SelfSigned => "self_signed",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NameMismatch => "name_mismatch",
            Self::Revoked => "revoked",
            Self::IncompleteChain => "incomplete_chain",
            Self::Weak => "weak",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One fault found in one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    pub fault: Fault,
    /// A stable snake_case word that says more than the fault does.
    pub detail: &'static str,
    /// No setting lets this pass: the chain ends in one of our own authorities, or in a key whose
    /// private half is public knowledge.
    pub fixed: bool,
}

impl Finding {
    /// Whether somebody may have the certificate that is missing.
    pub(crate) fn lacks_issuer(&self) -> bool {
        self.fault == Fault::IncompleteChain
    }
}

/// What a tenant wants done about one fault. Ordered by strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum FaultAction {
    Allow,
    /// A page that lets the user proceed.
    Warn,
    #[default]
    Block,
}

/// A tenant's setting for each fault; everything blocks until it is set otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FaultSettings {
    actions: [FaultAction; Fault::ALL.len()],
}

impl FaultSettings {
    /// Sets what happens on `fault`.
    #[must_use]
    pub fn with(mut self, fault: Fault, action: FaultAction) -> Self {
        if let Some(slot) = self.actions.get_mut(fault as usize) {
            *slot = action;
        }
        self
    }

    /// What happens on `fault`.
    #[must_use]
    pub fn action(&self, fault: Fault) -> FaultAction {
        self.actions.get(fault as usize).copied().unwrap_or_default()
    }

    /// The strictest action over all findings, and the finding that asks for it; `None` where
    /// there is nothing to object to.
    #[must_use]
    pub fn judge(&self, findings: &[Finding]) -> Option<(FaultAction, Finding)> {
        let weigh = |finding: &Finding| match finding.fixed {
            true => FaultAction::Block,
            false => self.action(finding.fault),
        };
        let mut strictest: Option<(FaultAction, Finding)> = None;
        for finding in findings {
            let action = weigh(finding);
            if strictest.is_none_or(|(before, _)| action > before) {
                strictest = Some((action, *finding));
            }
        }
        strictest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRED: Finding = Finding { fault: Fault::Expired, detail: "expired", fixed: false };
    const OWN: Finding =
        Finding { fault: Fault::UntrustedRoot, detail: "own_authority", fixed: true };

    #[test]
    fn every_fault_blocks_by_default() {
        for fault in Fault::ALL {
            assert_eq!(FaultSettings::default().action(fault), FaultAction::Block);
        }
    }

    #[test]
    fn the_strictest_finding_decides_and_a_fixed_one_cannot_be_allowed() {
        let lenient = Fault::ALL
            .iter()
            .fold(FaultSettings::default(), |all, &fault| all.with(fault, FaultAction::Allow));
        assert_eq!(lenient.judge(&[]), None);
        assert_eq!(lenient.judge(&[EXPIRED]), Some((FaultAction::Allow, EXPIRED)));
        assert_eq!(lenient.judge(&[EXPIRED, OWN]), Some((FaultAction::Block, OWN)));
        let warn = lenient.with(Fault::Expired, FaultAction::Warn);
        assert_eq!(warn.judge(&[EXPIRED]), Some((FaultAction::Warn, EXPIRED)));
    }
}
