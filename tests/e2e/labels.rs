//! What a tenant adds to the catalog, and what responses and sign-ins add to a request.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::origin::Answer;
use tests::{Gateway, Http, Origin, Request};

use crate::denial;

/// The policy of most of these: what lists call ads is blocked.
const NO_ADS: &str = "  - { name: no ads, match: { category: [ads] }, action: block }";

/// tenant.yaml that names lists, with the tenant's own names.
const LISTS: &str = "lists:\n  - { file: ads.txt, category: ads }\n  - { file: sites.csv }\n\
                     categories: { partners: [partner.test] }\n";

fn with_lists(origin: &Origin, rules: &str) -> Gateway {
    let gateway = Gateway::build(origin).policy(rules).configure();
    gateway.write("tenants/acme/ads.txt", "! Title: ads\n||ads.test^\n@@||fine.ads.test^\n");
    gateway.write("tenants/acme/sites.csv", "domain,category\nhosted.test,Web Hosting\n");
    gateway.write("tenants/acme/tenant.yaml", LISTS);
    gateway.restart();
    gateway
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_domain_is_not_even_dialled() {
    let origin = Origin::start().await;
    let gateway = with_lists(&origin, NO_ADS);
    let refused = denial(gateway.browser().get(&origin.url("x.ads.test", "/hello")).await);
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("no ads"), "{}", refused.text);
    assert!(origin.connections().is_empty());
    let event = gateway.await_transaction("acme", "x.ads.test").await;
    assert_eq!((&event["category"], &event["rule"]), (&json!("ads"), &json!("no ads")));
    gateway
        .await_event("acme", |one| one["type"] == "alert" && one["parent_id"] == event["id"])
        .await;
    let passed = gateway.browser().get(&origin.url("fine.ads.test", "/hello")).await;
    assert_eq!(passed.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_decides_over_flows_that_nobody_reads() {
    let origin = Origin::start().await;
    let gateway = with_lists(&origin, NO_ADS);
    let bypass =
        format!("{LISTS}decrypt: {{ rules: [{{ name: all, match: {{}}, action: bypass }}] }}\n");
    gateway.write("tenants/acme/tenant.yaml", &bypass);
    gateway.restart();
    assert!(gateway.browser().get(&origin.url("x.ads.test", "/hello")).await.is_err());
    assert!(origin.connections().is_empty());
    let fits = |one: &serde_json::Value| one["type"] == "flow" && one["host"] == "x.ads.test";
    let event = gateway.await_event("acme", fits).await;
    assert_eq!((&event["action"], &event["rule"]), (&json!("block"), &json!("no ads")));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_category_of_a_host_is_seen_and_recorded() {
    let origin = Origin::start().await;
    let rules = "  - { name: hosting, match: { category: [web-hosting] }, action: alert }\n  \
                 - { name: ours, match: { category: [partners] }, action: alert }";
    let gateway = with_lists(&origin, rules);
    let url = origin.url("hosted.test", "/hello");
    assert_eq!(gateway.browser().get(&url).await.unwrap().status, 200);
    let event = gateway.await_transaction("acme", "hosted.test").await;
    assert_eq!(
        (&event["category"], &event["alerts"]),
        (&json!("web-hosting"), &json!(["hosting"]))
    );
    let url = origin.url("www.partner.test", "/hello");
    assert_eq!(gateway.browser().get(&url).await.unwrap().status, 200);
    let event = gateway.await_transaction("acme", "www.partner.test").await;
    assert_eq!((&event["category"], &event["alerts"]), (&json!("partners"), &json!(["ours"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_list_is_in_force_within_a_second() {
    let origin = Origin::start().await;
    let gateway = with_lists(&origin, NO_ADS);
    let url = origin.url("late.test", "/hello");
    assert_eq!(gateway.browser().get(&url).await.unwrap().status, 200);
    gateway.write("tenants/acme/ads.txt", "||late.test^\n");
    let written = Instant::now();
    while gateway.browser().get(&url).await.is_ok_and(|got| got.status == 200) {
        assert!(written.elapsed() < Duration::from_millis(1_500), "not in force after 1 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(denial(gateway.browser().get(&url).await).status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_list_takes_its_last_good_copy() {
    let origin = Origin::start().await;
    let gateway = with_lists(&origin, NO_ADS);
    gateway.write("tenants/acme/ads.txt", "<html>\n<p>not found</p>\n</html>\n");
    gateway.restart();
    let refused = denial(gateway.browser().get(&origin.url("x.ads.test", "/hello")).await);
    assert_eq!(refused.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_judged_by_its_response() {
    let file = || {
        Answer::of(200, "application/octet-stream", "MZ-not-really".into())
            .field("content-disposition", "attachment; filename=\"setup.exe\"")
    };
    let origin = Origin::build().on("/get", file()).on("/page2", Answer::text("x")).start().await;
    let rules = "  - { name: no programs, match: { activity: [download], file_type: [executable] }, \
                 action: block, message: Ask Bo. }";
    let gateway = Gateway::build(&origin).policy(rules).start();
    let refused = denial(gateway.browser().get(&origin.url("site.test", "/get?id=7")).await);
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("Ask Bo.") && !refused.text.contains("MZ"), "{}", refused.text);
    let event = gateway.await_transaction("acme", "/get").await;
    assert_eq!(
        (&event["activity"], &event["object"], &event["rule"], &event["file_name"]),
        (&json!("download"), &json!("setup.exe"), &json!("no programs"), &json!("setup.exe"))
    );
    assert_eq!(event["file_type"], "exe", "what the rule went by: {event}");
    let passed = gateway.browser().get(&origin.url("site.test", "/page2")).await;
    assert_eq!(passed.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_one_in_the_event() {
    let origin = Origin::build().on("/login", Answer::status(401)).start().await;
    let gateway = Gateway::start(&origin);
    let request = Request::post("/", "username=alice%40acme.test&password=x")
        .field("content-type", "application/x-www-form-urlencoded");
    let url = origin.url("site.test", "/login");
    assert_eq!(gateway.browser().send(&url, request).await.unwrap().status, 401);
    let event = gateway.await_transaction("acme", "/login").await;
    assert_eq!(event["activity"], "login_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_to_the_instance_of_the_account_last_seen_signing_in() {
    let origin = Origin::start().await;
    let rules = "  - name: corporate only\n    match: { app: [dropbox], activity: [upload], \
                 instance: { not: [corporate] } }\n    action: block";
    let gateway = Gateway::build(&origin)
        .host("*.dropbox.com")
        .host("*.dropboxapi.com")
        .settings("instances: { dropbox: { corporate: [acme.test] } }\n")
        .policy(rules)
        .start();
    let upload = || {
        Request::post("/", "plans")
            .field("content-type", "application/octet-stream")
            .field("dropbox-api-arg", "{\"path\":\"/a.txt\"}")
    };
    let content = origin.url("content.dropboxapi.com", "/2/files/upload");
    let sign_in = |account: &str| {
        Request::post("/", format!("login_email={account}&password=x"))
            .field("content-type", "application/x-www-form-urlencoded")
    };
    let login = origin.url("www.dropbox.com", "/ajax_login");
    let browser = gateway.browser();
    for (account, status) in [("alice%40home.test", 403), ("alice%40acme.test", 200)] {
        assert_eq!(browser.send(&login, sign_in(account)).await.unwrap().status, 200);
        let got = browser.send(&content, upload()).await;
        let got = got.map_or_else(|error| denial(Err(error)).status, |reply| reply.status);
        assert_eq!(got, status, "{account}");
    }
    let fits = |one: &serde_json::Value| {
        one["type"] == "transaction" && one["activity"] == "upload" && one["action"] == "allow"
    };
    let event = gateway.await_event("acme", fits).await;
    assert_eq!(
        (&event["instance"], &event["instance_kind"], &event["from_user"]),
        (&json!("acme.test"), &json!("corporate"), &json!("alice@acme.test"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_restriction_replaces_the_clients_own_on_every_version() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin)
        .host("login.microsoftonline.com")
        .settings("restrict: { microsoft: [acme.test] }\n")
        .start();
    for http in [tests::Http::One, tests::Http::Two] {
        let request = Request::get("/")
            .field("restrict-access-to-tenants", "evil.test")
            .field("restrict-access-context", "evil");
        let url = origin.url("login.microsoftonline.com", "/echo");
        assert_eq!(gateway.browser().http(http).send(&url, request).await.unwrap().status, 200);
        let seen = origin.last("/echo").unwrap();
        assert_eq!(seen.field("restrict-access-to-tenants"), Some("acme.test"));
        assert_eq!(seen.field("restrict-access-context"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_a_form_is_on_record_where_no_rule_asks_for_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).policy("").start();
    let form = |name: &str| {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\n"
        );
        let body = [head.as_str(), &"x".repeat(300_000), "\r\n--b--\r\n"].concat();
        Request::post("/", body).field("content-type", "multipart/form-data; boundary=b")
    };
    for http in [Http::One, Http::Two] {
        let browser = gateway.browser().http(http);
        let send = async |path: String, request: Request| {
            let url = origin.url("site.test", &path);
            let request = Request { path: path.clone(), ..request };
            assert_eq!(browser.send(&url, request).await.unwrap().status, 200);
            gateway.await_transaction("acme", &path).await
        };
        let tag = http.alpn();
        let event = send(format!("/upload?file-{tag}"), form("plan.pdf")).await;
        let said = ["activity", "object", "object_type", "file_name", "file_type"];
        let said = said.map(|field| event[field].as_str().unwrap_or_default());
        assert_eq!(said, ["upload", "plan.pdf", "file", "plan.pdf", "pdf"], "{event}");
        // Nothing was chosen.
        let event = send(format!("/upload?none-{tag}"), form("")).await;
        assert_eq!(event["activity"], "form_post", "{event}");
    }
}
