//! The client's unidirectional streams: control, and those of field compression.

use std::sync::Arc;

use bytes::Bytes;
use gateway_proto::h3::qpack::{DecoderStream, EncoderStream};
use gateway_proto::h3::{Code, Event, Fault, FrameReader, StreamType, StreamTypeReader};
use quinn::{ReadError, RecvStream};

use super::shared::{Critical, Shared, number};

/// Read at a time.
const READ_BYTES: usize = 16 << 10;

/// Reads one stream to its end; a violation closes the connection.
pub(super) async fn read(shared: Arc<Shared>, mut stream: RecvStream) {
    if let Err(fault) = follow(&shared, &mut stream).await {
        drop(shared.fail(fault));
    }
}

async fn follow(shared: &Shared, stream: &mut RecvStream) -> Result<(), Fault> {
    let mut reader = StreamTypeReader::new();
    let (kind, rest) = loop {
        // One that ends before it says what it is, is nobody's (section 6.2).
        let Ok(Some(chunk)) = stream.read_chunk(READ_BYTES, true).await else { return Ok(()) };
        let mut bytes = chunk.bytes;
        if let Some(kind) = reader.next(&mut bytes) {
            break (kind, bytes);
        }
    };
    let critical = &shared.critical;
    let once = |seen| {
        let why = "a second stream of a kind that there is one of";
        let twice = Fault::new(Code::STREAM_CREATION_ERROR, why);
        if Critical::is_first(seen) { Ok(()) } else { Err(twice) }
    };
    match kind {
        StreamType::Control => {
            once(&critical.control)?;
            let mut control = Control::new(shared);
            each(stream, rest, |bytes| control.read(bytes)).await
        }
        StreamType::QpackEncoder => {
            once(&critical.encoder)?;
            each(stream, rest, |bytes| EncoderStream.read(&bytes)).await
        }
        StreamType::QpackDecoder => {
            once(&critical.decoder)?;
            let mut decoder = DecoderStream::default();
            each(stream, rest, |bytes| decoder.read(&bytes)).await
        }
        StreamType::Push => Err(Fault::new(Code::STREAM_CREATION_ERROR, "a client pushes")),
        StreamType::Unknown => {
            // It has ended already, or ends now.
            drop(stream.stop(number(Code::STREAM_CREATION_ERROR)));
            Ok(())
        }
    }
}

/// Shows what comes of a critical stream, which must not end.
async fn each(
    stream: &mut RecvStream,
    mut bytes: Bytes,
    mut read: impl FnMut(Bytes) -> Result<(), Fault>,
) -> Result<(), Fault> {
    loop {
        read(bytes)?;
        bytes = match stream.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => chunk.bytes,
            Ok(None) | Err(ReadError::Reset(_)) => {
                return Err(Fault::new(Code::CLOSED_CRITICAL_STREAM, "a critical stream ended"));
            }
            // The connection is over.
            Err(_) => return Ok(()),
        };
    }
}

/// The client's control stream.
struct Control<'s> {
    shared: &'s Shared,
    frames: FrameReader,
    goaway: Option<u64>,
    pushes: Option<u64>,
}

impl<'s> Control<'s> {
    fn new(shared: &'s Shared) -> Self {
        Self { shared, frames: FrameReader::control(), goaway: None, pushes: None }
    }

    fn read(&mut self, mut bytes: Bytes) -> Result<(), Fault> {
        while let Some(event) = self.frames.next(&mut bytes)? {
            self.take(event)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), Fault> {
        let wrong = |why| Err(Fault::new(Code::ID_ERROR, why));
        match event {
            Event::Settings(settings) => drop(self.shared.settings.set(settings)),
            Event::Goaway(id) => {
                if self.goaway.replace(id).is_some_and(|before| before < id) {
                    return wrong("a later GOAWAY says more than an earlier one");
                }
            }
            Event::MaxPushId(id) => {
                if self.pushes.replace(id).is_some_and(|before| before > id) {
                    return wrong("a later MAX_PUSH_ID says less than an earlier one");
                }
            }
            Event::CancelPush(_) => return wrong("a push is cancelled that was never promised"),
            Event::Headers(_) | Event::HeadersTooLarge | Event::Data(_) => {}
        }
        Ok(())
    }
}
