//! What a browser sees on the paths of the console, and that programs see none of it.

mod stand_ins;

use axum::http::{Method, StatusCode, header};
use controlplane::store::Records;
use serde_json::json;
use shared::cdr::Cdr;
use stand_ins::asking::{Answer, Ask, Gate};
use stand_ins::{TOKEN, cdr};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).expect("a page is UTF-8")
}

fn head(answer: &Answer, name: header::HeaderName) -> &str {
    answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn assert_page(answer: &Answer, status: StatusCode) -> String {
    let page = text(answer);
    assert_eq!(answer.status, status, "{page}");
    assert_eq!(head(answer, header::CONTENT_TYPE), "text/html; charset=utf-8");
    assert!(head(answer, header::CONTENT_SECURITY_POLICY).contains("default-src 'none'"));
    assert!(page.starts_with("<!doctype html>") && !page.contains("<script"), "{page}");
    page
}

#[tokio::test]
async fn a_path_of_the_console_is_a_page_for_browsers_and_json_for_programs() {
    let gate = Gate::new("").await;
    let caller = "<img src=x onerror=alert(1)>".to_owned();
    gate.store.add_cdrs(&[Cdr { caller, ..cdr(1) }]).await.expect("it is stored");
    let path = "/console/call-records";
    let ask = |accept: &str| Ask::get(path).bearer(TOKEN).header("accept", accept);
    let page = assert_page(&gate.ask(ask(BROWSER)).await, StatusCode::OK);
    assert!(page.contains("web console is not built"), "it is honest: {page}");
    assert!(page.contains("&lt;img src=x") && !page.contains("<img"), "{page}");
    for program in ["application/json", "*/*", "application/json, text/html;q=0.9"] {
        let answer = gate.ask(ask(program)).await;
        assert_eq!(head(&answer, header::CONTENT_TYPE), "application/json", "{program}");
        assert_eq!(head(&answer, header::VARY), "accept");
    }
    // The other prefixes are for programs, whatever they accept.
    let own = Ask::get("/api/v1/call-records").bearer(TOKEN).header("accept", BROWSER);
    assert_eq!(head(&gate.ask(own).await, header::CONTENT_TYPE), "application/json");
    let other = Ask::get("/console-other").bearer(TOKEN).header("accept", BROWSER);
    assert_eq!(head(&gate.ask(other).await, header::CONTENT_TYPE), "application/problem+json");
}

#[tokio::test]
async fn a_refusal_keeps_its_status_on_the_page() {
    let gate = Gate::new("").await;
    let ask = |path: &str| Ask::get(path).bearer(TOKEN).header("accept", BROWSER);
    let page = assert_page(&gate.ask(ask("/console/call-records/7")).await, StatusCode::NOT_FOUND);
    assert!(page.contains("no_such_record"), "{page}");
    assert_page(&gate.ask(ask("/console/no-such-thing")).await, StatusCode::NOT_FOUND);
    // What is no question stays JSON: scripts send it.
    let wrong = Ask::post("/console/extensions").bearer(TOKEN).header("accept", BROWSER);
    let answer = gate.ask(wrong.json(&json!({}))).await;
    assert_eq!(head(&answer, header::CONTENT_TYPE), "application/problem+json");
}

#[tokio::test]
async fn who_is_not_logged_in_is_led_to_the_login_and_back() {
    let gate = Gate::with_users("").await;
    let path = "/console/call-records?q=49";
    let answer = gate.ask(Ask::get(path).header("accept", BROWSER)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let to = head(&answer, header::LOCATION).to_owned();
    assert_eq!(to, "/console/login?next=%2Fconsole%2Fcall-records%3Fq%3D49");
    let form =
        assert_page(&gate.ask(Ask::get(&to).header("accept", BROWSER)).await, StatusCode::OK);
    assert!(form.contains("name=\"next\" value=\"/console/call-records?q=49\""), "{form}");
    assert!(form.contains("action=\"/console/login\""), "{form}");
    let send = |password: &str| {
        let body = format!("identifier=ada&password={password}&next=%2Fconsole%2Frouting");
        Ask::post("/console/login").header("accept", BROWSER).form(&body)
    };
    let wrong = gate.ask(send("guess")).await;
    let page = assert_page(&wrong, StatusCode::UNAUTHORIZED);
    assert!(page.contains("role=\"alert\"") && !wrong.headers.contains_key("set-cookie"), "{page}");
    let right = gate.ask(send(&stand_ins::asking::PASSWORD.replace(' ', "+"))).await;
    assert_eq!(right.status, StatusCode::SEE_OTHER, "{}", text(&right));
    assert_eq!(head(&right, header::LOCATION), "/console/routing");
    let (secret, _) = right.cookie("ringgate_session");
    let there = Ask::get("/console/routing").session(&secret).header("accept", BROWSER);
    assert_page(&gate.ask(there).await, StatusCode::OK);
    let start = gate.ask(Ask::new(Method::GET, "/console").header("accept", BROWSER)).await;
    assert!(assert_page(&start, StatusCode::OK).contains("/console/calls/active"));
}
