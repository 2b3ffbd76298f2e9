//! Builds the gateway's unit: gateway.yaml and the files it names.

use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::{constant_time, digest};
use policy::Problem;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::crls::OriginCrls;
use super::last_good;
use super::places::Places;
use super::source::{Source, TEXT_BYTES_MAX};
use crate::config::{
    FIRST, GatewayConfig, Layout, Read, check_gateway, position, problem, read, read_text,
};
use crate::ident::TenantName;

/// gateway.yaml in force. Paths in `config` are absolute.
#[derive(Debug)]
pub struct GatewayUnit {
    /// Counts up with each swap.
    pub generation: u64,
    /// Changes only when settings of TLS towards origins change: together with the tenant's
    /// number it says which pooled connections still fit.
    pub origin_generation: u64,
    pub config: GatewayConfig,
    /// Authorities of `origin.extra_roots`.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Lists of `origin.crls`.
    pub crls: OriginCrls,
    /// Databases of `events.geoip`.
    pub places: Arc<Places>,
    admin_token: Option<digest::Digest>,
    pub(super) texts: Vec<(&'static str, String)>,
}

impl GatewayUnit {
    /// Whether callers of the admin endpoint must show a token.
    #[must_use]
    pub fn admin_token_required(&self) -> bool {
        self.admin_token.is_some()
    }

    /// Whether this is the admin endpoint's token. How long it takes does not tell.
    #[must_use]
    pub fn admin_token_is(&self, token: &str) -> bool {
        let shown = digest::digest(&digest::SHA256, token.as_bytes());
        self.admin_token.as_ref().is_some_and(|kept| {
            constant_time::verify_slices_are_equal(kept.as_ref(), shown.as_ref()).is_ok()
        })
    }

    /// Files that gateway.yaml names.
    pub(super) fn extra_files(&self) -> Vec<PathBuf> {
        let config = &self.config;
        let tls = config.admin.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
        let named = config.origin.extra_roots.iter().chain(&config.origin.crls);
        let named = named.chain(&config.admin.token_file).chain(tls).chain(&config.events.geoip);
        named.cloned().collect()
    }

    /// The unit as the successor of the one in force.
    pub(super) fn after(mut self, before: &Self) -> Self {
        self.generation = before.generation + 1;
        let same = self.config.origin.roots == before.config.origin.roots
            && self.extra_roots == before.extra_roots
            && self.crls == before.crls;
        self.origin_generation = before.origin_generation + u64::from(!same);
        self
    }
}

/// Loads the live file, else the last good copy. The problems are the live file's.
pub(super) fn load_or_last_good(layout: &Layout) -> (Option<GatewayUnit>, Vec<Problem>) {
    let (unit, problems) = load(layout, Source::Live);
    if let Some(unit) = unit {
        last_good::keep_gateway(layout, &unit);
        return (Some(unit), problems);
    }
    let (unit, _) = load(layout, Source::LastGood);
    (unit, problems)
}

/// Loads gateway.yaml; `None` where anything is wrong with it.
pub(super) fn load(layout: &Layout, source: Source) -> (Option<GatewayUnit>, Vec<Problem>) {
    let path = layout.gateway_yaml();
    let file = layout.shown(&path);
    let copies = layout.last_good();
    let text = match source.read(&path, &copies, "gateway.yaml", TEXT_BYTES_MAX) {
        Ok(text) => text,
        Err(error) => {
            let found = problem(&file, FIRST, error.to_string(), "a readable file");
            return (None, vec![found]);
        }
    };
    let Read { value: mut config, tree } = match read::<GatewayConfig>(&file, &text) {
        Ok(read) => read,
        Err(problems) => return (None, problems),
    };
    let mut problems = check_gateway(&file, &tree, &config);
    config.anchor(layout.root());
    for (address, tenant) in &config.listen.explicit {
        if source == Source::Live && !layout.tenant(tenant).is_dir() {
            let at = position(&tree, &["listen", "explicit", &address.to_string()]);
            let what = format!("no tenant `{tenant}`");
            problems.push(problem(&file, at, what, known_tenants(layout)));
        }
    }
    let mut texts = vec![("gateway.yaml", text)];
    let roots = extra_roots(source, layout, &config.origin.extra_roots).map_err(|(index, what)| {
        let at = position(&tree, &["origin", "extra_roots", &index.to_string()]);
        problem(&file, at, what, "a PEM file with certificates")
    });
    let extra_roots = match roots {
        Ok((text, roots)) => {
            texts.extend(text.map(|text| ("extra_roots.pem", text)));
            roots
        }
        Err(found) => {
            problems.push(found);
            Vec::new()
        }
    };
    let crls = OriginCrls::load(source, &config.origin.crls).unwrap_or_else(|(index, what)| {
        let at = position(&tree, &["origin", "crls", &index.to_string()]);
        problems.push(problem(&file, at, what, "a PEM or DER file with revocation lists"));
        OriginCrls::default()
    });
    let mut admin_token = None;
    if let Some(path) = &config.admin.token_file {
        match admin_token_of(path) {
            Ok(token) => admin_token = Some(token),
            Err(what) => {
                let at = position(&tree, &["admin", "token_file"]);
                problems.push(problem(&file, at, what, "a file with one token"));
            }
        }
    }
    if let Some(tls) = &config.admin.tls {
        for (key, path) in [("cert", &tls.cert), ("key", &tls.key)] {
            if let Err(error) = read_text(path, TEXT_BYTES_MAX) {
                let at = position(&tree, &["admin", "tls", key]);
                problems.push(problem(&file, at, error.to_string(), "a readable PEM file"));
            }
        }
    }
    let places = places(source, &config.events.geoip).unwrap_or_else(|(index, what)| {
        let at = position(&tree, &["events", "geoip", &index.to_string()]);
        problems.push(problem(&file, at, what, "a database in MaxMind's format"));
        Places::default()
    });
    for (index, sink) in config.events.sinks.iter_mut().enumerate() {
        for path in sink.files() {
            if let Err(error) = read_text(path, TEXT_BYTES_MAX) {
                let at = position(&tree, &["events", "sinks", &index.to_string()]);
                problems.push(problem(&file, at, error.to_string(), "a readable file"));
            }
        }
    }
    if !problems.is_empty() {
        return (None, problems);
    }
    let unit = GatewayUnit {
        generation: 1,
        origin_generation: 1,
        config,
        extra_roots,
        crls,
        places: Arc::new(places),
        admin_token,
        texts,
    };
    (Some(unit), problems)
}

/// The address databases. No copy of them is kept: they are large, and rules over countries fail closed
/// without them.
fn places(source: Source, paths: &[PathBuf]) -> Result<Places, (usize, String)> {
    match Places::load(paths) {
        Ok(places) => Ok(places),
        Err((_, error)) if source == Source::LastGood => {
            tracing::error!(%error, "no address database: countries cannot be had");
            Ok(Places::default())
        }
        Err((index, error)) => {
            let path = paths.get(index).map(|path| path.display().to_string());
            Err((index, format!("{}: {error}", path.unwrap_or_default())))
        }
    }
}

fn known_tenants(layout: &Layout) -> String {
    /// Enough to recognise a slip by.
    const LISTED_MAX: usize = 8;
    let names: Vec<TenantName> = layout.tenant_names().unwrap_or_default();
    let listed: Vec<String> =
        names.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
    if listed.is_empty() { "a tenant; there is none yet".to_owned() } else { listed.join(" or ") }
}

/// Shortest admin token: 128 bits as hexadecimal would be 32, as base64 22.
const ADMIN_TOKEN_BYTES_MIN: usize = 16;

fn admin_token_of(path: &std::path::Path) -> Result<digest::Digest, String> {
    const TOKEN_FILE_BYTES_MAX: u64 = 4 << 10;
    let text = read_text(path, TOKEN_FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    let text = zeroize::Zeroizing::new(text);
    let token = text.trim();
    if token.len() < ADMIN_TOKEN_BYTES_MIN {
        return Err(format!("token shorter than {ADMIN_TOKEN_BYTES_MIN} characters"));
    }
    Ok(digest::digest(&digest::SHA256, token.as_bytes()))
}

type Roots = (Option<String>, Vec<CertificateDer<'static>>);

/// Reads the certificates of some PEM files. The error names the file by its index.
pub(super) fn extra_roots(
    source: Source,
    layout: &Layout,
    paths: &[PathBuf],
) -> Result<Roots, (usize, String)> {
    roots_from(source, &layout.last_good(), paths)
}

/// As [`extra_roots`], with the copies in a given folder.
pub(super) fn roots_from(
    source: Source,
    copies: &std::path::Path,
    paths: &[PathBuf],
) -> Result<Roots, (usize, String)> {
    let mut all = String::new();
    let mut roots = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        if source == Source::LastGood && index > 0 {
            break;
        }
        let text = source
            .read(path, copies, "extra_roots.pem", TEXT_BYTES_MAX)
            .map_err(|error| (index, error.to_string()))?;
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            roots.push(certificate.map_err(|_| (index, "not a PEM file".to_owned()))?);
        }
        if roots.len() == before {
            return Err((index, "no certificate in it".to_owned()));
        }
        all.push_str(&text);
    }
    Ok(((!paths.is_empty()).then_some(all), roots))
}
