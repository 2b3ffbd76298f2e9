//! How long an idle HTTP/2 connection is kept, in virtual time.
#![expect(clippy::unwrap_used, reason = "tests")]

use tokio::io::duplex;
use tokio::task::JoinHandle;
use tokio::time::advance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const SETTINGS: Generation = Generation { gateway: 1, tenant: 1 };

fn key() -> PoolKey {
    PoolKey {
        egress: None,
        scheme: Scheme::Https,
        host: "site.test".into(),
        address: "192.0.2.1:443".parse().unwrap(),
        http2: true,
        generation: SETTINGS,
    }
}

/// A connection in `pool`, and its driver, which ends when the connection closes.
async fn shared(pool: &Pool) -> JoinHandle<()> {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = h2::server::handshake(far).await.unwrap();
        while server.accept().await.is_some() {}
    });
    let (connection, driver) = Connection::open(near, None, |_| {}).await.unwrap();
    let driving = tokio::spawn(driver);
    pool.share(0, &key(), connection);
    driving
}

#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_is_closed_and_one_in_use_is_kept() {
    let pool = Pool::new(1);
    let driving = shared(&pool).await;
    for _ in 0..5 {
        advance(IDLE_TIME_MAX - SECOND).await;
        pool.sweep(SETTINGS);
        assert!(pool.take(0, &key()).is_some(), "taken before its time was over");
    }
    advance(IDLE_TIME_MAX).await;
    pool.sweep(SETTINGS);
    assert!(pool.take(0, &key()).is_none());
    driving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_exchange_keeps_its_connection_when_the_pool_lets_go() {
    let pool = Pool::new(1);
    let driving = shared(&pool).await;
    let lease = pool.take(0, &key()).unwrap();
    advance(IDLE_TIME_MAX).await;
    pool.sweep(SETTINGS);
    assert!(pool.take(0, &key()).is_none());
    tokio::task::yield_now().await;
    assert!(!driving.is_finished(), "still held by the exchange");
    drop(lease);
    driving.await.unwrap();
}
