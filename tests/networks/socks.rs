//! A SOCKS 5 server (RFC 1928, RFC 1929) for which every host is the same port of loopback.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

pub struct Socks {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Socks {
    /// It leads to this port; or it refuses, with this reply (RFC 1928 6). With `user`, it wants user and password.
    pub async fn start(to: Result<u16, u8>, user: Option<(&'static str, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, to, user, log.clone()));
            }
        });
        Self { port, asked }
    }

    pub fn url(&self, scheme: &str, user: &str) -> String {
        format!("{scheme}://{user}127.0.0.1:{}", self.port)
    }

    /// The hosts and ports that it was asked for, as they were given to it.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    mut socket: TcpStream,
    to: Result<u16, u8>,
    user: Option<(&'static str, &'static str)>,
    log: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let methods = read(&mut socket, 1).await?[1];
    let offered = exactly(&mut socket, methods.into()).await?;
    let wanted = if user.is_some() { 2 } else { 0 };
    if !offered.contains(&wanted) {
        return socket.write_all(&[5, 0xff]).await;
    }
    socket.write_all(&[5, wanted]).await?;
    if let Some((user, password)) = user {
        let length = read(&mut socket, 1).await?[1];
        let name = exactly(&mut socket, length.into()).await?;
        let length = socket.read_u8().await?;
        let secret = exactly(&mut socket, length.into()).await?;
        let is_good = name == user.as_bytes() && secret == password.as_bytes();
        socket.write_all(&[1, u8::from(!is_good)]).await?;
        if !is_good {
            return Ok(());
        }
    }
    let host = match exactly(&mut socket, 4).await?[3] {
        1 => exactly(&mut socket, 4).await?.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
        3 => {
            let length = socket.read_u8().await?;
            String::from_utf8(exactly(&mut socket, length.into()).await?).unwrap()
        }
        _ => "an IPv6 address".to_owned(),
    };
    let port = socket.read_u16().await?;
    log.lock().unwrap().push(format!("{host}:{port}"));
    match to {
        Ok(port) => {
            let mut upstream = TcpStream::connect(("127.0.0.1", port)).await?;
            socket.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
            copy_bidirectional(&mut socket, &mut upstream).await.map(drop)
        }
        Err(reply) => socket.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await,
    }
}

/// A version and the first byte behind it.
async fn read(socket: &mut TcpStream, more: usize) -> std::io::Result<Vec<u8>> {
    exactly(socket, 1 + more).await
}

async fn exactly(socket: &mut TcpStream, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes).await?;
    Ok(bytes)
}
