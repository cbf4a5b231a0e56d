//! Network namespaces without names: one lives as long as somebody is inside or holds it, so nothing is ever left behind.
//!
//! A look from outside: `nsenter --net --target PID`, with the process id of any program inside.

use std::{
    fs::File,
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::sched::{CloneFlags, setns, unshare};

/// A network of its own, empty but for a loopback interface that is down. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<File>);

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// Without root's rights over the network (CAP_SYS_ADMIN), or if the kernel has no network namespaces.
    pub fn new() -> io::Result<Self> {
        // A thread of its own, since a namespace is a property of the thread.
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        Ok(Self(Arc::new(joined(made)??)))
    }

    /// Does something inside: sockets opened and programs started there stay there.
    ///
    /// # Errors
    /// If the kernel doesn't let us in. What `work` itself returns is passed on as it is.
    pub fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let namespace = Arc::clone(&self.0);
        let inside = thread::Builder::new().spawn(move || -> io::Result<T> {
            setns(&*namespace, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })?;
        joined(inside)?
    }
}

fn joined<T>(thread: JoinHandle<T>) -> io::Result<T> {
    thread.join().map_err(|_| io::Error::other("the thread in the namespace panicked"))
}
