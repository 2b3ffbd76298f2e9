//! Hosts whose certificate clients refuse: noticed, counted per device, with a rule to suggest.

use std::sync::Arc;
use std::time::SystemTime;

use moka::sync::Cache;
use parking_lot::Mutex;

/// Pairs of host and device remembered per tenant; the least used are forgotten first.
const PAIRS_MAX: u64 = 4_096;

/// What was seen of one host on one device.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub host: Arc<str>,
    pub device: Option<Arc<str>>,
    pub app: Option<Arc<str>>,
    pub count: u64,
    pub first: SystemTime,
    pub last: SystemTime,
}

type Pair = (Arc<str>, Option<Arc<str>>);

/// One tenant's sightings.
pub struct Pinned(Cache<Pair, Arc<Mutex<Sighting>>>);

impl Default for Pinned {
    fn default() -> Self {
        Self(Cache::new(PAIRS_MAX))
    }
}

impl Pinned {
    /// Counts one refusal of our certificate.
    pub fn note(&self, host: &str, device: Option<&str>, app: Option<&str>, now: SystemTime) {
        let host: Arc<str> = host.into();
        let device: Option<Arc<str>> = device.map(Into::into);
        let entry = self.0.get_with((Arc::clone(&host), device.clone()), || {
            Arc::new(Mutex::new(Sighting {
                host,
                device,
                app: app.map(Into::into),
                count: 0,
                first: now,
                last: now,
            }))
        });
        let mut sighting = entry.lock();
        sighting.count += 1;
        sighting.last = now;
    }

    /// All sightings, most frequent first.
    #[must_use]
    pub fn all(&self) -> Vec<Sighting> {
        let mut all: Vec<_> = self.0.iter().map(|(_, entry)| entry.lock().clone()).collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.host.cmp(&b.host)));
        all
    }
}

impl Sighting {
    /// A decrypt rule that would let this host pass undecrypted, as YAML for tenant.yaml.
    #[must_use]
    pub fn suggested_rule(&self) -> String {
        format!(
            "- name: {host} pins its certificate\n  match: {{ domain: [\"{host}\"] }}\n  action: bypass\n",
            host = self.host
        )
    }
}
