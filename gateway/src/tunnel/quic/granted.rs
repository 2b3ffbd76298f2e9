//! How many streams a client may have open: few, until it shows that it needs more. The library sets memory aside for
//! each that it allows, some 200 bytes.

use quinn::{Connection, VarInt};

/// What is granted next, as a multiple.
const STEP: u32 = 4;

/// What one client may have open now.
pub struct Granted(u32);

impl Granted {
    /// So many at first.
    #[must_use]
    pub fn new(first: u32) -> Self {
        Self(first)
    }

    /// So many are open: where that is half of what may be, more may be from now on, up to `most`.
    pub fn used(&mut self, connection: &Connection, open: usize, most: u32) {
        let more = self.0.saturating_mul(STEP).min(most);
        if open >= self.0 as usize / 2 && more > self.0 {
            self.0 = more;
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(more));
        }
    }
}
