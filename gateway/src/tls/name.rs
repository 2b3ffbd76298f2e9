//! Whether a certificate covers the name asked for (RFC 9525), and not too much besides.

use rustls::pki_types::ServerName;
use webpki::EndEntityCert;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;

/// `Some(detail)` where `leaf` does not cover `name`.
///
/// Path building knows the exact and wildcard rules and looks at subject alternative names only;
/// added here is that a wildcard must not cover every name of a registry (`*.co.uk`).
pub(crate) fn mismatch(
    leaf: &EndEntityCert<'_>,
    parsed: &X509Certificate<'_>,
    name: &ServerName<'_>,
) -> Option<&'static str> {
    if leaf.verify_is_valid_for_subject_name(name).is_err() {
        return Some("name_not_covered");
    }
    let ServerName::DnsName(asked) = name else { return None };
    let asked = asked.as_ref().to_ascii_lowercase();
    let asked = asked.strip_suffix('.').unwrap_or(&asked);
    let covered = dns_names(parsed).any(|pattern| is_covered(asked, pattern));
    (!covered).then_some("wildcard_on_public_suffix")
}

fn is_covered(asked: &str, pattern: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    match pattern.strip_prefix("*.") {
        None => asked == pattern,
        Some(base) => {
            asked.split_once('.').is_some_and(|(_, parent)| parent == base)
                && !is_registry_suffix(base)
        }
    }
}

/// Whether anybody may register names directly under `base`. Suffixes of the list's private
/// section (`github.io`) belong to one organisation, which may well hold such a wildcard.
fn is_registry_suffix(base: &str) -> bool {
    psl::suffix(base.as_bytes()).is_some_and(|suffix| {
        suffix.as_bytes() == base.as_bytes() && suffix.typ() != Some(psl::Type::Private)
    })
}

fn dns_names<'a>(parsed: &'a X509Certificate<'a>) -> impl Iterator<Item = &'a str> {
    let names =
        parsed.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
    names.flatten().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    })
}
