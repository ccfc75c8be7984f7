//! `[recording]` and `[callrecord]` as archives: what is missing is said, and what is there is read.

use std::time::Duration;

use shared::config::{
    Loaded, RecordingsArchive, RecordsArchive, SecretRef, Sources, WhenFull, load,
};

fn check(text: &str) -> Loaded {
    let read_secret = |place: SecretRef<'_>| match place {
        SecretRef::File("/run/secrets/s3") => Ok("from-a-file".to_owned()),
        _ => Err("No such file or directory".to_owned()),
    };
    load(&Sources {
        file: Some(("ringgate.toml", text)),
        env: Vec::new(),
        read_secret: &read_secret,
        strict: true,
    })
}

fn lines(text: &str) -> Vec<String> {
    check(text).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_is_archived_and_nothing_removed_unless_somebody_says_so() {
    let config = check("").config.expect("defaults are valid");
    let archive = config.archive();
    assert!(archive.recordings().is_none() && archive.records().is_none());
    assert_eq!((archive.retention().keep, archive.retention().keep_bytes), (None, None));
    let disk = archive.disk();
    assert_eq!((disk.warn, disk.high, disk.full), (80, 90, 95));
    assert_eq!(disk.when_full, WhenFull::Continue);
}

#[test]
fn a_bucket_is_read_with_its_secrets_and_shows_none() {
    let text = r#"[recording]
type = "s3"
bucket = "recordings"
endpoint = "http://127.0.0.1:9000"
access_key = "AK"
secret_key = "file:/run/secrets/s3"
root = "/pbx/a/"
keep_days = 90
keep_bytes = 1000
on_disk_full = "reject"

[callrecord]
type = "s3"
bucket = "cdr"
region = "eu-central-1"
access_key = "AK"
secret_key = "sk"
"#;
    assert_eq!(lines(text), [""; 0]);
    let config = check(text).config.expect("it is valid");
    let archive = config.archive();
    let Some(RecordingsArchive::S3(bucket)) = archive.recordings() else { panic!("{archive:?}") };
    assert_eq!((bucket.root.as_str(), bucket.region.as_str()), ("pbx/a", "us-east-1"));
    assert_eq!(bucket.secret_key, "from-a-file");
    assert!(bucket.path_style, "a server of one's own has no name per bucket");
    let Some(RecordsArchive::S3(cdr)) = archive.records() else { panic!("{archive:?}") };
    assert!(!cdr.path_style && cdr.endpoint.is_none());
    assert_eq!(archive.retention().keep, Some(Duration::from_hours(90 * 24)));
    assert_eq!(archive.retention().keep_bytes, Some(1_000));
    assert_eq!(archive.disk().when_full, WhenFull::Reject);
    assert!(!format!("{archive:?}").contains("from-a-file"));
}

#[test]
fn what_a_bucket_lacks_is_said_in_one_pass() {
    let text = r#"[recording]
type = "s3"
bucket = "a/b"
secret_key = "file:/nowhere"
disk_warn_percent = 96

[callrecord]
type = "s3"
bucket = "cdr"
access_key = ""
secret_key = "sk"
root = "a/../b"
"#;
    let found = lines(text);
    for line in [
        "recording.access_key: is missing: type = \"s3\" needs access_key",
        "recording.bucket: is not the name of a bucket",
        "recording.secret_key: file:/nowhere cannot be read",
        "recording.disk_full_percent: the three levels must rise: 96 (warn), 90 (high), 95 (full)",
        "callrecord.access_key: is empty",
        "callrecord.root: must not have",
    ] {
        assert!(found.iter().any(|found| found.contains(line)), "{line} is not in {found:#?}");
    }
    assert!(check(text).config.is_none());
}

#[test]
fn what_is_not_built_is_named_and_recordings_stay_local() {
    let text = "[recording]\ntype = \"sipflow\"\n";
    let found = lines(text);
    let line = "upload by \"sipflow\" is not built yet: recordings stay local";
    assert!(found.iter().any(|found| found.contains(line)), "{found:#?}");
    let config = check(text).config.expect("a warning refuses nothing");
    assert!(config.archive().recordings().is_none());
}

#[test]
fn a_program_that_takes_recordings_has_a_url_and_may_lie_in_our_own_network() {
    let text = r#"[recording]
type = "http"
url = "http://10.0.0.7/upload"
timeout_ms = 90000
[recording.headers]
X-Key = "file:/run/secrets/s3"
"#;
    assert_eq!(lines(text), [""; 0]);
    let config = check(text).config.expect("it is valid");
    let Some(RecordingsArchive::Http(target)) = config.archive().recordings() else {
        panic!("{:?}", config.archive())
    };
    assert_eq!(target.timeout, Duration::from_secs(90));
    assert_eq!(target.headers[0].value, "from-a-file");
    let named: Vec<String> = config.named_urls().map(ToString::to_string).collect();
    assert_eq!(named, ["http://10.0.0.7/upload"]);
    assert!(!format!("{:?}", config.archive()).contains("from-a-file"));
    for (wrong, line) in [
        ("type = \"http\"", "recording.url: is missing"),
        ("type = \"http\"\nurl = \"upload.example\"", "recording.url: is not a URL"),
        ("url = \"https://upload.example/\"", "recording.url: is used with type = \"http\" only"),
    ] {
        let found = lines(&format!("[recording]\n{wrong}\n"));
        assert!(found.iter().any(|found| found.contains(line)), "{found:#?}");
    }
}

#[test]
fn messages_of_calls_are_kept_within_bounds_unless_somebody_says_otherwise() {
    let config = check("data_dir = \"/srv/gate\"").config.expect("it is valid");
    let kept = config.messages().expect("on by default");
    assert_eq!(kept.folder, std::path::Path::new("/srv/gate/sipflow"));
    assert_eq!((kept.bytes_max, kept.ttl), (1 << 30, Duration::from_secs(7 * 86_400)));
    let text = "[sipflow]\nroot = \"/flow\"\nmax_size_mb = 64\nttl_secs = 3600\n";
    let config = check(text).config.expect("it is valid");
    let kept = config.messages().expect("on by default");
    assert_eq!((kept.folder.to_str(), kept.bytes_max), (Some("/flow"), 64 << 20));
    let config = check("[sipflow]\nenabled = false\n").config.expect("it is valid");
    assert_eq!(config.messages(), None);
}

#[test]
fn what_the_original_could_do_with_messages_and_we_cannot_is_said() {
    let text = "[sipflow]\ntype = \"remote\"\nengine = \"flowdb\"\nmax_size_mb = 8\nroot = \"\"\n\
                [[sipflow.nodes]]\nudp = \"192.0.2.1:3000\"\n";
    let lines = lines(text);
    for expected in [
        "ringgate.toml:2: warning: sipflow.type: collectors are not built yet",
        "ringgate.toml:3: note: sipflow.engine: accepted, not used yet",
        "ringgate.toml:4: error: sipflow.max_size_mb",
        "ringgate.toml:5: error: sipflow.root: is not a path",
        "warning: sipflow.nodes: accepted, not used yet",
    ] {
        assert!(lines.iter().any(|line| line.contains(expected)), "{expected}: {lines:#?}");
    }
}
