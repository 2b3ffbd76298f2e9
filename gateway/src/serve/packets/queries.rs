//! A session's name queries: answered by the gateway's resolver, so that policy knows the names of
//! flows, and nothing in the answers hides the next ones.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gateway_proto::dns::{Question, QuestionProblem};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::session::PacketSession;
use crate::origin::resolve::ResolveError;
use crate::serve::association::without_hints;
use crate::serve::pop::Worker;
use crate::stream::Io;
use crate::stream::packet::Names;
use crate::tunnel::Session;

pub(super) const PORT: u16 = 53;
/// Addresses are asked for again soon: the gateway remembers them as long as they are good, and policy
/// wants to see who asks.
const TTL_S: u32 = 30;
/// An idle connection for queries is closed after this (RFC 7766 section 6.2.3).
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);
/// Any port: what is looked at is the address.
const ANY_PORT: u16 = 443;

/// Who asks: a session, and what it remembers of its answers.
pub(in crate::serve) struct Asker<'a> {
    pub(in crate::serve) worker: &'a Arc<Worker>,
    pub(in crate::serve) session: &'a Arc<Session>,
    pub(in crate::serve) names: Option<&'a Names>,
}

impl<'a> Asker<'a> {
    pub(super) fn of(packets: &'a PacketSession) -> Self {
        let (worker, session) = (packets.worker(), &packets.session);
        Self { worker, session, names: Some(&packets.names) }
    }

    /// The answer to one query; `None` where it is none.
    pub(in crate::serve) async fn answer(&self, query: &[u8], over_udp: bool) -> Option<Vec<u8>> {
        let question = match Question::read(query) {
            Ok(question) => question,
            Err(QuestionProblem::NotQuery) => return None,
            Err(QuestionProblem::Refused(answer)) => return Some(answer),
        };
        let (code, records) = match self.records(&question).await {
            Ok(records) => (ResponseCode::NoError, records),
            Err(code) => (code, Vec::new()),
        };
        Some(question.answer(code, records, over_udp))
    }

    async fn records(&self, question: &Question) -> Result<Vec<Record>, ResponseCode> {
        let family = match question.kind() {
            RecordType::A => Some(true),
            RecordType::AAAA => Some(false),
            _ => None,
        };
        let pop = &self.worker.pop;
        let name = question.name();
        let found = if name == pop.snapshot.gateway().config.notice.as_str() {
            // Our own name exists inside tunnels only.
            if family.is_none() {
                return Ok(Vec::new());
            }
            pop.packets.pool.own().to_vec()
        } else if family.is_some() {
            self.addresses(&name).await?
        } else {
            let resolver = pop.resolver.load_full();
            let tenant = self.session.tenant.as_str();
            let asked = resolver.records(tenant, question.query().name(), question.kind()).await;
            return match asked {
                Ok(records) => Ok(without_hints(self.worker, self.session, &name, records)),
                Err(error) => code_of(error).map(|()| Vec::new()),
            };
        };
        if let Some(names) = self.names {
            names.remember(&name, &found);
        }
        let of_family = found.iter().filter(|address| Some(address.is_ipv4()) == family);
        let record = |address: &IpAddr| {
            let data = match address {
                IpAddr::V4(v4) => RData::A(A(*v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
            };
            Record::from_rdata(question.query().name().clone(), TTL_S, data)
        };
        Ok(of_family.map(record).collect())
    }

    /// The addresses of a name that a client may reach; where it may reach none of them, it is told so
    /// now, and not by a connection that fails.
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, ResponseCode> {
        let pop = &self.worker.pop;
        let resolver = pop.resolver.load_full();
        let found = match resolver.resolve(self.session.tenant.as_str(), name).await {
            Ok(found) => found,
            Err(error) => return code_of(error).map(|()| Vec::new()),
        };
        let guard = pop.guard.load_full();
        let may =
            |address: &&IpAddr| guard.check_address(SocketAddr::new(**address, ANY_PORT)).is_ok();
        let open: Vec<_> = found.iter().filter(may).copied().collect();
        if open.is_empty() { Err(ResponseCode::Refused) } else { Ok(open) }
    }
}

/// What a client is told of a failed resolution; that there is nothing is no failure.
fn code_of(error: ResolveError) -> Result<(), ResponseCode> {
    match error {
        ResolveError::NoAddress => Ok(()),
        ResolveError::NotFound => Err(ResponseCode::NXDomain),
        ResolveError::Name => Err(ResponseCode::FormErr),
        ResolveError::Refused => Err(ResponseCode::Refused),
        _ => Err(ResponseCode::ServFail),
    }
}

/// Serves queries over one connection, one after another (RFC 7766).
pub(super) async fn over_tcp(packets: &PacketSession, mut stream: Io) {
    let serving = async {
        loop {
            let length = timeout(IDLE_TIME_MAX, stream.read_u16()).await.ok()?.ok()?;
            let mut query = vec![0; length.into()];
            timeout(IDLE_TIME_MAX, stream.read_exact(&mut query)).await.ok()?.ok()?;
            let answer = Asker::of(packets).answer(&query, false).await?;
            stream.write_u16(u16::try_from(answer.len()).ok()?).await.ok()?;
            stream.write_all(&answer).await.ok()?;
        }
    };
    let _ended: Option<()> = serving.await;
}
