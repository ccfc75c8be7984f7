//! Counters and gauges of one shard: a plain array, added to without a lock, sent once a second.
//! Owns:  the list of counters, their names on `/metrics` and their help lines.
//! Gives: `Counters`, indexed by `Counter`.
//! Never: a label with a number, an address or a call id in it.
//! Holds: the enum and the name table have the same length by construction.

macro_rules! counters {
    ($( $variant:ident $name:literal $kind:ident $help:literal; )*) => {
        /// One number that a shard keeps. The doc of each is its help line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Counter { $( #[doc = $help] $variant, )* }

        impl Counter {
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// Name without the `ringgate_` prefix.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }
            pub const fn help(self) -> &'static str {
                match self { $( Self::$variant => $help, )* }
            }
            pub const fn kind(self) -> Kind {
                match self { $( Self::$variant => Kind::$kind, )* }
            }
        }
    };
}

/// A total only grows; a gauge is what stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    Total,
}

counters! {
    // What stands now.
    Calls "calls" Gauge "Calls in any state, ringing ones included";
    CallsTalking "calls_talking" Gauge "Calls that were answered and not yet ended";
    Dialogs "dialogs" Gauge "Dialogs, early ones included";
    Transactions "transactions" Gauge "Client and server transactions";
    Timers "timers" Gauge "Armed timers";
    Bindings "bindings" Gauge "Registered contacts";
    Relays "relays" Gauge "Open media relays";
    PortsInUse "ports_in_use" Gauge "RTP ports taken by calls";
    PortsResting "ports_resting" Gauge "RTP ports that rest after a call";
    Flows "flows" Gauge "Open TCP, TLS and WebSocket flows";
    Captures "captures" Gauge "Capture files being written";
    EventBacklog "event_backlog" Gauge "Events that wait for the control plane";
    JournalWaiting "journal_waiting_bytes" Gauge "Bytes of the journal that wait for a front";
    JournalUnsaved "journal_unsaved_bytes" Gauge "Bytes of the journal that are in memory and not on the disk yet";
    JournalSpares "journal_spare_segments" Gauge "Fronts of the journal made ahead";

    TrunksResting "trunks_resting" Gauge "Destinations of trunks that asked a shard for no calls for now";
    TrunksRegistered "trunks_registered" Gauge "Trunks that are registered with their carrier";
    TrunksUnregistered "trunks_unregistered" Gauge "Trunks that should be registered with their carrier and are not";
    TrunksDown "trunks_down" Gauge "Destinations of trunks that do not answer our OPTIONS";
    SipWait "sip_wait_milliseconds" Gauge "Longest wait of a message to be read within a second, all shards together";
    Bans "bans" Gauge "Banned sources, each counted on every shard";
    Subscriptions "subscriptions" Gauge "Subscriptions of phones to dialogs of users and to message waiting";
    AsksWaiting "asks_waiting" Gauge "Decisions of programs that calls and registrations wait for";

    // SIP.
    SipReceived "sip_received_total" Total "SIP messages received";
    SipSent "sip_sent_total" Total "SIP messages sent, retransmissions included";
    SipBytesReceived "sip_received_bytes_total" Total "Bytes of SIP messages received";
    SipRetransmitsIn "sip_retransmits_in_total" Total "Received messages that a transaction absorbed as repeats";
    SipRetransmitsOut "sip_retransmits_out_total" Total "Messages that we sent again";
    SipNotSip "sip_not_sip_total" Total "Datagrams that are not SIP, dropped without an answer";
    SipMalformed "sip_malformed_total" Total "SIP messages refused for their form";
    SipKeepAlives "sip_keep_alives_total" Total "Keep-alives received (RFC 5626: CRLF, STUN, blank datagrams)";
    SipStrays "sip_strays_total" Total "Responses and ACKs that belong to nothing here";
    SipSendFailed "sip_send_failed_total" Total "SIP messages that the transport did not take";
    SipNotAdmitted "sip_not_admitted_total" Total "Requests from sources that the acl refuses, dropped";
    BannedDropped "banned_dropped_total" Total "Messages of banned sources, dropped unread";
    FloodsDropped "floods_dropped_total" Total "Messages dropped unread because their source sent too many";
    ScannersDropped "scanners_dropped_total" Total "Requests of programs that only scan, dropped";
    SourcesBanned "sources_banned_total" Total "Bans: scanners, floods of probes, wrong passwords";
    SourcesSpared "sources_spared_total" Total "Bans not made: the source is a trunk, or has a call or a phone here";
    AgentsRefused "agents_refused_total" Total "Requests refused for their User-Agent (ua_black_list, ua_white_list)";
    UrisTooLong "uris_too_long_total" Total "Requests refused for a Request-URI beyond uri_max_length";
    SourceCallsRefused "source_calls_refused_total" Total "Calls refused because their source holds too many";
    SipLoops "sip_loops_total" Total "Requests refused as a loop or for Max-Forwards";
    RequestsInvite "sip_requests_invite_total" Total "INVITE requests outside a dialog";
    RequestsRegister "sip_requests_register_total" Total "REGISTER requests";
    RequestsOther "sip_requests_other_total" Total "Other requests";
    Responses1xx "sip_responses_sent_1xx_total" Total "Provisional responses sent";
    Responses2xx "sip_responses_sent_2xx_total" Total "Success responses sent";
    Responses3xx "sip_responses_sent_3xx_total" Total "Redirections sent";
    Responses4xx "sip_responses_sent_4xx_total" Total "Client error responses sent";
    Responses5xx "sip_responses_sent_5xx_total" Total "Server error responses sent";
    Responses6xx "sip_responses_sent_6xx_total" Total "Global failure responses sent";
    AuthChallenged "auth_challenged_total" Total "Requests answered with a digest challenge";
    AuthFailed "auth_failed_total" Total "Credentials that did not verify";
    AuthReplayed "auth_replayed_total" Total "Credentials with a nonce count seen before";
    RegistrationsAccepted "registrations_accepted_total" Total "REGISTER requests answered 200";
    RegistrationsRefused "registrations_refused_total" Total "REGISTER requests refused after authentication";
    BindingsExpired "bindings_expired_total" Total "Contacts that ran out or lost their flow";
    OverloadShed "overload_shed_total" Total "Requests refused because messages waited too long to be read";
    OverloadRefused "overload_refused_total" Total "Requests refused because a table or queue is full";

    // Calls.
    CallsStarted "calls_started_total" Total "Call attempts that became a call";
    CallsAnswered "calls_answered_total" Total "Calls answered";
    CallsFailed "calls_failed_total" Total "Call attempts that ended without an answer";
    CallsPastUs "calls_past_us_total" Total "Calls whose media went past the gateway, as the router wanted";
    CallsPanicked "calls_panicked_total" Total "Calls ended because our code panicked in them";
    SessionRefreshes "session_refreshes_total" Total "Session refreshes sent (RFC 4028)";
    SessionsExpired "sessions_expired_total" Total "Calls ended because a side did not refresh its session";
    JoinsDone "joins_done_total" Total "Attended transfers that joined two calls";
    JoinsFailed "joins_failed_total" Total "Attended transfers that did not come about";
    RecordingsBroken "recordings_broken_total" Total "Recorded legs that went on in a call that is not recorded";
    LegsReplaced "legs_replaced_total" Total "Legs whose place another one took by INVITE with Replaces";
    ReplacesRefused "replaces_refused_total" Total "INVITEs with Replaces that got no place";
    ProvisionalsUnacknowledged "provisionals_unacknowledged_total" Total "Calls ended for want of a PRACK";
    ProvisionalsDropped "provisionals_dropped_total" Total "Provisional responses left out, too many or out of order";
    PracksUnmatched "pracks_unmatched_total" Total "PRACKs that acknowledge nothing, answered 481";
    CallNewsDropped "call_news_dropped_total" Total "Events for listeners left out: the control plane was behind";
    RoutesForwarded "routes_forwarded_total" Total "Calls that a rule of the dial plan sent to a trunk";
    RoutesRefused "routes_refused_total" Total "Calls that a rule of the dial plan refused";
    TrunksFull "trunks_full_total" Total "Calls refused because every trunk that they could take was full";

    TrunkFailovers "trunk_failovers_total" Total "Tries at a trunk that failed and went on to the next destination";
    Forwards "forwards_total" Total "Calls that went on elsewhere for a user's forwarding";
    ForwardsRefused "forwards_refused_total" Total "Forwards not followed: a loop, too many, nowhere to go";
    TollNumbersRefused "toll_numbers_refused_total" Total "Calls over trunks refused for the number that they call";
    TollLimitsRefused "toll_limits_refused_total" Total "Calls over trunks refused for a limit of their account";
    TollCallsEnded "toll_calls_ended_total" Total "Calls ended because the minutes of an account are used up";
    TrunkPings "trunk_pings_total" Total "OPTIONS sent to trunks whose health is checked";
    TrunkPingsFailed "trunk_pings_failed_total" Total "Of these, how many got no answer, or a failure";
    TrunkRegisters "trunk_registers_total" Total "REGISTER requests sent to carriers, without those after a challenge";
    TrunkRegistersFailed "trunk_registers_failed_total" Total "Of these, how many got no answer, or a failure";
    TrunkChallenges "trunk_challenges_answered_total" Total "Requests to trunks sent again with credentials";
    TrunkCredentialsRefused "trunk_credentials_refused_total" Total "Challenges of trunks left without an answer";
    TrunkRests "trunk_rests_total" Total "Times a trunk asked with 503 and Retry-After to be left alone";

    SubscriptionsBegun "subscriptions_begun_total" Total "Subscriptions accepted, without their refreshes";
    SubscriptionsRefused "subscriptions_refused_total" Total "SUBSCRIBE requests refused, challenges not counted";
    SubscriptionsLost "subscriptions_lost_total" Total "Subscriptions ended because a NOTIFY was not taken";
    NotifiesSent "notifies_sent_total" Total "NOTIFY requests to subscribers";
    MessagesRelayed "messages_relayed_total" Total "MESSAGE requests outside of dialogs that a receiver took";
    MessagesRefused "messages_refused_total" Total "Of these, how many were refused, or taken by nobody";

    ActsDone "call_commands_done_total" Total "Commands of programs on calls that were carried out";
    ActsRefused "call_commands_refused_total" Total "Commands of programs on calls that were not";
    RouteAsks "route_asks_total" Total "INVITEs that the HTTP router was asked about";
    RouteDecisions "route_decisions_total" Total "Decisions of the HTTP router that came in time";
    RouteFallbacks "route_fallbacks_total" Total "Calls that went on by the static routes because no decision came";
    RouteUndecided "route_undecided_total" Total "Calls refused with 503 because no decision came";
    UserAsks "user_asks_total" Total "Credentials that the user backends were asked about";
    UserDecisions "user_decisions_total" Total "Answers of the user backends that came in time";
    UserUndecided "user_undecided_total" Total "Requests answered 503 because no user backend could tell";
    AsksTimedOut "asks_timed_out_total" Total "Decisions that did not come within their budget";
    AsksRefused "asks_refused_total" Total "Decisions not asked for because too many wait";
    AsksLate "asks_late_total" Total "Decisions that came when nobody waited any more, dropped";
    SpamRefused "spam_refused_total" Total "Calls and users that a program named spam";

    // Media.
    RtpReceived "rtp_received_total" Total "RTP packets received";
    RtpForwarded "rtp_forwarded_total" Total "RTP packets sent on to the other side";
    RtcpReceived "rtcp_received_total" Total "RTCP packets received";
    RtcpForwarded "rtcp_forwarded_total" Total "RTCP packets sent on to the other side";
    RtpNotRtp "rtp_not_rtp_total" Total "Packets on media ports that are neither RTP nor RTCP, dropped";
    RtpSourceMismatch "rtp_source_mismatch_total" Total "Packets from another address than the latched one, dropped";
    RtpNoPeer "rtp_no_peer_total" Total "Packets dropped because the other side has no address yet";
    RtpOnHold "rtp_on_hold_total" Total "Packets dropped because the direction is not offered";
    RtpMuted "rtp_muted_total" Total "Packets of a muted side dropped: no silence is known for their codec";
    RtpGenerated "rtp_generated_total" Total "RTP packets of our own: prompts, tones, keys";
    RtpReplaced "rtp_replaced_total" Total "Packets dropped because we spoke to their listener instead";
    RtpTooLong "rtp_too_long_total" Total "Packets longer than the limit, dropped";
    RtpSendFailed "rtp_send_failed_total" Total "Packets that the kernel did not take";
    RtpTimeouts "rtp_timeouts_total" Total "Calls ended because their media stopped";
    RelaysRefused "relays_refused_total" Total "Relays that could not be opened";
    CapturePackets "capture_packets_total" Total "Packets written to captures";
    CaptureLost "capture_lost_total" Total "Packets that a capture did not get";
    RtpOnProbation "rtp_on_probation_total" Total "Packets held back because their source was not trusted yet";
    RtpNoRelay "rtp_no_relay_total" Total "Packets that came after their relay was closed, dropped";

    // The shard itself.
    Turns "turns_total" Total "Turns of the shard's loop";
    ReceiveOverflows "receive_overflows_total" Total "Times the receive ring ran out of buffers";
    MeshWaited "mesh_waited_total" Total "Words between shards that found the queue full and waited for room";
    MeshFull "mesh_full_total" Total "Messages lost because the queue to another shard was full";
    MeshMoved "mesh_moved_total" Total "Messages handed to the shard that owns them";
    FlowsRefused "flows_refused_total" Total "TCP connections refused for a limit";
    FlowsCut "flows_cut_total" Total "TCP connections cut: idle, slow reader or bad framing";
    TlsHandshakes "tls_handshakes_total" Total "TLS handshakes that ended well, of either side";
    TlsHandshakesFailed "tls_handshakes_failed_total" Total "TLS handshakes that failed or took too long";
    TlsFailedCertificate "tls_failed_certificate_total" Total "Of these: one side refused the certificate of the other";
    TlsFailedClosed "tls_failed_closed_total" Total "Of these: the peer went";
    TlsFailedIncompatible "tls_failed_incompatible_total" Total "Of these: no version or cipher in common";
    TlsFailedNotTls "tls_failed_not_tls_total" Total "Of these: what came was no TLS";
    TlsFailedOther "tls_failed_other_total" Total "Of these: another reason";
    TlsFailedTimedOut "tls_failed_timed_out_total" Total "Of these: it took too long";
    TlsNamesUnknown "tls_names_unknown_total" Total "Clients sent away: no trunk has a name of their certificate";
    WsHandshakes "ws_handshakes_total" Total "WebSocket handshakes that ended well";
    WsHandshakesFailed "ws_handshakes_failed_total" Total "WebSocket handshakes that were refused or took too long";
    WsPings "ws_pings_total" Total "Pings sent over WebSocket flows";
    JournalRecords "journal_records_total" Total "Records written into the journal, beats included";
    JournalBytes "journal_written_bytes_total" Total "Bytes written into the journal";
    JournalFailures "journal_failures_total" Total "Writes, syncs and new segments of the journal that failed";
    SipFlowMessages "sip_flow_messages_total" Total "Messages of calls kept for their SIP flow";
    SipFlowDropped "sip_flow_dropped_total" Total "Messages of calls not kept: the disk is full or too slow";
    SipFlowBytes "sip_flow_kept_bytes_total" Total "Bytes kept for the SIP flow, with their frames";
    SipFlowFailures "sip_flow_failures_total" Total "Writes of the SIP flow that failed; each is tried again";
    NoticesSuppressed "notices_suppressed_total" Total "Operator notices left out by their limit";
    SecuritySuppressed "security_lines_suppressed_total" Total "Lines of the security log left out by their limit";
    EventsLost "events_lost_total" Total "Events dropped because too many waited; never the end of a call";
}

/// All counters of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    values: [u64; Counter::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self { values: [0; Counter::ALL.len()] }
    }
}

impl Counters {
    pub fn add(&mut self, counter: Counter, amount: u64) {
        self.values[counter as usize] += amount;
    }

    pub fn bump(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Sets a gauge.
    pub fn set(&mut self, counter: Counter, value: u64) {
        self.values[counter as usize] = value;
    }

    pub fn of(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// Adds another shard's numbers to these: totals and gauges both sum over shards.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.values.iter_mut().zip(other.values) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_totals_end_in_total() {
        let names: HashSet<_> = Counter::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), Counter::ALL.len());
        for counter in Counter::ALL {
            assert_eq!(
                counter.name().ends_with("_total"),
                counter.kind() == Kind::Total,
                "{counter:?}"
            );
        }
    }
}
