//! Servers that no client should trust.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::{answers, request, serve};

const HOUR: Duration = Duration::from_secs(3600);

/// Sends these bytes one after the other, with a pause between two.
fn trickle(stream: &mut TcpStream, text: &str, pause: Duration) {
    for byte in text.bytes() {
        if stream.write_all(&[byte]).is_err() {
            return;
        }
        thread::sleep(pause);
    }
}

pub fn slow_headers() -> SocketAddr {
    serve(|mut stream| {
        request(&stream);
        let head = format!("HTTP/1.1 200 OK\r\n{}", "X-More: and more\r\n".repeat(1000));
        trickle(&mut stream, &head, Duration::from_millis(50));
    })
}

pub fn slow_body() -> SocketAddr {
    serve(|mut stream| {
        request(&stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        trickle(&mut stream, &"x".repeat(100_000), Duration::from_millis(50));
    })
}

pub fn endless_body() -> SocketAddr {
    serve(|mut stream| {
        request(&stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let more = vec![b'x'; 65_536];
        while stream.write_all(&more).is_ok() {}
    })
}

/// A thousand bytes that unpack to a megabyte, or a mebibyte to a gibibyte: by `size` of what it unpacks to.
pub fn gzip(size: u64) -> SocketAddr {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut std::io::repeat(b'x').take(size), &mut packed).unwrap();
    let packed = packed.finish().unwrap();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len());
    answers([head.into_bytes(), packed].concat())
}

/// Each redirect leads to another path.
pub fn endless_redirects() -> SocketAddr {
    serve(|mut stream| {
        let head = request(&stream);
        let path = head.split(' ').nth(1).unwrap_or("/");
        let _ = write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: {path}x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    })
}

pub fn redirect_to(location: &str) -> SocketAddr {
    answers(format!(
        "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ))
}

pub fn bad_chunking() -> SocketAddr {
    answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZZ\r\nx\r\n0\r\n\r\n")
}

pub fn cut_body() -> SocketAddr {
    answers("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
}

pub fn many_headers() -> SocketAddr {
    let headers: String = (0..10_000).map(|number| format!("X-{number}: {number}\r\n")).collect();
    answers(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 2\r\nConnection: close\r\n\r\nok"))
}

pub fn huge_header() -> SocketAddr {
    answers(format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok", "x".repeat(1 << 20)))
}

/// Accepts, and says nothing.
pub fn silent() -> SocketAddr {
    serve(|stream| {
        thread::sleep(HOUR);
        drop(stream);
    })
}

/// Accepts, reads, and closes without a word.
pub fn hangs_up() -> SocketAddr {
    serve(|stream| {
        request(&stream);
    })
}

pub fn not_http() -> SocketAddr {
    answers("SSH-2.0-OpenSSH_9.2p1\r\n")
}

/// Greets, as SMTP does.
pub fn greets() -> SocketAddr {
    serve(|mut stream| {
        let _ = stream.write_all(b"220 mail.test ESMTP\r\n");
        let _ = stream.read(&mut [0; 64]);
    })
}
