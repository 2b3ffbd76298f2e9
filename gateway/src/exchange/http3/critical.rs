//! The streams that a client opens beside its requests (RFC 9114 section 6.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use gateway_proto::h3::qpack::{DecoderStream, EncoderStream};
use gateway_proto::h3::{Code, Event, Fault, FrameReader, StreamType, StreamTypeReader};
use quinn::{RecvStream, VarInt};

/// What is read at once; control streams carry a few dozen bytes.
const CHUNK_BYTES_MAX: usize = 4096;

/// Which of the streams that may be there once have come.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<AtomicU8>);

impl Seen {
    fn first(&self, bit: u8) -> Result<(), Fault> {
        let before = self.0.fetch_or(bit, Ordering::Relaxed);
        if before & bit == 0 {
            return Ok(());
        }
        Err(Fault::new(Code::STREAM_CREATION_ERROR, "a second stream of a kind there is one of"))
    }
}

/// Reads one of them to its end.
///
/// # Errors
/// Where the connection is over for what came. A stream that broke off with the connection is none.
pub(super) async fn serve(mut stream: RecvStream, seen: Seen) -> Result<(), Fault> {
    let mut kind = StreamTypeReader::new();
    let (kind, first) = loop {
        let Ok(Some(mut chunk)) = next(&mut stream).await else { return Ok(()) };
        if let Some(kind) = kind.next(&mut chunk) {
            break (kind, chunk);
        }
    };
    let mut reader = match kind {
        StreamType::Control => {
            seen.first(1)?;
            Reader::Control(FrameReader::control(), None)
        }
        StreamType::QpackEncoder => {
            seen.first(2)?;
            Reader::Encoder(EncoderStream)
        }
        StreamType::QpackDecoder => {
            seen.first(4)?;
            Reader::Decoder(DecoderStream::default())
        }
        StreamType::Push => {
            return Err(Fault::new(Code::STREAM_CREATION_ERROR, "a client does not push"));
        }
        StreamType::Unknown => {
            // It may be over already.
            drop(stream.stop(VarInt::from_u32(Code::STREAM_CREATION_ERROR.0)));
            return Ok(());
        }
    };
    reader.read(first)?;
    loop {
        match next(&mut stream).await {
            Ok(Some(chunk)) => reader.read(chunk)?,
            Err(quinn::ReadError::ConnectionLost(_)) => return Ok(()),
            Ok(None) | Err(_) => {
                return Err(Fault::new(Code::CLOSED_CRITICAL_STREAM, "a critical stream ended"));
            }
        }
    }
}

async fn next(stream: &mut RecvStream) -> Result<Option<Bytes>, quinn::ReadError> {
    Ok(stream.read_chunk(CHUNK_BYTES_MAX, true).await?.map(|chunk| chunk.bytes))
}

enum Reader {
    /// With the last MAX_PUSH_ID.
    Control(FrameReader, Option<u64>),
    Encoder(EncoderStream),
    Decoder(DecoderStream),
}

impl Reader {
    fn read(&mut self, mut chunk: Bytes) -> Result<(), Fault> {
        match self {
            Self::Encoder(reader) => reader.read(&chunk),
            Self::Decoder(reader) => reader.read(&chunk),
            Self::Control(reader, max_push) => {
                while let Some(event) = reader.next(&mut chunk)? {
                    match event {
                        // Nothing is pushed, so there is nothing to cancel, and nothing was meant
                        // by a limit but that it only grows (RFC 9114 section 7.2.7).
                        Event::CancelPush(_) => {
                            return Err(Fault::new(Code::ID_ERROR, "no such push"));
                        }
                        Event::MaxPushId(id) if max_push.is_some_and(|last| id < last) => {
                            return Err(Fault::new(Code::ID_ERROR, "MAX_PUSH_ID shrinks"));
                        }
                        Event::MaxPushId(id) => *max_push = Some(id),
                        _ => {}
                    }
                }
                Ok(())
            }
        }
    }
}
