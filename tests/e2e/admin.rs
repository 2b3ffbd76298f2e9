//! The admin endpoint.

use tests::client::message::Request;
use tests::{Gateway, Http, Origin};

#[tokio::test(flavor = "multi_thread")]
async fn health_pop_ca_and_sessions_are_there() {
    let origin = Origin::start().await;
    let egress = "origin: { egress: [127.0.0.9, \"::1\"] }\n";
    let gateway = Gateway::build(&origin).tenant("beta").settings_of("beta", egress).start();
    for path in ["/livez", "/readyz"] {
        assert_eq!(gateway.admin_get(path).await.unwrap().status, 200, "{path}");
    }
    let pop = gateway.admin_get("/v1/pop").await.unwrap().json();
    assert_eq!((&pop["name"], &pop["pop"]), (&"test-1".into(), &"test-1".into()), "{pop}");
    assert_eq!(pop["egress"], serde_json::json!(["127.0.0.9", "::1"]), "tenants' too: {pop}");
    assert!(pop.to_string().contains(&gateway.ports().tunnel.to_string()), "{pop}");
    let ca = gateway.admin_get("/tenants/acme/ca.pem").await.unwrap().text();
    assert_eq!(ca.trim(), gateway.alice().intercept_ca_pem.trim());
    assert!(!ca.contains("PRIVATE"));
    let tunnel = gateway.browser().tunnel().await.unwrap();
    let opened = gateway.await_event("acme", |event| event["type"] == "session").await;
    assert!(opened["policy_version"].is_string(), "{opened}");
    let sessions = gateway.admin_get("/v1/sessions?tenant=acme").await.unwrap().text();
    assert!(sessions.contains("alice@acme.test") && sessions.contains("laptop-1"), "{sessions}");
    assert!(sessions.contains("\"bytes\""), "{sessions}");
    drop(tunnel);
    assert_eq!(gateway.admin_get("/v1/sessions?tenant=nobody").await.unwrap().status, 404);
    assert_eq!(gateway.admin_get("/nothing-here").await.unwrap().status, 404);
    for (path, allowed) in [("/v1/drain", "POST"), ("/v1/explain", "POST")] {
        let reply = gateway.admin_get(path).await.unwrap();
        assert_eq!((reply.status, reply.field("allow")), (405, Some(allowed)), "{path}");
    }
    let reply = gateway.admin(tests::Request::post("/metrics", "")).await.unwrap();
    assert_eq!((reply.status, reply.field("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_and_name_no_host_user_or_rule() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    gateway.browser().get(&origin.url("site.test", "/hello")).await.unwrap();
    gateway.await_transaction("acme", "/hello").await;
    let text = gateway.admin_get("/metrics").await.unwrap().text();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(line.starts_with("sluice_"), "{line}");
        assert!(!line.contains("site.test") && !line.contains("alice"), "{line}");
    }
    assert_eq!(gateway.metric("sluice_config_last_reload_successful", &[]).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_read_by_cursor_without_loss_or_repeat() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    for number in 0..50 {
        inner.get(&format!("/hello?{number}")).await.unwrap();
    }
    gateway.await_transaction("acme", "/hello?49").await;
    let (mut cursor, mut ids) = (String::new(), Vec::new());
    loop {
        let path = format!("/v1/events?tenant=acme&limit=7{cursor}");
        let page = gateway.admin_get(&path).await.unwrap();
        let lines: Vec<_> = page.text().lines().map(str::to_owned).collect();
        assert!(lines.len() <= 7);
        if lines.is_empty() {
            break;
        }
        for line in lines {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            ids.push(format!("{} {}", event["id"], event["state"]));
        }
        cursor = format!("&after={}", page.field("sluice-cursor").unwrap());
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "a record came twice");
    assert!(all >= 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_filtered_and_waited_for() {
    let origin = Origin::start().await;
    let rule =
        "  - { name: no site, match: { domain: [site.test], url: ['*blocked*'] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    inner.get("/hello").await.unwrap();
    inner.get("/blocked").await.unwrap();
    gateway.await_transaction("acme", "blocked").await;
    let pull = async |query: &str| {
        let reply = gateway.admin_get(&format!("/v1/events?tenant=acme&{query}")).await.unwrap();
        let cursor = reply.field("sluice-cursor").unwrap_or_default().to_owned();
        let text = if reply.status == 200 { reply.text() } else { String::new() };
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (reply.status, cursor, lines)
    };
    let (_, end, blocked) = pull("type=transaction&action=block&user=ALICE@*").await;
    assert_eq!(blocked.len(), 1, "{blocked:?}");
    assert!(blocked[0]["url"].as_str().unwrap().ends_with("/blocked"));
    assert_eq!(pull("user=bob@acme.test,nobody").await.2.len(), 0);
    assert_eq!(pull("app=dropbox").await.2.len(), 0);
    let (_, _, all) = pull("since=0").await;
    assert!(all.len() >= 3, "{all:?}");
    let last = all.last().unwrap()["time"].as_str().unwrap();
    assert_eq!(pull(&format!("since={last}")).await.2.len(), 1);
    for wrong in ["since=yesterday", "action=a*b", "host=site.test", "wait=soon", "after=x"] {
        assert_eq!(pull(wrong).await.0, 400, "{wrong}");
    }

    // Nothing that fits comes: the wait ends by itself.
    let (status, cursor, none) = pull(&format!("wait=1&app=dropbox&after={end}")).await;
    assert_eq!((status, none.len()), (200, 0));
    assert!(!cursor.is_empty());
    // Something comes: the wait ends with it.
    let wanted = format!("wait=60&type=transaction&state=close&after={end}");
    let (waited, _) = tokio::join!(pull(&wanted), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        inner.get("/hello?awaited").await.unwrap();
    });
    assert!(waited.2[0]["url"].as_str().unwrap().ends_with("?awaited"), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_turns_readyz_first_and_lets_requests_finish() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    let slow = tokio::spawn(async move { inner.get("/slow/2000").await });
    let asked = async {
        while origin.last("/slow").is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    // The origin records a request before it waits, so this ends well before the answer.
    asked.await;
    let drained = gateway.admin(Request::new("POST", "/v1/drain")).await.unwrap();
    assert!((200..300).contains(&drained.status), "{}", drained.status);
    assert_eq!(gateway.admin_get("/readyz").await.unwrap().status, 503);
    assert_eq!(slow.await.unwrap().unwrap().status, 200, "a request in flight was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_names_the_rule_that_decides() {
    let origin = Origin::start().await;
    let rule = "  - { name: no site, match: { domain: [site.test] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let said = gateway.command(&["explain", "acme", "--url", "https://site.test/x", "--json"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("no site"), "{said}");
    serde_json::from_str::<serde_json::Value>(&said).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_over_http_says_what_the_policy_in_force_says() {
    let origin = Origin::start().await;
    let rule = "  - { name: no keys, match: { domain: [site.test], file_name: ['*.pem'] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let ask = async |question: &serde_json::Value| {
        let request = Request::post("/v1/explain", question.to_string());
        let reply = gateway.admin(request).await.unwrap();
        (reply.status, reply.json())
    };
    let mut question = serde_json::json!({
        "tenant": "acme", "user": "alice@acme.test", "url": "https://site.test/up", "method": "POST",
        "headers": { "Content-Type": "multipart/form-data; boundary=b" },
    });
    let (status, said) = ask(&question).await;
    assert_eq!((status, &said["action"]), (200, &"pending".into()), "{said}");
    assert_eq!((&said["waits_for"][0], &said["give"][0]), (&"file_name".into(), &"body".into()));
    let part = "Content-Disposition: form-data; name=f; filename=id.pem";
    question["body"] = format!("--b\r\n{part}\r\n\r\nx\r\n--b--\r\n").into();
    let (_, said) = ask(&question).await;
    assert_eq!((&said["action"], &said["rule"]), (&"block".into(), &"no keys".into()), "{said}");
    // The same request, made: the answer was the truth.
    let request = Request::post("/up", question["body"].as_str().unwrap().to_owned())
        .field("content-type", "multipart/form-data; boundary=b");
    let made = gateway.browser().send(&origin.url("site.test", "/up"), request).await.unwrap();
    assert_eq!(made.status, 403);

    for (key, value, status) in [("tenant", "nobody", 404), ("url", "nonsense", 400)] {
        let mut wrong = question.clone();
        wrong[key] = value.into();
        assert_eq!(ask(&wrong).await.0, status, "{key}");
    }
    assert_eq!(ask(&serde_json::json!({ "tenant": "acme", "odd": 1 })).await.0, 400);
    let long = "x".repeat(2 << 20);
    let (status, _) = ask(&serde_json::json!({ "tenant": "acme", "url": long })).await;
    assert_eq!(status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_at_a_limit_is_counted_once_at_its_limit() {
    let origin = Origin::start().await;
    let rule = "  - { name: no archives, match: { file_name: [\"*.zip\"] }, action: block }";
    let gateway =
        Gateway::build(&origin).policy(rule).settings("limits: { hold_bytes: 64KiB }\n").start();
    let browser = gateway.browser().http(Http::One);
    let url = origin.url("site.test", "/hello");
    let long = Request::get("/").field("X-Long", &"x".repeat(98_304));
    assert_eq!(browser.send(&url, long).await.unwrap().status, 431);
    gateway.await_event("acme", |event| event["error"] == "head_too_large").await;
    let upload = Request::post("/", vec![7; 1_000_000]);
    let refused = browser.send(&origin.url("site.test", "/upload"), upload).await.unwrap();
    assert_eq!(refused.status, 403, "what could not be seen is blocked");
    gateway.await_event("acme", |event| event["inspection_reason"] == "bound").await;
    for limit in ["head_bytes", "hold_bytes"] {
        let label = format!("limit=\"{limit}\"");
        let count = gateway.metric("sluice_limit_refusals_total", &[&label]).await;
        assert_eq!(count, Some(1.0), "{limit}");
    }
    assert_eq!(gateway.metric("sluice_limit_refusals_total", &[]).await, Some(2.0));
}
