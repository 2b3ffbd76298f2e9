//! Bodies: how they are framed, taken off the buffer, cut short, and written again.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

#[test]
fn h1_01_length_and_encoding_together_are_refused() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "transfer-encoding: xchunked\r\nCONTENT-LENGTH: 5\r\n",
    ] {
        assert_eq!(framing(fields), Err(Malformed::LengthAndEncoding), "{fields:?}");
        assert_eq!(response_framing(fields, b"GET"), Err(Malformed::LengthAndEncoding));
    }
    assert_eq!(Malformed::LengthAndEncoding.status(), 400);
}

#[test]
fn h1_02_different_lengths_are_refused() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5, 6\r\n",
    ] {
        assert_eq!(framing(fields), Err(Malformed::ContentLengthRepeated), "{fields:?}");
        assert_eq!(response_framing(fields, b"GET"), Err(Malformed::ContentLengthRepeated));
    }
    let same = "Content-Length: 5\r\nContent-Length: 5, 5\r\n";
    assert_eq!(framing(same), Err(Malformed::ContentLengthRepeated));
    assert_eq!(response_framing(same, b"GET"), Ok(BodyLength::Exact(5)));
}

#[test]
fn h1_02_lengths_that_are_no_numbers_are_refused() {
    for value in [
        "",
        "+5",
        "-5",
        "0x5",
        "5 5",
        "5a",
        "5.0",
        "5;",
        "\"5\"",
        "18446744073709551616",
        "\u{665}",
    ] {
        let fields = format!("Content-Length: {value}\r\n");
        assert_eq!(framing(&fields), Err(Malformed::ContentLength), "{value:?}");
    }
    assert!(framing("Content-Length: ,5\r\n").is_err());
    assert!(framing("Content-Length: 5,\r\n").is_err());
}

#[test]
fn h1_04_te_obfuscations_are_refused() {
    for value in [
        "xchunked",
        "chunkedx",
        "x chunked",
        "chunked x",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "identity",
        "chunked, identity",
        "identity, chunked",
        "Chunked",
        "CHUNKED",
        "chunked;q=1",
        "\"chunked\"",
        "chun ked",
        "",
        "cow, chunked",
        "\u{212a}chunked",
        "chunke\u{e9}",
        "gzip, chunked",
        "gzip",
        "chunked, gzip",
    ] {
        let fault = framing(&format!("Transfer-Encoding: {value}\r\n")).unwrap_err();
        assert!(matches!(fault.status(), 400 | 501), "{value:?}");
    }
    for fields in [
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: chunked\x0c\r\n",
        "Transfer-Encoding: chunked\0\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
    ] {
        assert!(framing(fields).is_err(), "{fields:?}");
    }
    assert_eq!(framing("Transfer-Encoding: gzip, chunked\r\n").unwrap_err().status(), 501);
    assert_eq!(framing("Transfer-Encoding: \tchunked \r\n"), Ok(BodyLength::Chunked));
    let old = request(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(request_body(&old), Err(Malformed::TransferEncodingVersion));
}

#[test]
fn responses_are_framed_by_status_and_method() {
    let chunked = "Transfer-Encoding: Chunked\r\n";
    assert_eq!(response_framing(chunked, b"GET"), Ok(BodyLength::Chunked));
    assert_eq!(response_framing(chunked, b"HEAD"), Ok(BodyLength::None));
    assert_eq!(response_framing(chunked, b"CONNECT"), Ok(BodyLength::None));
    assert_eq!(response_framing("", b"GET"), Ok(BodyLength::UntilClose));
    for status in [100, 103, 204, 304] {
        let text = format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n");
        let head = response(text.as_bytes()).unwrap();
        assert_eq!(response_body(&head, b"GET"), Ok(BodyLength::None));
    }
    let old = response(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(response_body(&old, b"GET"), Err(Malformed::TransferEncodingVersion));
}

/// Decodes `text` fed in pieces of `step` bytes: content, trailers, what is left over.
fn decode(
    length: BodyLength,
    text: &[u8],
    step: usize,
) -> Result<(Vec<u8>, Fields, bool, Vec<u8>), Malformed> {
    let mut decoder = BodyDecoder::new(length);
    let (mut content, mut trailers, mut buffer) = (Vec::new(), Fields::new(), BytesMut::new());
    for piece in text.chunks(step.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(data) => content.extend_from_slice(&data),
                Decoded::Trailers(fields) => trailers = *fields,
                Decoded::End | Decoded::NeedMore => break,
            }
        }
    }
    let complete = decoder.finish().is_ok();
    Ok((content, trailers, complete, buffer.to_vec()))
}

#[test]
fn a_chunked_body_is_taken_off_whole_and_nothing_more() {
    let text = b"5\r\nhello\r\n006;a=b;c=\"d\\\"\";e\r\n world\r\n0\r\nX-Sum: 1\r\n\r\nGET /";
    for step in 1..=text.len() {
        let (content, trailers, complete, left) = decode(BodyLength::Chunked, text, step).unwrap();
        assert_eq!(content, b"hello world");
        assert_eq!(trailers.text("x-sum"), Some("1"));
        assert!(complete);
        assert_eq!(left, b"GET /");
    }
}

#[test]
fn h1_05_malformed_chunks_are_refused() {
    let long = format!("5;a={}\r\n", "x".repeat(64 << 10));
    for text in [
        "+5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\t\r\nhello\r\n",
        "5;\r\nhello\r\n",
        "5; a\r\nhello\r\n",
        "5 ;a\r\nhello\r\n",
        "5;a=\r\nhello\r\n",
        "5;a=\"b\r\nhello\r\n",
        "5;=b\r\nhello\r\n",
        "5;a b\r\nhello\r\n",
        "5;a\0\r\nhello\r\n",
        "5;a\rb\r\nhello\r\n",
        "5\nhello\r\n",
        "5;a\nhello\r\n",
        "5\rhello\r\n",
        "\r\nhello\r\n",
        ";a\r\nhello\r\n",
        "g\r\n",
        "10000000000000000\r\n",
        "00000000000000005\r\nhello\r\n",
        "5,\r\nhello\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\rX",
        "0\r\n\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\n\r\n",
        &long,
        &long.replace("\r\n", ""),
        &"0".repeat(2000),
    ] {
        for step in [1, 7, text.len()] {
            assert!(decode(BodyLength::Chunked, text.as_bytes(), step).is_err(), "{text:.40?}");
        }
    }
}

#[test]
fn h1_05_extensions_are_bounded_over_the_whole_body() {
    let text = "1;abcdefgh=ijklmnopqrstuvwxyz\r\nx\r\n".repeat(10_000);
    assert_eq!(decode(BodyLength::Chunked, text.as_bytes(), 4096), Err(Malformed::ChunkExtension));
}

#[test]
fn h1_06_forbidden_trailers_are_dropped_and_huge_ones_refused() {
    let text = b"0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b.test\r\n\
        Authorization: x\r\nSet-Cookie: y\r\nGrpc-Status: 0\r\n\r\n";
    let (_, trailers, complete, _) = decode(BodyLength::Chunked, text, 3).unwrap();
    assert!(complete);
    assert_eq!(trailers.len(), 1);
    assert!(trailers.has("grpc-status"));

    let huge = format!("0\r\nX: {}\r\n\r\n", "y".repeat(20 << 10));
    let many = format!("0\r\n{}\r\n", "X: y\r\n".repeat(100));
    for text in [huge, many] {
        for step in [100, text.len()] {
            let refused = decode(BodyLength::Chunked, text.as_bytes(), step);
            assert_eq!(refused, Err(Malformed::TrailersTooLarge));
        }
    }
}

#[test]
fn h1_20_a_body_cut_short_never_ends_cleanly() {
    let whole = b"5\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for end in 0..whole.len() {
        let text = whole.get(..end).unwrap();
        let (_, _, complete, _) = decode(BodyLength::Chunked, text, 4).unwrap();
        assert!(!complete, "{end}");
    }
    assert!(!decode(BodyLength::Exact(5), b"hell", 1).unwrap().2);
    assert!(decode(BodyLength::Exact(5), b"hello", 1).unwrap().2);
    assert!(decode(BodyLength::UntilClose, b"hell", 1).unwrap().2);
    assert!(decode(BodyLength::None, b"", 1).unwrap().2);
}

#[test]
fn h1_26_lengths_are_64_bit() {
    assert_eq!(
        framing("Content-Length: 9223372036854775807\r\n"),
        Ok(BodyLength::Exact(i64::MAX.unsigned_abs()))
    );
    let mut decoder = BodyDecoder::new(BodyLength::Exact(5 << 30));
    let mut buffer = BytesMut::from(&b"abc"[..]);
    decoder.decode(&mut buffer).unwrap();
    assert_eq!(decoder.remaining(), Some((5 << 30) - 3));
    let mut chunk = BytesMut::from(&b"ffffffffffffffff\r\nabc"[..]);
    let mut decoder = BodyDecoder::new(BodyLength::Chunked);
    assert_eq!(decoder.decode(&mut chunk), Ok(Decoded::Data(Bytes::from_static(b"abc"))));
}

#[test]
fn exact_bodies_leave_the_next_message_alone() {
    let (content, _, complete, left) = decode(BodyLength::Exact(5), b"helloGET /", 10).unwrap();
    assert_eq!(
        (content.as_slice(), complete, left.as_slice()),
        (&b"hello"[..], true, &b"GET /"[..])
    );
}

#[test]
fn framing_is_said_once() {
    let fields = "Content-Length: 5\r\nContent-Length: 5\r\n";
    let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    let mut fields = response(head.as_bytes()).unwrap().fields;
    frame(&mut fields, BodyLength::Exact(5));
    assert_eq!(fields.all("content-length").count(), 1);
    frame(&mut fields, BodyLength::Chunked);
    assert!(!fields.has("content-length") && fields.has("transfer-encoding"));
    frame(&mut fields, BodyLength::UntilClose);
    assert!(fields.is_empty());
}

proptest! {
    #[test]
    fn what_is_written_in_chunks_reads_back(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..6),
        step in 1_usize..700,
    ) {
        let mut output = BytesMut::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            write_chunk_header(chunk.len() as u64, &mut output);
            output.extend_from_slice(chunk);
            output.extend_from_slice(CHUNK_END);
        }
        let mut trailers = Fields::new();
        trailers.push("X-Sum", "1");
        write_last_chunk(&trailers, &mut output).unwrap();
        let read = decode(BodyLength::Chunked, &output, step).unwrap();
        prop_assert_eq!(read, (chunks.concat(), trailers, true, Vec::new()));
    }

    #[test]
    fn chunk_sizes_of_every_magnitude_read_back(size in 1_u64.., shift in 0_u32..64) {
        let size = (size >> shift).max(1);
        let mut output = BytesMut::new();
        write_chunk_header(size, &mut output);
        let expected = format!("{size:x}\r\n");
        prop_assert_eq!(output.as_ref(), expected.as_bytes());
    }
}
