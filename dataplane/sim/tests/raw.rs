//! Raw text from somebody who is no phone (RFC 3261 8.2, 9.2, 12.2.2, 18.3).
//! Owns:  requests outside any dialog, and bytes that are not SIP.
//! Gives: the status that each deserves, sent back to where it came from.
//! Never: an answer to an ACK, a response or noise.
//! Holds: nothing of it stands afterwards.

use std::net::SocketAddr;
use std::time::Duration;

use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

fn sender() -> SocketAddr {
    "10.77.0.1:5060".parse().expect("an address")
}

fn ask(method: &str, to_tag: &str, more: &str) -> String {
    let from = sender();
    format!(
        "{method} sip:1001@ringgate.test SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from};branch=z9hG4bKraw;rport\r\n\
         From: <sip:raw@ringgate.test>;tag=raw\r\nTo: <sip:1001@ringgate.test>{to_tag}\r\n\
         Call-ID: raw\r\nCSeq: 1 {method}\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

/// The status lines that come back for one raw message.
fn answers(text: &str) -> Result<Vec<String>, Failure> {
    let mut world = World::started(WorldSettings::calm(97), &[PhoneSpec::user("1001")])?;
    world.after(Duration::ZERO, Act::Raw(sender(), text.as_bytes().to_vec()));
    world.run_for(Duration::from_secs(40))?;
    let lines = world.noted().heard_raw.iter().filter_map(|text| text.lines().next());
    let lines = lines.map(str::to_owned).collect();
    world.finish()?;
    Ok(lines)
}

fn status(text: &str) -> Result<Option<u16>, Failure> {
    let lines = answers(text)?;
    Ok(lines.first().and_then(|line| line.split(' ').nth(1)?.parse().ok()))
}

#[test]
fn requests_outside_a_dialog_get_their_status() -> Result<(), Failure> {
    let forwards = "Max-Forwards: 70\r\n";
    for (method, to_tag, expected) in [
        ("OPTIONS", "", 200),
        ("BYE", ";tag=nobody", 481),
        ("CANCEL", "", 481),
        ("INFO", ";tag=nobody", 481),
        ("JUGGLE", "", 501),
        ("PUBLISH", "", 405),
    ] {
        assert_eq!(status(&ask(method, to_tag, forwards))?, Some(expected), "{method}");
    }
    Ok(())
}

#[test]
fn a_stray_ack_and_noise_are_not_answered() -> Result<(), Failure> {
    let response = ask("ACK", ";tag=nobody", "").replacen(
        "ACK sip:1001@ringgate.test SIP/2.0",
        "SIP/2.0 200 OK",
        1,
    );
    for text in [
        ask("ACK", ";tag=nobody", "Max-Forwards: 70\r\n"),
        response,
        "\r\n\r\n".into(),
        "noise".into(),
    ] {
        assert_eq!(answers(&text)?, Vec::<String>::new(), "{text}");
    }
    Ok(())
}

/// RFC 3261 18.3: a datagram that is shorter than its body; RFC 3261 16.3 step 3.
#[test]
fn a_cut_datagram_is_400_and_an_invite_at_its_last_hop_483() -> Result<(), Failure> {
    let cut = ask("OPTIONS", "", "Max-Forwards: 70\r\n").replace("Length: 0", "Length: 99");
    assert_eq!(status(&cut)?, Some(400));
    let invite = ask("INVITE", "", "Max-Forwards: 0\r\nContact: <sip:raw@10.77.0.1>\r\n");
    assert_eq!(status(&invite)?, Some(483));
    Ok(())
}
