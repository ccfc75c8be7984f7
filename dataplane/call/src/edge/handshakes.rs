//! TLS handshakes that failed, told to the operator.
//! Owns:  the form of the line.
//! Gives: `handshake_failed` for what the shell saw.
//! Never: counts it against its source: a wrong certificate of ours is no fault of theirs.
//! Holds: a flood of them takes no line from the security log.

use shared::event::Severity;

use crate::core::Core;
use crate::io::HandshakeFailure;

impl Core {
    pub(crate) fn handshake_failed(&mut self, failure: &HandshakeFailure) {
        let HandshakeFailure { with, is_ours, why, detail } = failure;
        let (ip, port, transport) =
            (with.peer.ip().to_canonical(), with.peer.port(), with.transport.via_word());
        self.desk.notice(Severity::Warning, "tls_failed", || {
            if *is_ours {
                return format!("to {ip} port {port}: the TLS handshake failed: {why}: {detail}");
            }
            format!(
                "security event=tls_failed source={ip} port={port} transport={transport} \
                 why={why} detail={detail:?}"
            )
        });
    }
}
