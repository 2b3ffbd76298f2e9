//! Reads single files for commands that need no more.

use std::io;
use std::path::Path;

use policy::Problem;

use super::problem::{FIRST, problem};
use super::reader::read;
use super::{GatewayConfig, Layout, check_gateway, read_text};
use crate::ident::RevocationList;

/// Largest file read here; revocations of a million devices.
const BYTES_MAX: u64 = 64 << 20;

/// gateway.yaml alone: the files and tenants it names are not looked at.
///
/// # Errors
/// All its mistakes.
pub fn read_gateway(layout: &Layout) -> Result<GatewayConfig, Vec<Problem>> {
    let path = layout.gateway_yaml();
    let file = layout.shown(&path);
    let text = read_text(&path, BYTES_MAX)
        .map_err(|error| vec![problem(&file, FIRST, error.to_string(), "a readable file")])?;
    let read = read::<GatewayConfig>(&file, &text)?;
    let problems = check_gateway(&file, &read.tree, &read.value);
    if problems.is_empty() { Ok(read.value) } else { Err(problems) }
}

/// Why a file could not be read as what it should be.
#[derive(Debug)]
pub enum ReadFailure {
    Io(io::Error),
    Problems(Vec<Problem>),
}

/// A tenant's revoked.yaml.
///
/// # Errors
/// Where it cannot be read, or its mistakes.
pub fn read_revocations(layout: &Layout, path: &Path) -> Result<RevocationList, ReadFailure> {
    let file = layout.shown(path);
    let text = read_text(path, BYTES_MAX).map_err(ReadFailure::Io)?;
    parse_revocations(&file, &text).map_err(ReadFailure::Problems)
}

/// The text of a revoked.yaml.
///
/// # Errors
/// Its mistakes.
pub(crate) fn parse_revocations(file: &str, text: &str) -> Result<RevocationList, Vec<Problem>> {
    read::<RevocationList>(file, text)?.value.canonical().map_err(|serial| {
        let what = format!("`{serial}` under `serials`");
        vec![problem(file, FIRST, what, "a serial in hexadecimal")]
    })
}
