//! What cannot be decrypted: noticed, counted per host and device, with a rule to suggest; and,
//! where the tenant wants that, pinned clients let pass for a while.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use moka::sync::Cache;
use parking_lot::Mutex;

/// Sightings remembered per tenant, some 400 bytes each; the least used are forgotten first.
const SIGHTINGS_MAX: u64 = 4_096;

/// Programs learned about per tenant. One that is pushed out is decrypted again and must be
/// learned again, so forgetting errs on the side of looking.
const PROGRAMS_MAX: u64 = 4_096;

/// Alerts against our certificate that make a pinned program. One may be a moment in which the
/// device's store was being changed; a program that retries and refuses again means it.
const REFUSALS_MIN: u32 = 2;

/// Connections closed without a word right after our certificate that do. A closed connection
/// has many causes (a page left, a spare connection given up), so it takes one more, with none
/// used between them.
const CLOSES_MIN: u32 = 3;

/// Signs further apart than this are not counted together: retries come within minutes.
const LEARNING_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// How long a pinned program is let pass. A working day: longer would hide that an update took
/// the pin away or that the device got the CA; shorter would break the program every few hours,
/// since each end costs it the connections in which it is learned anew.
const PASS_TIME: Duration = Duration::from_secs(8 * 3600);

/// Why a host cannot be decrypted for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The client accepts no certificate but the origin's own.
    ClientPinned,
    /// The origin asks for a certificate of the client, which we never have.
    ClientCertificate,
    /// The origin has no TLS that a current library speaks.
    ObsoleteOrigin,
    /// What goes on inside the TLS is not HTTP.
    NotHttp,
}

impl Reason {
    /// The stable name in events and at `/v1/pinned`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ClientPinned => "client_pinned",
            Self::ClientCertificate => "client_certificate_wanted",
            Self::ObsoleteOrigin => "origin_tls_obsolete",
            Self::NotHttp => "not_http",
        }
    }
}

/// How a client showed that it does not accept our certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// By an alert that says so.
    Refused,
    /// It closed without a word, before it had used the connection.
    Closed,
}

/// Who met what: one flow's client and destination.
#[derive(Clone, Debug)]
pub struct Encounter<'a> {
    pub host: &'a str,
    pub port: u16,
    pub user: &'a str,
    pub device: Option<&'a str>,
    pub app: Option<&'a str>,
    pub ja4: Option<&'a str>,
}

/// What was seen of one host on one device.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub host: Arc<str>,
    pub port: u16,
    pub reason: Reason,
    pub device: Option<Arc<str>>,
    pub user: Arc<str>,
    pub app: Option<Arc<str>>,
    /// The client program, as last seen.
    pub ja4: Option<Arc<str>>,
    pub count: u64,
    /// Flows let pass undecrypted by the tenant's setting.
    pub passed: u64,
    pub first: SystemTime,
    pub last: SystemTime,
}

/// A device, or a user without one.
type Whose = (Arc<str>, Option<Arc<str>>);
type SightingKey = (Arc<str>, u16, Whose, Reason);
type ProgramKey = (Arc<str>, u16, Whose, Arc<str>);

#[derive(Debug)]
struct Learned {
    refusals: u32,
    closes: u32,
    last: Instant,
    passes_until: Option<Instant>,
}

/// One tenant's sightings, and the pinned programs that it lets pass.
pub struct Pinned {
    sightings: Cache<SightingKey, Arc<Mutex<Sighting>>>,
    programs: Cache<ProgramKey, Arc<Mutex<Learned>>>,
    suspected: AtomicBool,
}

impl Default for Pinned {
    fn default() -> Self {
        Self {
            sightings: Cache::new(SIGHTINGS_MAX),
            programs: Cache::new(PROGRAMS_MAX),
            suspected: AtomicBool::new(false),
        }
    }
}

impl Pinned {
    /// Counts one flow that could not be decrypted; `passed` where it was let through.
    pub fn note(&self, met: &Encounter<'_>, reason: Reason, passed: bool, now: SystemTime) {
        let host: Arc<str> = met.host.into();
        let key = (Arc::clone(&host), met.port, met.whose(), reason);
        let entry = self.sightings.get_with(key, || {
            Arc::new(Mutex::new(Sighting {
                host,
                port: met.port,
                reason,
                device: met.device.map(Into::into),
                user: met.user.into(),
                app: met.app.map(Into::into),
                ja4: None,
                count: 0,
                passed: 0,
                first: now,
                last: now,
            }))
        });
        let mut sighting = entry.lock();
        sighting.count = sighting.count.saturating_add(1);
        sighting.passed = sighting.passed.saturating_add(u64::from(passed));
        if let Some(ja4) = met.ja4 {
            sighting.ja4 = Some(ja4.into());
        }
        sighting.last = now;
    }

    /// Learns from one sign of a pinned program; `true` where the signs now suffice.
    pub fn learn(&self, met: &Encounter<'_>, sign: Sign, now: Instant) -> bool {
        let Some(key) = met.program() else { return false };
        self.suspected.store(true, Ordering::Relaxed);
        let entry = self.programs.get_with(key, || {
            Arc::new(Mutex::new(Learned { refusals: 0, closes: 0, last: now, passes_until: None }))
        });
        let mut learned = entry.lock();
        if now.saturating_duration_since(learned.last) > LEARNING_TIME_MAX {
            (learned.refusals, learned.closes) = (0, 0);
        }
        learned.last = now;
        match sign {
            Sign::Refused => learned.refusals = learned.refusals.saturating_add(1),
            Sign::Closed => learned.closes = learned.closes.saturating_add(1),
        }
        let suffice = learned.refusals >= REFUSALS_MIN
            || learned.refusals.saturating_add(learned.closes) >= CLOSES_MIN;
        if suffice {
            (learned.refusals, learned.closes) = (0, 0);
            learned.passes_until = Some(now + PASS_TIME);
        }
        suffice
    }

    /// Whether this program is known to be pinned for this host. Only to be acted on where the
    /// tenant lets such pass.
    #[must_use]
    pub fn passes(&self, met: &Encounter<'_>, now: Instant) -> bool {
        let Some(entry) = met.program().and_then(|key| self.programs.get(&key)) else {
            return false;
        };
        let until = entry.lock().passes_until;
        until.is_some_and(|until| now < until)
    }

    /// Whether no program has ever shown a sign of being pinned, as is usual.
    #[must_use]
    pub fn suspects_nobody(&self) -> bool {
        !self.suspected.load(Ordering::Relaxed)
    }

    /// This program has used a connection under our certificate: it is not pinned.
    pub fn trusts(&self, met: &Encounter<'_>) {
        if let Some(key) = met.program() {
            self.programs.invalidate(&key);
        }
    }

    /// All sightings, most frequent first.
    #[must_use]
    pub fn all(&self) -> Vec<Sighting> {
        let mut all: Vec<_> =
            self.sightings.iter().map(|(_, entry)| entry.lock().clone()).collect();
        all.sort_by(|a, b| {
            b.count
                .cmp(&a.count)
                .then_with(|| (&a.host, a.port, a.reason).cmp(&(&b.host, b.port, b.reason)))
        });
        all
    }
}

impl Encounter<'_> {
    /// A device's users share its programs; without a device the user stands for it.
    pub(super) fn whose(&self) -> Whose {
        match self.device {
            Some(device) => ("".into(), Some(device.into())),
            None => (self.user.into(), None),
        }
    }

    /// One program on one device at one host. A flow without a fingerprint is nobody's.
    fn program(&self) -> Option<ProgramKey> {
        Some((self.host.into(), self.port, self.whose(), stack(self.ja4?).into()))
    }
}

/// The part of a JA4 that is the same whether a client resumes or not: what it offers by way of
/// versions, suites and protocols, without its extensions, one of which is the ticket.
pub(super) fn stack(ja4: &str) -> String {
    let mut parts = ja4.split('_');
    let (head, suites) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // `t13d`, the number of suites, the number of extensions, the first protocol.
    let (before, after) = (head.get(..6).unwrap_or(head), head.get(8..).unwrap_or_default());
    format!("{before}{after}_{suites}")
}

impl Sighting {
    /// A decrypt rule that lets this host pass undecrypted, to be pasted below `rules:` of
    /// `decrypt` in tenant.yaml.
    #[must_use]
    pub fn suggested_rule(&self) -> String {
        let host = &self.host;
        let place = match host.parse::<IpAddr>() {
            Ok(_) => format!("dest_ip: [\"{host}\"]"),
            Err(_) => format!("domain: [\"{host}\"]"),
        };
        let (name, port) = match self.port {
            443 => (host.to_string(), String::new()),
            port => (format!("{host}:{port}"), format!(", dest_port: [{port}]")),
        };
        format!(
            "    - name: \"{name}: {reason}\"\n      match: {{ {place}{port} }}\n      action: bypass\n",
            reason = self.reason.label(),
        )
    }
}

#[cfg(test)]
mod tests;
