//! `sluice explain`: which rule decides a request that was not made, and why.

use std::io::{self, IsTerminal as _, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use policy::catalog::Catalog;

use super::output::{Failure, say};
use super::{ConfigArg, explain_text, tenant};
use crate::config::Layout;
use crate::serve;
use crate::snapshot::{GatewayUnit, look};
use crate::verdict::explain::{Explanation, Setting, explain};
use crate::verdict::question::{self, NOBODY, Question, QuestionError, SOURCE};

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    tenant: String,
    /// Who asks; the directory tells the groups
    #[arg(long, value_name = "U", default_value = NOBODY)]
    user: String,
    /// From which device
    #[arg(long, value_name = "D")]
    device: Option<String>,
    /// What is asked for
    #[arg(long)]
    url: String,
    /// GET where left out, POST with a body
    #[arg(long, value_name = "M")]
    method: Option<String>,
    /// `Name: value`, any number of times
    #[arg(long = "header", value_name = "H")]
    headers: Vec<String>,
    /// The request's body
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Where the tunnel comes from
    #[arg(long, value_name = "IP", default_value_t = SOURCE)]
    source_ip: IpAddr,
    /// Where the name lives, for rules that go by the destination's address
    #[arg(long, value_name = "IP")]
    dest_ip: Option<IpAddr>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let answer = answer(args)?;
    if args.json {
        let text = serde_json::to_string_pretty(&answer);
        return say(&text.map_err(Failure::doing("writing JSON"))?);
    }
    say(&explain_text::describe(&answer, io::stdout().is_terminal()))
}

pub(super) fn answer(args: &ExplainArgs) -> Result<Explanation, Failure> {
    let name = tenant::parse_name(&args.tenant)?;
    let wrong = |error: QuestionError| Failure::Usage(error.to_string());
    let headers: Vec<_> = args
        .headers
        .iter()
        .map(|line| question::header(line))
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    // A URL that is none is wrong whatever the configuration and the body.
    question::request(&args.url, args.method.as_deref(), &headers, None).map_err(wrong)?;
    let layout = Layout::new(&args.config.config);
    tenant::gateway(&layout)?;
    tenant::existing(&layout, &name)?;
    let (unit, tenant) = look(&layout, &name).map_err(Failure::Problems)?;
    let bound = tenant.config.limits.hold_bytes.bytes();
    let body = args.body.as_deref().map(|path| body(path, bound)).transpose()?;
    let question = Question {
        who: tenant
            .directory
            .who(args.user.as_str().into(), args.device.as_deref().map(Into::into)),
        source: args.source_ip,
        address: args.dest_ip,
        now: now(),
        request: question::request(&args.url, args.method.as_deref(), &headers, body.as_ref())
            .map_err(wrong)?,
        body,
    };
    let catalog = catalog()?;
    let guard = serve::guard(&unit, own_addresses(&unit));
    let setting =
        Setting { tenant: &tenant, catalog: &catalog, guard: &guard, places: &unit.places };
    Ok(explain(&setting, &question))
}

/// The catalog that comes with the program.
pub(super) fn catalog() -> Result<Catalog, Failure> {
    Catalog::builtin().map_err(|problems| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        Failure::Message(format!("the catalog does not load: {first}"))
    })
}

/// The file, or so much of it that it is seen to be more than may be held.
fn body(path: &Path, bound: u64) -> Result<Bytes, Failure> {
    let shown = path.display().to_string();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(bound.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(Failure::doing(&shown))?;
    Ok(bytes.into())
}

/// Where a gateway of this configuration listens.
pub(super) fn own_addresses(unit: &GatewayUnit) -> Vec<SocketAddr> {
    let listen = &unit.config.listen;
    let fixed = [listen.tcp, listen.udp, unit.config.admin.listen];
    fixed.into_iter().chain(listen.explicit.keys().copied()).collect()
}

/// Seconds since the Unix epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
