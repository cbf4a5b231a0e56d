//! Messages on a stream: the length as an unsigned varint (libp2p's), then the message.
//!
//! The codec neither knows nor checks what a message says; it only refuses to read a long one. Memory is taken as bytes
//! arrive, so announcing a long message costs the receiver nothing.

use std::io;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};
use unsigned_varint as varint;

/// Length-prefixed messages up to a bound, for libp2p's request-response.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    len_max: usize,
}

impl Frames {
    /// Frames of at most `len_max` bytes, prefix not counted.
    pub fn up_to(len_max: usize) -> Self {
        Self { len_max }
    }

    async fn read<T: AsyncRead + Unpin + Send>(&self, io: &mut T) -> io::Result<Bytes> {
        let len = varint::aio::read_u32(&mut *io).await.map_err(Into::<io::Error>::into)?;
        if len as usize > self.len_max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
        }
        let mut message = Vec::new();
        io.take(u64::from(len)).read_to_end(&mut message).await?;
        if message.len() < len as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(message.into())
    }

    async fn write<T: AsyncWrite + Unpin + Send>(&self, io: &mut T, message: &[u8]) -> io::Result<()> {
        let len = u32::try_from(message.len()).ok().filter(|len| *len as usize <= self.len_max);
        let len = len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "message too long"))?;
        io.write_all(varint::encode::u32(len, &mut varint::encode::u32_buffer())).await?;
        io.write_all(message).await
    }
}

impl request_response::Codec for Frames {
    type Protocol = StreamProtocol;
    type Request = Bytes;
    type Response = Bytes;

    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Bytes> {
        self.read(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Bytes> {
        self.read(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        message: Bytes,
    ) -> io::Result<()> {
        self.write(io, &message).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        message: Bytes,
    ) -> io::Result<()> {
        self.write(io, &message).await
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (frames, mut io) = (Frames::up_to(5), Cursor::new(Vec::new()));
        block_on(frames.write(&mut io, b"hello")).expect("it fits");
        assert_eq!(io.get_ref().as_slice(), b"\x05hello");
        io.set_position(0);
        assert_eq!(block_on(frames.read(&mut io)).expect("just written"), "hello");
    }

    #[test]
    fn long_and_broken_messages_are_refused() {
        let frames = Frames::up_to(5);
        let read = |bytes: &[u8]| block_on(frames.read(&mut Cursor::new(bytes.to_vec()))).expect_err("refused").kind();
        assert_eq!(read(b"\xff\xff\xff\xff\x0frest"), io::ErrorKind::InvalidData);
        assert_eq!(read(b"\x05hel"), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(b"\x80"), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(b"\xff\xff\xff\xff\xff\xff"), io::ErrorKind::InvalidData);
        let written = block_on(frames.write(&mut Cursor::new(Vec::new()), b"too long"));
        assert_eq!(written.expect_err("refused").kind(), io::ErrorKind::InvalidInput);
    }
}
