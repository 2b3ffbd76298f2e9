//! The reserved name of the coach and fault pages: where a user justifies and goes on. It exists
//! inside tunnels only, with an origin of its own, never on an app's.

use bytes::BytesMut;
use percent_encoding::percent_decode;
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer;
use super::client::Client;
use super::exchange::Next;
use super::flow::Flow;
use super::transaction::Transaction;
use crate::event::Text;
use crate::exchange::{Frame, Request, Source};
use crate::verdict::notice;

/// A form with a token and a justification is far smaller.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// Whether a host is the gateway's own notice name.
pub(super) fn is_notice(flow: &Flow) -> bool {
    *flow.host == *flow.worker.pop.snapshot.gateway().config.notice.as_str()
}

/// Serves one request to the notice name.
pub(super) async fn serve<Io>(
    flow: &Flow,
    client: &mut Client<'_, Io>,
    request: &Request,
    transaction: &mut Transaction,
) -> Next
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let (path, query) = request.target().split_once('?').unwrap_or_else(|| (request.target(), ""));
    let coach = &flow.tenancy.coach;
    let who = &flow.session.who;
    transaction.record.verdict.action = Some("allow".into());
    let (response, body) = match (request.method(), path) {
        ("GET" | "HEAD", "/proceed") => {
            let token = value_of(query, "token").unwrap_or_default();
            match coach.offered(&token, who) {
                Some(offer) => {
                    notice::confirm(&offer.rule_name, &offer.matter.app, offer.reference, &token)
                }
                None => notice::expired(),
            }
        }
        ("POST", "/proceed") => {
            let Some(form) = form(client).await else { return Next::Close };
            let token = value_of(&form, "token").or_else(|| value_of(query, "token"));
            let token = token.unwrap_or_default();
            let justification = value_of(&form, "justification").unwrap_or_default();
            match coach.take_up(&token, who, &justification) {
                Some(offer) => {
                    transaction.record.verdict.justification =
                        Some(Text::from(justification.trim().to_owned()));
                    transaction.record.verdict.rule = Some(offer.rule_name.clone().into());
                    transaction.record.parent_id = Some(offer.reference);
                    notice::confirmed(&offer.matter.app, offer.reference, offer.page.as_deref())
                }
                None => notice::expired(),
            }
        }
        _ => notice::expired(),
    };
    answer::write(client, request, transaction, response, body).await;
    Next::Continue
}

async fn form<Io>(client: &mut Client<'_, Io>) -> Option<String>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut body = BytesMut::new();
    loop {
        let frame = std::future::poll_fn(|context| client.poll_frame(context)).await.ok()?;
        match frame {
            Some(Frame::Data(data)) if body.len() + data.len() <= FORM_BYTES_MAX => {
                body.extend_from_slice(&data);
            }
            Some(Frame::Data(_)) => return None,
            Some(Frame::Trailers(_)) | None => break,
        }
    }
    String::from_utf8(body.to_vec()).ok()
}

/// One value of an `application/x-www-form-urlencoded` text.
fn value_of(form: &str, name: &str) -> Option<String> {
    let value = form.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    })?;
    let spaced = value.replace('+', " ");
    Some(percent_decode(spaced.as_bytes()).decode_utf8_lossy().into_owned())
}
