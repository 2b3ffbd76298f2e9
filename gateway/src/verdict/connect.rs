//! The connect gate: may this flow be dialled, and is it decrypted?

use std::net::IpAddr;

use policy::Policy;
use policy::catalog::Site;
use policy::decrypt::{DecryptAction, DecryptRule, DecryptRules, DecryptVerdict};
use policy::fact::{Fact, Facts, Key, Unobtainable, Value};
use policy::verdict::{DialPermit, Verdict};
use smallvec::SmallVec;

use crate::tunnel::Session;

/// What is known of a flow before anything of it is decrypted.
pub struct ConnectSubject<'a> {
    pub session: &'a Session,
    /// Canonical host: a name, or an address as text.
    pub host: &'a str,
    /// Known once resolved; `None` before.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub source_country: Option<&'a str>,
    /// Seconds since the Unix epoch.
    pub now: i64,
}

/// The connect gate's answer. Asked again with an address where it waits for one.
#[must_use]
pub fn connect(policy: &Policy, subject: &ConnectSubject<'_>) -> Verdict<DialPermit> {
    let groups = groups(subject.session);
    let mut facts = Facts::new();
    set_connect_facts(&mut facts, subject, &groups);
    policy.connect(&facts)
}

/// Whether the flow is decrypted, and which rule says so. The app is what the name says; an
/// address that is not known yet counts as one that cannot be had, so that a bypass by address
/// never applies to a name.
#[must_use]
pub fn decrypt<'r>(
    rules: &'r DecryptRules,
    subject: &ConnectSubject<'_>,
    site: &Site<'_>,
) -> (DecryptAction, Option<&'r DecryptRule>) {
    let groups = groups(subject.session);
    let mut facts = Facts::new();
    set_connect_facts(&mut facts, subject, &groups);
    set_site_facts(&mut facts, site);
    if subject.address.is_none() {
        facts.set(Key::DestIp, Fact::Unobtainable(Unobtainable::NotDecrypted));
    }
    match rules.decide(&facts) {
        DecryptVerdict::Decided { action, rule, .. } => {
            (action, rule.and_then(|rule| rules.rule(rule)))
        }
        // Every key such rules may use has been set.
        DecryptVerdict::Pending(_) => (DecryptAction::Decrypt, None),
    }
}

pub(super) type Groups<'a> = SmallVec<[&'a str; 8]>;

pub(super) fn groups(session: &Session) -> Groups<'_> {
    session.who.groups.iter().map(|group| &**group).collect()
}

pub(super) fn text<'a>(value: Option<&'a str>) -> Fact<'a> {
    value.map_or(Fact::Inapplicable, |value| Fact::Known(Value::Text(value)))
}

pub(super) fn set_connect_facts<'a>(
    facts: &mut Facts<'a>,
    subject: &'a ConnectSubject<'_>,
    groups: &'a Groups<'_>,
) {
    let who = &subject.session.who;
    facts.set(Key::User, Fact::Known(Value::Text(&who.user)));
    facts.set(Key::Group, Fact::Known(Value::Texts(groups)));
    facts.set(Key::Device, text(who.device.as_deref()));
    facts.set(Key::DeviceClass, text(who.device_class.as_deref()));
    facts.set(Key::Os, text(who.os.as_deref()));
    facts.set(Key::AccessMethod, Fact::Known(Value::Text(subject.session.access.as_str())));
    let source = subject.session.peer.ip().to_canonical();
    facts.set(Key::SourceIp, Fact::Known(Value::Address(source)));
    // Without a country database there is no country to compare with.
    facts.set(Key::SourceCountry, text(subject.source_country));
    facts.set(Key::Domain, Fact::Known(Value::Text(subject.host)));
    facts.set(Key::DestPort, Fact::Known(Value::Number(u64::from(subject.port))));
    facts.set(Key::Time, Fact::Known(Value::Moment(subject.now)));
    let address = subject.address.map_or(Fact::Pending, |it| Fact::Known(Value::Address(it)));
    facts.set(Key::DestIp, address);
    facts.set(Key::DestCountry, Fact::Unobtainable(Unobtainable::EngineDown));
}

pub(super) fn set_site_facts<'a>(facts: &mut Facts<'a>, site: &'a Site<'_>) {
    facts.set(Key::App, text(site.app));
    facts.set(Key::AppTag, Fact::Known(Value::Texts(site.tags)));
    facts.set(Key::Category, Fact::Known(Value::Texts(site.categories)));
    let risk = site.risk.map_or(Fact::Inapplicable, |it| Fact::Known(Value::Number(it.into())));
    facts.set(Key::Risk, risk);
}
