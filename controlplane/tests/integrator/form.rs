//! A `multipart/form-data` body, taken apart by hand (RFC 7578).

use super::receiver::Heard;

#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) file_name: Option<String>,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn parts(heard: &Heard) -> Vec<Part> {
    let kind = heard.header("content-type");
    assert!(kind.starts_with("multipart/form-data"), "{kind}");
    let (_, boundary) = kind.split_once("boundary=").expect("a boundary");
    let boundary = boundary.trim_matches('"');
    let fence = format!("--{boundary}").into_bytes();
    let ends: Vec<usize> = heard
        .body
        .windows(fence.len())
        .enumerate()
        .filter(|(_, w)| *w == fence)
        .map(|(i, _)| i)
        .collect();
    assert!(ends.len() >= 2, "a form has parts");
    ends.windows(2).map(|pair| part(&heard.body[pair[0] + fence.len()..pair[1]])).collect()
}

fn part(bytes: &[u8]) -> Part {
    let bytes = bytes.strip_prefix(b"\r\n").expect("a line end after the boundary");
    let bytes = bytes.strip_suffix(b"\r\n").expect("a line end before the boundary");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
    let line = |name: &str| {
        head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let disposition = line("Content-Disposition").expect("a disposition");
    let attribute = |name: &str| {
        let mut words = disposition.split(';').map(str::trim);
        let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim_matches('"').to_owned())
    };
    Part {
        name: attribute("name").expect("a part has a name"),
        file_name: attribute("filename"),
        content_type: line("Content-Type").unwrap_or_default(),
        body: bytes[end + 4..].to_vec(),
    }
}
