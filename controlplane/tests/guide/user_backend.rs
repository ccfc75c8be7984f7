//! Guide 1.2, user backend: the GET of the guide, its two answers, and what each refusal becomes.

use serde_json::{Value, json};

use crate::integrator::SOON;
use crate::integrator::agent::Agent;
use crate::integrator::gate::{Gate, Setup};
use crate::integrator::receiver::{Heard, Receiver, Reply};

/// The guide's configuration with our own address in it.
fn setup(backend: &Receiver) -> Setup {
    let url = backend.url("/pbx/auth");
    Setup::default().section(&format!(
        "[[proxy.user_backends]]\ntype = \"http\"\nurl = \"{url}\"\n\
         username_field = \"u\"\nrealm_field = \"r\"\n"
    ))
}

/// The guide's 200.
fn sample(user: &str) -> Value {
    json!({
        "id": 1001,
        "username": user,
        "password": format!("secret-{user}"),
        "display_name": "John Doe",
        "email": "john@pbx.com",
        "allow_guest_calls": false
    })
}

fn knows_everybody(heard: &Heard) -> Reply {
    let fields = heard.fields();
    Reply::json(200, &sample(fields.get("u").map_or("", String::as_str)))
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_2_request_register_asks_with_the_get_of_the_guide() {
    let backend = Receiver::start(knows_everybody).await;
    let gate = Gate::start(&setup(&backend)).await;
    gate.phone("1001").await;
    let asked = backend.nth(0).await;
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/pbx/auth"));
    assert_eq!(asked.query, "u=1001&r=pbx.com");
    assert_eq!(asked.body, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_2_response_200_an_invite_with_credentials_is_let_through_and_a_wrong_one_not() {
    let backend = Receiver::start(knows_everybody).await;
    let gate = Gate::start(&setup(&backend)).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.phone("1002").await);
    let ((answer, leg), (invite, _)) =
        tokio::join!(caller.invite("sip:1002@pbx.com"), callee.pick_up());
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(invite.header("From").contains("sip:1001@"), "{invite:?}");
    let leg = leg.expect("a dialog");
    tokio::join!(caller.hang_up(&leg), callee.hear_bye());
    let mut intruder = Agent::bind(gate.sip, "1001", "guess").await;
    assert_eq!(intruder.register(300).await.status(), 403);
    assert_eq!(intruder.invite("sip:1002@pbx.com").await.0.status(), 403);
    callee.assert_quiet("INVITE").await;
}

/// "HA1 hash preferred": MD5 of `1001:pbx.com:secret-1001`, in the guide's field and in its own.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_2_response_200_a_hash_is_taken_for_ha1() {
    for field in ["password", "ha1"] {
        let mut user = sample("1001");
        user.as_object_mut().expect("an object").remove("password");
        user[field] = json!(HA1_OF_1001);
        let backend = Receiver::saying(200, &user).await;
        let gate = Gate::start(&setup(&backend)).await;
        let mut agent = gate.agent("1001").await;
        let answer = agent.register(300).await;
        assert_eq!(answer.status(), 200, "{field}: {answer:?}");
    }
}

/// By Python: hashlib.md5(b"1001:pbx.com:secret-1001").hexdigest()
const HA1_OF_1001: &str = "8b6eedd666544ce4a9ac36990c9fcc38";

#[tokio::test(flavor = "multi_thread")]
async fn section_1_2_response_403_the_sample_refuses_the_phone() {
    let refusal = json!({"reason": "invalid_password", "message": "Account locked"});
    let backend = Receiver::saying(403, &refusal).await;
    let gate = Gate::start(&setup(&backend)).await;
    let mut agent = gate.agent("4001").await;
    let answer = agent.register(300).await;
    assert_eq!(answer.status(), 403, "{answer:?}");
    assert_eq!(agent.invite("sip:1002@pbx.com").await.0.status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_2_response_every_reason_has_its_status() {
    let backend = Receiver::saying(404, &json!({})).await;
    let gate = Gate::start(&setup(&backend)).await;
    let cases = [
        (404, "not_found", 403),
        (403, "disabled", 403),
        (403, "blocked", 403),
        (402, "payment_required", 402),
        (403, "payment_required", 402),
        (403, "spam", 403),
    ];
    for (number, (http, reason, sip)) in cases.into_iter().enumerate() {
        let refusal = json!({"reason": reason, "message": "as the billing system says"});
        backend.say(Reply::json(http, &refusal));
        // Another name each time, so that no answer is one that was kept.
        let mut agent = gate.agent(&format!("50{number:02}")).await;
        let answer = agent.register(300).await;
        assert_eq!(answer.status(), sip, "{http} {reason}: {answer:?}");
        let (answer, _) = agent.invite("sip:1002@pbx.com").await;
        assert_eq!(answer.status(), sip, "INVITE, {http} {reason}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_2_response_200_a_user_that_is_not_enabled_is_refused() {
    let backend = Receiver::start(|heard| {
        let fields = heard.fields();
        let mut user = sample(&fields["u"]);
        user["enabled"] = json!(fields["u"] != "1003");
        user["realm"] = json!("pbx.com");
        Reply::json(200, &user)
    });
    let gate = Gate::start(&setup(&backend.await)).await;
    gate.phone("1002").await;
    assert_eq!(gate.agent("1003").await.register(300).await.status(), 403);
}

/// A guest is somebody without an account: no challenge for a call to a user who allows it.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_2_response_200_allow_guest_calls_opens_that_user_and_no_other() {
    let backend = Receiver::start(|heard| {
        let fields = heard.fields();
        if fields["u"] == "guest" {
            return Reply::json(404, &json!({"reason": "not_found", "message": ""}));
        }
        let mut user = sample(&fields["u"]);
        user["allow_guest_calls"] = json!(fields["u"] == "1002");
        Reply::json(200, &user)
    });
    let backend = backend.await;
    let gate = Gate::start(&setup(&backend)).await;
    let (mut open, mut closed) = (gate.phone("1002").await, gate.phone("1001").await);
    let mut guest = Agent::bind(gate.sip, "guest", "").await;
    let (answer, _) = guest.invite("sip:1001@pbx.com").await;
    assert!(matches!(answer.status(), 401 | 403 | 407), "{answer:?}");
    closed.assert_quiet("INVITE").await;
    let called = async {
        let invite = open.find(SOON / 4, |message| message.is_request("INVITE")).await;
        if let Some(invite) = &invite {
            open.answer(invite, 200, "OK").await;
            open.request("ACK").await;
        }
        invite.is_some()
    };
    let ((answer, leg), arrived) = tokio::join!(guest.invite("sip:1002@pbx.com"), called);
    assert!(arrived, "the guest's call to somebody who allows it: {answer:?}");
    assert_eq!(answer.status(), 200, "{answer:?}");
    let leg = leg.expect("a dialog");
    tokio::join!(guest.hang_up(&leg), open.hear_bye());
}

/// A backend that is down is skipped when another one can answer; when none can: 503, never 403.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_2_trigger_a_backend_that_is_down_is_no_refusal() {
    let (down, up) =
        (Receiver::saying(500, &json!({})).await, Receiver::start(knows_everybody).await);
    let mut both = setup(&down);
    both.sections += &setup(&up).sections;
    let gate = Gate::start(&both).await;
    gate.phone("1001").await;
    assert!(down.count() > 0, "the chain begins with the first");
    let alone = Gate::start(&setup(&down)).await;
    let answer = alone.agent("6001").await.register(300).await;
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(!answer.header("Retry-After").is_empty(), "{answer:?}");
}

/// The contract lets the same question be a POST.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_2_config_method_post_sends_the_fields_in_the_body() {
    let backend = Receiver::start(knows_everybody).await;
    let mut posting = setup(&backend);
    posting.sections += "method = \"POST\"\n";
    let gate = Gate::start(&posting).await;
    gate.phone("1001").await;
    let asked = backend.nth(0).await;
    assert_eq!((asked.method.as_str(), asked.query.as_str()), ("POST", ""));
    let fields = asked.fields();
    assert_eq!((fields["u"].as_str(), fields["r"].as_str()), ("1001", "pbx.com"));
}
