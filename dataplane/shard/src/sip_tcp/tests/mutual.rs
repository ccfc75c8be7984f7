//! TLS where both sides show a certificate: ours to a trunk, a client's to us (RFC 5246 7.4.4, RFC 5922).
//! Owns:  authorities and certificates made for the test.
//! Gives: proof that a trunk gets its certificate and no other, and that only a believed one proves a name.
//! Never: sleeps; the peers wait for their sockets, with deadlines.
//! Holds: every peer's thread is joined.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
};
use shared::settings::{ClientFiles, TlsFiles};
use shared::snapshot::Trunk;
use shared::trunk_options::TrunkOptions;

use super::*;
use crate::keys::tests as made;

type ServerStream = StreamOwned<ServerConnection, TcpStream>;

/// Our keys where clients are asked for a certificate of `believed`.
fn asking(test: &str, believed: &TlsFiles) -> Arc<Keys> {
    let own = made::files(test, "pbx.test");
    let client_authorities = vec![believed.certificate.clone()];
    let keys = Keys::read(&TlsFiles { client_authorities, ..own.clone() }).expect("keys");
    made::remove(&own);
    Arc::new(keys)
}

/// A client that believes the bench and shows `shown`.
fn showing(bench_keys: &Keys, shown: &TlsFiles, test: &str) -> Arc<Keys> {
    let own = made::files(test, "client.test");
    let shown = made::as_client(shown);
    let clients = vec![shown.clone()];
    let mut keys = Keys::read(&TlsFiles { clients, ..own.clone() }).expect("keys");
    made::remove(&own);
    let mut client = (*bench_keys.client).clone();
    let shows = keys.showing(shown.id).expect("it was read");
    client.client_auth_cert_resolver = Arc::clone(&shows.client_auth_cert_resolver);
    keys.client = Arc::new(client);
    Arc::new(keys)
}

/// A trunk at this address that is shown these files, or nothing.
fn trunk(at: SocketAddr, shown: Option<&ClientFiles>) -> Trunk {
    let options = TrunkOptions { client_files: shown.cloned(), ..TrunkOptions::default() };
    Trunk {
        options: Arc::new(options),
        ..Trunk::plain("carrier", "carrier.test", at, Transport::Tls)
    }
}

#[test]
fn a_client_proves_the_name_of_its_certificate_and_a_phone_without_one_none() {
    let carrier = made::files("mutual-carrier", "sbc.carrier.test");
    let keys = asking("mutual-own", &carrier);
    let shown = showing(&keys, &carrier, "mutual-shown");
    let mut bench = Bench::with_keys(Some(Arc::clone(&keys)));
    let peer = bench.phone(&shown, |mut peer| {
        peer.write_all(b"hello").expect("sent");
        let mut answer = [0; 3];
        peer.read_exact(&mut answer).expect("an answer");
    });
    bench.until("bytes came", |bench| !bench.received.is_empty());
    assert_eq!(bench.proved, [vec![Box::<str>::from("sbc.carrier.test")]]);
    assert!(bench.tcp.take_proved() && !bench.tcp.take_proved(), "it is told once");
    let source = bench.tcp.source(bench.received[0].0).expect("an open flow");
    bench.send(source.back(), b"one".to_vec());
    bench.join("it was answered", peer);
    // A phone has none, and comes in as nobody in particular.
    let peer = bench.phone(&keys, |mut peer| peer.write_all(b"hello").expect("sent"));
    bench.until("bytes came", |bench| bench.received.len() == 2);
    bench.join("it is done", peer);
    assert_eq!(bench.proved.len(), 1, "nobody else has proved anything");
    assert!(!bench.tcp.take_proved());
    made::remove(&carrier);
}

#[test]
fn a_certificate_of_an_authority_that_nobody_named_opens_no_flow() {
    let carrier = made::files("mutual-named", "sbc.carrier.test");
    let impostor = made::files("mutual-impostor", "sbc.carrier.test");
    let keys = asking("mutual-own-2", &carrier);
    let shown = showing(&keys, &impostor, "mutual-shown-2");
    let mut bench = Bench::with_keys(Some(Arc::clone(&keys)));
    let peer = bench.phone(&shown, |mut peer| {
        peer.write_all(b"hello").and_then(|()| peer.read_exact(&mut [0; 1])).is_err()
    });
    assert!(bench.join("it heard why", peer), "it is not let in");
    bench.until("it closed", |bench| bench.closed.len() == 1);
    assert_eq!((bench.proved.len(), bench.received.len()), (0, 0));
    assert_eq!(bench.counters.of(Counter::TlsFailedCertificate), 1);
    let [failure] = &bench.unshaken[..] else { panic!("{:?}", bench.unshaken) };
    assert!(
        !failure.is_ours && failure.detail.starts_with("invalid peer certificate"),
        "{failure:?}"
    );
    for files in [carrier, impostor] {
        made::remove(&files);
    }
}

/// What a server has seen of one connection: which certificate, and the message.
type Seen = (Option<CertificateDer<'static>>, Vec<u8>);

/// A server that takes `count` connections, believes these clients, answers every message of three bytes
/// and holds its connections until it is joined.
fn server(
    own: &TlsFiles,
    believed: &[&TlsFiles],
    count: usize,
    version: &'static SupportedProtocolVersion,
    strict: bool,
) -> (SocketAddr, std::thread::JoinHandle<Vec<Result<Seen, String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let config = Arc::new(server_config(own, believed, version, strict));
    let work = move || {
        let mut held = Vec::new();
        let connections = (0..count).map(|_| {
            let (stream, _) = listener.accept().expect("a connection");
            stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a server");
            let mut stream = StreamOwned::new(connection, stream);
            let seen = seen(&mut stream).map_err(|error| error.to_string());
            held.push(stream);
            seen
        });
        connections.collect()
    };
    (at, std::thread::spawn(work))
}

fn seen(stream: &mut ServerStream) -> std::io::Result<Seen> {
    let mut read = vec![0; 3];
    stream.read_exact(&mut read)?;
    stream.write_all(b".")?;
    let shown = stream.conn.peer_certificates().and_then(|chain| chain.first().cloned());
    Ok((shown, read))
}

fn certificate(files: &TlsFiles) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&files.certificate).expect("a certificate")
}

fn server_config(
    own: &TlsFiles,
    believed: &[&TlsFiles],
    version: &'static SupportedProtocolVersion,
    strict: bool,
) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    for client in believed {
        roots.add(certificate(client)).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = if strict { verifier } else { verifier.allow_unauthenticated() };
    let key = PrivateKeyDer::from_pem_file(&own.private_key).expect("a key");
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![certificate(own)], key)
        .expect("a configuration")
}

/// A bench that believes `server`, and may show each of these.
fn calling(server: &TlsFiles, ours: &[&TlsFiles]) -> Bench {
    let clients = ours.iter().map(|files| made::as_client(files)).collect();
    let authorities = vec![server.certificate.clone()];
    let files = TlsFiles { authorities, clients, ..server.clone() };
    Bench::with_keys(Some(Arc::new(Keys::read(&files).expect("keys"))))
}

impl Bench {
    fn way_showing(&self, at: SocketAddr, shown: Option<&TlsFiles>) -> Destination {
        Destination { shows: shown.map(|files| made::as_client(files).id), ..self.way(at) }
    }
}

#[test]
fn trunks_at_one_address_get_each_its_own_certificate_over_its_own_connection() {
    let carrier = made::files("mutual-server", "carrier.test");
    let [one, two] = ["mutual-one", "mutual-two"].map(|test| made::files(test, "gateway.test"));
    let mut bench = calling(&carrier, &[&one, &two]);
    let (at, server) = server(&carrier, &[&one, &two], 3, &TLS13, false);
    let shown = [Some(&one), Some(&two), None];
    let trunks = shown.map(|files| trunk(at, files.map(made::as_client).as_ref()));
    bench.tcp.expect_names(&trunks);
    let ways = shown.map(|files| bench.way_showing(at, files));
    for (way, text) in ways.into_iter().zip([b"one", b"two", b"six"]) {
        bench.send(way, text.to_vec());
        let open = bench.received.len() + 1;
        bench.until("it was answered", |bench| bench.received.len() == open);
    }
    // And once more, which opens nothing: the connections are reused.
    for way in ways {
        bench.send(way, b"...".to_vec());
    }
    assert_eq!(bench.tcp.open_count(), 3);
    bench.tcp.expect_names(&trunks);
    assert_eq!(bench.tcp.by_peer.len(), 3, "a reload that changes nothing changes nothing");
    let seen = bench.join("all were read", server);
    let expected = [
        Ok((Some(certificate(&one)), b"one".to_vec())),
        Ok((Some(certificate(&two)), b"two".to_vec())),
        Ok((None, b"six".to_vec())),
    ];
    assert_eq!(seen, expected);
    assert_eq!(bench.failed, []);
    for files in [carrier, one, two] {
        made::remove(&files);
    }
}

/// With TLS 1.3 we are done with the handshake before the server looks at our certificate: what left with
/// it is lost, and whoever sent it has to hear that at once.
#[test]
fn a_certificate_that_the_trunk_refuses_fails_the_message_and_is_a_failed_handshake() {
    let carrier = made::files("mutual-strict", "carrier.test");
    let [known, ours] =
        ["mutual-known", "mutual-ours"].map(|test| made::files(test, "gateway.test"));
    for version in [&TLS12, &TLS13] {
        for shown in [Some(&ours), None] {
            let mut bench = calling(&carrier, &[&ours]);
            let (at, server) = server(&carrier, &[&known], 1, version, true);
            bench.tcp.expect_names(&[trunk(at, shown.map(made::as_client).as_ref())]);
            let way = bench.way_showing(at, shown);
            bench.send(way, b"one".to_vec());
            let seen = bench.join("it refused", server);
            assert!(seen[0].is_err(), "{seen:?}");
            bench.until("it closed", |bench| bench.closed.len() == 1);
            let lost: Vec<_> = bench.failed.iter().map(|to| (to.peer, to.shows, to.flow)).collect();
            assert_eq!(lost, [(at, way.shows, None)], "{version:?}");
            assert_eq!(bench.counters.of(Counter::TlsHandshakesFailed), 1);
            assert_eq!(bench.counters.of(Counter::TlsFailedCertificate), 1);
            let [failure] = &bench.unshaken[..] else { panic!("{:?}", bench.unshaken) };
            assert_eq!(
                (failure.with.peer, failure.is_ours, failure.why),
                (at, true, "certificate")
            );
        }
    }
    for files in [carrier, known, ours] {
        made::remove(&files);
    }
}

/// Keys that came without the trunk's: nothing goes out under no name.
#[test]
fn without_its_certificate_a_trunk_is_not_called() {
    let ours = made::files("mutual-missing", "gateway.test");
    let mut bench = Bench::with_keys(Some(Arc::new(Keys::read(&ours).expect("keys"))));
    let at: SocketAddr = "127.0.0.1:9".parse().expect("an address");
    bench.tcp.expect_names(&[trunk(at, Some(&made::as_client(&ours)))]);
    for to in [bench.way_showing(at, Some(&ours)), bench.way(at)] {
        bench.send(to, b"one".to_vec());
        bench.turn();
        assert_eq!(bench.failed.pop(), Some(to));
    }
    assert_eq!(bench.tcp.open_count(), 0);
    made::remove(&ours);
}

#[test]
fn a_renewed_certificate_is_shown_by_the_next_message_and_cuts_nothing() {
    let carrier = made::files("mutual-renewing", "carrier.test");
    let ours = made::files("mutual-aging", "gateway.test");
    let other = made::files("mutual-staying", "gateway.test");
    let (old, stays) = (certificate(&ours), certificate(&other));
    let fresh = made::files("mutual-fresh", "gateway.test");
    let mut bench = calling(&carrier, &[&ours, &other]);
    let (at, server) = server(&carrier, &[&ours, &other, &fresh], 3, &TLS13, true);
    let trunks = [&ours, &other].map(|files| trunk(at, Some(&made::as_client(files))));
    bench.tcp.expect_names(&trunks);
    let ways = [&ours, &other].map(|files| bench.way_showing(at, Some(files)));
    for (count, way) in ways.into_iter().enumerate() {
        bench.send(way, b"one".to_vec());
        bench.until("it was answered", |bench| bench.received.len() == count + 1);
    }
    // The files are the same ones with something else in them.
    for (from, to) in
        [(&fresh.certificate, &ours.certificate), (&fresh.private_key, &ours.private_key)]
    {
        std::fs::copy(from, to).expect("written");
    }
    let clients = [&ours, &other].map(made::as_client).to_vec();
    let files =
        TlsFiles { authorities: vec![carrier.certificate.clone()], clients, ..carrier.clone() };
    bench.tcp.renew(Arc::new(Keys::read(&files).expect("keys")));
    for way in ways {
        bench.send(way, b"two".to_vec());
    }
    let seen = bench.join("all were read", server);
    let shown: Vec<_> = seen.into_iter().map(|seen| seen.expect("it was let in").0).collect();
    assert_eq!(shown, [Some(old), Some(stays), Some(certificate(&fresh))]);
    for files in [carrier, ours, other, fresh] {
        made::remove(&files);
    }
}
