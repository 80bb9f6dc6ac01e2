//! An HTTP proxy for which every host is the same port of loopback.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::tls::read_request;

pub struct Proxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub async fn start(to: u16) -> Self {
        Self::serve(Some(to)).await
    }

    /// It lets nobody through.
    pub async fn refusing() -> Self {
        Self::serve(None).await
    }

    async fn serve(to: Option<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(pass(socket, to, log.clone()));
            }
        });
        Self { port, asked }
    }

    pub fn url(&self, user: &str) -> String {
        format!("http://{user}127.0.0.1:{}", self.port)
    }

    /// To where it was asked to connect.
    pub fn hosts(&self) -> Vec<String> {
        let host = |asked: &String| asked.split(' ').nth(1).unwrap().to_owned();
        self.asked().iter().map(host).collect()
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn pass(mut socket: TcpStream, to: Option<u16>, log: Arc<Mutex<Vec<String>>>) {
    let asked = read_request(&mut socket).await;
    let tunnel = asked.starts_with("CONNECT ");
    log.lock().unwrap().push(asked);
    match to {
        Some(port) if tunnel => {
            let mut upstream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _ = copy_bidirectional(&mut socket, &mut upstream).await;
        }
        Some(_) => {
            let _ = socket.write_all(b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n").await;
        }
        None => {
            let _ = socket.write_all(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").await;
        }
    }
}
