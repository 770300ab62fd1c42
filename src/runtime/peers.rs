//! The processes of a cluster find each other, before timely gets their connections.
//!
//! Process `p` listens at its address and connects to those of the processes before it. The one that connects says hello,
//! the other one answers with its own: number, size of the cluster, and the [`Terms`] of the job. If anything differs, the one
//! that came ends with a line that names it; the one that listened says so too and goes on waiting, so that whoever was
//! wrong can be started again.
//!
//! The port is open to everyone, so nothing that comes in is trusted: what does not begin with [`MAGIC`] is closed without an
//! answer, a hello has a limit in bytes and in time, connections that say nothing have a limit in number, and none of them
//! keeps a peer out. A peer that does not come within the time-out is an error, and so is a stop.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde::{Deserialize, Serialize};
use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::{CommsGuard, initialize_networking_from_sockets};
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};

use crate::metrics::Metrics;
use crate::source::sealed::Terms;

/// What a hello begins with: not HTTP, not TLS, not timely's own.
pub const MAGIC: [u8; 8] = *b"\x00dwpeer\x01";
/// Bytes of a hello.
const HELLO_BYTES_MAX: usize = 64 << 10;
/// How long a connection may take for its hello.
const HELLO_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections that have not said hello yet; further ones are closed at once.
const STRANGERS_MAX: usize = 256;
/// How long one attempt to connect may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long until the next attempt, and between two looks at what has come in.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is said who is missing.
const SAY: Duration = Duration::from_secs(5);

/// Which process this is, and how patient it is.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its number.
    pub process: usize,
    /// Worker threads of every process.
    pub workers: usize,
    /// The address of every process.
    pub addresses: Vec<String>,
    /// How long to wait for the others.
    pub timeout: Duration,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Someone did not come, or does not fit.
    #[error("{0}")]
    Failed(String),
    /// It was stopped while it waited.
    #[error("{0}")]
    Stopped(String),
}

/// What processes say of themselves.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    process: usize,
    processes: usize,
    terms: Terms,
}

/// What is known of the others.
enum News {
    /// A peer is connected.
    Peer(usize, TcpStream),
    /// A peer, or what answers in its place, was refused; why.
    Refused(usize, String),
    /// This process does not fit the cluster; why.
    Unfit(String),
}

/// Connects all processes. Blocks, at most for the time-out.
pub fn connect(
    cluster: &Cluster,
    terms: &Terms,
    stop: &AtomicBool,
    metrics: &Metrics,
) -> Result<(Vec<AllocatorBuilder>, CommsGuard), PeerError> {
    let Cluster { process, workers, addresses, .. } = cluster;
    let mut terms = terms.clone();
    terms.add("--workers", workers);
    let hello = Arc::new(Hello { process: *process, processes: addresses.len(), terms });
    let own = &addresses[*process];
    let listener = TcpListener::bind(own)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| PeerError::Failed(format!("--host {own}: process {process} cannot listen there: {error}")))?;
    let (told, news) = unbounded();
    let done = Arc::new(AtomicBool::new(false));
    let listening = Listening { listener, hello: hello.clone(), told: told.clone(), done: done.clone() };
    let spawned = thread::Builder::new().name("peers".into()).spawn(move || listening.run());
    spawned.map_err(|error| PeerError::Failed(format!("cannot start a thread: {error}")))?;
    for (peer, address) in addresses.iter().enumerate().take(*process) {
        let (address, hello, told, done) = (address.clone(), hello.clone(), told.clone(), done.clone());
        let spawned = thread::Builder::new().name(format!("peer-{peer}")).spawn(move || {
            reach(peer, &address, &hello, &told, &done);
        });
        spawned.map_err(|error| PeerError::Failed(format!("cannot start a thread: {error}")))?;
    }
    let sockets = gather(cluster, &news, stop, metrics);
    done.store(true, Ordering::Relaxed);
    let hooks = Hooks::default();
    let threads = ProcessBuilder::new_typed_vector(*workers, hooks.refill.clone(), hooks.spill.clone());
    let (builders, guard) = initialize_networking_from_sockets(threads, sockets?, *process, *workers, hooks)
        .map_err(|error| PeerError::Failed(format!("cluster: cannot start its threads: {error}")))?;
    Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), guard))
}

/// Waits until every peer is connected.
fn gather(
    cluster: &Cluster,
    news: &Receiver<News>,
    stop: &AtomicBool,
    metrics: &Metrics,
) -> Result<Vec<Option<TcpStream>>, PeerError> {
    let Cluster { process, addresses, timeout, .. } = cluster;
    let mut sockets: Vec<Option<TcpStream>> = addresses.iter().map(|_| None).collect();
    let mut refused: Vec<Option<String>> = addresses.iter().map(|_| None).collect();
    let (began, mut said) = (Instant::now(), Instant::now());
    loop {
        let missing: Vec<usize> = (0..sockets.len()).filter(|&p| p != *process && sockets[p].is_none()).collect();
        if missing.is_empty() {
            return Ok(sockets);
        }
        let who = |peer: &usize| format!("process {peer} at {}", addresses[*peer]);
        let names = missing.iter().map(who).collect::<Vec<_>>().join(", ");
        metrics.vitals.starting(format!("waited for {names}"));
        if stop.load(Ordering::Relaxed) {
            return Err(PeerError::Stopped(format!("stopped while it waited for {names}")));
        }
        if began.elapsed() >= *timeout {
            let why = missing.iter().filter_map(|&peer| refused[peer].clone()).next();
            let why = why.map_or(String::new(), |why| format!(" ({why})"));
            let seconds = timeout.as_secs_f64();
            return Err(PeerError::Failed(format!(
                "cluster: {names} did not come within {seconds} s{why}; start it, check --host, or raise --peer-timeout"
            )));
        }
        if said.elapsed() >= SAY {
            said = Instant::now();
            tracing::warn!("waits for {names}");
        }
        match news.recv_timeout(LOOK) {
            Ok(News::Peer(peer, socket)) => sockets[peer] = Some(socket),
            Ok(News::Refused(peer, why)) if refused[peer].as_ref() != Some(&why) => {
                tracing::warn!("process {peer} is refused: {why}");
                refused[peer] = Some(why);
            }
            Ok(News::Refused(..)) | Err(_) => {}
            Ok(News::Unfit(why)) => return Err(PeerError::Failed(format!("cluster: {why}"))),
        }
    }
}

/// The listening side.
struct Listening {
    listener: TcpListener,
    hello: Arc<Hello>,
    told: Sender<News>,
    done: Arc<AtomicBool>,
}

impl Listening {
    fn run(self) {
        let strangers = Arc::new(AtomicUsize::new(0));
        while !self.done.load(Ordering::Relaxed) {
            let Ok((socket, _)) = self.listener.accept() else {
                thread::sleep(LOOK);
                continue;
            };
            if strangers.load(Ordering::Relaxed) >= STRANGERS_MAX {
                continue;
            }
            strangers.fetch_add(1, Ordering::Relaxed);
            let (hello, told, counted) = (self.hello.clone(), self.told.clone(), strangers.clone());
            let greet = move || {
                if let Err(error) = welcome(socket, &hello, &told) {
                    tracing::debug!(%error, "a stranger on the cluster's port");
                }
                counted.fetch_sub(1, Ordering::Relaxed);
            };
            if thread::Builder::new().name("stranger".into()).spawn(greet).is_err() {
                strangers.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// Answers whoever has connected. An error is a stranger.
fn welcome(mut socket: TcpStream, own: &Hello, told: &Sender<News>) -> io::Result<()> {
    let theirs = read_hello(&mut socket)?;
    let peer = theirs.process;
    if theirs.processes == own.processes && !(own.process + 1..own.processes).contains(&peer) {
        return Err(io::Error::other(format!("process {peer} does not connect to process {}", own.process)));
    }
    write_hello(&mut socket, own)?;
    match difference(own, &theirs) {
        // Nobody receives it if the cluster has been formed, or given up, meanwhile.
        None => drop(told.send(News::Peer(peer, plain(socket)?))),
        Some(why) if peer < own.processes => drop(told.send(News::Refused(peer, why))),
        Some(why) => tracing::warn!("process {peer} is refused: {why}"),
    }
    Ok(())
}

/// Connects to a peer that listens, as often as it takes.
fn reach(peer: usize, address: &str, own: &Hello, told: &Sender<News>, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        match greet(address, own) {
            Ok((socket, theirs)) => {
                let news = match difference(own, &theirs) {
                    Some(why) => News::Unfit(format!("process {peer} at {address} refuses this one: {why}")),
                    None if theirs.process != peer => News::Unfit(format!(
                        "process {} listens at {address}, where process {peer} should; check --host and --process",
                        theirs.process
                    )),
                    None => News::Peer(peer, socket),
                };
                // Nobody receives it if the waiting is over.
                drop(told.send(news));
                return;
            }
            // It is not there yet.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => {
                let why = format!("what answers at {address} is no process of this cluster: {error}");
                drop(told.send(News::Refused(peer, why)));
            }
        }
        thread::sleep(LOOK * 4);
    }
}

fn greet(address: &str, own: &Hello) -> io::Result<(TcpStream, Hello)> {
    let resolved = address.to_socket_addrs()?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolved {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(mut socket) => {
                write_hello(&mut socket, own)?;
                let theirs = read_hello(&mut socket)?;
                return Ok((plain(socket)?, theirs));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What two processes differ in, as the one that says it sees it.
fn difference(own: &Hello, theirs: &Hello) -> Option<String> {
    if own.processes != theirs.processes {
        let (here, there) = (own.processes, theirs.processes);
        return Some(format!(
            "--processes is {here} for process {}, {there} for process {}",
            own.process, theirs.process
        ));
    }
    let (name, here, there) = own.terms.difference(&theirs.terms)?;
    let (own, theirs) = (own.process, theirs.process);
    Some(format!("{name} is `{here}` for process {own}, `{there}` for process {theirs}; start both alike"))
}

/// A socket as timely wants it.
fn plain(socket: TcpStream) -> io::Result<TcpStream> {
    socket.set_read_timeout(None)?;
    socket.set_write_timeout(None)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn write_hello(socket: &mut TcpStream, hello: &Hello) -> io::Result<()> {
    let text = serde_json::to_vec(hello)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    socket.set_write_timeout(Some(HELLO_TIME_MAX))?;
    socket.write_all(&[&MAGIC[..], &length.to_be_bytes(), &text].concat())
}

/// Reads a hello, within the limits.
fn read_hello(socket: &mut TcpStream) -> io::Result<Hello> {
    let until = Instant::now() + HELLO_TIME_MAX;
    socket.set_nonblocking(false)?;
    let mut magic = [0; MAGIC.len()];
    read_until(socket, &mut magic, until)?;
    if magic != MAGIC {
        return Err(io::Error::other("it does not begin like a peer"));
    }
    let mut length = [0; 4];
    read_until(socket, &mut length, until)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > HELLO_BYTES_MAX {
        return Err(io::Error::other("its hello is too long"));
    }
    let mut text = vec![0; length];
    read_until(socket, &mut text, until)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Fills a buffer, however slowly it comes, until then.
fn read_until(socket: &mut TcpStream, mut buffer: &mut [u8], until: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => buffer = &mut buffer[read..],
        }
    }
    Ok(())
}
