//! One message with descriptors, from the process that makes the network to the gateway.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::network::Size;

/// The device, and listeners for three sizes of two families; no message has more.
const DESCRIPTORS_MAX: usize = 7;
/// A message is a few lines of text.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// What the maker of the network says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    Made(Made),
    /// What could not be had, and why.
    Cannot(String),
}

/// A network. Its descriptors are the device's first, then the listeners' in order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) listeners: Vec<Size>,
    pub(super) has_ipv6: bool,
    pub(super) congestion: String,
    /// Settings of the namespace that could not be written.
    pub(super) unset: Vec<String>,
}

pub(super) fn send(
    to: BorrowedFd<'_>,
    said: &Said,
    descriptors: &[BorrowedFd<'_>],
) -> std::io::Result<()> {
    let text = serde_json::to_vec(said)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    sendmsg(to, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

pub(super) fn receive(from: &UnixStream) -> std::io::Result<(Said, Vec<OwnedFd>)> {
    let mut text = vec![0; TEXT_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(from, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let said = text.get(..received.bytes).filter(|text| !text.is_empty());
    let said = said.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((serde_json::from_slice(said)?, descriptors))
}
