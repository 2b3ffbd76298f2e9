//! Where reading goes on: opaque to callers, good over restarts.

use super::read::ReadError;

/// The next event, and the line before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) next: u64,
    /// Where the line before ends in its segment; 0 at the beginning of one.
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) checksum: u32,
}

impl Cursor {
    pub(super) fn print(self) -> String {
        format!("{:x}-{:x}-{:x}-{:x}", self.next, self.offset, self.length, self.checksum)
    }

    pub(super) fn parse(text: &str) -> Result<Self, ReadError> {
        let mut parts = text.split('-').map(|part| u64::from_str_radix(part, 16));
        let mut part = || parts.next().and_then(Result::ok).ok_or(ReadError::Cursor);
        let (next, offset, length) = (part()?, part()?, part()?);
        let checksum = u32::try_from(part()?).map_err(|_| ReadError::Cursor)?;
        if parts.next().is_some() {
            return Err(ReadError::Cursor);
        }
        Ok(Self { next, offset, length, checksum })
    }
}
