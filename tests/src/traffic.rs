//! Traffic made by this process with sockets of a namespace: full control of every segment.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Attempt as _, Result};
use crate::host::Host;
use crate::netns::Netns;
use crate::wait;

/// Limit for one step of a conversation.
const LIMIT: Duration = Duration::from_secs(5);

/// "Any address" of a family.
#[must_use]
pub const fn any(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// A TCP connection from `host`, with limits on every step and every write in a segment of its own.
pub fn connect(host: &Host, to: SocketAddr) -> Result<TcpStream> {
    let what = || format!("connect to {to}");
    let stream = host.netns.enter(|| TcpStream::connect_timeout(&to, LIMIT))?.attempt(what)?;
    stream.set_nodelay(true).attempt(what)?;
    stream.set_read_timeout(Some(LIMIT)).attempt(what)?;
    stream.set_write_timeout(Some(LIMIT)).attempt(what)?;
    Ok(stream)
}

/// A UDP socket on `host` that sends to `to` only.
pub fn udp(host: &Host, to: SocketAddr) -> Result<UdpSocket> {
    let what = || format!("UDP socket to {to}");
    let from = SocketAddr::new(any(to.ip()), 0);
    let socket = host.netns.enter(|| UdpSocket::bind(from))?.attempt(what)?;
    socket.set_read_timeout(Some(LIMIT)).attempt(what)?;
    socket.connect(to).attempt(what)?;
    Ok(socket)
}

/// Sends a datagram and takes the answer, whose length it returns.
pub fn echoed(socket: &UdpSocket, datagram: &[u8]) -> io::Result<usize> {
    socket.send(datagram)?;
    receive(socket, &mut [0; 2048])
}

/// Receives a datagram; returns its length.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // A wait with a limit is not taken up again behind a signal (signal(7)).
        match socket.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// How often a service looks whether it should end.
const TURN: Duration = Duration::from_millis(5);

/// A thread that serves a socket until its guard is dropped.
#[derive(Debug)]
struct Service {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl Service {
    /// Runs `serve` again and again; it gives `true` when it served something.
    fn new(address: SocketAddr, mut serve: impl FnMut() -> bool + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU32::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&served));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if serve() {
                    count.fetch_add(1, Ordering::Relaxed);
                } else {
                    wait::pause(TURN);
                }
            }
        });
        Self { stop, served, thread: Some(thread), address }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ended = thread.join();
        }
    }
}

/// A TCP service; each connection is handed to a thread of its own.
#[derive(Debug)]
pub struct TcpService(Service);

impl TcpService {
    /// Listens on `port` of the address of `host` that has the family of `like`.
    pub fn start(
        host: &Host,
        like: IpAddr,
        port: u16,
        handle: impl Fn(TcpStream) + Copy + Send + 'static,
    ) -> Result<Self> {
        Self::start_at(&host.netns, SocketAddr::new(host.address(like), port), handle)
    }

    /// Listens on an address of a namespace.
    pub fn start_at(
        netns: &Netns,
        address: SocketAddr,
        handle: impl Fn(TcpStream) + Copy + Send + 'static,
    ) -> Result<Self> {
        let what = || format!("listen on {address}");
        let listener = netns.enter(|| TcpListener::bind(address))?.attempt(what)?;
        listener.set_nonblocking(true).attempt(what)?;
        Ok(Self(Service::new(address, move || {
            let Ok((stream, _)) = listener.accept() else { return false };
            let ready = stream.set_nonblocking(false).is_ok()
                && stream.set_nodelay(true).is_ok()
                && stream.set_read_timeout(Some(LIMIT * 6)).is_ok();
            if ready {
                std::thread::spawn(move || handle(stream));
            }
            ready
        })))
    }

    /// A service that sends back what it gets.
    pub fn echo(host: &Host, like: IpAddr, port: u16) -> Result<Self> {
        Self::echo_at(&host.netns, SocketAddr::new(host.address(like), port))
    }

    /// One that sends back what it gets, on an address of a namespace.
    pub fn echo_at(netns: &Netns, address: SocketAddr) -> Result<Self> {
        Self::start_at(netns, address, |mut stream| {
            let mut buffer = vec![0; 65536];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Connections so far.
    #[must_use]
    pub fn accepted(&self) -> u32 {
        self.0.served.load(Ordering::Relaxed)
    }
}

/// A UDP service that answers each datagram with what `answer` makes of it, or not at all.
#[derive(Debug)]
pub struct UdpService {
    service: Service,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl UdpService {
    /// Receives on `port` of the address of `host` that has the family of `like`.
    pub fn start(
        host: &Host,
        like: IpAddr,
        port: u16,
        answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Self> {
        let address = SocketAddr::new(host.address(like), port);
        let what = || format!("receive on {address}");
        let socket = host.netns.enter(|| UdpSocket::bind(address))?.attempt(what)?;
        socket.set_nonblocking(true).attempt(what)?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&seen);
        let mut buffer = vec![0; 65536];
        let service = Service::new(address, move || {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { return false };
            let datagram = &buffer[..length];
            if let Some(answer) = answer(datagram) {
                // A lost answer is for the test to notice.
                let _lost = socket.send_to(&answer, from);
            }
            if let Ok(mut seen) = keep.lock() {
                seen.push(datagram.to_vec());
            }
            true
        });
        Ok(Self { service, seen })
    }

    /// A service that sends back what it gets.
    pub fn echo(host: &Host, like: IpAddr, port: u16) -> Result<Self> {
        Self::start(host, like, port, |datagram| Some(datagram.to_vec()))
    }

    /// Where it receives.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.service.address
    }

    /// Datagrams so far, in the order in which they came.
    #[must_use]
    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().map(|seen| seen.clone()).unwrap_or_default()
    }

    /// Number of datagrams so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.service.served.load(Ordering::Relaxed)
    }
}

/// Sends `bytes` in pieces of `size` and gives what came back, as many bytes as were sent.
pub fn round_trip(stream: &mut TcpStream, bytes: &[u8], size: usize) -> Result<Vec<u8>> {
    let what = || "send and receive".to_owned();
    let mut out = stream.try_clone().attempt(what)?;
    let mut back = vec![0; bytes.len()];
    // At the same time: both ends may be unable to take more until somebody reads.
    let (sent, received) = std::thread::scope(|scope| {
        let send =
            scope.spawn(move || bytes.chunks(size).try_for_each(|piece| out.write_all(piece)));
        let received = stream.read_exact(&mut back);
        (send.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), received)
    });
    sent.attempt(what)?;
    received.attempt(what)?;
    Ok(back)
}
