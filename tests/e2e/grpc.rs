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

rpc = grpc.method_handlers_generic_handler("test.Echo", {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Out": grpc.unary_stream_rpc_method_handler(out),
    "In": grpc.stream_unary_rpc_method_handler(into),
    "Both": grpc.stream_stream_rpc_method_handler(both),
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

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_every_kind_pass_with_errors_deadlines_and_cancellations() {
    let trust = Origin::start().await;
    let rule = "  - { name: no such calls, match: { url: [\"*/Forbidden\"] }, action: block, message: Böse. }";
    let gateway = Gateway::build(&trust).policy(rule).start();
    let alice = gateway.alice();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let chain = trust.pki().chain("grpc.test", Fault::None);
    std::fs::write(file("chain.pem"), chain.certificates_pem()).unwrap();
    std::fs::write(file("key.pem"), chain.key_pem()).unwrap();
    let text = |name: &str| file(name).display().to_string();
    let server = Command::new("python3")
        .args([
            "-c",
            SERVER,
            &text("key.pem"),
            &text("chain.pem"),
            &text("port"),
            &text("cancelled"),
        ])
        .stdin(Stdio::null())
        .spawn()
        .expect("python3 with grpcio");
    let _server = Server(server);
    let port = lines(&file("port"), 1).await;
    let arguments = [
        "60".to_owned(),
        "python3".to_owned(),
        "-c".to_owned(),
        CLIENT.to_owned(),
        format!("grpc.test:{port}"),
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
    // The deadline and the cancellation reached the server, not only the gateway.
    lines(&file("cancelled"), 2).await;
    let event = gateway.await_transaction("acme", "/test.Echo/Unary").await;
    let blocked = gateway.await_transaction("acme", "/test.Echo/Forbidden").await;
    assert_eq!((&blocked["action"], &blocked["status"]), (&"block".into(), &403.into()));
    assert_eq!((&event["http_version"], &event["origin_alpn"]), (&"HTTP/2".into(), &"h2".into()));
}
