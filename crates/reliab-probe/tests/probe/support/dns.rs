//! A DNS server that answers by the first label of the name.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

/// Starts one on an address such as `127.0.0.1:0`, on UDP and TCP.
pub fn start(address: &str) -> SocketAddr {
    // Both transports need the same port, which may be taken for one of them.
    let (udp, tcp) = (0..50)
        .find_map(|_| {
            let udp = UdpSocket::bind(address).ok()?;
            let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
            Some((udp, tcp))
        })
        .unwrap_or_else(|| panic!("cannot bind {address}"));
    let address = udp.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((count, from)) = udp.recv_from(&mut buffer) {
            // Each in a thread of its own: a slow answer must not delay the next.
            let (query, udp) = (buffer[..count].to_vec(), udp.try_clone().unwrap());
            thread::spawn(move || {
                for answer in answer(&query, false) {
                    let _ = udp.send_to(&answer, from);
                }
            });
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).unwrap();
            for answer in answer(&query, true) {
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                let _ = stream.write_all(&[&length[..], &answer].concat());
            }
        }
    });
    address
}

/// One that never answers.
pub fn silent(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn answer(query: &[u8], tcp: bool) -> Vec<Vec<u8>> {
    let label = &query[13..13 + usize::from(query[12])];
    let end = 12 + query[12..].iter().position(|&byte| byte == 0).unwrap() + 5;
    let record = u16::from_be_bytes([query[end - 4], query[end - 3]]);
    let text = || {
        let mut message = query[..2].to_vec();
        message.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        message.extend(&query[12..end]);
        message.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, 201, 200]);
        message.extend([b'x'; 200]);
        message
    };
    let many: Vec<[u8; 4]> = (1..=60).map(|last| [192, 0, 2, last]).collect();
    let good = |flags: u16, addresses: &[[u8; 4]]| {
        let addresses = if record == 1 { addresses } else { &[] };
        let mut message = query[..2].to_vec();
        message.extend(flags.to_be_bytes());
        message.extend([0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
        message.extend(&query[12..end]);
        for address in addresses {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            message.extend(address);
        }
        message
    };
    let local = [[127, 0, 0, 1]];
    match label.to_ascii_lowercase().as_slice() {
        b"good" => vec![good(0x8180, &[[192, 0, 2, 7], [192, 0, 2, 8]])],
        b"pair" => vec![good(0x8180, &[[127, 0, 0, 2], [127, 0, 0, 3]])],
        b"many" => vec![good(0x8180, &many)],
        b"long" => vec![text()],
        b"none" => vec![good(0x8180, &[])],
        b"nx" => vec![good(0x8183, &[])],
        b"fail" => vec![good(0x8182, &[])],
        b"big" if !tcp => vec![good(0x8380, &[])],
        b"big" => vec![good(0x8180, &[[192, 0, 2, 9]])],
        b"spoofed" => {
            // The wrong number first; then the true answer.
            let mut wrong = good(0x8180, &[[203, 0, 113, 66]]);
            wrong[0] ^= 0xff;
            vec![wrong, good(0x8180, &[[192, 0, 2, 7]])]
        }
        b"garbage" => vec![[&query[..2], &[0xff; 40][..]].concat()],
        b"slow" => {
            thread::sleep(Duration::from_millis(300));
            vec![good(0x8180, &local)]
        }
        b"silent" => vec![],
        _ => vec![good(0x8180, &local)],
    }
}
