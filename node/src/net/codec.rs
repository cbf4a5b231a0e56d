//! Messages on request-response streams: the length as an unsigned varint, then the CBOR; for chunks a second length and the
//! payload. Every length is checked before anything is allocated.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response;
use starling_proto::wire::{
    ChunkHeader, ChunkRequest, ControlRequest, ControlResponse, HintRequest, HintResponse, MAX_CHUNK_HEADER_LEN,
    MAX_CHUNK_LEN, MAX_CONTROL_LEN, Message,
};
use unsigned_varint as varint;

/// The chunk protocol.
pub(crate) const CHUNK_PROTOCOL: StreamProtocol = StreamProtocol::new("/starling/1/chunk");
/// The control protocol.
pub(crate) const CONTROL_PROTOCOL: StreamProtocol = StreamProtocol::new("/starling/1/control");
/// The hint protocol.
pub(crate) const HINT_PROTOCOL: StreamProtocol = StreamProtocol::new("/starling/1/hint");

/// Bytes that went over request-response streams and were not media.
pub(crate) type Overhead = Arc<AtomicU64>;

/// Chunk requests and answers.
#[derive(Clone, Debug)]
pub(crate) struct ChunkCodec(pub(crate) Overhead);

/// An answer to a chunk request as it travels.
#[derive(Clone, Debug)]
pub(crate) struct ChunkAnswer {
    /// What it is.
    pub(crate) header: ChunkHeader,
    /// The chunk; empty without one.
    pub(crate) body: Bytes,
    /// On arrival: from first to last byte.
    pub(crate) spread: Duration,
}

/// Requests and answers that are one CBOR message each.
#[derive(Clone, Debug)]
pub(crate) struct MessageCodec<Request, Response>(Overhead, PhantomData<(Request, Response)>);

/// Codec of the control protocol.
pub(crate) type ControlCodec = MessageCodec<ControlRequest, ControlResponse>;
/// Codec of the hint protocol.
pub(crate) type HintCodec = MessageCodec<HintRequest, HintResponse>;

impl<Request, Response> MessageCodec<Request, Response> {
    pub(crate) fn new(overhead: Overhead) -> Self {
        Self(overhead, PhantomData)
    }
}

impl request_response::Codec for ChunkCodec {
    type Protocol = StreamProtocol;
    type Request = ChunkRequest;
    type Response = ChunkAnswer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<ChunkRequest>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_message(io, MAX_CHUNK_HEADER_LEN, &self.0).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<ChunkAnswer>
    where
        T: AsyncRead + Unpin + Send,
    {
        let header_len = read_len(io, MAX_CHUNK_HEADER_LEN).await?;
        let began = Instant::now();
        let header = read_exactly(io, header_len).await?;
        let header = ChunkHeader::decode(&header).map_err(invalid)?;
        let body_len = read_len(io, MAX_CHUNK_LEN).await?;
        count(&self.0, framed(header_len) + length_of(body_len));
        let body = read_exactly(io, body_len).await?;
        Ok(ChunkAnswer { header, body: body.into(), spread: began.elapsed() })
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: ChunkRequest) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_counted(io, &request.encode(), &self.0).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: ChunkAnswer) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_counted(io, &answer.header.encode(), &self.0).await?;
        count(&self.0, length_of(answer.body.len()));
        write_framed(io, &answer.body).await
    }
}

impl<Request, Response> request_response::Codec for MessageCodec<Request, Response>
where
    Request: Message + Send + Sync,
    Response: Message + Send + Sync,
{
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Response;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_message(io, MAX_CONTROL_LEN, &self.0).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_message(io, MAX_CONTROL_LEN, &self.0).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_counted(io, &request.encode(), &self.0).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: Response) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_counted(io, &response.encode(), &self.0).await
    }
}

async fn read_message<M: Message, T: AsyncRead + Unpin>(io: &mut T, max: usize, overhead: &Overhead) -> io::Result<M> {
    let len = read_len(io, max).await?;
    count(overhead, framed(len));
    M::decode(&read_exactly(io, len).await?).map_err(invalid)
}

async fn read_len<T: AsyncRead + Unpin>(io: &mut T, max: usize) -> io::Result<usize> {
    let len = varint::aio::read_u32(io).await.map_err(Into::<io::Error>::into)? as usize;
    if len > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than the protocol allows"));
    }
    Ok(len)
}

fn count(overhead: &Overhead, bytes: usize) {
    overhead.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// How many bytes a message of this length is with it.
fn framed(len: usize) -> usize {
    length_of(len) + len
}

/// How many bytes say a length.
fn length_of(len: usize) -> usize {
    varint::encode::usize(len, &mut varint::encode::usize_buffer()).len()
}

async fn read_exactly<T: AsyncRead + Unpin>(io: &mut T, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write_counted<T: AsyncWrite + Unpin>(io: &mut T, bytes: &[u8], overhead: &Overhead) -> io::Result<()> {
    count(overhead, framed(bytes.len()));
    write_framed(io, bytes).await
}

async fn write_framed<T: AsyncWrite + Unpin>(io: &mut T, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(invalid)?;
    io.write_all(varint::encode::u32(len, &mut varint::encode::u32_buffer())).await?;
    io.write_all(bytes).await
}

fn invalid<E: std::error::Error + Send + Sync + 'static>(error: E) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
