//! Several processes at one UDP port, as during a rolling upgrade: the kernel deals datagrams out to
//! all of them, and each passes on what belongs to another, in a datagram of a Unix socket behind a
//! header that says whence it came (PROXY protocol version 2).

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use ppp::v2::{Addresses, Builder, Command, Header, Protocol, Version};
use tokio::net::UnixDatagram;

use super::udp::Way;

/// A whole UDP payload and the header before it.
const MESSAGE_BYTES_MAX: usize = (64 << 10) + 64;
/// Names tried where two processes begin at once.
const ATTEMPTS_MAX: u64 = 64;
const EXTENSION: &str = "sock";

/// This process's place among those that share the port.
pub struct Handover {
    folder: PathBuf,
    own: u64,
    inbox: UnixDatagram,
    /// Never waits: what a process does not take at once is lost, as on the way.
    outbox: std::os::unix::net::UnixDatagram,
    others: RwLock<Vec<u64>>,
}

impl Handover {
    /// Joins those that meet in `folder`, as the newest of them. The folder is made where it is missing,
    /// for its owner only: whoever may write to it may hand us datagrams.
    ///
    /// # Errors
    /// Where the folder cannot be made or no socket bound in it.
    pub fn join(folder: &Path) -> io::Result<Self> {
        if !folder.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let others = living(folder)?;
        let first = others.iter().max().map_or(1, |newest| newest + 1);
        let outbox = std::os::unix::net::UnixDatagram::unbound()?;
        outbox.set_nonblocking(true)?;
        let mut taken = io::Error::from(io::ErrorKind::AddrInUse);
        for own in first..first + ATTEMPTS_MAX {
            match UnixDatagram::bind(path(folder, own)) {
                Ok(inbox) => {
                    let (folder, others) = (folder.to_owned(), RwLock::new(others));
                    return Ok(Self { folder, own, inbox, outbox, others });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }

    /// The number of this process: greater than that of everyone who was there when it began.
    #[must_use]
    pub fn own(&self) -> u64 {
        self.own
    }

    /// Looks who is there now. Reads a folder of few files, so cheap enough for once a second.
    pub fn look(&self) {
        if let Ok(mut others) = living(&self.folder) {
            others.retain(|other| *other != self.own);
            *self.others.write() = others;
        }
    }

    /// Passes a datagram to every other process, the newest first: it is known to be one of theirs,
    /// and only that one can read it. False where there is nobody.
    pub fn to_others(&self, way: Way, datagram: &[u8]) -> bool {
        self.pass(|_| true, way, datagram)
    }

    /// Passes a datagram that opens something to the newest process after this one. False where there
    /// is none.
    pub fn to_newest(&self, way: Way, datagram: &[u8]) -> bool {
        let newest = self.others.read().iter().copied().max();
        self.pass(|other| other > self.own && Some(other) == newest, way, datagram)
    }

    /// Passes a datagram to the process whose number ends in this byte.
    pub fn to(&self, low_byte: u8, way: Way, datagram: &[u8]) -> bool {
        self.pass(|other| other.to_le_bytes().first() == Some(&low_byte), way, datagram)
    }

    fn pass(&self, to: impl Fn(u64) -> bool, way: Way, datagram: &[u8]) -> bool {
        let to: Vec<u64> = self.others.read().iter().copied().filter(|it| to(*it)).collect();
        if to.is_empty() {
            return false;
        }
        let Ok(mut message) = header(way) else { return false };
        message.extend_from_slice(datagram);
        let mut passed = false;
        for other in to {
            passed |= self.outbox.send_to(&message, path(&self.folder, other)).is_ok();
        }
        passed
    }

    /// Waits for a datagram that another process passes on, and shows it to `each`.
    ///
    /// # Errors
    /// Where the socket fails.
    pub async fn receive(
        &self,
        buffer: &mut Vec<u8>,
        each: impl FnOnce(Way, &[u8]),
    ) -> io::Result<()> {
        buffer.resize(MESSAGE_BYTES_MAX, 0);
        let length = self.inbox.recv(buffer).await?;
        let message = buffer.get(..length).unwrap_or_default();
        if let Some((way, datagram)) = read(message) {
            each(way, datagram);
        }
        Ok(())
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        drop(fs::remove_file(path(&self.folder, self.own)));
    }
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(number.to_string()).with_extension(EXTENSION)
}

/// The numbers of the processes that live. What one left behind that was killed is removed.
fn living(folder: &Path) -> io::Result<Vec<u64>> {
    let mut living = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str());
        let Some(number) = name.and_then(|name| name.parse().ok()) else { continue };
        if path.extension().is_none_or(|it| it != EXTENSION) {
            continue;
        }
        let asking = std::os::unix::net::UnixDatagram::unbound()?;
        match asking.connect(&path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                drop(fs::remove_file(&path));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // One whose queue is full lives too.
            _ => living.push(number),
        }
    }
    Ok(living)
}

fn header(way: Way) -> io::Result<Vec<u8>> {
    let none = match way.peer {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let local = match (way.local, none) {
        // A socket of both families says which of our addresses in either form.
        (Some(IpAddr::V4(local)), IpAddr::V6(_)) => IpAddr::V6(local.to_ipv6_mapped()),
        (Some(local), none) if local.is_ipv4() == none.is_ipv4() => local,
        (_, none) => none,
    };
    let addresses = Addresses::from((way.peer, SocketAddr::new(local, 0)));
    Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Datagram, addresses).build()
}

fn read(message: &[u8]) -> Option<(Way, &[u8])> {
    let header = Header::try_from(message).ok()?;
    let (peer, local) = match header.addresses {
        Addresses::IPv4(it) => (
            SocketAddr::new(it.source_address.into(), it.source_port),
            IpAddr::V4(it.destination_address),
        ),
        Addresses::IPv6(it) => (
            SocketAddr::new(it.source_address.into(), it.source_port),
            IpAddr::V6(it.destination_address),
        ),
        Addresses::Unspecified | Addresses::Unix(_) => return None,
    };
    let local = (!local.is_unspecified()).then_some(local);
    Some((Way { peer, local }, message.get(header.len()..)?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn way(peer: &str, local: Option<&str>) -> Way {
        Way { peer: peer.parse().unwrap(), local: local.map(|it| it.parse().unwrap()) }
    }

    async fn next(handover: &Handover) -> (Way, Vec<u8>) {
        let (mut buffer, mut got) = (Vec::new(), None);
        handover.receive(&mut buffer, |way, data| got = Some((way, data.to_vec()))).await.unwrap();
        got.unwrap()
    }

    #[tokio::test]
    async fn datagrams_reach_the_others_with_whence_they_came() {
        let folder = tempfile::tempdir().unwrap();
        let old = Handover::join(folder.path()).unwrap();
        let ways = [
            way("192.0.2.1:4000", Some("198.51.100.7")),
            way("192.0.2.1:4000", None),
            way("[2001:db8::1]:4001", Some("2001:db8::2")),
            way("[::ffff:192.0.2.1]:4000", None),
        ];
        assert!(!old.to_others(ways[0], b"nobody is there"));
        let new = Handover::join(folder.path()).unwrap();
        assert_eq!((old.own(), new.own()), (1, 2));
        old.look();
        for each in ways {
            assert!(new.to_others(each, b"yours"));
            assert_eq!(next(&old).await, (each, b"yours".to_vec()));
        }
        assert!(old.to_newest(ways[0], b"a hello"));
        assert!(!new.to_newest(ways[0], b"I am the newest"));
        assert_eq!(next(&new).await.1, b"a hello");
        assert!(new.to(1, ways[0], b"by number") && !new.to(7, ways[0], b"nobody's number"));
        assert_eq!(next(&old).await.1, b"by number");
        drop(old);
        new.look();
        assert!(!new.to_others(ways[0], b"it has gone"));
    }

    #[tokio::test]
    async fn what_a_killed_process_left_behind_is_not_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixDatagram::bind(folder.path().join("9.sock")).unwrap());
        fs::write(folder.path().join("notes.txt"), "not ours").unwrap();
        let only = Handover::join(folder.path()).unwrap();
        assert_eq!(only.own(), 1);
        assert!(!folder.path().join("9.sock").exists() && folder.path().join("notes.txt").exists());
    }

    #[test]
    fn what_is_no_message_is_not_read() {
        assert!(read(b"").is_none() && read(b"\r\n\r\n\0\r\nQUIT\n").is_none());
        let whole = header(way("192.0.2.1:4000", None)).unwrap();
        for length in 0..whole.len() {
            assert!(read(whole.get(..length).unwrap()).is_none(), "{length}");
        }
        assert_eq!(read(&whole).unwrap().1, b"");
    }
}
