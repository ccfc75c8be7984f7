//! Answers that somebody forges to our questions (RFC 5452): against a name server of our own on 127.0.0.1.
//! Owns:  the server, and the forgers beside it.
//! Gives: proof that a forged answer is not believed, and that the next question cannot be foreseen.
//! Never: a name server of the network.
//! Holds: every question gets its true answer, behind the forged one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::{NameServers, Records};

const TRUE_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const FORGED_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
/// Type A in a question.
const KIND_A: [u8; 2] = [0, 1];

/// What a forger does, who has seen the question (the worst case) and is faster than the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgery {
    AnotherId,
    AnotherQuestion,
    AnotherSource,
    None,
}

/// A question as it came: from where, with which id.
type Asked = (SocketAddr, u16);

struct Server {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(forgery: Forgery) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let at = socket.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1_500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let query = &buffer[..length];
                let id = u16::from_be_bytes([query[0], query[1]]);
                seen.lock().expect("no test panicked").push((from, id));
                let question = question_of(query);
                let forged = match forgery {
                    Forgery::AnotherId => answer(id.wrapping_add(1), question, FORGED_ADDRESS),
                    Forgery::AnotherQuestion => {
                        let other = [b"\x04evil\x04test\0", &question[question.len() - 4..]];
                        answer(id, &other.concat(), FORGED_ADDRESS)
                    }
                    Forgery::AnotherSource => answer(id, question, FORGED_ADDRESS),
                    Forgery::None => Vec::new(),
                };
                let forger = if forgery == Forgery::AnotherSource { &stranger } else { &socket };
                if !forged.is_empty() {
                    forger.send_to(&forged, from).await.expect("sent");
                }
                socket.send_to(&answer(id, question, TRUE_ADDRESS), from).await.expect("sent");
            }
        });
        Self { at, asked, task }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panicked").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Name, type and class.
fn question_of(query: &[u8]) -> &[u8] {
    let name = query[12..].iter().position(|byte| *byte == 0).expect("a name ends");
    &query[12..12 + name + 5]
}

/// One address for a question of type A, none for any other.
fn answer(id: u16, question: &[u8], ip: Ipv4Addr) -> Vec<u8> {
    let is_a = question[question.len() - 4..][..2] == KIND_A;
    let mut text = id.to_be_bytes().to_vec();
    text.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    text.extend(question);
    if is_a {
        // The name of the question, A, IN, 60 s, four bytes.
        text.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        text.extend(ip.octets());
    }
    text
}

async fn look_up(servers: &NameServers, name: &str) -> Vec<IpAddr> {
    servers.addresses(name.to_owned()).await.map(|answer| answer.records).unwrap_or_default()
}

#[tokio::test]
async fn case_33_a_forged_answer_is_not_believed() {
    let forgeries =
        [Forgery::AnotherId, Forgery::AnotherQuestion, Forgery::AnotherSource, Forgery::None];
    for forgery in forgeries {
        let server = Server::start(forgery).await;
        let servers = NameServers::new(&[server.at]).expect("name servers");
        let found = look_up(&servers, "sip.carrier.test").await;
        assert_eq!(found, [IpAddr::V4(TRUE_ADDRESS)], "{forgery:?}");
        assert!(!server.asked().is_empty());
    }
}

#[tokio::test]
async fn case_33_nobody_foresees_the_id_and_the_port_of_a_question() {
    let server = Server::start(Forgery::None).await;
    let servers = NameServers::new(&[server.at]).expect("name servers");
    for number in 0..100 {
        look_up(&servers, &format!("host{number}.carrier.test")).await;
    }
    let asked = server.asked();
    assert!(asked.len() >= 200, "A and AAAA: {}", asked.len());
    let ports: BTreeSet<u16> = asked.iter().map(|(from, _)| from.port()).collect();
    let ids: BTreeSet<u16> = asked.iter().map(|(_, id)| *id).collect();
    assert!(ports.len() > 150, "{} ports", ports.len());
    assert!(ids.len() > 150, "{} ids", ids.len());
    let steps: BTreeSet<u16> =
        asked.windows(2).map(|pair| pair[1].1.wrapping_sub(pair[0].1)).collect();
    assert!(steps.len() > 100, "{} steps from one id to the next", steps.len());
}
