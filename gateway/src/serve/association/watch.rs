//! Watches what is relayed unread: a QUIC connection must not begin that was never judged.

use std::sync::Arc;

use bytes::Bytes;
use gateway_proto::quic_initial::{InitialProblem, InitialReader, Progress};
use gateway_proto::udp::{Datagram, classify};

/// Datagrams of a new connection held until its name is known.
const HELD_MAX: usize = 16;

/// What a relayed flow is known to be.
pub(super) enum Watch {
    /// No QUIC so far.
    Plain,
    Quic(Box<QuicWatch>),
}

/// A relayed connection, and one that may take its place: after a Retry the client begins again.
pub(super) struct QuicWatch {
    reader: InitialReader,
    name: Option<Arc<str>>,
    next: Option<(InitialReader, Vec<Bytes>)>,
}

/// What becomes of a datagram.
pub(super) enum Step {
    Pass(Vec<Bytes>),
    Refuse(&'static str, Bytes),
}

impl Watch {
    pub(super) fn quic(reader: Box<InitialReader>, name: Option<Arc<str>>) -> Self {
        Self::Quic(Box::new(QuicWatch { reader: *reader, name, next: None }))
    }

    pub(super) fn step(&mut self, datagram: Bytes, port: u16) -> Step {
        if classify(&datagram, port) != Datagram::QuicLong {
            return Step::Pass(vec![datagram]);
        }
        match self {
            // Whoever is refused begins anew, and is looked into.
            Self::Plain => Step::Refuse("quic_begins_late", datagram),
            Self::Quic(watch) => watch.step(datagram),
        }
    }
}

impl QuicWatch {
    fn step(&mut self, datagram: Bytes) -> Step {
        match self.reader.push(&datagram) {
            Progress::Done(_) | Progress::NeedMore => return Step::Pass(vec![datagram]),
            Progress::NotInitial(InitialProblem::Sealed) => {}
            // What no server reads goes nowhere either.
            Progress::NotInitial(
                InitialProblem::Version
                | InitialProblem::NotLong
                | InitialProblem::Header
                | InitialProblem::Short,
            ) => return Step::Pass(Vec::new()),
            Progress::NotInitial(problem) => return Step::Refuse(problem.label(), datagram),
        }
        let (reader, held) = self.next.get_or_insert_with(Default::default);
        let progress = reader.push(&datagram);
        held.push(datagram);
        match progress {
            Progress::NeedMore if held.len() < HELD_MAX => Step::Pass(Vec::new()),
            Progress::Done(hello) if hello.server_name() == self.name.as_deref() => {
                let Some((reader, held)) = self.next.take() else { return Step::Pass(Vec::new()) };
                self.reader = reader;
                Step::Pass(held)
            }
            // Of another connection than the one it was to be, and so to nobody's use.
            Progress::NotInitial(InitialProblem::Sealed) if held.len() < HELD_MAX => {
                held.pop();
                Step::Pass(Vec::new())
            }
            _ => Step::Refuse("quic_other_name", held.pop().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use gateway_proto::quic_initial::{Version, write_initial};

    use super::*;

    /// The first datagrams of a client that asks for `name`.
    fn initial(name: &str, id: u8) -> Bytes {
        let name = name.as_bytes();
        let length = |add: usize| u16::try_from(name.len() + add).unwrap().to_be_bytes();
        let sni = [&[0, 0][..], &length(5), &length(3), &[0], &length(0), name].concat();
        let extensions = [&u16::try_from(sni.len()).unwrap().to_be_bytes()[..], &sni].concat();
        let fixed = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
        let body = [fixed, extensions].concat();
        let message = [&[1, 0][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body];
        let message = message.concat();
        let size = u16::try_from(message.len()).unwrap() | 0x4000;
        let mut frames = [&[6, 0][..], &size.to_be_bytes(), &message].concat();
        frames.resize(1_162, 0);
        write_initial(Version::V1, &[id; 8], 0, &frames).unwrap().into()
    }

    fn watching(name: &str) -> QuicWatch {
        let mut reader = InitialReader::new();
        assert!(matches!(reader.push(&initial(name, 1)), Progress::Done(_)));
        QuicWatch { reader, name: Some(name.into()), next: None }
    }

    fn passes(watch: &mut QuicWatch, datagram: Bytes) -> usize {
        match watch.step(datagram) {
            Step::Pass(passed) => passed.len(),
            Step::Refuse(..) => usize::MAX,
        }
    }

    #[test]
    fn only_the_connection_that_was_judged_goes_on() {
        let mut watch = watching("bank.test");
        assert_eq!(passes(&mut watch, initial("bank.test", 1)), 1, "sent again");
        assert_eq!(passes(&mut watch, initial("bank.test", 2)), 1, "after a Retry");
        assert_eq!(passes(&mut watch, initial("evil.test", 3)), usize::MAX);
    }

    #[test]
    fn what_cannot_be_read_is_not_relayed() {
        let mut watch = watching("bank.test");
        let mut broken = initial("evil.test", 3).to_vec();
        if let Some(last) = broken.last_mut() {
            *last ^= 1;
        }
        assert_eq!(passes(&mut watch, broken.into()), 0);
        let short = initial("evil.test", 4).slice(..900);
        assert_eq!(passes(&mut watch, short), 0);
    }

    #[test]
    fn quic_does_not_begin_on_a_flow_that_was_something_else() {
        let mut watch = Watch::Plain;
        assert!(matches!(watch.step(Bytes::from_static(b"anything"), 443), Step::Pass(_)));
        assert!(matches!(watch.step(initial("bank.test", 1), 443), Step::Refuse(..)));
    }
}
