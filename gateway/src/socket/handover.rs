//! Several processes at one UDP port, as during a rolling upgrade: the kernel deals datagrams out to
//! all of them, and each passes on what belongs to another, in messages of a Unix socket behind a
//! header that says whence it came (PROXY protocol version 2). What came together goes together: few
//! messages wait at a socket (`net.unix.max_dgram_qlen`, 10 by default).

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use ppp::v2::{Addresses, Builder, Command, Header, Protocol, Version};
use tokio::net::UnixDatagram;

use super::udp::{Batch, Way};

/// A whole UDP payload and the header before it.
const MESSAGE_BYTES_MAX: usize = (64 << 10) + 64;
/// Of each of the datagrams in a message (a type for own use, PROXY protocol section 2.2.7).
const SIZE: u8 = 0xe0;
/// Names tried where two processes begin at once.
const ATTEMPTS_MAX: u64 = 64;
const EXTENSION: &str = "sock";

/// Whom datagrams are passed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Every other process: they are known to be one of theirs, and only that one can read them.
    Others,
    /// The newest process after this one, for what opens something.
    Newest,
    /// The process with this number.
    Process(u64),
}

/// What became of datagrams that were passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    Yes,
    /// The process does not keep up.
    Full,
    /// There is no such process.
    Nobody,
}

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

    /// Passes datagrams on. One that does not keep up loses them, as on the way.
    pub fn pass(&self, to: To, batch: &Batch<'_>) -> Passed {
        let others = self.others.read().clone();
        let newest = others.iter().copied().max();
        let wanted = |other: u64| match to {
            To::Others => true,
            To::Newest => other > self.own && Some(other) == newest,
            To::Process(number) => other == number,
        };
        let mut passed = Passed::Nobody;
        let Ok(message) = message(batch) else { return passed };
        for other in others.into_iter().filter(|other| wanted(*other)) {
            let sent = self.outbox.send_to(&message, path(&self.folder, other));
            passed = match (sent, passed) {
                (Ok(_), _) | (Err(_), Passed::Yes) => Passed::Yes,
                (Err(error), Passed::Nobody) if is_gone(&error) => Passed::Nobody,
                (Err(_), Passed::Nobody | Passed::Full) => Passed::Full,
            };
        }
        passed
    }

    /// Waits for datagrams that another process passes on, and shows them to `each`.
    ///
    /// # Errors
    /// Where the socket fails.
    pub async fn receive(
        &self,
        buffer: &mut Vec<u8>,
        each: impl FnOnce(&Batch<'_>),
    ) -> io::Result<()> {
        buffer.resize(MESSAGE_BYTES_MAX, 0);
        let length = self.inbox.recv(buffer).await?;
        let message = buffer.get(..length).unwrap_or_default();
        if let Some(batch) = read(message) {
            each(&batch);
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

/// Whether a process has ended since it was seen.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn message(batch: &Batch<'_>) -> io::Result<Vec<u8>> {
    let way = batch.way;
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
    let size = u16::try_from(batch.size).map_err(|_| io::ErrorKind::InvalidInput)?;
    let command = Version::Two | Command::Proxy;
    let mut message = Builder::with_addresses(command, Protocol::Datagram, addresses)
        .write_tlv(SIZE, &size.to_be_bytes())?
        .build()?;
    message.extend_from_slice(batch.joined);
    Ok(message)
}

fn read(message: &[u8]) -> Option<Batch<'_>> {
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
    let size = header.tlvs().filter_map(Result::ok).find(|tlv| tlv.kind == SIZE)?;
    let size = u16::from_be_bytes(size.value.as_ref().try_into().ok()?).into();
    let joined = message.get(header.len()..)?;
    Some(Batch { way: Way { peer, local }, ecn: None, size, joined })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn way(peer: &str, local: Option<&str>) -> Way {
        Way { peer: peer.parse().unwrap(), local: local.map(|it| it.parse().unwrap()) }
    }

    async fn next(handover: &Handover) -> (Way, Vec<Vec<u8>>) {
        let (mut buffer, mut got) = (Vec::new(), None);
        let each = |batch: &Batch<'_>| {
            got = Some((batch.way, batch.datagrams().map(<[u8]>::to_vec).collect()));
        };
        handover.receive(&mut buffer, each).await.unwrap();
        got.unwrap()
    }

    fn batch(way: Way, joined: &[u8], size: usize) -> Batch<'_> {
        Batch { way, ecn: None, size, joined }
    }

    #[tokio::test]
    async fn datagrams_reach_the_others_with_whence_they_came() {
        let folder = tempfile::tempdir().unwrap();
        let old = Handover::join(folder.path()).unwrap();
        let any = way("192.0.2.1:4000", Some("198.51.100.7"));
        let one = batch(any, b"hello", 5);
        assert_eq!(old.pass(To::Others, &one), Passed::Nobody);
        let new = Handover::join(folder.path()).unwrap();
        assert_eq!((old.own(), new.own()), (1, 2));
        old.look();
        for way in [
            any,
            way("192.0.2.1:4000", None),
            way("[2001:db8::1]:4001", Some("2001:db8::2")),
            way("[::ffff:192.0.2.1]:4000", None),
        ] {
            assert_eq!(new.pass(To::Others, &batch(way, b"yoursyourmine", 5)), Passed::Yes);
            let datagrams = [&b"yours"[..], b"yourm", b"ine"].map(<[u8]>::to_vec).to_vec();
            assert_eq!(next(&old).await, (way, datagrams));
        }
        assert_eq!(old.pass(To::Newest, &one), Passed::Yes);
        assert_eq!(new.pass(To::Newest, &one), Passed::Nobody);
        assert_eq!(next(&new).await.1, [b"hello"]);
        assert_eq!(new.pass(To::Process(1), &one), Passed::Yes);
        assert_eq!(new.pass(To::Process(7), &one), Passed::Nobody);
        let mut waiting = 1;
        while new.pass(To::Process(1), &one) == Passed::Yes {
            waiting += 1;
        }
        assert!(waiting > 1 && new.pass(To::Others, &one) == Passed::Full);
        drop(old);
        assert_eq!(new.pass(To::Others, &one), Passed::Nobody);
        new.look();
        assert_eq!(new.pass(To::Others, &one), Passed::Nobody);
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
        let whole = message(&batch(way("192.0.2.1:4000", None), b"", 0)).unwrap();
        for length in 0..whole.len() {
            assert!(read(whole.get(..length).unwrap()).is_none(), "{length}");
        }
        assert_eq!(read(&whole).unwrap().datagrams().count(), 0);
    }
}
