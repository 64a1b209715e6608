//! The report for Prometheus by HTTP, on loopback only: one GET for each connection.
//!
//! As much of HTTP/1.0 as that takes. Who is slow, says too much or comes while others are served is
//! closed.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, LocalExecutor};

use super::clients::{self, Terms};

/// How clients are served.
const TERMS: Terms = Terms { name: "metrics", max: 4, patience: Duration::from_secs(2) };
/// Bytes of a request, headers included.
const REQUEST_MAX: usize = 4096;
/// Where the report is.
pub const PATH: &str = "/metrics";

/// Gives the report.
pub type Source = Rc<dyn Fn() -> String>;

/// Answers at `address` until the task is dropped, or until that cannot go on.
pub async fn serve(
    listener: Async<TcpListener>,
    executor: &LocalExecutor<'static>,
    report: Source,
) -> io::Error {
    let accept = async || Ok(listener.accept().await?.0);
    let answer = |stream| {
        let report = Rc::clone(&report);
        async move { answer(stream, &*report).await }
    };
    clients::serve(TERMS, executor, accept, answer).await
}

/// Listens at `address`, which is a loopback address.
pub fn listen(address: SocketAddr) -> io::Result<Async<TcpListener>> {
    Async::<TcpListener>::bind(address)
}

async fn answer(mut stream: Async<TcpStream>, report: &dyn Fn() -> String) -> io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 512];
    while !is_whole(&request) && request.len() <= REQUEST_MAX {
        match stream.read(&mut chunk).await? {
            0 => break,
            n => request.extend_from_slice(&chunk[..n]),
        }
    }
    stream.write_all(response(&request, report).as_bytes()).await?;
    stream.close().await?;
    // What the client still sends would else make the kernel cut the answer.
    while stream.read(&mut chunk).await? != 0 {}
    Ok(())
}

/// Whether the headers have ended.
fn is_whole(request: &[u8]) -> bool {
    request.windows(4).any(|end| end == b"\r\n\r\n") || request.windows(2).any(|end| end == b"\n\n")
}

fn response(request: &[u8], report: &dyn Fn() -> String) -> String {
    let line = request.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = str::from_utf8(line).unwrap_or_default().trim_end();
    let mut words = line.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let is_http = version.is_some_and(|version| version.starts_with("HTTP/1."));
    let path = target.and_then(|target| target.split('?').next());
    let (status, body) = match (method, path) {
        _ if !is_whole(request) || !is_http || words.next().is_some() => {
            ("400 Bad Request", "not a request\n".to_owned())
        }
        (Some("GET"), Some(PATH)) => ("200 OK", report()),
        (Some("GET"), _) => ("404 Not Found", format!("only {PATH} is here\n")),
        _ => ("405 Method Not Allowed", "only GET is understood\n".to_owned()),
    };
    format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use smol::future;

    use super::*;

    fn status(request: &[u8]) -> String {
        let answer = response(request, &|| "a 1\n".to_owned());
        answer.split("\r\n").next().unwrap().to_owned()
    }

    #[test]
    fn only_a_get_of_the_report_is_answered_with_it() {
        let answer = response(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", &|| "a 1\n".to_owned());
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\nContent-Length: 4\r\n") && answer.ends_with("\r\n\r\na 1\n"));
        for (request, expected) in [
            (&b"GET /metrics?x=1 HTTP/1.0\n\n"[..], "HTTP/1.0 200 OK"),
            (b"GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 404 Not Found"),
            (b"GET /metrics/../etc HTTP/1.0\r\n\r\n", "HTTP/1.0 404 Not Found"),
            (b"POST /metrics HTTP/1.0\r\n\r\n", "HTTP/1.0 405 Method Not Allowed"),
            (b"GET /metrics\r\n\r\n", "HTTP/1.0 400 Bad Request"),
            (b"GET /metrics HTTP/1.0 x\r\n\r\n", "HTTP/1.0 400 Bad Request"),
            (b"GET /metrics HTTP/1.0\r\n", "HTTP/1.0 400 Bad Request"),
            (b"\xff\xfe\r\n\r\n", "HTTP/1.0 400 Bad Request"),
            (b"", "HTTP/1.0 400 Bad Request"),
        ] {
            assert_eq!(status(request), expected, "{:?}", String::from_utf8_lossy(request));
        }
    }

    /// R190: a client that says nothing does not keep the report from others, nor does one that
    /// never ends.
    #[test]
    fn slow_clients_are_closed_and_too_many_at_once_too() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.get_ref().local_addr().unwrap();
        let executor = LocalExecutor::new();
        let client = smol::unblock(move || {
            let silent: Vec<_> =
                (0..TERMS.max).map(|_| TcpStream::connect(address).unwrap()).collect();
            let ask = |request: &[u8]| {
                let mut stream = TcpStream::connect(address).unwrap();
                let _ = stream.write_all(request);
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                String::from_utf8(answer).unwrap()
            };
            let whole = b"GET /metrics HTTP/1.0\r\n\r\n";
            let refused = ask(whole);
            for mut stream in silent {
                let mut rest = Vec::new();
                assert_eq!(stream.read_to_end(&mut rest).unwrap_or(0), 0, "closed by the server");
            }
            (refused, ask(whole), ask(&[b'x'; REQUEST_MAX * 2]))
        });
        let (refused, answer, long) = future::block_on(executor.run(async {
            future::or(async { Some(client.await) }, async {
                serve(listener, &executor, Rc::new(|| "a 1\n".to_owned())).await;
                None
            })
            .await
        }))
        .unwrap();
        assert_eq!(refused, "", "the fifth is closed at once");
        assert!(answer.ends_with("\r\n\r\na 1\n"), "{answer}");
        assert!(long.is_empty() || long.starts_with("HTTP/1.0 400"), "{long}");
    }
}
