//! `sluice schema`: JSON Schemas for editors and pipelines.

use clap::ValueEnum;

use super::output::{Failure, say};
use crate::config::{gateway_schema, tenant_schema};

#[derive(Debug, clap::Args)]
pub(super) struct SchemaArgs {
    /// Which file
    file: SchemaFile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemaFile {
    Gateway,
    Tenant,
    Policy,
}

pub(super) fn run(args: &SchemaArgs) -> Result<(), Failure> {
    let schema = match args.file {
        SchemaFile::Gateway => gateway_schema(),
        SchemaFile::Tenant => tenant_schema(),
        SchemaFile::Policy => policy::policy_schema().to_value(),
    };
    let text = serde_json::to_string_pretty(&schema).map_err(Failure::doing("writing JSON"))?;
    say(&text)
}
