//! HTTP/1.1 messages as bytes: where one ends, and no more than that.
//!
//! A proxy that breaks messages must see them as they are on the wire; HTTP libraries go a
//! long way to keep them whole.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// More headers than Conductor or a client of it sends.
const MAX_HEADERS: usize = 64;

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Method and path of a request; empty for an answer.
    pub(crate) target: (String, String),
    /// All of it.
    pub(crate) raw: Bytes,
    /// Where the body begins.
    pub(crate) head: usize,
    /// The connection ends after it.
    pub(crate) closes: bool,
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunked,
    /// Until the connection ends.
    Close,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    target: (String, String),
    bytes: usize,
    length: Length,
    closes: bool,
}

/// Which side of an exchange a message is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Answer,
}

/// A connection, and what was read of it ahead.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    read: BytesMut,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            read: BytesMut::new(),
        }
    }

    /// The next message; `None` if the connection ended before one began.
    pub(crate) async fn message(&mut self, side: Side) -> io::Result<Option<Message>> {
        let head = loop {
            if let Some(head) = head(&self.read, side)? {
                break head;
            }
            if self.more().await? == 0 {
                return if self.read.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        };
        let end = loop {
            let body = &self.read[head.bytes..];
            let end = match head.length {
                Length::Known(n) => (body.len() >= n).then_some(n),
                Length::Chunked => chunks_end(body)?,
                Length::Close => None,
            };
            if let Some(end) = end {
                break head.bytes + end;
            }
            if self.more().await? == 0 {
                match head.length {
                    Length::Close => break self.read.len(),
                    _ => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        };
        Ok(Some(Message {
            target: head.target,
            raw: self.read.split_to(end).freeze(),
            head: head.bytes,
            closes: head.closes || head.length == Length::Close,
        }))
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Ends when the other side has closed or broken the connection. What else it sends is
    /// kept for the next message.
    pub(crate) async fn gone(&mut self) {
        while let Ok(1..) = self.more().await {}
    }

    /// The connection ends with a reset: what is on its way is thrown away.
    pub(crate) fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    async fn more(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.read).await
    }
}

fn bad(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The head at the start of these bytes, once it is complete.
fn head(bytes: &[u8], side: Side) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let (status, target, code) = match side {
        Side::Request => {
            let mut request = httparse::Request::new(&mut headers);
            let status = request.parse(bytes).map_err(bad)?;
            let word = |word: Option<&str>| word.unwrap_or_default().to_owned();
            (status, (word(request.method), word(request.path)), None)
        }
        Side::Answer => {
            let mut answer = httparse::Response::new(&mut headers);
            let status = answer.parse(bytes).map_err(bad)?;
            (status, (String::new(), String::new()), answer.code)
        }
    };
    let httparse::Status::Complete(head) = status else {
        return Ok(None);
    };
    let mut length = match code {
        None | Some(204 | 304) => Length::Known(0),
        Some(_) => Length::Close,
    };
    let mut closes = false;
    for header in &headers {
        let value = std::str::from_utf8(header.value).unwrap_or_default();
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => length = Length::Known(value.trim().parse().map_err(bad)?),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                length = Length::Chunked;
            }
            "connection" => closes = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    Ok(Some(Head {
        target,
        bytes: head,
        length,
        closes,
    }))
}

/// Where a chunked body ends, once all of it is there.
fn chunks_end(body: &[u8]) -> io::Result<Option<usize>> {
    let mut at = 0;
    loop {
        let Ok(size) = httparse::parse_chunk_size(&body[at..]) else {
            return Err(bad("no chunk where one should be"));
        };
        let httparse::Status::Complete((line, size)) = size else {
            return Ok(None);
        };
        let size = usize::try_from(size).map_err(bad)?;
        // Each chunk ends with a line end; so does the last one, which is empty.
        at += line + size + 2;
        if at > body.len() {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(text: &str, side: Side) -> Option<(usize, Length, bool)> {
        let head = head(text.as_bytes(), side).unwrap()?;
        Some((head.bytes, head.length, head.closes))
    }

    #[test]
    fn heads_are_read() {
        let get = "GET /api/tasks HTTP/1.1\r\nhost: x\r\n\r\n";
        assert_eq!(
            end_of(get, Side::Request),
            Some((get.len(), Length::Known(0), false))
        );
        assert_eq!(end_of(&get[..get.len() - 1], Side::Request), None);
        let post = "POST / HTTP/1.1\r\nContent-Length: 12\r\nConnection: close\r\n\r\n";
        assert_eq!(
            end_of(post, Side::Request),
            Some((post.len(), Length::Known(12), true))
        );
        let chunked = "HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(
            end_of(chunked, Side::Answer),
            Some((chunked.len(), Length::Chunked, false))
        );
        let bare = "HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(
            end_of(bare, Side::Answer),
            Some((bare.len(), Length::Close, false))
        );
        let none = "HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(
            end_of(none, Side::Answer),
            Some((none.len(), Length::Known(0), false))
        );
        assert!(head(b"\0\0", Side::Request).is_err());
    }

    #[test]
    fn chunks_end_where_the_empty_one_does() {
        let body = b"4\r\nabcd\r\n1;x=y\r\nz\r\n0\r\n\r\n";
        assert_eq!(chunks_end(body).unwrap(), Some(body.len()));
        for cut in 0..body.len() {
            assert_eq!(chunks_end(&body[..cut]).unwrap(), None, "{cut}");
        }
        assert!(chunks_end(b"nonsense\r\n").is_err());
    }
}
