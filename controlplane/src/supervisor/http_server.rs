//! The HTTP server: one listener, one task.
//! Owns:  the task and the way to end it.
//! Gives: `start`, `stop`.
//! Never: a route; `api` has them.
//! Holds: a client that keeps its connection open does not keep us.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api::{self, App};

/// For requests that are being answered.
const HTTP_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct HttpServer {
    pub(super) addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl HttpServer {
    pub(super) fn start(listener: TcpListener, app: App) -> Self {
        let addr = listener.local_addr().unwrap_or_else(|_| app.http.addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let service = api::router(app).into_make_service_with_connect_info::<SocketAddr>();
        let serve = axum::serve(listener, service).with_graceful_shutdown(async {
            // A sender that went away without a word asks for the same.
            let _asked = stopped.await;
        });
        Self { addr, stop, task: tokio::spawn(serve.into_future()) }
    }

    pub(super) async fn stop(mut self) {
        let _nobody_listens = self.stop.send(());
        match timeout(HTTP_PATIENCE, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(ended) => tracing::warn!(?ended, "HTTP ended badly"),
            // A client that keeps its connection open does not hold us.
            Err(_) => {
                self.task.abort();
                let _aborted = self.task.await;
            }
        }
    }
}
