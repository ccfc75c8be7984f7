//! A real S3 server in this process: s3s over a folder, with keys that it checks.

use std::fs;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;

pub(crate) const NAME: &str = "compliance";
const ACCESS_KEY: &str = "AKIDGUIDE";
const SECRET_KEY: &str = "the secret of the archive";

pub(crate) struct Bucket {
    folder: PathBuf,
    endpoint: String,
}

impl Bucket {
    pub(crate) async fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder.join(NAME)).expect("a writable folder");
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder).expect("a folder"));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let router = Router::new().fallback(serve).with_state(builder.build());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { folder: folder.join(NAME), endpoint }
    }

    /// `[callrecord]` as the contract names its keys.
    pub(crate) fn section(&self, root: &str) -> String {
        format!(
            "[callrecord]\ntype = \"s3\"\nbucket = \"{NAME}\"\nregion = \"us-east-1\"\n\
             endpoint = \"{}\"\naccess_key = \"{ACCESS_KEY}\"\nsecret_key = \"{SECRET_KEY}\"\n\
             root = \"{root}\"\n",
            self.endpoint
        )
    }

    /// Every object: its key and its bytes as the server keeps them.
    pub(crate) fn objects(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let key = path.strip_prefix(&self.folder).expect("below it");
                    let key = key.to_string_lossy().into_owned();
                    // A file that is renamed at this moment is looked at again.
                    found.extend(fs::read(&path).ok().map(|bytes| (key, bytes)));
                }
            }
        }
        found.sort();
        found
    }
}

async fn serve(State(service): State<S3Service>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, 64 << 20).await.expect("a whole body");
    match service.call(Request::from_parts(parts, s3s::Body::from(bytes))).await {
        Ok(response) => response.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:?}")).into_response(),
    }
}
