use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::state::lock;

/// A listening socket on loopback with what is served there. It can be closed, and opened again at the same port.
pub(super) struct Door {
    address: SocketAddr,
    router: Router,
    state: Mutex<DoorState>,
}

enum DoorState {
    Open {
        listener: Arc<Mutex<Option<TcpListener>>>,
        accepting: AbortHandle,
    },
    /// Bound but not listening: clients are refused, and nobody else can take the port.
    Closed(Option<TcpSocket>),
}

/// A socket bound to a port of its own, whose address can be told before anything is served.
pub(super) struct Bound(TcpSocket, SocketAddr);

impl Bound {
    pub(super) fn new() -> io::Result<Self> {
        let socket = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = socket.local_addr()?;
        Ok(Self(socket, address))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.1
    }

    pub(super) fn serve(self, router: Router) -> io::Result<Door> {
        let state = Mutex::new(open(self.0, router.clone())?);
        Ok(Door { address: self.1, router, state })
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // What is left of the connections before (TIME_WAIT) holds the port otherwise. On Windows it means something else.
    socket.set_reuseaddr(cfg!(unix))?;
    socket.bind(address)?;
    Ok(socket)
}

fn open(socket: TcpSocket, router: Router) -> io::Result<DoorState> {
    let listener = Arc::new(Mutex::new(Some(socket.listen(1024)?)));
    let accepting = tokio::spawn(accept(listener.clone(), router)).abort_handle();
    Ok(DoorState::Open { listener, accepting })
}

impl Door {
    /// Closes the listening socket before it returns, and drops all connections.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        if let DoorState::Open { listener, accepting } = &*state {
            lock(listener).take();
            accepting.abort();
            *state = DoorState::Closed(bind(self.address).ok());
        }
    }

    pub(super) fn reopen(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        if let DoorState::Closed(held) = &mut *state {
            let socket = match held.take() {
                Some(socket) => socket,
                None => bind(self.address)?,
            };
            *state = open(socket, self.router.clone())?;
        }
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(&*lock(&self.state), DoorState::Open { .. })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let DoorState::Open { listener, accepting } = &*lock(&self.state) {
            lock(listener).take();
            accepting.abort();
        }
    }
}

/// Owns the connections' tasks: they end with it.
async fn accept(listener: Arc<Mutex<Option<TcpListener>>>, router: Router) {
    let mut connections = JoinSet::new();
    let next = || {
        poll_fn(|cx| match &*lock(&listener) {
            Some(listener) => listener.poll_accept(cx).map(Some),
            None => Poll::Ready(None),
        })
    };
    loop {
        tokio::select! {
            accepted = next() => match accepted {
                Some(Ok((stream, _))) => { connections.spawn(serve(stream, router.clone())); }
                // Out of file descriptors, most likely.
                Some(Err(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                None => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, router: Router) {
    let _ = stream.set_nodelay(true);
    let stream = Arc::new(stream);
    let connection = Connection::new(&stream);
    let service = TowerToHyperService::new(router.layer(Extension(connection.clone())));
    let serving = http1::Builder::new().serve_connection(TokioIo::new(Wire(stream)), service);
    tokio::select! {
        // Serving goes first: what a torn body has sent is flushed before the cut.
        biased;
        _ = serving => {}
        () = connection.cut.notified() => {}
    }
}

/// What a handler can do to the connection on which its request came.
#[derive(Clone)]
pub(super) struct Connection {
    socket: Weak<TcpStream>,
    cut: Arc<Notify>,
}

impl Connection {
    pub(super) fn new(stream: &Arc<TcpStream>) -> Self {
        Self { socket: Arc::downgrade(stream), cut: Arc::new(Notify::new()) }
    }

    /// Ends the connection as soon as the caller next waits, by FIN.
    pub(super) fn close(&self) {
        self.cut.notify_one();
    }

    /// The same by RST: a linger of zero throws away what has not been sent (RFC 9293 3.9.1, ABORT).
    pub(super) fn reset(&self) {
        if let Some(socket) = self.socket.upgrade() {
            let _ = SockRef::from(&*socket).set_linger(Some(Duration::ZERO));
        }
        self.close();
    }

    /// Whether the other side still holds the connection, as the kernel knows it now.
    pub(super) fn has_client(&self) -> bool {
        let Some(socket) = self.socket.upgrade() else { return false };
        match SockRef::from(&*socket).peek(&mut [MaybeUninit::uninit()]) {
            Ok(bytes) => bytes > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// A stream that lets others look at its socket.
struct Wire(Arc<TcpStream>);

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}
