//! A record as one line, fields in the order of `docs/events.md`.

use super::enrich::Enrichment;
use super::line::{Line, URL_BYTES_MAX};
use super::record::{
    App, Client, Content, Cost, Destination, DlpHit, End, Http, OPERATIONS_MAX, Operation, Record,
    Threat, Tls, Verdict,
};
use super::redact::Redaction;
use super::text::Text;

/// What a line says beside its record, and what it does not say.
pub(super) struct Setting<'a> {
    pub(super) pop: &'a str,
    pub(super) tenant: &'a str,
    pub(super) redaction: &'a Redaction,
    pub(super) enrichment: &'a Enrichment,
}

/// Appends the line, without its newline.
pub(super) fn write(out: &mut Vec<u8>, record: &Record, setting: &Setting<'_>) {
    let mut line = Line::begin(out);
    line.id("id", Some(record.id));
    line.label("type", Some(record.record_type.as_str()));
    line.printed("time", Some(format_args!("{:.6}", record.time)));
    line.text("pop", Some(setting.pop));
    line.label("tenant", Some(setting.tenant));
    line.text("policy_version", text(&record.policy_version));
    line.label("state", Some(record.state.as_str()));
    line.id("parent_id", record.parent_id);
    if let Some(who) = &record.client {
        client(&mut line, who, setting);
    }
    destination(&mut line, &record.destination, setting);
    tls(&mut line, &record.tls);
    http(&mut line, &record.http, setting);
    app(&mut line, &record.app, setting.redaction);
    content(&mut line, &record.content);
    verdict(&mut line, &record.verdict);
    cost(&mut line, &record.cost);
    end(&mut line, &record.end);
    line.end();
}

fn client(line: &mut Line<'_>, client: &Client, setting: &Setting<'_>) {
    line.id("session_id", client.session_id.map(|id| id.0));
    let user = text(&client.user).and_then(|user| setting.redaction.user(user));
    line.text("user", user.as_deref());
    line.texts("groups", client.groups.iter().map(AsRef::as_ref));
    line.text("device", text(&client.device));
    line.text("device_class", text(&client.device_class));
    line.text("os", text(&client.os));
    line.label("access_method", client.access_method.map(crate::ident::AccessMethod::as_str));
    let address = client.ip.and_then(|ip| setting.redaction.address(ip));
    line.label("client_ip", address.as_deref());
    line.number("client_port", client.port.map(u64::from));
    // Country and network say much less than the address: they stay where it goes.
    let (country, network) = setting.enrichment.place(client.ip);
    line.text("source_country", text(&client.country).or(country.as_deref()));
    line.number("source_asn", network.map(u64::from));
    line.text("tunnel_tls", text(&client.tunnel_tls));
    line.text("tunnel_kx", text(&client.tunnel_kx));
    line.text("binding", text(&client.binding));
}

fn destination(line: &mut Line<'_>, destination: &Destination, setting: &Setting<'_>) {
    line.id("flow_id", destination.flow_id.map(|id| id.0));
    line.text("host", text(&destination.host));
    line.printed("dest_ip", destination.ip);
    line.number("dest_port", destination.port.map(u64::from));
    line.text("sni", text(&destination.sni));
    line.label("host_source", destination.host_source.map(super::HostSource::as_str));
    let (country, network) = setting.enrichment.place(destination.ip);
    line.text("dest_country", text(&destination.country).or(country.as_deref()));
    line.number("dest_asn", network.map(u64::from));
    line.printed("egress_ip", destination.egress_ip);
}

fn tls(line: &mut Line<'_>, tls: &Tls) {
    line.boolean("decrypted", tls.decrypted);
    line.text("decrypt_reason", text(&tls.decrypt_reason));
    line.text("client_tls", text(&tls.client_version));
    line.text("client_alpn", text(&tls.client_alpn));
    line.text("client_ja4", text(&tls.client_ja4));
    line.text("origin_tls", text(&tls.origin_version));
    line.text("origin_kx", text(&tls.origin_kx));
    line.text("origin_alpn", text(&tls.origin_alpn));
    line.text("origin_issuer", text(&tls.origin_issuer));
    line.text("origin_cert_fault", text(&tls.origin_cert_fault));
}

fn http(line: &mut Line<'_>, http: &Http, setting: &Setting<'_>) {
    let redaction = setting.redaction;
    line.text("method", text(&http.method));
    let url = text(&http.url).map(|url| redaction.url(url));
    line.bounded("url", url.as_deref(), URL_BYTES_MAX);
    line.text("http_version", text(&http.version));
    line.number("status", http.status.map(u64::from));
    line.text("content_type", text(&http.content_type));
    line.text("user_agent", text(&http.user_agent));
    let agent = text(&http.user_agent).and_then(|agent| setting.enrichment.agent(agent));
    if let Some(agent) = agent {
        line.text("browser", agent.browser.as_deref());
        line.text("browser_version", agent.version.as_deref());
        line.text("agent_os", agent.os.as_deref());
        line.text("agent_device", agent.device.as_deref());
    }
    let referer = text(&http.referer).map(|referer| redaction.url(referer));
    line.bounded("referer", referer.as_deref(), URL_BYTES_MAX);
    line.number("request_bytes", http.request_bytes);
    line.number("response_bytes", http.response_bytes);
}

fn app(line: &mut Line<'_>, app: &App, redaction: &Redaction) {
    line.text("app", text(&app.id));
    line.text("category", text(&app.category));
    line.texts("categories", app.categories.iter().map(Text::as_str));
    line.texts("app_tags", app.tags.iter().map(Text::as_str));
    line.number("risk", app.risk.map(u64::from));
    line.text("instance", text(&app.instance));
    line.label("instance_kind", app.instance_kind.map(super::InstanceKind::as_str));
    line.text("activity", text(&app.activity));
    line.text("object", text(&app.object));
    line.text("object_type", text(&app.object_type));
    let from_user = text(&app.from_user).and_then(|user| redaction.user(user));
    line.text("from_user", from_user.as_deref());
    let to_user = text(&app.to_user).and_then(|user| redaction.user(user));
    line.text("to_user", to_user.as_deref());
    line.objects("operations", OPERATIONS_MAX, app.operations.iter(), |line, it| {
        operation(line, it, redaction);
    });
}

fn operation(line: &mut Line<'_>, operation: &Operation, redaction: &Redaction) {
    line.text("activity", text(&operation.activity));
    line.text("object", text(&operation.object));
    let to_user = text(&operation.to_user).and_then(|user| redaction.user(user));
    line.text("to_user", to_user.as_deref());
    line.text("action", text(&operation.action));
    line.text("rule", text(&operation.rule));
}

fn content(line: &mut Line<'_>, content: &Content) {
    line.text("file_name", text(&content.file_name));
    line.text("file_type", text(&content.file_type));
    line.number("file_size", content.file_size);
    line.text("sha256", text(&content.sha256));
    line.objects("dlp", super::line::LIST_MAX, content.dlp.iter(), dlp_hit);
    if let Some(found) = &content.threat {
        line.object("threat", |line| threat(line, found));
    }
    line.label("inspection", content.inspection.map(super::Inspection::as_str));
    line.text("inspection_reason", text(&content.inspection_reason));
}

fn dlp_hit(line: &mut Line<'_>, hit: &DlpHit) {
    line.text("profile", Some(hit.profile.as_str()));
    line.text("entity", Some(hit.entity.as_str()));
    line.number("count", Some(hit.count));
}

fn threat(line: &mut Line<'_>, threat: &Threat) {
    line.text("name", Some(threat.name.as_str()));
    line.text("engine", Some(threat.engine.as_str()));
}

fn verdict(line: &mut Line<'_>, verdict: &Verdict) {
    line.text("action", text(&verdict.action));
    line.text("rule", text(&verdict.rule));
    line.texts("alerts", verdict.alerts.iter().map(Text::as_str));
    line.text("justification", text(&verdict.justification));
    line.text("block_reason", text(&verdict.block_reason));
}

fn cost(line: &mut Line<'_>, cost: &Cost) {
    line.milliseconds("dns_ms", cost.dns);
    line.milliseconds("connect_ms", cost.connect);
    line.milliseconds("tls_ms", cost.tls);
    line.milliseconds("ttfb_ms", cost.first_byte);
    line.milliseconds("total_ms", cost.total);
    line.microseconds("policy_us", cost.policy);
    line.milliseconds("gateway_ms", cost.gateway);
}

fn end(line: &mut Line<'_>, end: &End) {
    line.text("error", end.error);
    line.label("error_side", end.error_side.map(crate::ident::Blame::as_str));
}

fn text(value: &Option<Text>) -> Option<&str> {
    value.as_ref().map(Text::as_str)
}
