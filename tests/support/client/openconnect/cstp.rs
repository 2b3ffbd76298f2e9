//! The TLS channel of an OpenConnect tunnel: one frame in each TLS record.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gateway_proto::openconnect::frame::{Frame, Kind, put_cstp, take_cstp};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::bootstrap::Opened;
use super::parameters::Parameters;
use crate::BoxStream;

/// Frames that wait to be written: the queue of a kernel's TUN device.
const TO_WRITE_MAX: usize = 512;
/// Frames read ahead; then TCP holds the gateway back.
const READ_MAX: usize = 512;
const READ_BYTES: usize = 64 * 1024;
/// How long a goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// An open channel. Dropping it closes the connection without a goodbye.
pub(crate) struct CstpChannel {
    pub(crate) parameters: Parameters,
    pub(crate) cookie: String,
    to_write: mpsc::Sender<Bytes>,
    read: mpsc::Receiver<Frame>,
    /// The reader and the writer; they end with the channel.
    tasks: JoinSet<()>,
}

impl CstpChannel {
    pub(crate) fn new(opened: Opened) -> Self {
        let (reads, writes) = tokio::io::split(opened.stream);
        let (to_write, queue) = mpsc::channel(TO_WRITE_MAX);
        let (deliver, read) = mpsc::channel(READ_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(read_frames(reads, opened.ahead, deliver));
        tasks.spawn(write_frames(writes, queue));
        Self { parameters: opened.parameters, cookie: opened.cookie, to_write, read, tasks }
    }

    /// Queues a frame; false where the queue is full or the connection gone, and the frame is lost.
    pub(crate) fn send(&self, kind: Kind, payload: &[u8]) -> bool {
        let mut frame = BytesMut::new();
        put_cstp(kind, payload, &mut frame);
        self.to_write.try_send(frame.freeze()).is_ok()
    }

    /// The next frame; `None` when the connection has ended. Can be cancelled.
    pub(crate) async fn receive(&mut self) -> Option<Frame> {
        self.read.recv().await
    }

    /// The next frame that is there already.
    pub(crate) fn try_receive(&mut self) -> Option<Frame> {
        self.read.try_recv().ok()
    }

    /// Says goodbye, writes what is queued and closes.
    pub(crate) async fn close(self) {
        let Self { to_write, mut tasks, read, .. } = self;
        let mut frame = BytesMut::new();
        // 0xb0 stands before the reason, as the stock client writes it.
        put_cstp(Kind::Disconnect, b"\xb0Client ends the session", &mut frame);
        to_write.send(frame.freeze()).await.ok();
        drop((to_write, read));
        // The writer ends with its queue, the reader with the gateway, if that listens.
        let ended = async { while tasks.join_next().await.is_some() {} };
        tokio::time::timeout(GOODBYE_MAX, ended).await.ok();
    }
}

async fn read_frames(
    mut stream: ReadHalf<BoxStream>,
    mut buffer: BytesMut,
    deliver: mpsc::Sender<Frame>,
) {
    loop {
        // What is no frame ends the channel.
        let Ok(next) = take_cstp(&mut buffer) else { return };
        if let Some(frame) = next {
            if deliver.send(frame).await.is_err() {
                return;
            }
            continue;
        }
        buffer.reserve(READ_BYTES);
        if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
    }
}

async fn write_frames(mut stream: WriteHalf<BoxStream>, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(frame) = queue.recv().await {
        // One write is one record: the stock client counts on it, and so may a gateway.
        if stream.write_all(&frame).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
    stream.shutdown().await.ok();
}
