//! What a listener between client and gateway can see.

use tests::relay::Recording;
use tests::{Gateway, Http, Leg, Origin};

#[tokio::test(flavor = "multi_thread")]
async fn the_wire_shows_only_the_gateways_own_name() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    for leg in [Leg::Http1, Leg::Http2] {
        for http in [Http::One, Http::Two] {
            let recording = Recording::of(gateway.address()).await;
            let browser = gateway.browser().leg(leg).http(http).through(recording.address);
            let url = origin.url("very-private-site.test", "/private-path");
            assert_eq!(browser.get(&url).await.unwrap().status, 200);
            assert!(recording.shows("gateway-acme.pop.test"), "the capture is empty");
            for secret in ["very-private-site", "private-path", "CONNECT", "alice@acme.test"] {
                assert!(!recording.shows(secret), "{leg:?} {http:?}: `{secret}` in clear");
            }
            assert!(recording.length() > 2_000);
        }
    }
}
