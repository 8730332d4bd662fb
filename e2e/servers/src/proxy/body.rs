//! Bodies that pass through: counted, and where a fault says so cut short or damaged.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::proxy::state::State;

/// Whatever can go wrong with a body.
pub(crate) type Error = anyhow::Error;
/// Any body.
pub(crate) type AnyBody = UnsyncBoxBody<Bytes, Error>;

/// Which way a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Counts the bytes of a body as they pass.
pub(crate) struct Counted<B> {
    pub(crate) body: B,
    pub(crate) state: Arc<State>,
    pub(crate) directory: usize,
    pub(crate) direction: Direction,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B>
where
    B::Error: Into<Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
            self.state.bytes(self.directory, self.direction, data.len());
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Flips a bit of the byte at `at`.
pub(crate) struct Corrupted<B> {
    pub(crate) body: B,
    pub(crate) at: u64,
    pub(crate) passed: u64,
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Corrupted<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let (at, passed) = (self.at, self.passed);
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|data| {
                    self.passed += data.len() as u64;
                    if !(passed..self.passed).contains(&at) {
                        return data;
                    }
                    let mut data = BytesMut::from(data);
                    data[usize::try_from(at - passed).expect("less than the length of this part")] ^= 0x10;
                    data.freeze()
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Time for what was sent to leave before the connection ends: hyper drops what it has not written when a body fails.
const FLUSH: Duration = Duration::from_millis(10);

/// Ends with an error after `left` bytes, and says it will be as long as it was.
pub(crate) struct Truncated<B> {
    pub(crate) body: B,
    pub(crate) left: u64,
    pub(crate) flush: Option<Pin<Box<Sleep>>>,
    pub(crate) size: SizeHint,
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Truncated<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.left == 0 {
            let flush = self.flush.get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH)));
            ready!(flush.as_mut().poll(context));
            return Poll::Ready(Some(Err(anyhow::anyhow!("cut short by the fault proxy"))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|mut data| {
                    data.truncate(left);
                    self.left -= data.len() as u64;
                    data
                })
            })
        }))
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}
