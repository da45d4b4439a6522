//! The nodes: each listens on its port, and owns the connections that it accepts.
//!
//! All of it runs on one thread of its own, so that a broker can be started with or without a tokio runtime around it,
//! and answers even while the threads of a test are blocked.

use std::{
    fmt, io, net,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore, futures::Notified, mpsc, watch},
    task::{JoinError, JoinSet},
    time::sleep,
};

use super::{HOST, NodeId, connection, state::State};

/// Commands that may wait for a node. Their senders wait for each to be done, so there is one a thread.
const COMMANDS: usize = 64;
/// The pause after a connection could not be accepted, which is when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the handles and the connections share.
pub(super) struct Shared {
    /// Held for one request or one call, never across an await.
    state: Mutex<State>,
    changed: Notify,
    progressed: Notify,
    paused: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        let (changed, progressed) = (Notify::new(), Notify::new());
        Self { state: Mutex::new(state), changed, progressed, paused: watch::Sender::new(false) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when logs, topics or leaders have changed.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Ends when a request has come or something has changed.
    pub(super) fn progress(&self) -> Notified<'_> {
        self.progressed.notified()
    }

    /// Has fetches that wait look again.
    pub(super) fn notify(&self) {
        self.changed.notify_waiters();
        self.progressed();
    }

    /// Has tests that wait look again.
    pub(super) fn progressed(&self) {
        self.progressed.notify_waiters();
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// Ends as soon as the broker is not paused.
    pub(super) async fn resumed(&self) {
        // It fails only when there is no sender, and we are one.
        let _ = self.paused.subscribe().wait_for(|paused| !paused).await;
    }
}

/// Without all that is kept.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// What a node is told; it answers when it is done.
#[derive(Debug)]
enum Command {
    /// Stop to listen, and close all connections.
    Down(SyncSender<()>),
    /// Listen again.
    Up(net::TcpListener, SyncSender<()>),
    /// Close all connections.
    Disconnect(SyncSender<()>),
}

/// The thread that all nodes run on. Ends it when dropped.
#[derive(Debug)]
pub(super) struct Server {
    nodes: Vec<(NodeId, u16, mpsc::Sender<Command>)>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Listens on a port of this machine only.
pub(super) fn listen(port: u16) -> io::Result<net::TcpListener> {
    let listener = net::TcpListener::bind((HOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Server {
    pub(super) fn start(
        shared: &Arc<Shared>,
        listeners: Vec<(NodeId, u16, net::TcpListener)>,
        max_connections: usize,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let room = Arc::new(Semaphore::new(max_connections));
        let (mut nodes, mut tasks) = (Vec::new(), JoinSet::new());
        for (id, port, listener) in listeners {
            let (sender, commands) = mpsc::channel(COMMANDS);
            nodes.push((id, port, sender));
            let listener = {
                let _context = runtime.enter();
                TcpListener::from_std(listener)?
            };
            let node = Node { id, shared: Arc::clone(shared), room: Arc::clone(&room), connections: JoinSet::new() };
            tasks.spawn_on(node.run(listener, commands), runtime.handle());
        }
        let run = move || {
            runtime.block_on(async {
                while let Some(ended) = tasks.join_next().await {
                    report(ended);
                }
            });
        };
        let thread = thread::Builder::new().name("longshore-broker".to_owned()).spawn(run)?;
        Ok(Self { nodes, thread: Some(thread) })
    }

    pub(super) fn down(&self, node: NodeId) {
        self.command(node, Command::Down);
    }

    pub(super) fn up(&self, node: NodeId) -> io::Result<()> {
        if let Some((_, port, _)) = self.nodes.iter().find(|(id, ..)| *id == node) {
            let listener = listen(*port)?;
            self.command(node, |done| Command::Up(listener, done));
        }
        Ok(())
    }

    pub(super) fn disconnect(&self, node: NodeId) {
        self.command(node, Command::Disconnect);
    }

    /// Waits until the node has done it. It does so at once, whatever its connections do.
    fn command(&self, node: NodeId, command: impl FnOnce(SyncSender<()>) -> Command) {
        let Some((.., sender)) = self.nodes.iter().find(|(id, ..)| *id == node) else { return };
        let (done, is_done) = sync_channel(1);
        if sender.try_send(command(done)).is_ok() {
            // An error says that the node has ended, and then there is nothing to wait for.
            let _ = is_done.recv();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.nodes.clear();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the broker's thread panicked");
        }
    }
}

/// One node, with all that it has accepted.
struct Node {
    id: NodeId,
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    connections: JoinSet<()>,
}

impl Node {
    /// Runs until nobody can send commands any more.
    async fn run(mut self, listener: TcpListener, mut commands: mpsc::Receiver<Command>) {
        let mut listener = Some(listener);
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None => return,
                    Some(command) => self.obey(command, &mut listener).await,
                },
                Some(ended) = self.connections.join_next() => report(ended),
                accepted = accept(listener.as_ref()) => match accepted {
                    Ok(stream) => self.accepted(stream),
                    Err(error) => {
                        tracing::warn!(node = %self.id, "cannot accept a connection: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    async fn obey(&mut self, command: Command, listener: &mut Option<TcpListener>) {
        let done = match command {
            Command::Down(done) => {
                *listener = None;
                self.connections.shutdown().await;
                done
            }
            Command::Disconnect(done) => {
                self.connections.shutdown().await;
                done
            }
            Command::Up(socket, done) => {
                match TcpListener::from_std(socket) {
                    Ok(socket) => *listener = Some(socket),
                    Err(error) => tracing::error!(node = %self.id, "cannot listen: {error}"),
                }
                done
            }
        };
        // Whoever asked may have gone.
        let _ = done.send(());
    }

    fn accepted(&mut self, stream: tokio::net::TcpStream) {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::warn!(node = %self.id, "refused a connection: there are as many as there may be");
            return;
        };
        let connection = connection::run(Arc::clone(&self.shared), self.id, stream);
        self.connections.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("the broker has a bug: {error}");
    }
}
