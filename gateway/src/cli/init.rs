//! `sluice init`: a commented configuration to begin with.

use std::path::PathBuf;
use std::time::SystemTime;

use super::output::{Failure, say};
use super::{enroll, templates, tenant};
use crate::config::{GatewayConfig, HostName, Layout, Secrecy, make_folder};
use crate::ident::TenantName;

#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// Directory to write
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Tunnels answer to gateway-TENANT.DOMAIN
    #[arg(long, value_name = "D", default_value = DEFAULT_DOMAIN)]
    domain: String,
    /// The first tenant
    #[arg(long, value_name = "T", default_value = DEFAULT_TENANT)]
    tenant: String,
}

const DEFAULT_DOMAIN: &str = "localhost";
const DEFAULT_TENANT: &str = "demo";

/// What a first start made, for the lines it prints.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) gateway: GatewayConfig,
    pub(super) enrolled: enroll::Enrolled,
}

pub(super) fn run(args: &InitArgs) -> Result<(), Failure> {
    let layout = Layout::new(&args.dir);
    let tenant = tenant::parse_name(&args.tenant)?;
    let made = make(&layout, &args.domain, &tenant)?;
    say(&format!("configuration: {}", layout.root().display()))?;
    say(&format!("tenant {tenant}: {}", layout.tenant(&tenant).display()))?;
    say("")?;
    made.enrolled.print(&made.gateway)?;
    say("")?;
    say(&format!("now: sluice serve --config {}", args.dir.display()))
}

/// Makes a directory with the defaults of a first start.
pub(super) fn first_start(layout: &Layout) -> Result<Made, Failure> {
    let tenant = tenant::parse_name(DEFAULT_TENANT)?;
    make(layout, DEFAULT_DOMAIN, &tenant)
}

fn make(layout: &Layout, domain: &str, name: &TenantName) -> Result<Made, Failure> {
    let domain: HostName = domain
        .parse()
        .map_err(|_| Failure::Usage(format!("`{domain}` is no domain, such as `acme.test`")))?;
    if layout.gateway_yaml().exists() {
        let dir = layout.root().display();
        return Err(Failure::Message(format!("{dir} has a gateway.yaml already")));
    }
    make_folder(layout.root()).map_err(Failure::doing("making the directory"))?;
    let now = SystemTime::now();
    if !layout.tenant(name).is_dir() {
        tenant::add(layout, name, now)?;
    }
    // Written last of what a gateway reads: a first start that was cut short begins again.
    let text = templates::gateway(domain.as_str(), name);
    tenant::write(&layout.gateway_yaml(), &text, Secrecy::Public)?;
    let gateway = tenant::gateway(layout)?;
    tenant::issue_tunnel(layout, &gateway, now)?;
    let user = format!("alice@{name}.test");
    let out = enroll::default_out(layout, name, &user);
    let enrolled = enroll::enroll(layout, &gateway, name, &user, None, &out, now)?;
    Ok(Made { gateway, enrolled })
}
