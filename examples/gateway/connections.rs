//! Accepts connections and serves them within the gateway's time limits, until it is told to stop.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::config::Limits;
use super::pace::Connection;

/// Serves until `end` is true. Then requests in flight may go on for [`Limits::drain`].
pub async fn serve(listener: TcpListener, app: Router, limits: Limits, mut end: watch::Receiver<bool>) {
    let (mut connections, each) = (JoinSet::new(), end.clone());
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut end) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, app.clone(), limits, each.clone()));
                }
                // Without file descriptors: others have to end first.
                Err(error) => {
                    println!("no connection could be accepted: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.drain, all).await.is_err() {
        println!("{} connections were closed before they had ended", connections.len());
        connections.shutdown().await;
    }
}

async fn stopped(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    limits: Limits,
    mut end: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        app.call(request)
    });
    let stream = TokioIo::new(Connection::new(stream, limits.body));
    let mut serving = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .serve_connection(stream, service)
    );
    // An error is a client that goes away or is too slow, and not worth a line.
    tokio::select! {
        _ = serving.as_mut() => return,
        () = stopped(&mut end) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = serving.await;
}
