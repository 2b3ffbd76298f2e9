"""libcurl over HTTP/3 and nothing else (curl_cffi). Usage: curl.py CA URL METHOD [SIZE]."""

import hashlib
import json
import sys
import time

from curl_cffi import CurlHttpVersion, requests

ca, url, method, *size = sys.argv[1:]
body = None
if size:
    body = bytes(i * 31 % 251 for i in range(int(size[0])))
begun = time.monotonic()
try:
    reply = requests.request(
        method, url, verify=ca, data=body, timeout=60, http_version=CurlHttpVersion.V3ONLY,
        headers={"accept": "text/html"})
    print(json.dumps({
        "status": reply.status_code, "version": reply.http_version, "length": len(reply.content),
        "sha256": hashlib.sha256(reply.content).hexdigest(), "headers": dict(reply.headers),
        "text": reply.text[:4096], "sent": hashlib.sha256(body or b"").hexdigest(),
        "seconds": time.monotonic() - begun}))
except requests.exceptions.RequestException as error:
    print(json.dumps({"error": str(error), "code": error.code, "seconds": time.monotonic() - begun}))
