//! A real S3 server in this process (s3s over a folder), with faults in front of it on demand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use shared::config::Bucket;

pub(crate) const NAME: &str = "archive";
const ACCESS_KEY: &str = "AKTEST";
const SECRET_KEY: &str = "a secret of the tests";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fault {
    None,
    /// One byte of what is read back differs, and no checksum is told.
    Corrupt,
    Hang,
    Refuse,
}

#[derive(Clone)]
struct Front {
    service: S3Service,
    fault: Arc<AtomicU8>,
}

pub(crate) struct BucketServer {
    pub(crate) bucket: Bucket,
    folder: PathBuf,
    fault: Arc<AtomicU8>,
}

impl BucketServer {
    pub(crate) async fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder.join(NAME)).expect("a writable folder");
        let files = FileSystem::new(folder).expect("a folder that is there");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let fault = Arc::new(AtomicU8::new(Fault::None as u8));
        let front = Front { service: builder.build(), fault: Arc::clone(&fault) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let router = Router::new().fallback(answer).with_state(front);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let endpoint = format!("http://{address}").parse().expect("a URL");
        let bucket = Bucket {
            name: NAME.to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(endpoint),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            root: "pbx/records".to_owned(),
            path_style: true,
        };
        Self { bucket, folder: folder.join(NAME), fault }
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    /// The bytes of an object as the server keeps them.
    pub(crate) fn object(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.join(key)).ok()
    }
}

async fn answer(State(front): State<Front>, request: Request) -> Response {
    let fault = front.fault.load(Ordering::SeqCst);
    if fault == Fault::Refuse as u8 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if fault == Fault::Hang as u8 {
        return std::future::pending().await;
    }
    let reads = request.method() == Method::GET;
    let response = match front.service.call(request.map(s3s::Body::http_body_unsync)).await {
        Ok(response) => response.map(Body::new),
        Err(error) => return (StatusCode::BAD_GATEWAY, format!("{error:?}")).into_response(),
    };
    if fault != Fault::Corrupt as u8 {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove("x-amz-checksum-sha256");
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body in memory");
    let mut bytes = body.to_vec();
    if reads && let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    Response::from_parts(parts, Body::from(bytes))
}
