//! The connect gate: may this flow be dialled, and is it decrypted?

use std::net::IpAddr;

use policy::Policy;
use policy::catalog::Site;
use policy::decrypt::{DecryptAction, DecryptRule, DecryptRules, DecryptVerdict};
use policy::fact::{Fact, Unobtainable};
use policy::list::Labels;
use policy::verdict::{DialPermit, Verdict};

use super::facts;
use crate::ident::{AccessMethod, Who};
use crate::snapshot::Places;

/// What is known of a flow before anything of it is decrypted.
pub struct ConnectSubject<'a> {
    pub who: &'a Who,
    pub access: AccessMethod,
    /// Where the tunnel comes from.
    pub source: IpAddr,
    /// Canonical host: a name, or an address as text.
    pub host: &'a str,
    /// Known once resolved; `None` before.
    pub address: Option<IpAddr>,
    pub port: u16,
    /// Where addresses are; `None` where no rule goes by country.
    pub places: Option<&'a Places>,
    /// Seconds since the Unix epoch.
    pub now: i64,
    /// Categories of hosts that are the tenant's own.
    pub labels: &'a Labels,
    /// What the name says of the app, where nothing that comes later can say otherwise: no other
    /// app shares the host, or the flow is not read.
    pub site: Option<Site<'a>>,
}

impl<'a> ConnectSubject<'a> {
    /// The country of an address, as rules see it.
    pub(super) fn country(&self, address: IpAddr) -> Fact<'a> {
        let unknown = Fact::Unobtainable(Unobtainable::EngineDown);
        self.places.map_or(unknown, |places| places.fact(address))
    }
}

/// The connect gate's answer. Asked again with an address where it waits for one.
#[must_use]
pub fn connect(policy: &Policy, subject: &ConnectSubject<'_>) -> Verdict<DialPermit> {
    facts::of_flow(subject, |facts| policy.connect(facts))
}

/// Whether the flow is decrypted, and which rule says so.
#[must_use]
pub fn decrypt<'r>(
    rules: &'r DecryptRules,
    subject: &ConnectSubject<'_>,
    site: &Site<'_>,
) -> (DecryptAction, Option<&'r DecryptRule>) {
    match facts::before_decryption(subject, site, |facts| rules.decide(facts)) {
        DecryptVerdict::Decided { action, rule, .. } => {
            (action, rule.and_then(|rule| rules.rule(rule)))
        }
        // Every key such rules may use has been set.
        DecryptVerdict::Pending(_) => (DecryptAction::Decrypt, None),
    }
}
