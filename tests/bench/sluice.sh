#!/usr/bin/env bash
# Sluice as a peer of the side-by-side bench of intercepting proxies: one file, the bench's contract.
#
#   BENCH_PEERS_EXTRA=tests/bench ./run.sh sluice l2-hyper w1 w2d w2u
#
# SLUICE_BIN: the binary (default: the release build of this checkout).
. "${BENCH_LIB:-$(dirname "$0")/../lib}/peer.sh"
SLUICE=${SLUICE_BIN:-$(cd "$(dirname "$0")/../.." && pwd)/target/release/sluice}
TENANT=bench
CONFIG=${BENCH_RUN:-.}/sluice

modes() { echo h2mtls mtls; }
inner() { echo h1 h2; }
outer_name() { echo "gateway-$TENANT.test"; }
check() { [ -x "$SLUICE" ] || { echo "no $SLUICE: cargo build --release"; return 1; }; }

# The bench's CAs take the place of those that init made: they are the tenant's and the operator's own.
own_keys() {
  local ca=$CONFIG/tenants/$TENANT/ca
  cp "$BENCH_CERTS/mitm-ca.pem" "$ca/intercept.pem" && cp "$BENCH_CERTS/mitm-ca.key" "$ca/intercept.key" &&
    cp "$BENCH_CERTS/client-ca.pem" "$ca/device.pem" &&
    mkdir -p "$CONFIG/tunnel" &&
    cp "$BENCH_CERTS/proxy.pem" "$CONFIG/tunnel/cert.pem" && cp "$BENCH_CERTS/proxy.key" "$CONFIG/tunnel/cert.key" || return 1
  # The bench keeps the device CA's key to itself; the gateway needs it only to enroll.
  if [ -f "$BENCH_CERTS/client-ca.key" ]; then
    cp "$BENCH_CERTS/client-ca.key" "$ca/device.key"
  fi
  chmod 600 "$ca"/*.key "$CONFIG/tunnel/cert.key"
}

start() {
  rm -rf "$CONFIG"
  "$SLUICE" init "$CONFIG" --domain test --tenant "$TENANT" >"$BENCH_RUN/init.log" 2>&1 || return 1
  own_keys || return 1
  cat >"$CONFIG/gateway.yaml" <<CONF
pop: bench
domain: test
listen: { tcp: "$BENCH_LISTEN", udp: "$BENCH_LISTEN" }
admin: { listen: "127.0.0.1:${BENCH_AUX_PORT:-18499}" }
workers: ${BENCH_THREADS:-1}
origin:
  roots: none
  extra_roots: ["$BENCH_CERTS/origin-ca.pem"]
  resolver: ["${BENCH_DNS:?}"]
  allow_private: ["127.0.0.0/8"]
CONF
  printf 'version: 1\nrules: []\ndefault: allow\n' >"$CONFIG/tenants/$TENANT/policy.yaml"
  launch sluice "$SLUICE" serve --config "$CONFIG"
}
peer_main "$@"
