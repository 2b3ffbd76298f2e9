//! The commented files that a new configuration begins with.

use crate::ident::TenantName;

/// gateway.yaml of a new directory.
pub(super) fn gateway(domain: &str, tenant: &TenantName) -> String {
    GATEWAY.replace("{domain}", domain).replace("{tenant}", tenant.as_str())
}

const GATEWAY: &str = "\
# The point of presence. Every key has a default; what is commented out shows it.
# Saved changes are in force within a second; listeners, workers and some others need a restart.
# `sluice check` reads this file first; docs/configuration.md explains every key.

# Name of this point of presence, in events.
pop: local

# Tunnels answer to gateway-<tenant>.<domain> and gateway-backup-<tenant>.<domain>.
domain: {domain}

listen:
  tcp: \"0.0.0.0:8443\"               # TLS tunnels (443 in production)
  udp: \"0.0.0.0:8443\"               # QUIC and DTLS tunnels
  # Plain proxies, each for one tenant. Their credentials cross the wire in clear: loopback or a
  # trusted site network only.
  explicit:
    \"127.0.0.1:3128\": {tenant}
  # handover: null                  # directory where processes that share these ports meet

# Metrics, health, events, sessions. On any other address a token is required.
admin:
  listen: \"127.0.0.1:9901\"
  # token_file: admin.token
  # tls: { cert: admin.pem, key: admin.key }

# Reserved name of the coach and block pages; it exists inside tunnels only.
# notice: notice.sluice.test

# Worker threads; 0 is one per core.
# workers: 0

# Addresses that clients of packet tunnels (OpenConnect, DTLS) are given; the first is the gateway's own.
# inner: { ipv4: 100.96.0.0/16, ipv6: \"fd73:6c75:6963:65::/64\" }

origin:
  roots: system                     # system | webpki | none
  # extra_roots: []                 # PEM files trusted in addition
  # crls: []                        # PEM or DER revocation lists of origins' authorities
  # resolver: system                # system | [addresses]
  # hosts: {}                       # name or *.suffix -> address, before the resolver
  # allow_private: []               # networks that may be dialled although not public
  # egress: []                      # source addresses

events:
  dir: data/events                  # relative paths are relative to this directory
  # flush_ms: 100                   # an event waits this long before it is written
  # fsync: true                     # and for the disk, so that a power cut loses nothing older
  # max_bytes: 10GiB
  # sinks: []

limits:
  memory: 70%
  # tunnels: 50000
  # streams_per_tunnel: 1000
  # connect_ports: [\"1-24\", \"26-65535\"]
  # drain_s: 300
";

/// tenant.yaml of a new tenant.
pub(super) const TENANT: &str = "\
# One tenant. Every key has a default; what is commented out shows it or an example.
# The rules are in policy.yaml. docs/configuration.md explains every key.

identity:
  # A client certificate of ca/device.pem (`sluice enroll`), a token, or either.
  require: certificate              # certificate | token | either
  # directory: users.csv            # columns user, groups (a;b), device_class, os
  # jwks: jwks.json                 # keys that tokens are checked against
  # issuer: https://login.acme.test/
  # audience: sluice
  # claims: { user: email, groups: groups, device: device }
  # binding: optional               # required refuses tokens not bound to the tunnel (RFC 9266)

# Users of the explicit listeners; `sluice enroll` adds its own to tokens.csv.
# tokens:
#   - { user: alice@acme.test, sha256: <SHA-256 of the token> }

# Which flows are decrypted. Keys known before decryption; actions decrypt, bypass, block.
decrypt:
  rules:
    - name: health and banking stay private
      match: { category: [health, finance] }
      action: bypass
  default: decrypt

# What happens when an origin's TLS is at fault: block, warn (a page with proceed) or allow.
# decryption:
#   untrusted_root: block
#   self_signed: block
#   expired: block
#   name_mismatch: block
#   client_pinned: block            # or bypass

# Which instances of an app are the company's own.
# instances:
#   google-drive: { corporate: [acme.test] }
#   slack: { corporate: [acme] }

# Tenant-restriction headers: whom vendors let users sign in to.
# restrict:
#   google: [acme.test]
#   microsoft: [acme.test]

# privacy:
#   redact: [ssn, \"*_secret\"]       # query keys, in addition to the built-in list

# limits:
#   hold_bytes: 16MiB               # most of one body held back while a rule waits
#   hold_ms: 60000

# events:
#   max_bytes: 1GiB

# What block and coach pages say.
# notice:
#   contact: helpdesk@acme.test
#   organization: Acme
";
