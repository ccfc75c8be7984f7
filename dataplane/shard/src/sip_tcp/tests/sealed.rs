//! The flow table over TLS, against rustls peers that block in threads of their own.
//! Owns:  peers of both sides.
//! Gives: proof of order, bounds and names, and that nothing goes out in the clear.
//! Never: sleeps; the peers wait for their sockets, with deadlines.
//! Holds: every peer's thread is joined.

use std::thread::{self, JoinHandle};

use rustls::{ClientConnection, ServerConnection, StreamOwned};
use shared::settings::TlsFiles;
use shared::snapshot::Trunk;

use super::*;
use crate::keys::tests as made;

pub(super) type Peer = StreamOwned<ClientConnection, TcpStream>;

fn keys(test: &str, name: &str) -> Arc<Keys> {
    let files: TlsFiles = made::files(test, name);
    let keys = Keys::read(&files).expect("keys");
    made::remove(&files);
    Arc::new(keys)
}

impl Bench {
    /// A phone that believes the bench's certificate does `work` over its own connection.
    pub(super) fn phone<T: Send + 'static>(
        &self,
        keys: &Arc<Keys>,
        work: impl FnOnce(Peer) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let (at, client) = (self.at_tls, Arc::clone(&keys.client));
        thread::spawn(move || {
            let stream = TcpStream::connect(at).expect("connected");
            stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
            let name = ServerName::try_from("pbx.test").expect("a name");
            let connection = ClientConnection::new(client, name).expect("a client");
            work(StreamOwned::new(connection, stream))
        })
    }

    pub(super) fn join<T>(&mut self, what: &str, peer: JoinHandle<T>) -> T {
        self.until(what, |_| peer.is_finished());
        peer.join().expect("the peer is content")
    }

    pub(super) fn way(&self, peer: SocketAddr) -> Destination {
        Destination { transport: Transport::Tls, local: self.at_tls, peer, flow: None, shows: None }
    }
}

/// A server with these keys; gives its address and what it read until the stream ended.
fn server(keys: &Arc<Keys>, length: usize) -> (SocketAddr, JoinHandle<Result<String, String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let config = Arc::clone(&keys.server);
    let work = move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        let connection = ServerConnection::new(config).expect("a server");
        let mut stream = StreamOwned::new(connection, stream);
        let mut read = vec![0; length];
        let outcome = stream.read_exact(&mut read);
        outcome.map_err(|error| error.to_string())?;
        stream.write_all(b".").expect("sent"); // whoever hears nothing takes its messages for lost
        Ok(String::from_utf8(read).expect("text"))
    };
    (at, thread::spawn(work))
}

#[test]
fn messages_come_and_go_over_the_flow_and_last_words_are_heard() {
    let keys = keys("both-ways", "pbx.test");
    let mut bench = Bench::with_keys(Some(Arc::clone(&keys)));
    let phone = bench.phone(&keys, |mut phone| {
        phone.write_all(b"hello").expect("sent");
        let mut answer = [0; 6];
        phone.read_exact(&mut answer).expect("an answer");
        phone.write_all(b"bye").expect("sent");
        phone.conn.send_close_notify();
        phone.flush().expect("sent");
        answer
    });
    bench.until("bytes came", |bench| !bench.received.is_empty());
    let (seat, bytes) = bench.received[0].clone();
    assert_eq!(bytes, b"hello");
    let source = bench.tcp.source(seat).expect("an open flow");
    assert_eq!((source.local, source.transport), (bench.at_tls, Transport::Tls));
    bench.send(source.back(), b"one".to_vec());
    bench.send(source.back(), b"two".to_vec());
    assert_eq!(&bench.join("it was answered", phone), b"onetwo");
    bench.until("it closed", |bench| bench.closed.len() == 1);
    assert_eq!(bench.received[1].1, b"bye");
    assert_eq!(bench.counters.of(Counter::TlsHandshakes), 1);
    assert_eq!(bench.counters.of(Counter::TlsHandshakesFailed), 0);
    assert_eq!((bench.counters.of(Counter::FlowsCut), bench.failed.len()), (0, 0));
}

#[test]
fn a_flow_that_shall_end_says_goodbye_after_what_is_queued() {
    let keys = keys("said-goodbye", "pbx.test");
    let mut bench = Bench::with_keys(Some(Arc::clone(&keys)));
    let phone = bench.phone(&keys, |mut phone| {
        phone.write_all(b"hello").expect("sent");
        let mut read = String::new();
        // Without a goodbye this is an error: somebody may have cut the end off.
        phone.read_to_string(&mut read).expect("a clean end");
        read
    });
    bench.until("bytes came", |bench| !bench.received.is_empty());
    let source = bench.tcp.source(bench.received[0].0).expect("an open flow");
    bench.send(source.back(), b"last words".to_vec());
    bench.tcp.finish(&mut bench.ring, bench.now, source.flow.expect("a flow"));
    bench.send(source.back(), b"too late".to_vec());
    assert_eq!(bench.join("the end was heard", phone), "last words");
    bench.until("it closed", |bench| bench.closed.len() == 1);
    assert_eq!(bench.failed, [source.back()]);
}

/// The answer to what was read before the break must not reach a TLS that takes nothing any more.
#[test]
fn what_is_answered_after_tls_broke_fails_and_harms_nobody() {
    let keys = keys("broke", "pbx.test");
    let mut bench = Bench::with_keys(Some(Arc::clone(&keys)));
    let phone = bench.phone(&keys, |mut phone| {
        phone.flush().expect("the handshake is over");
        phone.conn.writer().write_all(PING).expect("memory");
        let mut burst = Vec::new();
        while phone.conn.wants_write() {
            phone.conn.write_tls(&mut burst).expect("memory");
        }
        burst.extend([23, 3, 3, 0x13, 0x88]); // a record of 5000 bytes, none of them right
        burst.extend([0; 5_000]);
        phone.sock.write_all(&burst).expect("sent");
        ended(&mut phone.sock)
    });
    assert!(bench.join("the end was seen", phone));
    bench.until("it closed", |bench| bench.closed.len() == 1);
    let (seat, bytes) = bench.received[0].clone();
    assert_eq!(bytes, PING);
    assert_eq!(bench.tcp.source(seat), None);
    assert!(bench.counters.of(Counter::FlowsCut) >= 1);
}

#[test]
fn more_handshakes_at_once_than_a_shard_has_time_for_are_refused() {
    let keys = keys("burst", "pbx.test");
    let mut bench = Bench::with_keys(Some(Arc::clone(&keys)));
    let shake = |mut phone: Peer| phone.flush().is_ok();
    for number in 0..32 {
        let phone = bench.phone(&keys, shake);
        assert!(bench.join("it was heard", phone), "{number}");
    }
    for number in 32..36 {
        let phone = bench.phone(&keys, shake);
        assert!(!bench.join("it was refused", phone), "{number}");
    }
    assert_eq!(bench.counters.of(Counter::FlowsRefused), 4);
    bench.now = bench.now + Duration::from_millis(3);
    let phone = bench.phone(&keys, shake);
    assert!(bench.join("a moment later there is time again", phone));
}

#[test]
fn a_handshake_that_stalls_is_cut_after_five_seconds() {
    let mut bench = Bench::with_keys(Some(keys("stalls", "pbx.test")));
    let mut silent = TcpStream::connect(bench.at_tls).expect("connected");
    let mut drip = TcpStream::connect(bench.at_tls).expect("connected");
    drip.write_all(&[22, 3, 1, 1, 0]).expect("sent"); // the head of a record that never comes
    bench.until("both are taken", |bench| bench.tcp.open_count() == 2);
    bench.advance(4);
    bench.turn();
    assert_eq!(bench.closed.len(), 0);
    bench.advance(1);
    bench.until("both are cut", |bench| bench.closed.len() == 2);
    assert!(ended(&mut silent) && ended(&mut drip));
    assert_eq!(bench.counters.of(Counter::TlsHandshakesFailed), 2);
    assert_eq!(bench.counters.of(Counter::TlsFailedTimedOut), 2);
    assert_eq!(bench.counters.of(Counter::FlowsCut), 2);
}

#[test]
fn handshakes_under_way_count_against_the_limit_of_their_source() {
    let mut bench = Bench::with_keys(Some(keys("half-open", "pbx.test")));
    let connect = |at| TcpStream::connect(at).expect("the kernel takes it");
    let _held: Vec<_> = (0..limits::FLOWS_PER_SOURCE_MAX).map(|_| connect(bench.at_tls)).collect();
    let most = limits::FLOWS_PER_SOURCE_MAX;
    bench.until("all are taken", |bench| bench.tcp.open_count() == most);
    let mut refused = connect(bench.at_tls);
    bench.until("it was refused", |bench| bench.counters.of(Counter::FlowsRefused) == 1);
    assert!(ended(&mut refused));
}

#[test]
fn who_does_not_speak_tls_hears_an_alert_and_no_message() {
    let mut bench = Bench::with_keys(Some(keys("plain", "pbx.test")));
    let mut phone = TcpStream::connect(bench.at_tls).expect("connected");
    phone.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    phone.write_all(b"OPTIONS sip:a@127.0.0.1 SIP/2.0\r\n\r\n").expect("sent");
    bench.until("it closed", |bench| bench.closed.len() == 1);
    let mut heard = [0; 7];
    phone.read_exact(&mut heard).expect("an alert");
    assert_eq!((heard[0], heard[5]), (21, 2), "a fatal alert");
    assert_eq!(bench.received, []);
    assert_eq!(bench.counters.of(Counter::TlsHandshakesFailed), 1);
    assert_eq!(bench.counters.of(Counter::TlsFailedNotTls), 1);
    let own = phone.local_addr().expect("bound");
    let [failure] = &bench.unshaken[..] else { panic!("{:?}", bench.unshaken) };
    assert_eq!((failure.with.peer, failure.is_ours, failure.why), (own, false, "not_tls"));
}

#[test]
fn a_phone_that_does_not_believe_our_certificate_is_told_apart_from_one_that_hangs_up() {
    let mut bench = Bench::with_keys(Some(keys("unbelieved", "pbx.test")));
    let phone =
        bench.phone(&keys("stranger", "pbx.test"), |mut peer| peer.write_all(b"x").is_err());
    assert!(bench.join("it refused", phone));
    bench.until("it closed", |bench| bench.closed.len() == 1);
    let whys = |bench: &Bench| bench.unshaken.iter().map(|one| one.why).collect::<Vec<_>>();
    assert_eq!(whys(&bench), ["certificate"]);
    // The head of a handshake, then nothing.
    let mut phone = TcpStream::connect(bench.at_tls).expect("connected");
    phone.write_all(&[22, 3, 1, 1, 0]).expect("sent");
    bench.until("it is taken", |bench| bench.tcp.hellos_of.values().sum::<u32>() == 2);
    drop(phone);
    bench.until("it closed", |bench| bench.closed.len() == 2);
    assert_eq!(whys(&bench), ["certificate", "closed"]);
    // Nothing at all: somebody looks whether the port is open.
    drop(TcpStream::connect(bench.at_tls).expect("connected"));
    bench.until("it closed", |bench| bench.closed.len() == 3);
    assert_eq!(bench.unshaken.len(), 2);
    assert_eq!(bench.counters.of(Counter::TlsHandshakesFailed), 2);
    assert_eq!(bench.counters.of(Counter::TlsFailedCertificate), 1);
    assert_eq!(bench.counters.of(Counter::TlsFailedClosed), 1);
}

#[test]
fn a_slow_reader_is_cut_over_tls_too() {
    let keys = keys("slow", "pbx.test");
    let mut bench = Bench::with_keys(Some(Arc::clone(&keys)));
    let phone = bench.phone(&keys, |mut phone| {
        phone.write_all(b"hello").expect("sent");
        phone // and reads nothing
    });
    bench.until("bytes came", |bench| !bench.received.is_empty());
    let to = bench.tcp.source(bench.received[0].0).expect("an open flow").back();
    let _held = bench.join("the phone is quiet", phone);
    let mut pushed = 0;
    while bench.closed.is_empty() {
        bench.send(to, vec![7; 32_768]);
        bench.turn();
        pushed += 32_768;
        assert!(pushed < 64 << 20, "64 MiB are no queue any more");
    }
    assert_eq!(bench.counters.of(Counter::FlowsCut), 1);
    assert!(!bench.failed.is_empty(), "what was not sent is told");
    bench.until("the ring let go", |bench| bench.tcp.free.len() == 1);
}

#[test]
fn a_connection_to_a_named_server_is_opened_once_and_reused() {
    let keys = keys("opened", "carrier.test");
    let mut bench = Bench::with_keys(Some(Arc::clone(&keys)));
    let (at, server) = server(&keys, 9);
    bench.tcp.expect_names(&[Trunk::plain("carrier", "carrier.test", at, Transport::Tls)]);
    let to = bench.way(at);
    bench.send(to, b"one".to_vec());
    bench.send(to, b"two".to_vec());
    bench.until("the handshake is over", |bench| bench.counters.of(Counter::TlsHandshakes) == 1);
    bench.send(to, b"six".to_vec());
    assert_eq!(bench.join("all was read", server), Ok("onetwosix".to_owned()));
    bench.until("it was answered", |bench| !bench.received.is_empty());
    assert_eq!(bench.failed, []);
}

#[test]
fn a_server_with_another_name_gets_no_message() {
    let keys = keys("another-name", "impostor.test");
    let mut bench = Bench::with_keys(Some(Arc::clone(&keys)));
    let (at, server) = server(&keys, 3);
    bench.tcp.expect_names(&[Trunk::plain("carrier", "carrier.test", at, Transport::Tls)]);
    let to = bench.way(at);
    bench.send(to, b"one".to_vec());
    bench.send(to, b"two".to_vec());
    let read = bench.join("the server heard why", server);
    assert!(read.is_err(), "{read:?}");
    bench.until("it closed", |bench| bench.closed.len() == 1);
    assert_eq!(bench.failed, [to, to]);
    assert_eq!(bench.counters.of(Counter::TlsHandshakesFailed), 1);
    let [failure] = &bench.unshaken[..] else { panic!("{:?}", bench.unshaken) };
    assert_eq!((failure.with.peer, failure.is_ours, failure.why), (at, true, "certificate"));
}

#[test]
fn an_authority_that_nobody_named_is_not_believed() {
    let mut bench = Bench::with_keys(Some(keys("own-authority", "carrier.test")));
    let (at, server) = server(&keys("other-authority", "carrier.test"), 3);
    bench.tcp.expect_names(&[Trunk::plain("carrier", "carrier.test", at, Transport::Tls)]);
    let to = bench.way(at);
    bench.send(to, b"one".to_vec());
    assert!(bench.join("the server heard why", server).is_err());
    bench.until("it closed", |bench| bench.closed.len() == 1);
    assert_eq!(bench.failed, [to]);
}

#[test]
fn a_server_that_never_answers_the_handshake_is_given_up() {
    let mut bench = Bench::with_keys(Some(keys("mute", "carrier.test")));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    bench.tcp.expect_names(&[Trunk::plain("carrier", "carrier.test", at, Transport::Tls)]);
    let to = bench.way(at);
    bench.send(to, b"one".to_vec());
    bench.turn();
    let (mut stream, _) = listener.accept().expect("connected");
    bench.until("the hello came", |bench| {
        !bench.tcp.is_flushed() && {
            stream.set_nonblocking(true).expect("a socket");
            stream.read(&mut [0; 1]).is_ok()
        }
    });
    bench.advance(5);
    bench.until("it was given up", |bench| bench.closed.len() == 1);
    assert_eq!(bench.failed, [to]);
}

#[test]
fn no_message_for_tls_goes_in_the_clear_or_to_nobody_knows_whom() {
    let mut bench = Bench::with_keys(Some(keys("clear", "pbx.test")));
    let mut plain = bench.dial();
    let mut to = bench.destination(&plain);
    to.transport = Transport::Tls;
    bench.send(to, b"secret".to_vec());
    bench.turn();
    assert_eq!(bench.failed, [to], "nobody knows whose certificate to expect there");
    bench.send(bench.destination(&plain), b"x".to_vec());
    bench.until("it is sent", |bench| bench.sent == 1);
    let mut read = [0; 1];
    plain.read_exact(&mut read).expect("read");
    assert_eq!(&read, b"x");
}

#[test]
fn a_flow_is_not_used_for_another_name_at_the_same_address() {
    let keys = keys("renamed", "carrier.test");
    let mut bench = Bench::with_keys(Some(Arc::clone(&keys)));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let config = Arc::clone(&keys.server);
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let connection = ServerConnection::new(config).expect("a server");
        let mut stream = StreamOwned::new(connection, stream);
        stream.read_exact(&mut [0; 3]).expect("a message");
        (listener, stream)
    });
    let trunk = |host| Trunk::plain("carrier", host, at, Transport::Tls);
    bench.tcp.expect_names(&[trunk("carrier.test")]);
    let to = bench.way(at);
    bench.send(to, b"one".to_vec());
    let _held = bench.join("it was read", server);
    bench.tcp.expect_names(&[trunk("carrier.test")]);
    bench.send(to, b"two".to_vec());
    assert_eq!(bench.tcp.open_count(), 1, "the same name");
    bench.tcp.expect_names(&[trunk("other.test")]);
    bench.send(to, b"six".to_vec());
    assert_eq!(bench.tcp.open_count(), 2, "another name");
}
