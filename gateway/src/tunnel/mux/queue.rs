//! Bytes on their way through a stream: large chunks as they are, small ones put together.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// A chunk below this is copied: it may be a slice of a read buffer 32 times its size.
const ALONE_MIN: usize = 1024;

/// Behind other bytes, a chunk below this is copied, so that a reader who lags holds at most four
/// times what is queued.
const BEHIND_MIN: usize = 8 * 1024;

/// Copied bytes are closed off as a chunk at this size.
const SEAL_BYTES: usize = 16 * 1024;

/// An empty queue keeps room for no more chunks than this.
const KEEP_CHUNKS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct ChunkQueue {
    chunks: VecDeque<Bytes>,
    /// Copied bytes, behind `chunks`.
    tail: BytesMut,
    length: usize,
}

impl ChunkQueue {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        if chunk.len() < ALONE_MIN || (!self.is_empty() && chunk.len() < BEHIND_MIN) {
            self.push_copy(&chunk);
            return;
        }
        self.seal();
        self.length = self.length.saturating_add(chunk.len());
        self.chunks.push_back(chunk);
    }

    pub(super) fn push_copy(&mut self, bytes: &[u8]) {
        if self.tail.len().saturating_add(bytes.len()) > SEAL_BYTES {
            self.seal();
        }
        self.length = self.length.saturating_add(bytes.len());
        if bytes.len() >= SEAL_BYTES {
            self.chunks.push_back(Bytes::copy_from_slice(bytes));
        } else {
            self.tail.extend_from_slice(bytes);
        }
    }

    /// The next bytes in one piece, at most `max`.
    pub(super) fn take(&mut self, max: usize) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.seal();
        }
        let front = self.chunks.front_mut()?;
        let piece = if front.len() > max {
            front.split_to(max)
        } else {
            self.chunks.pop_front().unwrap_or_default()
        };
        self.length = self.length.saturating_sub(piece.len());
        if self.length == 0 && self.chunks.capacity() > KEEP_CHUNKS {
            self.chunks = VecDeque::new();
        }
        Some(piece)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }
}
