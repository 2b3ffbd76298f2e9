//! Which programs do not take our certificates over QUIC: browsers want an authority there that the
//! whole world knows. They are refused QUIC for a while, at once, so that they take TLS without loss.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use super::pinned::{Encounter, stack};

/// Programs remembered per tenant, some 200 bytes each. One that is pushed out tries once more.
const PROGRAMS_MAX: u64 = 16_384;
/// How long a program is refused. A working day, as with pinned programs: an update or a new
/// authority shows on the next.
const REFUSED_TIME: Duration = Duration::from_secs(8 * 3600);
/// Handshakes given up without a word that make one: the first may have had another cause.
const CLOSES_MIN: u32 = 2;
/// Closes further apart than this are not counted together.
const CLOSES_TIME: Duration = Duration::from_secs(15 * 60);

/// One tenant's programs.
pub struct QuicRefusals {
    programs: Cache<Program, ()>,
    devices: Cache<Whose, ()>,
    closes: Cache<Program, u32>,
}

/// A device, or a user without one.
pub type Whose = (Arc<str>, Option<Arc<str>>);

/// A program on a device, by what it offers in its handshake.
pub type Program = (Whose, Arc<str>);

/// The program that was met. One without a fingerprint is nobody's.
#[must_use]
pub fn program_of(met: &Encounter<'_>) -> Option<Program> {
    Some((met.whose(), stack(met.ja4?).into()))
}

/// The device, or user, that was met.
#[must_use]
pub fn whose(met: &Encounter<'_>) -> Whose {
    met.whose()
}

impl Default for QuicRefusals {
    fn default() -> Self {
        Self {
            programs: Cache::builder()
                .max_capacity(PROGRAMS_MAX)
                .time_to_live(REFUSED_TIME)
                .build(),
            devices: Cache::builder().max_capacity(PROGRAMS_MAX).time_to_live(REFUSED_TIME).build(),
            closes: Cache::builder().max_capacity(PROGRAMS_MAX).time_to_live(CLOSES_TIME).build(),
        }
    }
}

impl QuicRefusals {
    /// The program said that it does not accept our certificate.
    pub fn refused(&self, program: &Program) {
        self.devices.insert(program.0.clone(), ());
        self.programs.insert(program.clone(), ());
    }

    /// It gave a handshake up without saying why.
    pub fn closed(&self, program: &Program) {
        let before = self.closes.get(program).unwrap_or(0);
        self.closes.insert(program.clone(), before + 1);
        if before + 1 >= CLOSES_MIN {
            self.refused(program);
        }
    }

    /// It uses a connection under our certificate.
    pub fn trusts(&self, program: &Program) {
        self.closes.invalidate(program);
    }

    /// Whether QUIC is to be refused to it without another try.
    #[must_use]
    pub fn knows(&self, program: &Program) -> bool {
        self.programs.contains_key(program)
    }

    /// Whether any program of a device is known to want none.
    #[must_use]
    pub fn knows_device(&self, whose: &Whose) -> bool {
        self.devices.contains_key(whose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(device: &str, stack: &str) -> Program {
        (("".into(), Some(device.into())), stack.into())
    }

    #[test]
    fn an_alert_suffices_and_a_silent_end_only_as_a_habit() {
        let refusals = QuicRefusals::default();
        let (browser, other) = (program("laptop-1", "q13d_a"), program("laptop-1", "q13d_b"));
        refusals.closed(&browser);
        assert!(!refusals.knows(&browser));
        refusals.trusts(&browser);
        refusals.closed(&browser);
        assert!(!refusals.knows(&browser) && !refusals.knows_device(&browser.0));
        refusals.closed(&browser);
        assert!(refusals.knows(&browser) && refusals.knows_device(&browser.0));
        assert!(!refusals.knows(&other), "another program of the device");
        refusals.refused(&other);
        assert!(refusals.knows(&other));
        assert!(!refusals.knows_device(&program("laptop-2", "").0));
    }
}
