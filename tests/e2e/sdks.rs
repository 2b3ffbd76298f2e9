//! Connectors, held against the apps' own public SDKs: what each call does is what the event says.
//! The SDKs are those of tests/sdk/requirements.txt, which tests/run installs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::origin::Answer;
use tests::{Gateway, Origin};

/// All SDKs together get this long, seconds: importing them takes longer than calling them.
const SECONDS_MAX: &str = "120";

/// One call: method, a part of its URL, and what the event must say: app, instance, activity, object,
/// `to_user` (a dash where there is none).
type Call = (&'static str, &'static str, [&'static str; 5]);

const CALLS: &[(&str, &[Call])] = &[
    (
        "boto3",
        &[
            (
                "PUT",
                "acme-plans.s3.eu-west-1.amazonaws.com",
                ["aws-s3", "acme-plans", "upload", "q3/plan.txt", "-"],
            ),
            (
                "GET",
                "acme-plans.s3.eu-west-1.amazonaws.com",
                ["aws-s3", "acme-plans", "download", "q3/plan.txt", "-"],
            ),
            (
                "DELETE",
                "acme-plans.s3.eu-west-1.amazonaws.com",
                ["aws-s3", "acme-plans", "delete", "q3/old.txt", "-"],
            ),
        ],
    ),
    (
        "dropbox",
        &[
            ("POST", "/2/files/upload", ["dropbox", "-", "upload", "/plans/q3.txt", "-"]),
            (
                "POST",
                "/create_shared_link_with_settings",
                ["dropbox", "-", "share", "/plans/q3.txt", "-"],
            ),
            ("POST", "/add_file_member", ["dropbox", "-", "share", "id:abc", "bob@other.test"]),
            ("POST", "/2/files/download", ["dropbox", "-", "download", "/plans/q3.txt", "-"]),
            ("POST", "/2/files/delete_v2", ["dropbox", "-", "delete", "/plans/old.txt", "-"]),
        ],
    ),
    (
        "slack",
        &[
            ("POST", "/api/chat.postMessage", ["slack", "-", "send", "-", "C0PLANS"]),
            ("POST", "/api/files.getUploadURLExternal", ["slack", "-", "upload", "plan.txt", "-"]),
            ("POST", "/api/conversations.invite", ["slack", "-", "invite", "C0PLANS", "U0BOB"]),
        ],
    ),
    (
        "google-drive",
        &[
            ("POST", "/upload/drive/v3/files", ["google-drive", "-", "upload", "plan.txt", "-"]),
            (
                "POST",
                "/drive/v3/files/1abc/permissions",
                ["google-drive", "-", "share", "1abc", "bob@other.test"],
            ),
            ("DELETE", "/drive/v3/files/1old", ["google-drive", "-", "delete", "1old", "-"]),
        ],
    ),
    (
        "google-cloud-storage",
        &[(
            "POST",
            "/upload/storage/v1/b/acme-plans/o",
            ["google-cloud-storage", "acme-plans", "upload", "q3/plan.txt", "-"],
        )],
    ),
    (
        "azure",
        &[
            (
                "PUT",
                "acmeplans.blob.core.windows.net",
                ["azure-blob-storage", "acmeplans", "upload", "plan.txt", "-"],
            ),
            (
                "DELETE",
                "acmeplans.blob.core.windows.net",
                ["azure-blob-storage", "acmeplans", "delete", "plan.txt", "-"],
            ),
        ],
    ),
    (
        "openai",
        &[
            ("POST", "/v1/chat/completions", ["openai", "-", "post", "gpt-4o", "-"]),
            ("POST", "/v1/files", ["openai", "-", "upload", "plan.txt", "-"]),
        ],
    ),
    ("anthropic", &[("POST", "/v1/messages", ["anthropic", "-", "post", "claude", "-"])]),
    (
        "github",
        &[
            (
                "PUT",
                "/repos/acme/widget/contents/src/plan.txt",
                ["github", "acme", "upload", "src/plan.txt", "-"],
            ),
            ("POST", "/repos/acme/widget/issues", ["github", "acme", "create", "Plan", "-"]),
        ],
    ),
    (
        "gitlab",
        &[
            ("POST", "/repository/files/plan.txt", ["gitlab", "acme", "upload", "plan.txt", "-"]),
            (
                "POST",
                "/api/v4/projects/acme%2Fwidget/issues",
                ["gitlab", "acme", "create", "Plan", "-"],
            ),
        ],
    ),
    ("jira", &[("POST", "/rest/api/2/issue", ["jira", "acme", "create", "Q3", "-"])]),
    ("notion", &[("POST", "/v1/pages", ["notion", "-", "create", "-", "-"])]),
    (
        "box",
        &[
            ("POST", "/api/2.0/files/content", ["box", "-", "upload", "plan.txt", "-"]),
            ("DELETE", "/2.0/files/123", ["box", "-", "delete", "123", "-"]),
        ],
    ),
    (
        "salesforce",
        &[("POST", "/sobjects/Contact", ["salesforce", "acme", "create", "Contact", "-"])],
    ),
    ("asana", &[("POST", "/api/1.0/tasks", ["asana", "-", "create", "Plan", "-"])]),
];

/// Hosts that the SDKs ask for, all the origin's.
const HOSTS: [&str; 18] = [
    "*.amazonaws.com",
    "*.dropboxapi.com",
    "slack.com",
    "www.googleapis.com",
    "storage.googleapis.com",
    "*.blob.core.windows.net",
    "api.openai.com",
    "api.anthropic.com",
    "api.github.com",
    "gitlab.com",
    "*.atlassian.net",
    "api.notion.com",
    "api.box.com",
    "upload.box.com",
    "*.salesforce.com",
    "app.asana.com",
    "content.googleapis.com",
    "*.box.com",
];

/// A rule that no call fulfils, and that cannot be decided without what bodies say.
const RULE: &str = "  - { name: asks, match: { activity: [like], from_user: [nobody@evil.test], \
                    to_user: [nobody@evil.test] }, action: block }";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_apps_own_sdks_do_is_what_the_events_say() {
    let python = python();
    let json = |text: &'static str| Answer::of(200, "application/json", text.into());
    let origin = Origin::build()
        .on(
            "/2/files/download",
            Answer::of(200, "application/octet-stream", "x".into())
                .field("dropbox-api-result", "{}"),
        )
        .on("/api/chat.postMessage", json("{\"ok\":true}"))
        .on("/api/files.getUploadURLExternal", json("{\"ok\":true}"))
        .on("/api/conversations.invite", json("{\"ok\":true}"))
        .on("/rest/api/2/project/PLAN", json("{\"id\":\"10000\",\"key\":\"PLAN\"}"))
        .start()
        .await;
    let build = HOSTS.iter().fold(Gateway::build(&origin).policy(RULE), |it, host| it.host(host));
    let gateway = build.start();
    let alice = gateway.alice();
    let port = origin.port().to_string();
    // Two at once: they mostly import.
    let (odd, even): (Vec<_>, Vec<_>) =
        CALLS.iter().map(|(sdk, _)| *sdk).enumerate().partition(|(index, _)| index % 2 == 1);
    let halves = [odd, even].map(|half| half.into_iter().map(|(_, sdk)| sdk).collect::<Vec<_>>());
    let runs = halves.map(|sdks| {
        let mut command = Command::new("timeout");
        command
            .arg(SECONDS_MAX)
            .arg(&python)
            .arg(here("sdk/calls.py"))
            .arg(&port)
            .args(sdks)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::null());
        for name in ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"] {
            command.env(name, alice.proxy_url.as_deref().expect("an explicit listener"));
        }
        for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "HTTPLIB2_CA_CERTS"] {
            command.env(name, alice.file("intercept-ca.pem"));
        }
        tokio::task::spawn_blocking(move || command.output())
    });
    let mut said = String::new();
    for run in runs {
        let output = run.await.expect("the thread").expect("python");
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}\n{said}", output.status);
    }
    let wrong = wrong(&gateway).await;
    assert!(wrong.is_empty(), "{}\n--\n{said}", wrong.join("\n"));
}

/// Calls whose event is missing or says something else.
async fn wrong(gateway: &Gateway) -> Vec<String> {
    let calls = || CALLS.iter().flat_map(|(sdk, calls)| calls.iter().map(move |call| (*sdk, call)));
    // The last call's event is there when every event is.
    let (_, (method, part, _)) = calls().last().expect("calls");
    let fits = |event: &Value| is_call(event, method, part);
    gateway.await_event("acme", fits).await;
    let events = gateway.events("acme").await.expect("events");
    let mut wrong = Vec::new();
    for (sdk, (method, part, wanted)) in calls() {
        let Some(event) = events.iter().find(|event| is_call(event, method, part)) else {
            wrong.push(format!("{sdk}: no {method} {part}"));
            continue;
        };
        let text = |key: &str| event[key].as_str().unwrap_or("-").to_owned();
        let got = ["app", "instance", "activity", "object", "to_user"].map(text);
        if got != *wanted {
            let url = event["url"].as_str().unwrap_or_default();
            wrong.push(format!("{sdk}: {method} {url}\n  wanted {wanted:?}\n  got    {got:?}"));
        }
    }
    wrong
}

fn is_call(event: &Value, method: &str, part: &str) -> bool {
    let url = event["url"].as_str().unwrap_or_default();
    event["type"] == "transaction"
        && event["state"] == "close"
        && event["method"] == method
        && url.split('?').next().is_some_and(|url| url.contains(part))
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The interpreter that has the SDKs.
fn python() -> PathBuf {
    let python = here("../target/sdks/bin/python");
    assert!(python.exists(), "no {}: `tests/run` installs it", python.display());
    python
}
