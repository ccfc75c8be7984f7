//! A call's flow read back: from files made by hand, and from those of a program that is killed. The
//! program needs io_uring.

mod stand_ins;

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use controlplane::sipflow::{Asked, Flow, Ladders, Missing, read};
use loadtest::load::{Ends, Load, Plan};
use rustix::process::Signal;
use serde_json::Value;
use shared::ids::{CallId, ShardId, Side};
use shared::net::Transport;
use shared::sipflow::{FAMILY, Frame, HEADER_BYTES, Place, Position, Segment, Stream, frame_len};
use shared::time::WallMs;
use stand_ins::program::{Gate, spare_port, write_config};
use stand_ins::{Folder, cdr};

const STREAM: Stream = Stream { run: 5, shard: ShardId(0) };
const CALL: CallId = CallId(77);
const END: WallMs = WallMs(1_795_000_000_000);

/// Writes frames as a shard does.
struct Pen {
    folder: Folder,
    number: u64,
    offset: u64,
    file: File,
    last: Option<Position>,
    at: WallMs,
    lost: u32,
}

impl Pen {
    fn new(test: &str) -> Self {
        let folder = Folder::new(test);
        let file = segment(&folder, 1);
        let at = END;
        Self { folder, number: 1, offset: HEADER_BYTES as u64, file, last: None, at, lost: 0 }
    }

    fn turn(&mut self) {
        self.number += 1;
        self.offset = HEADER_BYTES as u64;
        self.file = segment(&self.folder, self.number);
    }

    fn write(&mut self, text: &str) -> Position {
        let place = self.write_of(CALL, text, self.last);
        self.last = Some(place);
        place
    }

    fn write_of(&mut self, call: CallId, text: &str, previous: Option<Position>) -> Position {
        let segment = Segment { stream: STREAM, number: self.number };
        let frame = Frame {
            at: self.at,
            call,
            side: Side::Caller,
            came: true,
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().expect("an address"),
            peer: "192.0.2.7:5062".parse().expect("an address"),
            previous,
            lost: std::mem::take(&mut self.lost),
            raw: text.as_bytes(),
        };
        let mut bytes = Vec::new();
        frame.write(segment, self.offset, &mut bytes);
        self.file.write_all_at(&bytes, self.offset).expect("room");
        let place = Position { segment: self.number, offset: self.offset };
        self.offset += bytes.len() as u64;
        place
    }

    fn read(&self, position: Position) -> Flow {
        let place = Place { stream: STREAM, position };
        let asked = Asked { place, call: CALL, until: END.add_ms(40_000) };
        read(self.folder.path(), &asked).expect("it can be read")
    }
}

fn segment(folder: &Folder, number: u64) -> File {
    let segment = Segment { stream: STREAM, number };
    let path = folder.path().join(segment.file_name_of(&FAMILY));
    let file = File::create(path).expect("a file");
    file.write_all_at(&segment.header_of(&FAMILY), 0).expect("room");
    file
}

fn texts(flow: &Flow) -> Vec<String> {
    flow.messages.iter().map(|one| String::from_utf8_lossy(&one.raw).into_owned()).collect()
}

#[test]
fn a_flow_goes_over_segments_and_on_behind_the_record() {
    let mut pen = Pen::new("flow-whole");
    pen.write("INVITE");
    pen.write_of(CallId(8), "another call", None);
    pen.write("180");
    pen.turn();
    pen.lost = 3;
    let known = pen.write("BYE");
    // What comes after the record knows of nothing before it.
    pen.write_of(CallId(8), "another call", None);
    pen.write_of(CALL, "200", None);
    pen.turn();
    pen.write_of(CALL, "200 again", None);
    pen.at = END.add_ms(40_001);
    pen.write_of(CALL, "too late", None);
    let flow = pen.read(known);
    assert_eq!(texts(&flow), ["INVITE", "180", "BYE", "200", "200 again"]);
    assert_eq!((flow.missing.as_slice(), flow.dropped), (&[][..], 3));
    assert_eq!(flow.messages[0].source().to_string(), "192.0.2.7:5062");
}

#[test]
fn secrets_are_masked_before_they_leave() {
    let mut pen = Pen::new("flow-masked");
    let known = pen.write("INVITE sip:1:pw@h SIP/2.0\r\nAuthorization: Digest response=\"ab\"\r\n");
    let expected = "INVITE sip:1:**@h SIP/2.0\r\nAuthorization: Digest response=****\r\n";
    assert_eq!(texts(&pen.read(known)), [expected]);
}

#[test]
fn a_torn_end_costs_what_is_torn() {
    let mut pen = Pen::new("flow-torn");
    pen.write("INVITE");
    let known = pen.write("180");
    let torn = pen.write("200 OK");
    pen.file.set_len(torn.offset + 20).expect("it shrinks");
    let flow = pen.read(known);
    assert_eq!((texts(&flow), flow.missing), (vec!["INVITE".to_owned(), "180".to_owned()], vec![]));
    // The record names the torn one: those before it are found all the same.
    let flow = pen.read(torn);
    assert_eq!(texts(&flow), ["INVITE", "180"]);
    assert_eq!(flow.missing, [Missing::Damaged]);
    // It was never written at all.
    pen.file.set_len(torn.offset).expect("it shrinks");
    let flow = pen.read(torn);
    assert_eq!((texts(&flow).len(), flow.missing), (2, vec![Missing::Unwritten]));
}

#[test]
fn damage_and_files_that_are_gone_end_the_flow_and_are_named() {
    let mut pen = Pen::new("flow-gone");
    pen.write("INVITE");
    pen.turn();
    let hit = pen.write("180");
    pen.turn();
    let known = pen.write("BYE");
    let path = |number: u64| {
        let segment = Segment { stream: STREAM, number };
        pen.folder.path().join(segment.file_name_of(&FAMILY))
    };
    fs::remove_file(path(1)).expect("it was there");
    let flow = pen.read(known);
    assert_eq!(
        (texts(&flow), flow.missing),
        (vec!["180".to_owned(), "BYE".to_owned()], vec![Missing::Expired])
    );
    let damaged = OpenOptions::new().write(true).open(path(2)).expect("it is there");
    damaged.write_all_at(b"x", hit.offset + 80).expect("room");
    let flow = pen.read(known);
    assert_eq!((texts(&flow), flow.missing), (vec!["BYE".to_owned()], vec![Missing::Damaged]));
    fs::remove_file(path(3)).expect("it was there");
    assert_eq!(pen.read(known).missing, [Missing::Expired]);
}

#[test]
fn an_answer_has_a_bound_and_a_loop_has_an_end() {
    let mut pen = Pen::new("flow-bound");
    let mut known = pen.write("0");
    for number in 1..2_500 {
        known = pen.write(&number.to_string());
    }
    let flow = pen.read(known);
    assert_eq!((flow.messages.len(), flow.missing.as_slice()), (2_000, &[Missing::Limit][..]));
    assert_eq!(texts(&flow).last().map(String::as_str), Some("2499"), "the newest stay");
    // A frame that names itself.
    let offset = pen.offset;
    let itself = Position { segment: 1, offset };
    pen.write_of(CALL, "loop", Some(itself));
    let flow = pen.read(itself);
    assert_eq!((flow.messages.len(), flow.missing), (0, vec![Missing::Damaged]));
    assert_eq!(pen.offset, offset + frame_len(4) as u64);
}

#[tokio::test(start_paused = true)]
async fn a_record_without_a_flow_says_why() {
    let record = cdr(1);
    let off = Ladders::new(None).of(&record).await.expect("it is answered");
    assert_eq!(off.missing, [Missing::Off]);
    let none = Ladders::new(Some("nowhere".into())).of(&record).await.expect("it is answered");
    assert_eq!(none.missing, [Missing::Everything]);
}

const TOKEN: &str = "a-token-of-this-test";
const PATIENCE: Duration = Duration::from_secs(60);

/// `> INVITE` came, `< 200` went out; each with the side that it is of.
fn ladder(flow: &Value, port: u16) -> Vec<String> {
    let ours = format!("127.0.0.1:{port}");
    let rows = flow["flow"].as_array().expect("a list").iter().enumerate();
    rows.map(|(at, row)| {
        assert_eq!(row["seq"], at + 1);
        let text = row["raw_message"].as_str().expect("a text");
        let start = text.trim_start_matches("SIP/2.0 ");
        let word = start.split([' ', '\r']).next().unwrap_or_default();
        let way = if row["src_addr"] == ours.as_str() { '<' } else { '>' };
        format!("{} {way} {word}", row["role"].as_str().expect("a side"))
    })
    .collect()
}

fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < give_up_at, "{what} did not happen");
    }
}

fn records(gate: &Gate) -> Vec<Value> {
    let list = gate.get_as(TOKEN, "/console/call-records").1;
    list["items"].as_array().cloned().unwrap_or_default()
}

fn flow_of(gate: &Gate, record: &Value) -> Value {
    let path = format!("/console/call-records/{}/sip-flow", record["id"]);
    let (status, flow) = gate.get_as(TOKEN, &path);
    assert_eq!(status, 200, "{flow}");
    flow
}

/// The first messages of a call that is answered at once; the caller's ACK may come whenever.
fn assert_set_up(ladder: &[String]) {
    let expected = [
        "caller > INVITE",
        "caller < 100",
        "callee < INVITE",
        "callee > 200",
        "callee < ACK",
        "caller < 200",
        "caller > ACK",
    ];
    let without: Vec<&String> =
        ladder.iter().filter(|line| *line != "callee > 180" && *line != "caller < 180").collect();
    assert_eq!(without[..7], expected, "{ladder:#?}");
}

fn clone(ends: &Ends) -> Ends {
    let clone = |socket: &UdpSocket| socket.try_clone().expect("a descriptor");
    Ends {
        caller: clone(&ends.caller),
        callee: clone(&ends.callee),
        caller_media: clone(&ends.caller_media),
        callee_media: clone(&ends.callee_media),
    }
}

#[test]
fn flows_of_a_program_outlive_a_kill() {
    let (folder, port) = (Folder::new("flow-kill"), spare_port());
    let ends = Ends::bind(Ipv4Addr::LOCALHOST).expect("sockets");
    let config = format!(
        "modules = [\"acl\", \"registrar\", \"call\"]\n[proxy.trunks.load]\n\
         dest = \"sip:{}\"\n[[console.api_tokens]]\ntoken = \"{TOKEN}\"\n\
         scopes = [\"cdr:read\"]\n",
        ends.callee_address()
    );
    write_config(folder.path(), port, &config);
    let gate = Gate::start(folder.path());
    let SocketAddr::V4(at) = SocketAddr::from(([127, 0, 0, 1], port)) else {
        unreachable!("an IPv4 address")
    };
    let plan = |calls, hold| Plan { rate: 20.0, calls, hold, ..Plan::new(at) };
    let short = Duration::from_millis(300);
    let load = Load::start(plan(5, short), clone(&ends)).expect("a thread");
    let report = load.finish().expect("it runs");
    assert_eq!((report.failures(), report.completed), (0, 5), "{report}");
    let finished = wait_until("five records", || Some(records(&gate)).filter(|all| all.len() == 5));
    let flows: Vec<Value> = finished.iter().map(|record| flow_of(&gate, record)).collect();
    for flow in &flows {
        let ladder = ladder(flow, port);
        assert_set_up(&ladder);
        let mut end = ladder[ladder.len() - 4..].to_vec();
        end.sort();
        let expected = ["callee < BYE", "callee > 200", "caller < 200", "caller > BYE"];
        assert_eq!(end, expected, "{ladder:#?}");
        assert_eq!(flow["diagnostics"]["complete"], true, "{flow:#}");
        assert_eq!(flow["diagnostics"]["total_sip_msgs"], ladder.len());
        let legs = flow["diagnostics"]["legs"].as_array().expect("a list");
        let counted: u64 = legs.iter().filter_map(|leg| leg["sip_msgs"].as_u64()).sum();
        assert_eq!((legs.len(), counted), (2, ladder.len() as u64));
    }
    assert_eq!(gate.get_as(TOKEN, "/console/call-records/no-such-call/sip-flow").0, 404);

    let acks = || {
        let files = fs::read_dir(folder.path().join("data/sipflow")).expect("the folder");
        let bytes = files.flat_map(|file| fs::read(file.expect("an entry").path()).expect("bytes"));
        let bytes: Vec<u8> = bytes.collect();
        bytes.windows(8).filter(|part| part == b"ACK sip:").count()
    };
    let before = acks();
    // It ends when its peer has been gone for long; nobody waits for it.
    drop(Load::start(plan(1, Duration::from_secs(20)), clone(&ends)).expect("a thread"));
    wait_until("the call on the disk", || (acks() == before + 2).then_some(()));
    gate.signal(Signal::KILL);
    gate.end();
    let gate = Gate::start(folder.path());
    let again: Vec<Value> = finished.iter().map(|record| flow_of(&gate, record)).collect();
    assert!(again == flows, "the same after the kill");
    let cut = wait_until("the record of the call that was cut", || {
        records(&gate).into_iter().find(|record| record["hangup_reason"] == "systemCrash")
    });
    let flow = flow_of(&gate, &cut);
    assert_set_up(&ladder(&flow, port));
    gate.signal(Signal::TERM);
    assert_eq!(gate.end().0, Some(0));
}
