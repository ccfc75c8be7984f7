//! SIP messages as text: what a peer needs to read and write them, without a library.

/// The body of an INVITE and of its answer: G.711 at a port.
pub(crate) fn sdp(ip: &str, port: u16) -> String {
    format!(
        "v=0\r\no=- {port} 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=ptime:20\r\na=sendrecv\r\n"
    )
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        };
        let headers = lines.map(header).collect::<Option<Vec<_>>>()?;
        Some(Self { start, headers, body: body.to_owned() })
    }

    /// The first header of this name, or an empty text.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        found.next().map_or("", |(_, value)| value)
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let own = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        own.map(|(_, value)| value.as_str()).collect()
    }

    /// 0 for a request.
    pub(crate) fn status(&self) -> u16 {
        let code = self.start.strip_prefix("SIP/2.0 ").and_then(|rest| rest.split(' ').next());
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn reason(&self) -> &str {
        self.start.splitn(3, ' ').nth(2).unwrap_or_default()
    }

    /// Of a request or of the request that is answered.
    pub(crate) fn method(&self) -> &str {
        self.header("CSeq").split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn is_request(&self, method: &str) -> bool {
        self.status() == 0 && self.method() == method
    }

    pub(crate) fn request_uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn call_id(&self) -> &str {
        self.header("Call-ID")
    }

    /// Where the body wants its audio: address and port.
    pub(crate) fn audio(&self) -> Option<(String, u16)> {
        let after = |start: &str| self.body.lines().find_map(|line| line.strip_prefix(start));
        let ip = after("c=IN IP4 ")?.trim().to_owned();
        let port = after("m=audio ")?.split(' ').next()?.parse().ok()?;
        Some((ip, port))
    }
}

/// The URI between the angle brackets, or the value as it is.
pub(crate) fn uri_of(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest),
        None => value.split(';').next().unwrap_or(value),
    }
}
