//! Requests and tunnels as clients use them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn many_tunnels_echo_at_once() {
    let (sender, served) = pair().await;
    tokio::spawn(echo(served.incoming));
    let mut tasks = Vec::new();
    for number in 0..100_u64 {
        let mut sender = sender.clone();
        tasks.push(tokio::spawn(async move {
            let (response, mut send) =
                sender.send_request(connect(&format!("host-{number}.test:443")), false).unwrap();
            let data = noise(100_000 + number as usize, number);
            let mut body = response.await.unwrap().into_body();
            let (_, got) =
                tokio::join!(send_all(&mut send, data.clone(), true), read_all(&mut body));
            assert!(got == data, "stream {number}");
        }));
    }
    for task in tasks {
        soon(task).await.unwrap();
    }
    assert_eq!(served.handle.streams(), 0);
    assert_eq!(served.handle.bytes_in(), served.handle.bytes_out());
    drop(sender);
    assert_eq!(soon(served.driver).await.unwrap(), Ending::ClientClosed);
    assert_eq!(served.process.used(), 0);
}

#[tokio::test]
async fn a_large_transfer_arrives_whole_both_ways() {
    let (mut sender, served) = pair().await;
    tokio::spawn(echo(served.incoming));
    let (response, mut send) = sender.send_request(connect("bulk.test:443"), false).unwrap();
    let data = noise(16 << 20, 7);
    let mut body = soon(response).await.unwrap().into_body();
    let both = async { tokio::join!(send_all(&mut send, data.clone(), true), read_all(&mut body)) };
    let (_, got) = soon(both).await;
    assert!(got == data);
}

#[tokio::test]
async fn a_get_with_a_body_and_trailers_is_answered_with_trailers() {
    let (mut sender, mut served) = pair().await;
    let request = http::Request::post("http://origin.test/path?q=1")
        .header("x-one", "1")
        .header("content-length", "5")
        .body(())
        .unwrap();
    let (response, mut send) = sender.send_request(request, false).unwrap();
    send.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "abc".parse().unwrap());
    send.send_trailers(trailers).unwrap();

    let mut request = soon(served.incoming.next()).await.unwrap();
    assert_eq!(request.method, "POST");
    assert_eq!(request.scheme.as_deref(), Some(b"http".as_ref()));
    assert_eq!((request.authority, request.path), ("origin.test".into(), "/path?q=1".into()));
    assert_eq!(request.fields.text("x-one"), Some("1"));
    assert_eq!(request.body, BodyHint::Sized(5));
    let mut body = request.responder.take_body().unwrap();
    let mut text = String::new();
    soon(body.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "hello");
    assert_eq!(body.trailers().unwrap().text("x-sum"), Some("abc"));
    let mut fields = Fields::new();
    fields.push("Content-Type", "text/plain");
    fields.push("Connection", "close");
    let mut stream = request.responder.respond(201, &fields);
    stream.write_all(b"world").await.unwrap();
    let mut end = Fields::new();
    end.push("Grpc-Status", "0");
    stream.finish(&end).unwrap();

    let response = soon(response).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers().get("content-type").unwrap(), "text/plain");
    assert!(response.headers().get("connection").is_none());
    let mut body = response.into_body();
    assert_eq!(soon(read_all(&mut body)).await, b"world");
    let trailers = soon(body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
}

#[tokio::test]
async fn an_interim_response_precedes_the_final_one() {
    let (mut sender, mut served) = pair().await;
    let request = http::Request::get("http://origin.test/").body(()).unwrap();
    let (mut response, _) = sender.send_request(request, true).unwrap();
    let request = soon(served.incoming.next()).await.unwrap();
    assert_eq!(request.body, BodyHint::Empty);
    request.responder.inform(103, &Fields::new());
    request.responder.finish(200, &Fields::new(), Bytes::from_static(b"ok"));
    let interim = std::future::poll_fn(|context| response.poll_informational(context));
    assert_eq!(soon(interim).await.unwrap().unwrap().status(), 103);
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(soon(read_all(&mut body)).await, b"ok");
}

#[tokio::test]
async fn an_early_answer_ends_the_upload_without_an_error() {
    let (mut sender, mut served) = pair().await;
    let request = http::Request::post("http://origin.test/").body(()).unwrap();
    let (response, mut send) = sender.send_request(request, false).unwrap();
    let request = soon(served.incoming.next()).await.unwrap();
    request.responder.finish(413, &Fields::new(), Bytes::from_static(b"too much"));
    assert_eq!(soon(response).await.unwrap().status(), 413);
    let reason = soon(std::future::poll_fn(|context| send.poll_reset(context))).await.unwrap();
    assert_eq!(reason, h2::Reason::NO_ERROR);
    assert_eq!(served.handle.streams(), 0);
}

#[tokio::test]
async fn extended_connect_is_offered_and_carries_its_protocol() {
    let (mut sender, mut served) = pair().await;
    // The settings arrive with the first answer.
    let request = http::Request::get("http://origin.test/").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    soon(served.incoming.next()).await.unwrap().responder.finish(204, &Fields::new(), Bytes::new());
    soon(response).await.unwrap();
    assert!(sender.is_extended_connect_protocol_enabled());
    let mut request = http::Request::connect("https://gateway-acme.test/.well-known/masque/udp/")
        .body(())
        .unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("connect-udp"));
    let (_response, _send) = sender.send_request(request, false).unwrap();
    let request = soon(served.incoming.next()).await.unwrap();
    assert_eq!(request.protocol.unwrap(), "connect-udp");
    assert_eq!(request.path, "/.well-known/masque/udp/");
    assert_eq!(request.body, BodyHint::Tunnel);
}

#[tokio::test]
async fn a_dropped_stream_is_cancelled_and_a_cancelled_one_breaks() {
    let (mut sender, mut served) = pair().await;
    let (response, mut send) = sender.send_request(connect("one.test:443"), false).unwrap();
    let stream = soon(served.incoming.next()).await.unwrap().responder.respond(200, &Fields::new());
    soon(response).await.unwrap();
    drop(stream);
    let reason = soon(std::future::poll_fn(|context| send.poll_reset(context))).await.unwrap();
    assert_eq!(reason, h2::Reason::CANCEL);

    let (_response, mut send) = sender.send_request(connect("two.test:443"), false).unwrap();
    let request = soon(served.incoming.next()).await.unwrap();
    let mut stream = request.responder.respond(200, &Fields::new());
    send.send_reset(h2::Reason::CANCEL);
    let error = soon(stream.read_chunk()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<StreamFault>());
    assert_eq!(inner, Some(&StreamFault::ResetByClient(Code::CANCEL)));
    assert!(stream.write_all(b"x").await.is_err());
}

#[tokio::test]
async fn a_pending_request_notices_that_it_is_abandoned() {
    let (mut sender, mut served) = pair().await;
    let (_response, mut send) = sender.send_request(connect("slow.test:443"), false).unwrap();
    let mut request = soon(served.incoming.next()).await.unwrap();
    send.send_reset(h2::Reason::CANCEL);
    soon(request.responder.abandoned()).await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_takes_no_more() {
    let (mut sender, mut served) = pair().await;
    let (response, mut send) = sender.send_request(connect("one.test:443"), false).unwrap();
    let request = soon(served.incoming.next()).await.unwrap();
    let mut stream = request.responder.respond(200, &Fields::new());
    let mut body = soon(response).await.unwrap().into_body();
    served.handle.drain();
    // The client learns of it with the next bytes.
    stream.write_all(b"late").await.unwrap();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "late");
    send.send_data(Bytes::from_static(b"more"), true).unwrap();
    assert_eq!(soon(stream.read_chunk()).await.unwrap().unwrap(), "more");
    stream.shutdown().await.unwrap();
    assert!(soon(read_all(&mut body)).await.is_empty());
    assert_eq!(soon(served.driver).await.unwrap(), Ending::Drained);
    assert!(soon(std::future::poll_fn(|context| sender.poll_ready(context))).await.is_err());
}

#[tokio::test]
async fn close_cuts_every_stream_at_once() {
    let (mut sender, mut served) = pair().await;
    let (_response, _send) = sender.send_request(connect("one.test:443"), false).unwrap();
    let request = soon(served.incoming.next()).await.unwrap();
    let mut stream = request.responder.respond(200, &Fields::new());
    served.handle.close();
    let error = soon(stream.read_chunk()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    assert_eq!(soon(served.driver).await.unwrap(), Ending::Closed);
    assert!(soon(served.incoming.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_idle_tunnel_ends() {
    let (_sender, served) = pair().await;
    assert_eq!(served.driver.await.unwrap(), Ending::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_whose_peer_vanished_ends() {
    let (near, far) = tokio::io::duplex(PIPE);
    let mut served = serve_on(far, Settings::default());
    // A client that stops being polled answers no PING.
    let (mut sender, mut connection) = h2::client::handshake(near).await.unwrap();
    let (_response, _send) = sender.send_request(connect("one.test:443"), false).unwrap();
    let request = tokio::select! {
        _ = &mut connection => None,
        request = served.incoming.next() => request,
    };
    assert_eq!(served.driver.await.unwrap(), Ending::Silent);
    drop((request, connection));
}

#[tokio::test]
async fn ti_20_a_panic_in_one_stream_ends_that_stream_alone() {
    let (mut client, mut served) = pair().await;
    // As the driver does: each stream is a task of its own.
    tokio::spawn(async move {
        while let Some(request) = served.incoming.next().await {
            tokio::spawn(async move {
                let mut stream = request.responder.respond(200, &Fields::new());
                while let Ok(Some(chunk)) = stream.read_chunk().await {
                    assert_ne!(chunk.as_ref(), b"panic", "on purpose, in a test");
                    if stream.write_chunk(chunk).await.is_err() {
                        return;
                    }
                }
                drop(stream.finish(&Fields::new()));
            });
        }
    });
    let mut streams = Vec::new();
    for _ in 0..3 {
        let (response, upload) = client.send_request(connect("site.test:443"), false).unwrap();
        let response = soon(response).await.unwrap();
        streams.push((upload, response.into_body()));
    }
    let (mut doomed, mut body) = streams.swap_remove(1);
    send_all(&mut doomed, Bytes::from_static(b"panic"), false).await;
    let error = soon(body.data()).await.expect("an end").unwrap_err();
    assert!(error.is_reset(), "{error}");
    for (mut upload, mut body) in streams {
        send_all(&mut upload, Bytes::from_static(b"alive"), true).await;
        assert_eq!(soon(read_all(&mut body)).await, b"alive");
    }
    let (response, mut upload) = client.send_request(connect("site.test:443"), false).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    send_all(&mut upload, Bytes::from_static(b"new"), true).await;
    assert_eq!(soon(read_all(&mut body)).await, b"new", "new streams open");
}
