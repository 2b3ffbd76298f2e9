//! Bulk through one QUIC tunnel, beside a bare server of the same QUIC library in the same run: what
//! each costs its process per gigabyte; and what idle QUIC tunnels cost in memory. Prints, with the
//! bounds of docs/performance.md beside; asserts nothing.
//!
//! `SLUICE_BIN` names the gateway to measure, a release build. `SLUICE_BENCH_GB` is the size of each
//! transfer in GB (default 2), `SLUICE_BENCH_TUNNELS` the number of idle tunnels (default 5,000).

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicServerConfig;
use tests::client::quic::QuicTo;
use tests::gateway::cpu_of;
use tests::{Gateway, Origin, Pki};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const NAME: &str = "bare.test";
const PIECE_BYTES: usize = 64 << 10;
/// What a transfer has to reach of the bare server's, percent.
const SHARE_PERCENT: f64 = 60.0;
const IDLE_KIB: u64 = 64;
/// Tunnels of one socket.
const TUNNELS_PER_SOCKET: usize = 250;

fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Down,
    Up,
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(folder) = std::env::var_os("SLUICE_BENCH_BARE") {
        return runtime.block_on(serve_bare(folder.into()));
    }
    runtime.block_on(async {
        let size = (setting("SLUICE_BENCH_GB", 2.0) * 1e9) as u64;
        bulk(size).await;
        idle(setting("SLUICE_BENCH_TUNNELS", 5_000.0) as usize).await;
    });
}

/// A stream begins with what is asked for: a way and a number of bytes.
async fn answer(
    mut read: impl AsyncReadExt + Unpin,
    mut write: impl AsyncWriteExt + Unpin,
) -> std::io::Result<()> {
    let mut asked = [0; 9];
    read.read_exact(&mut asked).await?;
    let mut left = u64::from_be_bytes(asked[1..].try_into().unwrap());
    let mut piece = vec![b'b'; PIECE_BYTES];
    while left > 0 {
        let now = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if asked[0] == 0 {
            write.write_all(&piece[..now]).await?;
            left -= now as u64;
        } else {
            left = left.saturating_sub(read.read(&mut piece).await? as u64);
        }
    }
    write.write_all(b"!").await?;
    write.shutdown().await
}

/// The child: QUIC and nothing else.
async fn serve_bare(folder: std::path::PathBuf) {
    let pki = Pki::new();
    let chain = pki.chain(NAME, tests::Fault::None);
    std::fs::write(folder.join("roots.pem"), pki.roots_pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.certificates, chain.key)
        .unwrap();
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = QuicServerConfig::try_from(config).unwrap();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(config));
    let mut transport = quinn::TransportConfig::default();
    // As the gateway's.
    transport.stream_receive_window((4_u32 << 20).into()).receive_window((16_u32 << 20).into());
    transport.send_window(16 << 20);
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
    let port = endpoint.local_addr().unwrap().port();
    std::fs::write(folder.join("port.new"), port.to_string()).unwrap();
    std::fs::rename(folder.join("port.new"), folder.join("port")).unwrap();
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((send, recv)) = connection.accept_bi().await {
                tokio::spawn(answer(recv, send));
            }
        });
    }
}

/// The bare server's process.
struct Bare {
    child: Child,
    to: QuicTo,
    _folder: tempfile::TempDir,
}

impl Bare {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        let mut command = Command::new(own);
        command.env("SLUICE_BENCH_BARE", folder.path()).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        let port = loop {
            if let Ok(port) = std::fs::read_to_string(folder.path().join("port")) {
                break port.parse().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let roots = std::fs::read_to_string(folder.path().join("roots.pem")).unwrap();
        let to = QuicTo::new(SocketAddr::from(([127, 0, 0, 1], port)), NAME, &roots, None).unwrap();
        Self { child, to, _folder: folder }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Moves so many bytes one way, and how long it took.
async fn transfer(
    mut read: impl AsyncReadExt + Unpin,
    mut write: impl AsyncWriteExt + Unpin,
    way: Way,
    size: u64,
) -> Duration {
    let begun = Instant::now();
    let mut asked = [0; 9];
    asked[0] = u8::from(way == Way::Up);
    asked[1..].copy_from_slice(&size.to_be_bytes());
    write.write_all(&asked).await.unwrap();
    write.flush().await.unwrap();
    let mut piece = vec![b'u'; PIECE_BYTES];
    let mut left = size;
    while left > 0 {
        let now = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if way == Way::Up {
            write.write_all(&piece[..now]).await.unwrap();
            left -= now as u64;
        } else {
            let count = read.read(&mut piece[..now]).await.unwrap();
            assert!(count > 0);
            left -= count as u64;
        }
    }
    write.flush().await.unwrap();
    assert_eq!(read.read(&mut piece[..1]).await.unwrap(), 1);
    begun.elapsed()
}

async fn bulk(size: u64) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let bare = Bare::start().await;
    let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = format!("site.test:{}", sink.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = sink.accept().await {
            let (read, write) = stream.into_split();
            tokio::spawn(answer(read, write));
        }
    });
    let tunnel = gateway.browser().quic().await.unwrap();
    let straight = bare.to.bare().await.unwrap();
    for way in [Way::Down, Way::Up] {
        // Each twice, turn by turn, so that both meet the same machine.
        let (mut by_bare, mut by_gateway) = (Cost::default(), Cost::default());
        for _ in 0..2 {
            let before = cpu_of(bare.child.id());
            let (send, recv) = straight.open_bi().await.unwrap();
            let took = transfer(recv, send, way, size).await;
            by_bare.add(size, took, cpu_of(bare.child.id()) - before);
            let before = gateway.cpu();
            let stream = tunnel.open(&authority).await.unwrap();
            let (read, write) = tokio::io::split(stream);
            let took = transfer(read, write, way, size).await;
            by_gateway.add(size, took, gateway.cpu() - before);
        }
        println!("{way:?}: bare {by_bare}; through the gateway {by_gateway}");
        let share = 100.0 * by_bare.per_gb() / by_gateway.per_gb();
        println!("{way:?}: {share:.0} % of the bare server by CPU (bound {SHARE_PERCENT} %)");
    }
}

#[derive(Default)]
struct Cost {
    bytes: u64,
    took: Duration,
    cpu: Duration,
}

impl Cost {
    fn add(&mut self, bytes: u64, took: Duration, cpu: Duration) {
        self.bytes += bytes;
        self.took += took;
        self.cpu += cpu;
    }

    fn per_gb(&self) -> f64 {
        self.cpu.as_secs_f64() / (self.bytes as f64 / 1e9)
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = self.bytes as f64 * 8.0 / 1e9 / self.took.as_secs_f64();
        let by_core = 8.0 / self.per_gb();
        write!(
            formatter,
            "{rate:.1} Gbit/s, {:.2} CPU-s per GB ({by_core:.1} Gbit/s per core)",
            self.per_gb()
        )
    }
}

async fn idle(count: usize) {
    let origin = Origin::start().await;
    let limits = format!("limits: {{ tunnels: {} }}", count + 10);
    let gateway = Gateway::build(&origin).gateway_yaml(&limits).start();
    let first = gateway.browser().quic().await.unwrap();
    let before = gateway.resident_bytes();
    let (mut held, mut to) = (vec![first], gateway.browser().quic_to().unwrap());
    for number in 0..count {
        if number % TUNNELS_PER_SOCKET == 0 {
            to = to.from_elsewhere().unwrap();
        }
        held.push(to.connect().await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let each = gateway.resident_bytes().saturating_sub(before) / count as u64;
    println!("{count} idle QUIC tunnels: {} KiB each (bound {IDLE_KIB})", each / 1024);
}
