//! Targets of the `policy` crate: any text is a policy or a list of problems, and the compiled
//! evaluator agrees with the reference on it.

use policy::fact::{Fact, Facts, Gate, Key, Value};
use policy::{Policy, Vocabulary};

/// A target: its name, which is its corpus folder's too, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 1] = [("policy", load)];

pub fn load(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let problems = policy::check("policy.yaml", text, Vocabulary::default());
    // As YAML counts them: a lone carriage return ends a line too.
    let lines = 2 + text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    for problem in &problems {
        assert!(problem.to_string().starts_with("policy.yaml:"), "{problem}");
        assert!(usize::try_from(problem.line).is_ok_and(|line| line <= lines), "{problem}");
    }
    let Ok(policy) = Policy::load("policy.yaml", text) else {
        assert!(!problems.is_empty(), "refused without a reason");
        return;
    };
    let mut facts = Facts::new();
    judge_alike(&policy, &facts);
    facts.set(Key::App, Fact::Known(Value::Text("dropbox")));
    facts.set(Key::Domain, Fact::Known(Value::Text("www.dropbox.com")));
    facts.set(Key::Activity, Fact::Known(Value::Text("upload")));
    facts.set(Key::Dlp, Fact::Pending);
    judge_alike(&policy, &facts);
}

fn judge_alike(policy: &Policy, facts: &Facts<'_>) {
    let reference = policy.reference();
    let pair = (policy.connect(facts), reference.connect(facts));
    assert_eq!(format!("{:?}", pair.0), format!("{:?}", pair.1));
    for gate in Gate::ALL {
        let pair = (policy.judge(gate, facts), reference.judge(gate, facts));
        assert_eq!(format!("{:?}", pair.0), format!("{:?}", pair.1), "{gate:?}");
    }
}
