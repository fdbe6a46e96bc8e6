//! A client of HTTP, as far as tests need one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Namespace;

const PATIENCE: Duration = Duration::from_secs(10);

/// The status and the body of an answer to `GET`.
pub fn get(namespace: &Namespace, server: SocketAddr, path: &str) -> Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n");
    let answer = ask(namespace, server, request.as_bytes())?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the head")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// All that is answered to these bytes until the server closes the connection.
pub fn ask(namespace: &Namespace, server: SocketAddr, request: &[u8]) -> Result<String> {
    namespace.run(|| {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("reading an answer of HTTP")?;
        Ok(answer)
    })
}
