//! Golden outputs of the configuration checks: what an operator reads, word for word.

use shared::config::{Backend, Loaded, SecretRef, Sources, load};
use shared::event::RegistrationChange;
use shared::settings::{SessionTimerMode, SessionTimers};
use shared::snapshot::Secret;

fn read_secret(place: SecretRef<'_>) -> Result<String, String> {
    match place {
        SecretRef::File("/run/secrets/1001") => Ok("from-a-file\n".to_owned()),
        SecretRef::Env("PASSWORD_1002") => Ok("from-the-environment".to_owned()),
        SecretRef::File(_) => Err("No such file or directory".to_owned()),
        SecretRef::Env(_) => Err("the variable is not set".to_owned()),
    }
}

fn check(text: &str, env: &[(&str, &str)], strict: bool) -> Loaded {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(&Sources { file: Some(("ringgate.toml", text)), env, read_secret: &read_secret, strict })
}

fn lines(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().map(ToString::to_string).collect()
}

fn assert_problems(text: &str, expected: &[&str]) {
    let loaded = check(text, &[], false);
    assert_eq!(lines(&loaded), expected);
    let refused = expected.iter().any(|line| line.contains(": error: "));
    assert_eq!(loaded.config.is_none(), refused, "an error and no other problem refuses");
}

#[test]
fn nothing_written_is_a_valid_configuration() {
    let sources = Sources { file: None, env: Vec::new(), read_secret: &read_secret, strict: true };
    let loaded = load(&sources);
    assert_eq!(lines(&loaded), [""; 0]);
    let config = loaded.config.expect("defaults are valid");
    assert_eq!(config.http().addr().to_string(), "127.0.0.1:8080");
    assert_eq!(config.sip().udp_ports(), [5060]);
    assert_eq!(config.sip().tcp_port(), Some(5060));
    assert!(config.sip().call_auth(), "calls need a password unless somebody says otherwise");
    assert_eq!((config.rtp_ports().first, config.rtp_ports().last), (12_000, 42_000));
    assert!(config.files().recording().is_none());
}

#[test]
fn all_problems_come_in_one_pass_with_line_and_suggestion() {
    assert_problems(
        r#"http_addr = "0.0.0.0:8080"
rtp_start_port = 12001
log_levle = "debug"
udp_port = 5070

[proxy]
addr = "any"
udp_prot = 5060
tcp_port = "5060"
media_proxy = "bypass"
realms = "pbx.example"
registrar_expires = 9999
max_registrar_expires = 3600
modules = ["auth", "regitsrar", "call", "presence"]
t1_timer = 5

[dataplane]
cores = "3-1"
fast_path = "ebpf"
media_lock = "strikt"

[ami]
allows = ["127.0.0.1", "10.0.0.0/40"]
"#,
        &[
            "ringgate.toml:1: warning: http_addr: 0.0.0.0:8080 is plain HTTP on the network: \
             passwords and tokens can be read there; put a TLS proxy before it and set \
             console.secure_cookie = true",
            "ringgate.toml:2: warning: rtp_start_port: 12001 is odd: RTP takes even ports, so \
             12002 is used",
            "ringgate.toml:3: warning: log_levle: unknown key; did you mean \"log_level\"?",
            "ringgate.toml:4: warning: udp_port: unknown key; did you mean \"proxy.udp_port\"?",
            "ringgate.toml:7: error: proxy.addr: \"any\" is not an IP address; write \"0.0.0.0\", \
             or leave it out for every address",
            "ringgate.toml:8: warning: proxy.udp_prot: unknown key; did you mean \"udp_port\"?",
            "ringgate.toml:9: error: proxy.tcp_port: must be a whole number, not text; write 5060 \
             without quotes",
            "ringgate.toml:11: error: proxy.realms: must be a list of texts, not text; write \
             [\"pbx.example\"]",
            "ringgate.toml:12: error: proxy.registrar_expires: 9999 s is more than \
             max_registrar_expires, 3600 s",
            "ringgate.toml:14: warning: proxy.modules: there is no module \"regitsrar\": did you \
             mean \"registrar\"?",
            "ringgate.toml:14: warning: proxy.modules: module \"presence\" is accepted, not used yet",
            "ringgate.toml:14: warning: proxy.modules: \"registrar\" cannot be switched off yet: \
             it is served",
            "ringgate.toml:15: error: proxy.t1_timer: must be 100 to 10000, not 5",
            "ringgate.toml:18: error: dataplane.cores: \"3-1\" runs backwards; write \"auto\" or \
             a CPU list such as \"2-7\" or \"1,3,5\"",
            "ringgate.toml:19: error: dataplane.fast_path: the eBPF road is not built yet; use \
             \"auto\": it takes the fastest road that is there",
            "ringgate.toml:20: error: dataplane.media_lock: must be one of \"strict\", \
             \"relearn\", \"off\", not \"strikt\"; did you mean \"strict\"?",
            "ringgate.toml:23: error: ami.allows[1]: \"10.0.0.0/40\" is neither an address nor a \
             network; write \"10.0.0.5\", \"10.0.0.0/8\" or \"*\"",
        ],
    );
}

#[test]
fn strict_makes_unknown_keys_errors_and_nothing_else() {
    let text = "[proxy]\nudp_prot = 5060\ntrusted_proxies = [\"x\"]\nhold_music = \"x.wav\"\n";
    let expected = |word: &str| {
        vec![
            format!(
                "ringgate.toml:2: {word}: proxy.udp_prot: unknown key; did you mean \"udp_port\"?"
            ),
            "ringgate.toml:3: warning: proxy.trusted_proxies: accepted, not used yet: what it asks \
             for does not happen"
                .to_owned(),
            "ringgate.toml:4: note: proxy.hold_music: accepted, not used yet".to_owned(),
        ]
    };
    let (lax, strict) = (check(text, &[], false), check(text, &[], true));
    assert_eq!(lines(&lax), expected("warning"));
    assert_eq!(lines(&strict), expected("error"));
    assert!(lax.config.is_some());
    assert!(strict.config.is_none());
}

#[test]
fn users_are_checked_one_by_one() {
    assert_problems(
        r#"[proxy]
realms = ["pbx.example"]
[[proxy.user_backends]]
type = "memory"
users = [
  { username = "1001", password = "secret-1001" },
  { username = "1001", password = "secret-again" },
  { password = "secret-nameless" },
  { username = "a@b", password = "secret-at" },
  { username = "1003" },
  { username = "1004", password = "" },
  { username = "1005", ha1 = "secret-short" },
  { username = "1006", password = "secret-both", ha1 = "00112233445566778899aabbccddeeff" },
  { username = "1007", ha1 = "00112233445566778899aabbccddeeff", realm = "other.example" },
  { username = "1008", password = 12345 },
]
[[proxy.user_backends]]
type = "http"
url = "https://auth.example/"
[[proxy.user_backends]]
users = []
[[proxy.user_backends]]
type = "database"
url = "mysql://root:secret-url@db/users"
"#,
        &[
            "ringgate.toml:7: error: proxy.user_backends[0].users[1].username: \"1001\" is there \
             twice",
            "ringgate.toml:8: error: proxy.user_backends[0].users[2]: has no username",
            "ringgate.toml:9: error: proxy.user_backends[0].users[3].username: '@' cannot be part \
             of a SIP user name; write the part before the @ only",
            "ringgate.toml:10: error: proxy.user_backends[0].users[4]: has no secret; write \
             password = \"...\" or ha1 = \"...\"",
            "ringgate.toml:11: error: proxy.user_backends[0].users[5].password: is empty: \
             registration needs a password",
            "ringgate.toml:12: error: proxy.user_backends[0].users[6].ha1: must be 32 hex digits",
            "ringgate.toml:13: error: proxy.user_backends[0].users[7]: has a password and an ha1; \
             keep one of them",
            "ringgate.toml:14: error: proxy.user_backends[0].users[8]: its ha1 is made for realm \
             \"other.example\", but our challenges carry \"pbx.example\"; put \"other.example\" \
             first in proxy.realms",
            "ringgate.toml:15: error: proxy.user_backends[0].users[9]: has no secret; write \
             password = \"...\" or ha1 = \"...\"",
            "ringgate.toml:15: error: proxy.user_backends[0].users[9].password: must be text in \
             quotes, not a whole number",
            "ringgate.toml:20: error: proxy.user_backends[2]: has no type; write type = \
             \"memory\" or type = \"extension\"",
            "ringgate.toml:24: error: proxy.user_backends[3].url: mysql is not supported; write \
             \"sqlite://FILE\" or \"postgres://USER@HOST/NAME\"",
        ],
    );
}

#[test]
fn trunks_are_checked_one_by_one() {
    assert_problems(
        r#"[proxy.trunks.good]
dest = "sip:carrier.example:5060"
inbound_hosts = ["192.0.2.7", "192.0.2.8:5062"]
max_calls = 30
[proxy.trunks.empty]
[proxy.trunks.secure]
dest = "sips:carrier.example"
[proxy.trunks.network]
dest = "sip:192.0.2.1"
inbound_hosts = ["192.0.2.0/24", "192.0.2.0/40"]
policy = {}
direction = "outbund"
[proxy.trunks.user]
dest = "sip:me@carrier.example"
"#,
        &[
            "ringgate.toml:5: error: proxy.trunks.empty: has no dest; write dest = \
             \"sip:HOST:PORT\"",
            "ringgate.toml:10: error: proxy.trunks.network.inbound_hosts[1]: \"192.0.2.0/40\" is \
             not a network",
            "ringgate.toml:11: warning: proxy.trunks.network.policy: accepted, not used yet: \
             what it asks for does not happen",
            "ringgate.toml:12: error: proxy.trunks.network.direction: must be one of \"inbound\", \
             \"outbound\", \"bidirectional\", not \"outbund\"; did you mean \"outbound\"?",
            "ringgate.toml:14: error: proxy.trunks.user.dest: must not have a user part: the \
             called number goes there; write \"sip:HOST:PORT\"",
        ],
    );
}

#[test]
fn a_trunks_account_has_a_name_and_a_password() {
    let text = "[proxy.trunks.a]\ndest = \"sip:192.0.2.1\"\nusername = \"4930\"\n\
                password = \"env:PASSWORD_1002\"\nauth_username = \"a4930\"\n\
                realm = \"carrier.example\"\nregister_enabled = true\n\
                register_expires = 600\n\
                register_extra_headers = { X-Site = \"env:PASSWORD_1002\" }\n";
    let loaded = check(text, &[], true);
    assert_eq!(lines(&loaded), [""; 0]);
    let shown = format!("{:?}", loaded.effective);
    let config = loaded.config.expect("it is valid");
    let account = config.trunks()[0].account.as_ref().expect("it has one");
    assert_eq!((&*account.username, &*account.auth_username), ("4930", "a4930"));
    assert_eq!(account.password.expose(), "from-the-environment");
    assert_eq!(account.realm.as_deref(), Some("carrier.example"));
    let registers = account.registers.as_ref().expect("it registers");
    assert_eq!((registers.expires.as_secs(), registers.headers[0].name()), (600, "X-Site"));
    assert_eq!(registers.headers[0].value(), "from-the-environment");
    assert!(!format!("{config:?}{shown}").contains("from-the-environment"));
    assert_problems(
        "[proxy.trunks.a]\ndest = \"sip:192.0.2.1\"\npassword = \"hush\"\n\
         [proxy.trunks.b]\ndest = \"sip:192.0.2.2\"\nusername = \"4930\"\n\
         [proxy.trunks.c]\ndest = \"sip:192.0.2.3\"\nusername = \"4930\"\n\
         password = \"file:/nowhere\"\n\
         [proxy.trunks.d]\ndest = \"sip:192.0.2.4\"\nusername = \"4930\"\n\
         register_enabled = true\n\
         [proxy.trunks.e]\ndest = \"sip:192.0.2.5\"\nusername = \"4930\"\n\
         password = \"x\"\nregister_expires = 5\nregister_extra_headers = { Via = \"x\" }\n",
        &[
            "ringgate.toml:1: error: proxy.trunks.a: has no username; write username = \"...\"",
            "ringgate.toml:6: warning: proxy.trunks.b.username: is not used without a password; \
             write password = \"...\"",
            "ringgate.toml:10: error: proxy.trunks.c.password: file:/nowhere cannot be read: No \
             such file or directory",
            "ringgate.toml:13: error: proxy.trunks.d.username: registers without a password; write \
             password = \"...\"",
            "ringgate.toml:19: error: proxy.trunks.e.register_expires: must be 10 to 604800, not 5",
            "ringgate.toml:20: error: proxy.trunks.e.register_extra_headers.Via: the gateway writes \
             this header itself",
        ],
    );
}

#[test]
fn a_trunk_names_where_else_it_is_and_what_passes_a_call_on() {
    let text = "[proxy.trunks.a]\ndest = \"sip:192.0.2.1\"\nbackup_dest = \
                \"sip:192.0.2.2:5070;transport=tcp\"\nfailover_codes = [\"404\", \"500-503\"]\n\
                setup_timeout_ms = 2000\nhealth_check_enabled = true\n\
                health_check_interval_secs = 10\nhealth_check_probe_count = 4\n";
    let loaded = check(text, &[], true);
    assert_eq!(lines(&loaded), [""; 0]);
    let config = loaded.config.expect("it is valid");
    let trunk = &config.trunks()[0];
    let backup = trunk.backup.as_ref().map(|(host, by)| (host.to_string(), *by));
    assert_eq!(backup, Some(("192.0.2.2:5070".to_owned(), Some(shared::net::Transport::Tcp))));
    assert_eq!(trunk.failover.setup, std::time::Duration::from_secs(2));
    assert_eq!(trunk.failover.codes.texts(), ["404", "500-503"]);
    let checks = trunk.health.expect("they are on");
    assert_eq!((checks.interval.as_secs(), checks.failures, checks.successes), (10, 4, 2));
    assert_problems(
        "[proxy.trunks.a]\ndest = \"sip:192.0.2.1\"\nbackup_dest = \"sip:me@192.0.2.2\"\n\
         failover_codes = [\"503\", \"5xx\"]\n",
        &[
            "ringgate.toml:3: error: proxy.trunks.a.backup_dest: must not have a user part: the \
             called number goes there; write \"sip:HOST:PORT\"",
            "ringgate.toml:4: error: proxy.trunks.a.failover_codes[1]: \"5xx\" is no status from \
             400 to 599 or range; write \"503\" or \"500-599\"",
        ],
    );
}

#[test]
fn tls_needs_its_files_and_a_port_of_its_own() {
    assert_problems(
        "[proxy]\ntls_port = 5060\nssl_certificate = \"pbx.pem\"\n",
        &[
            "ringgate.toml:2: error: proxy.tls_port: 5060 is proxy.tcp_port: each needs a port of \
             its own",
            "ringgate.toml:2: error: proxy.tls_port: TLS needs the certificate's private key; \
             write proxy.ssl_private_key = \"FILE\", or tls_port = 0",
        ],
    );
    assert_problems("[proxy]\ntls_port = 0\n", &[]);
}

#[test]
fn websockets_need_ports_of_their_own_a_path_and_the_files_of_tls() {
    assert_problems(
        "[proxy]\nws_port = 5060\nwss_port = 8443\nws_handler = \"ws?x\"\n\
         ssl_private_key = \"pbx.key\"\n",
        &[
            "ringgate.toml:2: error: proxy.ws_port: 5060 is proxy.tcp_port: each needs a port of \
             its own",
            "ringgate.toml:3: error: proxy.wss_port: TLS needs a certificate; \
             write proxy.ssl_certificate = \"FILE\", or wss_port = 0",
            "ringgate.toml:4: error: proxy.ws_handler: \"ws?x\" is no path that a client could ask \
             for; write \"/ws\"",
        ],
    );
    assert_problems(
        "[proxy]\nws_handler = \"/sip\"\n",
        &["ringgate.toml:2: warning: proxy.ws_handler: the path is served on proxy.ws_port and \
           proxy.wss_port: set one of them"],
    );
    let text = "ssl_certificate = \"web.pem\"\nssl_private_key = \"web.key\"\n[proxy]\n\
                ws_port = 8088\nwss_port = 8443\n";
    let config = check(text, &[], true).config.expect("nothing is wrong");
    let web = config.web();
    let found = (web.ws_port, web.wss_port, web.path.as_str());
    assert_eq!(found, (Some(8_088), Some(8_443), "/ws"));
    let files = config.tls_files().expect("WSS needs them");
    assert_eq!(files.certificate.display().to_string(), "web.pem");
    assert!(config.tls().is_none(), "no SIP over plain TLS");
}

#[test]
fn tokens_without_known_scopes_are_named() {
    assert_problems(
        r#"http_addr = "192.0.2.1:8080"
[console]
secure_cookie = true
api_tokens = [
  { token = "0123456789abcdef", scopes = ["cdr:read", "ami"] },
  { token = "abc", scopes = ["cdr:raed", "everything"] },
  { token = "env:NO", scopes = ["ami"] },
  { scopes = ["ami"] },
  { token = "fedcba9876543210" },
]
"#,
        &[
            "ringgate.toml:6: warning: console.api_tokens[1].scopes[0]: there is no scope \
             \"cdr:raed\": it gives nothing; did you mean \"cdr:read\"?",
            "ringgate.toml:6: warning: console.api_tokens[1].scopes[1]: there is no scope \
             \"everything\": it gives nothing; the scopes are: ami, calls:control, calls:read, \
             cdr:read, config:read, config:write, recordings:read, system:admin, system:read, \
             webhooks:write",
            "ringgate.toml:6: warning: console.api_tokens[1].token: has less than 16 characters: \
             it can be guessed; make one with: openssl rand -hex 32",
            "ringgate.toml:7: error: console.api_tokens[2].token: env:NO cannot be read: the \
             variable is not set",
            "ringgate.toml:8: error: console.api_tokens[3]: has no token; write token = \"...\"",
            "ringgate.toml:9: warning: console.api_tokens[4]: has no scopes and may do nothing: \
             scopes are enforced here; give it the ones that it needs of: ami, calls:control, \
             calls:read, cdr:read, config:read, config:write, recordings:read, system:admin, \
             system:read, webhooks:write",
        ],
    );
}

#[test]
fn tokens_are_not_shown() {
    let text = "[console]\napi_tokens = [{ token = \"hunter2-hunter2-hunter2\", scopes = \
                [\"ami\"] }]\n[metrics]\ntoken = \"hunter2\"\n";
    let loaded = check(text, &[], true);
    assert_eq!(lines(&loaded), [""; 0]);
    let config = loaded.config.expect("it is valid");
    assert_eq!(config.http().api_tokens()[0].expose(), "hunter2-hunter2-hunter2");
    assert_eq!(config.http().api_tokens()[0].scopes(), ["ami"]);
    assert_eq!(config.http().metrics_token().map(|token| token.expose()), Some("hunter2"));
    let debug = format!("{config:?} {:?}", loaded.effective);
    assert!(!debug.contains("hunter2"), "{debug}");
}

#[test]
fn syntax_errors_keep_the_rest_checked() {
    assert_problems(
        "log_level = \nhttp_addr = \"0.0.0.0\"\n[proxy]\nudp_port = 99999\n",
        &[
            "ringgate.toml:1: error: not TOML: string values must be quoted, expected literal \
             string",
            "ringgate.toml:2: error: http_addr: \"0.0.0.0\" is not an address and port; write \
             \"127.0.0.1:8080\"",
            "ringgate.toml:4: error: proxy.udp_port: must be 0 to 65535, not 99999",
        ],
    );
}

#[test]
fn the_environment_wins_over_the_file_and_is_named_in_problems() {
    let text = "[proxy]\nudp_port = 5060\n[proxy.trunks.Carrier]\ndest = \"sip:192.0.2.1\"\n";
    let env = [
        ("RINGGATE__PROXY__UDP_PORT", "5080"),
        ("RINGGATE__PROXY__REALMS", "pbx.example, other.example"),
        ("RINGGATE__PROXY__TRUNKS__CARRIER__MAX_CALLS", "7"),
        ("RINGGATE__PROXY__USER_BACKENDS__0__TYPE", "memory"),
        ("RINGGATE__PROXY__USER_BACKENDS__0__USERS", "[{ username = \"7\", password = \"p\" }]"),
        ("RINGGATE__RECORDING__ENABLED", "true"),
        ("HOME", "/somewhere"),
    ];
    let loaded = check(text, &env, true);
    assert_eq!(lines(&loaded), [""; 0]);
    let config = loaded.config.expect("it is valid");
    assert_eq!(config.sip().udp_ports(), [5080]);
    assert_eq!(config.sip().realm(), "pbx.example");
    assert_eq!(config.trunks()[0].name, "Carrier");
    assert_eq!(config.trunks()[0].max_calls, Some(7));
    assert!(config.files().recording().is_some());

    let env = [
        ("RINGGATE__PROXY__UDP_PORT", "many"),
        ("RINGGATE__PROXY__UDP_PROT", "5080"),
        ("RINGGATE__PROXY____X", "1"),
        ("RINGGATE__PROXY__USER_BACKENDS__3__TYPE", "memory"),
        ("RINGGATE__HTTP_ADDR__PORT", "80"),
    ];
    let loaded = check("http_addr = \"127.0.0.1:1\"\n", &env, false);
    assert_eq!(
        lines(&loaded),
        [
            "env RINGGATE__PROXY____X: error: the name has an empty part; write \
             RINGGATE__SECTION__KEY",
            "env RINGGATE__HTTP_ADDR__PORT: error: http_addr.port: \"port\" lies below a value \
             that is text",
            "env RINGGATE__PROXY__UDP_PORT: error: proxy.udp_port: must be a whole number, not \
             text",
            "env RINGGATE__PROXY__UDP_PROT: warning: proxy.udp_prot: unknown key; did you mean \
             \"udp_port\"?",
            "env RINGGATE__PROXY__USER_BACKENDS__3__TYPE: error: proxy.user_backends.3.type: \
             place 3 leaves a gap: the list has 0 entries",
        ]
    );
}

#[test]
fn secrets_are_read_by_reference_and_never_shown() {
    let text = r#"[[proxy.user_backends]]
type = "memory"
users = [
  { username = "1001", password = "file:/run/secrets/1001" },
  { username = "1002", password = "env:PASSWORD_1002" },
  { username = "1003", password = "hunter2-plain" },
  { username = "1004", ha1_sha256 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" },
]
"#;
    let loaded = check(text, &[], false);
    let config = loaded.config.expect("it is valid");
    let debug = format!("{config:?} {:?}", loaded.effective);
    for secret in ["from-a-file", "from-the-environment", "hunter2", "00112233"] {
        assert!(!debug.contains(secret), "{secret} is shown");
    }
    let Backend::Memory(users) = &config.backends()[0] else {
        panic!("the memory backend comes first")
    };
    let plain = |text: &str| Secret::Plain(text.into());
    assert_eq!(users[0].secret, plain("from-a-file"));
    assert_eq!(users[1].secret, plain("from-the-environment"));

    let missing = "[[proxy.user_backends]]\ntype = \"memory\"\nusers = [{ username = \"1\", \
                   password = \"file:/nowhere\" }, { username = \"2\", password = \"env:NO\" }]\n";
    let loaded = check(missing, &[], false);
    assert_eq!(
        lines(&loaded),
        [
            "ringgate.toml:3: error: proxy.user_backends[0].users[0].password: file:/nowhere \
             cannot be read: No such file or directory",
            "ringgate.toml:3: error: proxy.user_backends[0].users[1].password: env:NO cannot be \
             read: the variable is not set",
        ]
    );
}

#[test]
fn effective_values_name_their_origin() {
    let text = "data_dir = \"/srv/gate\"\n[proxy]\nudp_port = 5070\n[[proxy.user_backends]]\n\
                type = \"memory\"\nusers = [{ username = \"1\", password = \"hunter2\" }, \
                { username = \"2\", password = \"env:PASSWORD_1002\" }]\n";
    let loaded = check(text, &[("RINGGATE__LOG_LEVEL", "debug")], false);
    let rows: Vec<String> = loaded
        .effective
        .rows()
        .iter()
        .map(|row| format!("{} = {}  # {}", row.key, row.value, row.origin))
        .collect();
    for expected in [
        "data_dir = \"/srv/gate\"  # ringgate.toml:1",
        "database_url = \"sqlite:///srv/gate/ringgate.sqlite3\"  # default",
        "log_level = \"debug\"  # env RINGGATE__LOG_LEVEL",
        "proxy.tcp_port = 5060  # default",
        "proxy.udp_port = 5070  # ringgate.toml:3",
        "proxy.user_backends[0].users[0].password = \"***\"  # ringgate.toml:6",
        "proxy.user_backends[0].users[1].password = \"env:PASSWORD_1002\"  # ringgate.toml:6",
    ] {
        assert!(rows.contains(&expected.to_owned()), "{expected} is not in {rows:#?}");
    }
}

#[test]
fn a_changed_listener_needs_a_restart_and_a_changed_user_does_not() {
    let before = "[proxy]\nudp_port = 5070\n";
    let after = "[proxy]\nudp_port = 5080\n[[proxy.user_backends]]\ntype = \"memory\"\nusers = \
                 [{ username = \"1\", password = \"p\" }]\n[ami]\nallows = [\"*\"]\n";
    let (before, after) = (check(before, &[], false), check(after, &[], false));
    assert_eq!(after.effective.needs_restart(&before.effective), ["proxy.udp_port"]);
}

/// What a file of the original looks like, section by section; only HTTP has moved to loopback.
const ORIGINAL: &str = r#"
http_addr = "127.0.0.1:8080"
log_level = "info"
log_file = "logs/pbx.log"
external_ip = "203.0.113.10"
rtp_start_port = 20000
rtp_end_port = 30000
database_url = "sqlite://pbx.sqlite3"
stats_log = true

[console]
session_secret = "please-change"
base_path = "/console"
allow_registration = false
api_tokens = [{ token = "abc", scopes = ["cdr:read"] }]

[ami]
allows = ["127.0.0.1", "10.0.0.0/8"]

[callrecord]
type = "http"
url = "https://billing.example/cdr"
with_media = true

[recording]
enabled = true
auto_start = true
type = "local"
path = "recorders"

[proxy]
addr = "0.0.0.0"
modules = ["acl", "auth", "registrar", "call", "presence"]
udp_port = 5060
tcp_port = 5060
ws_handler = "/ws"
registrar_expires = 60
max_registrar_expires = 300
useragent = "PBX"
realms = ["pbx.example", "*"]
media_proxy = "auto"
acl_rules = ["allow all"]
session_timer = true
enable_latching = true
ua_black_list = ["friendly-scanner"]
trusted_proxies = ["10.0.0.0/8"]

[proxy.http_router]
url = "https://router.example/route"
fallback_to_static = true
headers = { X-API-Key = "k" }

[proxy.locator_webhook]
url = "https://events.example/"
events = ["registered"]

[[proxy.user_backends]]
type = "memory"
users = [
  { username = "1001", password = "secret", departments = ["sales"], email = "a@b.example" },
]

[[proxy.user_backends]]
type = "extension"
ttl = 60

[proxy.trunks.carrier]
dest = "sip:198.51.100.1:5060"
username = "me"
password = "secret"
codec = ["pcmu"]
inbound_hosts = ["198.51.100.2"]
register_enabled = true
health_check_interval_secs = 30

[[proxy.routes]]
name = "out"
[proxy.routes.match]
"to.user" = "^00"
"#;

#[test]
fn a_file_of_the_original_loads_and_names_what_it_does_not_get() {
    let loaded = check(ORIGINAL, &[], true);
    let lines = lines(&loaded);
    assert!(loaded.config.is_some(), "{lines:#?}");
    let line = "warning: proxy.trusted_proxies: accepted, not used yet: what it asks for does not";
    assert!(lines.iter().any(|found| found.contains(line)), "{lines:#?}");
    let config = loaded.config.expect("it is valid");
    assert_eq!(config.routes()[0].route.conditions.len(), 1);
    let router = config.http_router().expect("it is written");
    assert!(router.fallback_to_static);
    assert_eq!((router.target.timeout.as_secs(), router.target.headers.len()), (5, 1));
    let push = config.call_record_push().expect("type http is written");
    assert!(push.with_media);
    assert_eq!(config.named_urls().count(), 3);
    assert_eq!(config.sip().realms(), ["pbx.example"]);
    assert_eq!(config.sip().registrar().expires_min_s, 60);
    assert_eq!(config.sip().addr().map(|ip| ip.to_string()), Some("0.0.0.0".to_owned()));
    assert_eq!(config.acl().0.len(), 1);
    assert_eq!(config.edge().agents_refused, ["friendly-scanner".into()]);
    let timers = SessionTimers { mode: SessionTimerMode::Supported, expires_s: 600 };
    assert_eq!(config.sip().timers().session, timers);
}

#[test]
fn session_timers_have_two_switches_and_a_least_interval() {
    let read = |text: &str| {
        let loaded = check(&format!("[proxy]\n{text}"), &[], true);
        let warnings = lines(&loaded);
        (loaded.config.expect("it is valid").sip().timers().session, warnings)
    };
    let (timers, warnings) = read("session_expires = 1800");
    assert_eq!(timers, SessionTimers { mode: SessionTimerMode::Off, expires_s: 1_800 });
    assert!(warnings.iter().all(|line| !line.contains("session")), "{warnings:?}");
    let (timers, warnings) = read("session_timer_always = true\nsession_expires = 60");
    assert_eq!(timers, SessionTimers { mode: SessionTimerMode::Always, expires_s: 90 });
    let line = "warning: proxy.session_expires: RFC 4028 allows nothing below 90 s: that is used";
    assert!(warnings.iter().any(|found| found.contains(line)), "{warnings:?}");
}

#[test]
fn webhook_secrets_and_targets_are_checked_and_never_shown() {
    let wrong = r#"[webhooks]
secret = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_tooshort", "hunter2", "env:MISSING"]

[proxy.locator_webhook]
url = "ftp://events.example/"
events = ["registered", "gone"]
headers = { "Content-Length" = "3", "X Y" = "z", X-Key = "file:/run/secrets/1001" }
timeout_ms = 10
"#;
    let mut errors = lines(&check(wrong, &[], false));
    errors.retain(|line| line.contains(": error: "));
    assert_eq!(
        errors,
        [
            "ringgate.toml:2: error: webhooks.secret[1]: holds 6 bytes; a key has 24 to 64; make one \
             with: echo whsec_$(openssl rand -base64 32)",
            "ringgate.toml:2: error: webhooks.secret[2]: must start with \"whsec_\"; make one with: \
             echo whsec_$(openssl rand -base64 32)",
            "ringgate.toml:2: error: webhooks.secret[3]: env:MISSING cannot be read: the variable is \
             not set",
            "ringgate.toml:5: error: proxy.locator_webhook.url: must start with http:// or https://, \
             not ftp:",
            "ringgate.toml:6: error: proxy.locator_webhook.events[1]: \"gone\" is not an event; write \
             \"registered\", \"unregistered\" or \"offline\"",
            "ringgate.toml:7: error: proxy.locator_webhook.headers.Content-Length: is a header that \
             the gateway writes itself",
            "ringgate.toml:7: error: proxy.locator_webhook.headers.X Y: is not a header name",
            "ringgate.toml:8: error: proxy.locator_webhook.timeout_ms: must be 1000 to 60000, not 10",
        ]
    );
    let text = "[webhooks]\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n\
                [proxy.locator_webhook]\nurl = \"http://10.0.0.9:81/x\"\nevents = [\"offline\"]\n\
                headers = { X-Key = \"env:PASSWORD_1002\" }\n";
    let config = check(text, &[], false).config.expect("it is valid");
    assert_eq!(config.webhooks().keys().len(), 1);
    let hook = config.locator_webhook().expect("it is written");
    assert_eq!(hook.events(), [RegistrationChange::Offline]);
    assert_eq!(hook.target.headers[0].value, "from-the-environment");
    assert_eq!(config.named_urls().count(), 1);
    let shown = format!("{config:?}");
    for secret in ["MfKQ9r8", "from-the-environment", "/x"] {
        assert!(!shown.contains(secret), "{secret} shows");
    }
    let wrong_kind = check("[webhooks]\nsecret = 7\n", &[], false);
    assert_eq!(
        lines(&wrong_kind),
        [
            "ringgate.toml:2: error: webhooks.secret: must be text in quotes or a list of texts, not a \
          whole number"
        ]
    );
}

#[test]
fn programs_that_decide_are_checked_one_by_one() {
    assert_problems(
        r#"[proxy.http_router]
timeout_ms = 10
fallback = true
headers = { Host = "x" }
[[proxy.user_backends]]
type = "http"
url = "http://auth.example/"
method = "PUT"
http_retry_count = 99
[[proxy.user_backends]]
type = "database"
url = "sqlite:///srv/users.db"
table_name = "users; drop"
password_column = "pass word"
[[proxy.user_backends]]
type = "extension"
database_url = "oracle://x"
[[proxy.user_backends]]
type = "plain"
[[proxy.user_backends]]
type = "plain"
path = "gone.txt"
[[proxy.user_backends]]
type = "plain"
path = "/run/secrets/1001"
[[proxy.user_backends]]
type = "database"
table_name = "members"
token_header = "X-Token"
"#,
        &[
            "ringgate.toml:1: error: proxy.http_router.url: is missing; write url = \
             \"https://...\"",
            "ringgate.toml:2: error: proxy.http_router.timeout_ms: must be 50 to 60000, not 10",
            "ringgate.toml:3: warning: proxy.http_router.fallback: unknown key",
            "ringgate.toml:4: error: proxy.http_router.headers.Host: is a header that the gateway \
             writes itself",
            "ringgate.toml:7: warning: proxy.user_backends[0].url: passwords come back over plain \
             HTTP and can be read on the way; write https://",
            "ringgate.toml:8: error: proxy.user_backends[0].method: \"PUT\" is not a method for \
             this; write \"GET\" or \"POST\"",
            "ringgate.toml:9: error: proxy.user_backends[0].http_retry_count: must be 0 to 10, not \
             99",
            "ringgate.toml:13: error: proxy.user_backends[1].table_name: \"users; drop\" is not a \
             name of letters, digits and _",
            "ringgate.toml:14: error: proxy.user_backends[1].password_column: \"pass word\" is not \
             a name of letters, digits and _",
            "ringgate.toml:17: error: proxy.user_backends[2].database_url: is not the URL of a \
             database that we know; write \"sqlite://FILE\" or \"postgres://USER@HOST/NAME\"",
            "ringgate.toml:18: error: proxy.user_backends[3]: has no path; write path = \
             \"users.txt\"",
            "ringgate.toml:22: error: proxy.user_backends[4].path: gone.txt cannot be read: No such \
             file or directory",
            "ringgate.toml:25: error: proxy.user_backends[5].path: /run/secrets/1001:1: has no \
             colon between user and password",
            "ringgate.toml:28: warning: proxy.user_backends[6].table_name: is not used without a \
             url: our extensions table is asked",
            "ringgate.toml:29: note: proxy.user_backends[6].token_header: accepted, not used yet",
        ],
    );
}

#[test]
fn the_chain_of_backends_keeps_its_order_its_bounds_and_its_secrets() {
    let text = r#"[proxy.http_router]
url = "http://10.0.0.9:81/route?key=hunter2"
headers = { X-API-Key = "env:PASSWORD_1002" }
[[proxy.user_backends]]
type = "plain"
path = "users.txt"
[[proxy.user_backends]]
type = "http"
url = "https://auth.example/pbx/auth?hunter2"
username_field = "u"
realm_field = "r"
http_timeout_ms = 800
cache_ttl_secs = 0
[[proxy.user_backends]]
type = "database"
url = "postgres://gate:hunter2@db.example/users"
enabled_column = "active"
ttl = 60
"#;
    let read = |place: SecretRef<'_>| match place {
        SecretRef::File("users.txt") => Ok("# ours\n1001:hunter2\n\n1002:a:b\n".to_owned()),
        _ => Ok("hunter2".to_owned()),
    };
    let sources = Sources {
        file: Some(("ringgate.toml", text)),
        env: Vec::new(),
        read_secret: &read,
        strict: true,
    };
    let loaded = load(&sources);
    assert_eq!(lines(&loaded), [""; 0]);
    let config = loaded.config.expect("it is valid");
    let router = config.http_router().expect("it is written");
    assert_eq!((router.target.timeout.as_millis(), router.fallback_to_static), (5_000, false));
    let [
        Backend::Memory(plain),
        Backend::Remote(http),
        Backend::Remote(table),
        Backend::Extensions,
    ] = config.backends()
    else {
        panic!("{:?}", config.backends());
    };
    assert_eq!(plain.len(), 2);
    assert_eq!(plain[1].secret, Secret::Plain("a:b".into()));
    // Two tries of 800 ms with half a second between, and one look at the table.
    assert_eq!((http.longest().as_millis(), table.longest().as_millis()), (2_100, 5_000));
    assert_eq!((http.keep.as_secs(), http.keep_refusals.as_secs()), (0, 5));
    assert_eq!((table.keep.as_secs(), table.concurrent_max), (60, 64));
    let rules = config.remote_users().expect("two of them are asked");
    assert_eq!((rules.first, rules.budget.as_millis()), (1, 7_100));
    assert_eq!(config.named_urls().count(), 2);
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
