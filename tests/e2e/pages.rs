//! What a blocked or coached person sees, and how coaching goes on.

use tests::{Gateway, Origin, Request};

const COACH: &str = "  - { name: think first, match: { domain: [site.test], method: [POST] }, action: coach, message: Is this for work? }";

#[tokio::test(flavor = "multi_thread")]
async fn a_navigation_gets_a_page_and_a_program_gets_problem_json() {
    let origin = Origin::start().await;
    let rule =
        "  - { name: closed, match: { domain: [site.test] }, action: block, message: Not here. }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let url = origin.url("site.test", "/x");
    let page = gateway.browser().send(&url, Request::get("/").navigation()).await.unwrap();
    assert_eq!(page.status, 403);
    assert!(page.field("content-type").unwrap().starts_with("text/html"));
    for part in ["<html", "closed", "Not here.", "lang="] {
        assert!(page.text().contains(part), "no {part} in {}", page.text());
    }
    assert_eq!(page.field("cache-control"), Some("no-store"));
    let old = Request::get("/").field("accept", "text/html");
    let old = gateway.browser().send(&url, old).await.unwrap();
    assert!(old.field("content-type").unwrap().starts_with("text/html"));
    let api = Request::get("/").field("accept", "text/html").field("sec-fetch-mode", "cors");
    let api = gateway.browser().send(&url, api).await.unwrap();
    assert_eq!(api.status, 403);
    assert!(api.field("content-type").unwrap().starts_with("application/problem+json"));
    let facts = api.json();
    assert_eq!(facts["status"], 403);
    assert!(api.text().contains("closed") && api.text().contains("Not here."), "{facts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_from_the_request_is_executed_on_a_page() {
    let origin = Origin::start().await;
    let rule = "  - { name: closed, match: { domain: [site.test] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let url = origin.url("site.test", "/%3Cscript%3Ealert(1)%3C/script%3E?a=\"><script>x</script>");
    let request = Request::get("/").navigation().field("referer", "\"><script>y</script>");
    if let Ok(page) = gateway.browser().send(&url, request).await {
        assert!(!page.text().contains("<script>x") && !page.text().contains("<script>y"));
        assert!(page.field("content-security-policy").is_some());
    }
}

/// The first link or form target on the page that leads to the notice host.
fn proceed_url(page: &str) -> String {
    let text = page.replace("&amp;", "&");
    let at = text.find("https://notice.sluice.test").expect("a way to proceed");
    let end = text[at..].find(['"', '\'', '<', ' ']).map_or(text.len(), |end| at + end);
    text[at..end].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn coach_lets_the_user_go_on_after_a_justification() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).policy(COACH).start();
    let browser = gateway.browser();
    let url = origin.url("site.test", "/echo");
    let post = || Request::post("/", "x").navigation();
    let page = browser.send(&url, post()).await.unwrap();
    assert_eq!(page.status, 403);
    assert!(page.text().contains("think first") && page.text().contains("Is this for work?"));
    assert!(origin.last("/echo").is_none());
    let proceed = proceed_url(&page.text());
    let form = browser.send(&proceed, Request::get("/").navigation()).await.unwrap();
    assert_eq!(form.status, 200, "{}", form.text());
    let answer = Request::post("/", "justification=quarterly+report")
        .field("content-type", "application/x-www-form-urlencoded")
        .field("origin", "https://notice.sluice.test")
        .field("sec-fetch-site", "same-origin");
    let done = browser.send(&proceed, answer.clone()).await.unwrap();
    assert!((200..400).contains(&done.status), "{} {}", done.status, done.text());
    assert_eq!(browser.send(&url, post()).await.unwrap().status, 200, "remembered");
    let event = gateway.await_event("acme", |one| one["justification"] == "quarterly report").await;
    assert_eq!(event["user"], "alice@acme.test");
    let again = browser.send(&proceed, answer).await.unwrap();
    assert!(again.status >= 400, "the token is for one use");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coach_token_is_no_use_to_another_user_or_device() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).policy(COACH).start();
    let url = origin.url("site.test", "/echo");
    let page = gateway.browser().send(&url, Request::post("/", "x").navigation()).await.unwrap();
    let proceed = proceed_url(&page.text());
    for (user, device) in [("bob@acme.test", "laptop-2"), ("alice@acme.test", "phone-1")] {
        let other = gateway.browser_of(&gateway.enroll("acme", user, device));
        let answer = Request::post("/", "justification=mine")
            .field("content-type", "application/x-www-form-urlencoded");
        let refused = other.send(&proceed, answer).await.unwrap();
        assert!(refused.status >= 400, "{user} {device}: {}", refused.text());
    }
    let still = gateway.browser().send(&url, Request::post("/", "x")).await.unwrap();
    assert_eq!(still.status, 403);
}
