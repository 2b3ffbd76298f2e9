//! Tenants are strangers (TI).

use tests::{Gateway, Origin, Request};

#[tokio::test(flavor = "multi_thread")]
async fn ti_03_ti_04_no_origin_connection_or_ticket_crosses_tenants() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").start();
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let url = origin.url("site.test", "/who");
    for round in 0..10 {
        for (name, browser) in [("acme", gateway.browser()), ("globex", gateway.browser_of(&bob))] {
            let request =
                Request::get("/").field("x-test-tenant", name).field("x-round", &round.to_string());
            assert_eq!(browser.send(&url, request).await.unwrap().status, 200);
        }
    }
    let mut owner = std::collections::HashMap::new();
    for seen in origin.requests() {
        let tenant = seen.field("x-test-tenant").unwrap().to_owned();
        let first = owner.entry(seen.connection).or_insert_with(|| tenant.clone());
        assert_eq!(*first, tenant, "one origin connection served two tenants");
    }
    // The first connection of each tenant must be a full handshake.
    let connections = origin.connections();
    for tenant in ["acme", "globex"] {
        let first =
            owner.iter().filter(|(_, who)| *who == tenant).map(|(at, _)| *at).min().unwrap();
        assert!(!connections[first].resumed, "{tenant} resumed a stranger's session");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ti_06_each_tenant_is_shown_its_own_ca_under_load() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").start();
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    // Each browser trusts its own tenant's CA only, so a wrong issuer fails the handshake.
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let browser = if number % 2 == 0 { gateway.browser() } else { gateway.browser_of(&bob) };
        let url = origin.url(&format!("host-{}.test", number / 2 % 10), "/hello");
        tasks.spawn(async move { browser.get(&url).await.unwrap().status });
    }
    assert!(tasks.join_all().await.iter().all(|status| *status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn ti_09_ti_17_events_stay_with_their_tenant_though_clients_share_an_address() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").start();
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    gateway.browser().get(&origin.url("site.test", "/of-acme")).await.unwrap();
    gateway.browser_of(&bob).get(&origin.url("site.test", "/of-globex")).await.unwrap();
    gateway.await_transaction("acme", "/of-acme").await;
    gateway.await_transaction("globex", "/of-globex").await;
    for (tenant, foreign) in [("acme", "globex"), ("globex", "acme")] {
        for event in gateway.events(tenant).await.unwrap() {
            assert!(!event.to_string().contains(foreign), "{tenant}: {event}");
            assert_eq!(event["client_ip"].as_str().unwrap_or("127.0.0.1"), "127.0.0.1");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ti_10_a_page_names_nothing_of_another_tenant() {
    let origin = Origin::start().await;
    let rule = "  - { name: RULE-OF-ACME, match: { domain: [site.test] }, action: block, message: MESSAGE-OF-ACME }";
    let gateway = Gateway::build(&origin).tenant("globex").policy(rule).start();
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let url = origin.url("site.test", "/hello");
    let own = crate::denial(gateway.browser().get(&url).await);
    assert!(own.text.contains("RULE-OF-ACME"), "{}", own.text);
    let other = gateway.browser_of(&bob).get(&url).await.unwrap();
    assert_eq!(other.status, 200);
    assert!(!other.text().contains("ACME"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ti_12_a_reload_of_one_tenant_disturbs_no_other() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").start();
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let mut inner = gateway.browser_of(&bob).connect(&origin.url("site.test", "/")).await.unwrap();
    for round in 0..20 {
        let rule = format!(
            "  - {{ name: round {round}, match: {{ domain: [x{round}.test] }}, action: block }}"
        );
        gateway.set_policy("acme", &rule);
        for _ in 0..5 {
            assert_eq!(inner.get("/bytes/10000").await.unwrap().length, 10_000);
        }
    }
}
