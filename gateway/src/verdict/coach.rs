//! What a user has justified: offers made on coach pages, and what is remembered of them.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use uuid::Uuid;

use crate::exchange::Request;
use crate::ident::Who;

/// A justification counts for this long (DESIGN part 4).
const REMEMBERED: Duration = Duration::from_secs(30 * 60);
/// An offer can be taken up for this long, once.
const OFFERED: Duration = Duration::from_secs(5 * 60);
/// Justifications kept per tenant; the least used go first, and are asked for again.
const REMEMBERED_MAX: u64 = 100_000;
/// Offers kept per tenant: pages shown within five minutes.
const OFFERED_MAX: u64 = 20_000;
/// Longest justification that is kept, characters.
pub const JUSTIFICATION_CHARS_MAX: usize = 500;

/// What a justification is good for: this user, on this device, with this app, under this rule
/// as it reads now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matter {
    pub user: Arc<str>,
    pub device: Option<Arc<str>>,
    /// The app, or the host where the app is unknown.
    pub app: Arc<str>,
    /// Hash of the rule's content: an edited rule asks again.
    pub rule: u64,
}

/// An offer to go on, made on one page.
#[derive(Clone, Debug)]
pub struct Offer {
    pub matter: Matter,
    pub rule_name: Arc<str>,
    pub reference: Uuid,
    /// The page to go on to, where opening it again does what the user was about to do.
    pub page: Option<Arc<str>>,
}

/// Longest URL that an offer keeps: offers of a tenant stay below 30 MiB, and hardly a page
/// that a person opens needs more.
const PAGE_BYTES_MAX: usize = 1024;

/// The URL of a request that a person can make again by opening it: a GET.
#[must_use]
pub fn page_of(request: &Request) -> Option<Arc<str>> {
    let scheme = request.scheme.as_str();
    let url = format!("{scheme}://{}{}", request.authority(), request.target());
    (request.method() == "GET" && url.len() <= PAGE_BYTES_MAX).then(|| url.into())
}

/// One tenant's memory.
pub struct CoachMemory {
    remembered: Cache<Matter, Arc<str>>,
    offered: Cache<Box<str>, Arc<Offer>>,
}

impl Default for CoachMemory {
    fn default() -> Self {
        Self {
            remembered: Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(REMEMBERED)
                .build(),
            offered: Cache::builder().max_capacity(OFFERED_MAX).time_to_live(OFFERED).build(),
        }
    }
}

impl CoachMemory {
    /// The justification given for this matter, if it still counts.
    #[must_use]
    pub fn remembered(&self, matter: &Matter) -> Option<Arc<str>> {
        self.remembered.get(matter)
    }

    /// Makes an offer and returns its one-use token.
    #[must_use]
    pub fn offer(&self, offer: Offer) -> String {
        // 122 random bits: nobody guesses one within five minutes.
        let token = Uuid::new_v4().simple().to_string();
        self.offered.insert(token.clone().into(), Arc::new(offer));
        token
    }

    /// The offer behind a token, if it was made to this user on this device.
    #[must_use]
    pub fn offered(&self, token: &str, who: &Who) -> Option<Arc<Offer>> {
        let offer = self.offered.get(token)?;
        let mine = offer.matter.user == who.user && offer.matter.device == who.device;
        mine.then_some(offer)
    }

    /// Takes an offer up, once.
    #[must_use]
    pub fn take_up(&self, token: &str, who: &Who, justification: &str) -> Option<Arc<Offer>> {
        let offer = self.offered(token, who)?;
        self.offered.remove(token)?;
        let kept: String = justification.trim().chars().take(JUSTIFICATION_CHARS_MAX).collect();
        self.remembered.insert(offer.matter.clone(), kept.into());
        Some(offer)
    }

    /// The matter of an origin certificate fault that a tenant only warns of.
    #[must_use]
    pub fn fault_matter(who: &Who, host: &str) -> Matter {
        Matter {
            user: Arc::clone(&who.user),
            device: who.device.clone(),
            app: host.into(),
            rule: 0,
        }
    }

    /// Whether this user has chosen to go on in spite of a host's certificate fault.
    #[must_use]
    pub fn tolerates(&self, who: &Who, host: &str) -> bool {
        self.remembered.get(&Self::fault_matter(who, host)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(user: &str) -> Who {
        Who {
            user: user.into(),
            groups: Arc::from([]),
            device: Some("laptop-1".into()),
            device_class: None,
            os: None,
        }
    }

    fn matter(who: &Who) -> Matter {
        Matter {
            user: Arc::clone(&who.user),
            device: who.device.clone(),
            app: "chatgpt".into(),
            rule: 7,
        }
    }

    fn offer(who: &Who) -> Offer {
        let (rule_name, reference) = ("r".into(), Uuid::nil());
        Offer { matter: matter(who), rule_name, reference, page: None }
    }

    #[test]
    fn an_offer_is_taken_up_once_and_only_by_whom_it_was_made_to() {
        let memory = CoachMemory::default();
        let (alice, bob) = (who("alice@acme.test"), who("bob@acme.test"));
        let offer = offer(&alice);
        let token = memory.offer(offer);
        assert!(memory.take_up(&token, &bob, "mine").is_none());
        assert!(memory.take_up(&token, &alice, " because ").is_some());
        assert!(memory.take_up(&token, &alice, "again").is_none());
        assert_eq!(memory.remembered(&matter(&alice)).as_deref(), Some("because"));
        assert_eq!(memory.remembered(&matter(&bob)), None);
    }

    #[test]
    fn an_edited_rule_asks_again() {
        let memory = CoachMemory::default();
        let alice = who("alice@acme.test");
        let offer = offer(&alice);
        let token = memory.offer(offer);
        assert!(memory.take_up(&token, &alice, "because").is_some());
        assert_eq!(memory.remembered(&Matter { rule: 8, ..matter(&alice) }), None);
    }
}
