//! gRPC through the gateway, with the library that most programs use on both ends.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tests::{Fault, Gateway, Origin};

/// A server of every kind of call, without generated code: messages are bytes.
const SERVER: &str = r#"
import sys, threading, time
from concurrent import futures
import grpc
key, chain, port_file, cancel_file = sys.argv[1:]

def unary(request, context):
    if request == b"fail":
        context.set_trailing_metadata((("x-why", "asked for"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as you wish: \u00e9")
    if request == b"slow":
        context.add_callback(lambda: open(cancel_file, "a").write("cancelled\n"))
        threading.Event().wait(60)
    context.set_trailing_metadata((("x-trailer", "here"), ("x-bin", b"\x00\xff")))
    return b"echo:" + request

def out(request, context):
    for i in range(int(request)):
        yield b"m%d" % i
    if request == b"3":
        context.abort(grpc.StatusCode.DATA_LOSS, "after three")

def into(requests, context):
    return b"%d" % sum(len(one) for one in requests)

def both(requests, context):
    for one in requests:
        yield b"echo:" + one

def greet(requests, context):
    yield b"welcome"
    yield from both(requests, context)

rpc = grpc.method_handlers_generic_handler("test.Echo", {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Out": grpc.unary_stream_rpc_method_handler(out),
    "In": grpc.stream_unary_rpc_method_handler(into),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Greet": grpc.stream_stream_rpc_method_handler(greet),
})
server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
server.add_generic_rpc_handlers((rpc,))
pair = ((open(key, "rb").read(), open(chain, "rb").read()),)
port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
server.start()
open(port_file + ".new", "w").write(str(port))
import os; os.rename(port_file + ".new", port_file)
server.wait_for_termination()
"#;

const CLIENT: &str = r#"
import queue, sys, time
import grpc
target, ca = sys.argv[1:]
channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(open(ca, "rb").read()))
call = lambda kind, name: getattr(channel, kind)("/test.Echo/" + name)
unary = call("unary_unary", "Unary")

reply, done = unary.with_call(b"hello", timeout=30)
assert reply == b"echo:hello", reply
trailing = dict(done.trailing_metadata())
assert trailing["x-trailer"] == "here" and trailing["x-bin"] == b"\x00\xff", trailing
assert unary(b"", timeout=30) == b"echo:"
large = b"x" * 1_000_000
assert unary(large, timeout=30) == b"echo:" + large
print("unary")

try:
    unary(b"fail", timeout=30); assert False
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
    assert error.details() == "as you wish: \u00e9", error.details()
    assert dict(error.trailing_metadata())["x-why"] == "asked for"
try:
    call("unary_unary", "Missing")(b"", timeout=30); assert False
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
try:
    call("unary_unary", "Forbidden")(b"", timeout=30); assert False
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
    assert "rule: no such calls; message: Böse." in error.details(), error.details()
print("errors")

assert list(call("unary_stream", "Out")(b"50", timeout=30)) == [b"m%d" % i for i in range(50)]
assert list(call("unary_stream", "Out")(b"0", timeout=30)) == []
seen = []
try:
    for one in call("unary_stream", "Out")(b"3", timeout=30): seen.append(one)
    assert False
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DATA_LOSS and len(seen) == 3, (error, seen)
print("server-streaming")

assert call("stream_unary", "In")(iter([b"abc"] * 100), timeout=30) == b"300"
assert call("stream_unary", "In")(iter([]), timeout=30) == b"0"
print("client-streaming")

# Each message waits for the answer to the one before: nothing may be held back.
asked = queue.Queue()
answers = call("stream_stream", "Both")(iter(asked.get, None), timeout=60)
for i in range(100):
    asked.put(b"%d" % i)
    assert next(answers) == b"echo:%d" % i
asked.put(None)
assert list(answers) == []
print("bidi-streaming")

begun = time.monotonic()
try:
    unary(b"slow", timeout=1); assert False
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
assert time.monotonic() - begun < 20
print("deadline")
future = unary.future(b"slow", timeout=60)
time.sleep(0.5)
future.cancel()
assert future.cancelled()
print("cancelled")
# Half-open bidi, cancelled amid.
asked = queue.Queue()
answers = call("stream_stream", "Both")(iter(asked.get, None), timeout=60)
asked.put(b"one"); assert next(answers) == b"echo:one"
answers.cancel()
try:
    next(answers); assert False
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.CANCELLED, error
asked.put(None)
assert unary(b"still", timeout=30) == b"echo:still"
print("all fine")
"#;

/// Killed with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Waits for a file to hold `wanted` lines.
async fn lines(path: &Path, wanted: usize) -> String {
    let begun = std::time::Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= wanted {
            return text;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{}: {text:?}", path.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A server, and the clients that meet it through a gateway.
struct World {
    gateway: Gateway,
    folder: tempfile::TempDir,
    port: String,
    _trust: Origin,
    _server: Server,
}

impl World {
    async fn start(policy: &str) -> Self {
        let trust = Origin::start().await;
        let gateway = Gateway::build(&trust).policy(policy).start();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let chain = trust.pki().chain("grpc.test", Fault::None);
        std::fs::write(file("chain.pem"), chain.certificates_pem()).unwrap();
        std::fs::write(file("key.pem"), chain.key_pem()).unwrap();
        let text = |name: &str| file(name).display().to_string();
        let files = ["key.pem", "chain.pem", "port", "cancelled"].map(text);
        let server = Command::new("python3")
            .args(["-c", SERVER])
            .args(files)
            .stdin(Stdio::null())
            .spawn()
            .expect("python3 with grpcio");
        let server = Server(server);
        let port = lines(&file("port"), 1).await;
        Self { gateway, folder, port, _trust: trust, _server: server }
    }

    /// Runs a client to its end.
    async fn run(&self, client: &str) {
        let alice = self.gateway.alice();
        let arguments = [
            "120".to_owned(),
            "python3".to_owned(),
            "-c".to_owned(),
            client.to_owned(),
            format!("grpc.test:{}", self.port),
            alice.file("intercept-ca.pem"),
        ];
        let proxy = alice.proxy_url.clone().expect("an explicit listener");
        let run = tokio::task::spawn_blocking(move || {
            Command::new("timeout").args(arguments).env("https_proxy", proxy).output()
        });
        let output = run.await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("all fine"), "{said}\n{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_every_kind_pass_with_errors_deadlines_and_cancellations() {
    let rule = "  - { name: no such calls, match: { url: [\"*/Forbidden\"] }, action: block, message: Böse. }";
    let world = World::start(rule).await;
    world.run(CLIENT).await;
    // The deadline and the cancellation reached the server, not only the gateway.
    lines(&world.folder.path().join("cancelled"), 2).await;
    let gateway = &world.gateway;
    let event = gateway.await_transaction("acme", "/test.Echo/Unary").await;
    let blocked = gateway.await_transaction("acme", "/test.Echo/Forbidden").await;
    assert_eq!((&blocked["action"], &blocked["status"]), (&"block".into(), &403.into()));
    assert_eq!((&event["http_version"], &event["origin_alpn"]), (&"HTTP/2".into(), &"h2".into()));
}

/// Every kind of call again where messages are read, then messages that a rule stops.
const JUDGED: &str = r#"
def denied(call, rule="no large messages"):
    try:
        call(); assert False
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
        assert f"rule: {rule}; message: Zu gro\u00df." in error.details(), error.details()

denied(lambda: unary(b"x" * 2_000_001, timeout=30))
denied(lambda: unary(b"%PDF-1.7 and so on", timeout=30), "no documents")
# It is the message that counts, not what it takes on the way.
gzip = grpc.Compression.Gzip
assert unary(b"y" * 100_000, timeout=30, compression=gzip) == b"echo:" + b"y" * 100_000
denied(lambda: unary(b"y" * 2_000_001, timeout=30, compression=gzip))
print("unary")

into = call("stream_unary", "In")
assert into(iter([b"z" * 1_000_000] * 5), timeout=30) == b"5000000"
denied(lambda: into(iter([b"z", b"%PDF-1.7", b"z"]), timeout=30), "no documents")
print("client-streaming")

for name, greeting in (("Both", None), ("Greet", b"welcome")):
    asked = queue.Queue()
    answers = call("stream_stream", name)(iter(asked.get, None), timeout=60)
    if greeting:
        # The server begins.
        assert next(answers) == greeting
    for message in (b"one", b"", b"two"):
        asked.put(message)
        assert next(answers) == b"echo:" + message
    asked.put(b"w" * 2_000_001)
    denied(lambda: next(answers))
    asked.put(None)
print("bidi-streaming")
assert unary(b"still", timeout=30) == b"echo:still"
print("all fine")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_a_call_is_judged_and_the_one_that_may_not_pass_ends_it() {
    let rules = "  - { name: no large messages, match: { file_size: [\">2000000B\"] }, action: block, message: Zu groß. }\n  \
                 - { name: no documents, match: { file_type: [pdf] }, action: block, message: Zu groß. }\n  \
                 - { name: no such calls, match: { url: [\"*/Forbidden\"] }, action: block, message: Böse. }";
    let world = World::start(rules).await;
    world.run(CLIENT).await;
    let (begin, _) = CLIENT.split_once("reply, done").unwrap();
    world.run(&format!("{begin}{JUDGED}")).await;
    let gateway = &world.gateway;
    let greeted = gateway.await_transaction("acme", "/test.Echo/Greet").await;
    let said = ["action", "rule", "block_reason", "status", "file_size"].map(|it| &greeted[it]);
    let wanted = serde_json::json!(["block", "no large messages", "rule", 200, 2_000_001]);
    assert_eq!(serde_json::json!(said), wanted, "{greeted}");
    assert!(greeted["error"].is_null(), "{greeted}");
    // What was said before had passed, and what was stopped never reached the server.
    let events = gateway.events("acme").await.unwrap();
    let strikes =
        events.iter().filter(|event| event["type"] == "alert" && event["rule"] == "no documents");
    assert_eq!(strikes.count(), 2);
}
