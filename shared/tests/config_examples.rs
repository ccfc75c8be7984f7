//! The example files under `deploy/` load without a single problem and say everything.

use std::path::{Path, PathBuf};

use shared::config::{Loaded, Sources, load};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config")
}

fn check(path: &Path) -> Loaded {
    let text = std::fs::read_to_string(path).expect("an example can be read");
    let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
    load(&Sources {
        file: Some((name, &text)),
        env: Vec::new(),
        // Secrets lie elsewhere; that they are asked for by reference is the point.
        read_secret: &|_| Ok("a secret".to_owned()),
        strict: true,
    })
}

#[test]
fn every_example_loads_without_a_problem() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).expect("the folder of examples") {
        let path = entry.expect("an entry").path();
        let loaded = check(&path);
        let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [""; 0], "{}", path.display());
        assert!(loaded.config.is_some());
        count += 1;
    }
    assert!(count >= 3, "{count} examples");
}

#[test]
fn the_full_example_names_every_key_with_its_default() {
    let written = check(&folder().join("full.toml"));
    let sources =
        Sources { file: None, env: Vec::new(), read_secret: &|_| Ok(String::new()), strict: true };
    let defaults = load(&sources);
    let value = |loaded: &Loaded, key: &str| {
        loaded.effective.rows().iter().find(|row| row.key == key).map(|row| row.value.clone())
    };
    for row in defaults.effective.rows() {
        if row.key == "proxy.user_backends" {
            continue; // the example has users of its own
        }
        assert_eq!(value(&written, &row.key).as_ref(), Some(&row.value), "{}", row.key);
    }
}
