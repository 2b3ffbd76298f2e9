//! Keeps docs/configuration.md in step with the schemas: its tables are generated from them.
//!
//! `SLUICE_BLESS=1 cargo test -p gateway config::docs` writes the tables anew.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use super::{gateway_schema, tenant_schema};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

#[test]
fn the_tables_of_configuration_md_are_the_schemas() {
    let text = fs::read_to_string(FILE).unwrap();
    let mut expected = text.clone();
    for (name, schema) in [("gateway.yaml", gateway_schema()), ("tenant.yaml", tenant_schema())] {
        expected = with_table(&expected, name, &table(&schema));
    }
    if std::env::var_os("SLUICE_BLESS").is_some() {
        fs::write(FILE, &expected).unwrap();
    } else {
        assert_eq!(text, expected, "docs/configuration.md lags behind; see the head of this file");
    }
}

fn with_table(text: &str, name: &str, table: &str) -> String {
    let begin = format!("<!-- keys of {name}: generated -->\n");
    let (head, rest) = text.split_once(&begin).unwrap();
    let (_, tail) = rest.split_once("<!-- end -->").unwrap();
    format!("{head}{begin}\n{table}\n<!-- end -->{tail}")
}

fn table(schema: &Value) -> String {
    let mut rows = String::from("| key | value | default | meaning |\n|---|---|---|---|\n");
    section(schema, schema, "", &mut rows);
    rows
}

fn section(root: &Value, schema: &Value, prefix: &str, rows: &mut String) {
    for (key, property) in schema["properties"].as_object().unwrap() {
        let path = format!("{prefix}{key}");
        let meaning = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        let nested = keys_below(root, property);
        let required = schema["required"]
            .as_array()
            .is_some_and(|list| list.iter().any(|it| it == key.as_str()));
        let default = match &property["default"] {
            _ if required => "required".to_owned(),
            Value::Object(map) if !map.is_empty() => String::new(),
            Value::Null if nested.is_some() && property.get("default").is_none() => String::new(),
            default => format!("`{default}`").replace('"', ""),
        };
        let form = form(root, property);
        writeln!(rows, "| `{path}` | {form} | {default} | {meaning} |").unwrap();
        if let Some((mark, below)) = nested {
            section(root, below, &format!("{path}{mark}."), rows);
        }
    }
}

/// The mapping a property is, or is a list or mapping of, with the mark that says so.
fn keys_below<'s>(root: &'s Value, property: &'s Value) -> Option<(&'static str, &'s Value)> {
    let described = target(root, property);
    if described["properties"].is_object() {
        // The decrypt rules have a chapter of their own.
        let foreign = described["properties"].get("rules").is_some();
        return (!foreign).then_some(("", described));
    }
    let item = target(root, &described["items"]);
    if item["properties"].is_object() {
        return Some(("[]", item));
    }
    let value = target(root, &described["additionalProperties"]);
    value["properties"].is_object().then_some((".<name>", value))
}

/// The schema itself, whether written in place, referred to, or one of it and null.
fn target<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    if let Some(name) = reference(schema) {
        return &root["$defs"][name];
    }
    let alternatives = schema["anyOf"].as_array();
    alternatives
        .and_then(|list| list.iter().find(|one| one["type"] != "null"))
        .map_or(schema, |one| target(root, one))
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// What may stand there, in words.
fn form(root: &Value, schema: &Value) -> String {
    let named = match reference(schema)
        .or_else(|| schema["anyOf"].as_array()?.iter().find_map(reference))
    {
        Some("ByteSize") => "size",
        Some("MemoryLimit") => "share or size",
        Some("PortRange") => "port or range",
        Some("Network") => "network",
        Some("NameServer") => "address",
        Some("HostName") => "name",
        Some("TokenHash") => "64 hexadecimal digits",
        Some("Resolver") => "`system` or list of addresses",
        Some("Decrypt") => "mapping, see below",
        _ => "",
    };
    if !named.is_empty() {
        return named.to_owned();
    }
    let schema = target(root, schema);
    let choices = schema["enum"].as_array().map(|list| list.iter().collect::<Vec<_>>());
    let choices = choices.or_else(|| {
        let one_of = schema["oneOf"].as_array()?;
        let each = one_of.iter().flat_map(|one| match (&one["const"], one["enum"].as_array()) {
            (Value::Null, Some(list)) => list.iter().collect(),
            (one, _) => vec![one],
        });
        Some(each.collect())
    });
    if let Some(choices) = choices {
        let words: Vec<String> =
            choices.iter().filter_map(|it| it.as_str()).map(|it| format!("`{it}`")).collect();
        return words.join(" \\| ");
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").unwrap(),
        kind => kind,
    };
    match kind.as_str() {
        Some("integer") => match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            (Some(least), None) if least > 0 => format!("at least {least}"),
            _ => "number".to_owned(),
        },
        Some("boolean") => "`true` \\| `false`".to_owned(),
        Some("array") => format!("list of {}", plural(&form(root, &schema["items"]))),
        Some("object") => "mapping".to_owned(),
        Some("string") if schema["format"] == "ip" => "address".to_owned(),
        _ => "text".to_owned(),
    }
}

fn plural(form: &str) -> String {
    match form {
        "address" => "addresses".to_owned(),
        "mapping" => "mappings".to_owned(),
        "network" => "networks".to_owned(),
        "port or range" => "ports or ranges".to_owned(),
        "text" => "texts".to_owned(),
        other => other.to_owned(),
    }
}
