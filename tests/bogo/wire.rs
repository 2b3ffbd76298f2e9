//! The runner's end: datagrams and the passing of time, in frames over TCP.

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::Duration;

/// No datagram of a test is longer.
const DATAGRAM_BYTES_MAX: u32 = 1 << 20;

/// What the runner wants.
pub(crate) enum Asked {
    Datagram(Vec<u8>),
    /// Time has passed.
    Wait(Duration),
    /// How long the timer should still run; `None` where there should be none.
    Timeout(Option<Duration>),
    Unsupported(&'static str),
    End,
}

pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Wire {
    pub(crate) fn connect(port: u16, ipv6: bool, shim_id: u64) -> io::Result<Self> {
        let mut writer = if ipv6 {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port))?
        } else {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port))?
        };
        writer.set_nodelay(true)?;
        writer.write_all(&shim_id.to_le_bytes())?;
        Ok(Self { reader: BufReader::new(writer.try_clone()?), writer })
    }

    pub(crate) fn next(&mut self) -> io::Result<Asked> {
        let mut opcode = [0];
        if self.reader.read(&mut opcode).unwrap_or(0) == 0 {
            return Ok(Asked::End);
        }
        match opcode {
            [b'P'] => {
                let length = u32::from_be_bytes(self.bytes()?).min(DATAGRAM_BYTES_MAX);
                let mut datagram = vec![0; length as usize];
                self.reader.read_exact(&mut datagram)?;
                Ok(Asked::Datagram(datagram))
            }
            [b'T'] => Ok(Asked::Wait(Duration::from_nanos(u64::from_be_bytes(self.bytes()?)))),
            [b'E'] => {
                let nanos = u64::from_be_bytes(self.bytes()?);
                Ok(Asked::Timeout((nanos != u64::MAX).then(|| Duration::from_nanos(nanos))))
            }
            [b'M'] => Ok(Asked::Unsupported("an MTU that changes in a handshake")),
            [b'U'] => Ok(Asked::Unsupported("a timer that changes in a handshake")),
            [other] => Err(io::Error::other(format!("unknown opcode {other}"))),
        }
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Says that the time is known to have passed.
    pub(crate) fn waited(&mut self) -> io::Result<()> {
        self.writer.write_all(b"t")
    }

    pub(crate) fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(datagram.len() + 5);
        frame.push(b'P');
        frame.extend(u32::try_from(datagram.len()).unwrap_or(u32::MAX).to_be_bytes());
        frame.extend_from_slice(datagram);
        self.writer.write_all(&frame)
    }
}
