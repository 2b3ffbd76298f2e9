//! Asks DNS: both families at once, and what their answers come to.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{ADDRESSES_MAX, ResolveError};

/// An answer that may not be kept at all is still used by whoever asked together.
const KEPT_MIN: Duration = Duration::from_secs(1);

/// Addresses move; nobody waits longer than an hour for us to notice.
const KEPT_MAX: Duration = Duration::from_secs(3600);

/// That a name does not exist is forgotten soon: it may be new.
const ABSENCE_KEPT_MAX: Duration = Duration::from_secs(60);

/// A failed resolution is remembered just long enough to absorb a storm (RFC 9520 section 3.2).
const FAILURE_KEPT: Duration = Duration::from_secs(2);

/// How long one family's answer waits for the other's (RFC 8305 section 3).
const SECOND_FAMILY_GRACE: Duration = Duration::from_millis(50);

/// Asks name servers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) upstream: TokioResolver,
    /// All attempts of one lookup together.
    pub(super) patience: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) addresses: Result<Arc<[IpAddr]>, ResolveError>,
    pub(super) until: Instant,
}

impl Asker {
    /// Asks for `host` at `now`, under the allowance `queries`.
    pub(super) async fn ask(&self, queries: &Semaphore, host: &str, now: Instant) -> Answer {
        let began = Instant::now();
        let mut answer = self.asked(queries, host).await;
        answer.until = now + answer.until.saturating_duration_since(began);
        answer
    }

    async fn asked(&self, queries: &Semaphore, host: &str) -> Answer {
        let Ok(_query) = queries.try_acquire() else {
            return Answer::failure(ResolveError::Busy, Duration::ZERO);
        };
        // The final dot keeps search domains out of it.
        let Ok(name) = Name::from_ascii(format!("{host}.")) else {
            return Answer::failure(ResolveError::Name, FAILURE_KEPT);
        };
        match timeout(self.patience, self.both_families(&name)).await {
            Ok(answer) => answer,
            Err(_) => Answer::failure(ResolveError::Timeout, FAILURE_KEPT),
        }
    }

    /// The records of another type as they are now; a bounded wait, nothing is remembered.
    pub(super) async fn records(
        &self,
        queries: &Semaphore,
        name: &Name,
        kind: RecordType,
    ) -> Result<Vec<Record>, ResolveError> {
        let Ok(_query) = queries.try_acquire() else { return Err(ResolveError::Busy) };
        match timeout(self.patience, self.upstream.lookup(name.clone(), kind)).await {
            Ok(Ok(lookup)) => Ok(lookup.answers().to_vec()),
            Ok(Err(error)) => Err(classify(&error).0),
            Err(_) => Err(ResolveError::Timeout),
        }
    }

    /// Asks for both families at once; an answer of one waits only briefly for the other.
    async fn both_families(&self, name: &Name) -> Answer {
        let mut v6 = pin!(self.upstream.lookup(name.clone(), RecordType::AAAA));
        let mut v4 = pin!(self.upstream.lookup(name.clone(), RecordType::A));
        let (mut got_v6, mut got_v4) = (None, None);
        let mut grace = pin!(sleep(self.patience));
        while got_v6.is_none() || got_v4.is_none() {
            tokio::select! {
                found = &mut v6, if got_v6.is_none() => got_v6 = Some(found),
                found = &mut v4, if got_v4.is_none() => got_v4 = Some(found),
                () = &mut grace => break,
            }
            if matches!((&got_v6, &got_v4), (Some(Ok(_)), None) | (None, Some(Ok(_)))) {
                grace.set(sleep(SECOND_FAMILY_GRACE));
            }
        }
        Answer::of(got_v6, got_v4)
    }
}

type Found = Option<Result<Lookup, NetError>>;

impl Answer {
    fn failure(error: ResolveError, kept: Duration) -> Self {
        Self { addresses: Err(error), until: Instant::now() + kept }
    }

    fn of(v6: Found, v4: Found) -> Self {
        let now = Instant::now();
        let mut kept = KEPT_MAX;
        let mut families = [Vec::new(), Vec::new()];
        let mut failure: Option<(ResolveError, Duration)> = None;
        for (found, addresses) in [v6, v4].into_iter().zip(&mut families) {
            match found {
                Some(Ok(lookup)) => {
                    kept = kept.min(lookup.valid_until().saturating_duration_since(now));
                    addresses.extend(lookup.answers().iter().filter_map(address));
                }
                Some(Err(error)) => failure = worse(failure, classify(&error)),
                None => failure = worse(failure, (ResolveError::Timeout, FAILURE_KEPT)),
            }
        }
        let [v6, v4] = families;
        let addresses = in_order(&v6, &v4);
        match failure {
            _ if !addresses.is_empty() => {
                // With one family missing, ask again soon.
                let kept = if failure.is_some_and(|(error, _)| !error.is_absence()) {
                    kept.min(FAILURE_KEPT)
                } else {
                    kept
                };
                Self { addresses: Ok(addresses), until: now + kept.max(KEPT_MIN) }
            }
            Some((error, kept)) => Self::failure(error, kept),
            None => Self::failure(ResolveError::NoAddress, FAILURE_KEPT),
        }
    }
}

/// Of two families' failures the one that says more: any failure before mere absence.
fn worse(
    before: Option<(ResolveError, Duration)>,
    now: (ResolveError, Duration),
) -> Option<(ResolveError, Duration)> {
    match before {
        Some(before) if !before.0.is_absence() || now.0.is_absence() => Some(before),
        _ => Some(now),
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

/// Both families in turn (RFC 8305 section 4), IPv6 first where this machine has a way there.
pub(super) fn in_order(v6: &[IpAddr], v4: &[IpAddr]) -> Arc<[IpAddr]> {
    let v6_first = !v6.is_empty() && has_ipv6();
    let (first, second) = if v6_first { (v6, v4) } else { (v4, v6) };
    let mut ordered = Vec::with_capacity(first.len().saturating_add(second.len()));
    let (mut first, mut second) = (first.iter(), second.iter());
    loop {
        let (a, b) = (first.next(), second.next());
        ordered.extend(a.into_iter().chain(b).copied());
        if (a.is_none() && b.is_none()) || ordered.len() >= ADDRESSES_MAX {
            break;
        }
    }
    ordered.truncate(ADDRESSES_MAX);
    ordered.into()
}

/// Whether there is a route to the public IPv6 internet. Sends nothing: connecting a datagram
/// socket only looks the route up.
fn has_ipv6() -> bool {
    let probe = SocketAddr::new(Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 0x1111).into(), 53);
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok_and(|socket| socket.connect(probe).is_ok())
}

fn classify(error: &NetError) -> (ResolveError, Duration) {
    let kind = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let kept = Duration::from_secs(none.negative_ttl.unwrap_or(0).into())
                .clamp(KEPT_MIN, ABSENCE_KEPT_MAX);
            return match none.response_code {
                ResponseCode::NXDomain => (ResolveError::NotFound, kept),
                _ => (ResolveError::NoAddress, kept),
            };
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            ResolveError::ServerFailure
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => ResolveError::Refused,
        NetError::Timeout => ResolveError::Timeout,
        NetError::Io(_) | NetError::NoConnections | NetError::Busy => ResolveError::Unreachable,
        _ => ResolveError::Malformed,
    };
    (kind, FAILURE_KEPT)
}
