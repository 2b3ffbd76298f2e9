//! What the gateway changes in a message before it goes on: in requests the headers that rules
//! and tenant restrictions set, in responses the ways around the gateway.

use bytes::Bytes;
use gateway_proto::fields::Fields;
use policy::verdict::RuleIndex;

use crate::config::Restrictions;
use crate::exchange::{Request, Response};
use crate::snapshot::Tenant;

/// Applies `set_headers` rules and takes out what only concerns the gateway.
pub(super) fn request(tenant: &Tenant, request: &mut Request, rules: &[RuleIndex]) {
    request.fields.remove("proxy-authorization");
    request.fields.remove("proxy-connection");
    restrict(&tenant.restrictions, &request.host.text(), &mut request.fields);
    // The rule that stands first wins, so it is applied last.
    for rule in rules.iter().rev() {
        let Some(rule) = tenant.policy.rule(*rule) else { continue };
        for (name, value) in &rule.headers {
            request.fields.remove(name);
            request.fields.push(
                Bytes::copy_from_slice(name.as_bytes()),
                Bytes::copy_from_slice(value.as_bytes()),
            );
        }
    }
}

/// Vendors' tenant restrictions, in place of any copy of the client's own.
fn restrict(restrictions: &Restrictions, host: &str, fields: &mut Fields) {
    restrictions.on(host).for_each(|(name, _)| fields.remove(name));
    for (name, value) in restrictions.on(host) {
        // Two settings may name one header: the first counts.
        if let Some(value) = value
            && !fields.has(name)
        {
            fields.push(name, value.clone());
        }
    }
}

/// Takes the HTTP/3 alternatives out of `Alt-Svc`, unless the client may be told of them: it would
/// try QUIC, past the tunnel or into a refusal, before it comes back. Other alternatives, and
/// `clear`, are passed on.
pub(super) fn response(response: &mut Response, invites_quic: impl FnOnce() -> bool) {
    if !response.fields.has("alt-svc") || invites_quic() {
        return;
    }
    let mut fields = Fields::new();
    for field in response.fields.iter() {
        if !field.is("alt-svc") {
            fields.push(field.name.clone(), field.value.clone());
            continue;
        }
        let kept: Vec<&[u8]> = alternatives(&field.value)
            .map(<[u8]>::trim_ascii)
            .filter(|alternative| !alternative.is_empty() && !is_quic(alternative))
            .collect();
        if !kept.is_empty() {
            fields.push(field.name.clone(), kept.join(&b", "[..]));
        }
    }
    response.fields = fields;
}

/// The alternatives of one field: separated by commas, but not by those within quotes.
fn alternatives(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    value.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
}

/// Whether an alternative's protocol (RFC 7838 section 3) runs on QUIC: `h3`, its drafts, and
/// what came before them.
fn is_quic(alternative: &[u8]) -> bool {
    let protocol = alternative.split(|byte| *byte == b'=').next().unwrap_or_default();
    let protocol = protocol.trim_ascii().to_ascii_lowercase();
    protocol == b"h3" || [&b"h3-"[..], b"hq", b"quic"].iter().any(|it| protocol.starts_with(it))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::Restrict;
    use crate::exchange::Length;

    #[test]
    fn a_clients_copy_of_a_restriction_goes_and_the_first_setting_of_a_header_counts() {
        let both = Restrict {
            microsoft: vec!["acme.test".to_owned()],
            microsoft_v2: vec!["tenant:policy".to_owned()],
            microsoft_consumer: vec!["restrict-msa".to_owned()],
            ..Restrict::default()
        };
        let restrictions = both.compile();
        for (host, wanted) in [
            ("login.live.com", vec![("sec-Restrict-Tenant-Access-Policy", "tenant:policy")]),
            (
                "login.windows.net",
                vec![
                    ("Restrict-Access-To-Tenants", "acme.test"),
                    ("sec-Restrict-Tenant-Access-Policy", "tenant:policy"),
                ],
            ),
        ] {
            let mut fields = Fields::new();
            fields.push("Sec-restrict-tenant-access-policy", "mine");
            fields.push("restrict-access-context", "mine");
            restrict(&restrictions, host, &mut fields);
            let context = fields.has("restrict-access-context");
            assert_eq!(context, host == "login.live.com", "{host}: another vendor's is left alone");
            for (name, value) in wanted {
                let all: Vec<_> = fields.iter().filter(|field| field.is(name)).collect();
                assert_eq!(all.len(), 1, "{host} {name}");
                assert_eq!(fields.text(name), Some(value), "{host} {name}");
            }
        }
    }

    #[test]
    fn only_quic_alternatives_are_taken_out() {
        for (sent, kept) in [
            ("h3=\":443\"; ma=86400", None),
            ("h3-29=\":443\", h2=\"alt.test:443\"; ma=60", Some("h2=\"alt.test:443\"; ma=60")),
            ("clear", Some("clear")),
            ("h2=\"a,h3=b:443\"", Some("h2=\"a,h3=b:443\"")),
            ("quic=\":443\"; v=\"46,43\", http%2F1.1=\":80\"", Some("http%2F1.1=\":80\"")),
        ] {
            let mut fields = Fields::new();
            fields.push("Alt-Svc", sent);
            let mut passed =
                Response { status: 200, reason: Bytes::new(), fields, body: Length::None };
            response(&mut passed, || false);
            assert_eq!(passed.fields.text("alt-svc"), kept, "{sent}");
        }
    }
}
