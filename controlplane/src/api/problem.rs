//! Refusals: `application/problem+json` (RFC 9457) with a stable code.
//! Owns:  the catalogue of codes.
//! Gives: `Problem`, which every function of the API may return.
//! Never: an error text of a library without a sentence of ours before it.
//! Holds: a code has one status and one title. `message` is there for clients of the older prefixes.

use std::any::Any;

use axum::body::Body;
use axum::extract::OriginalUri;
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use shared::document::{FlawKind, Flaws, Path};

use super::fields::FieldError;
use crate::directory::{Kind, Refusal};
use crate::questions::Unanswered;
use crate::store::StoreError;

macro_rules! codes {
    ($( $variant:ident $word:literal $status:ident $title:literal; )*) => {
        /// Why a request was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $( $variant, )* }

        impl Code {
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
            pub const fn status(self) -> StatusCode {
                match self { $( Self::$variant => StatusCode::$status, )* }
            }
            /// What `type` says (RFC 9457 3.1.1).
            pub fn urn(self) -> String {
                format!("urn:ringgate:problem:{}", self.as_str())
            }
            pub const fn title(self) -> &'static str {
                match self { $( Self::$variant => $title, )* }
            }
        }
    };
}

codes! {
    AlreadyRecording "already_recording" CONFLICT "The call is recorded already";
    ArchiveUnavailable "archive_unavailable" BAD_GATEWAY "The archive is not available";
    BodyInvalid "body_invalid" UNPROCESSABLE_ENTITY "The body has fields that cannot be taken";
    BodyTooLong "body_too_long" PAYLOAD_TOO_LARGE "The body is too long";
    BodyUnreadable "body_unreadable" BAD_REQUEST "The body cannot be read";
    CallEnded "call_ended" CONFLICT "The call has ended";
    CallsRefused "calls_refused" SERVICE_UNAVAILABLE "The gateway takes no new calls now";
    CodecUnknown "codec_unknown" CONFLICT "The phone speaks no codec that we can write";
    CommandInvalid "command_invalid" UNPROCESSABLE_ENTITY "The command is not in order";
    CommandUnknown "command_unknown" UNPROCESSABLE_ENTITY "There is no such command";
    CommandsFull "commands_full" SERVICE_UNAVAILABLE "Too many commands on this call wait";
    ConfigInvalid "config_invalid" UNPROCESSABLE_ENTITY "The configuration is not in order";
    CredentialsInvalid "credentials_invalid" UNAUTHORIZED "These credentials are not valid";
    CsrfRefused "csrf_refused" FORBIDDEN "This request may come from a page of somebody else";
    DatabaseFailed "database_failed" INTERNAL_SERVER_ERROR "The database failed";
    DatabaseUnavailable "database_unavailable" SERVICE_UNAVAILABLE "The database is not available";
    DefinedInFile "defined_in_file" CONFLICT "A file defines this";
    DeliveryPending "delivery_pending" CONFLICT "This delivery is not over yet";
    DiskFull "disk_full" SERVICE_UNAVAILABLE "The disk is full";
    EndpointNotConfigured "endpoint_not_configured" CONFLICT "This endpoint is not configured";
    FilterInvalid "filter_invalid" BAD_REQUEST "A filter has no such value";
    FilterUnknown "filter_unknown" BAD_REQUEST "There is no such filter";
    ForeignHost "foreign_host" MISDIRECTED_REQUEST "This name is not ours";
    IdempotencyInFlight "idempotency_in_flight" CONFLICT "The first request is still being done";
    IdempotencyKeyInvalid "idempotency_key_invalid" BAD_REQUEST "This cannot be an idempotency key";
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY "The key is another request's";
    IdempotencyUnknown "idempotency_unknown" CONFLICT "What came of the first request is not known";
    Internal "internal" INTERNAL_SERVER_ERROR "Our fault";
    LastAdmin "last_admin" CONFLICT "Somebody must be left who may do everything";
    LoginRefused "login_refused" UNAUTHORIZED "The login was refused";
    LoginRequired "login_required" UNAUTHORIZED "This needs a login or a token";
    NameTaken "name_taken" CONFLICT "This name is taken";
    NoSession "no_session" BAD_REQUEST "There is no session to end";
    NoMedia "no_media" CONFLICT "The call has no media for this";
    NoOffer "no_offer" CONFLICT "The caller has made no offer";
    NoSuchCall "no_such_call" NOT_FOUND "There is no such call";
    NoSuchDelivery "no_such_delivery" NOT_FOUND "There is no such delivery";
    NoSuchEndpoint "no_such_endpoint" NOT_FOUND "There is no such endpoint";
    NoSuchExtension "no_such_extension" NOT_FOUND "There is no such extension";
    NoSuchMethod "no_such_method" METHOD_NOT_ALLOWED "This path has no such method";
    NoSuchPath "no_such_path" NOT_FOUND "There is no such path";
    NoSuchRecord "no_such_record" NOT_FOUND "There is no such call record";
    NoSuchRole "no_such_role" NOT_FOUND "There is no such role";
    NoSuchRoute "no_such_route" NOT_FOUND "There is no such route";
    NoSuchToken "no_such_token" NOT_FOUND "There is no such token";
    NoSuchTrunk "no_such_trunk" NOT_FOUND "There is no such trunk";
    NoSuchUser "no_such_user" NOT_FOUND "There is no such user";
    NotAnswered "not_answered" CONFLICT "There is no phone on that side yet";
    NotBuilt "not_built" NOT_IMPLEMENTED "This is not built yet";
    NotConfirmed "not_confirmed" GATEWAY_TIMEOUT "It was sent, and not confirmed in time";
    NotNow "not_now" CONFLICT "The call cannot do this now";
    NotPlaying "not_playing" CONFLICT "Nothing is played there";
    NotRecording "not_recording" CONFLICT "The call is not recorded";
    NotRegistered "not_registered" CONFLICT "This user has no phone registered";
    NotRinging "not_ringing" CONFLICT "The call does not ring";
    PartyUnknown "party_unknown" NOT_FOUND "There is nobody of this name";
    PartyUnreachable "party_unreachable" CONFLICT "This party cannot be called now";
    PasswordWrong "password_wrong" FORBIDDEN "This is not the password";
    PathUnreadable "path_unreadable" BAD_REQUEST "The path cannot be read";
    PeerRefused "peer_refused" CONFLICT "The phone refused it";
    PermissionMissing "permission_missing" FORBIDDEN "The caller may not do this";
    PreconditionFailed "precondition_failed" PRECONDITION_FAILED "It has changed in the meantime";
    PromptAbsent "prompt_absent" NOT_FOUND "There is no such prompt";
    QueryUnreadable "query_unreadable" BAD_REQUEST "The query cannot be read";
    RecordingAbsent "recording_absent" NOT_FOUND "This call has no recording";
    RecordingElsewhere "recording_elsewhere" NOT_FOUND "The recording is no longer here";
    RecordingExpired "recording_expired" GONE "The recording was removed after its time";
    RecordingFailed "recording_failed" NOT_FOUND "The recording could not be made";
    RecordingPending "recording_pending" CONFLICT "The recording is not ready yet";
    RoleFixed "role_fixed" CONFLICT "This role stays as it is";
    ShardsSilent "shards_silent" SERVICE_UNAVAILABLE "The data plane did not answer in time";
    SourceRefused "source_refused" FORBIDDEN "This source address is not allowed";
    SpeakersFull "speakers_full" SERVICE_UNAVAILABLE "The gateway speaks to too many phones";
    TooBusy "too_busy" SERVICE_UNAVAILABLE "There is too much to do right now";
    TooMany "too_many" CONFLICT "There are too many of these already";
    TooManyKeys "too_many_keys" TOO_MANY_REQUESTS "Too many idempotency keys were used";
    TooManyLogins "too_many_logins" TOO_MANY_REQUESTS "Too many logins were tried";
    TargetFailed "target_failed" CONFLICT "The target did not take the call";
    TooSlow "too_slow" SERVICE_UNAVAILABLE "The answer took too long";
    TrunkInUse "trunk_in_use" CONFLICT "Routes need this trunk";
}

#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: String,
    retry_after_s: Option<u64>,
    /// In the shape that goes out.
    errors: Vec<Value>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_s: None, errors: Vec::new() }
    }

    /// What is wrong, field by field.
    pub(super) fn with_errors(self, errors: Vec<FieldError>) -> Self {
        self.with_list(errors.iter().map(FieldError::show).collect())
    }

    /// What is wrong, one by one, wherever it is.
    pub(super) fn with_list(mut self, errors: Vec<Value>) -> Self {
        self.errors = errors;
        self
    }

    /// When the same request may be worth another try.
    pub const fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// A document with flaws, each with its place.
    pub fn of_flaws(flaws: &Flaws) -> Self {
        let errors: Vec<_> =
            flaws.0.iter().filter(|flaw| flaw.kind.refuses()).map(FieldError::of_flaw).collect();
        let detail = match errors.as_slice() {
            [error] => format!("{}: {}", error.pointer, error.detail),
            errors => format!("{} fields cannot be taken", errors.len()),
        };
        Self::new(Code::BodyInvalid, detail).with_errors(errors)
    }

    pub const fn code(&self) -> Code {
        self.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let Self { code, detail, retry_after_s, errors } = self;
        let status = code.status();
        let mut body = json!({
            "type": code.urn(),
            "title": code.title(),
            "status": status.as_u16(),
            "code": code.as_str(),
            "detail": detail,
            "message": detail,
        });
        if !errors.is_empty() {
            body["errors"] = errors.into();
        }
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        // Another try may help without anybody doing anything in between.
        let again = status == StatusCode::SERVICE_UNAVAILABLE || code == Code::RecordingPending;
        if let Some(seconds) = retry_after_s.or_else(|| again.then_some(1)) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"ringgate\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Changed => Self::new(Code::PreconditionFailed, text),
            Refusal::Flaws(flaws) => Self::of_flaws(&flaws),
            Refusal::InFile { .. } => Self::new(Code::DefinedInFile, text),
            Refusal::InUse { .. } => Self::new(Code::TrunkInUse, text),
            Refusal::Late(_) => Self::new(Code::ShardsSilent, text),
            Refusal::NameTaken { .. } => Self::new(Code::NameTaken, text),
            Refusal::NoSuch { kind: Kind::Extension, .. } => Self::new(Code::NoSuchExtension, text),
            Refusal::NoSuch { kind: Kind::Route, .. } => Self::new(Code::NoSuchRoute, text),
            Refusal::NoSuch { kind: Kind::Trunk, .. } => Self::new(Code::NoSuchTrunk, text),
            Refusal::Store(error) => error.into(),
            Refusal::TooMany { .. } => Self::new(Code::TooMany, text),
            Refusal::Unresolved(reason) => {
                let mut flaws = Flaws::default();
                flaws.push(Path::default().name("sip_server"), FlawKind::Invalid, reason);
                Self::of_flaws(&flaws)
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a request needed the database");
        let code = match error {
            StoreError::Broken(_) | StoreError::Refused(_) => Code::DatabaseFailed,
            StoreError::Unavailable(_) => Code::DatabaseUnavailable,
        };
        // The text of the driver may name paths; it is in the log.
        Self::new(code, "the log of the gateway says why")
    }
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Self {
        Self::new(Code::ShardsSilent, unanswered.to_string())
    }
}

pub(super) async fn no_such_path(OriginalUri(uri): OriginalUri) -> Problem {
    Problem::new(Code::NoSuchPath, format!("{} is not a path of this gateway", uri.path()))
}

pub(super) async fn no_such_method(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    Problem::new(Code::NoSuchMethod, format!("{} does not take {method}", uri.path()))
}

/// A panic in one request ends that request.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response<Body> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(panic = text, "a request panicked");
    Problem::new(Code::Internal, "the log of the gateway says why").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_words_and_never_a_success() {
        let words: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
        }
    }
}
