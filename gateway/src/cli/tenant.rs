//! `sluice tenant`: makes a tenant whole, or lists what is there.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use clap::Subcommand;

use super::ConfigArg;
use super::output::{Failure, say};
use super::templates;
use crate::config::{GatewayConfig, Layout, Secrecy, make_folder, read_gateway, write_atomically};
use crate::ident::{CaMaterial, Purpose, TenantName};
use crate::snapshot::ensure_tunnel_identity;

#[derive(Debug, Subcommand)]
pub(super) enum TenantCommand {
    /// Make a tenant: interception CA, device CA, sample policy
    Add {
        /// 1 to 40 of a-z, 0-9 and `-`
        name: String,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// List tenants
    List {
        #[command(flatten)]
        config: ConfigArg,
    },
}

pub(super) fn run(command: &TenantCommand) -> Result<(), Failure> {
    match command {
        TenantCommand::Add { name, config } => {
            let name = parse_name(name)?;
            let layout = Layout::new(&config.config);
            let gateway = gateway(&layout)?;
            no_earlier_events(&layout, &gateway, &name)?;
            forget_earlier_copies(&layout, &name)?;
            add(&layout, &name, SystemTime::now())?;
            issue_tunnel(&layout, &gateway, SystemTime::now())?;
            say(&format!("tenant {name}: {}", layout.tenant(&name).display()))?;
            say(&format!("clients connect to {}", gateway.tunnel_name(&name)))
        }
        TenantCommand::List { config } => {
            let layout = Layout::new(&config.config);
            // A directory without configuration is a mistake, not an empty list.
            gateway(&layout)?;
            names(&layout)?.iter().try_for_each(|name| say(name.as_str()))
        }
    }
}

/// A name that is none is wrong usage.
pub(super) fn parse_name(name: &str) -> Result<TenantName, Failure> {
    TenantName::parse(name).map_err(|error| Failure::Usage(error.to_string()))
}

/// gateway.yaml as it stands.
pub(super) fn gateway(layout: &Layout) -> Result<GatewayConfig, Failure> {
    if !layout.gateway_yaml().exists() {
        let dir = layout.root().display();
        return Err(Failure::Message(format!(
            "no gateway.yaml in {dir}; `sluice init {dir}` makes one"
        )));
    }
    read_gateway(layout).map_err(Failure::Problems)
}

pub(super) fn names(layout: &Layout) -> Result<Vec<TenantName>, Failure> {
    layout.tenant_names().map_err(Failure::doing("reading the tenants"))
}

/// The tenant's folder, where there is such a tenant.
pub(super) fn existing(layout: &Layout, name: &TenantName) -> Result<(), Failure> {
    if layout.tenant(name).is_dir() {
        return Ok(());
    }
    Err(Failure::Message(format!("no tenant `{name}` in {}", layout.tenants().display())))
}

/// Makes a tenant's folder in one step: a gateway that watches sees it whole or not at all.
pub(super) fn add(layout: &Layout, name: &TenantName, now: SystemTime) -> Result<(), Failure> {
    let folder = layout.tenant(name);
    if folder.exists() {
        return Err(Failure::Message(format!("tenant `{name}` exists: {}", folder.display())));
    }
    // A leading dot is in no tenant's name, so nobody takes the unfinished folder for one.
    let unfinished = layout.tenants().join(format!(".{name}.new"));
    let made = fill(&unfinished, name, now).and_then(|()| {
        fs::rename(&unfinished, &folder).map_err(Failure::doing("naming the tenant's folder"))
    });
    if made.is_err() {
        // The reason for the failure matters, not whether its debris could be removed.
        let _removed = fs::remove_dir_all(&unfinished);
    }
    made
}

/// A new tenant reads no events of an earlier one that bore its name.
fn no_earlier_events(
    layout: &Layout,
    gateway: &GatewayConfig,
    name: &TenantName,
) -> Result<(), Failure> {
    let folder = layout.root().join(&gateway.events.dir).join(name.as_str());
    if !folder.exists() {
        return Ok(());
    }
    Err(Failure::Message(format!(
        "{} holds the events of an earlier tenant `{name}`: move that folder away first, or take \
         another name",
        folder.display()
    )))
}

/// What last loaded of an earlier tenant must not serve where the new one's files are broken.
fn forget_earlier_copies(layout: &Layout, name: &TenantName) -> Result<(), Failure> {
    let copies = layout.last_good().join("tenants").join(name.as_str());
    if layout.tenant(name).exists() || !copies.exists() {
        return Ok(());
    }
    fs::remove_dir_all(&copies).map_err(Failure::doing("removing an earlier tenant's copies"))
}

fn fill(folder: &Path, name: &TenantName, now: SystemTime) -> Result<(), Failure> {
    let ca = folder.join("ca");
    make_folder(&ca).map_err(Failure::doing("making the tenant's folder"))?;
    for (purpose, file) in [(Purpose::Intercept, "intercept"), (Purpose::Device, "device")] {
        let (_, issued) = CaMaterial::generate(purpose, name.as_str(), now)
            .map_err(Failure::doing("making an authority"))?;
        write(&ca.join(format!("{file}.key")), &issued.key_pem, Secrecy::Secret)?;
        write(&ca.join(format!("{file}.pem")), &issued.cert_pem, Secrecy::Public)?;
    }
    write(&folder.join("tenant.yaml"), templates::TENANT, Secrecy::Public)?;
    write(&folder.join("policy.yaml"), policy::SAMPLE, Secrecy::Public)
}

/// Brings the gateway's own certificate up to date with the tenants there are.
pub(super) fn issue_tunnel(
    layout: &Layout,
    gateway: &GatewayConfig,
    now: SystemTime,
) -> Result<(), Failure> {
    ensure_tunnel_identity(layout, gateway, &names(layout)?, now)
        .map(drop)
        .map_err(|error| Failure::Message(error.to_string()))
}

pub(super) fn write(path: &Path, text: &str, secrecy: Secrecy) -> Result<(), Failure> {
    write_atomically(path, text.as_bytes(), secrecy)
        .map_err(Failure::doing(&format!("writing {}", path.display())))
}
