//! The state that the driver and the streams share.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use gateway_proto::fields::Fields;
use gateway_proto::h2::Code;

use super::ending::StreamFault;
use super::request::Request;
use super::settings::Settings;
use crate::limit::window::TunnelWindow;

#[derive(Debug)]
pub(super) struct Shared {
    _settings: Settings,
    _budget: TunnelWindow,
}

impl Shared {
    pub(super) fn new(settings: Settings, budget: TunnelWindow) -> Self {
        Self { _settings: settings, _budget: budget }
    }
    pub(super) fn poll_request(_: &Arc<Self>, _: &mut Context<'_>) -> Poll<Option<Request>> {
        Poll::Ready(None)
    }
    pub(super) fn poll_chunk(
        &self,
        _: u32,
        _: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        Poll::Ready(Ok(None))
    }
    pub(super) fn take_trailers(&self, _: u32) -> Option<Fields> {
        None
    }
    pub(super) fn poll_room(&self, _: u32, _: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(StreamFault::TunnelEnded.into()))
    }
    pub(super) fn push(&self, _: u32, _: Bytes) {}
    pub(super) fn push_copy(&self, _: u32, _: &[u8]) {}
    pub(super) fn push_slices(&self, _: u32, _: &[IoSlice<'_>], _: usize) -> usize {
        0
    }
    pub(super) fn alive(&self, _: u32) -> io::Result<()> {
        Err(StreamFault::TunnelEnded.into())
    }
    pub(super) fn finish(&self, _: u32, _: Option<&Fields>) {}
    pub(super) fn send_head(&self, _: u32, _: u16, _: &Fields, _: bool) {}
    pub(super) fn reset(&self, _: u32, _: Code) {}
    pub(super) fn poll_broken(&self, _: u32, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
    pub(super) fn drop_reader(&self, _: u32) {}
    pub(super) fn drop_writer(&self, _: u32, _: bool) {}
    pub(super) fn refuse_more(&self) {}
    pub(super) fn drain(&self) {}
    pub(super) fn close(&self) {}
    pub(super) fn streams(&self) -> u32 {
        0
    }
    pub(super) fn bytes_in(&self) -> u64 {
        0
    }
    pub(super) fn bytes_out(&self) -> u64 {
        0
    }
}
