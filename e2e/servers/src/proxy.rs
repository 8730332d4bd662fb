//! A proxy before a server that makes it slow, broken or unreachable while it runs, and counts what passes.
//!
//! It works on a thread of its own, so it serves a test that blocks, and its processor time can be told from the test's.

mod body;
mod control;
mod counts;
mod fault;
mod forward;
mod gcs;
mod operation;
mod state;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::thread::gettid;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use counts::Counts;
pub use fault::{Fault, Rule, When};
pub use operation::Operation;
pub use state::{Latency, RuleId};

use crate::proxy::forward::Forward;
use crate::proxy::state::State;
use crate::{Access, Kind, Server};

/// Connections that wait to be accepted; a burst of clients that start together fits.
const BACKLOG: i32 = 1024;
/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// How a proxy is started. The default is free ports, no latency, and random faults that are the same each time.
#[derive(Debug, Clone, Default)]
pub struct ProxyOptions {
    /// Where it listens, on 127.0.0.1. Without it, a free port.
    pub port: Option<u16>,
    /// Where its control endpoint listens. Without it, a free port.
    pub control_port: Option<u16>,
    /// What it adds from the start.
    pub latency: Latency,
    /// Of faults with a probability.
    pub seed: u64,
}

/// A proxy before a server. Dropping it resets its connections.
pub struct FaultProxy {
    access: Access,
    front: Front,
}

impl FaultProxy {
    /// Starts one before `server`. For a server that has a translation before it already, this one takes its place.
    pub fn start(server: &Server, options: ProxyOptions) -> anyhow::Result<Self> {
        let front = Front::start(server.access().kind, server.address(), options)?;
        let access = server.access_at(front.address)?;
        Ok(Self { access, front })
    }

    /// How a client reaches the server through here.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Base URL without a slash at its end.
    pub fn endpoint(&self) -> &str {
        &self.access.endpoint
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.front.address
    }

    /// Base URL of the control endpoint; `GET` of its root tells what it does.
    pub fn control_endpoint(&self) -> String {
        format!("http://{}", self.front.control_address)
    }

    /// What is added to each request.
    pub fn latency(&self) -> Latency {
        self.front.state.latency()
    }

    /// What is added to each request from now on.
    pub fn set_latency(&self, read: Duration, write: Duration) {
        self.front.state.set_latency(Latency { read, write });
    }

    /// Puts a fault in. Of several, the one that was there first and is due happens.
    pub fn inject(&self, rule: Rule) -> RuleId {
        self.front.state.inject(rule)
    }

    /// Takes a fault out again; false if it was used up.
    pub fn lift(&self, id: RuleId) -> bool {
        self.front.state.lift(id)
    }

    /// Takes all faults out; latency and refusing stay.
    pub fn heal(&self) {
        self.front.state.heal();
    }

    /// From when this returns connections are refused, and those there were are reset; or it is over.
    pub fn refuse(&self, is_refusing: bool) {
        let (sender, receiver) = std::sync::mpsc::channel();
        refuse(self.front.commands.as_ref(), is_refusing, Box::new(move || _ = sender.send(())));
        // Only a proxy that has stopped does not answer, and it refuses.
        receiver.recv().ok();
    }

    /// Of all keys.
    pub fn counts(&self) -> Counts {
        self.counts_under("")
    }

    /// Of the keys (of lists: prefixes) whose directory begins with `prefix`. A key's directory ends with its last slash.
    pub fn counts_under(&self, prefix: &str) -> Counts {
        self.front.state.counts_under(prefix)
    }

    /// From zero again.
    pub fn reset_counts(&self) {
        self.front.state.reset_counts();
    }

    /// Processor time it has used.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.front.thread_id))?;
        let nanoseconds = text.split(' ').next().and_then(|word| word.parse().ok()).context("read /proc/self/task/ID/schedstat")?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl std::fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultProxy").field("access", &self.access).field("state", &self.front.state.json()).finish()
    }
}

/// The listening half, without knowledge of buckets and credentials.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    control_address: SocketAddr,
    state: Arc<State>,
    /// Taken to stop.
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<std::thread::JoinHandle<()>>,
    thread_id: i32,
}

impl Front {
    /// Listens, and sends what comes to `upstream`.
    pub(crate) fn start(kind: Kind, upstream: SocketAddr, options: ProxyOptions) -> anyhow::Result<Self> {
        // Never listens, only keeps the port ours while connections are refused.
        let reserved = socket(options.port.unwrap_or_default())?;
        let address = reserved.local_addr()?.as_socket().context("an address of the internet")?;
        let control = socket(options.control_port.unwrap_or_default())?;
        let control_address = control.local_addr()?.as_socket().context("an address of the internet")?;
        let state = Arc::new(State::new(kind, options.latency, options.seed));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let (started, ready) = std::sync::mpsc::channel();
        let (thread_state, weak) = (state.clone(), commands.downgrade());
        let thread = std::thread::Builder::new().name("fault-proxy".to_owned()).spawn(move || {
            let _reserved = reserved;
            runtime.block_on(async move {
                let prepared = prepare(thread_state.clone(), upstream, address, control);
                match prepared {
                    Ok((forward, listener, control)) => {
                        started.send(Ok(gettid().as_raw_nonzero().get())).ok();
                        run(forward, thread_state, address, listener, control, receiver, weak).await;
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            });
        })?;
        let thread_id = ready.recv().context("the proxy's thread ended")??;
        Ok(Self { address, control_address, state, commands: Some(commands), thread: Some(thread), thread_id })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.state.set_refusing(true);
        drop(self.commands.take());
        // If it has panicked, that was printed.
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// What the accepting loop is told.
pub(crate) enum Command {
    /// To refuse connections or not to, and whom to tell when it is so.
    Refuse(bool, Box<dyn FnOnce() + Send>),
}

/// A way to the loop that does not keep it alive.
pub(crate) type Commands = Option<mpsc::UnboundedSender<Command>>;

fn refuse<'a>(commands: impl Into<Option<&'a mpsc::UnboundedSender<Command>>>, is_refusing: bool, told: Box<dyn FnOnce() + Send>) {
    if let Some(commands) = commands.into() {
        // A loop that has stopped drops the command, and whoever waits sees that.
        commands.send(Command::Refuse(is_refusing, told)).ok();
    }
}

/// A bound socket that others may share the port of: the one that reserves it and the one that listens.
fn socket(port: u16) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.bind(&address.into()).with_context(|| format!("bind {address}"))?;
    Ok(socket)
}

fn listen(socket: Socket) -> anyhow::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}

fn prepare(
    state: Arc<State>,
    upstream: SocketAddr,
    address: SocketAddr,
    control: Socket,
) -> anyhow::Result<(Arc<Forward>, TcpListener, TcpListener)> {
    // Two proxies on one given port would share its connections between them.
    if std::net::TcpStream::connect(address).is_ok() {
        bail!("{address} is taken");
    }
    Ok((Arc::new(Forward::new(state, upstream)?), listen(socket(address.port())?)?, listen(control)?))
}

async fn run(
    forward: Arc<Forward>,
    state: Arc<State>,
    address: SocketAddr,
    listener: TcpListener,
    control: TcpListener,
    mut commands: mpsc::UnboundedReceiver<Command>,
    weak: mpsc::WeakUnboundedSender<Command>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let mut controls = JoinSet::new();
    loop {
        tokio::select! {
            stream = accept(listener.as_ref()) => {
                connections.spawn(serve(stream, forward.clone(), state.clone()));
            }
            stream = accept(Some(&control)) => {
                controls.spawn(serve_control(stream, state.clone(), weak.clone()));
            }
            Some(_) = connections.join_next() => {}
            Some(_) = controls.join_next() => {}
            command = commands.recv() => match command {
                None => break,
                Some(Command::Refuse(is_refusing, told)) => {
                    state.set_refusing(is_refusing);
                    if is_refusing {
                        listener = None;
                        connections.shutdown().await;
                    } else if listener.is_none() {
                        listener = socket(address.port()).and_then(listen).ok();
                    }
                    told();
                }
            },
        }
    }
    connections.shutdown().await;
}

/// The next connection; never one where nothing listens.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // A client that has left already, or no descriptor is free: some are when others have ended.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, forward: Arc<Forward>, state: Arc<State>) {
    stream.set_nodelay(true).ok();
    let reset = Arc::new(AtomicBool::new(false));
    let stream = TokioIo::new(Connection { stream, reset: reset.clone(), state });
    let service = service_fn(move |request| {
        let (forward, reset) = (forward.clone(), reset.clone());
        async move { forward.handle(request, &reset).await }
    });
    // How a connection ends is what clients are tested with.
    hyper::server::conn::http1::Builder::new().timer(TokioTimer::new()).serve_connection(stream, service).await.ok();
}

async fn serve_control(stream: TcpStream, state: Arc<State>, weak: mpsc::WeakUnboundedSender<Command>) {
    let service = service_fn(move |request| {
        let (state, commands) = (state.clone(), weak.upgrade());
        async move { anyhow::Ok(control::handle(request, state, commands).await.map(http_body_util::Full::new)) }
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

/// A client's connection that ends with a reset where that is wanted.
struct Connection {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
    state: Arc<State>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) || self.state.is_refusing() {
            // Closing a socket that does not linger sends a reset.
            self.stream.set_zero_linger().ok();
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
