//! What the classifier promises beyond the examples.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::examples::{Request, builtin_catalog};
use super::file::RawApp;
use super::glob::{Captures, Glob, Ranges, Slot};
use super::path::PathPattern;
use super::{
    Catalog, Classification, OPERATIONS_MAX, Operation, ResponseView, builtin, compile, graphql,
    names, text,
};

/// The activities of the contract, as it lists them.
const CONTRACT_ACTIVITIES: &str = "login login_failed logout browse view download upload share \
    unshare create edit delete copy move rename restore sync invite join send post comment like \
    form_post";

/// The categories of the contract; the list there is open.
const CONTRACT_CATEGORIES: &str = "cloud-storage collaboration mail generative-ai \
    developer-platform code-hosting crm erp hr project-management social messaging conferencing \
    cloud-console object-storage file-transfer paste e-signature design notes password-manager \
    finance health government news shopping streaming search education travel security update \
    unknown";

/// Apps that rules of the contract name.
const CONTRACT_APPS: &str = "google-drive gmail onedrive sharepoint dropbox box slack github \
    gitlab jira confluence notion salesforce webex discord telegram aws-s3 azure-blob-storage \
    google-cloud-storage chatgpt openai claude anthropic asana trello todoist teams outlook zoom \
    bitbucket google-docs gemini microsoft-login wetransfer pastebin linkedin x facebook youtube \
    figma";

#[test]
fn the_contracts_names_are_known() {
    assert_eq!(CONTRACT_ACTIVITIES.split_whitespace().collect::<Vec<_>>(), names::ACTIVITIES);
    for category in CONTRACT_CATEGORIES.split_whitespace() {
        assert!(names::CATEGORIES.contains(&category), "{category}");
    }
    let catalog = builtin_catalog();
    let ids: BTreeSet<&str> = catalog.app_ids().collect();
    for app in CONTRACT_APPS.split_whitespace() {
        assert!(ids.contains(app), "{app}");
        assert!(catalog.app(app).is_some());
    }
}

#[test]
fn every_category_has_its_file_and_every_file_its_category() {
    for (file, yaml) in builtin::FILES {
        assert_eq!(*file, format!("{}.yaml", compile::parse(yaml).unwrap().category));
    }
}

/// Hosts that only look like an app's.
fn lookalikes() -> Vec<String> {
    let mut hosts = Vec::new();
    for (_, yaml) in builtin::FILES {
        for domain in compile::parse(yaml).unwrap().apps.iter().flat_map(|app| &app.domains) {
            let host = domain.split('/').next().unwrap();
            let plain = host.rsplit_once('*').map_or(host, |(_, tail)| tail.trim_matches('.'));
            if !plain.contains('.') {
                continue;
            }
            hosts.push(format!("{plain}.evil.test"));
            hosts.push(format!("{}.evil.test", plain.replace('.', "-")));
            if host == plain && host.matches('.').count() == 1 {
                hosts.push(format!("not{plain}"));
                hosts.push(format!("login-{plain}"));
            }
        }
    }
    hosts
}

/// Hosts that have nothing to do with any app.
fn strangers() -> Vec<String> {
    let words = ["garden", "bakery", "museum", "cycling", "chess", "harbour", "violin", "forest"];
    let more = ["club", "shop", "blog", "forum", "city", "verein"];
    let ends = ["example.test", "example.org", "example.com", "beispiel.de", "exemple.fr"];
    let mut hosts = Vec::new();
    for word in words {
        for tail in more {
            for end in ends {
                hosts.push(format!("{word}-{tail}.{end}"));
                hosts.push(format!("www.{word}.{tail}.{end}"));
            }
        }
    }
    hosts
}

#[test]
fn no_app_is_seen_where_there_is_none() {
    let catalog = builtin_catalog();
    let lines = [
        "GET https://HOST/",
        "POST https://HOST/2/files/upload",
        "POST https://HOST/api/chat.postMessage",
        "PUT https://HOST/dropbox.com/s3.amazonaws.com/key?host=github.com",
    ];
    let mut count = 0;
    let mut wrong = Vec::new();
    for host in lookalikes().into_iter().chain(strangers()) {
        for line in lines {
            count += 1;
            Request::parse(&line.replace("HOST", &host)).classify(&catalog, |told| {
                if let Some(app) = told.site.app {
                    wrong.push(format!("{host}: {app}"));
                }
                assert_eq!(told.site.app.is_none(), told.site.categories == ["unknown"]);
            });
        }
    }
    assert!(count >= 1_000);
    assert!(wrong.is_empty(), "{} of {count} wrong: {wrong:?}", wrong.len());
    let report = format!("wrong labels: {} of {count} requests\n", wrong.len());
    std::io::Write::write_all(&mut std::io::stderr(), report.as_bytes()).unwrap();
}

#[test]
fn the_host_alone_names_the_app_before_decryption() {
    let catalog = builtin_catalog();
    let app = |host: &str| catalog.site(host).app.map(str::to_owned);
    assert_eq!(app("acme.sharepoint.com").as_deref(), Some("sharepoint"));
    assert_eq!(app("acme-my.sharepoint.com").as_deref(), Some("onedrive"));
    assert_eq!(app("b.s3.eu-west-1.amazonaws.com").as_deref(), Some("aws-s3"));
    assert_eq!(app("ec2.eu-west-1.amazonaws.com").as_deref(), Some("aws"));
    assert_eq!(app("graph.microsoft.com").as_deref(), Some("microsoft-graph"));
    assert_eq!(app("irs.gov").as_deref(), Some("us-government"));
    assert_eq!(app("gov"), None);
    assert_eq!(app(""), None);
    assert_eq!(app(&"a.".repeat(5_000)), None);
    assert!(catalog.site("web.whatsapp.com").pinned);
}

#[test]
fn a_host_that_apps_share_by_path_is_not_settled() {
    let catalog = builtin_catalog();
    let settled = |host: &str| catalog.settled_site(host).map(|site| site.app.map(str::to_owned));
    assert_eq!(settled("www.dropbox.com"), Some(Some("dropbox".to_owned())));
    assert_eq!(settled("garden.example.test"), Some(None));
    assert_eq!(settled("graph.microsoft.com"), None);
    // Wherever it is settled, every path gives the same app.
    for (_, yaml) in builtin::FILES {
        for app in compile::parse(yaml).unwrap().apps {
            for example in app.activities.iter().flat_map(|activity| &activity.examples) {
                let host = example.request.split("://").nth(1).unwrap().split(['/', '?']).next();
                let Some(Some(wanted)) = host.map(&settled) else { continue };
                Request::parse(&example.request).classify(&catalog, |told| {
                    assert_eq!(told.site.app, wanted.as_deref(), "{}", example.request);
                });
            }
        }
    }
}

fn told<R>(line: &str, media: &str, body: Option<&str>, see: impl Fn(&Operation<'_>) -> R) -> R {
    let catalog = builtin_catalog();
    let media = (!media.is_empty()).then_some(media);
    Request::parse(line).with(media, body).classify(&catalog, |told| see(&told.operations[0]))
}

fn activity(line: &str, media: &str, body: Option<&str>) -> String {
    told(line, media, body, |operation| {
        let object = operation.object.as_deref().unwrap_or_default();
        let user = operation.from_user.as_deref().unwrap_or_default();
        format!("{} {object}{user}", operation.activity).trim_end().to_owned()
    })
}

#[test]
fn a_site_nobody_described_still_has_activities() {
    let form = "application/x-www-form-urlencoded";
    let cases = [
        ("GET https://a.example.test/", "", None, "browse"),
        ("GET https://a.example.test/files/tool.zip", "", None, "download tool.zip"),
        ("GET https://a.example.test/app.js", "", None, "browse"),
        ("PUT https://a.example.test/in/plan.pdf", "", None, "upload plan.pdf"),
        ("PUT https://a.example.test/in/7", "application/json", None, "form_post"),
        ("POST https://a.example.test/in", "application/octet-stream", None, "upload in"),
        ("POST https://a.example.test/login", form, Some("username=alice"), "login alice"),
        ("POST https://a.example.test/oauth/token", form, None, "login"),
        ("POST https://a.example.test/contact", form, Some("a=b"), "form_post"),
        ("POST https://a.example.test/logout", form, None, "logout"),
        ("DELETE https://a.example.test/x", "", None, "delete"),
        (
            "POST https://a.example.test/u",
            "multipart/form-data; boundary=b",
            Some("--b\r\nContent-Disposition: form-data; name=f; filename=\"a.txt\"\r\n\r\nx"),
            "upload a.txt",
        ),
        (
            "POST https://a.example.test/u",
            "multipart/form-data; boundary=b",
            Some("--b\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\nx\r\n--b--\r\n"),
            "form_post",
        ),
    ];
    for (line, media, body, expected) in cases {
        assert_eq!(activity(line, media, body), expected, "{line}");
    }
}

fn wants_body(line: &str, media: &str, body: Option<&str>) -> bool {
    let catalog = builtin_catalog();
    Request::parse(line).with(Some(media), body).classify(&catalog, |told| told.wants_body)
}

#[test]
fn the_body_is_wanted_only_where_it_can_tell_more() {
    let send = "POST https://slack.com/api/chat.postMessage";
    assert!(wants_body(send, "application/json", None));
    assert!(!wants_body(send, "application/json", Some(r#"{"channel":"C1"}"#)));
    assert!(wants_body(send, "application/json", Some(r#"{"channel":"C1""#)), "cut");
    let padded = format!(r#"{{"pad":"{}","channel":"C1"}}"#, "x".repeat(super::BODY_BYTES_MAX));
    assert!(wants_body(send, "application/json", Some(&padded)), "over the bound");
    assert!(!wants_body("GET https://slack.com/", "", None));
    assert!(!wants_body("PUT https://b.s3.amazonaws.com/key", "application/pdf", None));
    assert!(wants_body("POST https://a.example.test/", "multipart/form-data; boundary=x", None));
}

#[test]
fn a_body_that_hides_what_it_says_stays_wanted() {
    let catalog = builtin_catalog();
    let send = "POST https://slack.com/api/chat.postMessage";
    let json = Some("application/json");
    let mut compressed = Request::parse(send).with(json, Some("{}"));
    compressed.set_header("content-encoding", "gzip");
    compressed.classify(&catalog, |told| assert!(told.wants_body));
    assert!(wants_body(send, "application/json", Some("not JSON")));
    let marked = "\u{feff}{\"channel\":\"C1\"}";
    Request::parse(send).with(json, Some(marked)).classify(&catalog, |told| {
        assert_eq!(told.operations[0].to_user.as_deref(), Some("C1"));
        assert!(!told.wants_body);
    });
}

#[test]
fn more_operations_than_the_bound_are_marked_as_cut() {
    let catalog = builtin_catalog();
    let entries: Vec<String> =
        (0..OPERATIONS_MAX + 9).map(|index| format!(r#"{{"path":"/{index}"}}"#)).collect();
    let body = format!(r#"{{"entries":[{}]}}"#, entries.join(","));
    let request = Request::parse("POST https://api.dropboxapi.com/2/files/delete_batch")
        .with(Some("application/json"), Some(&body));
    request.classify(&catalog, |told: Classification<'_, '_>| {
        assert_eq!(told.operations.len(), OPERATIONS_MAX);
        assert!(told.cut);
    });
}

#[test]
fn a_method_override_counts_beside_the_method() {
    let mut request = Request::parse("POST https://www.googleapis.com/drive/v3/files/1AbC");
    request.set_header("x-http-method-override", "DELETE");
    request.classify(&builtin_catalog(), |told| assert_eq!(told.operations[0].activity, "delete"));
}

#[test]
fn a_response_can_make_a_download_or_a_failed_login() {
    let catalog = builtin_catalog();
    let refine = |activity: &str, response: &ResponseView<'_>| {
        catalog.classify_response(activity, response).map(|operation| {
            format!("{} {}", operation.activity, operation.object.unwrap_or_default())
        })
    };
    let page = ResponseView {
        status: 200,
        content_type: Some("text/html; charset=utf-8"),
        ..ResponseView::default()
    };
    assert_eq!(refine("browse", &page), None);
    let attached = ResponseView {
        content_disposition: Some("attachment; filename=\"a.txt\"; filename*=UTF-8''%C3%A4.txt"),
        ..page
    };
    assert_eq!(refine("browse", &attached).as_deref(), Some("download ä.txt"));
    let refused = ResponseView { status: 401, ..page };
    assert_eq!(refine("login", &refused).as_deref(), Some("login_failed "));
    assert_eq!(refine("upload", &attached), None);
    for (location, failed) in [
        ("https://app.test/login?error", true),
        ("/signin/?loginFailed=1#top", true),
        ("https://app.test/cb?state=a&error=access_denied", true),
        ("https://app.test/login?return=/error", false),
        ("https://app.test/home?last_error=none", false),
        ("/login/password?step=2", false),
        ("https://app.test/#error", false),
    ] {
        let sent_on = ResponseView { status: 302, location: Some(location), ..page };
        assert_eq!(refine("login", &sent_on).is_some(), failed, "{location}");
        assert_eq!(refine("login", &ResponseView { status: 200, ..sent_on }), None, "{location}");
    }
}

#[test]
fn a_catalog_file_with_mistakes_is_refused_with_each_of_them() {
    let yaml = r#"
category: cloudy
apps:
  - id: Bad Id
    name: Bad
    tags: [nonsense]
    risk: 101
    domains: [NoDots, "*.twice.test", "*.twice.test"]
    doc: https://docs.example.test
    activities:
      - { activity: fly, on: "GET */x", examples: [] }
      - { activity: view, on: "GET */a/**/b/**", examples: [{ request: "GET https://a.b/" }] }
      - { activity: view, on: "FETCH */a", examples: [{ request: "GET https://a.b/" }] }
      - { activity: view, on: "GET */a", examples: [] }
"#;
    let problems = Catalog::from_files(&[("bad.yaml", yaml)]).unwrap_err();
    assert_eq!(problems.len(), 10, "{problems:#?}");
    let unknown = "category: mail\napps: []\nextra: 1\n";
    assert!(Catalog::from_files(&[("unknown.yaml", unknown)]).is_err());
}

#[test]
fn graphql_is_judged_by_its_root_fields() {
    let fields = |document| {
        let found = graphql::root_fields(document);
        found.iter().map(|(kind, name)| format!("{} {name}", kind.name())).collect::<Vec<_>>()
    };
    assert_eq!(fields("{ a b(x: {y: 1}) { c } }"), ["query a", "query b"]);
    assert_eq!(fields("mutation Safe($a: In = {b: 1}) { x: drop(i: \"}\") }"), ["mutation drop"]);
    assert_eq!(fields("mutation { ... on Mutation { drop { id } } }"), ["mutation drop"]);
    assert_eq!(fields("mutation { ...F } fragment F on Mutation { drop }"), ["mutation drop"]);
    assert_eq!(fields("mutation { ... @include(if: true) { drop } }"), ["mutation drop"]);
    assert_eq!(fields("# mutation { no }\nquery Q @d(a: 1) { yes }"), ["query yes"]);
    assert_eq!(fields("query { a } fragment F on User { drop }"), ["query a"]);
    assert_eq!(fields("query { a(s: \"\"\" } mutation { x \"\"\") }"), ["query a"]);
    assert!(fields("").is_empty());
}

fn captured(pattern: &str, path: &str) -> Option<String> {
    let mut ranges = Ranges::default();
    PathPattern::parse(pattern).unwrap().matches(path, &mut ranges).then(|| {
        let mut captures = Captures::default();
        captures.fill(&path.into(), &ranges);
        captures.take(Slot::Object).unwrap_or_default().into_owned()
    })
}

#[test]
fn path_patterns_match_whole_paths() {
    let cases = [
        ("/", "/", Some("")),
        ("/", "/a", None),
        ("/a/{object}", "/a/b", Some("b")),
        ("/a/{object}", "/A/b/", Some("b")),
        ("/a/{object}", "/a/", None),
        ("/a/{object}", "/a/b/c", None),
        ("/a/**/z", "/a/z", Some("")),
        ("/a/**/z", "/a/b/c/z", Some("")),
        ("/a/**/a", "/a", None),
        ("/a/{object**}", "/a/b/c/", Some("b/c/")),
        ("/a/{object**}", "/a", None),
        ("/root:/{object**}:/content", "/root:/d/ä b.docx:/content", Some("d/ä b.docx")),
        ("/root:/{object**}:/content", "/root:/d:/e/content", None),
        ("/add(*url='{object}'*", "/add(overwrite=true,url='ü.txt')", Some("ü.txt")),
        ("/{object}.git/x", "/w.git/x", Some("w")),
    ];
    for (pattern, path, expected) in cases {
        assert_eq!(captured(pattern, path).as_deref(), expected, "{pattern} on {path}");
    }
}

#[test]
fn app_ids_and_signatures_are_many() {
    let mut apps: Vec<RawApp> = Vec::new();
    for (_, yaml) in builtin::FILES {
        apps.extend(compile::parse(yaml).unwrap().apps);
    }
    let deep = apps.iter().filter(|app| !app.activities.is_empty()).count();
    assert!(apps.len() >= 250 && deep >= 50, "{} apps, {deep} with activities", apps.len());
}

proptest! {
    #[test]
    fn nothing_a_client_sends_makes_it_panic(
        method in "(GET|POST|PUT|DELETE|PATCH|X)",
        host in prop_oneof![
            Just("slack.com".to_owned()),
            Just("b.s3.eu-west-1.amazonaws.com".to_owned()),
            Just("graph.microsoft.com".to_owned()),
            Just("api.github.com".to_owned()),
            "[a-z.\\-*]{0,40}",
        ],
        path in prop_oneof![
            "(/[^/]{0,6}){0,6}",
            Just("/graphql".to_owned()),
            Just("/v1.0/$batch".to_owned()),
            Just("/api/chat.postMessage".to_owned()),
        ],
        query in ".{0,40}",
        media in prop_oneof![
            "multipart/(form-data|related|mixed); ?boundary=\"?b",
            Just("application/json".to_owned()),
            ".{0,40}",
        ],
        body in prop_oneof![
            "(--b|\r\n|name=\"|filename=|x|--|;|:|é){0,40}",
            "[{\\[\"a-z:,}\\] ]{0,60}",
            "\\{\"query\":\"[a-z{}().@:# ]{0,60}\"\\}",
        ],
    ) {
        thread_local! {
            static CATALOG: Catalog = builtin_catalog();
        }
        let mut request = Request::parse("GET https://a.b/").with(Some(&media), Some(&body));
        request.set_target(&method, &host, &path, &query);
        CATALOG.with(|catalog| request.classify(catalog, |told| {
            assert!((1..=OPERATIONS_MAX).contains(&told.operations.len()));
            for operation in &told.operations {
                assert!(names::ACTIVITIES.contains(&operation.activity));
            }
        }));
    }

    #[test]
    fn a_glob_is_total_and_its_captures_lie_inside(
        pattern in "(a|b|é|\\*x|\\{object\\}y){0,6}",
        text in "[abéxy]{0,24}",
    ) {
        if let Ok(glob) = Glob::parse(&pattern) {
            let mut ranges = Ranges::default();
            if glob.matches(&text, 0, &mut ranges) {
                let mut captures = Captures::default();
                captures.fill(&text.as_str().into(), &ranges);
                if pattern.contains("object") {
                    prop_assert!(captures.take(Slot::Object).is_some_and(|held| !held.is_empty()));
                }
            }
        }
    }

    #[test]
    fn decoding_is_total(text in ".{0,40}", plus: bool) {
        let _ = text::decode(&text, plus);
        let _ = text::pair(&text, "a");
        let _ = text::parameter(&text, "filename");
        let _ = graphql::root_fields(&text);
    }
}
