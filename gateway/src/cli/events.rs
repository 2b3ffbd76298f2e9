//! `sluice events`: the event log for people, or as NDJSON for programs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::events_line;
use crate::event::{ReadError, Reader};

/// Between two looks at the log with `--follow`.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Events held at once over all tenants while their logs are merged by time.
const HELD_MAX: usize = 16 * 1024;

/// Reads the event log.
#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    /// Only this tenant's events; `_pop` for those that belong to none
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// Go on with what comes
    #[arg(long, short)]
    follow: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    /// The gateway's configuration
    #[arg(long, value_name = "DIR", default_value = "sluice-data")]
    config: PathBuf,
}

/// Prints the events. Works while a gateway runs and when none does.
#[must_use]
pub fn run(args: &EventsArgs) -> ExitCode {
    let directory = directory(&args.config);
    let stdout = io::stdout();
    let colour = stdout.is_terminal() && !args.json;
    let mut out = io::BufWriter::new(stdout.lock());
    match print(args, &directory, colour, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => complain(&args.config, &failure),
    }
}

enum Failure {
    Log(ReadError),
    Output(io::Error),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Log(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn complain(config: &Path, failure: &Failure) -> ExitCode {
    let mut stderr = io::stderr();
    let said = match failure {
        Failure::Log(ReadError::Disk(error)) if error.kind() == io::ErrorKind::NotFound => {
            writeln!(stderr, "no event log below `{}`: has a gateway run there?", config.display())
        }
        Failure::Log(error) => writeln!(stderr, "{error}"),
        Failure::Output(error) => writeln!(stderr, "cannot write: {error}"),
    };
    // A wrong name is a wrong command line; where even stderr is gone nothing is left to say.
    match (failure, said) {
        (Failure::Log(ReadError::Tenant(_)), Ok(())) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

/// `events.dir` of gateway.yaml, which may be broken while one wants to read events.
fn directory(config: &Path) -> PathBuf {
    let dir = std::fs::read_to_string(config.join("gateway.yaml"))
        .ok()
        .and_then(|text| serde_saphyr::from_str::<Value>(&text).ok())
        .and_then(|yaml| yaml.pointer("/events/dir")?.as_str().map(PathBuf::from))
        .unwrap_or_else(|| Path::new("data").join("events"));
    config.join(dir)
}

fn print(
    args: &EventsArgs,
    directory: &Path,
    colour: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let reader = Reader::open(directory);
    let mut feeds = Feeds::default();
    let show = |line: &[u8], out: &mut _| show(line, args.json, colour, out);
    loop {
        feeds.refresh(&reader, args.tenant.as_deref())?;
        feeds.merge(&reader, |line| show(line, out))?;
        if !args.follow {
            break;
        }
        out.flush()?;
        std::thread::sleep(LOOK_EVERY);
    }
    let mut shown = Ok(());
    reader.unsplit(|tenant, line| {
        if shown.is_ok() && args.tenant.as_deref().is_none_or(|wanted| wanted == tenant) {
            shown = show(line, out);
        }
    })?;
    shown?;
    Ok(out.flush()?)
}

fn show(line: &[u8], json: bool, colour: bool, out: &mut impl Write) -> io::Result<()> {
    let event = if json { None } else { serde_json::from_slice::<Value>(line).ok() };
    match event {
        Some(event) => writeln!(out, "{}", events_line::describe(&event, colour)),
        None => out.write_all(line.trim_ascii_end()).and_then(|()| out.write_all(b"\n")),
    }
}

/// The tenants' logs, read side by side and merged by time.
#[derive(Default)]
struct Feeds(BTreeMap<String, Feed>);

#[derive(Default)]
struct Feed {
    cursor: Option<String>,
    lines: VecDeque<Vec<u8>>,
}

impl Feeds {
    /// Adds tenants that are new.
    fn refresh(&mut self, reader: &Reader, tenant: Option<&str>) -> Result<(), Failure> {
        let tenants = match tenant {
            Some(tenant) => vec![tenant.to_owned()],
            None => reader.tenants()?,
        };
        for tenant in tenants {
            self.0.entry(tenant).or_default();
        }
        Ok(())
    }

    /// Gives all there is by now, oldest first.
    fn merge(
        &mut self,
        reader: &Reader,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let page = (HELD_MAX / self.0.len().max(1)).max(4);
        let mut next = BinaryHeap::new();
        for (tenant, feed) in &mut self.0 {
            next.extend(
                feed.peek(reader, tenant, page)?.map(|time| Reverse((time, tenant.clone()))),
            );
        }
        while let Some(Reverse((_, tenant))) = next.pop() {
            let Some(feed) = self.0.get_mut(&tenant) else { continue };
            if let Some(line) = feed.lines.pop_front() {
                each(&line)?;
            }
            next.extend(feed.peek(reader, &tenant, page)?.map(|time| Reverse((time, tenant))));
        }
        Ok(())
    }
}

impl Feed {
    /// The time of its next event; `None` where there is no more.
    fn peek(
        &mut self,
        reader: &Reader,
        tenant: &str,
        page: usize,
    ) -> Result<Option<String>, ReadError> {
        if self.lines.is_empty() {
            let page = reader.after(tenant, self.cursor.as_deref(), page)?;
            self.lines
                .extend(page.lines.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec));
            self.cursor = Some(page.cursor);
        }
        Ok(self.lines.front().map(|line| time(line)))
    }
}

/// The value of `time`, as text that sorts.
fn time(line: &[u8]) -> String {
    let mark = b"\"time\":\"";
    let value = memchr::memmem::find(line, mark)
        .and_then(|at| line.get(at + mark.len()..)?.split(|byte| *byte == b'"').next());
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}
