//! JSON Schemas of what people write, from the same tables that read it.

use schemars::{Schema, json_schema};
use serde_json::{Map, Value, json};

use crate::decrypt::DecryptAction;
use crate::fact::{Key, KeyKind};
use crate::rule::{Action, OnUnobtainable};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The JSON Schema of policy.yaml.
#[must_use]
pub fn policy_schema() -> Schema {
    let when = |actions: &[Action], required: &[&str]| {
        let any: Vec<_> = required.iter().map(|key| json!({ "required": [key] })).collect();
        json!({
            "if": { "properties": { "action": { "enum": names(actions) } }, "required": ["action"] },
            "then": { "oneOf": any },
            "else": { "not": { "anyOf": any } },
        })
    };
    let unobtainable: Vec<&str> = OnUnobtainable::ALL.iter().map(|what| what.name()).collect();
    json_schema!({
        "$schema": DIALECT,
        "title": "Sluice policy",
        "type": "object",
        "additionalProperties": false,
        "required": ["version"],
        "properties": {
            "version": { "const": 1 },
            "default": { "enum": ["allow", "block"], "default": "allow",
                "description": "What happens where no rule decides." },
            "rules": {
                "type": "array",
                "description": "The first rule that matches decides.",
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["name", "match", "action"],
                    "properties": {
                        "name": { "type": "string", "minLength": 1 },
                        "match": matching(&|_| true),
                        "action": { "enum": names(&Action::ALL) },
                        "message": { "type": "string" },
                        "unobtainable": { "enum": unobtainable, "default": "block" },
                        "headers": { "type": "object", "minProperties": 1,
                            "additionalProperties": { "type": "string" } },
                        "to": { "type": "string", "pattern": "^https?://[^/]" },
                        "location": { "type": "string", "pattern": "^https?://[^/]" },
                    },
                    "allOf": [
                        when(&[Action::SetHeaders], &["headers"]),
                        when(&[Action::Redirect], &["location", "to"]),
                    ],
                },
            },
        },
    })
}

/// The JSON Schema of a tenant's `decrypt`, with the keys that may stand there.
pub(crate) fn decrypt_schema(allowed: &dyn Fn(Key) -> bool) -> Schema {
    let actions = DecryptAction::ALL.map(DecryptAction::name);
    json_schema!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "default": { "enum": actions, "default": "decrypt" },
            "rules": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["name", "match", "action"],
                    "properties": {
                        "name": { "type": "string", "minLength": 1 },
                        "match": matching(allowed),
                        "action": { "enum": actions },
                    },
                },
            },
        },
    })
}

fn names(actions: &[Action]) -> Vec<&'static str> {
    actions.iter().map(|action| action.name()).collect()
}

fn matching(allowed: &dyn Fn(Key) -> bool) -> Value {
    let keys: Map<String, Value> = Key::ALL
        .into_iter()
        .filter(|&key| allowed(key))
        .map(|key| (key.name().to_owned(), condition(key)))
        .collect();
    json!({
        "type": "object",
        "description": "All keys must match; any value of a key may.",
        "additionalProperties": false,
        "properties": keys,
    })
}

fn condition(key: Key) -> Value {
    let value = match key.kind() {
        KeyKind::Text | KeyKind::Url => json!({ "type": ["string", "number", "boolean"] }),
        KeyKind::Number | KeyKind::Size => json!({ "type": ["integer", "string"] }),
        KeyKind::Address => json!({ "type": "string" }),
        KeyKind::Time => json!({ "oneOf": [{ "type": "string" }, window()] }),
    };
    let any = json!([value, { "type": "array", "minItems": 1, "items": value }]);
    json!({
        "description": format!("Known at the {} at the latest.", key.gate().name()),
        "anyOf": [
            value,
            { "type": "array", "minItems": 1, "items": value },
            { "type": "object", "additionalProperties": false, "required": ["not"],
                "properties": { "not": { "anyOf": any } } },
        ],
    })
}

fn window() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "days": { "anyOf": [
                { "type": "string" },
                { "type": "array", "minItems": 1, "items": { "type": "string" } },
            ] },
            "from": { "type": "string" },
            "to": { "type": "string" },
            "zone": { "type": "string" },
        },
    })
}
