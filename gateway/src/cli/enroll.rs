//! `sluice enroll`: a client certificate for a user's device, and how to use it.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::ConfigArg;
use super::output::{Failure, say};
use super::tenant;
use crate::config::{GatewayConfig, Layout, Secrecy, make_folder, read_text, write_atomically};
use crate::ident::{CaMaterial, TenantName, fresh_token, hash_token, valid_device, valid_user};

#[derive(Debug, clap::Args)]
pub(super) struct EnrollArgs {
    tenant: String,
    /// Usually a mail address: it becomes the certificate's rfc822Name
    user: String,
    /// The device's id; a fresh one where left out
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Where the files go; below the configuration where left out
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArg,
}

/// What was issued, and where it lies.
#[derive(Debug)]
pub(super) struct Enrolled {
    tenant: TenantName,
    user: String,
    device: String,
    serial: String,
    out: PathBuf,
    explicit: Option<SocketAddr>,
}

/// Largest certificate or key file read here.
const PEM_BYTES_MAX: u64 = 1 << 20;
/// Largest token list: a million users.
const TOKENS_BYTES_MAX: u64 = 256 << 20;

pub(super) fn run(args: &EnrollArgs) -> Result<(), Failure> {
    let layout = Layout::new(&args.config.config);
    let name = tenant::parse_name(&args.tenant)?;
    let gateway = tenant::gateway(&layout)?;
    tenant::existing(&layout, &name)?;
    let now = SystemTime::now();
    tenant::issue_tunnel(&layout, &gateway, now)?;
    let out = args.out.clone().unwrap_or_else(|| default_out(&layout, &name, &args.user));
    let enrolled = enroll(&layout, &gateway, &name, &args.user, args.device.as_deref(), &out, now)?;
    enrolled.print(&gateway)
}

/// Where files go if nobody says where.
pub(super) fn default_out(layout: &Layout, tenant: &TenantName, user: &str) -> PathBuf {
    // Whatever a user may be called, it stays one folder.
    let folder: String =
        user.chars().map(|c| if matches!(c, '/' | '\\') { '_' } else { c }).collect();
    layout.root().join("enrolled").join(tenant.as_str()).join(format!("user-{folder}"))
}

/// Issues and writes everything a device needs.
pub(super) fn enroll(
    layout: &Layout,
    gateway: &GatewayConfig,
    tenant: &TenantName,
    user: &str,
    device: Option<&str>,
    out: &Path,
    now: SystemTime,
) -> Result<Enrolled, Failure> {
    let device = match device {
        Some(device) => device.to_owned(),
        None => fresh_device()?,
    };
    if !valid_user(user) || !user.is_ascii() || user.contains([':', ',']) {
        return Err(Failure::Usage(format!(
            "`{user}` is no user's name, such as `alice@acme.test`"
        )));
    }
    if !valid_device(&device) || !device.is_ascii() || device.contains(',') {
        return Err(Failure::Usage(format!("`{device}` is no device's id, such as `laptop-7`")));
    }
    let folder = layout.tenant(tenant);
    let authority = device_authority(&folder)?;
    let issued = authority
        .issue_device(user, &device, now)
        .map_err(Failure::doing("issuing the certificate"))?;
    make_folder(out).map_err(Failure::doing("making the output folder"))?;
    let both = zeroize::Zeroizing::new(format!("{}{}", issued.cert_pem, *issued.key_pem));
    tenant::write(&out.join("client.pem"), &both, Secrecy::Secret)?;
    copy_public(&tunnel_trust(layout), &out.join("tunnel-ca.pem"))?;
    copy_public(&folder.join("ca/intercept.pem"), &out.join("intercept-ca.pem"))?;
    let explicit = gateway.listen.explicit.iter().find(|(_, owner)| *owner == tenant);
    let explicit = explicit.map(|(address, _)| *address);
    if let Some(address) = explicit {
        let token = fresh_token().ok_or_else(|| Failure::message("no randomness"))?;
        remember_token(&folder, user, &device, &token)?;
        let user = utf8_percent_encode(user, URL_USER);
        let url = zeroize::Zeroizing::new(format!("http://{user}:{}@{}\n", *token, dial(address)));
        tenant::write(&out.join("proxy.url"), &url, Secrecy::Secret)?;
    }
    Ok(Enrolled {
        tenant: tenant.clone(),
        user: user.to_owned(),
        device,
        serial: issued.serial,
        out: out.to_owned(),
        explicit,
    })
}

/// All but RFC 3986's unreserved characters: nothing in a name can end the user part.
const URL_USER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn fresh_device() -> Result<String, Failure> {
    let bytes =
        crate::ident::random::bytes::<6>().ok_or_else(|| Failure::message("no randomness"))?;
    Ok(format!("device-{}", crate::ident::hex::encode(&bytes)))
}

fn device_authority(folder: &Path) -> Result<CaMaterial, Failure> {
    let read = |name: &str| {
        let path = folder.join(name);
        read_text(&path, PEM_BYTES_MAX)
            .map_err(Failure::doing(&format!("reading {}", path.display())))
    };
    let key = zeroize::Zeroizing::new(read("ca/device.key")?);
    CaMaterial::from_pem(&read("ca/device.pem")?, &key).map_err(Failure::doing("the device CA"))
}

/// What clients must trust to know the gateway: its authority, or, where the operator put only a
/// certificate there, that.
fn tunnel_trust(layout: &Layout) -> PathBuf {
    let ca = layout.tunnel().join("ca.pem");
    if ca.is_file() { ca } else { layout.tunnel().join("cert.pem") }
}

fn copy_public(from: &Path, to: &Path) -> Result<(), Failure> {
    let text = read_text(from, PEM_BYTES_MAX)
        .map_err(Failure::doing(&format!("reading {}", from.display())))?;
    tenant::write(to, &text, Secrecy::Public)
}

/// Notes the token's hash. Two commands at once take turns, so that neither loses the other's.
fn remember_token(folder: &Path, user: &str, device: &str, token: &str) -> Result<(), Failure> {
    let _turn = lock(folder)?;
    let path = folder.join("tokens.csv");
    let mut text = match read_text(&path, TOKENS_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            "# user,device,sha256 of the token; written by `sluice enroll`\n".to_owned()
        }
        Err(error) => return Err(Failure::doing("reading tokens.csv")(error)),
    };
    let hash = crate::ident::hex::encode(&hash_token(token));
    // A device enrolled again gets a new token and loses the old one.
    let line = format!("{user},{device},");
    text = text.lines().filter(|other| !other.starts_with(&line)).fold(
        String::new(),
        |mut kept, other| {
            kept.push_str(other);
            kept.push('\n');
            kept
        },
    );
    text.push_str(&format!("{line}{hash}\n"));
    write_atomically(&path, text.as_bytes(), Secrecy::Secret)
        .map_err(Failure::doing("writing tokens.csv"))
}

/// Holds a tenant's files until dropped.
pub(super) fn lock(folder: &Path) -> Result<File, Failure> {
    let open = || -> io::Result<File> {
        let file = fs::OpenOptions::new().create(true).append(true).open(folder.join(".lock"))?;
        file.lock()?;
        Ok(file)
    };
    open().map_err(Failure::doing("locking the tenant's folder"))
}

/// An address to connect to where a listener has a wildcard.
fn dial(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

impl Enrolled {
    /// What was made, and lines to paste.
    pub(super) fn print(&self, gateway: &GatewayConfig) -> Result<(), Failure> {
        let Self { tenant, user, device, serial, out, .. } = self;
        say(&format!("enrolled {user} on {device} (tenant {tenant}, serial {serial})"))?;
        say(&format!("files: {}", out.display()))?;
        for (title, lines) in self.uses(gateway) {
            say("")?;
            say(&format!("# {title}"))?;
            lines.iter().try_for_each(|line| say(line))?;
        }
        Ok(())
    }

    /// Ready-to-paste lines of curl alone.
    pub(super) fn curl_lines(&self, gateway: &GatewayConfig) -> Vec<String> {
        let out = shell_word(&self.out.display().to_string());
        let proxy = self.proxy(gateway);
        let mut lines = vec![format!(
            "curl --proxy {proxy} --proxy-cacert {out}/tunnel-ca.pem --proxy-cert {out}/client.pem \
             --cacert {out}/intercept-ca.pem https://example.com/"
        )];
        if self.explicit.is_some() {
            lines.push(format!(
                "curl --proxy \"$(cat {out}/proxy.url)\" --cacert {out}/intercept-ca.pem \
                 https://example.com/"
            ));
        }
        lines
    }

    fn proxy(&self, gateway: &GatewayConfig) -> String {
        let name = gateway.tunnel_name(&self.tenant);
        format!("https://{name}:{}", gateway.listen.tcp.port())
    }

    fn uses(&self, gateway: &GatewayConfig) -> Vec<(&'static str, Vec<String>)> {
        let out = shell_word(&self.out.display().to_string());
        let proxy = self.proxy(gateway);
        vec![
            ("curl", self.curl_lines(gateway)),
            (
                "Chromium (certificates go to its store first; libnss3-tools has certutil)",
                vec![
                    format!(
                        "openssl pkcs12 -export -in {out}/client.pem -out {out}/client.p12 \
                         -passout pass:"
                    ),
                    format!(
                        "pk12util -d sql:$HOME/.pki/nssdb -i {out}/client.p12 -W ''; for ca in \
                         tunnel-ca intercept-ca; do certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n \
                         sluice-$ca -i {out}/$ca.pem; done"
                    ),
                    format!("chromium --proxy-server={proxy}"),
                ],
            ),
            (
                "openconnect",
                vec![format!(
                    "openconnect --protocol=anyconnect --cafile={out}/tunnel-ca.pem \
                     --certificate={out}/client.pem {proxy}"
                )],
            ),
        ]
    }
}

/// Quotes a path where a shell would take it apart.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@+=:".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
