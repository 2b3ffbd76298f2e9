//! Builds one tenant: tenant.yaml, policy.yaml, its authorities, directory, keys and revocations.

mod files;
mod rules;

use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;
use policy::content::Profiles;
use policy::decrypt::DecryptRules;
use policy::fact::Key;
use policy::list::Labels;
use policy::{Policy, Position, Problem};
use rustls::pki_types::CertificateDer;

use super::gateway::roots_from;
use super::lists::{Digest, Lists};
use super::source::{Source, TEXT_BYTES_MAX};
use crate::config::{
    FIRST, Layout, Read, Restrictions, TenantConfig, any_error, check_tenant, position, problem,
    read,
};
use crate::ident::{
    CaMaterial, Directory, Expectations, Jwks, RevocationList, TenantName, TokenTable,
};

/// One tenant in force. An exchange keeps the one it began with.
#[derive(Debug)]
pub struct Tenant {
    pub name: TenantName,
    /// Counts up with each swap.
    pub generation: u64,
    /// Changes only when this tenant's settings of TLS towards origins change.
    pub origin_generation: u64,
    /// Paths in it are absolute.
    pub config: TenantConfig,
    /// Vendors' headers of `restrict`.
    pub restrictions: Restrictions,
    pub policy: Arc<Policy>,
    /// Short hash of policy.yaml, as in events.
    pub policy_version: Arc<str>,
    pub decrypt: Arc<DecryptRules>,
    /// Whether some rule goes by where an address is.
    pub goes_by_country: bool,
    /// Categories of hosts that are the tenant's own.
    pub labels: Arc<Labels>,
    /// What `dlp` rules look for in bodies.
    pub profiles: Arc<Profiles>,
    pub directory: Arc<Directory>,
    /// Keys for tokens, where tokens are accepted.
    pub jwks: Option<Arc<Jwks>>,
    /// Users of the explicit listeners.
    pub tokens: Arc<TokenTable>,
    pub revoked: Arc<RevocationList>,
    /// Signs the leaves that this tenant's clients see.
    pub intercept_ca: Arc<CaMaterial>,
    /// Issued the tenant's device certificates. The key stays on disk.
    pub device_ca: CertificateDer<'static>,
    /// Its subject, DER.
    pub device_subject: Box<[u8]>,
    /// Key of pseudonyms in events.
    pub privacy_key: Option<PrivacyKey>,
    /// Authorities of `origin.extra_roots`.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Files outside the tenant's own list whose change is this tenant's change.
    pub(super) extra_files: Vec<PathBuf>,
    /// What last loaded, to be kept on disk; emptied once it is.
    pub(super) texts: parking_lot::Mutex<Vec<(&'static str, String)>>,
    /// The content of each of its lists, in order.
    pub(super) list_digests: Vec<Digest>,
    origin_digest: Vec<u8>,
}

impl Tenant {
    /// What this tenant wants of tokens; `None` where it accepts none.
    #[must_use]
    pub fn expectations(&self) -> Option<Expectations<'_>> {
        let identity = &self.config.identity;
        Some(Expectations {
            issuer: identity.issuer.as_deref()?,
            audience: identity.audience.as_deref()?,
            leeway_s: identity.leeway_s,
            bound: identity.binding == crate::config::Binding::Required,
            user_claim: &identity.claims.user,
            groups_claim: &identity.claims.groups,
            device_claim: &identity.claims.device,
            device_class_claim: &identity.claims.device_class,
            os_claim: &identity.claims.os,
        })
    }

    /// The tenant as the successor of the one in force.
    pub(super) fn after(mut self, before: Option<&Self>) -> Self {
        if let Some(before) = before {
            self.generation = before.generation + 1;
            let same = self.origin_digest == before.origin_digest;
            self.origin_generation = before.origin_generation + u64::from(!same);
            // Whoever mints with the authority keeps its leafs as long as it is the same one.
            if *self.intercept_ca == *before.intercept_ca {
                self.intercept_ca = Arc::clone(&before.intercept_ca);
            }
        }
        self
    }
}

/// A key that no log shows.
pub struct PrivacyKey(zeroize::Zeroizing<String>);

impl PrivacyKey {
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for PrivacyKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PrivacyKey(…)")
    }
}

/// Everything needed while one tenant is built.
struct Build<'a> {
    layout: &'a Layout,
    lists: &'a Lists,
    folder: PathBuf,
    copies: PathBuf,
    source: Source,
    problems: Vec<Problem>,
    texts: Vec<(&'static str, String)>,
}

/// Loads a tenant; `None` where anything is wrong with it.
pub(super) fn load(
    layout: &Layout,
    lists: &Lists,
    name: &TenantName,
    source: Source,
) -> (Option<Tenant>, Vec<Problem>) {
    let mut build = Build {
        layout,
        lists,
        folder: layout.tenant(name),
        copies: super::last_good::tenant_folder(layout, name),
        source,
        problems: Vec::new(),
        texts: Vec::new(),
    };
    let tenant = build.tenant(name);
    let problems = build.problems;
    (tenant.filter(|_| !any_error(&problems)), problems)
}

impl Build<'_> {
    fn tenant(&mut self, name: &TenantName) -> Option<Tenant> {
        let config = self.config();
        let policy_text = self.required("policy.yaml");
        let policy = policy_text.as_deref().and_then(|text| self.policy(text));
        let intercept = self.authority("intercept");
        let device = self.device_authority();
        let revoked = self.revoked();
        let listed = self.listed_tokens();
        let Read { value: config, tree } = config?;
        let decrypt = self.decrypt(&tree);
        let labels = self.labels(&config, &tree);
        let profiles = self.profiles(&config, &tree);
        let at = |path: &[&str]| position(&tree, path);
        let identity = &config.identity;
        let directory =
            self.directory(identity.directory.as_deref(), at(&["identity", "directory"]));
        let jwks = self.jwks(identity.jwks.as_deref(), at(&["identity", "jwks"]));
        let roots = roots_from(self.source, &self.copies, &config.origin.extra_roots);
        let extra_roots = match roots {
            Ok((text, roots)) => {
                self.texts.extend(text.map(|text| ("extra_roots.pem", text)));
                roots
            }
            Err((index, what)) => {
                let at = at(&["origin", "extra_roots", &index.to_string()]);
                self.report("tenant.yaml", at, &what, "a PEM file with certificates");
                Vec::new()
            }
        };
        let mut tokens = listed?;
        for token in &config.tokens {
            tokens.insert(&token.user, token.sha256.0, token.device.as_deref());
        }
        let policy_text = policy_text?;
        let mut extra_files = config.origin.extra_roots.clone();
        extra_files.extend(identity.directory.clone());
        extra_files.extend(config.privacy.key_file.clone());
        let privacy_key =
            self.privacy_key(config.privacy.key_file.as_deref(), at(&["privacy", "key_file"]));
        extra_files.extend(identity.jwks.clone());
        extra_files.extend(config.lists.iter().map(|list| list.file.clone()));
        let (labels, list_digests) = labels?;
        let device_ca = device?;
        let (policy, decrypt) = (policy?, decrypt?);
        let keys = policy.keys().union(decrypt.keys());
        Some(Tenant {
            name: name.clone(),
            generation: 1,
            origin_generation: 1,
            origin_digest: origin_digest(&config, &extra_roots),
            policy: Arc::new(policy),
            policy_version: short_hash(&policy_text),
            decrypt: Arc::new(decrypt),
            goes_by_country: keys.contains(Key::SourceCountry) || keys.contains(Key::DestCountry),
            labels: Arc::new(labels),
            profiles: Arc::new(profiles?),
            list_digests,
            directory: Arc::new(directory?),
            jwks: jwks?.map(Arc::new),
            privacy_key,
            tokens: Arc::new(tokens),
            revoked: Arc::new(revoked?),
            intercept_ca: Arc::new(intercept?),
            device_subject: subject(&device_ca),
            device_ca,
            extra_roots,
            extra_files,
            restrictions: config.restrict.compile(),
            texts: parking_lot::Mutex::new(std::mem::take(&mut self.texts)),
            config,
        })
    }

    fn report(&mut self, name: &str, at: Position, what: &str, expected: &str) {
        let file = self.layout.shown(&self.folder.join(name));
        self.problems.push(problem(&file, at, what, expected));
    }

    fn required(&mut self, name: &'static str) -> Option<String> {
        let live = self.folder.join(name);
        match self.source.read(&live, &self.copies, name, TEXT_BYTES_MAX) {
            Ok(text) => {
                self.texts.push((name, text.clone()));
                Some(text)
            }
            Err(error) => {
                self.report(name, FIRST, &error.to_string(), "a readable file");
                None
            }
        }
    }

    /// A file that need not be there. `Some(None)` where it is not.
    fn optional(&mut self, name: &'static str) -> Option<Option<String>> {
        let live = self.folder.join(name);
        match self.source.read(&live, &self.copies, name, TEXT_BYTES_MAX) {
            Ok(text) => {
                self.texts.push((name, text.clone()));
                Some(Some(text))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(None),
            Err(error) => {
                self.report(name, FIRST, &error.to_string(), "a readable file");
                None
            }
        }
    }

    fn config(&mut self) -> Option<Read<TenantConfig>> {
        let text = self.required("tenant.yaml")?;
        let file = self.layout.shown(&self.folder.join("tenant.yaml"));
        match read::<TenantConfig>(&file, &text) {
            Ok(mut read) => {
                self.problems.extend(check_tenant(&file, &read.tree, &read.value));
                read.value.anchor(&self.folder);
                Some(read)
            }
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }
}

/// The subject of a certificate, DER; empty where it is none.
fn subject(certificate: &CertificateDer<'_>) -> Box<[u8]> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed.map(|(_, certificate)| certificate.subject().as_raw().into()).unwrap_or_default()
}

/// Everything that decides how an origin's TLS is judged.
fn origin_digest(config: &TenantConfig, roots: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(format!("{:?}{:?}", config.decryption, config.origin).as_bytes());
    for root in roots {
        context.update(root);
    }
    context.finish().as_ref().to_vec()
}

fn short_hash(text: &str) -> Arc<str> {
    /// 48 bits tell a tenant's policies apart.
    const SHOWN_BYTES: usize = 6;
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    crate::ident::hex::encode(hash.as_ref().get(..SHOWN_BYTES).unwrap_or_default()).into()
}
