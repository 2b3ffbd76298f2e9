//! One event as one line that a person reads.

use serde_json::Value;

use super::paint::{Colour, painted};
use crate::event::printable;

/// The line, without its newline. No byte of an event can move the terminal's cursor.
pub(super) fn describe(event: &Value, colour: bool) -> String {
    let mut line = Sentence { words: Vec::new(), event, colour };
    line.head();
    match text(event, "type") {
        Some("session") => line.session(),
        Some("flow") => line.flow(),
        Some("alert") => line.alert(),
        _ => line.transaction(),
    }
    line.tail();
    line.words.join("  ")
}

struct Sentence<'e> {
    words: Vec<String>,
    event: &'e Value,
    colour: bool,
}

impl Sentence<'_> {
    fn head(&mut self) {
        let time = text(self.event, "time").unwrap_or("-").replacen('T', " ", 1);
        let time = time.split_at_checked(23).map_or(time.as_str(), |(to_ms, _)| to_ms);
        self.painted(Colour::Dim, time);
        self.field("tenant");
        let who: Vec<_> =
            ["user", "device"].iter().filter_map(|key| text(self.event, key)).collect();
        self.word(if who.is_empty() { "-".to_owned() } else { who.join(" on ") });
    }

    fn session(&mut self) {
        let refused = text(self.event, "error").is_some();
        let what = match (refused, text(self.event, "state")) {
            (true, _) => "tunnel refused",
            (_, Some("open")) => "tunnel up",
            (_, Some("update")) => "tunnel is up",
            _ => "tunnel down",
        };
        self.painted(if refused { Colour::Bad } else { Colour::Notice }, what);
        self.field("access_method");
        if let Some(ip) = text(self.event, "client_ip") {
            let port =
                number(self.event, "client_port").map_or(String::new(), |port| format!(":{port}"));
            self.word(format!("from {}{port}", bracketed(ip)));
        }
        self.field("sni");
        let tls: Vec<_> =
            ["tunnel_tls", "tunnel_kx"].iter().filter_map(|key| text(self.event, key)).collect();
        if !tls.is_empty() {
            self.word(tls.join(" "));
        }
    }

    fn flow(&mut self) {
        self.action();
        let host = text(self.event, "host").or_else(|| text(self.event, "dest_ip")).unwrap_or("-");
        let port = number(self.event, "dest_port").map_or(String::new(), |port| format!(":{port}"));
        self.word(format!("{}{port}", bracketed(host)));
        match self.event.get("decrypted").and_then(Value::as_bool) {
            Some(false) => self.labelled("not decrypted", "decrypt_reason"),
            _ => self.field("decrypt_reason"),
        }
        self.app();
    }

    fn transaction(&mut self) {
        self.action();
        self.request();
        self.app();
    }

    fn alert(&mut self) {
        self.painted(Colour::Warning, "ALERT");
        self.action();
        self.threat();
        for hit in self.event.get("dlp").and_then(Value::as_array).into_iter().flatten() {
            let (profile, entity) = (text(hit, "profile"), text(hit, "entity"));
            let count = number(hit, "count").unwrap_or_default();
            let found = format!("{count} × {}", entity.or(profile).unwrap_or("-"));
            self.painted(Colour::Warning, &found);
        }
        self.request();
        self.app();
    }

    fn threat(&mut self) {
        if let Some(name) = self.event.get("threat").and_then(|threat| text(threat, "name")) {
            self.painted(Colour::Bad, name);
        }
    }

    fn tail(&mut self) {
        self.labelled("rule:", "rule");
        let alerts = self.event.get("alerts").and_then(Value::as_array);
        let alerts: Vec<_> = alerts.into_iter().flatten().filter_map(Value::as_str).collect();
        if !alerts.is_empty() {
            self.painted(Colour::Warning, &format!("alerts: {}", alerts.join(", ")));
        }
        self.labelled("because:", "justification");
        if let Some(error) = text(self.event, "error") {
            let side =
                text(self.event, "error_side").map_or(String::new(), |side| format!(" ({side})"));
            self.painted(Colour::Bad, &format!("{error}{side}"));
        }
        if let Some(status) = number(self.event, "status") {
            let colour = if status < 400 { Colour::Good } else { Colour::Warning };
            self.painted(colour, &status.to_string());
        }
        self.size("↑", "request_bytes");
        self.size("↓", "response_bytes");
        if let Some(total) = self.event.get("total_ms").and_then(Value::as_f64) {
            self.painted(Colour::Dim, &duration(total));
        }
        if let Some(state @ ("open" | "update")) = text(self.event, "state") {
            self.painted(Colour::Dim, &format!("({state})"));
        }
    }

    fn action(&mut self) {
        let Some(action) = text(self.event, "action") else { return };
        let colour = Colour::of_action(action);
        self.painted(colour, action);
    }

    fn request(&mut self) {
        let place = text(self.event, "url").or_else(|| text(self.event, "host"));
        let words = [text(self.event, "method"), place];
        let words: Vec<_> = words.into_iter().flatten().collect();
        if !words.is_empty() {
            self.word(words.join(" "));
        }
    }

    fn app(&mut self) {
        let app = text(self.event, "app");
        let instance = text(self.event, "instance").or_else(|| text(self.event, "instance_kind"));
        let place = match (app, instance) {
            (Some(app), Some(instance)) => Some(format!("{app}/{instance}")),
            (app, instance) => app.or(instance).map(str::to_owned),
        };
        let object = text(self.event, "object").map(|object| format!("“{object}”"));
        let activity = text(self.event, "activity").map(str::to_owned);
        let words: Vec<_> = [place, activity, object].into_iter().flatten().collect();
        if !words.is_empty() {
            self.painted(Colour::Notice, &words.join(" "));
        }
    }

    fn size(&mut self, mark: &str, key: &str) {
        if let Some(bytes) = number(self.event, key) {
            self.painted(Colour::Dim, &format!("{mark}{}", size(bytes)));
        }
    }

    fn labelled(&mut self, label: &str, key: &str) {
        if let Some(value) = text(self.event, key) {
            self.word(format!("{label} {value}"));
        }
    }

    fn field(&mut self, key: &str) {
        if let Some(value) = text(self.event, key) {
            self.word(value.to_owned());
        }
    }

    fn word(&mut self, word: String) {
        self.words.push(printable(&word).into_owned());
    }

    fn painted(&mut self, colour: Colour, word: &str) {
        self.words.push(painted(colour, word, self.colour));
    }
}

fn text<'e>(event: &'e Value, key: &str) -> Option<&'e str> {
    event.get(key)?.as_str()
}

fn number(event: &Value, key: &str) -> Option<u64> {
    event.get(key)?.as_u64()
}

/// An IPv6 address in brackets, so that its port stands apart.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

fn duration(milliseconds: f64) -> String {
    if milliseconds < 1000.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{:.1} s", milliseconds / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::describe;

    #[test]
    fn a_blocked_upload_reads_as_a_sentence() {
        let event = json!({
            "type": "transaction", "time": "2026-11-22T13:05:09.123456Z", "tenant": "acme",
            "user": "alice@acme.test", "device": "laptop-17", "action": "block", "method": "POST",
            "url": "https://content.dropboxapi.com/2/files/upload", "app": "dropbox",
            "instance_kind": "personal", "activity": "upload", "object": "plan.pdf",
            "rule": "corporate Dropbox only", "status": 403, "request_bytes": 48213,
            "response_bytes": 512, "total_ms": 63.127, "state": "close",
        });
        assert_eq!(
            describe(&event, false),
            "2026-11-22 13:05:09.123  acme  alice@acme.test on laptop-17  block  \
             POST https://content.dropboxapi.com/2/files/upload  dropbox/personal upload “plan.pdf”  \
             rule: corporate Dropbox only  403  ↑48.2 kB  ↓512 B  63.1 ms"
        );
    }

    #[test]
    fn a_refused_tunnel_says_why() {
        let event = json!({
            "type": "session", "time": "2026-11-22T13:05:09.123456Z", "tenant": "acme",
            "access_method": "tls", "client_ip": "2001:db8::7", "client_port": 51234,
            "error": "no_certificate", "error_side": "client", "state": "close",
        });
        assert_eq!(
            describe(&event, false),
            "2026-11-22 13:05:09.123  acme  -  tunnel refused  tls  from [2001:db8::7]:51234  \
             no_certificate (client)"
        );
    }

    #[test]
    fn an_event_cannot_steer_the_terminal() {
        let event = json!({"type": "transaction", "url": "https://a.test/\u{1b}[2J\r\n\u{202e}"});
        let line = describe(&event, true);
        assert!(line.contains(r"https://a.test/\u001b[2J\u000d\u000a\u202e"), "{line}");
    }
}
