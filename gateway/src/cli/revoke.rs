//! `sluice revoke`: a certificate or a device is no longer welcome.

use std::io;

use super::ConfigArg;
use super::output::{Failure, say};
use super::{enroll, tenant};
use crate::config::{Layout, ReadFailure, Secrecy, read_revocations};
use crate::ident::{RevocationList, valid_device};

#[derive(Debug, clap::Args)]
#[group(id = "what", required = true, multiple = false, args = ["serial", "device"])]
pub(super) struct RevokeArgs {
    tenant: String,
    /// One certificate, by its serial number in hexadecimal
    #[arg(long, value_name = "S")]
    serial: Option<String>,
    /// Every certificate and token of a device
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) fn run(args: &RevokeArgs) -> Result<(), Failure> {
    let layout = Layout::new(&args.config.config);
    let name = tenant::parse_name(&args.tenant)?;
    tenant::existing(&layout, &name)?;
    let folder = layout.tenant(&name);
    let _turn = enroll::lock(&folder)?;
    let path = folder.join("revoked.yaml");
    let mut list = match read_revocations(&layout, &path) {
        Ok(list) => list,
        Err(ReadFailure::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            RevocationList::default()
        }
        Err(ReadFailure::Io(error)) => return Err(Failure::doing("reading revoked.yaml")(error)),
        Err(ReadFailure::Problems(problems)) => return Err(Failure::Problems(problems)),
    };
    if let Some(serial) = &args.serial {
        if !list.revoke_serial(serial) {
            return Err(Failure::Usage(format!("`{serial}` is no serial number in hexadecimal")));
        }
        say(&format!("revoked: certificate {serial} of tenant {name}"))?;
    }
    if let Some(device) = &args.device {
        if !valid_device(device) {
            return Err(Failure::Usage(format!("`{device}` is no device's id")));
        }
        list.revoke_device(device);
        say(&format!("revoked: device {device} of tenant {name}"))?;
    }
    tenant::write(&path, &list.to_yaml(), Secrecy::Public)
}
