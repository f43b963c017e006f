//! A link between two nodes that counts what crosses it and that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A forwarder in front of one node's port. What it counts is independent of what the daemons say.
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    cut: AtomicBool,
    bytes: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// Listens on a port of its own and forwards to this one.
    ///
    /// # Panics
    /// If there is no port to be had.
    pub fn to(port: u16) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the link");
        let address = listener.local_addr().expect("a bound port has an address");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if accepting.cut.load(Ordering::SeqCst) {
                    continue;
                }
                if let Ok(far) = TcpStream::connect(("127.0.0.1", port)) {
                    accepting.join(&near, &far);
                }
            }
        });
        Link { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that have crossed it, both ways.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::SeqCst)
    }

    /// Breaks what is open, and lets nothing through until [`Self::mend`].
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        for stream in self.shared.open().drain(..) {
            // It may have broken before.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open
            .lock()
            .expect("no thread fails while it holds the list")
    }

    fn join(self: &Arc<Shared>, near: &TcpStream, far: &TcpStream) {
        let again = |stream: &TcpStream| stream.try_clone().expect("a socket can be named twice");
        for stream in [near, far] {
            stream.set_nodelay(true).expect("a TCP socket");
            self.open().push(again(stream));
        }
        for (from, to) in [(again(near), again(far)), (again(far), again(near))] {
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.forward(from, to));
        }
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut piece = vec![0; 256 << 10];
        while let Ok(length) = from.read(&mut piece) {
            if length == 0 || to.write_all(&piece[..length]).is_err() {
                break;
            }
            self.bytes.fetch_add(length as u64, Ordering::SeqCst);
        }
        for stream in [from, to] {
            // The other direction may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
