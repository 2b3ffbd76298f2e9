//! The tickets origins gave to one tenant.

use std::collections::VecDeque;
use std::fmt;

use parking_lot::Mutex;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use super::bounded::Bounded;

/// Names remembered per tenant.
const NAMES_MAX: usize = 512;

/// Tickets kept per name: origins send two per connection, and each serves once.
const TICKETS_MAX: usize = 4;

/// One tenant's memory of sessions with origins. Never shared: a ticket identifies the client
/// to the origin and carries what was verified for it.
pub(crate) struct Sessions {
    names: Mutex<Bounded<ServerName<'static>, Session>>,
}

#[derive(Default)]
struct Session {
    /// The last certificate seen had a fault: nothing of it is resumed.
    faulty: bool,
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { names: Mutex::new(Bounded::new(NAMES_MAX)) }
    }

    /// Records how the last certificate of `name` was judged. A faulty one takes all tickets with
    /// it, and none is taken until a handshake is found clean again.
    pub(crate) fn mark(&self, name: &ServerName<'static>, faulty: bool) {
        let mut names = self.names.lock();
        match names.find(name) {
            Some(session) if session.faulty == faulty => {}
            Some(session) => {
                session.faulty = faulty;
                session.tls12 = None;
                session.tls13.clear();
            }
            None if faulty => {
                names.insert(name.clone(), Session { faulty, ..Session::default() });
            }
            None => {}
        }
    }

    fn with(&self, name: ServerName<'static>, change: impl FnOnce(&mut Session)) {
        let mut names = self.names.lock();
        match names.find(&name) {
            Some(session) => change(session),
            None => {
                let mut session = Session::default();
                change(&mut session);
                names.insert(name, session);
            }
        }
    }

    fn find<T>(
        &self,
        name: &ServerName<'_>,
        take: impl FnOnce(&mut Session) -> Option<T>,
    ) -> Option<T> {
        take(self.names.lock().find(&name.to_owned())?)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.with(server_name, |session| session.group = Some(group));
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.find(server_name, |session| session.group)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.with(server_name, |session| {
            if !session.faulty {
                session.tls12 = Some(value);
            }
        });
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.find(server_name, |session| session.tls12.clone())
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.find(server_name, |session| session.tls12.take());
    }

    fn insert_tls13_ticket(
        &self,
        server_name: ServerName<'static>,
        value: Tls13ClientSessionValue,
    ) {
        self.with(server_name, |session| {
            if !session.faulty {
                if session.tls13.len() >= TICKETS_MAX {
                    session.tls13.pop_front();
                }
                session.tls13.push_back(value);
            }
        });
    }

    fn take_tls13_ticket(
        &self,
        server_name: &ServerName<'static>,
    ) -> Option<Tls13ClientSessionValue> {
        self.find(server_name, |session| session.tls13.pop_back())
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sessions").field("names", &self.names.lock().len()).finish()
    }
}
