//! Programs that people use, unmodified but for the proxy and the tenant's CA: what they do direct
//! they do through the gateway.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tests::nginx::{Nginx, Site};
use tests::{Gateway, Identity, Origin};

/// A program gets this long, seconds; the first Go build compiles its standard library.
const SECONDS_MAX: &str = "240";

/// What a program needs of the machine's environment.
const KEPT: [&str; 6] = ["PATH", "HOME", "LANG", "RUSTUP_HOME", "PYENV_ROOT", "JAVA_HOME"];

/// Runs a script that gets `PROXY`, `CA` and `AT` (where it may write); panics where it fails.
pub(crate) async fn bash(
    alice: &Identity,
    at: &Path,
    more: &[(&str, String)],
    script: &str,
) -> String {
    let mut command = Command::new("timeout");
    command
        .args([SECONDS_MAX, "bash", "-euo", "pipefail", "-c", script])
        .current_dir(at)
        // A machine's own proxies, CAs and indices must not help or hinder.
        .env_clear()
        .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("PROXY", alice.proxy_url.as_deref().expect("an explicit listener"))
        .env("CA", alice.file("intercept-ca.pem"))
        .env("AT", at)
        .envs(more.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::null());
    let output: Output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("the script's thread")
        .expect("bash");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}\n{complained}", output.status);
    said
}

/// A gateway that trusts the CAs of `origin`, and nginx below the same CAs with `sites`.
pub(crate) async fn world(sites: &[Site]) -> (Origin, Gateway, Identity, Nginx, tempfile::TempDir) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let nginx = Nginx::start(origin.pki(), sites);
    let at = tempfile::tempdir().expect("a temporary folder");
    (origin, gateway, alice, nginx, at)
}

/// Every request of `host` was decrypted, by the records.
async fn was_decrypted(gateway: &Gateway, host: &str) {
    let event = gateway
        .await_event("acme", |one| one["type"] == "transaction" && one["host"] == host)
        .await;
    assert_eq!(event["decrypted"], true, "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_and_pushes() {
    let exec = Command::new("git").arg("--exec-path").output().expect("the git command");
    let exec = String::from_utf8_lossy(&exec.stdout).trim().to_owned();
    let directives = format!(
        "location / {{ include /etc/nginx/fastcgi_params; fastcgi_pass unix:$SOCKET; \
         fastcgi_param SCRIPT_FILENAME {exec}/git-http-backend; fastcgi_param GIT_HTTP_EXPORT_ALL 1; \
         fastcgi_param GIT_PROJECT_ROOT $ROOT; fastcgi_param PATH_INFO $uri; }}"
    );
    let (_origin, gateway, alice, nginx, at) =
        world(&[Site { name: "git.test", directives }]).await;
    let more = [
        ("ROOT", nginx.root("git.test").display().to_string()),
        ("URL", nginx.url("git.test", "/widget.git")),
    ];
    // 8 MiB do not fit git's buffer of 1 MiB: the push is chunked, of unknown length.
    let script = r#"
export GIT_CONFIG_GLOBAL=$AT/config GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
git config --global user.email alice@acme.test; git config --global user.name alice
git config --global http.proxy "$PROXY"; git config --global http.sslCAInfo "$CA"
git config --global init.defaultBranch main
git init -q --bare "$ROOT/widget.git"; git -C "$ROOT/widget.git" config http.receivepack true
git clone -q "$URL" one 2>/dev/null; cd one
head -c 8388608 /dev/urandom > big; git add big; git commit -qm big; git push -q origin HEAD:main
cd ..; git clone -q "$URL" two; cmp one/big two/big
git -C two -c protocol.version=2 fetch -q; git -C two log --format=%s
"#;
    assert_eq!(bash(&alice, at.path(), &more, script).await, "big\n");
    was_decrypted(&gateway, "git.test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_npm_cargo_and_apt_install_from_their_indices() {
    let autoindex = "types { text/html html; application/json json; }".to_owned();
    let npm = "location = /sluicetest { default_type application/json; try_files /doc.json =404; }";
    let sites = [
        Site { name: "pypi.test", directives: autoindex },
        Site { name: "npm.test", directives: npm.to_owned() },
        Site { name: "crates.test", directives: String::new() },
        Site { name: "apt.test", directives: String::new() },
    ];
    let (_origin, gateway, alice, nginx, at) = world(&sites).await;
    let mut more: Vec<(&str, String)> = Vec::new();
    for (name, site) in
        [("PYPI", "pypi.test"), ("NPM", "npm.test"), ("CRATES", "crates.test"), ("APT", "apt.test")]
    {
        more.push((name, nginx.url(site, "")));
    }
    let root = |site: &str| nginx.root(site).display().to_string();
    for (name, site) in [
        ("PYPI_ROOT", "pypi.test"),
        ("NPM_ROOT", "npm.test"),
        ("CRATES_ROOT", "crates.test"),
        ("APT_ROOT", "apt.test"),
    ] {
        more.push((name, root(site)));
    }
    more.push(("CARGO", std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())));
    for (program, script) in [("pip", PIP), ("npm", NPM), ("cargo", CARGO), ("apt", APT)] {
        let at = at.path().join(program);
        std::fs::create_dir_all(&at).expect("a folder");
        let said = bash(&alice, &at, &more, script).await;
        assert!(said.contains("installed"), "{program}: {said}");
    }
    for host in ["pypi.test", "npm.test", "crates.test", "apt.test"] {
        was_decrypted(&gateway, host).await;
    }
}

const PIP: &str = r#"
python3 - "$PYPI_ROOT" <<'PY'
import os, sys, zipfile
root = sys.argv[1]
os.makedirs(root + "/simple/sluicetest"); os.makedirs(root + "/files")
name = "sluicetest-1.0-py3-none-any.whl"
with zipfile.ZipFile(root + "/files/" + name, "w") as wheel:
    info = "sluicetest-1.0.dist-info/"
    wheel.writestr("sluicetest.py", "x = 1\n")
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: sluicetest\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", "sluicetest.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n")
with open(root + "/simple/sluicetest/index.html", "w") as page:
    page.write(f'<!DOCTYPE html><a href="/files/{name}">{name}</a>')
PY
export PIP_CONFIG_FILE=/dev/null
unset PIP_INDEX_URL PIP_EXTRA_INDEX_URL || true
python3 -m pip install -q --disable-pip-version-check --no-cache-dir --no-deps --target lib \
  --index-url "$PYPI/simple/" --proxy "$PROXY" --cert "$CA" sluicetest
test -f lib/sluicetest.py && echo installed
"#;

const NPM: &str = r#"
mkdir -p package "$NPM_ROOT/files"
echo '{"name":"sluicetest","version":"1.0.0","main":"x.js"}' > package/package.json
echo 'module.exports = 1' > package/x.js
tar czf "$NPM_ROOT/files/sluicetest-1.0.0.tgz" package
cat > "$NPM_ROOT/doc.json" <<JSON
{"name":"sluicetest","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"sluicetest",
"version":"1.0.0","dist":{"tarball":"$NPM/files/sluicetest-1.0.0.tgz"}}}}
JSON
mkdir -p app home; cd app; echo '{"name":"app","version":"1.0.0"}' > package.json
: > ../home/npmrc
HOME=$AT/home npm_config_userconfig=$AT/home/npmrc npm_config_cache=$AT/cache \
  npm install --silent --no-audit --no-fund --registry "$NPM/" --cafile "$CA" \
  --https-proxy "$PROXY" --proxy "$PROXY" --noproxy "" sluicetest
test -f node_modules/sluicetest/x.js && echo installed
"#;

const CARGO: &str = r#"
mkdir -p sluicetest-1.0.0/src "$CRATES_ROOT/index/sl/ui" "$CRATES_ROOT/dl"
printf '[package]\nname = "sluicetest"\nversion = "1.0.0"\nedition = "2021"\n' > sluicetest-1.0.0/Cargo.toml
echo 'pub const X: u8 = 1;' > sluicetest-1.0.0/src/lib.rs
tar czf "$CRATES_ROOT/dl/sluicetest-1.0.0.crate" sluicetest-1.0.0
sum=$(sha256sum "$CRATES_ROOT/dl/sluicetest-1.0.0.crate" | cut -d' ' -f1)
echo "{\"dl\":\"$CRATES/dl/{crate}-{version}.crate\"}" > "$CRATES_ROOT/index/config.json"
echo "{\"name\":\"sluicetest\",\"vers\":\"1.0.0\",\"deps\":[],\"cksum\":\"$sum\",\"features\":{},\"yanked\":false}" \
  > "$CRATES_ROOT/index/sl/ui/sluicetest"
mkdir -p app/src; cd app; echo 'fn main() {}' > src/main.rs
printf '[package]\nname = "app"\nversion = "1.0.0"\nedition = "2021"\n[dependencies]\nsluicetest = { version = "1", registry = "local" }\n[workspace]\n' > Cargo.toml
export CARGO_HOME=$AT/cargo CARGO_HTTP_PROXY=$PROXY CARGO_HTTP_CAINFO=$CA
export CARGO_REGISTRIES_LOCAL_INDEX="sparse+$CRATES/index/"
"$CARGO" fetch -q
ls "$AT"/cargo/registry/src/*/sluicetest-1.0.0/src/lib.rs && echo installed
"#;

const APT: &str = r#"
mkdir -p deb/DEBIAN deb/usr/share/sluicetest
printf 'Package: sluicetest\nVersion: 1.0\nArchitecture: all\nMaintainer: alice <alice@acme.test>\nDescription: a test\n' > deb/DEBIAN/control
echo x > deb/usr/share/sluicetest/x
dpkg-deb -b deb "$APT_ROOT/sluicetest_1.0_all.deb" >/dev/null
cp deb/DEBIAN/control "$APT_ROOT/Packages"
{ echo "Filename: ./sluicetest_1.0_all.deb"; echo "Size: $(stat -c %s "$APT_ROOT/sluicetest_1.0_all.deb")"
  echo "SHA256: $(sha256sum "$APT_ROOT/sluicetest_1.0_all.deb" | cut -d' ' -f1)"; echo; } >> "$APT_ROOT/Packages"
mkdir -p etc/apt.conf.d etc/preferences.d etc/sources.list.d etc/trusted.gpg.d state/lists/partial cache/archives/partial
touch state/status
echo "deb [trusted=yes] $APT/ ./" > etc/sources.list
cat > apt.conf <<CONF
Dir::Etc "$AT/etc"; Dir::State "$AT/state"; Dir::State::status "$AT/state/status"; Dir::Cache "$AT/cache";
Acquire::https::Proxy "$PROXY"; Acquire::https::CAInfo "$CA"; Acquire::Languages "none";
APT::Sandbox::User "root"; Acquire::Retries "0";
CONF
export APT_CONFIG=$AT/apt.conf
apt-get -qq update
apt-get -qq download sluicetest
cmp sluicetest_1.0_all.deb "$APT_ROOT/sluicetest_1.0_all.deb" && echo installed
"#;

#[tokio::test(flavor = "multi_thread")]
async fn node_go_java_and_python_fetch_over_their_own_stacks() {
    let directives = "location /echo { client_max_body_size 0; return 200 $server_protocol; }";
    let site = Site { name: "web.test", directives: directives.to_owned() };
    let (_origin, gateway, alice, nginx, at) = world(&[site]).await;
    std::fs::write(nginx.root("web.test").join("file"), "x".repeat(300_000)).expect("a file");
    let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/interop/node/node_modules");
    let more = [("URL", nginx.url("web.test", "/file")), ("MODULES", modules.to_owned())];
    for (program, script) in
        [("node", NODE), ("undici", UNDICI), ("go", GO), ("java", JAVA), ("httpx", HTTPX)]
    {
        let at = at.path().join(program);
        std::fs::create_dir_all(&at).expect("a folder");
        let said = bash(&alice, &at, &more, script).await;
        for version in said.lines() {
            assert_eq!(version, "200 300000", "{program}: {said}");
        }
        assert!(!said.is_empty(), "{program} said nothing");
    }
    was_decrypted(&gateway, "web.test").await;
}

/// Node has no proxy setting of its own here: it connects, then speaks TLS and both HTTP versions.
const NODE: &str = r#"
cat > fetch.js <<'JS'
const [http, https, http2, tls] = ['http', 'https', 'http2', 'tls'].map(require);
const [proxy, target] = [new URL(process.env.PROXY), new URL(process.env.URL)];
const basic = Buffer.from(decodeURIComponent(proxy.username) + ':' + proxy.password).toString('base64');
const open = (alpn) => new Promise((resolve, reject) => {
  const ask = http.request({ host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: target.host,
    headers: { 'proxy-authorization': 'Basic ' + basic } });
  ask.on('error', reject).on('connect', (answer, socket) => {
    const secure = tls.connect({ socket, servername: target.hostname, ALPNProtocols: [alpn] });
    secure.on('error', reject).on('secureConnect', () => resolve(secure));
  }).end();
});
const count = (status, stream) => new Promise((resolve) => {
  let length = 0;
  stream.on('data', (part) => { length += part.length; }).on('end', () => { console.log(status, length); resolve(); });
});
(async () => {
  const first = await open('http/1.1');
  await new Promise((resolve) => https.get(target, { createConnection: () => first },
    (answer) => count(answer.statusCode, answer).then(resolve)));
  first.destroy();
  const second = await open('h2');
  const session = http2.connect(target.origin, { createConnection: () => second });
  const stream = session.request({ ':path': target.pathname });
  const status = await new Promise((resolve) => stream.on('response', (head) => resolve(head[':status'])));
  await count(status, stream);
  session.close();
})();
JS
NODE_EXTRA_CA_CERTS=$CA node fetch.js
"#;

/// undici's own fetch and request, and the fetch that Node has of it.
const UNDICI: &str = r#"
cat > fetch.js <<'JS'
const { createRequire } = require('module');
const undici = createRequire(process.env.MODULES + '/')('undici');
const { PROXY, URL: url } = process.env;
const login = new URL(PROXY);
const token = 'Basic ' + Buffer.from(decodeURIComponent(login.username) + ':' + login.password).toString('base64');
(async () => {
  for (const allowH2 of [false, true]) {
    const dispatcher = new undici.ProxyAgent({ uri: login.origin, token, allowH2 });
    const answer = await undici.fetch(url, { dispatcher });
    console.log(answer.status, (await answer.arrayBuffer()).byteLength);
    const { statusCode, body } = await undici.request(url, { dispatcher });
    console.log(statusCode, (await body.arrayBuffer()).byteLength);
    undici.setGlobalDispatcher(dispatcher);
    const own = await fetch(url);
    console.log(own.status, (await own.arrayBuffer()).byteLength);
    await dispatcher.close();
  }
})();
JS
NODE_EXTRA_CA_CERTS=$CA node fetch.js
"#;

const GO: &str = r#"
cat > fetch.go <<'CODE'
package main

import ("crypto/tls"; "crypto/x509"; "fmt"; "io"; "net/http"; "net/url"; "os")

func main() {
	pem, _ := os.ReadFile(os.Getenv("CA"))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	proxy, _ := url.Parse(os.Getenv("PROXY"))
	for _, two := range []bool{false, true} {
		client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy),
			TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: two}}
		answer, err := client.Get(os.Getenv("URL"))
		if err != nil { fmt.Println(err); os.Exit(1) }
		length, _ := io.Copy(io.Discard, answer.Body)
		if (answer.ProtoMajor == 2) != two { fmt.Println("spoke", answer.Proto) }
		fmt.Println(answer.StatusCode, length)
	}
}
CODE
GO111MODULE=off go run fetch.go
"#;

const JAVA: &str = r#"
cat > Fetch.java <<'CODE'
import java.net.*;
import java.net.http.*;
public class Fetch {
  public static void main(String[] none) throws Exception {
    URI proxy = URI.create(System.getenv("PROXY"));
    String[] login = proxy.getUserInfo().split(":", 2);
    for (HttpClient.Version version : HttpClient.Version.values()) {
      HttpClient client = HttpClient.newBuilder().version(version)
        .proxy(ProxySelector.of(new InetSocketAddress(proxy.getHost(), proxy.getPort())))
        .authenticator(new Authenticator() {
          protected PasswordAuthentication getPasswordAuthentication() {
            return new PasswordAuthentication(login[0], login[1].toCharArray());
          }
        }).build();
      HttpRequest ask = HttpRequest.newBuilder(URI.create(System.getenv("URL"))).build();
      HttpResponse<byte[]> answer = client.send(ask, HttpResponse.BodyHandlers.ofByteArray());
      if (answer.version() != version) System.out.println("spoke " + answer.version());
      System.out.println(answer.statusCode() + " " + answer.body().length);
    }
  }
}
CODE
keytool -importcert -noprompt -alias acme -file "$CA" -keystore trust.p12 -storetype PKCS12 \
  -storepass changeit >/dev/null 2>&1
java -Djdk.http.auth.tunneling.disabledSchemes= -Djavax.net.ssl.trustStore=trust.p12 \
  -Djavax.net.ssl.trustStorePassword=changeit Fetch.java
"#;

const HTTPX: &str = r#"
cat > fetch.py <<'PY'
import os, ssl, httpx
context = ssl.create_default_context(cafile=os.environ["CA"])
for two in (False, True):
    name = "proxy" if tuple(map(int, httpx.__version__.split(".")[:2])) >= (0, 26) else "proxies"
    with httpx.Client(http2=two, verify=context, **{name: os.environ["PROXY"]}) as client:
        answer = client.get(os.environ["URL"])
        if (answer.http_version == "HTTP/2") != two:
            print("spoke", answer.http_version)
        print(answer.status_code, len(answer.content))
PY
python3 fetch.py
"#;
