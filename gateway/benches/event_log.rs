//! What the event log costs: serialising, and records a second into the durable log of one worker.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program that measures")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::event::{Client, EventLog, Options, Record, RecordType, TenantSettings, Text};
use gateway::ident::{AccessMethod, FlowId, SessionId};

/// Records appended in each run.
const RECORDS: u32 = 400_000;
/// Records appended between two pauses, so that the buffer is not what is measured.
const BURST: u32 = 4_000;
/// The steady rate.
const PER_TICK: u32 = 1_000;
const TICK: Duration = Duration::from_millis(10);

fn main() {
    let directory = std::env::var_os("SLUICE_BENCH_DIR").map_or_else(
        || tempfile::tempdir().unwrap(),
        |parent| tempfile::tempdir_in(parent).unwrap(),
    );
    for tenants in [1, 5_000] {
        for fsync in [false, true] {
            measure(&directory.path().join(format!("{tenants}-{fsync}")), tenants, fsync);
        }
    }
}

fn measure(directory: &Path, tenants: u32, fsync: bool) {
    let options = Options { fsync, ..Options::default() };
    let log = EventLog::open(directory, options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let names: Vec<_> = (0..tenants).map(|tenant| format!("tenant-{tenant}")).collect();
    names.iter().for_each(|name| log.set_tenant(name, TenantSettings::default()));
    let writer = log.writer(0);
    let record = transaction();
    let mut appending = Duration::ZERO;
    let (start, cpu_start) = (Instant::now(), cpu());
    for (burst, names) in (0..RECORDS / BURST).zip(std::iter::repeat(&names)) {
        let began = Instant::now();
        for (_, name) in
            (0..BURST).zip(names.iter().cycle().skip((burst * BURST) as usize % names.len()))
        {
            writer.append(name, &record);
        }
        appending += began.elapsed();
        runtime.block_on(log.flush());
    }
    let durable = start.elapsed();
    runtime.block_on(log.settle());
    let cpu = cpu() - cpu_start;
    let stats = log.stats();
    println!(
        "{tenants:>5} tenants, fsync {fsync:<5}: append {:.2} µs, all threads {:.2} µs of CPU per record \
         ({:.0} records/s per core); {} appended, {} dropped, {} syncs of the log and {} others in {:.1} s, {} descriptors",
        appending.as_secs_f64() * 1e6 / f64::from(RECORDS),
        cpu.as_secs_f64() * 1e6 / f64::from(RECORDS),
        f64::from(RECORDS) / cpu.as_secs_f64(),
        stats.appended,
        stats.dropped,
        stats.syncs,
        stats.disk_syncs - stats.syncs,
        durable.as_secs_f64(),
        descriptors(directory),
    );
    at_a_rate(&log, &names, &record);
    // One thread as fast as it can, the rest of the log beside it.
    let before = log.stats().dropped;
    let start = Instant::now();
    for name in names.iter().cycle().take(RECORDS as usize) {
        writer.append(name, &record);
    }
    runtime.block_on(log.flush());
    let dropped = log.stats().dropped - before;
    println!(
        "{:>46}: {:.0} records/s, {dropped} dropped",
        "without pause, until durable",
        f64::from(RECORDS) / start.elapsed().as_secs_f64(),
    );
    runtime.block_on(log.settle());
    let stats = log.stats();
    println!(
        "{:>46}: {} syncs of the log and {} others",
        "in all of this",
        stats.syncs,
        stats.disk_syncs - stats.syncs,
    );
}

/// 100,000 records a second for some seconds.
fn at_a_rate(log: &EventLog, names: &[String], record: &Record) {
    let (writer, before) = (log.writer(0), log.stats().dropped);
    let (start, cpu_start) = (Instant::now(), cpu());
    let mut names = names.iter().cycle();
    for tick in 1..=RECORDS / PER_TICK {
        names.by_ref().take(PER_TICK as usize).for_each(|name| writer.append(name, record));
        std::thread::sleep((start + tick * TICK).saturating_duration_since(Instant::now()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(log.flush());
    let took = start.elapsed().as_secs_f64();
    let dropped = log.stats().dropped - before;
    runtime.block_on(log.settle());
    let cpu = (cpu() - cpu_start).as_secs_f64();
    let kept = RECORDS - u32::try_from(dropped).unwrap();
    println!(
        "{:>46}: {:.0} records/s, {dropped} dropped, {:.2} µs of CPU per record kept",
        "at a steady rate, until durable",
        f64::from(RECORDS) / took,
        cpu * 1e6 / f64::from(kept),
    );
}

/// Open files below the directory.
fn descriptors(directory: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(directory)).count()
}

/// CPU time of the whole process, in ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split(' ').skip(12).take(2).map(|ticks| ticks.parse::<u32>().unwrap());
    ticks.sum::<u32>() * Duration::from_millis(10)
}

/// A transaction as a decrypted request leaves it.
fn transaction() -> Record {
    let text = |text: &'static str| Some(Text::from(text));
    let mut record = Record::now(RecordType::Transaction);
    record.policy_version = text("9f2c41d7");
    record.client = Some(Arc::new(Client {
        session_id: Some(SessionId::fresh()),
        user: text("alice@acme.test"),
        groups: [Arc::from("finance"), Arc::from("staff")].into(),
        device: text("laptop-17"),
        device_class: text("managed"),
        os: text("linux"),
        access_method: Some(AccessMethod::Tls),
        ip: Some([198, 51, 100, 7].into()),
        port: Some(51234),
        tunnel_tls: text("1.3"),
        tunnel_kx: text("X25519MLKEM768"),
        binding: text("certificate"),
        ..Client::default()
    }));
    record.destination.flow_id = Some(FlowId::fresh());
    record.destination.host = text("www.example.com");
    record.destination.ip = Some([203, 0, 113, 10].into());
    record.destination.port = Some(443);
    record.destination.sni = text("www.example.com");
    record.tls.decrypted = Some(true);
    record.tls.client_version = text("1.3");
    record.tls.client_alpn = text("h2");
    record.tls.client_ja4 = text("t13d1516h2_8daaf6152771_b186095e22b6");
    record.tls.origin_version = text("1.3");
    record.tls.origin_alpn = text("h2");
    record.http.method = text("POST");
    record.http.url =
        text("https://www.example.com/api/v2/files/upload?path=%2Fplan.pdf&token=x&n=7");
    record.http.version = text("HTTP/2");
    record.http.status = Some(200);
    record.http.content_type = text("application/pdf");
    record.http.user_agent =
        text("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0");
    record.http.request_bytes = Some(48213);
    record.http.response_bytes = Some(512);
    record.app.id = text("dropbox");
    record.app.category = text("cloud-storage");
    record.app.risk = Some(20);
    record.app.activity = text("upload");
    record.app.object = text("plan.pdf");
    record.verdict.action = text("allow");
    record.cost.connect = Some(Duration::from_micros(8911));
    record.cost.first_byte = Some(Duration::from_micros(31400));
    record.cost.total = Some(Duration::from_micros(63127));
    record.cost.policy = Some(Duration::from_nanos(4120));
    record
}
