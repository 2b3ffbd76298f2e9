//! The account that a user last signed in with, per device and app: whose instance it is where
//! the app's requests do not show it.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use policy::catalog::Site;

use crate::event;
use crate::ident::Who;

/// A sign-in counts for this long after it was last used: a working day, the usual life of an
/// app's session.
const REMEMBERED: Duration = Duration::from_secs(12 * 3600);
/// And never longer than this after it was seen; sessions that live longer show their account now
/// and then.
const REMEMBERED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Sign-ins kept per tenant, some 200 bytes each; the least used go first.
const ACCOUNTS_MAX: u64 = 200_000;
/// Longest account or instance that is kept (RFC 5321 section 4.5.3.1.3 allows 254).
const ACCOUNT_BYTES_MAX: usize = 254;

/// Tags of apps that one sign-in is good for.
const SUITES: [&str; 2] = ["google-workspace", "microsoft-365"];

/// Whose sign-in, with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place<'p> {
    user: &'p str,
    device: Option<&'p str>,
    /// A suite's tag, or an app's id.
    realm: &'p str,
}

/// What a sign-in showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub user: Option<Box<str>>,
    pub instance: Option<Box<str>>,
}

/// An account with its place: two places may share a hash.
struct Known {
    user: Box<str>,
    device: Option<Box<str>>,
    realm: Box<str>,
    account: Arc<Account>,
}

/// One tenant's memory, by the hashes of places, so that looking allocates nothing.
pub struct Accounts {
    known: Cache<u64, Arc<Known>>,
    hasher: RandomState,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            known: Cache::builder()
                .max_capacity(ACCOUNTS_MAX)
                .time_to_idle(REMEMBERED)
                .time_to_live(REMEMBERED_MAX)
                .build(),
            hasher: RandomState::new(),
        }
    }
}

impl Accounts {
    /// The account in use, if a sign-in to the app was seen.
    #[must_use]
    pub fn find(&self, who: &Who, site: &Site<'_>) -> Option<Arc<Account>> {
        let place = place(who, site)?;
        let known = self.known.get(&self.hasher.hash_one(place))?;
        let there =
            Place { user: &known.user, device: known.device.as_deref(), realm: &known.realm };
        (there == place).then(|| Arc::clone(&known.account))
    }

    /// Takes over what a finished exchange showed: a sign-in that succeeded, or a sign-out. `status`
    /// is the origin's answer.
    pub fn note(&self, who: &Who, site: &Site<'_>, app: &event::App, status: u16) {
        let Some(place) = place(who, site) else { return };
        match app.activity.as_ref().map(event::Text::as_str) {
            Some("logout") => self.known.invalidate(&self.hasher.hash_one(place)),
            // A form that was refused with a page of status 200 cannot be told from success: the
            // next sign-in corrects it. Refusals that show in the head are a `login_failed`.
            Some("login") if (200..400).contains(&status) => {
                if let Some(account) = account(app) {
                    let known = Known {
                        user: place.user.into(),
                        device: place.device.map(Into::into),
                        realm: place.realm.into(),
                        account: Arc::new(account),
                    };
                    self.known.insert(self.hasher.hash_one(place), Arc::new(known));
                }
            }
            _ => {}
        }
    }
}

fn place<'p>(who: &'p Who, site: &Site<'p>) -> Option<Place<'p>> {
    let app = site.app?;
    let suite = SUITES.into_iter().find(|suite| site.tags.contains(suite));
    Some(Place { user: &who.user, device: who.device.as_deref(), realm: suite.unwrap_or(app) })
}

/// The account and its instance: as the app says, else the domain of the account's address.
fn account(app: &event::App) -> Option<Account> {
    let kept = |text: Option<&str>| {
        let text = text.filter(|text| (1..=ACCOUNT_BYTES_MAX).contains(&text.len()))?;
        Some(text.to_ascii_lowercase().into_boxed_str())
    };
    let user = kept(app.from_user.as_ref().map(event::Text::as_str));
    let domain = user.as_deref().and_then(|user| user.rsplit_once('@')).map(|(_, domain)| domain);
    let instance = kept(app.instance.as_ref().map(event::Text::as_str).or(domain));
    (user.is_some() || instance.is_some()).then_some(Account { user, instance })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(user: &str, device: &str) -> Who {
        Who {
            user: user.into(),
            groups: Arc::from([]),
            device: Some(device.into()),
            device_class: None,
            os: None,
        }
    }

    fn login(user: &str) -> event::App {
        let text = |text: &str| Some(event::Text::copied(text));
        event::App { activity: text("login"), from_user: text(user), ..event::App::default() }
    }

    const DROPBOX: Site<'static> = Site { app: Some("dropbox"), ..Site::UNKNOWN };
    const GMAIL: Site<'static> =
        Site { app: Some("gmail"), tags: &["google-workspace"], ..Site::UNKNOWN };
    const ACCOUNTS: Site<'static> =
        Site { app: Some("google-accounts"), tags: &["google-workspace"], ..Site::UNKNOWN };

    #[test]
    fn an_account_is_one_users_on_one_device_with_one_app() {
        let memory = Accounts::default();
        let alice = who("alice@acme.test", "laptop");
        memory.note(&alice, &DROPBOX, &login("Alice@Home.test"), 200);
        let found = memory.find(&alice, &DROPBOX);
        let found = found.as_deref().and_then(|account| account.instance.as_deref());
        assert_eq!(found, Some("home.test"));
        assert_eq!(memory.find(&alice, &GMAIL), None);
        assert_eq!(memory.find(&who("alice@acme.test", "phone"), &DROPBOX), None);
        assert_eq!(memory.find(&who("bob@acme.test", "laptop"), &DROPBOX), None);
    }

    #[test]
    fn a_suites_sign_in_counts_for_its_apps_until_the_sign_out() {
        let memory = Accounts::default();
        let alice = who("alice@acme.test", "laptop");
        memory.note(&alice, &ACCOUNTS, &login("alice@acme.test"), 302);
        assert!(memory.find(&alice, &GMAIL).is_some());
        let logout =
            event::App { activity: Some(event::Text::copied("logout")), ..event::App::default() };
        memory.note(&alice, &ACCOUNTS, &logout, 302);
        assert_eq!(memory.find(&alice, &GMAIL), None);
    }

    #[test]
    fn a_refused_sign_in_is_none() {
        let memory = Accounts::default();
        let alice = who("alice@acme.test", "laptop");
        memory.note(&alice, &DROPBOX, &login("alice@home.test"), 401);
        assert_eq!(memory.find(&alice, &DROPBOX), None);
    }
}
