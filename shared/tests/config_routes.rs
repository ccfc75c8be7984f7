//! The dial plan in files: what an operator reads when a rule is wrong, and where included files say it.

use shared::config::{Loaded, SecretRef, Sources, load_with};
use shared::route::Action;

fn read_secret(_: SecretRef<'_>) -> Result<String, String> {
    Err("no secrets here".to_owned())
}

/// Files of a folder that a pattern names.
fn check(text: &str, files: &[(&str, &[(&str, &str)])], strict: bool) -> Loaded {
    let sources = Sources {
        file: Some(("ringgate.toml", text)),
        env: Vec::new(),
        read_secret: &read_secret,
        strict,
    };
    load_with(&sources, &|pattern| {
        let found = files.iter().find(|(known, _)| *known == pattern);
        let (_, files) = found.ok_or_else(|| "No such file or directory".to_owned())?;
        Ok(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    })
}

fn lines(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn every_wrong_rule_is_named_with_its_line() {
    let text = r#"[proxy.trunks.carrier]
dest = "sip:198.51.100.1"

[[proxy.routes]]
name = "out"
priority = 10
dest = "carier"
[proxy.routes.match]
"to.user" = "^9(\\d+$"
to.host = "pbx.example"

[[proxy.routes]]
name = "out"
[proxy.routes.rewrite]
"to.user" = "{1}"

[[proxy.routes]]
name = "late"
prioritty = 3
codecs = ["pcmu"]
[proxy.routes.match]
dest = "carrier"
"from.user" = 1001

[proxy.emergency]
enabled = true
numbers = ["112", "one"]
"#;
    let loaded = check(text, &[], false);
    assert_eq!(
        lines(&loaded),
        [
            "ringgate.toml:9: error: proxy.routes[0].match.to.user: is no regular expression: \
             unclosed group",
            "ringgate.toml:15: error: proxy.routes[1].rewrite.to.user: {1} has no pattern to draw \
             from: match to.user with an expression",
            "ringgate.toml:19: warning: proxy.routes[2].prioritty: unknown key; did you mean \
             \"priority\"?",
            "ringgate.toml:20: warning: proxy.routes[2].codecs: accepted, not used yet: what it \
             asks for does not happen",
            "ringgate.toml:22: error: proxy.routes[2].match.dest: \"dest\" belongs to the rule, \
             not to this table; write it above the table, right under [[proxy.routes]]",
            "ringgate.toml:25: error: proxy.emergency: names no trunk; write emergency_trunk = \
             \"NAME\"",
            "ringgate.toml:27: error: proxy.emergency.numbers[1]: \"one\" is not a number that \
             somebody dials",
        ]
    );
    assert!(loaded.config.is_none());
}

#[test]
fn names_are_unique_and_trunks_are_looked_up() {
    let text = "[proxy.trunks.carrier]\ndest = \"sip:198.51.100.1\"\n[[proxy.routes]]\nname = \
                \"a\"\ndest = \"carier\"\n[[proxy.routes]]\nname = \"a\"\nsource_trunks = \
                [\"carrier\"]\n";
    assert_eq!(
        lines(&check(text, &[], false)),
        [
            "ringgate.toml:3: warning: proxy.routes[0]: no trunk \"carier\" is in the files: did \
             you mean \"carrier\"?; it has to be one of the database",
            "ringgate.toml:7: error: proxy.routes[1].name: there is a rule named \"a\" already, \
             at ringgate.toml:3",
        ]
    );
}

const MAIN: &str = "[proxy]\ntrunks_files = [\"trunks/*.toml\"]\nroutes_files = [\"routes/*.toml\"]\n\
                    [[proxy.routes]]\nname = \"main\"\n";

#[test]
fn included_files_add_trunks_and_rules_and_keep_their_lines() {
    let good = [
        ("trunks/*.toml", &[("trunks/a.toml", "[trunks.a]\ndest = \"sip:198.51.100.1\"\n")][..]),
        (
            "routes/*.toml",
            &[
                ("routes/1.toml", "[[routes]]\nname = \"one\"\ndest = \"a\"\n"),
                ("routes/2.toml", "\n[[proxy.routes]]\nname = \"two\"\naction = \"busy\"\n"),
            ][..],
        ),
    ];
    let loaded = check(MAIN, &good, true);
    assert_eq!(lines(&loaded), [""; 0]);
    let config = loaded.config.expect("it is valid");
    assert_eq!(config.trunks()[0].origin.to_string(), "trunks/a.toml:1");
    let routes: Vec<_> = config
        .routes()
        .iter()
        .map(|written| (&*written.route.name, written.origin.to_string()))
        .collect();
    let expected =
        [("main", "ringgate.toml:4"), ("one", "routes/1.toml:1"), ("two", "routes/2.toml:2")];
    assert_eq!(routes, expected.map(|(name, origin)| (name, origin.to_owned())));
    assert_eq!(config.routes()[2].route.action, Action::Busy);
}

#[test]
fn sources_come_from_the_file_and_from_those_that_it_names_in_order() {
    let text = "[proxy]\nacl_rules = [\"deny 10.0.0.5\"]\nacl_files = [\"acl/*.toml\"]\n";
    let more = "acl_rules = [\"allow 10.0.0.0/8\",\n  \"deny all\"]\n";
    let files = [("acl/*.toml", &[("acl/1.toml", more)][..])];
    let loaded = check(text, &files, true);
    assert_eq!(lines(&loaded), [""; 0]);
    let config = loaded.config.expect("it is valid");
    let rules: Vec<_> = config.acl().0.iter().map(ToString::to_string).collect();
    assert_eq!(rules, ["deny 10.0.0.5/32", "allow 10.0.0.0/8", "deny all"]);

    let wrong =
        [("acl/*.toml", &[("acl/1.toml", "acl_rules = [\"allow all\",\n  \"deny 10\"]\n")][..])];
    let loaded = check(text, &wrong, true);
    assert!(loaded.config.is_none());
    let expected = "acl/1.toml:2: error: proxy.acl_rules[2]: \"deny 10\" is not a rule; write \
                    \"allow 10.0.0.0/8\", \"deny 192.0.2.1\" or \"deny all\"";
    assert_eq!(lines(&loaded), [expected]);
}

#[test]
fn rules_without_their_module_are_not_followed_and_that_is_said() {
    let text =
        "[proxy]\nmodules = [\"auth\", \"call\", \"registrar\"]\nacl_rules = [\"deny all\"]\n";
    let loaded = check(text, &[], true);
    assert!(
        lines(&loaded)[0].starts_with("ringgate.toml:3: warning: proxy.acl_rules: is not followed")
    );
    assert!(loaded.config.expect("a warning refuses nothing").acl().0.is_empty());
}

#[test]
fn what_is_wrong_in_an_included_file_is_said_with_its_name() {
    let bad = [
        (
            "trunks/*.toml",
            &[
                ("trunks/a.toml", "[trunks.a]\ndest = \"sip:198.51.100.1\"\n"),
                ("trunks/b.toml", "[trunks.a]\ndest = \"sip:198.51.100.2\"\ncolour = 1\n"),
                ("trunks/c.toml", "[trunks.c]\ndest = \"sip:198.51.100.3\"\ncolour = 1\n"),
            ][..],
        ),
        (
            "routes/*.toml",
            &[
                ("routes/1.toml", "[[routes]]\nname = \"one\"\nreject = 200\n"),
                ("routes/2.toml", "[[routes]]\nname = \n"),
                ("routes/3.toml", "[users]\nx = 1\n"),
            ][..],
        ),
    ];
    let loaded = check(MAIN, &bad, true);
    assert!(loaded.config.is_none());
    let lines = lines(&loaded);
    for expected in [
        "trunks/b.toml:1: error: proxy.trunks.a: there is a trunk of this name already, at \
         trunks/a.toml:1",
        "trunks/c.toml:3: error: proxy.trunks.c.colour: unknown key",
        "routes/1.toml:3: error: proxy.routes[1].reject: the code must be 300 to 699",
        "routes/3.toml:1: error: users: a table does not belong here; write [[routes]], \
         [trunks.NAME] or acl_rules",
    ] {
        assert!(lines.contains(&expected.to_owned()), "{expected} is not in {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("routes/2.toml:2: error: not TOML")));
    let missing = check(MAIN, &[("trunks/*.toml", &[])], false);
    let lines = self::lines(&missing);
    for expected in [
        "ringgate.toml:2: warning: proxy.trunks_files[0]: \"trunks/*.toml\" names no file",
        "ringgate.toml:3: error: proxy.routes_files[0]: \"routes/*.toml\": No such file or \
         directory",
    ] {
        assert!(lines.contains(&expected.to_owned()), "{expected} is not in {lines:#?}");
    }
}
