//! What pages do besides loading, in a real Chromium behind the gateway.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::nginx::{Nginx, Site};
use tests::webdriver::Chromium;
use tests::{Gateway, Origin};

/// Runs what blocks beside the runtime that serves the gateway's peers.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the browser's thread")
}

const TALK: &str = r#"
(async () => {
  const said = {};
  const sizes = await Promise.all([...Array(200).keys()].map(async (number) =>
    (await (await fetch(`/bytes/${1000 + number}`)).arrayBuffer()).byteLength - number));
  said.resources = sizes.filter((size) => size === 1000).length;
  said.socket = await new Promise((resolve) => {
    const socket = new WebSocket(`wss://${location.host}/ws`);
    let echoed;
    socket.onopen = () => socket.send("héllo");
    socket.onmessage = (event) => { echoed = event.data; socket.close(4001, "enough"); };
    socket.onclose = (event) => resolve([echoed, event.code, event.reason, event.wasClean]);
  });
  said.events = await new Promise((resolve) => {
    const source = new EventSource("/sse/3/50"), got = [];
    source.onmessage = (event) => { if (got.push(event.data) === 3) { source.close(); resolve(got.length); } };
  });
  const body = new ReadableStream({ async start(sink) {
    for (let part = 0; part < 50; part++) {
      sink.enqueue(new Uint8Array(10000));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    sink.close();
  }});
  said.upload = (await (await fetch("/upload", { method: "POST", body, duplex: "half" })).json()).bytes;
  try {
    const transport = new WebTransport(`https://${location.host}/wt`);
    transport.closed.catch(() => 0);
    await transport.ready;
    said.transport = "open";
  } catch { said.transport = "refused"; }
  said.after = (await fetch("/hello")).status;
  return said;
})().then(done, (error) => done(String(error)));
"#;

/// A WebTransport falls back at once: there is no way for its UDP through a proxy.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_fetches_streams_listens_and_talks() {
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        let origin = Origin::build().alpn(alpn).start().await;
        let gateway = Gateway::start(&origin);
        let browser = crate::interop::chromium(&gateway).await;
        let url = origin.url("site.test", "/page");
        let said = beside(move || {
            browser.open(&url);
            browser.run_until_done(TALK)
        })
        .await;
        let wanted = json!({
            "resources": 200,
            "socket": ["héllo", 4001, "enough", true],
            "events": 3,
            "upload": 500_000,
            "transport": "refused",
            "after": 200,
        });
        assert_eq!(said, wanted, "an origin that speaks {alpn:?}");
        let socket =
            gateway.await_event("acme", |one| one["url"].as_str().is_some_and(is_socket)).await;
        assert_eq!(socket["decrypted"], true, "{socket}");
    }
}

fn is_socket(url: &str) -> bool {
    url.ends_with("/ws")
}

/// Ten minutes of silence as WAV: large enough that a browser asks for parts of it.
fn silence() -> Vec<u8> {
    const SECONDS: u32 = 600;
    const RATE: u32 = 8_000;
    let length = SECONDS * RATE;
    let mut file = b"RIFF".to_vec();
    file.extend((length + 36).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend([1, 0, 1, 0]);
    file.extend(RATE.to_le_bytes());
    file.extend(RATE.to_le_bytes());
    file.extend([1, 0, 8, 0]);
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.resize(file.len() + length as usize, 128);
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_seeks_in_a_recording_uploads_a_file_and_saves_one() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let types = "types { text/html html; audio/wav wav; }";
    let site = Site { name: "media.test", directives: types.to_owned() };
    let nginx = Nginx::start(origin.pki(), &[site]);
    std::fs::write(nginx.root("media.test").join("a.wav"), silence()).expect("a recording");
    let page = "<!DOCTYPE html><title>media</title><audio src=/a.wav preload=metadata></audio>";
    std::fs::write(nginx.root("media.test").join("index.html"), page).expect("a page");
    let browser = crate::interop::chromium(&gateway).await;
    let (media, form) = (nginx.url("media.test", "/"), origin.url("site.test", "/page"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path().to_owned();
    beside(move || {
        browser.open(&media);
        assert_eq!(browser.run_until_done(SEEK), json!([600, 540]));
        browser.open(&form);
        upload(&browser, &at);
        save(&browser, &at);
    })
    .await;
    gateway.await_event("acme", |one| one["host"] == "media.test" && one["status"] == 206).await;
    let sent = origin.last("/upload").expect("the upload");
    assert!(sent.body_bytes > 300_000, "{sent:?}");
}

const SEEK: &str = r#"
const audio = document.querySelector("audio");
const seek = () => {
  audio.onseeked = () => done([Math.round(audio.duration), Math.round(audio.currentTime)]);
  audio.currentTime = 540;
};
if (audio.readyState >= 1) seek(); else audio.onloadedmetadata = seek;
audio.onerror = () => done(audio.error.message);
"#;

fn upload(browser: &Chromium, at: &Path) {
    let file = at.join("report.bin");
    std::fs::write(&file, vec![7; 300_000]).expect("a file");
    let made = browser.run(
        "document.body.innerHTML = '<form method=post enctype=multipart/form-data action=/upload>\
         <input type=file name=f><button>send</button></form>'",
    );
    assert!(made.is_null(), "{made}");
    browser.type_into(&browser.find("//input"), file.to_str().expect("UTF-8"));
    browser.click(&browser.find("//button"));
    // The answer names how much arrived.
    browser.find("//*[contains(text(), 'bytes')]");
}

fn save(browser: &Chromium, at: &Path) {
    browser.download_to(at);
    let made = browser
        .run("document.body.innerHTML = '<a href=/bytes/250000 download=saved.bin>save</a>'");
    assert!(made.is_null(), "{made}");
    browser.click(&browser.find("//a"));
    let (saved, begun) = (at.join("saved.bin"), Instant::now());
    while std::fs::metadata(&saved).map_or(0, |file| file.len()) < 250_000 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the download does not arrive");
        std::thread::sleep(Duration::from_millis(20));
    }
}
