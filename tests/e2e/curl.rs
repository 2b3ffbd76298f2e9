//! curl's corner flags: what each does direct it does through the gateway.

use tests::nginx::Site;

use crate::programs::{bash, world};

/// Compares each use of curl, direct and through. Told of each: curl's exit code, the status, the HTTP
/// version, how much went down, and the body's hash.
const SCRIPT: &str = r#"
say='%{http_code} %{http_version} %{size_download} %{size_upload} %{num_redirects}\n'
printf 'hello ' > part; head -c 300000 /dev/zero | tr '\0' 'u' > upload
curl_() { # HOW TO_FILE FLAGS...
  local body=$2 code=0; shift 2
  timeout 30 curl -q --silent --output "$body" --write-out "$say" "$@" < upload 2>curl.errors || code=$?
  echo "exit $code"
}
compared=0 failed=0
same() {
  local direct through
  : > direct.body; : > through.body
  direct=$(curl_ direct direct.body --noproxy '*' --connect-to ::127.0.0.1: --cacert "$ROOTS" "$@")
  through=$(curl_ through through.body --noproxy '' --proxy "$PROXY" --cacert "$CA" "$@")
  compared=$((compared + 1))
  # The clock goes on.
  sed -i '/^date: /Id' direct.body through.body
  [ -n "${ANY_BODY:-}" ] || cmp -s direct.body through.body || through="$through, another body"
  [ "$direct" = "$through" ] && return
  failed=$((failed + 1))
  diff --text direct.body through.body | head -c 1000 || true
  printf '%s\n  direct:  %s\n  through: %s\n' "$*" "${direct//$'\n'/, }" "${through//$'\n'/, }"
}

for version in --http1.1 --http2; do
  same $version "$URL/file"
  same $version --range 10-19 "$URL/file"
  same $version --range -5 "$URL/file"
  same $version --range 299990- "$URL/file"
  same $version --range 400000- "$URL/file"
  # Its boundary is new each time.
  ANY_BODY=1 same $version --range 0-1,5-9,100000-100009 "$URL/file"
  same $version --continue-at 299000 "$URL/file"
  same $version --compressed "$URL/file"
  same $version -H 'Accept-Encoding: gzip' "$URL/file"
  same $version --tr-encoding "$URL/file"
  same $version --raw "$URL/file"
  # nginx speaks HTTP/2 to the gateway, whose field names have no case of their own.
  ANY_BODY=1 same $version --suppress-connect-headers --head "$URL/file"
  same $version -X OPTIONS "$URL/file"
  same $version -X OPTIONS --request-target '*' "$URL/"
  same $version -X PROPFIND "$URL/file"
  same $version --request-target '/file?a=%2F..%2f&b=%00' "$URL/"
  same $version --path-as-is "$URL/x/../file"
  same $version --get --data 'a=b c' --data-urlencode 'd=é&' "$URL/args"
  same $version --limit-rate 2M "$URL/file"
  same $version --max-filesize 1000 "$URL/file"
  same $version --max-time 0.4 "$SLOW/slow/5000"
  same $version --fail "$URL/missing"
  same $version --location --max-redirs 3 "$URL/round"
  same $version --location "$URL/moved"
  same $version --time-cond '1 Jan 2040' "$URL/file"
  same $version -A '' -H 'Accept:' -H 'X-Empty;' "$URL/args"
  same $version --parallel --parallel-max 5 "$URL/file" -o two "$URL/file"
  same $version --trace-ascii trace --trace-time "$URL/file"
  same $version --keepalive-time 1 --tcp-nodelay --no-sessionid "$URL/file"
  same $version --tlsv1.2 --tls-max 1.2 "$URL/file"
  same $version --upload-file upload "$SLOW/mirror"
  # Of unknown length: chunked on HTTP/1.1, ended by the stream on HTTP/2.
  same $version --upload-file - "$SLOW/mirror"
  same $version --upload-file . "$SLOW/mirror"
  same $version --data-binary @upload --expect100-timeout 2 -H 'Expect: 100-continue' "$SLOW/mirror"
  same $version --data-binary @upload -H 'Expect:' "$SLOW/mirror"
  same $version --data '' "$SLOW/mirror"
  same $version -X PUT -H 'Content-Length: 0' "$SLOW/mirror"
  same $version -X DELETE --data-binary @part "$SLOW/mirror"
  same $version --form file=@part --form-string 'text=<x' -H 'Content-Type: multipart/form-data; boundary=b' "$SLOW/hello"
  same $version --limit-rate 3M --upload-file upload "$SLOW/mirror"
done
same --http1.0 "$URL/file"
same --http1.0 --data-binary @part "$URL/args"
same --http1.1 -H 'Transfer-Encoding: chunked' --data-binary @part "$SLOW/mirror"
same --http1.1 -H 'Connection: close' "$URL/file"
same --http1.1 --no-alpn "$URL/file"
same --http2-prior-knowledge "$URL/file"
same --http0.9 --http1.1 "$URL/file"
echo "$compared compared, $failed differ"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn its_corner_flags_do_what_they_do_direct() {
    let directives = "gzip on; gzip_types *; gzip_min_length 0; gzip_http_version 1.0;
        location /args { return 200 '$request_method $request_uri $http_user_agent $http_x_empty'; }
        location /round { return 302 /round; }
        location /moved { return 301 /file; }";
    let site = Site { name: "web.test", directives: directives.to_owned() };
    let (origin, _gateway, alice, nginx, at) = world(&[site]).await;
    let text: String = (0..30_000).map(|line| format!("{line:09}\n")).collect();
    std::fs::write(nginx.root("web.test").join("file"), text).expect("a file");
    let roots = at.path().join("roots.pem");
    std::fs::write(&roots, origin.pki().root_pem()).expect("a file");
    let more = [
        ("URL", nginx.url("web.test", "")),
        ("SLOW", origin.url("other.test", "")),
        ("ROOTS", roots.display().to_string()),
    ];
    let said = bash(&alice, at.path(), &more, SCRIPT).await;
    assert!(said.ends_with("87 compared, 0 differ\n"), "{said}");
}
