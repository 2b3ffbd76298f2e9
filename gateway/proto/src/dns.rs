//! Name queries that clients send inside a tunnel, and their answers (RFC 1035, RFC 6891, RFC 9460).

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::HTTPS;
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

/// What a client without EDNS takes over UDP (RFC 1035 section 4.2.1).
const PLAIN_BYTES_MAX: u16 = 512;
/// What we say and use at most over UDP: no fragments on any path (RFC 9715 section 3).
const UDP_BYTES_MAX: u16 = 1_232;

/// One question, in a message of its own as everybody sends it.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    id: u16,
    query: Query,
    recursion_desired: bool,
    /// The client speaks EDNS; what it takes over UDP.
    edns: Option<u16>,
}

/// Why bytes are not answered, or answered with an error only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionProblem {
    /// No answer: it could be a response, and two servers would answer each other for ever.
    #[error("it is no query")]
    NotQuery,
    /// The answer that says so.
    #[error("it is a query that is not understood")]
    Refused(Vec<u8>),
}

impl Question {
    /// Reads a query.
    ///
    /// # Errors
    /// Where it is none, or one that is not served: another operation, class or several questions.
    pub fn read(bytes: &[u8]) -> Result<Self, QuestionProblem> {
        let Some([high, low, flags, ..]) = bytes.get(..12) else {
            return Err(QuestionProblem::NotQuery);
        };
        let id = u16::from_be_bytes([*high, *low]);
        if flags & 0x80 != 0 {
            return Err(QuestionProblem::NotQuery);
        }
        let message = Message::from_vec(bytes)
            .map_err(|_| refused(id, OpCode::Query, ResponseCode::FormErr))?;
        let operation = message.metadata.op_code;
        if message.metadata.message_type != MessageType::Query {
            return Err(QuestionProblem::NotQuery);
        }
        if operation != OpCode::Query {
            return Err(refused(id, operation, ResponseCode::NotImp));
        }
        let [query] = message.queries.as_slice() else {
            return Err(refused(id, operation, ResponseCode::FormErr));
        };
        let transfers = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || transfers || query.query_type() == RecordType::ANY
        {
            return Err(refused(id, operation, ResponseCode::NotImp));
        }
        Ok(Self {
            id,
            query: query.clone(),
            recursion_desired: message.metadata.recursion_desired,
            edns: message.edns.as_ref().map(Edns::max_payload),
        })
    }

    /// The name asked for: lower case, without its last dot.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.query.name().to_lowercase().to_ascii();
        name.strip_suffix('.').map_or_else(|| name.clone(), ToOwned::to_owned)
    }

    #[must_use]
    pub fn kind(&self) -> RecordType {
        self.query.query_type()
    }

    /// The question as a name server is asked it.
    #[must_use]
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// The answer with these records or this error; over UDP no longer than the client takes, and cut
    /// so that it asks again over TCP (RFC 2181 section 9).
    #[must_use]
    pub fn answer(&self, code: ResponseCode, records: Vec<Record>, over_udp: bool) -> Vec<u8> {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.response_code = code;
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.add_query(self.query.clone());
        if self.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_BYTES_MAX);
            message.set_edns(edns);
        }
        message.add_answers(records);
        let whole = message.to_vec().unwrap_or_default();
        let limit = match (over_udp, self.edns) {
            (false, _) => u16::MAX,
            (true, None) => PLAIN_BYTES_MAX,
            (true, Some(takes)) => takes.clamp(PLAIN_BYTES_MAX, UDP_BYTES_MAX),
        };
        if whole.len() <= usize::from(limit) && !whole.is_empty() {
            return whole;
        }
        message.truncate().to_vec().unwrap_or_default()
    }
}

fn refused(id: u16, operation: OpCode, code: ResponseCode) -> QuestionProblem {
    let answer = Message::error_msg(id, operation, code).to_vec();
    answer.map_or(QuestionProblem::NotQuery, QuestionProblem::Refused)
}

/// Takes what hides names from policy out of service records: the keys of Encrypted Client Hello
/// (RFC 9848 section 3). All else of a record stays.
#[must_use]
pub fn without_ech(record: Record) -> Record {
    let data = match &record.data {
        RData::HTTPS(HTTPS(service)) if has_ech(service) => RData::HTTPS(HTTPS(plain(service))),
        RData::SVCB(service) if has_ech(service) => RData::SVCB(plain(service)),
        _ => return record,
    };
    let mut kept = Record::from_rdata(record.name.clone(), record.ttl, data);
    kept.dns_class = record.dns_class;
    kept
}

fn has_ech(service: &SVCB) -> bool {
    service.svc_params.iter().any(|(key, _)| *key == SvcParamKey::EchConfigList)
}

fn plain(service: &SVCB) -> SVCB {
    let kept = service.svc_params.iter().filter(|(key, _)| *key != SvcParamKey::EchConfigList);
    SVCB::new(service.svc_priority, service.target_name.clone(), kept.cloned().collect())
}

/// Takes HTTP/3 out of what service records offer (RFC 9460 section 7.1). `None` for one that offers
/// nothing else.
#[must_use]
pub fn without_http3(record: Record) -> Option<Record> {
    let data = match &record.data {
        RData::HTTPS(HTTPS(service)) if offers_http3(service) => {
            RData::HTTPS(HTTPS(over_tcp(service)?))
        }
        RData::SVCB(service) if offers_http3(service) => RData::SVCB(over_tcp(service)?),
        _ => return Some(record),
    };
    let mut kept = Record::from_rdata(record.name.clone(), record.ttl, data);
    kept.dns_class = record.dns_class;
    Some(kept)
}

fn offers_http3(service: &SVCB) -> bool {
    service.svc_params.iter().any(|(_, value)| match value {
        SvcParamValue::Alpn(protocols) => protocols.0.iter().any(|it| is_http3(it)),
        _ => false,
    })
}

/// `h3` and its drafts.
fn is_http3(protocol: &str) -> bool {
    protocol == "h3" || protocol.starts_with("h3-")
}

fn over_tcp(service: &SVCB) -> Option<SVCB> {
    let mut params = service.svc_params.clone();
    for (_, value) in &mut params {
        if let SvcParamValue::Alpn(protocols) = value {
            protocols.0.retain(|protocol| !is_http3(protocol));
        }
    }
    let is_empty =
        |value: &SvcParamValue| matches!(value, SvcParamValue::Alpn(left) if left.0.is_empty());
    if params.iter().any(|(_, value)| is_empty(value)) {
        if params.iter().any(|(key, _)| *key == SvcParamKey::NoDefaultAlpn) {
            return None;
        }
        // HTTP/1.1 is the default, and goes without saying.
        params.retain(|(key, value)| !is_empty(value) && *key != SvcParamKey::Mandatory);
    }
    Some(SVCB::new(service.svc_priority, service.target_name.clone(), params))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::rdata::svcb::{Alpn, EchConfigList};

    fn query(name: &str, kind: RecordType, edns: bool) -> Vec<u8> {
        let mut message = Message::query();
        let name = Name::from_ascii(name).unwrap_or_default();
        message.add_query(Query::query(name, kind));
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(4096);
            message.set_edns(edns);
        }
        message.to_vec().unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Question {
        Question::read(bytes).unwrap()
    }

    fn addresses(count: u8) -> Vec<Record> {
        let name = Name::from_ascii("www.acme.test.").unwrap_or_default();
        let record = |last| Record::from_rdata(name.clone(), 60, RData::A(A::new(192, 0, 2, last)));
        (0..count).map(record).collect()
    }

    #[test]
    fn an_answer_fits_what_the_client_takes() {
        for (edns, over_udp, records, whole) in [
            (false, true, 5, true),
            (false, true, 100, false),
            (true, true, 50, true),
            (true, true, 200, false),
            (false, false, 200, true),
        ] {
            let question = read(&query("WWW.acme.test.", RecordType::A, edns));
            assert_eq!(
                (question.name().as_str(), question.kind()),
                ("www.acme.test", RecordType::A)
            );
            let answer = question.answer(ResponseCode::NoError, addresses(records), over_udp);
            let limit = if edns { 1232 } else { 512 };
            assert!(!over_udp || answer.len() <= limit);
            let answer = Message::from_vec(&answer).unwrap();
            assert_eq!(answer.metadata.truncation, !whole);
            assert_eq!(answer.answers.len(), if whole { usize::from(records) } else { 0 });
            assert_eq!(answer.edns.is_some(), edns);
        }
    }

    #[test]
    fn what_is_not_served_is_said_or_left_alone() {
        let any = Question::read(&query("acme.test.", RecordType::ANY, false));
        assert!(matches!(any, Err(QuestionProblem::Refused(_))));
        let mut response = query("acme.test.", RecordType::A, false);
        if let Some(flags) = response.get_mut(2) {
            *flags |= 0x80;
        }
        assert_eq!(Question::read(&response), Err(QuestionProblem::NotQuery));
        assert_eq!(Question::read(b"short"), Err(QuestionProblem::NotQuery));
        let cut = query("acme.test.", RecordType::A, false);
        let cut = cut.get(..cut.len() - 3).unwrap_or_default();
        assert!(matches!(Question::read(cut), Err(QuestionProblem::Refused(_))));
    }

    #[test]
    fn http3_is_taken_out_of_what_is_offered_and_nothing_else() {
        let alpn = |protocols: &[&str]| {
            let protocols = protocols.iter().map(|it| (*it).to_owned()).collect();
            (SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(protocols)))
        };
        let no_default = (SvcParamKey::NoDefaultAlpn, SvcParamValue::NoDefaultAlpn);
        let port = (SvcParamKey::Port, SvcParamValue::Port(8443));
        let record = |params: &[(SvcParamKey, SvcParamValue)]| {
            let service = SVCB::new(1, Name::root(), params.to_vec());
            Record::from_rdata(Name::root(), 60, RData::HTTPS(HTTPS(service)))
        };
        for (sent, kept) in [
            (
                vec![alpn(&["h3", "h2", "h3-29"]), port.clone()],
                Some(vec![alpn(&["h2"]), port.clone()]),
            ),
            (vec![alpn(&["h3"]), port.clone()], Some(vec![port.clone()])),
            (vec![alpn(&["h3"]), no_default.clone(), port], None),
            (vec![alpn(&["h2"]), no_default.clone()], Some(vec![alpn(&["h2"]), no_default])),
            (vec![], Some(vec![])),
        ] {
            assert_eq!(without_http3(record(&sent)), kept.as_deref().map(record), "{sent:?}");
        }
    }

    #[test]
    fn keys_of_encrypted_hellos_are_taken_out_and_nothing_else() {
        let name = Name::from_ascii("acme.test.").unwrap_or_default();
        let alpn = (SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(vec!["h2".to_owned()])));
        let ech = SvcParamValue::EchConfigList(EchConfigList(vec![1, 2, 3]));
        let service =
            SVCB::new(1, name.clone(), vec![alpn.clone(), (SvcParamKey::EchConfigList, ech)]);
        let record = Record::from_rdata(name.clone(), 60, RData::HTTPS(HTTPS(service)));
        let kept = Record::from_rdata(
            name.clone(),
            60,
            RData::HTTPS(HTTPS(SVCB::new(1, name, vec![alpn]))),
        );
        assert_eq!(without_ech(record), kept);
        assert_eq!(without_ech(kept.clone()), kept);
    }
}
