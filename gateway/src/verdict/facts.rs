//! Facts: what policy looks at, made of what is known of a flow or an exchange. Verdicts and their
//! explanations are made from the same.

use policy::catalog::{Classification, Operation, RequestView, Site};
use policy::fact::{Fact, Facts, Key, Unobtainable, Value};
use smallvec::SmallVec;

use super::connect::ConnectSubject;
use super::exchange::{BodyFacts, Subject};
use super::instance;
use crate::event::{self, InstanceKind, Text};

/// Asks with the facts of the connect gate.
pub(super) fn of_flow<R>(subject: &ConnectSubject<'_>, ask: impl FnOnce(&Facts<'_>) -> R) -> R {
    let groups = groups(subject);
    let mut facts = Facts::new();
    set_connect_facts(&mut facts, subject, &groups);
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
    let mut facts = Facts::new();
    set_connect_facts(&mut facts, subject, &groups);
    set_site_facts(&mut facts, site);
    if subject.address.is_none() {
        facts.set(Key::DestIp, Fact::Unobtainable(Unobtainable::NotDecrypted));
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
    let classification = subject.catalog.classify(&RequestView {
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
    let configured = classification.site.app.and_then(|app| subject.config.instances.get(app));
    let instance_kind = instance::kind(configured, classification.instance.as_deref());

    let groups = groups(&subject.connect);
    let mut instances: SmallVec<[&str; 2]> = SmallVec::new();
    instances.push(instance_kind.as_str());
    instances.extend(classification.instance.as_deref());

    let file_names: SmallVec<[&str; 4]> = match subject.body {
        BodyFacts::Held(held) => held.file_names.iter().map(String::as_str).collect(),
        _ => SmallVec::new(),
    };
    let mut facts = Facts::new();
    set_connect_facts(&mut facts, &subject.connect, &groups);
    set_site_facts(&mut facts, &classification.site);
    set_request_facts(&mut facts, subject, &classification, &instances, &file_names);
    for operation in &classification.operations {
        set_operation_facts(&mut facts, subject, &classification, operation);
        ask(&classification, operation, &facts);
    }
    app_record(&classification, instance_kind)
}

type Groups<'a> = SmallVec<[&'a str; 8]>;

fn groups<'a>(subject: &ConnectSubject<'a>) -> Groups<'a> {
    subject.who.groups.iter().map(|group| &**group).collect()
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
    // Without a country database there is no country to compare with.
    facts.set(Key::SourceCountry, text(subject.source_country));
    facts.set(Key::Domain, Fact::Known(Value::Text(subject.host)));
    facts.set(Key::DestPort, Fact::Known(Value::Number(u64::from(subject.port))));
    facts.set(Key::Time, Fact::Known(Value::Moment(subject.now)));
    let address = subject.address.map_or(Fact::Pending, |it| Fact::Known(Value::Address(it)));
    facts.set(Key::DestIp, address);
    facts.set(Key::DestCountry, Fact::Unobtainable(Unobtainable::EngineDown));
}

fn set_site_facts<'a>(facts: &mut Facts<'a>, site: &'a Site<'_>) {
    facts.set(Key::App, text(site.app));
    facts.set(Key::AppTag, Fact::Known(Value::Texts(site.tags)));
    facts.set(Key::Category, Fact::Known(Value::Texts(site.categories)));
    let risk = site.risk.map_or(Fact::Inapplicable, |it| Fact::Known(Value::Number(it.into())));
    facts.set(Key::Risk, risk);
}

fn set_request_facts<'f>(
    facts: &mut Facts<'f>,
    subject: &'f Subject<'_>,
    classification: &'f Classification<'_, '_>,
    instances: &'f [&'f str],
    file_names: &'f [&'f str],
) {
    let undecided = classification.wants_body && matches!(subject.body, BodyFacts::Unread);
    facts.set(Key::Instance, pending_if(undecided, Fact::Known(Value::Texts(instances))));
    facts.set(Key::Url, Fact::Known(Value::Text(subject.url)));
    facts.set(Key::Method, Fact::Known(Value::Text(subject.request.method())));
    let by_body = |fact: Option<Fact<'f>>| match subject.body {
        BodyFacts::None => Fact::Inapplicable,
        BodyFacts::Unread => fact.unwrap_or(Fact::Deferred),
        BodyFacts::Held(_) => fact.unwrap_or(Fact::Inapplicable),
        BodyFacts::Unobtainable(why) => fact.unwrap_or(Fact::Unobtainable(why)),
    };
    let held = match subject.body {
        BodyFacts::Held(held) => Some(held),
        _ => None,
    };
    let known = |value: Option<&'f str>| value.map(|it| Fact::Known(Value::Text(it)));
    facts.set(Key::ContentType, by_body(known(subject.request.fields.text("content-type"))));
    let names = (!file_names.is_empty()).then_some(Fact::Known(Value::Texts(file_names)));
    facts.set(Key::FileName, by_body(names));
    facts.set(Key::FileType, by_body(known(held.and_then(|it| it.file_type.as_deref()))));
    let size = held.and_then(|it| it.file_size).map(|it| Fact::Known(Value::Number(it)));
    facts.set(Key::FileSize, by_body(size));
    // No engine is part of this gateway yet: there is nothing such rules could match, and `check`
    // says so of each.
    facts.set(Key::Dlp, Fact::Inapplicable);
    facts.set(Key::Threat, Fact::Inapplicable);
    facts.set(Key::Inspection, Fact::Known(Value::Text("none")));
}

fn set_operation_facts<'f>(
    facts: &mut Facts<'f>,
    subject: &'f Subject<'_>,
    classification: &'f Classification<'_, '_>,
    operation: &'f Operation<'_>,
) {
    let undecided = classification.wants_body && matches!(subject.body, BodyFacts::Unread);
    let activity = Fact::Known(Value::Text(operation.activity));
    facts.set(Key::Activity, pending_if(undecided, activity));
    facts.set(Key::FromUser, pending_if(undecided, text(operation.from_user.as_deref())));
    facts.set(Key::ToUser, pending_if(undecided, text(operation.to_user.as_deref())));
}

fn pending_if(undecided: bool, fact: Fact<'_>) -> Fact<'_> {
    if undecided { Fact::Pending } else { fact }
}

fn app_record(classification: &Classification<'_, '_>, kind: InstanceKind) -> event::App {
    let first = classification.operations.first();
    let copied = |text: Option<&str>| text.map(Text::copied);
    event::App {
        id: copied(classification.site.app),
        category: classification.site.categories.first().map(|it| Text::copied(it)),
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
