//! Facts: what policy looks at, made of what is known of a flow or an exchange. Verdicts and their
//! explanations are made from the same.

use std::borrow::Cow;

use policy::catalog::{Classification, Operation, RequestView, Site};
use policy::fact::{Fact, Facts, Key, Unobtainable, Value};
use policy::list::{Found, Labels};
use smallvec::SmallVec;

use super::connect::ConnectSubject;
use super::content::{self, Carries};
use super::exchange::{BodyFacts, Subject};
use super::instance;
use crate::event::{self, InstanceKind, Text};

/// Asks with the facts of the connect gate.
pub(super) fn of_flow<R>(subject: &ConnectSubject<'_>, ask: impl FnOnce(&Facts<'_>) -> R) -> R {
    let groups = groups(subject);
    let categories =
        subject.site.as_ref().map(|site| categories(subject.labels, subject.host, site));
    let mut facts = Facts::new();
    set_connect_facts(&mut facts, subject, &groups);
    if let (Some(site), Some(categories)) = (&subject.site, &categories) {
        set_site_facts(&mut facts, site, categories);
    }
    ask(&facts)
}

/// Asks with what is known of a flow before anything of it is decrypted. The app is what the name
/// says; an address that is not known yet counts as one that cannot be had, so that a bypass by
/// address never applies to a name.
pub(super) fn before_decryption<R>(
    subject: &ConnectSubject<'_>,
    site: &Site<'_>,
    ask: impl FnOnce(&Facts<'_>) -> R,
) -> R {
    let groups = groups(subject);
    let categories = categories(subject.labels, subject.host, site);
    let mut facts = Facts::new();
    set_connect_facts(&mut facts, subject, &groups);
    set_site_facts(&mut facts, site, &categories);
    if subject.address.is_none() {
        facts.set(Key::DestIp, Fact::Unobtainable(Unobtainable::NotDecrypted));
        facts.set(Key::DestCountry, Fact::Unobtainable(Unobtainable::NotDecrypted));
    }
    ask(&facts)
}

/// Asks with the facts of each operation of an exchange, in order. What the record says of app,
/// instance, activity and object comes back, its `operations` left empty.
pub(super) fn of_each_operation(
    subject: &Subject<'_>,
    mut ask: impl FnMut(&Classification<'_, '_>, &Operation<'_>, &Facts<'_>),
) -> event::App {
    let header = |name: &str| subject.request.fields.text(name);
    let mut classification = subject.catalog.classify(&RequestView {
        method: subject.request.method(),
        host: subject.connect.host,
        path: subject.path,
        query: subject.query,
        header: &header,
        body: match subject.body {
            BodyFacts::Held(held) => Some(&held.bytes),
            _ => None,
        },
    });
    let carries = complete(subject, &mut classification);
    let configured = classification.site.app.and_then(|app| subject.config.instances.get(app));
    let instance_kind = instance::kind(configured, classification.instance.as_deref());

    let groups = groups(&subject.connect);
    let categories = categories(subject.connect.labels, subject.connect.host, &classification.site);
    let mut instances: SmallVec<[&str; 2]> = SmallVec::new();
    instances.push(instance_kind.as_str());
    instances.extend(classification.instance.as_deref());

    let files = content::files(subject, &classification, carries);
    let mut facts = Facts::new();
    set_connect_facts(&mut facts, &subject.connect, &groups);
    set_site_facts(&mut facts, &classification.site, &categories);
    set_request_facts(&mut facts, subject, &classification, &instances);
    files.set(&mut facts, subject, carries);
    for operation in &classification.operations {
        set_operation_facts(&mut facts, subject, &classification, operation);
        ask(&classification, operation, &facts);
    }
    let mut record = app_record(&classification, instance_kind);
    note_categories(&mut record, &categories);
    record
}

/// Puts in what is known beside the request: what its body said when it was held, what its response
/// shows, and the account that the user signed in with. Tells whose body carries content.
fn complete<'a>(subject: &Subject<'a>, told: &mut Classification<'_, 'a>) -> Carries {
    if let BodyFacts::Settled(settled) = subject.body {
        told.operations = settled.operations.iter().cloned().collect();
        told.instance = settled.instance.as_deref().map(Cow::Borrowed);
    }
    let mut carries = Carries::Request;
    if let Some(response) = &subject.response {
        if let [only] = told.operations.as_mut_slice()
            && let Some(refined) = response.refine(subject.catalog, only)
        {
            only.activity = refined.activity;
            only.object = refined.object.or_else(|| only.object.take());
            only.object_type = refined.object_type.or_else(|| only.object_type.take());
        }
        let downloads = told.operations.iter().any(|operation| operation.activity == "download");
        if downloads || matches!(subject.body, BodyFacts::None) {
            carries = Carries::Response;
        }
    }
    let Some(account) = subject.account else { return carries };
    // Who signs in is about to be another.
    let signs = |it: &Operation<'_>| matches!(it.activity, "login" | "login_failed" | "logout");
    if told.operations.iter().any(signs) {
        return carries;
    }
    if told.instance.is_none() {
        told.instance = account.instance.as_deref().map(Cow::Borrowed);
    }
    for operation in told.operations.iter_mut().filter(|it| it.from_user.is_none()) {
        operation.from_user = account.user.as_deref().map(Cow::Borrowed);
    }
    carries
}

type Groups<'a> = SmallVec<[&'a str; 8]>;

fn groups<'a>(subject: &ConnectSubject<'a>) -> Groups<'a> {
    subject.who.groups.iter().map(|group| &**group).collect()
}

/// A host's categories: those of its app, then the tenant's own. One that the tenant names is not
/// unknown.
type Categories<'a> = SmallVec<[&'a str; 8]>;

fn categories<'a>(labels: &'a Labels, host: &str, site: &Site<'a>) -> Categories<'a> {
    let mut own = Found::new();
    labels.find(host, &mut own);
    let of_app = site.categories.iter().copied();
    let known = of_app.filter(|category| own.is_empty() || *category != UNKNOWN);
    let mut all: Categories<'a> = known.collect();
    for category in own {
        if !all.contains(&category) {
            all.push(category);
        }
    }
    all
}

/// The category of what nobody describes.
const UNKNOWN: &str = "unknown";

/// Records every category that rules saw; the first alone where there is no other.
fn note_categories(record: &mut event::App, categories: &[&str]) {
    record.category = categories.first().map(|it| Text::copied(it));
    if categories.len() > 1 {
        record.categories = categories.iter().map(|it| Text::copied(it)).collect();
    }
}

/// What a record says of a flow's app by its name, where no request was seen.
#[must_use]
pub fn by_name(labels: &Labels, host: &str, site: &Site<'_>) -> event::App {
    let mut record = event::App {
        id: site.app.map(Text::copied),
        tags: site.tags.iter().map(|tag| Text::copied(tag)).collect(),
        risk: site.risk,
        ..event::App::default()
    };
    note_categories(&mut record, &categories(labels, host, site));
    record
}

fn text<'a>(value: Option<&'a str>) -> Fact<'a> {
    value.map_or(Fact::Inapplicable, |value| Fact::Known(Value::Text(value)))
}

fn set_connect_facts<'a>(
    facts: &mut Facts<'a>,
    subject: &'a ConnectSubject<'_>,
    groups: &'a Groups<'_>,
) {
    let who = subject.who;
    facts.set(Key::User, Fact::Known(Value::Text(&who.user)));
    facts.set(Key::Group, Fact::Known(Value::Texts(groups)));
    facts.set(Key::Device, text(who.device.as_deref()));
    facts.set(Key::DeviceClass, text(who.device_class.as_deref()));
    facts.set(Key::Os, text(who.os.as_deref()));
    facts.set(Key::AccessMethod, Fact::Known(Value::Text(subject.access.as_str())));
    facts.set(Key::SourceIp, Fact::Known(Value::Address(subject.source.to_canonical())));
    facts.set(Key::SourceCountry, subject.country(subject.source));
    facts.set(Key::Domain, Fact::Known(Value::Text(subject.host)));
    facts.set(Key::DestPort, Fact::Known(Value::Number(u64::from(subject.port))));
    facts.set(Key::Time, Fact::Known(Value::Moment(subject.now)));
    let address = subject.address.map_or(Fact::Pending, |it| Fact::Known(Value::Address(it)));
    facts.set(Key::DestIp, address);
    let country = subject.address.map_or(Fact::Pending, |it| subject.country(it));
    facts.set(Key::DestCountry, country);
}

fn set_site_facts<'a>(facts: &mut Facts<'a>, site: &Site<'a>, categories: &'a [&'a str]) {
    facts.set(Key::App, text(site.app));
    facts.set(Key::AppTag, Fact::Known(Value::Texts(site.tags)));
    facts.set(Key::Category, Fact::Known(Value::Texts(categories)));
    let risk = site.risk.map_or(Fact::Inapplicable, |it| Fact::Known(Value::Number(it.into())));
    facts.set(Key::Risk, risk);
}

fn set_request_facts<'f>(
    facts: &mut Facts<'f>,
    subject: &'f Subject<'_>,
    classification: &'f Classification<'_, '_>,
    instances: &'f [&'f str],
) {
    let told = |fact| told_by_body(classification, subject, fact);
    facts.set(Key::Instance, told(Fact::Known(Value::Texts(instances))));
    facts.set(Key::Url, Fact::Known(Value::Text(subject.url)));
    facts.set(Key::Method, Fact::Known(Value::Text(subject.request.method())));
    // No engine is part of this gateway yet: there is nothing such rules could match, and `check`
    // says so of each.
    facts.set(Key::Threat, Fact::Inapplicable);
}

fn set_operation_facts<'f>(
    facts: &mut Facts<'f>,
    subject: &'f Subject<'_>,
    classification: &'f Classification<'_, '_>,
    operation: &'f Operation<'_>,
) {
    let told = |fact| told_by_body(classification, subject, fact);
    facts.set(Key::Activity, told(Fact::Known(activity(operation.activity))));
    facts.set(Key::FromUser, told(text(operation.from_user.as_deref())));
    facts.set(Key::ToUser, told(text(operation.to_user.as_deref())));
}

/// A login that was refused is a login all the same: a rule that allows one lets the user see that
/// the password was wrong.
#[must_use]
pub fn activity(name: &str) -> Value<'_> {
    if name == "login_failed" {
        Value::Texts(&["login_failed", "login"])
    } else {
        Value::Text(name)
    }
}

/// What the head says, unless the body says more: then the head alone is a guess. A body that cannot be
/// had leaves it unobtainable, or padding it past the bound would be a way round a rule.
fn told_by_body<'a>(
    classification: &Classification<'_, '_>,
    subject: &Subject<'_>,
    fact: Fact<'a>,
) -> Fact<'a> {
    match subject.body {
        _ if !classification.wants_body => fact,
        BodyFacts::Unread => Fact::Pending,
        BodyFacts::Unobtainable(why) => Fact::Unobtainable(why),
        // Held whole and still wanted: cut short, or longer than is looked into.
        BodyFacts::Held(_) => Fact::Unobtainable(Unobtainable::Unreadable),
        BodyFacts::None | BodyFacts::Settled(_) | BodyFacts::Passed => fact,
    }
}

fn app_record(classification: &Classification<'_, '_>, kind: InstanceKind) -> event::App {
    let first = classification.operations.first();
    let copied = |text: Option<&str>| text.map(Text::copied);
    event::App {
        id: copied(classification.site.app),
        category: None,
        categories: Vec::new(),
        tags: classification.site.tags.iter().map(|tag| Text::copied(tag)).collect(),
        risk: classification.site.risk,
        instance: copied(classification.instance.as_deref()),
        instance_kind: classification.site.app.map(|_| kind),
        activity: first.map(|operation| operation.activity.into()),
        object: copied(first.and_then(|it| it.object.as_deref())),
        object_type: copied(first.and_then(|it| it.object_type.as_deref())),
        from_user: copied(first.and_then(|it| it.from_user.as_deref())),
        to_user: copied(first.and_then(|it| it.to_user.as_deref())),
        operations: Vec::new(),
    }
}
