//! Bodies: read up to a limit, unpacked up to the same.

use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::CONTENT_ENCODING;
use reliab_common::units;

use super::Answer;
use super::exchange::told;
use crate::finding::{Finding, excerpt};

/// Reads a body to its end, if that comes within the limit.
pub(super) async fn read(mut body: Incoming, limit: usize) -> Result<Vec<u8>, Finding> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Finding::critical("the whole answer", told(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_long(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Unpacks a body that is packed, whether or not that was asked for.
pub(super) fn unpack(answer: &mut Answer, limit: usize) -> Result<(), Finding> {
    let encodings: Vec<String> = answer
        .headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase())
        .collect();
    match encodings.join(",").as_str() {
        "" | "identity" => Ok(()),
        "gzip" | "x-gzip" => {
            take(MultiGzDecoder::new(&answer.body[..]), limit).map(|body| answer.body = body)
        }
        "deflate" => take(ZlibDecoder::new(&answer.body[..]), limit).map(|body| answer.body = body),
        other => Err(Finding::critical("a body that is plain or packed by gzip or deflate", excerpt(other))),
    }
}

fn take(decoder: impl Read, limit: usize) -> Result<Vec<u8>, Finding> {
    let mut body = Vec::new();
    let read = decoder.take(limit as u64 + 1).read_to_end(&mut body);
    read.map_err(|error| {
        Finding::critical("a packed body that can be unpacked", excerpt(&error.to_string()))
    })?;
    if body.len() > limit { Err(too_long(limit)) } else { Ok(body) }
}

fn too_long(limit: usize) -> Finding {
    Finding::critical(format!("a body of at most {}", units::bytes(limit as u64)), "more")
}
