//! A large tenant: what the benches and the allocation test judge.
#![allow(dead_code, unreachable_pub, reason = "shared: each user takes a part")]

use std::fmt::Write as _;
use std::sync::Arc;

use policy::Policy;
use policy::catalog::{Catalog, RequestView, ResponseView};
use policy::decrypt::{DecryptRules, DecryptSource};
use policy::fact::{Fact, Facts, Gate, Key, Unobtainable, Value};
use policy::list::{DomainList, Found, Labels, ListFormat};

/// Rules of six shapes in turn, 500 of them by URL: names, apps, networks, windows of the week.
pub fn rules(count: usize) -> String {
    let mut text = String::from("version: 1\nrules:\n");
    let urls = (count / 20).max(1);
    for n in 0..count {
        let (group, app, port) = (n % 97, n % 211, 1024 + n % 5000);
        let rule = match n % 6 {
            _ if n % (count / urls).max(1) == 0 => match n % 3 {
                0 => format!("{{ url: [\"*/export/{n}/*\"] }}, action: block"),
                1 => format!("{{ url: [\"files{n}.test/private/*\"] }}, action: block"),
                _ => format!("{{ url: [\"*.zip?part={n}\"] }}, action: block"),
            },
            0 => format!("{{ domain: [\"*.site{n}.test\", site{n}.test] }}, action: block"),
            1 => format!(
                "{{ app: app-{app}, activity: [upload, share], group: {{ not: [group-{group}] }}, \
                 instance: {{ not: [corporate] }} }}, action: block"
            ),
            2 => format!("{{ category: [cat-{}], group: [group-{group}] }}, action: block", n % 40),
            3 => format!(
                "{{ dest_ip: 10.{}.{}.0/24, dest_port: {port} }}, action: block",
                n / 256 % 256,
                n % 256
            ),
            4 => format!(
                "{{ user: \"user{n}@acme.test\", time: \"mon-fri 08:00-18:00 Europe/Berlin\", \
                 category: [social, streaming] }}, action: coach"
            ),
            _ => format!(
                "{{ app: app-{app}, risk: \">=70\", device_class: managed }}, action: block"
            ),
        };
        writeln!(text, "  - {{ name: r{n}, match: {rule} }}").unwrap();
    }
    text
}

pub fn policy(count: usize) -> Policy {
    Policy::load("bench.yaml", &rules(count)).unwrap()
}

/// `name,category` of so many names.
pub fn list_text(names: usize) -> String {
    let mut text = String::new();
    for n in 0..names {
        let end = ["com", "net", "de", "co.uk", "shop"].get(n % 5).unwrap();
        let noise = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
        writeln!(text, "site{n}-{noise:x}.{end},cat-{}", n % 40).unwrap();
    }
    text
}

/// Everything one exchange is judged by.
pub struct World {
    pub catalog: Catalog,
    pub policy: Policy,
    pub decrypt: DecryptRules,
    pub labels: Labels,
}

/// One request and its response's head.
#[derive(Clone, Copy)]
pub struct Exchange {
    pub method: &'static str,
    pub host: &'static str,
    pub path: &'static str,
    pub query: &'static str,
    pub url: &'static str,
    pub media: &'static str,
    pub status: u16,
    pub answer: &'static str,
}

impl World {
    pub fn new(rules: usize, names: usize) -> Self {
        let list = DomainList::read(list_text(names).as_bytes(), Some(ListFormat::Csv)).unwrap();
        let mut labels = Labels::default();
        labels.add_list(None, Arc::new(list.list));
        let decrypt = "decrypt: { rules: [{ name: private, match: { category: [finance, health] }, \
                       action: bypass }] }";
        Self {
            catalog: Catalog::builtin().unwrap(),
            policy: policy(rules),
            decrypt: DecryptSource::find("tenant.yaml", decrypt).unwrap().compile("t").unwrap(),
            labels,
        }
    }

    /// All that policy does for one exchange: the connect gate, decryption, the request's gate
    /// and the response's, each with its facts. Gives the rules that decided, to be used.
    pub fn judge(&self, one: &Exchange) -> u32 {
        let groups = ["staff", "group-3", "group-17", "berlin"];
        let mut facts = Facts::new();
        let text = |value| Fact::Known(Value::Text(value));
        facts.set(Key::User, text("alice@acme.test"));
        facts.set(Key::Group, Fact::Known(Value::Texts(&groups)));
        facts.set(Key::Device, text("laptop-17"));
        facts.set(Key::DeviceClass, text("managed"));
        facts.set(Key::Os, text("linux"));
        facts.set(Key::AccessMethod, text("tls"));
        facts.set(Key::SourceIp, Fact::Known(Value::Address([10, 1, 2, 3].into())));
        facts.set(Key::SourceCountry, Fact::Inapplicable);
        facts.set(Key::Domain, text(one.host));
        facts.set(Key::DestIp, Fact::Known(Value::Address([192, 0, 2, 7].into())));
        facts.set(Key::DestPort, Fact::Known(Value::Number(443)));
        facts.set(Key::DestCountry, Fact::Unobtainable(Unobtainable::EngineDown));
        facts.set(Key::Time, Fact::Known(Value::Moment(1_795_435_200)));
        let site = self.catalog.site(one.host);
        let mut found = Found::new();
        self.labels.find(one.host, &mut found);
        let mut categories: smallvec::SmallVec<[&str; 8]> =
            site.categories.iter().copied().collect();
        categories.extend(found);
        if self.catalog.settled_site(one.host).is_some() {
            facts.set(Key::App, site.app.map_or(Fact::Inapplicable, text));
            facts.set(Key::Category, Fact::Known(Value::Texts(&categories)));
            facts.set(Key::AppTag, Fact::Known(Value::Texts(site.tags)));
            let risk = site.risk.map_or(0, u64::from);
            facts.set(Key::Risk, Fact::Known(Value::Number(risk)));
        }
        let connect = self.policy.connect(&facts);
        std::hint::black_box(&connect);
        std::hint::black_box(self.decrypt.decide(&facts));

        let header = |name: &str| (name == "content-type").then_some(one.media);
        let told = self.catalog.classify(&RequestView {
            method: one.method,
            host: one.host,
            path: one.path,
            query: one.query,
            header: &header,
            body: None,
        });
        facts.set(Key::App, told.site.app.map_or(Fact::Inapplicable, text));
        facts.set(Key::Category, Fact::Known(Value::Texts(&categories)));
        facts.set(Key::AppTag, Fact::Known(Value::Texts(told.site.tags)));
        facts.set(Key::Risk, Fact::Known(Value::Number(told.site.risk.map_or(0, u64::from))));
        let instance = told.instance.as_deref().unwrap_or("none");
        let instances = ["unknown", instance];
        facts.set(Key::Instance, Fact::Known(Value::Texts(&instances)));
        facts.set(Key::Url, text(one.url));
        facts.set(Key::Method, text(one.method));
        let operation = told.operations.first().unwrap();
        facts.set(Key::Activity, text(operation.activity));
        facts.set(Key::FromUser, Fact::Inapplicable);
        facts.set(Key::ToUser, Fact::Inapplicable);
        let head = self.policy.judge(Gate::RequestHead, &facts);
        std::hint::black_box(&head);

        let view = ResponseView {
            status: one.status,
            content_type: Some(one.answer),
            content_disposition: None,
            location: None,
            path: one.path,
        };
        let refined = self.catalog.classify_response(operation.activity, &view);
        if let Some(refined) = &refined {
            facts.set(Key::Activity, text(refined.activity));
        }
        facts.set(Key::ContentType, text(one.answer));
        for key in [Key::FileName, Key::FileType, Key::Dlp, Key::Threat] {
            facts.set(key, Fact::Inapplicable);
        }
        facts.set(Key::FileSize, Fact::Known(Value::Number(48_213)));
        facts.set(Key::Inspection, text("none"));
        let response = self.policy.judge(Gate::Response, &facts);
        match response.outcome {
            policy::verdict::Outcome::Block { rule: Some(rule), .. } => rule.0,
            _ => u32::MAX,
        }
    }
}

/// Facts of which none is missing, and no rule holds.
pub fn all_known() -> Facts<'static> {
    let mut facts = Facts::new();
    let text = |value| Fact::Known(Value::Text(value));
    for (key, value) in [
        (Key::User, "alice@acme.test"),
        (Key::Device, "laptop-17"),
        (Key::DeviceClass, "managed"),
        (Key::Os, "linux"),
        (Key::AccessMethod, "tls"),
        (Key::Domain, "files.example.test"),
        (Key::App, "app-17"),
        (Key::Url, "https://files.example.test/upload/2026/report.pdf?session=abc"),
        (Key::Activity, "browse"),
        (Key::Method, "GET"),
    ] {
        facts.set(key, text(value));
    }
    facts.set(Key::Group, Fact::Known(Value::Texts(&["staff", "group-3", "group-17", "berlin"])));
    facts.set(Key::Category, Fact::Known(Value::Texts(&["cloud-storage", "cat-7"])));
    facts.set(Key::Instance, Fact::Known(Value::Texts(&["corporate", "acme-1"])));
    facts.set(Key::SourceIp, Fact::Known(Value::Address([10, 1, 2, 3].into())));
    facts.set(Key::DestIp, Fact::Known(Value::Address([192, 0, 2, 7].into())));
    facts.set(Key::DestPort, Fact::Known(Value::Number(443)));
    facts.set(Key::Risk, Fact::Known(Value::Number(20)));
    facts.set(Key::Time, Fact::Known(Value::Moment(1_795_435_200)));
    for key in Key::ALL {
        if matches!(facts.fact(key), Fact::Deferred) {
            facts.set(key, Fact::Inapplicable);
        }
    }
    facts
}

const fn get(
    host: &'static str,
    path: &'static str,
    query: &'static str,
    url: &'static str,
    answer: &'static str,
) -> Exchange {
    Exchange { method: "GET", host, path, query, url, media: "", status: 200, answer }
}

const fn post(
    host: &'static str,
    path: &'static str,
    url: &'static str,
    media: &'static str,
) -> Exchange {
    let answer = "application/json";
    Exchange { method: "POST", host, path, query: "", url, media, status: 200, answer }
}

/// What a working day consists of, in small.
pub const EXCHANGES: [Exchange; 14] = [
    get("www.example.test", "/", "", "https://www.example.test/", "text/html"),
    get(
        "cdn.example.test",
        "/static/app.3f9c.js",
        "v=3",
        "https://cdn.example.test/static/app.3f9c.js?v=3",
        "text/javascript",
    ),
    get(
        "fonts.gstatic.com",
        "/s/roboto/v30/KFOmCnqEu92Fr1Mu4mxK.woff2",
        "",
        "https://fonts.gstatic.com/s/roboto/v30/KFOmCnqEu92Fr1Mu4mxK.woff2",
        "font/woff2",
    ),
    get(
        "www.google.com",
        "/search",
        "q=policy+engine&hl=en",
        "https://www.google.com/search?q=policy+engine&hl=en",
        "text/html",
    ),
    get(
        "mail.google.com",
        "/mail/u/0/",
        "ui=2",
        "https://mail.google.com/mail/u/0/?ui=2",
        "text/html",
    ),
    get(
        "acme.sharepoint.com",
        "/sites/plans/Shared Documents/q3.docx",
        "",
        "https://acme.sharepoint.com/sites/plans/Shared%20Documents/q3.docx",
        "application/octet-stream",
    ),
    get(
        "github.com",
        "/acme/widget/pull/17/files",
        "",
        "https://github.com/acme/widget/pull/17/files",
        "text/html",
    ),
    get("site17-9e3.de", "/index.html", "", "https://site17-9e3.de/index.html", "text/html"),
    get(
        "telemetry.example.test",
        "/v2/collect",
        "e=1",
        "https://telemetry.example.test/v2/collect?e=1",
        "image/gif",
    ),
    get(
        "news.example.test",
        "/2026/11/28/long-article-about-something",
        "utm_source=feed",
        "https://news.example.test/2026/11/28/long-article-about-something?utm_source=feed",
        "text/html",
    ),
    post(
        "content.dropboxapi.com",
        "/2/files/upload",
        "https://content.dropboxapi.com/2/files/upload",
        "application/octet-stream",
    ),
    post(
        "slack.com",
        "/api/chat.postMessage",
        "https://slack.com/api/chat.postMessage",
        "application/json",
    ),
    post(
        "api.openai.com",
        "/v1/chat/completions",
        "https://api.openai.com/v1/chat/completions",
        "application/json",
    ),
    post(
        "forms.example.test",
        "/contact",
        "https://forms.example.test/contact",
        "application/x-www-form-urlencoded",
    ),
];

/// A URL made of what patterns begin with, over and over, 8 KiB of it.
pub fn worst_url() -> String {
    let mut url = String::from("https://files0.test/private");
    while url.len() < 8 * 1024 {
        url.push_str("/export/0/export/1000/.zip?part=");
    }
    url
}
