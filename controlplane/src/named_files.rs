//! Files that a pattern of the configuration names: `config/routes/*.toml`.
//! Owns:  `*` and `?` in the last part of a path.
//! Gives: name and text of every file, in the order of their names.
//! Never: more files, or longer ones, than a configuration of people can have.
//! Holds: a pattern without a wildcard names one file, which has to be there.

use std::path::{Path, PathBuf};

const FILES_MAX: usize = 1_000;

/// Reads them with `read`; the error names the file that could not be had.
pub(crate) fn read_named(
    pattern: &str,
    read: impl Fn(&Path) -> Result<String, String>,
) -> Result<Vec<(String, String)>, String> {
    let mut files = Vec::new();
    for path in find(pattern)? {
        let name = path.display().to_string();
        let text = read(&path).map_err(|reason| format!("{name} cannot be read: {reason}"))?;
        files.push((name, text));
    }
    Ok(files)
}

fn find(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let path = Path::new(pattern);
    let (Some(folder), Some(last)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Err("names no file".to_owned());
    };
    let wild = |text: &str| text.contains(['*', '?', '[']);
    if folder.to_str().is_some_and(wild) || last.contains('[') {
        return Err("wildcards are * and ?, in the last part of the path".to_owned());
    }
    if !wild(last) {
        return Ok(vec![path.to_owned()]);
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // The original takes a folder that is not there for an empty one.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("{} cannot be read: {error}", folder.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let fits = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| !name.starts_with('.') && fits(last.as_bytes(), name.as_bytes()));
        if fits && path.is_file() {
            found.push(path);
        }
        if found.len() > FILES_MAX {
            return Err(format!("names more than {FILES_MAX} files"));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a name fits a pattern: one pass, coming back to the last `*` only.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                p = at + 1;
                n = from + 1;
                star = Some((at, n));
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_parts_of_a_name() {
        for (pattern, name) in [
            ("*.toml", "a.toml"),
            ("*", "x"),
            ("a*b*c", "a1b2b3c"),
            ("route?.toml", "route1.toml"),
            ("**", ""),
            ("a.toml", "a.toml"),
        ] {
            assert!(fits(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.toml", "a.tom"), ("?", ""), ("a*b", "a1c"), ("", "x"), ("a?", "a")]
        {
            assert!(!fits(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn only_the_last_part_has_wildcards() {
        assert!(find("routes/*/x.toml").is_err());
        assert!(find("a[0-9].toml").is_err());
        assert!(find("/").is_err());
        assert_eq!(find("no/such/folder/*.toml"), Ok(Vec::new()));
        assert_eq!(find("x/one.toml"), Ok(vec![PathBuf::from("x/one.toml")]));
    }
}
