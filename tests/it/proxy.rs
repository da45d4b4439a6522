//! A bad network: a proxy between Longshore and any broker that speaks plain TCP, in memory or real.
//!
//! ```text
//!   Longshore ──requests──▶ gate (one for each node) ────────────────────────────▶ broker
//!             ◀──responses── [fault] ◀── addresses of nodes made those of gates ◀──┘
//! ```
//!
//! It knows the framing of the protocol and no more: a request's kind stands at its front, and responses come in the
//! order of their requests. Brokers say where they listen in bytes that are the same in every version (the host's letters,
//! then the port in 32 bits), so those are replaced wherever they stand, and clients stay with the proxy.
//!
//! Faults of one response are set in advance, as those of the in-memory broker are ([`Proxy::next`], [`Proxy::every`]).
//! Faults of connections ([`Proxy::set_gates`], [`Proxy::cut_all`], [`Proxy::forget_all`], [`Proxy::reap_idle`],
//! [`Proxy::move_gate`]) are set when they are to happen.

use std::{
    io,
    net::{TcpListener as StdListener, TcpStream as StdStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use longshore::broker::ApiKey;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

/// Where everything listens, as brokers write it.
const HOST: &str = "127.0.0.1";
/// Requests under way on one connection.
const MAX_PIPELINED: usize = 1_000;

/// What becomes of a response on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection ends after so many bytes of it (its length, which is 4 bytes, counts).
    CutAt(usize),
    /// This bit of it is the other way round; bit 0 is the highest of the first byte after the length.
    Flip(usize),
    /// It comes so much later.
    Delay(Duration),
    /// It comes byte by byte, with this pause after each.
    Trickle(Duration),
    /// It never comes, nor does anything after it; the connection stays open.
    Swallow,
}

/// What becomes of connections to a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gates {
    /// They lead to the broker.
    Open,
    /// They are refused.
    Shut,
    /// They are accepted and lead nowhere: nothing is ever read or answered.
    BlackHole,
}

#[derive(Debug, Clone, Copy)]
struct Orders {
    gates: Gates,
    /// Connections with lower numbers are closed.
    cut_below: u64,
    /// Connections with lower numbers are forgotten: open, as far as the client can tell, and dead.
    forgotten_below: u64,
    idle_limit: Option<Duration>,
}

struct Armed {
    api: ApiKey,
    fault: Fault,
    /// `None` for until it is cleared.
    left: Option<u32>,
}

struct Shared {
    gates: Mutex<Vec<Gate>>,
    armed: Mutex<Vec<Armed>>,
    orders: watch::Sender<Orders>,
    connections: AtomicU64,
    reaped: AtomicU64,
    /// The length of the latest response of each kind, its length field included.
    seen: Mutex<Vec<(i16, usize)>>,
}

/// The port of a node, and the port that stands for it.
#[derive(Debug, Clone, Copy)]
struct Gate {
    node: u16,
    port: u16,
}

/// See the [module's documentation](self). It ends, with all its connections, when it is dropped.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    listeners: mpsc::Sender<(StdListener, u16)>,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Stands before nodes at these addresses of this machine.
    pub(crate) fn before<A: AsRef<str>>(nodes: impl IntoIterator<Item = A>) -> Self {
        let orders = Orders { gates: Gates::Open, cut_below: 0, forgotten_below: 0, idle_limit: None };
        let shared = Arc::new(Shared {
            gates: Mutex::default(),
            armed: Mutex::default(),
            orders: watch::Sender::new(orders),
            connections: AtomicU64::new(0),
            reaped: AtomicU64::new(0),
            seen: Mutex::default(),
        });
        let (listeners, incoming) = mpsc::channel(16);
        let (stop, stopped) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || runtime.block_on(serve(of_thread, incoming, stopped)));
        let proxy = Self { shared, listeners, stop: Some(stop), thread: Some(thread) };
        for node in nodes {
            let (_, port) = node.as_ref().rsplit_once(':').expect("HOST:PORT");
            proxy.open(port.parse().expect("a port"));
        }
        proxy
    }

    fn open(&self, node: u16) -> u16 {
        let listener = StdListener::bind((HOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("bound").port();
        let mut gates = self.shared.gates.lock().expect("no panic");
        gates.retain(|gate| gate.node != node);
        gates.push(Gate { node, port });
        drop(gates);
        self.listeners.try_send((listener, port)).expect("the proxy runs");
        port
    }

    /// Where the gate to the first node is, as a bootstrap address.
    pub(crate) fn address(&self) -> String {
        format!("{HOST}:{}", self.shared.gates.lock().expect("no panic")[0].port)
    }

    /// A fault of the next response of this kind.
    pub(crate) fn next(&self, api: ApiKey, fault: Fault) {
        self.arm(api, fault, Some(1));
    }

    /// A fault of every response of this kind, until [`clear`](Self::clear).
    pub(crate) fn every(&self, api: ApiKey, fault: Fault) {
        self.arm(api, fault, None);
    }

    fn arm(&self, api: ApiKey, fault: Fault, left: Option<u32>) {
        self.shared.armed.lock().expect("no panic").push(Armed { api, fault, left });
    }

    /// Whether a fault is still set.
    pub(crate) fn is_armed(&self) -> bool {
        !self.shared.armed.lock().expect("no panic").is_empty()
    }

    /// Takes back all faults of responses.
    pub(crate) fn clear(&self) {
        self.shared.armed.lock().expect("no panic").clear();
    }

    /// How long the latest response of this kind was, with the 4 bytes of its length.
    pub(crate) fn length_of(&self, api: ApiKey) -> Option<usize> {
        let seen = self.shared.seen.lock().expect("no panic");
        seen.iter().find(|(key, _)| *key == api as i16).map(|(_, length)| *length)
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How many connections were closed for being idle.
    pub(crate) fn reaped(&self) -> u64 {
        self.shared.reaped.load(Ordering::Relaxed)
    }

    /// What becomes of new connections. Those that there are stay.
    pub(crate) fn set_gates(&self, gates: Gates) {
        self.shared.orders.send_modify(|orders| orders.gates = gates);
    }

    /// Closes all connections.
    pub(crate) fn cut_all(&self) {
        let all = self.connections();
        self.shared.orders.send_modify(|orders| orders.cut_below = all);
    }

    /// The far side of all connections is gone, and no packet says so.
    pub(crate) fn forget_all(&self) {
        let all = self.connections();
        self.shared.orders.send_modify(|orders| orders.forgotten_below = all);
    }

    /// Connections on which nothing was asked for so long are closed, as a broker does by `connections.max.idle.ms`.
    pub(crate) fn reap_idle(&self, limit: Duration) {
        self.shared.orders.send_modify(|orders| orders.idle_limit = Some(limit));
    }

    /// The `nth` node listens somewhere else from now on, and nobody does where it was.
    pub(crate) fn move_gate(&self, nth: usize) {
        let node = self.shared.gates.lock().expect("no panic")[nth].node;
        self.open(node);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) && !thread::panicking() {
            panic!("the proxy panicked");
        }
    }
}

/// Runs every gate until the proxy is dropped.
async fn serve(
    shared: Arc<Shared>,
    mut listeners: mpsc::Receiver<(StdListener, u16)>,
    mut stopped: watch::Receiver<()>,
) {
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            Some((listener, port)) = listeners.recv() => {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::spawn(gate(Arc::clone(&shared), listener, port));
            }
        }
    }
}

/// Accepts connections for as long as this gate is the one of its node.
async fn gate(shared: Arc<Shared>, listener: TcpListener, port: u16) {
    let mut orders = shared.orders.subscribe();
    let mut listener = Some(listener);
    loop {
        let node = shared.gates.lock().expect("no panic").iter().find(|gate| gate.port == port).map(|gate| gate.node);
        let Some(node) = node else { return };
        let gates = orders.borrow_and_update().gates;
        if gates == Gates::Shut {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind((HOST, port)).await.expect("the port is still free"));
        }
        tokio::select! {
            _ = orders.changed() => {}
            // A gate that was moved goes with the next look.
            () = sleep(Duration::from_millis(20)) => {}
            Ok(stream) = accept(listener.as_ref()) => {
                let number = shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection(Arc::clone(&shared), stream, node, port, number));
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

/// Ends, and with it the connection, when either side closes it, a fault cuts it, or an order does.
async fn connection(shared: Arc<Shared>, mut client: TcpStream, node: u16, port: u16, number: u64) {
    let mut orders = shared.orders.subscribe();
    let black_hole = orders.borrow().gates == Gates::BlackHole;
    let dead = AtomicBool::new(black_hole);
    let pass = async {
        if !black_hole && let Ok(mut server) = TcpStream::connect((HOST, node)).await {
            // An error is an end like any other.
            let _ = pump(&shared, &mut client, &mut server).await;
        } else if black_hole {
            std::future::pending::<()>().await;
        }
    };
    tokio::pin!(pass);
    loop {
        let Orders { cut_below, forgotten_below, .. } = *orders.borrow_and_update();
        let moved = !shared.gates.lock().expect("no panic").iter().any(|gate| gate.port == port);
        if number < cut_below || moved {
            return;
        }
        if number < forgotten_below {
            dead.store(true, Ordering::Relaxed);
        }
        tokio::select! {
            _ = orders.changed() => {}
            // To see whether the gate was moved.
            () = sleep(Duration::from_millis(20)) => {}
            () = &mut pass, if !dead.load(Ordering::Relaxed) => return,
        }
    }
}

/// Carries requests one way and responses, with their faults, the other.
async fn pump(shared: &Shared, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (split(client), split(server));
    let (asked, mut due) = mpsc::channel(MAX_PIPELINED);
    let orders = shared.orders.subscribe();
    let latest = Mutex::new(Instant::now());
    let requests = async {
        loop {
            let frame = read_frame(&mut from_client).await?;
            let api = i16::from_be_bytes([frame[4], frame[5]]);
            if asked.send(api).await.is_err() {
                return Ok(());
            }
            to_server.write_all(&frame).await?;
        }
    };
    let responses = async {
        loop {
            let mut frame = read_frame(&mut from_server).await?;
            let Some(api) = due.recv().await else { return Ok(()) };
            shared.hide_nodes(&mut frame);
            shared.note(api, frame.len());
            deliver(&mut to_client, &mut frame, shared.take(api)).await?;
            *latest.lock().expect("no panic") = Instant::now();
        }
    };
    let idle = async {
        loop {
            let limit = orders.borrow().idle_limit;
            let since = *latest.lock().expect("no panic");
            let quiet = asked.capacity() == MAX_PIPELINED;
            if quiet && limit.is_some_and(|limit| since.elapsed() >= limit) {
                shared.reaped.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            sleep_until(Instant::now() + Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        ended = requests => ended,
        ended = responses => ended,
        ended = idle => ended,
    }
}

/// A whole frame with its length.
async fn read_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.resize(4 + length as usize, 0);
    stream.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

async fn deliver(client: &mut (impl AsyncWriteExt + Unpin), frame: &mut [u8], fault: Option<Fault>) -> io::Result<()> {
    match fault {
        None => {}
        Some(Fault::Delay(delay)) => sleep(delay).await,
        Some(Fault::Flip(bit)) => frame[4 + bit / 8] ^= 0x80 >> (bit % 8),
        Some(Fault::Swallow) => std::future::pending().await,
        Some(Fault::CutAt(length)) => {
            client.write_all(&frame[..length.min(frame.len())]).await?;
            client.flush().await?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Some(Fault::Trickle(pause)) => {
            for byte in frame.iter() {
                client.write_all(&[*byte]).await?;
                sleep(pause).await;
            }
            return Ok(());
        }
    }
    client.write_all(frame).await
}

impl Shared {
    /// The fault that was set first for this kind of response, which is used up by this.
    fn take(&self, api: i16) -> Option<Fault> {
        let mut armed = self.armed.lock().expect("no panic");
        let at = armed.iter().position(|armed| armed.api as i16 == api)?;
        let fault = armed[at].fault;
        if let Some(left) = &mut armed[at].left {
            *left -= 1;
            if *left == 0 {
                armed.remove(at);
            }
        }
        Some(fault)
    }

    fn note(&self, api: i16, length: usize) {
        let mut seen = self.seen.lock().expect("no panic");
        seen.retain(|(key, _)| *key != api);
        seen.push((api, length));
    }

    /// Makes every address of a node that of its gate.
    fn hide_nodes(&self, frame: &mut [u8]) {
        let length = HOST.len() + 4;
        for at in 0..frame.len().saturating_sub(length - 1) {
            let (host, port) = frame[at..at + length].split_at_mut(HOST.len());
            if *host != *HOST.as_bytes() {
                continue;
            }
            let gates = self.gates.lock().expect("no panic");
            if let Some(gate) = gates.iter().find(|gate| u32::from(gate.node).to_be_bytes() == *port) {
                port.copy_from_slice(&u32::from(gate.port).to_be_bytes());
            }
        }
    }
}

/// An address where connections are neither accepted nor refused: what is sent there is not answered at all. For as long
/// as this lives.
pub(crate) struct Nowhere {
    socket: Socket,
    _filling: Vec<StdStream>,
}

impl Nowhere {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
        socket.bind(&any.into()).expect("a free port");
        socket.listen(0).expect("a listener");
        let address = socket.local_addr().expect("bound").as_socket().expect("IPv4");
        // Nobody accepts; when the queue is full the system answers no more.
        let full = |_: &usize| StdStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let filling: Vec<_> = (0..64).map_while(|nth| full(&nth)).collect();
        assert!(filling.len() < 64, "the queue has an end");
        Self { socket, _filling: filling }
    }

    pub(crate) fn address(&self) -> String {
        self.socket.local_addr().expect("bound").as_socket().expect("IPv4").to_string()
    }
}
