//! Network namespaces of our own: a gateway in one, a phone behind a NAT in another.
//! Owns:  namespaces, veth pairs, addresses and the masquerade rule; all go away with their owner.
//! Gives: `Namespace::enter`, which runs a closure on a thread inside; `Home`, the NAT scene.
//! Never: touches the namespace that the program started in, except to make and end the others.
//! Holds: names are random, so that two runs never meet.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;

/// One `ip` or `nft` command; its words are the error when it fails.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), why.trim()))
}

#[derive(Debug)]
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    /// Needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN).
    pub fn new(purpose: &str) -> Result<Self, String> {
        // SAFETY: a plain query without arguments.
        if unsafe { libc::geteuid() } != 0 {
            return Err("network namespaces need root: run this test as root".to_owned());
        }
        let name = format!("ringgate-{purpose}-{:06x}", rand::random::<u32>() >> 8);
        run("ip", &["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// `ip` inside.
    pub fn ip(&self, arguments: &[&str]) -> Result<(), String> {
        run("ip", &[&["-n", &self.name], arguments].concat())
    }

    /// Any command inside.
    pub fn exec(&self, arguments: &[&str]) -> Result<(), String> {
        run("ip", &[&["netns", "exec", &self.name], arguments].concat())
    }

    /// Joins this namespace and `other` by a veth pair with one address at each end (/24).
    pub fn join(
        &self,
        other: &Self,
        interfaces: [&str; 2],
        addresses: [Ipv4Addr; 2],
    ) -> Result<(), String> {
        let [here, there] = interfaces;
        self.ip(&[
            "link",
            "add",
            here,
            "type",
            "veth",
            "peer",
            "name",
            there,
            "netns",
            &other.name,
        ])?;
        for ((space, name), ip) in [(self, here), (other, there)].into_iter().zip(addresses) {
            space.ip(&["addr", "add", &format!("{ip}/24"), "dev", name])?;
            space.ip(&["link", "set", name, "up"])?;
        }
        Ok(())
    }

    /// Runs `work` on a thread of its own inside this namespace; sockets made there stay there.
    pub fn enter<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<T>, String> {
        enter(&self.name, work)
    }

    /// The same, waiting for the result.
    pub fn within<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        within(&self.name, work)
    }
}

/// `Namespace::within` for one that is known by name only.
pub fn within<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    enter(name, work)?.join().map_err(|_| format!("a thread inside {name} panicked"))
}

fn enter<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>, String> {
    let path = format!("/run/netns/{name}");
    let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
    let (told, entered) = std::sync::mpsc::channel();
    let handle = thread::spawn(move || {
        // SAFETY: a plain system call on an open descriptor; it changes this thread alone.
        let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        let outcome = if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
        let go_on = outcome.is_ok();
        // The starter waits for this word.
        let _ = told.send(outcome);
        assert!(go_on, "the starter was told why");
        work()
    });
    match entered.recv() {
        Ok(Ok(())) => Ok(handle),
        Ok(Err(error)) => Err(format!("entering {name}: {error}")),
        Err(_) => Err(format!("entering {name}: the thread died")),
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A namespace that cannot be removed is empty and harmless; the next run has another name.
        let _ = run("ip", &["netns", "del", &self.name]);
    }
}

/// Three namespaces: the public net with the gateway, a router that masquerades, a home behind it.
#[derive(Debug)]
pub struct Home {
    pub public: Namespace,
    pub router: Namespace,
    pub home: Namespace,
}

impl Home {
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    /// What the gateway sees of the phone.
    pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    /// What the phone knows of itself.
    pub const PHONE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 10);

    pub fn build() -> Result<Self, String> {
        let [public, router, home] = ["public", "router", "home"].map(Namespace::new);
        let nat = Self { public: public?, router: router?, home: home? };
        nat.router.join(&nat.public, ["wan", "net"], [Self::ROUTER, Self::GATEWAY])?;
        let inside = Ipv4Addr::new(192, 168, 77, 1);
        nat.router.join(&nat.home, ["lan", "eth"], [inside, Self::PHONE])?;
        nat.home.ip(&["route", "add", "default", "via", &inside.to_string()])?;
        nat.router.exec(&["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
        // Random ports: a mapping that happened to keep the port would hide a mistake.
        nat.router.exec(&[
            "nft",
            "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; \
             add rule ip nat out oifname \"wan\" masquerade fully-random",
        ])?;
        Ok(nat)
    }
}
