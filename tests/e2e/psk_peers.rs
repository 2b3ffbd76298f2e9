//! OpenSSL and GnuTLS as clients of the DTLS 1.2 that OpenConnect's data channel speaks.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use gateway_proto::dtls12::PskServer;

const KEY: [u8; 32] = [0x5a; 32];
const SAID: &str = "a line through the channel";

fn hex() -> String {
    KEY.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server for one client that says back whatever it hears, until nothing comes.
fn echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    std::thread::spawn(move || {
        let mut server = PskServer::new(KEY, [3; 32]);
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let outcome = server.datagram(&buffer[..length]).expect("a handshake that makes sense");
            for datagram in outcome.datagrams {
                socket.send_to(&datagram, peer).ok();
            }
            for record in outcome.records {
                socket.send_to(&server.seal(&record).unwrap(), peer).ok();
            }
        }
    });
    address
}

/// Runs a client that is told a line, and gives what it printed.
fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command");
    let mut stdin = child.stdin.take().unwrap();
    std::thread::spawn(move || {
        // What is said before the handshake is done is kept by one of them and lost by the other.
        std::thread::sleep(Duration::from_secs(1));
        writeln!(stdin, "{SAID}").ok();
        std::thread::sleep(Duration::from_secs(1));
    });
    child.wait_with_output().unwrap()
}

fn has_heard(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stdout).contains(SAID)
}

#[test]
fn openssl_speaks_with_us() {
    let mut command = Command::new("timeout");
    command.args(["5", "openssl", "s_client", "-dtls1_2", "-psk_identity", "psk"]);
    command.args(["-psk", &hex(), "-cipher", "PSK-AES256-GCM-SHA384"]);
    let output = run(command.args(["-connect", &echo().to_string()]));
    assert!(has_heard(&output), "{output:#?}");
}

#[test]
fn gnutls_speaks_with_us() {
    let mut command = Command::new("timeout");
    command.args(["5", "gnutls-cli", "--udp", "--no-ca-verification", "--pskusername", "psk"]);
    command.args(["--pskkey", &hex(), "--priority"]);
    // As openconnect has it.
    command.arg("NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+PSK");
    let port = echo().port().to_string();
    let output = run(command.args(["--port", &port, "127.0.0.1"]));
    assert!(has_heard(&output), "{output:#?}");
}
