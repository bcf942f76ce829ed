//! A wire to a server that can be cut and mended.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Connections through it end when it is cut, and new ones do at once.
pub(crate) struct Wire {
    authority: String,
    is_whole: Arc<watch::Sender<bool>>,
    passing: tokio::task::JoinHandle<()>,
}

impl Wire {
    /// A wire to `ADDRESS` with PostgreSQL's port, or to `ADDRESS:PORT`.
    pub(crate) async fn to(server: &str) -> Wire {
        let server = if server.contains(':') { server.to_owned() } else { format!("{server}:5432") };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let is_whole = Arc::new(watch::Sender::new(true));
        let passing = tokio::spawn(pass(listener, server, is_whole.clone()));
        Wire { authority, is_whole, passing }
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn cut(&self) {
        self.is_whole.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.is_whole.send_replace(true);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

async fn pass(listener: TcpListener, server: String, is_whole: Arc<watch::Sender<bool>>) {
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let (server, mut is_whole) = (server.clone(), is_whole.subscribe());
        tokio::spawn(async move {
            if !*is_whole.borrow() {
                return;
            }
            let mut far = TcpStream::connect(&server).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = is_whole.wait_for(|is_whole| !is_whole) => {}
            }
        });
    }
}
