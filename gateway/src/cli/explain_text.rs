//! An explanation as a person reads it.

use policy::{Judged, KeyTrace, RuleTrace};

use super::paint::{Colour, painted};
use crate::event::printable;
use crate::verdict::explain::{Explanation, GateTrace, NearRule, OperationTrace};

/// Operations shown; a batch of more reads better as JSON.
const OPERATIONS_MAX: usize = 8;

/// The whole text, without its last newline. No byte of a request can move the terminal's cursor.
pub(super) fn describe(answer: &Explanation, colour: bool) -> String {
    let mut page = Page { lines: Vec::new(), colour };
    page.verdict(answer);
    page.request(answer);
    page.why(answer);
    page.gates(answer);
    page.near(answer);
    page.lines.join("\n")
}

struct Page {
    lines: Vec<String>,
    colour: bool,
}

impl Page {
    fn verdict(&mut self, answer: &Explanation) {
        let action = painted(Colour::of_action(answer.action), answer.action, self.colour);
        let by = match (&answer.rule, &answer.block_reason) {
            (Some(rule), _) => format!("by rule `{}`", printable(rule)),
            (None, _) if answer.action == "pending" => {
                format!("until known: {}", answer.waits_for.join(", "))
            }
            (None, Some(reason)) if reason != "default" => format!("because: {reason}"),
            (None, _) => "by default: no rule decides".to_owned(),
        };
        self.lines.push(format!("{action}  {by}"));
        for what in &answer.give {
            let (option, known) = match *what {
                "dest_ip" => ("--dest-ip IP", "the address that the name has"),
                _ => ("--body FILE", "what the request sends"),
            };
            let waiting: Vec<_> = answer
                .waits_for
                .iter()
                .copied()
                .filter(|key| (*key == "dest_ip") == (*what == "dest_ip"))
                .collect();
            let waiting = waiting.join(", ");
            self.row("say more", &format!("{option}: {known} tells {waiting}"));
        }
    }

    fn request(&mut self, answer: &Explanation) {
        self.row("request", &format!("{} {}", answer.method, answer.url));
        let device = answer.device.as_ref().map_or(String::new(), |device| format!(" on {device}"));
        let groups = match answer.groups.as_slice() {
            [] => "in no group".to_owned(),
            groups => format!("in {}", groups.join(", ")),
        };
        self.row("user", &format!("{}{device}, {groups}", answer.user));
        let app = answer.app.as_deref().unwrap_or("unknown");
        let category = answer.category.as_deref().unwrap_or("unknown");
        self.row("app", &format!("{app} ({category})"));
        if let Some(kind) = answer.instance_kind {
            let id = answer.instance.as_deref().unwrap_or("not named");
            self.row("instance", &format!("{id} ({kind})"));
        }
        for operation in answer.operations.iter().take(OPERATIONS_MAX) {
            self.operation(operation, answer.operations.len() > 1);
        }
        if let Some(more) = answer.operations.len().checked_sub(OPERATIONS_MAX).filter(|it| *it > 0)
        {
            self.row("", &format!("and {more} more operations"));
        }
        let rule = answer.decrypt.rule.as_deref();
        let rule = rule.map_or_else(|| "default".to_owned(), |rule| format!("rule `{rule}`"));
        match answer.decrypt.action {
            "not_tls" => self.row("decrypt", "not TLS"),
            action => self.row("decrypt", &format!("{action} ({rule})")),
        }
    }

    fn operation(&mut self, operation: &OperationTrace, several: bool) {
        let mut text = operation.activity.to_owned();
        for (before, value) in [
            (" ", &operation.object),
            (" from ", &operation.from_user),
            (" to ", &operation.to_user),
        ] {
            if let Some(value) = value {
                text.push_str(before);
                text.push_str(value);
            }
        }
        if several {
            let rule = operation.rule.as_deref().unwrap_or("default");
            text.push_str(&format!(": {} ({rule})", operation.action));
        }
        self.row("activity", &text);
    }

    fn why(&mut self, answer: &Explanation) {
        if let Some(rule) = &answer.why {
            self.heading(&format!("why: rule `{}`, line {}", rule.name, rule.line));
            self.keys(&rule.keys);
            if rule.keys.is_empty() {
                self.item("it matches everything");
            }
        }
        for alert in &answer.alerts {
            self.row("alert", alert);
        }
        for set in &answer.set_headers {
            self.row("sets", &format!("{} (rule `{}`)", set.headers.join(", "), set.rule));
        }
    }

    fn gates(&mut self, answer: &Explanation) {
        if answer.gates.is_empty() {
            return;
        }
        self.heading("at each gate");
        let several = answer.operations.len() > 1;
        for gate in &answer.gates {
            let number = gate.operation.filter(|_| several).map(|number| number + 1);
            let number = number.map_or(String::new(), |number| format!(", operation {number}"));
            self.item(&format!("{}{number}: {}", gate.trace.gate, judged(gate)));
            for rule in &gate.trace.undecided {
                self.item(&format!("  rule `{}` waits: {}", rule.name, waiting(rule)));
            }
        }
    }

    fn near(&mut self, answer: &Explanation) {
        if answer.near.is_empty() {
            return;
        }
        self.heading("came near");
        for NearRule { rule, line, action, lacked } in &answer.near {
            self.item(&format!("rule `{rule}`, line {line} ({action}) lacked"));
            for lack in lacked {
                self.item(&format!("  {}: wants {}, saw {}", lack.key, lack.wanted, lack.seen));
            }
        }
    }

    fn keys(&mut self, keys: &[KeyTrace]) {
        for key in keys {
            self.item(&format!("{}: wants {}, saw {}", key.key, key.wants, key.saw));
        }
    }

    fn heading(&mut self, text: &str) {
        self.lines.push(String::new());
        self.lines.push(painted(Colour::Notice, text, self.colour));
    }

    fn item(&mut self, text: &str) {
        self.lines.push(format!("  {}", printable(text)));
    }

    fn row(&mut self, label: &str, text: &str) {
        let label = painted(Colour::Dim, &format!("{label:>9}"), self.colour);
        self.lines.push(format!("{label}  {}", printable(text)));
    }
}

fn judged(gate: &GateTrace) -> String {
    let name = gate.trace.rule.as_ref().map(|rule| rule.name.as_str()).unwrap_or_default();
    match &gate.trace.judged {
        Judged::Pending(keys) => format!("must first know {}", keys.join(", ")),
        Judged::GoOn => "nothing decides yet".to_owned(),
        Judged::Rule { action, unobtainable: None } => format!("{action} by rule `{name}`"),
        Judged::Rule { action, unobtainable: Some(key) } => {
            format!("{action} by rule `{name}`, since {key} cannot be known")
        }
        Judged::Default { action } => format!("{action} by default"),
    }
}

fn waiting(rule: &RuleTrace) -> String {
    let open = rule.keys.iter().filter(|key| matches!(key.result, "pending" | "deferred"));
    open.map(|key| format!("{} ({})", key.key, key.saw)).collect::<Vec<_>>().join(", ")
}
