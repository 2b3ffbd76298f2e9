//! What is known of an origin before it is asked: learned, never assumed beyond its time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::bounded::Bounded;
use super::fault::Finding;
use super::origin::OriginFacts;

/// Profiles kept per tenant, some 300 bytes each.
const PROFILES_MAX: usize = 4096;

/// How long a clean profile saves the client a round trip. A wrong one costs a new connection and
/// never a request.
const LIFETIME: Duration = Duration::from_secs(600);

/// A fault is often being repaired while users press reload.
const FAULTY_LIFETIME: Duration = Duration::from_secs(30);

/// Which origin: the same name may be served differently by each of its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProfileKey {
    pub host: Arc<str>,
    pub port: u16,
    pub address: IpAddr,
}

/// What an origin was seen to speak.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Profile {
    /// What it chose of `h2, http/1.1`; `None` where it ignored ALPN.
    pub alpn: Option<Vec<u8>>,
    /// The faults of its certificate.
    pub findings: Vec<Finding>,
    pub wants_client_certificate: bool,
    /// Its SETTINGS had ENABLE_CONNECT_PROTOCOL (RFC 8441); `None` until they were seen.
    pub connect_protocol: Option<bool>,
    /// It answered HTTP_1_1_REQUIRED: HTTP/2 is no longer tried.
    pub http1_only: bool,
    /// It asked for a login that is bound to a connection (NTLM, Negotiate) over HTTP/1.1, which
    /// HTTP/2 cannot carry: clients are not offered it.
    pub binds_login: bool,
    /// Seen in a resumed handshake, in which no client certificate is ever asked for.
    pub resumed: bool,
}

impl From<&OriginFacts> for Profile {
    fn from(facts: &OriginFacts) -> Self {
        Self {
            alpn: facts.alpn.clone(),
            findings: facts.certificate.findings.clone(),
            wants_client_certificate: facts.wanted_client_certificate,
            connect_protocol: None,
            http1_only: false,
            binds_login: false,
            resumed: facts.resumed,
        }
    }
}

/// One tenant's profiles.
#[derive(Debug)]
pub struct Profiles {
    known: Mutex<Bounded<ProfileKey, Learned>>,
}

#[derive(Debug)]
struct Learned {
    profile: Arc<Profile>,
    at: Instant,
}

impl Profiles {
    #[must_use]
    pub fn new() -> Self {
        Self { known: Mutex::new(Bounded::new(PROFILES_MAX)) }
    }

    /// What is known of `key` at `now`.
    #[must_use]
    pub fn find(&self, key: &ProfileKey, now: Instant) -> Option<Arc<Profile>> {
        let mut known = self.known.lock();
        let learned = known.find(key)?;
        let lifetime = if learned.profile.findings.is_empty() { LIFETIME } else { FAULTY_LIFETIME };
        if now.saturating_duration_since(learned.at) < lifetime {
            return Some(Arc::clone(&learned.profile));
        }
        known.remove(key);
        None
    }

    /// Records what was just seen. A handshake does not show the origin's SETTINGS, and a resumed
    /// one not that a client certificate is wanted: what is known of those stands.
    pub fn learn(&self, key: ProfileKey, mut profile: Profile, now: Instant) -> Arc<Profile> {
        let mut known = self.known.lock();
        if let Some(before) = known.find(&key) {
            let before = &before.profile;
            profile.connect_protocol = profile.connect_protocol.or(before.connect_protocol);
            profile.http1_only |= before.http1_only;
            profile.binds_login |= before.binds_login;
            profile.wants_client_certificate |= profile.resumed && before.wants_client_certificate;
        }
        let profile = Arc::new(profile);
        known.insert(key, Learned { profile: Arc::clone(&profile), at: now });
        profile
    }

    /// Records whether the origin's SETTINGS allow extended CONNECT.
    pub fn note_connect_protocol(&self, key: &ProfileKey, allowed: bool) {
        if let Some(learned) = self.known.lock().find(key) {
            Arc::make_mut(&mut learned.profile).connect_protocol = Some(allowed);
        }
    }

    /// Records that the origin refused HTTP/2 with HTTP_1_1_REQUIRED.
    pub fn note_http1_only(&self, key: &ProfileKey, now: Instant) {
        self.note(key, now, |profile| profile.http1_only = true);
    }

    /// Records that the origin binds logins to connections.
    pub fn note_binds_login(&self, key: &ProfileKey, now: Instant) {
        self.note(key, now, |profile| profile.binds_login = true);
    }

    /// A connection may outlive the profile that was made from its handshake; what it teaches is
    /// kept all the same, and every new connection is verified whatever a profile says.
    fn note(&self, key: &ProfileKey, now: Instant, change: impl FnOnce(&mut Profile)) {
        let mut known = self.known.lock();
        if let Some(learned) = known.find(key) {
            return change(Arc::make_mut(&mut learned.profile));
        }
        let mut profile = Profile::default();
        change(&mut profile);
        known.insert(key.clone(), Learned { profile: Arc::new(profile), at: now });
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.lock().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Profiles {
    fn default() -> Self {
        Self::new()
    }
}
