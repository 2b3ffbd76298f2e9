//! The gateway's end of a connection that the kernel's TCP carries.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::flows::Flows;

/// One connection. While it lives nobody else gets its session's address.
pub struct KernelTcp {
    stream: TcpStream,
    /// `None` where no session has it.
    place: Option<Place>,
}

struct Place {
    flows: Arc<Flows>,
    port: u16,
    number: u64,
}

impl KernelTcp {
    pub(super) fn new(stream: TcpStream, flows: Arc<Flows>, port: u16, number: u64) -> Self {
        Self { stream, place: Some(Place { flows, port, number }) }
    }

    /// One that nobody wants; it is reset when it is dropped.
    pub(super) fn stray(stream: TcpStream) -> Self {
        Self { stream, place: None }
    }
}

impl Drop for KernelTcp {
    /// What was written still goes out, unless the session has ended: then the kernel keeps nothing.
    fn drop(&mut self) {
        if self.place.as_ref().is_none_or(|place| place.flows.is_over()) {
            drop(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
        }
        if let Some(Place { flows, port, number }) = &self.place {
            flows.let_go(*port, *number);
        }
    }
}

impl AsyncRead for KernelTcp {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for KernelTcp {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
