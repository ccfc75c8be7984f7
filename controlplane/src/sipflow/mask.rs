//! Secrets in a SIP message, made unreadable before anybody sees it.
//! Owns:  which parts are secret: credentials, passwords in URIs, keys of media in SDP.
//! Gives: `mask`, in place: every length stays, so Content-Length still says the truth.
//! Never: the user name, the realm, the nonce: whoever looks for a wrong password needs them.
//! Holds: what cannot be read is masked to the end of its header.

const STAR: u8 = b'*';
/// Their values are credentials.
const CREDENTIALS: [&[u8]; 5] = [
    b"authorization",
    b"proxy-authorization",
    b"authentication-info",
    b"proxy-authentication-info",
    b"x-auth-token",
];
/// Parameters of Digest from which a password could be guessed, or that are one.
const DIGEST_SECRETS: [&[u8]; 3] = [b"response", b"rspauth", b"password"];
/// Lines of SDP that carry a key from there on.
const SDP_SECRETS: [&[u8]; 4] = [b"a=crypto:", b"a=ice-pwd:", b"a=key-mgmt:", b"k="];

pub fn mask(raw: &mut [u8]) {
    let mut start = 0;
    while start < raw.len() {
        let end = line_end(raw, start);
        let name_end = raw[start..end].iter().position(|byte| *byte == b':').map(|at| start + at);
        if let Some(value) = name_end.filter(|colon| holds_credentials(&raw[start..*colon])) {
            let end = folded_end(raw, end);
            mask_credentials(&mut raw[value + 1..end]);
            start = end;
            continue;
        }
        mask_passwords(&mut raw[start..end]);
        mask_keys(&mut raw[start..end]);
        start = end;
    }
}

/// Behind the line feed.
fn line_end(raw: &[u8], start: usize) -> usize {
    let feed = raw[start..].iter().position(|byte| *byte == b'\n');
    feed.map_or(raw.len(), |at| start + at + 1)
}

/// A line that begins with a blank goes on with the header before it (RFC 3261 7.3.1).
fn folded_end(raw: &[u8], mut end: usize) -> usize {
    while raw.get(end).is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        end = line_end(raw, end);
    }
    end
}

fn holds_credentials(name: &[u8]) -> bool {
    let name = name.trim_ascii();
    CREDENTIALS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn mask_credentials(value: &mut [u8]) {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace();
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let scheme_end = value[start..].iter().position(is_blank).map_or(value.len(), |n| start + n);
    let scheme = &value[start..scheme_end];
    if scheme.eq_ignore_ascii_case(b"digest") {
        mask_params(&mut value[scheme_end..]);
    } else if scheme.contains(&b'=') {
        mask_params(value); // Authentication-Info names no scheme
    } else if scheme_end < value.trim_ascii_end().len() {
        star(&mut value[scheme_end..]);
    } else {
        star(value);
    }
}

/// `name=value` or `name="value"`, with commas between.
fn mask_params(params: &mut [u8]) {
    let mut at = 0;
    while at < params.len() {
        let Some(equals) = params[at..].iter().position(|byte| *byte == b'=').map(|n| at + n)
        else {
            return;
        };
        let name = params[at..equals].trim_ascii();
        let name = name.rsplit(|byte| matches!(byte, b',' | b' ' | b'\t' | b'\n')).next();
        let secret = name.is_some_and(|name| {
            DIGEST_SECRETS.iter().any(|known| name.eq_ignore_ascii_case(known))
        });
        let end = value_end(params, equals + 1);
        if secret {
            star(&mut params[equals + 1..end]);
        }
        at = end;
    }
}

/// Behind a quoted or a plain value.
fn value_end(params: &[u8], start: usize) -> usize {
    let blanks = params[start..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let first = start + blanks;
    if params.get(first) != Some(&b'"') {
        let end = params[first..].iter().position(|byte| *byte == b',' || *byte == b'\r');
        return end.map_or(params.len(), |n| first + n);
    }
    let mut at = first + 1;
    while at < params.len() {
        match params[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    params.len()
}

/// `sip:user:password@host` (RFC 3261 19.1.1).
fn mask_passwords(line: &mut [u8]) {
    let mut at = 0;
    while let Some(start) = scheme_after(line, at) {
        let ends = |byte: &u8| matches!(byte, b'>' | b'<' | b'"' | b' ' | b'\t' | b'\r' | b'\n');
        let end = line[start..].iter().position(ends).map_or(line.len(), |n| start + n);
        let uri = &line[start..end];
        if let Some(host) = uri.iter().position(|byte| *byte == b'@')
            && let Some(colon) = uri[..host].iter().position(|byte| *byte == b':')
        {
            star(&mut line[start + colon + 1..start + host]);
        }
        at = end.max(start + 1);
    }
}

/// Behind the next `sip:` or `sips:`.
fn scheme_after(line: &[u8], from: usize) -> Option<usize> {
    let rest = line.get(from..)?;
    let found = |scheme: &[u8]| {
        let mut places = rest.windows(scheme.len());
        places.position(|part| part.eq_ignore_ascii_case(scheme)).map(|at| at + scheme.len())
    };
    let first = [found(b"sip:"), found(b"sips:")].into_iter().flatten().min()?;
    Some(from + first)
}

fn mask_keys(line: &mut [u8]) {
    for start in SDP_SECRETS {
        if line.len() > start.len() && line[..start.len()].eq_ignore_ascii_case(start) {
            star(&mut line[start.len()..]);
        }
    }
}

/// Blanks and line ends stay, so that lines stay lines.
fn star(secret: &mut [u8]) {
    for byte in secret.iter_mut().filter(|byte| !byte.is_ascii_whitespace()) {
        *byte = STAR;
    }
}

#[cfg(test)]
mod tests {
    use super::mask;

    fn masked(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        mask(&mut bytes);
        assert_eq!(bytes.len(), text.len());
        String::from_utf8(bytes).expect("text stays text")
    }

    #[test]
    fn the_response_of_a_digest_is_masked_and_what_a_search_needs_stays() {
        let text = "Proxy-Authorization: Digest username=\"1001\", realm=\"a, response=b\", \
                    nonce=\"n\",\r\n response=\"0123abcd\", algorithm=MD5\r\nFrom: <sip:1001@a>\r\n";
        let expected = text.replace("\"0123abcd\"", "**********");
        assert_eq!(masked(text), expected);
        assert_eq!(
            masked("AUTHORIZATION : digest RESPONSE=abc,qop=auth\r\n"),
            "AUTHORIZATION : digest RESPONSE=***,qop=auth\r\n"
        );
        assert_eq!(
            masked("Authentication-Info: rspauth=\"ab\", nc=1\r\n"),
            "Authentication-Info: rspauth=****, nc=1\r\n"
        );
    }

    #[test]
    fn credentials_of_other_schemes_are_masked_whole() {
        assert_eq!(
            masked("Authorization: Bearer abc.def\r\n x\r\nTo: a\r\n"),
            "Authorization: Bearer *******\r\n *\r\nTo: a\r\n"
        );
        assert_eq!(
            masked("Authorization: Basic dXNlcjpwYXNz\r\n"),
            "Authorization: Basic ************\r\n"
        );
        assert_eq!(masked("X-Auth-Token: secret\r\n"), "X-Auth-Token: ******\r\n");
    }

    #[test]
    fn an_open_quote_hides_the_rest() {
        let text = masked("Authorization: Digest response=\"abc, nonce=def\r\nTo: a\r\n");
        assert_eq!(text, "Authorization: Digest response=***** *********\r\nTo: a\r\n");
    }

    #[test]
    fn passwords_in_uris_and_keys_in_sdp_are_masked() {
        let text = "INVITE sip:1001:pw@a;user=b SIP/2.0\r\nContact: \"x\" <sips:u:p:w@h:5061>, \
                    <sip:v@h:5060>\r\n\r\nv=0\r\na=crypto:1 AES inline:KEY\r\nk=clear:KEY\r\n\
                    a=ice-pwd:abc\r\na=rtpmap:0 PCMU/8000\r\n";
        let expected = "INVITE sip:1001:**@a;user=b SIP/2.0\r\nContact: \"x\" <sips:u:***@h:5061>, \
                    <sip:v@h:5060>\r\n\r\nv=0\r\na=crypto:* *** **********\r\nk=*********\r\n\
                    a=ice-pwd:***\r\na=rtpmap:0 PCMU/8000\r\n";
        assert_eq!(masked(text), expected);
    }

    #[test]
    fn anything_is_masked_without_a_panic() {
        let parts =
            ["Authorization:", " Digest", " response=", "\"", "\\", ",", "\r\n", "sip:", "@"];
        let mut number: u32 = 7;
        for _ in 0..5_000 {
            let mut text = String::new();
            for _ in 0..12 {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                text.push_str(parts[(number >> 16) as usize % parts.len()]);
            }
            masked(&text);
        }
    }
}
