//! A log of a whole day is pulled by cursor while both sides end and begin again: every event once
//! for whoever keeps the cursor with what it has, and in order.

use std::io::Write as _;
use std::path::Path;

use tests::{Gateway, Origin};

/// What a pull asks for at once.
const LIMIT: usize = 5_000;
/// How often the gateway is killed on the way, and how often the collector.
const ENDS: usize = 10;
/// Events of one file.
const SEGMENT: usize = 10_000;

/// How many events the log has: 200,000, or what `SLUICE_TEST_LOG_EVENTS` says; a day has 10,000,000.
fn events() -> usize {
    let wanted = std::env::var("SLUICE_TEST_LOG_EVENTS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(200_000)
}

/// A line as the log has it, of the usual length.
fn line(number: usize) -> String {
    format!(
        "{{\"id\":\"019b0000-0000-7000-8000-{number:012x}\",\"time\":\"2026-01-02T03:04:05.000006Z\",\
         \"type\":\"transaction\",\"state\":\"close\",\"tenant\":\"acme\",\"pop\":\"fra-1\",\
         \"user\":\"alice@acme.test\",\"device\":\"laptop-{}\",\"access_method\":\"tls\",\
         \"host\":\"www.example.com\",\"method\":\"POST\",\"status\":200,\"action\":\"allow\",\
         \"url\":\"https://www.example.com/api/v2/files/upload?path=%2Fplan.pdf&n={number}\",\
         \"user_agent\":\"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\",\
         \"app\":\"dropbox\",\"category\":\"cloud-storage\",\"activity\":\"upload\",\
         \"request_bytes\":{},\"response_bytes\":512,\"total_ms\":63.127}}\n",
        number % 977,
        number * 37 % 90_001,
    )
}

/// A checksum over lines in their order: of each with that of all before.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Sum(u64, usize);

impl Sum {
    fn add(&mut self, line: &[u8]) {
        // FNV-1a: a line that is lost, repeated or out of order makes another sum.
        for byte in line {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.1 += 1;
    }
}

/// Writes the log as a gateway leaves it; says what it sums up to.
fn write(folder: &Path, events: usize) -> Sum {
    let mut sum = Sum(0xcbf2_9ce4_8422_2325, 0);
    for first in (0..events).step_by(SEGMENT) {
        let file = std::fs::File::create(folder.join(format!("{first:020}.ndjson"))).unwrap();
        let mut file = std::io::BufWriter::new(file);
        for number in first..events.min(first + SEGMENT) {
            let line = line(number);
            sum.add(line.as_bytes());
            file.write_all(line.as_bytes()).unwrap();
        }
        file.flush().unwrap();
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn a_days_log_is_pulled_whole_while_both_sides_end_and_begin_again() {
    let events = events();
    let origin = Origin::start().await;
    let yaml = "events: { max_bytes: 60GiB }\n";
    let gateway = Gateway::build(&origin).gateway_yaml(yaml).configure();
    let folder = gateway.folder().join("data/events/acme");
    std::fs::create_dir_all(&folder).unwrap();
    let written = write(&folder, events);
    // The gateway packs all of it while it is read.
    gateway.restart();
    // What the collector keeps on its own disk: the sum of what it has and the cursor after it.
    let mut kept = (Sum(0xcbf2_9ce4_8422_2325, 0), String::new());
    let often = (events / LIMIT / ENDS).max(1);
    let (mut pulls, mut gateways, mut collectors) = (0_usize, 0, 0);
    loop {
        pulls += 1;
        if pulls.is_multiple_of(often) && gateways < ENDS {
            gateway.kill();
            gateway.restart();
            gateways += 1;
        }
        let (mut sum, cursor) = kept.clone();
        let after = if cursor.is_empty() { String::new() } else { format!("&after={cursor}") };
        let path = format!("/v1/events?tenant=acme&type=transaction&limit={LIMIT}{after}");
        let reply = gateway.admin_get(&path).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        if reply.body.is_empty() {
            break;
        }
        for line in reply.body.split_inclusive(|byte| *byte == b'\n') {
            sum.add(line);
        }
        // The collector dies before it has kept what it read, and so reads that again.
        if (pulls + often / 2).is_multiple_of(often) && collectors < ENDS {
            collectors += 1;
            continue;
        }
        kept = (sum, reply.field("sluice-cursor").unwrap().to_owned());
    }
    assert_eq!(kept.0, written, "what was pulled is not what was written");
    assert_eq!((gateways, collectors), (ENDS, ENDS));
}
