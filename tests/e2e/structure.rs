//! The shape of the code: imports point up the pipeline, and the pure crates stay pure.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The pipeline, in order. A stage imports only what stands before it.
const STAGES: [&str; 15] = [
    "ident",
    "config",
    "snapshot",
    "event",
    "telemetry",
    "limit",
    "socket",
    "tunnel",
    "stream",
    "flow",
    "tls",
    "exchange",
    "verdict",
    "origin",
    "serve",
];

/// What uses a running gateway from outside the pipeline.
const OUTSIDE: [&str; 2] = ["admin", "cli"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// The stages that a source text imports from.
fn imported(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| {
        line.split("crate::").skip(1).filter_map(|rest| {
            let end = rest.find(|it: char| !it.is_ascii_lowercase() && it != '_');
            rest.get(..end.unwrap_or(rest.len()))
        })
    })
}

#[test]
fn imports_point_up_the_pipeline() {
    let source = root().join("gateway/src");
    let mut wrong = Vec::new();
    for (place, stage) in STAGES.iter().enumerate() {
        let mut files = Vec::new();
        sources(&source.join(stage), &mut files);
        assert!(!files.is_empty(), "no stage `{stage}`");
        // Only the driver starts the admin endpoint.
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for name in imported(&text) {
                let after = STAGES.iter().position(|it| it == &name).is_some_and(|it| it > place);
                let outside = OUTSIDE.contains(&name) && *stage != "serve";
                if after || outside {
                    wrong.push(format!("{} imports {name}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Names of the functions in a source text.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next())
}

/// What stands between backticks and reads like a test's name.
fn test_names(text: &str) -> impl Iterator<Item = &str> {
    let word = |it: &&str| {
        // Metrics are named in the same way, and all begin so.
        it.matches('_').count() >= 2
            && !it.starts_with("sluice_")
            && it.bytes().all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    text.split('`').skip(1).step_by(2).filter(word)
}

/// The cases that a test is named after: `ct_12_ti_01_words` are CT-12 and TI-01.
fn cases(name: &str) -> Vec<String> {
    let mut parts = name.split('_');
    let mut found = Vec::new();
    while let (Some(group), Some(number)) = (parts.next(), parts.next()) {
        let known = ["uc", "ct", "ta", "sd", "ti", "h3", "dt"].contains(&group);
        if !known || number.len() != 2 || !number.bytes().all(|it| it.is_ascii_digit()) {
            break;
        }
        found.push(format!("{}-{number}", group.to_uppercase()));
    }
    found
}

#[test]
fn the_tests_that_the_documents_name_exist_and_each_case_names_its_own() {
    let mut files = Vec::new();
    for folder in ["policy/src", "gateway/proto/src", "gateway/src", "tests/e2e"] {
        sources(&root().join(folder), &mut files);
    }
    let texts: Vec<_> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let known: BTreeSet<&str> = texts.iter().flat_map(|text| functions(text)).collect();
    let read = |name: &str| fs::read_to_string(root().join("docs").join(name)).unwrap();
    let (page, security) = (read("cases.md"), read("security.md"));
    let named = test_names(&page).chain(test_names(&security));
    let unknown: Vec<_> = named.filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "no such tests: {unknown:#?}");

    let row = |case: &str| page.lines().find(|line| line.starts_with(&format!("| {case} |")));
    for name in known {
        for case in cases(name) {
            let row = row(&case).unwrap_or_else(|| panic!("docs/cases.md has no row {case}"));
            assert!(test_names(row).any(|it| it == name), "row {case} does not name {name}");
        }
    }
}

#[test]
fn the_pure_crates_depend_on_no_runtime() {
    for name in ["policy", "gateway-proto"] {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "-p", name, "-e", "normal", "--prefix", "none"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let tree = String::from_utf8_lossy(&tree.stdout);
        for runtime in ["tokio ", "mio ", "socket2 ", "async-std ", "hyper ", "rustls "] {
            let found = tree.lines().any(|line| line.starts_with(runtime));
            assert!(!found, "{name} depends on {runtime}");
        }
    }
}

#[test]
fn no_source_of_the_pure_crates_reads_a_clock_or_a_file() {
    let mut files = Vec::new();
    sources(&root().join("policy/src"), &mut files);
    sources(&root().join("gateway/proto/src"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for call in
            ["SystemTime::now", "Instant::now", "std::fs::", "std::net::Tcp", "Timestamp::now"]
        {
            let tests = file.to_string_lossy().contains("test");
            assert!(tests || !text.contains(call), "{} has {call}", file.display());
        }
    }
}
