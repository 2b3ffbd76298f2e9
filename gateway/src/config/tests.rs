//! What configuration files promise: defaults, forms of values, and every mistake with its place.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

/// `line:column: what, expected …` of every problem, without the file's name.
fn mistakes_in_gateway(text: &str) -> Vec<String> {
    let problems = match read::<GatewayConfig>("gateway.yaml", text) {
        Ok(read) => check_gateway("gateway.yaml", &read.tree, &read.value),
        Err(problems) => problems,
    };
    problems.iter().map(|it| it.to_string().replacen("gateway.yaml:", "", 1)).collect()
}

fn gateway(text: &str) -> GatewayConfig {
    read::<GatewayConfig>("gateway.yaml", text).map(|read| read.value).unwrap()
}

fn tenant(text: &str) -> TenantConfig {
    read::<TenantConfig>("tenant.yaml", text).map(|read| read.value).unwrap()
}

#[test]
fn empty_files_mean_the_defaults() {
    let config = gateway("");
    assert_eq!(config, GatewayConfig::default());
    assert_eq!(config.listen.tcp.to_string(), "0.0.0.0:8443");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9901");
    assert_eq!(config.events.max_bytes, ByteSize(10 << 30));
    assert!(config.limits.may_connect(24) && !config.limits.may_connect(25));
    assert_eq!(tenant("# nothing yet\n"), TenantConfig::default());
}

#[test]
fn a_section_without_content_has_its_defaults() {
    assert_eq!(gateway("listen:\nadmin:\norigin:\n  hosts:\n"), GatewayConfig::default());
}

#[test]
fn the_design_example_reads() {
    let text = r#"
pop: fra-1
domain: localhost
listen: { tcp: "0.0.0.0:8443", udp: "0.0.0.0:8443", explicit: {"127.0.0.1:3128": acme} }
admin:  { listen: "127.0.0.1:9901", token_file: null, tls: null }
notice: notice.sluice.test
workers: 0
origin:
  roots: webpki
  extra_roots: [roots/corporate.pem]
  resolver: [192.0.2.53, "192.0.2.54:5353"]
  hosts: { "*.test": 127.0.0.1, wiki.acme.test: "2001:db8::1" }
  allow_private: [127.0.0.0/8, 10.1.2.3]
  egress: [192.0.2.1]
events: { dir: data/events, flush_ms: 100, max_bytes: 10GiB, sinks: [] }
limits: { memory: 70%, tunnels: 50000, streams_per_tunnel: 1000, connect_ports: ["1-24", 443, "26-65535"] }
"#;
    let config = gateway(text);
    assert_eq!(config.listen.explicit.len(), 1);
    assert_eq!(config.origin.roots, Roots::Webpki);
    let servers = ["192.0.2.53:53", "192.0.2.54:5353"];
    let servers = servers.map(|server| NameServer(server.parse().unwrap()));
    assert_eq!(config.origin.resolver, Resolver::Servers(servers.to_vec()));
    assert_eq!(config.origin.allow_private[1].0.to_string(), "10.1.2.3/32");
    assert_eq!(config.limits.memory, MemoryLimit::Percent(70));
}

#[test]
fn ten_mistakes_give_ten_messages_with_places() {
    let text = "\
pop: fra 1
domian: localhost
listen:
  tcp: 0.0.0.0
  explicit: { \"127.0.0.1:3128\": Backup }
workers: many
origin:
  roots: sytem
  hosts: { \"bad host\": 127.0.0.1 }
  allow_private: [10.0.0.0/8, 10.0.0.0/40]
events: { flush_ms: soon, max_bytes: lots }
limits: { memory: 120%, connect_ports: [\"9-1\"] }
limits: {}
";
    let expected = [
        "2:1: unknown key `domian`, expected `domain`",
        "4:8: found `0.0.0.0`, expected an address with port, such as `0.0.0.0:8443` or `[::]:8443`",
        "5:33: found `Backup`, expected a tenant's name: 1 to 40 of a-z, 0-9 and `-`, not `backup…`",
        "6:10: found `many`, expected a whole number from 0 to 65535",
        "8:10: found `sytem`, expected `system`",
        "9:12: found `bad host`, expected a host name such as `wiki.acme.test`, or `*.acme.test`",
        "10:31: found `10.0.0.0/40`, expected a network such as `10.0.0.0/8`, or an address",
        "11:21: found `soon`, expected a whole number",
        "11:38: found `lots`, expected a size, such as `512MiB` or `10GiB`",
        "12:19: found `120%`, expected a share from `1%` to `95%`, or a size such as `4GiB`",
        "12:41: found `9-1`, expected a port from 1 to 65535, or a range such as `8000-8999`",
        "13:1: key `limits` a second time, expected each key once",
    ];
    assert_eq!(mistakes_in_gateway(text), expected);
}

#[test]
fn meaning_is_checked_with_places() {
    let text = "\
pop: fra 1
admin: { listen: \"0.0.0.0:9901\" }
listen:
  tcp: 127.0.0.1:3128
  explicit: { \"127.0.0.1:3128\": acme }
events: { flush_ms: 0, max_bytes: 1KiB }
limits: { tunnels: 0, drain_s: 100000 }
";
    let found = mistakes_in_gateway(text);
    let places: Vec<&str> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["2:18", "1:6", "6:21", "6:35", "7:20", "7:32", "5:33"], "{found:#?}");
}

#[test]
fn a_missing_required_key_is_told_once() {
    let text = "events: { sinks: [{ name: siem, kind: htp, to: \"https://siem.acme.test/\" }, { name: a }] }";
    let found = mistakes_in_gateway(text);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!(found[0], "1:39: found `htp`, expected `http`");
    assert!(found[1].starts_with("1:77: no key `kind` here"), "{found:#?}");
}

#[test]
fn broken_yaml_is_one_problem_with_a_place() {
    let found = mistakes_in_gateway("pop: [a\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("1:6: not YAML"), "{found:#?}");
}

#[test]
fn tenants_say_what_faults_mean() {
    let config = tenant("decryption: { expired: warn, self_signed: allow, client_pinned: bypass }");
    assert_eq!(config.decryption.expired, FaultAction::Warn);
    assert_eq!(config.decryption.self_signed, FaultAction::Allow);
    assert_eq!(config.decryption.untrusted_root, FaultAction::Block);
    assert_eq!(config.decryption.client_pinned, BypassAction::Bypass);
}

#[test]
fn tokens_without_keys_and_injected_headers_are_refused() {
    let text = "identity: { require: either }\nrestrict: { google: [\"a.test,b.test\"] }\n";
    let read = read::<TenantConfig>("tenant.yaml", text).unwrap();
    let found = check_tenant("tenant.yaml", &read.tree, &read.value);
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:#?}");
    assert!(shown[0].starts_with("tenant.yaml:1:22: tokens are accepted"), "{shown:#?}");
    assert!(shown[1].starts_with("tenant.yaml:2:22: not a vendor's tenant"), "{shown:#?}");
}

#[test]
fn sizes_have_units() {
    let size = |text: &str| text.parse::<ByteSize>().ok().map(ByteSize::bytes);
    assert_eq!(size("10GiB"), Some(10 << 30));
    assert_eq!(size("10 MB"), Some(10_000_000));
    assert_eq!(size("4096"), Some(4096));
    assert_eq!(size("1B"), Some(1));
    for wrong in ["", "GiB", "-1", "1.5GiB", "99999999TiB", "1 0MiB", "1gib"] {
        assert_eq!(size(wrong), None, "{wrong}");
    }
}

#[test]
fn schemas_know_every_key_and_refuse_others() {
    for schema in [gateway_schema(), tenant_schema()] {
        assert_eq!(schema["additionalProperties"], false);
        assert!(schema["properties"].as_object().unwrap().len() > 5);
    }
    assert_eq!(gateway_schema()["$defs"]["Events"]["properties"]["max_bytes"]["default"], "10GiB");
}

#[test]
fn tenant_restrictions_go_to_their_vendors_hosts_only() {
    let id = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    let config = tenant(&format!(
        "restrict: {{ google: [acme.test, beta.test], microsoft: [acme.test, {id}], slack: [T1, T2] }}"
    ));
    let restrictions = config.restrict.compile();
    let headers = |host: &str| set(&restrictions, host);
    let google = ("X-GoogApps-Allowed-Domains", Some("acme.test,beta.test".to_owned()));
    assert_eq!(headers("mail.google.com"), [google]);
    assert_eq!(headers("google.com.evil.test"), []);
    assert_eq!(headers("evilgoogle.com"), []);
    assert_eq!(headers("login.live.com"), []);
    let entra = headers("login.microsoftonline.com");
    assert_eq!(entra[0], ("Restrict-Access-To-Tenants", Some(format!("acme.test,{id}"))));
    assert_eq!(entra[1], ("Restrict-Access-Context", Some(id.to_owned())));
    let slack = headers("acme.slack.com");
    assert_eq!(slack[0].1.as_deref(), Some("T1"));
    assert_eq!(slack[1].1.as_deref(), Some("T1,T2"));
}

/// The headers of requests to a host.
fn set(restrictions: &Restrictions, host: &str) -> Vec<(&'static str, Option<String>)> {
    let text = |value: &bytes::Bytes| String::from_utf8(value.to_vec()).unwrap();
    restrictions.on(host).map(|(header, value)| (header, value.map(text))).collect()
}

#[test]
fn every_vendors_header_is_set_on_its_hosts() {
    let lines = [
        ("google: [acme.test]", "drive.google.com", "X-GoogApps-Allowed-Domains", "acme.test"),
        (
            "google_drive_deny_anonymous: [\"true\"]",
            "drive.google.com",
            "X-GoogApps-Drive-Deny-Anonymous",
            "true",
        ),
        (
            "gemini_code_assist: [acme.test]",
            "cloudcode-pa.googleapis.com",
            "X-GeminiCodeAssist-Allowed-Domains",
            "acme.test",
        ),
        ("microsoft_v2: [t:p]", "login.live.com", "sec-Restrict-Tenant-Access-Policy", "t:p"),
        (
            "microsoft_consumer: [restrict-msa]",
            "login.live.com",
            "sec-Restrict-Tenant-Access-Policy",
            "restrict-msa",
        ),
        ("dropbox: [dbtid]", "www.dropbox.com", "X-Dropbox-allowed-Team-Ids", "dbtid"),
        ("github: [acme]", "api.github.com", "sec-GitHub-allowed-enterprise", "acme"),
        ("youtube: [Strict]", "youtubei.googleapis.com", "YouTube-Restrict", "Strict"),
        (
            "webex: [acme.test]",
            "idbroker-b-us.webex.com",
            "CiscoSpark-Allowed-Domains",
            "acme.test",
        ),
        ("zoom: [token]", "us02web.zoom.us", "X-ZoomApps-Policy", "token"),
        ("ibm_cloud: [acc]", "iam.cloud.ibm.com", "IBM-Cloud-Tenant", "acc"),
        ("asana: [\"1\", \"2\"]", "app.asana.com", "Asana-Allowed-Domain-Ids", "1,2"),
        ("chatgpt: [w]", "chatgpt.com", "ChatGPT-Allowed-Workspace-Id", "w"),
        ("openai: [org-1]", "api.openai.com", "OpenAI-Allowed-Organization-Ids", "org-1"),
        ("anthropic: [o]", "claude.ai", "anthropic-allowed-org-ids", "o"),
        (
            "google_cloud: [\"123\"]",
            "storage.googleapis.com",
            "X-Goog-Allowed-Resources",
            "eyJvcHRpb25zIjoic3RyaWN0IiwicmVzb3VyY2VzIjpbIm9yZ2FuaXphdGlvbnMvMTIzIl19",
        ),
    ];
    for (setting, host, header, value) in lines {
        let found = set(&tenant(&format!("restrict: {{ {setting} }}")).restrict.compile(), host);
        assert!(found.contains(&(header, Some(value.to_owned()))), "{setting}: {found:?}");
        assert_eq!(set(&tenant("").restrict.compile(), host), []);
    }
}

#[test]
fn a_clients_copy_goes_even_where_nothing_takes_its_place() {
    let config = tenant("restrict: { microsoft: [acme.test] }");
    let headers = set(&config.restrict.compile(), "login.windows.net");
    assert!(headers.contains(&("Restrict-Access-Context", None)), "{headers:?}");
}

#[test]
fn categories_and_lists_are_named_as_rules_name_them() {
    let text = "categories: { Partners: [a.test], ok-name: [b.test] }\nlists:\n  - { file: a.txt, format: plain }\n  - { file: b.csv }\n  - { file: c.txt, category: Bad Name }\n";
    let read = read::<TenantConfig>("tenant.yaml", text).unwrap();
    let found = check_tenant("tenant.yaml", &read.tree, &read.value);
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 3, "{shown:#?}");
    assert!(shown[0].contains("`Partners` is no category's name"), "{shown:#?}");
    assert!(shown[1].contains("a list without a category"), "{shown:#?}");
    assert!(shown[2].contains("`Bad Name`"), "{shown:#?}");
}

#[test]
fn what_kafka_cannot_have_is_named() {
    let sasl = "sasl: { mechanism: plain, user: alice, password_file: p }";
    let said = mistakes_in_gateway(&format!(
        "events:\n  sinks:\n    - {{ name: a, kind: kafka, to: 'https://k.test:9093', topic: 'a b' }}\n    \
         - {{ name: b, kind: kafka, to: 'kafka://k.test', tls: {{ ca: ca.pem }}, token_file: t, {sasl} }}\n    \
         - {{ name: c, kind: http, to: 'http://c.test/', topic: events, {sasl} }}\n    \
         - {{ name: d, kind: kafka, to: 'kafka://k.test:9092,l.test:9092' }}\n    \
         - {{ name: e, kind: kafka, to: 'tls://k.test:9093,l.test:9093', tls: {{ ca: ca.pem }}, {sasl} }}\n    \
         - {{ name: f, kind: kafka, to: 'tls://k.test:9093,[2001:db8::1]:9093', compression: zstd }}\n    \
         - {{ name: g, kind: kafka, to: 'tls://k.test:9093', {} }}\n",
        sasl.replace("alice", "''"),
    ));
    let wanted = [
        ("3:", "not an address of this kind of sink, expected tls:// or kafka://"),
        ("3:", "not a topic's name"),
        ("4:", "a broker without a port"),
        ("4:", "TLS with an address in the clear, expected `to: tls://host:port`"),
        ("4:", "a password with an address in the clear, expected `to: tls://host:port`"),
        ("4:", "kafka takes no token, expected `sasl`"),
        ("5:", "only kafka has a topic"),
        ("5:", "only kafka has SASL, expected `token_file`"),
        ("8:", "an IPv6 address over TLS, expected the name in the broker's certificate"),
        ("8:", "no zstd towards kafka"),
        ("9:", "`user` is empty"),
    ];
    for (place, part) in wanted {
        let found = said.iter().any(|it| it.starts_with(place) && it.contains(part));
        assert!(found, "{place} {part} is not in {said:#?}");
    }
    // The address of another scheme has no broker with a port either.
    assert!(said.iter().all(|it| !it.starts_with("6:") && !it.starts_with("7:")), "{said:#?}");
}

#[test]
fn mistakes_in_sinks_name_the_sink_and_the_key() {
    let text = "events:\n  sinks:\n    - { name: Siem, kind: http, to: 'ftp://x/' }\n    \
        - { name: lake, kind: s3, to: 'https://s3.test/', batch: { events: 0 } }\n    \
        - { name: lake, kind: nats, to: 'nats://u:p@n.test:4222', region: x, tenants: ['a*b'] }\n";
    let said = mistakes_in_gateway(text);
    for (place, part) in [
        ("3:", "not a name"),
        ("3:", "not an address of this kind of sink, expected https:// or http://"),
        ("4:", "no `token_file`"),
        ("4:", "no bucket"),
        ("4:", "`events` out of range"),
        ("5:", "another sink has this name"),
        ("5:", "a secret in an address"),
        ("5:", "only s3 has a region"),
        ("5:", "`*` inside a name"),
    ] {
        let found = said.iter().any(|it| it.starts_with(place) && it.contains(part));
        assert!(found, "{place} {part} is not in {said:#?}");
    }
    assert_eq!(said.len(), 9, "{said:#?}");
    let unknown =
        mistakes_in_gateway("events:\n  sinks:\n    - { name: a, kind: carrier, to: x }\n");
    assert!(unknown[0].starts_with("3:") && unknown[0].contains("`carrier`"), "{unknown:?}");
}

#[test]
fn a_list_is_no_section() {
    for (text, place) in [
        ("limits: []\n", "1:9:"),
        ("limits: [50%, 10, 10, [443], 30]\n", "1:9:"),
        ("admin:\n  tls: [cert.pem, key.pem]\n", "2:8:"),
    ] {
        let said = mistakes_in_gateway(text);
        assert_eq!(said, [format!("{place} found a list, expected a mapping")], "{text}");
    }
}

#[test]
fn a_filter_that_no_event_passes_is_a_mistake() {
    let filters = [
        (
            "type: [transactoin]",
            Some("no event has the type `transactoin`, expected `transaction`"),
        ),
        ("state: [closed]", Some("no event has the state `closed`")),
        ("action: [deny]", Some("no event has the action `deny`")),
        ("type: [trans*, ALERT], state: [close], action: ['*'], app: [any]", None),
    ];
    for (filter, wanted) in filters {
        let said = mistakes_in_gateway(&format!(
            "events:\n  sinks:\n    - {{ name: a, kind: http, to: 'http://a.test/', filter: {{ {filter} }} }}\n"
        ));
        match wanted {
            Some(part) => assert!(said.len() == 1 && said[0].contains(part), "{said:?}"),
            None => assert!(said.is_empty(), "{said:?}"),
        }
    }
}

#[test]
fn restrictions_that_restrict_nothing_are_mistakes() {
    let id = "11111111-2222-3333-4444-555555555555";
    let text = format!(
        "restrict:\n  youtube: [strict]\n  google_drive_deny_anonymous: [yes]\n  microsoft_consumer: [acme.test]\n  microsoft_v2: ['{id}', '{id}:{id}']\n"
    );
    let read = read::<TenantConfig>("tenant.yaml", &text).unwrap();
    let found = check_tenant("tenant.yaml", &read.tree, &read.value);
    let mut shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    shown.sort();
    assert_eq!(
        shown,
        [
            "tenant.yaml:2:13: `strict`, expected `Strict` or `Moderate`".to_owned(),
            "tenant.yaml:3:33: `yes`, expected `true`".to_owned(),
            "tenant.yaml:4:24: `acme.test`, expected `restrict-msa`".to_owned(),
            format!("tenant.yaml:5:18: `{id}`, expected `<TenantId>:<policyGuid>`"),
        ]
    );
}
