//! The origin's HTTP/2 side.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};

use super::answer::{Answer, End, FILL_BYTES, Piece, fill};
use super::http1::Taken;
use super::{Seen, Shared, websocket};
use crate::client::h2_stream::H2Stream;
use crate::{BoxStream, Sha256};

/// Wide windows: the origin must not be what slows a transfer.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

pub(super) async fn serve(stream: BoxStream, connection: usize, shared: Arc<Shared>) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(4 * WINDOW_BYTES)
        .max_header_list_size(1024 * 1024);
    if shared.websocket_on_http2 {
        builder.enable_connect_protocol();
    }
    let Ok(mut requests) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, respond))) = requests.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // Errors here are resets by the peer, which the test sees on its own side.
            exchange(request, respond, connection, &shared).await.ok();
        });
    }
}

async fn exchange(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: usize,
    shared: &Shared,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let mut seen = Seen {
        connection,
        version: "2",
        method: head.method.to_string(),
        target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        authority: head.uri.authority().map(ToString::to_string).unwrap_or_default(),
        fields: pairs(&head.headers),
        ..Seen::default()
    };
    if head.method == Method::CONNECT && !shared.has_answer(&seen.target) {
        shared.requested(seen);
        let sender = respond.send_response(Response::new(()), false)?;
        let mut stream: BoxStream = Box::new(H2Stream::new(sender, body));
        websocket::echo(&mut stream, BytesMut::new()).await.ok();
        return Ok(());
    }
    if head.method == Method::CONNECT {
        let answer = shared.answer(&seen, b"");
        shared.requested(seen);
        return send(respond, &answer, false).await;
    }
    let mut taken = Taken { kept: Vec::new(), hash: Sha256::new(), bytes: 0 };
    while let Some(data) = body.data().await {
        let data = data?;
        taken.push(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    if let Some(trailers) = body.trailers().await? {
        seen.trailers = pairs(&trailers);
    }
    seen.body_bytes = taken.bytes;
    seen.body_sha256 = taken.hash.hex();
    let answer = shared.answer(&seen, &taken.kept);
    let no_body = seen.method == "HEAD";
    shared.requested(seen);
    send(respond, &answer, no_body).await
}

fn pairs(fields: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    fields.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn map(pairs: &[(String, String)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().expect("a field name");
        fields.append(name, value.parse().expect("a field value"));
    }
    fields
}

async fn send(
    mut respond: SendResponse<Bytes>,
    answer: &Answer,
    no_body: bool,
) -> Result<(), h2::Error> {
    tokio::time::sleep(answer.after).await;
    for (status, fields) in &answer.early {
        let mut early = Response::new(());
        *early.status_mut() = (*status).try_into().expect("a status");
        *early.headers_mut() = map(fields);
        respond.send_informational(early)?;
    }
    let mut head = Response::new(());
    *head.status_mut() = answer.status.try_into().expect("a status");
    *head.headers_mut() = map(&answer.fields);
    if answer.sized {
        head.headers_mut().insert("content-length", answer.length().into());
    }
    let empty = no_body || (answer.length() == 0 && answer.trailers.is_empty());
    let mut sender = respond.send_response(head, empty && answer.end == End::Proper)?;
    if empty && answer.end == End::Proper {
        return Ok(());
    }
    for piece in &answer.body {
        send_piece(&mut sender, piece).await?;
    }
    match answer.end {
        End::Stall => std::future::pending::<()>().await,
        End::Reset => sender.send_reset(Reason::INTERNAL_ERROR),
        End::Proper if answer.trailers.is_empty() => sender.send_data(Bytes::new(), true)?,
        End::Proper => sender.send_trailers(map(&answer.trailers))?,
    }
    Ok(())
}

async fn send_piece(sender: &mut SendStream<Bytes>, piece: &Piece) -> Result<(), h2::Error> {
    match piece {
        Piece::Wait(span) => tokio::time::sleep(*span).await,
        Piece::Bytes(bytes) => send_data(sender, bytes.clone()).await?,
        Piece::Fill(count) => {
            let (pattern, mut left) = (fill(), *count);
            while left > 0 {
                let now = usize::try_from(left).unwrap_or(FILL_BYTES).min(FILL_BYTES);
                send_data(sender, pattern.slice(..now)).await?;
                left -= now as u64;
            }
        }
    }
    Ok(())
}

/// Sends as the peer's window allows.
pub(crate) async fn send_data(
    sender: &mut SendStream<Bytes>,
    mut data: Bytes,
) -> Result<(), h2::Error> {
    while !data.is_empty() {
        sender.reserve_capacity(data.len());
        let room = match poll_fn(|cx| sender.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(Reason::CANCEL.into()),
        };
        let now = room.min(data.len());
        sender.send_data(data.split_to(now), false)?;
    }
    Ok(())
}
