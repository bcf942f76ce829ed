//! Words for what hyper refuses by itself: a head that is not HTTP, or too long. It answers those with an empty body before
//! any handler is asked; here the answer gets its JSON object, and the client a chance to read it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// No answer of ours begins and goes on like this: all of them have a body.
const REFUSED: &[u8] = b"HTTP/1.1 4";
const EMPTY: &str = "content-length: 0\r\n";

/// How much of what a refused client still sends is read, and how long.
const LINGER_LIMIT: usize = 32 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(5);

/// Takes connections whose refusals have words.
#[derive(Clone)]
pub(super) struct Worded<A>(pub(super) A);

/// A connection on which every refusal has words.
pub(crate) struct Stream<S> {
    inner: S,
    /// What is not written yet of an answer with words.
    unwritten: Vec<u8>,
    linger: Option<Linger>,
}

/// A connection that is closed while its client still sends is reset, and the client would not see the answer.
struct Linger {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl<A, S> Accept<TcpStream, S> for Worded<A>
where
    A: Accept<TcpStream, S> + 'static,
    A::Future: Send,
    S: 'static,
{
    type Stream = Stream<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepted = self.0.accept(stream, service);
        Box::pin(async move {
            let (inner, service) = accepted.await?;
            Ok((Stream { inner, unwritten: Vec::new(), linger: None }, service))
        })
    }
}

impl<S: AsyncWrite + Unpin> Stream<S> {
    fn poll_unwritten(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.unwritten))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => drop(self.unwritten.drain(..written)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Stream<S> {
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(linger) = &mut self.linger else { return Poll::Ready(()) };
        let mut scratch = [0; 8 * 1024];
        while linger.left > 0 && linger.until.as_mut().poll(cx).is_pending() {
            let mut piece = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece));
            if read.is_err() || piece.filled().is_empty() {
                break;
            }
            linger.left = linger.left.saturating_sub(piece.filled().len());
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_unwritten(cx))?;
        let Some(answer) = with_words(bytes) else { return Pin::new(&mut self.inner).poll_write(cx, bytes) };
        self.unwritten = answer.into_bytes();
        self.linger = Some(Linger { until: Box::pin(sleep(LINGER_TIME)), left: LINGER_LIMIT });
        // What cannot be written now is written by the flush that follows.
        match self.poll_unwritten(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unwritten(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unwritten(cx))?;
        ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        ready!(self.poll_linger(cx));
        Poll::Ready(Ok(()))
    }
}

/// The answer with words, where these are the bytes of one without.
fn with_words(bytes: &[u8]) -> Option<String> {
    if !bytes.starts_with(REFUSED) {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok().filter(|head| head.contains(EMPTY) && head.ends_with("\r\n\r\n"))?;
    let why = match head.get(9..12)? {
        "414" => "the URL is too long",
        "431" => "the head of the request is too long",
        _ => "this is not a request in HTTP/1.1",
    };
    let body = format!("{{\"description\":\"{why}\"}}");
    let length = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    Some(head.replacen(EMPTY, &length, 1) + &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_without_a_body_gets_words() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let worded = with_words(bare).unwrap();
        let (head, body) = worded.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"), "{head}");
        assert!(head.ends_with(&format!("content-type: application/json\r\ncontent-length: {}", body.len())), "{head}");
        assert_eq!(body, r#"{"description":"the head of the request is too long"}"#);
        for other in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 410 Gone\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 410 Gone\r\ncontent-length: 2\r\n\r\n",
            b"{}",
        ] {
            assert_eq!(with_words(other), None);
        }
    }
}
