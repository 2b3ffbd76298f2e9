//! Targets of the `policy` crate: any text is a policy or a list of problems, and the compiled
//! evaluator agrees with the reference on it; any bytes are a domain list or refused, in memory
//! that the file's length bounds; any request is classified, and a body changes only what was
//! announced; any body is searched, and JSON hides nothing in it.

use std::sync::OnceLock;

use policy::catalog::{Catalog, Classification, OPERATIONS_MAX, RequestView};
use policy::content::{ProfileSource, Profiles, Text, entities};
use policy::fact::{Fact, Facts, Gate, Key, Value};
use policy::list::{DomainList, ListFormat};
use policy::{Policy, Vocabulary};

/// A target: its name, which is its corpus folder's too, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 4] = [
    ("policy", load),
    ("domain_list", domain_list),
    ("classifier", classify),
    ("content", content),
];

pub fn load(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let problems = policy::check("policy.yaml", text, Vocabulary::default());
    // As YAML counts them: a lone carriage return ends a line too.
    let lines = 2 + text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    for problem in &problems {
        assert!(problem.to_string().starts_with("policy.yaml:"), "{problem}");
        assert!(usize::try_from(problem.line).is_ok_and(|line| line <= lines), "{problem}");
    }
    let Ok(policy) = Policy::load("policy.yaml", text) else {
        assert!(!problems.is_empty(), "refused without a reason");
        return;
    };
    let mut facts = Facts::new();
    judge_alike(&policy, &facts);
    facts.set(Key::App, Fact::Known(Value::Text("dropbox")));
    facts.set(Key::Domain, Fact::Known(Value::Text("www.dropbox.com")));
    facts.set(Key::Activity, Fact::Known(Value::Text("upload")));
    facts.set(Key::Dlp, Fact::Pending);
    judge_alike(&policy, &facts);
}

fn judge_alike(policy: &Policy, facts: &Facts<'_>) {
    let reference = policy.reference();
    let pair = (policy.connect(facts), reference.connect(facts));
    assert_eq!(format!("{:?}", pair.0), format!("{:?}", pair.1));
    for gate in Gate::ALL {
        let pair = (policy.judge(gate, facts), reference.judge(gate, facts));
        assert_eq!(format!("{:?}", pair.0), format!("{:?}", pair.1), "{gate:?}");
    }
}

pub fn domain_list(data: &[u8]) {
    /// Bytes kept for each byte read, at most: a name of one letter takes some 30, a category of
    /// its own some 60 more.
    const GROWTH_MAX: usize = 128;
    let formats = ListFormat::ALL.into_iter().map(Some).chain([None]);
    for format in formats {
        let Ok(read) = DomainList::read(data, format) else { continue };
        assert!(read.list.bytes() <= 4096 + GROWTH_MAX * data.len(), "{format:?}");
        for word in data.split(|byte| !byte.is_ascii_graphic() || *byte == b',') {
            let Ok(word) = std::str::from_utf8(word) else { continue };
            let host = word.trim_matches(|it| "|^*.@".contains(it)).to_ascii_lowercase();
            let _categories = read.list.find(&host);
        }
    }
}

/// `METHOD host /path?query`, header lines, an empty line, the body.
pub fn classify(data: &[u8]) {
    static CATALOG: OnceLock<Option<Catalog>> = OnceLock::new();
    let catalog = CATALOG.get_or_init(|| Catalog::builtin().ok()).as_ref();
    assert!(catalog.is_some(), "the catalog does not load");
    let Some(catalog) = catalog else { return };
    let end = data.windows(2).position(|at| at == b"\n\n").unwrap_or(data.len());
    let (head, rest) = data.split_at_checked(end).unwrap_or((data, b""));
    let body = rest.get(2..);
    let Ok(head) = std::str::from_utf8(head) else { return };
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().splitn(3, ' ');
    let (method, host) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = words.next().unwrap_or("/").split_once('?').unwrap_or(("/", ""));
    let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let header =
        |name: &str| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| *value);
    let view = RequestView { method, host, path, query, header: &header, body: None };
    let without = catalog.classify(&view);
    let with = catalog.classify(&RequestView { body, ..view });
    for told in [&without, &with] {
        assert!((1..=OPERATIONS_MAX).contains(&told.operations.len()));
    }
    assert!(without.wants_body || same(&without, &with), "{without:?} {with:?}");
    let _settled = catalog.settled_site(host);
}

fn same<'a>(one: &Classification<'_, 'a>, other: &Classification<'_, 'a>) -> bool {
    one.instance == other.instance && one.operations == other.operations
}

/// The first byte chooses the Content-Type.
pub fn content(data: &[u8]) {
    static PROFILES: OnceLock<Option<Profiles>> = OnceLock::new();
    let profiles = PROFILES.get_or_init(|| {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let (terms, patterns): (Vec<String>, Vec<String>) =
            (owned(&["apollo", "project apollo", "ärger"]), owned(&["APL-[0-9]+", "(?i)geheim"]));
        let entities: Vec<String> = entities().map(ToOwned::to_owned).collect();
        let source = ProfileSource {
            name: "all",
            entities: &entities,
            terms: &terms,
            patterns: &patterns,
            min_count: None,
        };
        Profiles::compile([source]).ok()
    });
    assert!(profiles.is_some(), "the profiles do not compile");
    let (Some(profiles), Some((kind, body))) = (profiles, data.split_first()) else { return };
    let kinds = ["", "application/json", "application/x-www-form-urlencoded"];
    let kind = kinds.get(usize::from(kind % 3)).copied().unwrap_or_default();
    let plain = profiles.search(&Text::of(kind.as_bytes(), body));
    // What begins with these is read as UTF-16.
    let wide = body.starts_with(&[0xff, 0xfe]) || body.starts_with(&[0xfe, 0xff]);
    let (Ok(text), false) = (std::str::from_utf8(body), wide || body.contains(&b'\\')) else {
        return;
    };
    let Ok(json) = serde_json::to_string(text) else { return };
    let escaped = profiles.search(&Text::of(b"application/json", json.as_bytes()));
    for hit in plain.iter().filter(|_| kind != "application/x-www-form-urlencoded") {
        let found = escaped.iter().find(|it| it.entity == hit.entity).map_or(0, |it| it.count);
        assert!(found >= hit.count, "{hit:?} in {json}");
    }
}
